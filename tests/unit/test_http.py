"""The network rules: TLS, CA, proxies, netrc, redirects, sizes, times."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import Vendor
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError, IssuerUnreachableError, OutcomeUnknownError
from nightporter.core.model import Profile
from nightporter.issuers import VENDORS
from nightporter.issuers.oauth import Request
from nightporter.net.http import Transport, environment_proxies
from nightporter.stores import STORES
from support import free_port
from tls import open_guarded


def profile(*lines: str) -> Profile:
    text = '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n' + "\n".join(lines)
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def get(url: str) -> Request:
    return Request(url=url, method="GET", headers={}, body=b"")


def test_tls_is_verified_with_the_ca_that_is_named(tmp_path: Path) -> None:
    with open_guarded(tmp_path, is_live=lambda _token: True, answers={"/": {"ok": True}}) as server:
        with pytest.raises(IssuerUnreachableError, match="certificate"):
            Transport(profile(), {}).send(get(f"{server.address}/"), timeout_s=10)
        named = Transport(profile(f'ca_cert = "{server.ca_file}"'), {})
        assert named.send(get(f"{server.address}/"), timeout_s=10).body == b'{"ok": true}'
        by_variable = Transport(profile(), {"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        assert by_variable.send(get(f"{server.address}/"), timeout_s=10).status == 200
        named.close()
        by_variable.close()


def test_a_ca_file_that_is_not_there(vendor: Vendor) -> None:
    with pytest.raises(ConfigError, match="no file"):
        Transport(profile('ca_cert = "/nowhere/ca.pem"'), {}).send(get(vendor.address), timeout_s=5)


@contextmanager
def recording() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that keeps the request line and the Authorization of what it gets."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return "Tue, 14 Jul 2026 14:00:00 GMT"

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_profile_s_proxy_is_used() -> None:
    with recording() as (proxy, seen):
        transport = Transport(profile(f'proxy = "{proxy}"'), {})
        transport.send(get("http://issuer.example/token"), timeout_s=5)
        transport.close()
    assert seen == [("http://issuer.example/token", None)]


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2024-47081."""
    netrc = tmp_path / "netrc"
    netrc.write_text(
        "machine 127.0.0.1 login u password hunter2\ndefault login u password hunter2\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with recording() as (address, seen):
        transport = Transport(profile(), {})
        transport.send(get(address), timeout_s=5)
        transport.close()
    assert [authorization for _, authorization in seen] == [None]


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1"}, {"https": "http://p:1"}),
        (
            "https://a.example/",
            {"https_proxy": "http://p:1", "NO_PROXY": "b.example"},
            {"https": "http://p:1"},
        ),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example"}, {}),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "no_proxy": ".example"}, {}),
        ("http://127.0.0.1:1/", {"HTTP_PROXY": "http://p:1"}, {}),
        ("http://localhost:1/", {"http_proxy": "http://p:1"}, {}),
    ],
)
def test_proxies_of_the_environment(
    url: str, environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert environment_proxies(url, environment) == expected


def test_the_issuer_s_clock_is_measured() -> None:
    with recording() as (address, _seen):
        transport = Transport(profile(), {})
        skew_s = transport.send(get(address), timeout_s=5).skew_s
        transport.close()
    assert skew_s is not None
    assert abs(skew_s - (1_784_037_600 - time.time())) < 5


def test_a_name_that_is_looked_up_too_long_is_not_answered_late(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gave up must not send after its claim has ended."""
    real = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(1.0)
        return real(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    request = Request(
        url=f"{vendor.address}/user-management-services-ws/oauth2/002/refreshIdToken",
        headers={},
        body=b"{}",
    )
    with pytest.raises(OutcomeUnknownError):
        Transport(profile(), {}).send(request, timeout_s=0.3)
    time.sleep(1.5)
    assert vendor.count("refresh") == 0


def test_nobody_listens() -> None:
    with pytest.raises(IssuerUnreachableError):
        Transport(profile(), {}).send(get(f"http://127.0.0.1:{free_port()}"), timeout_s=5)
