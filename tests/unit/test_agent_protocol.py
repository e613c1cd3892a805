"""What the agent reads out of a request, and whom it answers. No socket here."""

from __future__ import annotations

import pytest

from nightporter.core.config import parse_config
from nightporter.core.model import Profile
from nightporter.issuers import VENDORS
from nightporter.protocols.agent import (
    MAX_TARGET,
    Ask,
    RefusedError,
    check_host,
    check_peer,
    parse_ask,
    single_headers,
)
from nightporter.stores import STORES

LOOPBACK = {"host": "127.0.0.1:8200"}


TEXT = """[profiles.acme]
issuer = "pitchpoint"
credentials = "prod/acme"
hosts = ["api.example.com", "*.example.org"]
"""


def profile_of(text: str) -> Profile:
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["acme"]


def refusal(method: str, address: str, headers: dict[str, str], *, is_unix: bool = False) -> int:
    with pytest.raises(RefusedError) as caught:
        parse_ask(method, address, headers, is_unix=is_unix)
    return caught.value.status


@pytest.mark.parametrize(
    ("method", "address", "headers", "ask"),
    [
        ("GET", "/v1/token", {}, Ask(kind="token")),
        ("GET", "/v1/token?profile=acme", {}, Ask(kind="token", profile="acme")),
        (
            "GET",
            "/v1/token?profile=acme&min_ttl=86400",
            {},
            Ask(kind="token", profile="acme", min_ttl_s=86_400.0),
        ),
        ("GET", "/v1/token?min_ttl=0", {}, Ask(kind="token", min_ttl_s=0.0)),
        ("GET", "/metrics", {}, Ask(kind="metrics")),
        ("GET", "/healthz", {}, Ask(kind="health")),
        (
            "POST",
            "/v1/auth/a%20b",
            {"x-nightporter-host": "api.example.com"},
            Ask(kind="header", profile="a b", host="api.example.com"),
        ),
        ("GET", "/v1/auth/acme", {}, Ask(kind="header", profile="acme", host="")),
        (
            "PUT",
            "/v1/envoy/acme/any/path?x=1",
            {"host": "api.example.com"},
            Ask(kind="header", profile="acme", host="api.example.com"),
        ),
        (
            "GET",
            "/v1/envoy/acme",
            {"host": "api.example.com"},
            Ask(kind="header", profile="acme", host="api.example.com"),
        ),
    ],
)
def test_what_is_asked(method: str, address: str, headers: dict[str, str], ask: Ask) -> None:
    """Address, method and headers decide the kind, the profile, the host and the life wanted."""
    assert parse_ask(method, address, {**LOOPBACK, **headers}, is_unix=False) == ask


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("POST", "/v1/token", 405),
        ("GET", "/v1/tokens", 404),
        ("GET", "/v1/auth", 404),
        ("GET", "/v1/auth/acme/more", 404),
        ("GET", "/v1/envoy", 404),
        ("GET", "v1/token", 400),
        ("GET", "//[", 400),
        ("GET", "/" + "a" * MAX_TARGET, 400),
        ("GET", "/" + "a" * (MAX_TARGET - 1), 404),
        ("GET", "/v1/token?profile", 400),
        ("GET", "/v1/token?a=1&b=2&c=3&d=4&e=5", 400),
        ("GET", "/v1/token?min_ttl=-1", 400),
        ("GET", "/v1/token?min_ttl=86401", 400),
        ("GET", "/v1/token?min_ttl=nan", 400),
        ("GET", "/v1/token?min_ttl=soon", 400),
    ],
)
def test_what_is_refused(method: str, address: str, status: int) -> None:
    """Each refusal has its status, at the border too."""
    assert refusal(method, address, LOOPBACK) == status


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    [
        ({"host": "localhost"}, True),
        ({"host": "localhost:8200"}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "[::1]:8200"}, True),
        ({"host": "[::1]"}, True),
        ({"host": "evil.example:8200"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({}, False),
        ({**LOOPBACK, "origin": "http://127.0.0.1:8200"}, False),
        ({**LOOPBACK, "origin": "null"}, False),
        ({**LOOPBACK, "sec-fetch-site": "cross-site"}, False),
        ({**LOOPBACK, "sec-fetch-site": "same-origin"}, False),
        ({**LOOPBACK, "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, True),
        ({**LOOPBACK, "sec-fetch-mode": "cors"}, True),
        ({**LOOPBACK, "sec-fetch-mode": "no-cors"}, False),
    ],
)
def test_pages_of_a_browser_are_not_answered(headers: dict[str, str], is_answered: bool) -> None:
    """A page reaches loopback, by a name of its own too: Host, Origin and Fetch Metadata decide."""
    if is_answered:
        assert parse_ask("GET", "/healthz", headers, is_unix=False) == Ask(kind="health")
    else:
        assert refusal("GET", "/healthz", headers) == 403


def test_the_socket_and_envoy_may_name_any_host() -> None:
    """No browser reaches a Unix socket, and Envoy passes on the host that it was asked for."""
    foreign = {"host": "api.example.com"}
    assert parse_ask("GET", "/healthz", foreign, is_unix=True) == Ask(kind="health")
    assert parse_ask("GET", "/v1/envoy/acme", foreign, is_unix=False).host == "api.example.com"
    assert refusal("GET", "/v1/envoy/acme", {**foreign, "origin": "x"}, is_unix=True) == 403
    assert refusal("GET", "/v1/auth/acme", foreign) == 403


def test_headers_that_decide_come_once() -> None:
    """A second Host, or one that goes on in a second line, is read in two ways by two programs."""
    assert single_headers([("Host", "a"), ("Accept", "x"), ("accept", "y")]) == {
        "host": "a",
        "accept": "y",
    }
    for name in ("Host", "X-Nightporter-Host", "X-Nightporter-Token", "Origin", "Sec-Fetch-Site"):
        with pytest.raises(RefusedError) as caught:
            single_headers([(name, "a"), (name.lower(), "a")])
        assert caught.value.status == 400
    with pytest.raises(RefusedError):
        single_headers([("Host", "a\r\n b")])
    assert single_headers([("Accept", "a\r\n b")]) == {"accept": "a\r\n b"}


@pytest.mark.parametrize(
    ("host", "is_fine"),
    [
        ("api.example.com", True),
        ("api.example.com:443", True),
        ("one.example.org", True),
        ("example.org", False),
        ("api.example.com.evil.example", False),
        ("", False),
        ("a b", False),
    ],
)
def test_a_header_is_for_hosts_of_the_profile_alone(host: str, is_fine: bool) -> None:
    """nginx and Envoy get the header for `hosts` alone; who asks for a token names no host."""
    ask = Ask(kind="header", profile="acme", host=host)
    if is_fine:
        check_host(ask, profile_of(TEXT))
    else:
        with pytest.raises(RefusedError) as caught:
            check_host(ask, profile_of(TEXT))
        assert caught.value.status == 403
    check_host(Ask(kind="token", profile="acme"), profile_of(TEXT))


@pytest.mark.parametrize(
    ("uid", "name", "is_fine"),
    [
        (None, None, True),
        (0, "root", True),
        (1000, "me", True),
        (2000, "www-data", True),
        (2001, None, True),
        (2002, "other", False),
        (2002, None, False),
        (2002, "", False),
    ],
)
def test_who_may_ask_at_the_socket(uid: int | None, name: str | None, is_fine: bool) -> None:
    """Its own user, root, and who is in `agent_users` by name or number."""
    profile = profile_of(TEXT + 'agent_users = ["www-data", "2001"]')
    if is_fine:
        check_peer(uid, name, 1000, profile)
    else:
        with pytest.raises(RefusedError) as caught:
            check_peer(uid, name, 1000, profile)
        assert caught.value.status == 403
