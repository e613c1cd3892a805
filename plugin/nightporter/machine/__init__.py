"""This host: private files and locks, processes, cached tokens and replies, the audit log."""
