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


@dataclass
class Evil:
    """`heard`: every piece of plain text that came, whatever it was wrapped in."""

    port: int
    ca_file: Path
    heard: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return b"".join(self.heard).decode(errors="replace")


@contextlib.contextmanager
def open_evil(directory: Path, *names: str) -> Iterator[Evil]:
    """Serves on loopback. Its certificate, of a CA of its own, is for `names` too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", *names).configure_cert(context)
    ca_file = directory / "evil-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        evil = Evil(port=listener.getsockname()[1], ca_file=ca_file)
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


def _hear(connection: socket.socket, context: ssl.SSLContext, evil: Evil) -> None:
    with contextlib.suppress(OSError), connection:
        connection.settimeout(10)
        while True:
            if connection.recv(1, socket.MSG_PEEK) == TLS_RECORD:
                connection = context.wrap_socket(connection, server_side=True)
            piece = connection.recv(65_536)
            if not piece:
                return
            evil.heard.append(piece)
            is_proxied = piece.startswith(b"CONNECT ")
            status = b"200 Connection established" if is_proxied else b"404 Not Found"
            length = b"" if is_proxied else b"Content-Length: 2\r\n"
            body = b"" if is_proxied else b"{}"
            connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n" + body)
