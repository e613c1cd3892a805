"""The only sockets to an issuer."""
