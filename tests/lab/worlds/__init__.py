"""Several machines and one store: real processes, and simulated ones."""
