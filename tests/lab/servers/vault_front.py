"""What is between us and Vault: a proxy that hands requests on, unless a test has an answer of its
own."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from lab.support import OpenBao

Answer = tuple[int, str, bytes]  # status, media type, body


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def front(
    server: OpenBao,
    fault: Callable[[Asked], Answer | None] = lambda _asked: None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Yields the address of a front of a real server. `fault` returns None for what is handed on.
    `tls`: the front's own side."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, dict(self.headers), body)
            status, kind, content = fault(asked) or _handed_on(server, asked)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_any

        def log_message(self, *_args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    if tls is not None:
        httpd.socket = tls.wrap_socket(
            httpd.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handed_on(server: OpenBao, asked: Asked) -> Answer:
    request = urllib.request.Request(
        server.address + asked.path, method=asked.method, data=asked.body or None
    )
    request.add_header("X-Vault-Token", asked.headers.get("X-Vault-Token", ""))
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, "application/json", reply.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, "application/json", exc.read()
