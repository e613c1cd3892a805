"""A stand-in of the portal of IAM Identity Center, and of what `aws sso login` leaves behind."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

START = "https://corp.example/start"
CONFIG = (
    f"[profile work]\nsso_start_url = {START}\nsso_region = eu-west-1\n"
    "sso_account_id = 123456789012\nsso_role_name = reader\nregion = eu-west-1\n"
)


@dataclass
class Portal:
    """`tokens` are the sessions that live; each answer's keys live `life_s`."""

    address: str = ""
    tokens: set[str] = field(default_factory=set)
    life_s: float = 3600.0
    asked: int = 0

    def keys(self, token: str) -> tuple[int, dict[str, Any]]:
        self.asked += 1
        if token not in self.tokens:
            return 401, {"message": "Session token not found or invalid"}
        ends_ms = int((time.time() + self.life_s) * 1000)
        keys = {"accessKeyId": f"AKIA{self.asked}", "secretAccessKey": "hunter2"}
        return 200, {"roleCredentials": {**keys, "sessionToken": "s", "expiration": ends_ms}}

    def log_in(self, home: Path, token: str, life_s: float = 3600.0) -> None:
        """What `aws sso login` leaves behind."""
        cache = home / ".aws/sso/cache"
        cache.mkdir(parents=True, exist_ok=True)
        self.tokens.add(token)
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + life_s))
        members = {"startUrl": START, "region": "eu-west-1", "accessToken": token}
        name = hashlib.sha1(START.encode()).hexdigest()
        (cache / f"{name}.json").write_text(json.dumps({**members, "expiresAt": ends}))


@contextmanager
def open_portal() -> Iterator[Portal]:
    found = Portal()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, members = found.keys(self.headers.get("x-amz-sso_bearer_token", ""))
            body = json.dumps(members).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("x-amzn-ErrorType", "UnauthorizedException")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield found
        server.shutdown()
        thread.join()
