"""What an attacker runs: a server that takes everything, in clear, under TLS or as a proxy, and
keeps what it hears."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

TLS_RECORD = b"\x16"
PROXIED = b"HTTP/1.1 200 Connection established\r\n\r\n"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
ASKING = (
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=evil\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)


@dataclass
class Evil:
    """`heard`: every piece of plain text that came, whatever it was wrapped in. `is_asking`: it
    wants a password for everything."""

    port: int
    ca_file: Path
    is_asking: bool = False
    heard: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return b"".join(self.heard).decode(errors="replace")


@contextlib.contextmanager
def open_evil(directory: Path, *names: str, is_asking: bool = False) -> Iterator[Evil]:
    """Serves on loopback. Its certificate, of a CA of its own, is for `names` too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", *names).configure_cert(context)
    ca_file = directory / "evil-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        evil = Evil(port=listener.getsockname()[1], ca_file=ca_file, is_asking=is_asking)
        thread = threading.Thread(target=_accept, args=(listener, context, evil), daemon=True)
        thread.start()
        yield evil


def _accept(listener: socket.socket, context: ssl.SSLContext, evil: Evil) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_hear, args=(connection, context, evil), daemon=True).start()


def _is_tls(connection: socket.socket) -> bool:
    return connection.recv(1, socket.MSG_PEEK) == TLS_RECORD


def _hear(connection: socket.socket, context: ssl.SSLContext, evil: Evil) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        opened.enter_context(connection)
        connection.settimeout(10)
        while True:
            if not isinstance(connection, ssl.SSLSocket) and _is_tls(connection):
                wrapped = context.wrap_socket(connection, server_side=True)
                connection = opened.enter_context(wrapped)
            piece = connection.recv(65_536)
            if not piece:
                return
            evil.heard.append(piece)
            is_proxied = piece.startswith(b"CONNECT ")
            connection.sendall(PROXIED if is_proxied else ASKING if evil.is_asking else MISSING)
