"""The engine: how one session is read, claimed, exchanged and saved. Stores, issuers and clocks
come in by ports."""
