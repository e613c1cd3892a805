"""Why a connection failed, in a few words: for issuers and stores alike, whatever library it was.

An exception's own text repeats the address, and its class name tells a user nothing.
"""

from __future__ import annotations

import socket

from nightporter.net.tls import chain_of

# requests', urllib3's and botocore's names; the classes themselves would cost their import.
_CONNECTING = frozenset({"ConnectTimeout", "ConnectTimeoutError"})
_READING = frozenset({"ReadTimeout", "ReadTimeoutError"})
_BROKEN = frozenset(
    {
        "ChunkedEncodingError",
        "ConnectionClosedError",
        "ContentDecodingError",
        "IncompleteRead",
        "IncompleteReadError",
        "ProtocolError",
        "ResponseStreamingError",
    }
)


def words_of(exc: BaseException) -> str:
    """Returns the cause in a few words, without the address that exceptions repeat."""
    causes = list(chain_of(exc))
    names = {type(item).__name__ for item in causes}
    if any(isinstance(item, socket.gaierror) for item in causes):
        return "its name can't be looked up"
    if any(isinstance(item, ConnectionRefusedError) for item in causes):
        return "nothing listens there"
    if names & _CONNECTING:
        return "no connection within the time"
    if names & _READING:
        return "no answer within the time"
    if any(isinstance(item, TimeoutError) for item in causes):
        return "no connection within the time"
    if names & _BROKEN or any(isinstance(item, ConnectionError) for item in causes):
        return "the connection was closed before an answer came"
    network = next((item for item in causes if isinstance(item, OSError) and item.strerror), None)
    return str(network.strerror) if network is not None else type(exc).__name__
