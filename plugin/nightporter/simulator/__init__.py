"""Vendors in miniature, for tests, demos and `nightporter sandbox`. Nobody else may import this."""
