"""Which profile may answer for which host: rules R1 to R8 and R14 for every protocol."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.config import parse_config
from nightporter.errors import ConfigError
from nightporter.issuers import VENDORS
from nightporter.model import Config, Secret, Token
from nightporter.protocols import docker, git
from nightporter.protocols.hosts import BadAskError, parse_target, profile_for


def config(**hosts: str) -> Config:
    return parse_config(
        "".join(
            f'[profiles.{name}]\nissuer = "pitchpoint"\ncredentials = "{name}"\nhosts = [{listed}]\n'
            for name, listed in hosts.items()
        ),
        source="t",
        vendors=VENDORS,
    )


ONE = config(
    one='"git.example.com", "*.pages.example.com", "bücher.example", "git.example.com:8443", "http://localhost:3000"'
)


def owner(text: str, scheme: str = "https") -> str | None:
    found = profile_for(parse_target(text, scheme=scheme), ONE.profiles)
    return found.name if found else None


@pytest.mark.parametrize(
    "text",
    [
        "git.example.com",
        "GIT.Example.COM",
        "git.example.com:443",
        "git.example.com:8443",
        "https://git.example.com/some/path",
        "a.pages.example.com",
        "bücher.example",
        "xn--bcher-kva.example",
        "http://localhost:3000",
    ],
)
def test_ours(text: str) -> None:
    assert owner(text) == "one"


@pytest.mark.parametrize(
    "text",
    [
        "git.example.com.evil.example",
        "evil-git.example.com",
        "xgit.example.com",
        "example.com",
        "git.example.com:444",
        "http://git.example.com",
        "pages.example.com",
        "a.b.pages.example.com",
        "apages.example.com",
        "localhost:3000",
        "127.0.0.1",
    ],
)
def test_not_ours(text: str) -> None:
    assert owner(text) is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "user@git.example.com", "git.example.com@evil", "git.example.com.", "ftp://git.example.com", "a b",
     "a\nb", "git.example.com:", "git.example.com:x", "git.example.com:99999", "a..b", "x\\evil", "[::1", "%67it.x",
     "a\rb", "a\x00b", "a\x0bb", "a\x85b", "-".join("x" * 64 for _ in range(5))],
)  # fmt: skip
def test_no_host_at_all(text: str) -> None:
    with pytest.raises(BadAskError):
        parse_target(text)


def test_two_profiles_are_an_error_that_names_both() -> None:
    two = config(one='"git.example.com"', two='"*.example.com"')
    with pytest.raises(ConfigError, match="'one' and 'two'"):
        profile_for(parse_target("git.example.com"), two.profiles)


@given(st.text(max_size=60))
def test_no_text_crashes_or_matches_by_accident(text: str) -> None:
    try:
        target = parse_target(text)
    except BadAskError:
        return
    if profile_for(target, ONE.profiles):
        assert target.host.endswith(("example.com", "example", "localhost"))


# git's wire format.

TOKEN = Token(Secret("ACC"), token_type="Bearer", expires_at_s=1_893_553_445, obtained_at_s=0)
OLD = b"protocol=https\nhost=git.example.com\n"
NEW = b"capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=git.example.com\nwwwauth[]=Bearer realm=x\n\n"


def rendered(content: bytes, *, may_retry: bool = True) -> str:
    return git.render(TOKEN, git.parse(content), username="oauth2", reported_expiry=1_893_553_385, may_retry=may_retry)


def test_git_golden_answers() -> None:
    assert rendered(OLD) == "username=oauth2\npassword=ACC\npassword_expiry_utc=1893553385"
    assert rendered(NEW) == (
        "capability[]=authtype\ncapability[]=state\nauthtype=Bearer\ncredential=ACC\nephemeral=1\ncontinue=1\n"
        "state[]=nightporter:attempt=1\npassword_expiry_utc=1893553385"
    )
    assert rendered(NEW, may_retry=False) == (
        "capability[]=authtype\nauthtype=Bearer\ncredential=ACC\nephemeral=1\npassword_expiry_utc=1893553385"
    )


def test_git_second_try() -> None:
    assert git.parse(NEW.replace(b"\n\n", b"\nstate[]=nightporter:attempt=1\n\n")).is_second_try
    assert not git.parse(NEW.replace(b"\n\n", b"\nstate[]=other:attempt=1\n\n")).is_second_try


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"protocol=https\n", b"host=git.example.com\n", b"protocol=ssh\nhost=x\n"]
)
def test_cve_2020_11008_no_host_or_protocol_is_no_wildcard(content: bytes) -> None:
    assert git.parse(content).target is None


@pytest.mark.parametrize(
    "content",
    [
        b"protocol=https\nhost=git.example.com\nhost=evil\n",  # CVE-2020-5260
        b"protocol=https\nhost=git.example.com\nusername=a\rhost=evil\n",  # CVE-2024-52006, CVE-2024-50338
        b"protocol=https\nhost=git.example.com\nusername=a\x00b\n",
        b"protocol=https\nhost=git.example.com\npath=a\x0bb\n",
        b"protocol=https\nhost=git.example.com\npath=a\xc2\x85b\n",
        b"protocol=https\nhost=git.example.com\nnonsense\n",
        b"protocol=https\nhost=git.example.com\xff\n",
        b"protocol=https\nhost=git.example.com/evil\n",
        b"protocol=https\nhost=user@git.example.com\n",
        b"x=" + b"y" * (1 << 20) + b"\n",
    ],
)
def test_hostile_asks_are_refused_whole(content: bytes) -> None:
    with pytest.raises(BadAskError):
        git.parse(content)


def test_unknown_keys_are_ignored() -> None:
    assert git.parse(OLD + b"invented[]=1\nother=2\n\nprotocol=ignored").target is not None


@given(st.binary(max_size=200))
def test_git_parser_never_crashes(content: bytes) -> None:
    with contextlib.suppress(BadAskError):
        git.parse(b"protocol=https\nhost=git.example.com\n" + content)


# docker's.


@pytest.mark.parametrize("server", [b"reg.example:5000", b"https://reg.example:5000/v2/\n", b" reg.example:5000 \n"])
def test_docker_servers(server: bytes) -> None:
    target = docker.parse_server(server)
    assert target is not None
    assert (target.host, target.port) == ("reg.example", 5000)


def test_docker_answers() -> None:
    assert docker.parse_server(b" \n") is None
    assert docker.render(TOKEN, b"reg.example\n", username="oauth2") == (
        '{"ServerURL": "reg.example", "Username": "oauth2", "Secret": "ACC"}'
    )
    assert "<token>" not in docker.render(TOKEN, b"reg.example", username="<token>")


@given(st.binary(max_size=100))
def test_docker_parser_never_crashes(content: bytes) -> None:
    with contextlib.suppress(BadAskError):
        docker.parse_server(content)
