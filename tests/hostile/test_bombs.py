"""Stores (or what is between) that answer without an end: nothing is read beyond 1 MiB."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lab.patience import within
from nightporter.core.errors import StoreError
from nightporter.stores.secrets_manager import SecretsManagerStore
from nightporter.stores.vault import VaultStore

ZEROS = gzip.compress(bytes(200 << 20))  # 200 KB that would be 200 MB


@contextmanager
def answering(body: bytes, coding: str | None, *, is_endless: bool = False) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if coding:
                self.send_header("Content-Encoding", coding)
            self.end_headers()
            try:
                self.wfile.write(body)
                while is_endless:
                    self.wfile.write(bytes(65_536))
            except OSError:
                return

        do_POST = do_LIST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


BODIES = {
    "packed": (ZEROS, "gzip", False),
    "packed twice": (gzip.compress(ZEROS), "gzip, gzip", False),
    "endless": (b"{", None, True),
}


@pytest.mark.parametrize("case", BODIES)
def test_vault(case: str) -> None:
    body, coding, is_endless = BODIES[case]
    with answering(body, coding, is_endless=is_endless) as address, little_memory():
        environment = {"VAULT_TOKEN": "t", "VAULT_ADDR": address}
        store = VaultStore({"auth": {"method": "token"}}, environment)
        with within(5), pytest.raises(StoreError, match="sent more than 1048576 bytes"):
            store.read("prod/x", timeout_s=5)


@pytest.mark.parametrize("case", BODIES)
def test_secrets_manager(case: str, aws_environment: None) -> None:
    """botocore unpacks nothing, so only length counts; what is packed is no answer."""
    body, coding, is_endless = BODIES[case]
    with answering(body, coding, is_endless=is_endless) as address:
        store = SecretsManagerStore({"endpoint_url": address}, dict(os.environ))
        with little_memory(), pytest.raises(StoreError):
            store.read("prod/x", timeout_s=5)
        store.close()
