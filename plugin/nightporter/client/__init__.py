"""From a configuration and an environment to access tokens: what the library and every command
depend on."""
