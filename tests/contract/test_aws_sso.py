"""SSO sessions and a long process: what `aws sso login` renews is taken up without a restart."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import botocore.credentials
import pytest

from lab.patience import patience
from lab.servers.strict_aws import StrictAws, open_strict_aws
from nightporter.core.errors import StoreDeniedError
from nightporter.session.port import ABSENT
from nightporter.stores.secrets_manager import SecretsManagerStore

pytestmark = pytest.mark.usefixtures("aws_environment")
T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"
START = "https://corp.example/start"


@dataclass
class Portal:
    """The SSO portal: `tokens` are the sessions that live; each answer's keys live `life_s`."""

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


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
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
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", f"http://127.0.0.1:{server.server_address[1]}")
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # botocore has looked HOME up when it was imported
    cache = str(tmp_path / ".aws/sso/cache")
    monkeypatch.setattr(botocore.credentials.SSOProvider, "_SSO_TOKEN_CACHE_DIR", cache)
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(
        f"[profile work]\nsso_start_url = {START}\nsso_region = eu-west-1\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\nregion = eu-west-1\n"
    )
    return tmp_path


def log_in(home: Path, portal: Portal, token: str, life_s: float = 3600.0) -> None:
    """What `aws sso login` leaves behind."""
    cache = home / ".aws/sso/cache"
    cache.mkdir(parents=True, exist_ok=True)
    portal.tokens.add(token)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + life_s))
    members = {"startUrl": START, "region": "eu-west-1", "accessToken": token, "expiresAt": ends}
    name = hashlib.sha1(START.encode()).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps(members))


def test_a_session_that_is_renewed_needs_no_restart(home: Path, portal: Portal) -> None:
    """Not logged in, logged in, ended at the portal, logged in again: one store object."""
    with open_strict_aws(StrictAws()) as address:
        store = SecretsManagerStore({"endpoint_url": address}, dict(os.environ))

        def refused() -> str:
            with pytest.raises(StoreDeniedError) as caught:
                store.read(PATH, timeout_s=T)
            return caught.value.hint

        assert "aws sso login --profile work" in refused()
        log_in(home, portal, "first")
        portal.life_s = 1.0
        assert store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
        portal.tokens.clear()
        time.sleep(1.1)
        assert "aws sso login --profile work" in refused()
        portal.life_s = 3600.0
        log_in(home, portal, "second")
        assert store.read(PATH, timeout_s=T).value == {"n": 1}
        asked = portal.asked
        assert store.read(PATH, timeout_s=T).value == {"n": 1}
        assert portal.asked == asked
        store.close()
