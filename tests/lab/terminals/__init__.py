"""Screens of the documents, typed into a shell at a pseudo-terminal."""
