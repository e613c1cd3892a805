"""An API that wants a living token of a vendor."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.worlds.vendor import Vendor


class Api(ThreadingHTTPServer):
    """`tokens`: those that it was shown."""

    request_queue_size = 256

    def __init__(self, vendor: Vendor) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vendor = vendor
        self.tokens: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        _, _, token = self.headers.get("Authorization", "").partition(" ")
        self.server.tokens.add(token)
        self.send_response(200 if self.server.vendor.world.is_live(token) else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def open_api(vendor: Vendor) -> Iterator[Api]:
    """The API, until the block ends."""
    api = Api(vendor)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
