"""Hosts that look like ours, wildcards that mean everybody, programs that mistake an address."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import httpx
import pytest
import requests

import nightporter
from lab.servers.evil import open_evil
from lab.support import pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.client.bearer import httpx_auth
from nightporter.client.porter import Porter
from nightporter.core.errors import HostNotAllowedError
from nightporter.core.hosts import entry_problem, may_receive, parse_rule, parse_target
from nightporter.core.model import Profile


@pytest.mark.parametrize(
    "entry",
    [
        *("*.co.uk", "*.github.io", "*.s3.amazonaws.com", "*.1.2.3", "*.com.au", "*.gov.uk"),
        *("*.herokuapp.com", "*.blogspot.com", "*.co.jp", "*.k12.ca.us", "*.kawasaki.jp"),
        *(
            "*.foo.kawasaki.jp",
            "*.s3.eu-west-1.amazonaws.com",
            "*.pages.dev",
            "*.azurewebsites.net",
        ),
        *("*.eks.eu-west-1.amazonaws.com", "*.europe-docker.pkg.dev", "*.CO.UK", "https://*.co.uk"),
        *("*.co.uk:8443", "*.github.io/team", "*.127.0.0.1", "*.0.0.1", "*.公司.cn", "*.com"),
    ],
)
def test_a_wildcard_is_never_for_everybody(entry: str) -> None:
    assert entry_problem(entry)


@pytest.mark.parametrize(
    "entry",
    [
        *("*.example.com", "*.example.co.uk", "*.acme.github.io", "*.city.kawasaki.jp"),
        *("*.git.example.com:8443", "github.io", "co.uk", "127.0.0.1:8080", "*.corp.internal"),
        *("*.k8s.example.org/team",),
    ],
)
def test_a_wildcard_below_one_s_own_name(entry: str) -> None:
    assert entry_problem(entry) is None


@pytest.mark.parametrize(
    "path",
    [
        *("team/..;/evil", "team/..%3b/evil", "team/%252e%252e/evil", "team/.. /evil"),
        *("team/..%20/evil", "team/../evil", "team/%2e%2e/evil", "team/x;y"),
        *("team/...", "team/..%00/evil", "team/%5c..", "team/%c0%ae%25"),
    ],
)
def test_a_path_that_servers_read_in_two_ways(path: str) -> None:
    """Java servers drop what follows a semicolon; a decoder in front may decode twice."""
    rule = parse_rule("git.example.net/team")
    assert not rule.matches(parse_target(f"https://git.example.net/{path}", has_path=True))


def test_an_ordinary_path_matches() -> None:
    rule = parse_rule("git.example.net/team")
    for path in ("team", "team/repo.git", "team/a%20b", "team/.well-known/x", "team/a..b"):
        assert rule.matches(parse_target(f"https://git.example.net/{path}", has_path=True))


# A program's own requests.


@pytest.fixture
def porter(vendor: Vendor, home: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Porter:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    hosts = 'hosts = ["api.example.com", "localhost:8080", "*.team.example.com", "a.example/x"]'
    return Porter(pitchpoint_config(vendor.address, more=hosts))


@pytest.fixture
def profile(porter: Porter) -> Profile:
    return porter.config.profiles["pitchpoint"]


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("https://api.example.com/x?y=1#z", True),
        ("https://API.example.com:443/", True),
        ("https://one.team.example.com/", True),
        ("https://a.example/x/y", True),
        ("http://localhost:8080/x", True),
        ("https://localhost:8080/x", True),
        ("http://api.example.com/", False),
        ("https://api.example.com:8443/", False),
        ("https://api.example.com.evil.example/", False),
        ("https://evil.example/api.example.com", False),
        ("https://api.example.com@evil.example/", False),
        ("https://one.two.team.example.com/", False),
        ("https://a.example/y", False),
        ("https://a.example/x/../y", False),
        ("http://localhost:8081/x", False),
        ("http://127.0.0.1:18499/x", False),
        ("ftp://api.example.com/", False),
        ("https://api.example.com\\@evil.example/", False),
        ("", False),
    ],
)
def test_where_a_request_may_go(profile: Profile, url: str, is_fine: bool) -> None:
    assert may_receive(url, profile) is is_fine


def test_requests_sends_nothing_elsewhere(porter: Porter, vendor: Vendor, tmp_path: Path) -> None:
    with open_evil(tmp_path) as evil, porter:
        for auth in (
            nightporter.BearerAuth("pitchpoint", porter=porter),
            nightporter.BearerAuth(porter=porter),
        ):
            with pytest.raises(HostNotAllowedError, match=r"goes to 127\.0\.0\.1"):
                requests.get(evil.address, auth=auth, timeout=10)
        assert evil.heard == []
        assert vendor.world.counts == {}
        anywhere = nightporter.BearerAuth("pitchpoint", porter=porter, any_host=True)
        requests.get(evil.address, auth=anywhere, timeout=10)
        assert "Authorization: Bearer " in evil.text()


def test_httpx_sends_nothing_elsewhere(porter: Porter, tmp_path: Path) -> None:
    async def ask(address: str) -> None:
        async with httpx.AsyncClient() as client:
            await client.get(address, auth=httpx_auth("pitchpoint", porter=porter))

    with open_evil(tmp_path) as evil, porter:
        with pytest.raises(HostNotAllowedError):
            httpx.get(evil.address, auth=httpx_auth("pitchpoint", porter=porter))
        with pytest.raises(HostNotAllowedError):
            asyncio.run(ask(evil.address))
        assert evil.heard == []
        httpx.get(evil.address, auth=httpx_auth("pitchpoint", porter=porter, any_host=True))
        assert "authorization: bearer " in evil.text().lower()


def test_without_hosts_nothing_is_held_back(vendor: Vendor, tmp_path: Path) -> None:
    with Porter(pitchpoint_config(vendor.address)) as porter:
        assert may_receive("http://anything.example/", porter.config.profiles["pitchpoint"])


def test_the_choice_travels_to_another_process(porter: Porter) -> None:
    auth = pickle.loads(pickle.dumps(nightporter.BearerAuth(any_host=True, porter=porter)))
    assert auth._any_host is True
