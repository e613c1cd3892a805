"""A small TLS server on loopback that takes only the right access token."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


@dataclass
class Guarded:
    """`seen` holds method, path and Authorization of every request."""

    address: str
    ca_file: Path
    seen: list[tuple[str, str, str]] = field(default_factory=list)


def token_of(authorization: str) -> str:
    """The token of a Bearer header, or the password of a Basic one."""
    kind, _, value = authorization.partition(" ")
    if kind == "Basic":
        return base64.b64decode(value).decode().partition(":")[2]
    return value


def answers_type(document: Any) -> str:
    return str(document.get("mediaType", "application/json"))


@contextlib.contextmanager
def open_guarded(directory: Path, *, is_live: Callable[[str], bool], answers: dict[str, Any]) -> Iterator[Guarded]:
    """Serves `answers` (path to JSON) under https to whoever brings a Bearer token that `is_live` knows."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            guarded.seen.append((self.command, self.path, authorization))
            if not is_live(token_of(authorization)):
                self.answer(401, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401})
            else:
                found = answers.get(self.path.split("?")[0])
                self.answer(200 if found is not None else 404, found if found is not None else {})

        def answer(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="guarded"')
            self.send_header("Content-Type", answers_type(document))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    guarded = Guarded(address=f"https://localhost:{server.server_address[1]}", ca_file=ca_file)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield guarded
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
