"""Which user of this machine has opened a connection to us over loopback, where the system tells.

Linux lists every TCP socket with its owner in /proc/net/tcp and tcp6 (proc(5)): the row whose local
address is our peer's and whose remote address is ours is the other end. Elsewhere nobody tells.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from nightporter.machine.trust import own_users

TABLES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}


def user_of_peer(connection: socket.socket) -> int | None:
    """Returns the user id of the other end; None where the system doesn't tell."""
    table = TABLES.get(connection.family)
    if table is None:
        return None
    ends = tuple(
        _spelling(connection.family, address)
        for address in (connection.getpeername(), connection.getsockname())
    )
    try:
        with open(table, encoding="ascii") as rows:
            for row in rows:
                members = row.split()
                if tuple(members[1:3]) == ends:
                    return int(members[7])
    except (OSError, ValueError, IndexError):
        return None
    return None


def is_strange(connection: socket.socket, environment: Mapping[str, str]) -> bool:
    """Returns whether another user, neither root nor who called sudo, is certainly at the other
    end. (Root is there where a browser is reached through a relay: containers, WSL.)"""
    user = user_of_peer(connection)
    return user is not None and user not in own_users(environment)


def _spelling(family: int, address: tuple[str, int]) -> str:
    """As the kernel writes it: each 32 bits of the address in the machine's order."""
    packed = socket.inet_pton(family, address[0])
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    shown = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{shown}:{address[1]:04X}"
