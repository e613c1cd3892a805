"""Which profile may answer for which host: one rule for every protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.config import parse_config
from nightporter.errors import ConfigError
from nightporter.hosts import BadAskError, parse_rule, parse_target, profile_for
from nightporter.issuers import VENDORS
from nightporter.model import Config


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


# Paths: an entry with one is for what lies below it, and for nobody who doesn't tell one.

TEAM = config(team='"git.example.com/team/a"', rest='"other.example.com"')


def team_owner(text: str) -> str | None:
    found = profile_for(parse_target(text, has_path=True), TEAM.profiles)
    return found.name if found else None


@pytest.mark.parametrize("path", ["team/a", "/team/a/", "team/a/repo.git"])
def test_below_the_path(path: str) -> None:
    assert team_owner(f"git.example.com/{path}") == "team"


@pytest.mark.parametrize("path", ["", "team", "team/ab", "other", "Team/a"])
def test_not_below_the_path(path: str) -> None:
    assert team_owner(f"git.example.com/{path}") is None


def test_who_tells_no_path_gets_nothing() -> None:
    assert profile_for(parse_target("git.example.com"), TEAM.profiles) is None


@pytest.mark.parametrize("path", ["team/a/../../x", "team/./a", "team%2fa", "team/a/%2E%2e/x", "team\\\\a"])
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(BadAskError):
        parse_target(f"git.example.com/{path}", has_path=True)


@pytest.mark.parametrize(
    "entry", ["", "user@host.example", "*", "*.com", "a.*.example.com", "https://x.example?q=1", "host.example:99999"]
)
def test_a_wrong_entry_is_a_configuration_error(entry: str) -> None:
    with pytest.raises(ConfigError, match="one error"):
        config(one=f'"{entry}"')


def test_targets_and_rules_are_written_back_as_clients_want_them() -> None:
    assert parse_target("HOST.example:443").origin == "https://host.example"
    assert parse_target("http://[::1]:3000").origin == "http://[::1]:3000"
    assert parse_rule("*.Example.com:8443").origin == "https://*.example.com:8443"
