"""Real and strict servers on loopback: Secrets Manager, Lambda, TLS, names that lead home."""
