"""What the tests share: servers on loopback, worlds of several machines, clients, terminals.

Tests import from here; nothing here imports a test or conftest.
"""
