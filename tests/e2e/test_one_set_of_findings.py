"""What `config check`, `setup`, `init` and `doctor` say of one configuration is the same."""

from __future__ import annotations

import pytest

from lab.support import BIN, Home
from lab.worlds.vendor import Vendor

TWO = """
[profiles.one]
issuer = "pitchpoint"
credentials = "prod/one"
base_url = "{address}"
hosts = ["{first}"]

[profiles.two]
issuer = "pitchpoint"
credentials = "prod/two"
base_url = "{address}"
hosts = ["{second}"]
"""
CLAIMED_TWICE = [
    ("git.example.com", "git.example.com"),
    ("git.example.com:8443", "git.example.com:8443"),
    ("*.example.com", "*.example.com"),
    ("*.example.com", "git.example.com"),
    ("git.example.com", "git.example.com/team"),
    ("GIT.example.com", "https://git.example.com:443"),
]
CLAIMED_ONCE = [
    ("git.example.com", "git.example.com:8443"),
    ("git.example.com/one", "git.example.com/two"),
    ("*.example.com", "git.team.example.com"),
    ("http://git.example.com", "https://git.example.com"),
]


def said(home: Home, vendor: Vendor, first: str, second: str) -> dict[str, str]:
    """What each command says of a configuration whose profiles name these hosts."""
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
    home.configure(TWO.format(address=vendor.address, first=first, second=second))
    check = home.run("config", "check")
    setup = home.run("setup", "git", "two")
    assert (check.code, setup.code) == (0, 0), check.err + setup.err
    printed = home.run("setup", "git", "two", "--print").err
    doctor = home.run("doctor", "two").out
    return {"check": check.err, "setup": setup.err, "print": printed, "doctor": doctor}


@pytest.mark.parametrize(("first", "second"), CLAIMED_TWICE)
def test_a_host_in_two_profiles_is_said_by_all(
    first: str, second: str, empty_home: Home, vendor: Vendor
) -> None:
    """A warning: `exec-credential two` answers, helpers don't."""
    for command, text in said(empty_home, vendor, first, second).items():
        assert f"the host {second} is in `hosts` of 'two' and of 'one'" in text, (command, text)
        assert "hosts` of one profile" in text, (command, text)
        assert str(empty_home.config_file) in text, (command, text)


@pytest.mark.parametrize(("first", "second"), CLAIMED_ONCE)
def test_hosts_that_never_meet_are_no_finding(
    first: str, second: str, empty_home: Home, vendor: Vendor
) -> None:
    for command, text in said(empty_home, vendor, first, second).items():
        assert "is in `hosts` of" not in text, (command, text)


def test_init_says_it_before_the_profile_is_written(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(
        '[profiles.one]\nissuer = "pitchpoint"\ncredentials = "a"\nhosts = ["git.example.com"]\n'
    )
    flags = ("--issuer", "pitchpoint", "--store", "local", "--credentials", "b", "--no-check")
    done = empty_home.run("init", "two", *flags, "--host", "git.example.com")
    assert done.code == 0, done.err
    assert "is in `hosts` of 'two' and of 'one'" in done.err


def test_a_remedy_names_the_profile(empty_home: Home, vendor: Vendor) -> None:
    """PROFILE is for who has not said which."""
    empty_home.configure(
        '[profiles.seeded]\nissuer = "vault-ist"\npartner_id = "7"\nrefresh_token = "r"\n'
        f'base_url = "{vendor.address}"\n'
    )
    text = empty_home.run("doctor", "seeded").out
    assert "nightporter seed seeded" in text
    assert "login PROFILE" not in text
    assert "seed PROFILE" not in text


@pytest.mark.parametrize(
    ("client", "entry"),
    [
        ("docker", "*.example.com"),
        ("docker", "reg.example.com/team"),
        ("terraform", "reg.example.com/team"),
        ("terraform", "http://reg.example.com"),
        ("bazel", "localhost"),
        ("kubelet", "http://reg.example.com"),
    ],
)
def test_an_entry_that_a_client_can_never_ask_for(
    client: str, entry: str, empty_home: Home, vendor: Vendor
) -> None:
    """`setup` leaves it out, and `config check` and doctor tell it once the client is set up."""
    empty_home.environment["PATH"] = f"{BIN}:{empty_home.environment['PATH']}"
    empty_home.configure(
        f'[profiles.one]\nissuer = "pitchpoint"\ncredentials = "c"\nbase_url = "{vendor.address}"\n'
        f'hosts = ["plain.example.com", "{entry}"]\n'
    )
    told = f"{client} is set up, and can never ask for '{entry}'"
    assert told not in empty_home.run("config", "check").err
    done = empty_home.run("setup", client, "one")
    assert done.code == 0, done.err
    assert "left out" in done.err
    assert entry in done.err
    check = empty_home.run("config", "check")
    assert check.code == 0
    assert told in check.err
    assert told in empty_home.run("doctor", "one").out
    assert empty_home.run("setup", client, "one", "--undo").code == 0
    assert told not in empty_home.run("config", "check").err
