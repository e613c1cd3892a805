"""An internet of our own: names that lead to servers on loopback, for clients that honour
HTTPS_PROXY.

The proxy takes CONNECT, speaks TLS under the name that was asked for, and hands what is inside to a
plain server.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme


@dataclass
class Internet:
    """`proxy`: its address; `ca_file`: who vouches for its names."""

    proxy: str
    ca_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What leads clients here. GIT_SSL_CAINFO and AWS_CA_BUNDLE, since those two look at no
        other variable."""
        file = str(self.ca_file)
        trusted = (
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "AWS_CA_BUNDLE",
        )
        return {
            "HTTPS_PROXY": self.proxy,
            "https_proxy": self.proxy,
            **dict.fromkeys(trusted, file),
        }


@contextlib.contextmanager
def open_internet(directory: Path, places: Mapping[str, int]) -> Iterator[Internet]:
    """`places`: from HOST:PORT to the port on loopback of a plain HTTP server."""
    authority = trustme.CA()
    contexts = {}
    for place in places:
        contexts[place] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(place.rpartition(":")[0]).configure_cert(contexts[place])
    ca_file = directory / "internet-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    class Handler(socketserver.StreamRequestHandler):
        rbufsize = 0  # what follows the request is TLS, and not ours to read ahead

        def handle(self) -> None:
            words = self.rfile.readline().split()
            while self.rfile.readline().strip():
                pass
            place = words[1].decode() if len(words) == 3 and words[0] == b"CONNECT" else ""
            if place not in places:
                self.wfile.write(b"HTTP/1.1 502 No Such Name\r\nContent-Length: 0\r\n\r\n")
                return
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            with contextlib.suppress(OSError):
                inside = contexts[place].wrap_socket(self.request, server_side=True)
                with inside, socket.create_connection(("127.0.0.1", places[place])) as server:
                    _join(inside, server)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # a client that goes away in the middle
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Internet(proxy=f"http://127.0.0.1:{server.server_address[1]}", ca_file=ca_file)
        finally:
            server.shutdown()
            thread.join()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until both sides have said all."""
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        shutil.copyfileobj(source.makefile("rb", buffering=0), target.makefile("wb", buffering=0))
        target.shutdown(socket.SHUT_WR)
