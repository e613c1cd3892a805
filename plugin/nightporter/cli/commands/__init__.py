"""The commands, by what they are for. Each module adds its own to the group of `root`."""
