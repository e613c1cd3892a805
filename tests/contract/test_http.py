"""The network rules: TLS, CA, proxies, netrc, redirects, sizes, times."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.servers.tls import open_guarded
from lab.support import free_port
from lab.worlds.vendor import Vendor
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    ConfigError,
    IssuerReplyError,
    IssuerUnreachableError,
    OutcomeUnknownError,
)
from nightporter.core.model import Profile
from nightporter.issuers import VENDORS
from nightporter.issuers.oauth import Request
from nightporter.net.http import Transport
from nightporter.net.proxies import environment_proxies
from nightporter.stores import STORES


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


def test_nothing_is_sent_late_through_a_proxy() -> None:
    """Requests opens pools of its own for proxies."""
    with recording() as (proxy, seen):
        transport = Transport(profile(f'proxy = "{proxy}"'), {})
        with pytest.raises(IssuerUnreachableError):
            transport.send(get("http://issuer.example/token"), timeout_s=5, may_begin=lambda: False)
        transport.close()
    assert seen == []


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


@contextmanager
def answering(*replies: bytes | None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that reads a request and sends the next of `replies`, each on whatever connection
    comes; None closes it unanswered. Yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    waiting = list(replies)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(5)  # a client that keeps it open must not keep the test
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                while waiting:
                    if not connection.recv(65_536):
                        break
                    reply = waiting.pop(0)
                    if reply is None:
                        break
                    connection.sendall(reply)
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def http_reply(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip", bytes),  # the header lies
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),  # two members
        ("identity", gzip.compress),  # a proxy that packs and doesn't say so
        ("br", bytes),  # one that we can't undo, said and not done
    ],
)
def test_a_packed_answer_that_nobody_asked_for_is_unpacked(coding: str, pack: Any) -> None:
    """epam/ai-dial-core PR 1496, modelcontextprotocol/typescript-sdk#2408: a CDN packs the answer
    with the only copy of a rotated token."""
    body = b'{"refresh_token": "hunter2"}'
    with answering(http_reply(pack(body), f"Content-Encoding: {coding}")) as port:
        transport = Transport(profile(), {})
        assert transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5).body == body
        transport.close()


@pytest.mark.parametrize(
    "bomb", [gzip.compress(b"x" * (1 << 24)), gzip.compress(b"x" * (1 << 19)) * 3]
)
def test_a_bomb_is_not_unpacked(bomb: bytes) -> None:
    """A packed answer is bounded in what it unpacks to, all its members together."""
    with answering(http_reply(bomb, "Content-Encoding: gzip")) as port:
        transport = Transport(profile(), {})
        with pytest.raises(IssuerReplyError, match="more than"):
            transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5)
        transport.close()


@pytest.mark.parametrize(
    ("host", "skip", "is_skipped"),
    [
        ("a.example", "a.example:\u00b2,[::1]:\u00b2", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "192.168.0.0/16, 10.1.2.0/24", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::]/8", True),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]", "[fd00::1]:443", True),
        ("[fd00::1]", "fd00::2", False),
        ("a.corp.example", ".corp.example", True),
        ("a.corp.example", "*.corp.example", True),
        ("corp.example", "corp.example", True),
        ("notcorp.example", "corp.example", False),
        ("a.corp.example", "a.corp.example:443", True),
        ("a.corp.example", "a.corp.example:8200", False),
        ("a.corp.example", " b.example , *", True),
        ("a.corp.example", "10.0.0.0/8,,", False),
        ("10.1.2.3", "not/a/network", False),
    ],
)
def test_no_proxy(host: str, skip: str, is_skipped: bool) -> None:
    """psf/requests PR 3195 and #6313, NousResearch/hermes-agent PR 59667: networks, both
    families."""
    environment = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": skip}
    found = environment_proxies(f"https://{host}/v1", environment)
    assert found == ({} if is_skipped else {"https": "http://proxy:3128"})


def test_all_proxy_is_for_every_scheme_that_has_none_of_its_own() -> None:
    """As curl and requests take it."""
    environment = {"ALL_PROXY": "http://all:1", "https_proxy": "http://own:2"}
    assert environment_proxies("https://a.example/", environment) == {
        "http": "http://all:1",
        "https": "http://own:2",
    }


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:1", "http://:3128", "ftp://127.0.0.1:1"])
def test_a_proxy_that_can_t_be_used_is_named_and_nothing_was_sent(proxy: str) -> None:
    """psf/requests#3516, Azure/azure-cli#18930: SOCKS without PySocks, no host, another scheme."""
    with pytest.raises((ConfigError, IssuerUnreachableError)) as caught:
        Transport(profile(), {"HTTPS_PROXY": proxy}).send(get("https://a.example/"), timeout_s=5)
    assert "proxy" in f"{caught.value.message} {caught.value.hint}".lower()
    if proxy.startswith("socks"):
        assert "PySocks" in caught.value.hint
        assert "HTTPS_PROXY" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"\x30\x82\x01\x02\x03"])
def test_a_ca_file_that_can_t_be_loaded_is_a_configuration_error(
    content: bytes, tmp_path: Path
) -> None:
    """Empty, garbage, DER: nothing was sent, and the file is named."""
    file = tmp_path / "ca.pem"
    file.write_bytes(content)
    for lines, environment in (
        ([f'ca_cert = "{file}"'], {}),
        ([], {"REQUESTS_CA_BUNDLE": str(file)}),
    ):
        with pytest.raises(ConfigError, match="holds no certificates in PEM form"):
            Transport(profile(*lines), environment).send(get("https://127.0.0.1:1/"), timeout_s=5)


def test_a_server_that_speaks_no_tls_is_told_so() -> None:
    """The commonest mistake with `bao server -dev`: https:// to plain http."""
    with answering(http_reply(b"{}")) as port:
        with pytest.raises(IssuerUnreachableError, match="doesn't speak TLS"):
            Transport(profile(), {}).send(get(f"https://127.0.0.1:{port}/"), timeout_s=5)


def test_a_connection_that_breaks_after_the_request_leaves_the_outcome_unknown() -> None:
    """Sent is what was sent."""
    with answering(None) as port:
        with pytest.raises(OutcomeUnknownError):
            Transport(profile(), {}).send(get(f"http://127.0.0.1:{port}/"), timeout_s=5)


def test_a_proxy_that_breaks_the_tunnel_has_sent_nothing() -> None:
    """A proxy's CONNECT is no request of ours."""
    with answering(None) as port:
        transport = Transport(profile(f'proxy = "http://127.0.0.1:{port}"'), {})
        with pytest.raises(IssuerUnreachableError):
            transport.send(get("https://issuer.example/token"), timeout_s=5)


def test_an_old_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """envoyproxy/gateway#3178: a load balancer resets what has been idle; the second request over
    it would have no known outcome."""
    with answering(http_reply(b"1"), None, http_reply(b"2")) as port:
        transport = Transport(profile(), {})
        assert transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5).body == b"1"
        with pytest.raises(OutcomeUnknownError):  # at once, over the same connection
            transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5)
        transport.close()
    with answering(http_reply(b"1"), http_reply(b"2")) as port:
        transport = Transport(profile(), {})
        transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5)
        first = transport._session
        transport._used_at -= 6
        assert transport.send(get(f"http://127.0.0.1:{port}/"), timeout_s=5).body == b"2"
        assert transport._session is not first
        transport.close()


def test_a_renewed_ca_file_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    """A long process sees the file that its administrator has replaced."""
    answers = {"/": {"ok": True}}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        open_guarded(tmp_path / "a", is_live=lambda _token: True, answers=answers) as old,
        open_guarded(tmp_path / "b", is_live=lambda _token: True, answers=answers) as new,
    ):
        file = tmp_path / "ca.pem"
        file.write_bytes(Path(old.ca_file).read_bytes())
        transport = Transport(profile(f'ca_cert = "{file}"'), {})
        assert transport.send(get(f"{old.address}/"), timeout_s=10).status == 200
        replacement = tmp_path / "new.pem"
        replacement.write_bytes(Path(new.ca_file).read_bytes())
        replacement.replace(file)
        assert transport.send(get(f"{new.address}/"), timeout_s=10).status == 200
        transport.close()
