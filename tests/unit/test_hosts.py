"""Which profile may answer for which host: one rule for every protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.hosts import (
    BadAskError,
    Target,
    entry_problem,
    parse_path,
    parse_rule,
    parse_target,
    profile_for,
)
from nightporter.core.model import Config
from nightporter.issuers import VENDORS
from nightporter.stores import STORES


def config(**hosts: str) -> Config:
    return parse_config(
        "".join(
            f'[profiles.{name}]\nissuer = "pitchpoint"\ncredentials = "{name}"\nhosts ='
            f" [{listed}]\n"
            for name, listed in hosts.items()
        ),
        source="t",
        vendors=VENDORS,
        stores=STORES,
    )


ONE = config(
    one=(
        '"git.example.com", "*.pages.example.com", "bücher.example", "git.example.com:8443",'
        ' "http://localhost:3000"'
    )
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
    [
        "",
        " ",
        "user@git.example.com",
        "git.example.com@evil",
        "git.example.com.",
        "ftp://git.example.com",
        "a b",
        "a\nb",
        "git.example.com:",
        "git.example.com:x",
        "git.example.com:99999",
        "a..b",
        "x\\evil",
        "[::1",
        "%67it.x",
        "a\rb",
        "git.example.com?.evil.example",
        "git.example.com#@evil.example",
        "git.example.com:0",
        "[v1.x]",
        f"{'a' * 64}.example.com",
        "a\x00b",
        "a\x0bb",
        "a\x85b",
        "-".join("x" * 64 for _ in range(5)),
    ],
)
def test_no_host_at_all(text: str) -> None:
    with pytest.raises(BadAskError):
        parse_target(text)


def test_two_profiles_are_an_error_that_names_both() -> None:
    two = config(one='"git.example.com"', two='"*.example.com"')
    with pytest.raises(ConfigError, match="'one' and 'two'"):
        profile_for(parse_target("git.example.com"), two.profiles)


SCRAPS = st.lists(
    st.sampled_from(
        [
            "git",
            "example",
            "com",
            "pages",
            ".",
            "-",
            ":",
            "443",
            "8443",
            "evil",
            "@",
            "/",
            "%2e",
            "\u00df",
        ]
    )
    | st.text(max_size=2),
    max_size=8,
).map("".join)


@given(st.text(max_size=60) | SCRAPS)
def test_no_text_crashes_or_matches_by_accident(text: str) -> None:
    try:
        target = parse_target(text)
    except BadAskError:
        return
    if profile_for(target, ONE.profiles):
        host = f"{target.host}:{target.port}"
        exact = (
            "git.example.com:443",
            "git.example.com:8443",
            "xn--bcher-kva.example:443",
            "localhost:3000",
        )
        label, _, rest = host.partition(".")
        assert host in exact or (rest == "pages.example.com:443" and "." not in label)


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


@pytest.mark.parametrize(
    "path", ["team/a/../../x", "team/a/./a", "team/a%2fa", "team/a/%2E%2e/x", "team/a/%5ca"]
)
def test_odd_paths_match_no_rule_with_a_path(path: str) -> None:
    """Servers read them in different ways. GitLab's own addresses have encoded slashes: a rule for
    the host matches."""
    with pytest.raises(BadAskError):
        parse_path(path)
    assert team_owner(f"git.example.com/{path}") is None
    assert team_owner(f"other.example.com/{path}") == "rest"


@pytest.mark.parametrize(
    "text", ["fa\u00df.example", "fas\u017f.example", "\u212aelvin.example", "xn--fa-hia.example"]
)
def test_letters_that_an_older_idna_folds_are_other_letters(text: str) -> None:
    """git and curl go to xn--fa-hia.example where IDNA 2003 would name fass.example."""
    folded = config(one='"fass.example"')
    try:
        target = parse_target(text)
    except BadAskError:
        return
    if target.host != "fass.example":
        assert profile_for(target, folded.profiles) is None
    else:  # what UTS 46 maps for git and curl too: the long s
        assert text == "fas\u017f.example"


def test_sharp_s_is_not_ss() -> None:
    assert parse_target("fa\u00df.example").host == "xn--fa-hia.example"
    assert (
        profile_for(parse_target("fa\u00df.example"), config(one='"fa\u00df.example"').profiles)
        is not None
    )


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "user@host.example",
        "*",
        "*.com",
        "a.*.example.com",
        "https://x.example?q=1",
        "host.example:99999",
    ],
)
def test_a_wrong_entry_is_a_configuration_error(entry: str) -> None:
    with pytest.raises(ConfigError, match="one error"):
        config(one=f'"{entry}"')


def test_targets_and_rules_are_written_back_as_clients_want_them() -> None:
    assert parse_target("HOST.example:443").origin == "https://host.example"
    assert parse_target("http://[::1]:3000").origin == "http://[::1]:3000"
    assert parse_rule("*.Example.com:8443").origin == "https://*.example.com:8443"


@pytest.mark.parametrize(
    "entry", ["git.example.com/a/../b", "git.example.com/a%2Fb", "x.example/."]
)
def test_an_entry_with_an_odd_path_is_no_entry_for_the_whole_host(entry: str) -> None:
    """What servers read in different ways must not widen what the user wrote."""
    assert entry_problem(entry)
    with pytest.raises(BadAskError):
        parse_rule(entry)


def test_a_wildcard_stands_for_a_label() -> None:
    """Not for nothing before the dot, and not for two."""
    rule = parse_rule("*.b.example")
    for host, fits in ((".b.example", False), ("b.example", False), ("a.b.example", True)):
        assert rule.matches(Target(scheme="https", host=host, port=443)) is fits
    assert not rule.matches(Target(scheme="https", host="c.a.b.example", port=443))
