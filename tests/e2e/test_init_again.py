"""`init` a second time, by roles and without the network; and the ways out of an account."""

from __future__ import annotations

import json
import tomllib

import pytest

from lab.support import Home
from lab.terminals.terminal import Answers, at_terminal
from lab.worlds.vendor import Vendor

MEMBERS = json.dumps({"username": "svc-acme", "password": "correct-horse"})


def flags(vendor: Vendor, *more: str) -> tuple[str, ...]:
    return (
        *("--issuer", "pitchpoint", "--store", "local", "--base-url", vendor.address),
        *("--credentials", "prod/x"),
        *more,
    )


BY_HAND = """\
# Mine, and commented by hand.
[profiles.old]          # the first one
issuer = "pitchpoint"
credentials = "prod/old"  # who else knows
"""


def test_a_profile_is_added_and_every_line_stays(empty_home: Home, vendor: Vendor) -> None:
    """A profile without `store` gets its store named, and keeps its session."""
    empty_home.configure(f'{BY_HAND}base_url = "{vendor.address}"\n')
    assert empty_home.run("credentials", "set", "old", stdin=MEMBERS).code == 0
    assert empty_home.run("token", "old").code == 0
    shelf = str(empty_home.path / "shelf")
    done = empty_home.run(
        "init", "new", *flags(vendor), "--store-set", f"path={shelf}", stdin=MEMBERS
    )
    assert done.code == 0, done.err
    text = empty_home.config_file.read_text()
    for line in BY_HAND.splitlines():
        assert line in text
    written = tomllib.loads(text)
    assert written["profiles"]["old"]["store"] == "local"
    assert written["stores"]["local"] == {"type": "local"}
    assert written["stores"]["local-2"] == {"type": "local", "path": shelf}
    signs_in = vendor.count("sign-in")
    assert empty_home.run("logout", "old").code == 0
    assert empty_home.run("token", "old").code == 0
    assert vendor.count("sign-in") == signs_in  # its session is where it was


def test_a_store_that_is_there_is_used_again(empty_home: Home, vendor: Vendor) -> None:
    """The same store is not written twice."""
    assert empty_home.run("init", "a", *flags(vendor), stdin=MEMBERS).code == 0
    done = empty_home.run("init", "b", *flags(vendor, "--set", "refresh_token=prod/x/b"))
    assert done.code == 0, done.err
    written = tomllib.loads(empty_home.config_file.read_text())
    assert list(written["stores"]) == ["local"]
    assert list(written["profiles"]) == ["a", "b"]


def test_init_goes_on_where_it_failed(empty_home: Home, vendor: Vendor) -> None:
    """After a wrong password the profile's name alone checks it again."""
    wrong = json.dumps({"username": "svc-acme", "password": "wrong"})
    assert empty_home.run("init", "p", *flags(vendor), stdin=wrong).code == 3
    assert empty_home.run("credentials", "set", "p", stdin=MEMBERS).code == 0
    again = empty_home.run("init", "p")
    assert again.code == 0, again.err
    assert "it works" in again.err
    assert empty_home.run("init", "p", *flags(vendor)).code == 0  # the same answers, too
    other = empty_home.run("init", "p", *flags(vendor, "--host", "git.example.com"))
    assert other.code == 2
    assert "not written over" in other.err


def test_init_refuses_a_file_that_it_would_break(empty_home: Home, vendor: Vendor) -> None:
    """Profiles in an inline table leave no place for another: nothing is changed."""
    inline = 'profiles = { old = { issuer = "pitchpoint", credentials = "c" } }\n'
    empty_home.configure(inline)
    done = empty_home.run("init", "new", *flags(vendor), stdin=MEMBERS)
    assert done.code == 2, done.err
    assert "leaves no place" in done.err
    assert empty_home.config_file.read_text() == inline


def test_no_check_contacts_nobody(empty_home: Home) -> None:
    """With an issuer and a store that are away, --no-check writes the file at once."""
    empty_home.environment["VAULT_TOKEN"] = "x"
    done = empty_home.run(
        *("init", "p", "--vendor", "pitchpoint", "--base-url", "http://127.0.0.1:1", "--no-check"),
        *("--store", "vault", "--address", "http://127.0.0.1:1", "--credentials", "prod/p"),
        *("--store-set", "namespace=team", "--timeout", "2"),
    )
    assert done.code == 0, done.err
    assert "nothing was checked" in done.err
    written = tomllib.loads(empty_home.config_file.read_text())
    assert written["stores"]["vault"]["namespace"] == "team"


def test_a_reader_is_set_up_without_the_rights_of_others(empty_home: Home, vendor: Vendor) -> None:
    """`init --role read-only` reads neither the credentials nor the session record."""
    published = ("--set", "publish_access_token=prod/x/access")
    assert empty_home.run("init", "full", *flags(vendor, *published), stdin=MEMBERS).code == 0
    assert empty_home.run("rotate", "--access", "full").code == 0
    for secret in ("prod%2Fx.json", "prod%2Fx%2Frefresh-token.json"):
        (empty_home.data / secret).unlink()
    empty_home.config_file.unlink()
    done = empty_home.run("init", "reader", *flags(vendor, *published), "--role", "read-only")
    assert done.code == 0, done.err
    assert "it works" in done.err
    assert {file.name for file in empty_home.data.glob("*.json")} == {"prod%2Fx%2Faccess.json"}


def test_answers_are_taken_as_people_type_them(empty_home: Home, vendor: Vendor) -> None:
    """Capitals, beginnings and y do; a near miss is told what was probably meant."""
    answers: Answers = [
        ("Token issuer", "PITCH"),
        ("Profile name", ""),
        ("Secret store", "locla"),
        ("did you mean 'local'", None),
        ("Secret store", "Local"),
        ("Hosts that", ""),
        ("Path of the secret", ""),
        ("Username", "svc-acme"),
        ("Password", "battery-staple"),
        ("Enter other credentials", "Y"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("Client to set up", "None"),
    ]
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address], answers)
    assert code == 0, said


def test_another_url_is_asked_for_where_the_issuer_is_away(
    empty_home: Home, vendor: Vendor
) -> None:
    """A person without the vendor at hand names the sandbox instead."""
    empty_home.environment["HTTPS_PROXY"] = "http://127.0.0.1:1"
    answers: Answers = [
        ("Base URL of the issuer", vendor.address),
        ("issuer reachable", None),
        ("Profile name", ""),
        ("Hosts that", ""),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("Client to set up", ""),
    ]
    words = ["init", "--issuer", "pitchpoint", "--store", "local", "--credentials", "c"]
    code, said = at_terminal(empty_home, ["--timeout", "5", *words], answers)
    assert code == 0, said
    assert vendor.address in empty_home.config_file.read_text()


@pytest.mark.parametrize(("issuer", "is_asked"), [("keycloak", True), ("google", False)])
def test_an_address_is_asked_for_only_where_the_row_has_none(
    issuer: str, is_asked: bool, empty_home: Home
) -> None:
    """Each customer of Keycloak has another; Google's is the same for everybody."""
    url = "https://sso.example/realms/acme"
    address: Answers = [("Base URL of the issuer", url)] if is_asked else []
    answers: Answers = [
        ("Grant type", "refresh_token"),
        *address,
        ("Scopes", ""),
        ("Profile name", "acme"),
        ("Hosts that", ""),
        ("Client to set up", ""),
    ]
    words = ["init", "--issuer", issuer, "--store", "local", "--credentials", "c", "--no-check"]
    code, said = at_terminal(empty_home, words, answers)
    assert code == 0, said
    assert ("Base URL" in said) == is_asked
    assert (url in empty_home.config_file.read_text()) == is_asked


def test_a_path_of_vault_s_api_is_not_taken_silently(empty_home: Home, vendor: Vendor) -> None:
    """`secret/data/prod/x` would be kept at secret/data/secret/data/prod/x."""
    done = empty_home.run(
        *("init", "--vendor", "pitchpoint", "--base-url", vendor.address, "--store", "vault"),
        *("--address", "http://127.0.0.1:1", "--no-check", "--credentials", "secret/data/prod/x"),
    )
    assert done.code == 0, done.err
    assert "would be 'prod/x'" in done.err


@pytest.mark.parametrize("role", ["full", "refresh-only", "read-only", "credentials"])
def test_policy_needs_no_configuration(role: str, empty_home: Home) -> None:
    """An administrator prints each role's policy before any machine is set up."""
    done = empty_home.run(
        *("policy", "--role", role, "--store", "vault", "--credentials", "prod/p"),
        *("--set", "publish_access_token=prod/p/access", "--store-set", "mount=kv"),
    )
    assert done.code == 0, done.err
    assert 'path "kv/data/prod/p' in done.out
    assert not empty_home.config_file.exists()


def test_credentials_are_deleted_after_a_question(empty_home: Home, vendor: Vendor) -> None:
    """Without a person --yes is needed; the session record stays."""
    assert empty_home.run("init", "p", *flags(vendor), stdin=MEMBERS).code == 0
    refused = empty_home.run("credentials", "delete", "p")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    code, said = at_terminal(
        empty_home, ["credentials", "delete", "p"], [("Remove the credentials", "n")]
    )
    assert code == 2, said
    assert (empty_home.data / "prod%2Fx.json").exists()
    gone = empty_home.run("credentials", "delete", "p", "--yes")
    assert (gone.code, gone.out) == (0, ""), gone.err
    assert "correct-horse" not in (empty_home.data / "prod%2Fx.json").read_text()
    assert "credentials-absent" in empty_home.run("doctor", "p").out
    assert (empty_home.data / "prod%2Fx%2Frefresh-token.json").exists()
    assert empty_home.run("credentials", "delete", "p", "--yes").code == 0  # it is gone already


def test_the_bare_command_helps(empty_home: Home) -> None:
    """No arguments: help and exit 0, as gh and kubectl; -V is --version."""
    bare = empty_home.run()
    assert (bare.code, bare.err) == (0, "")
    assert bare.out == empty_home.run("--help").out
    assert "Exit codes:" in bare.out
    assert empty_home.run("-V").out == empty_home.run("--version").out


def test_an_answer_to_another_question_is_asked_for_again(empty_home: Home, vendor: Vendor) -> None:
    """An empty URL is asked for at once, and hosts are no path of a secret."""
    answers: Answers = [
        ("Secret store", "vault"),
        ("Vault URL", ""),
        ("Vault URL", "http://127.0.0.1:1"),
        ("Auth method", "none"),
        ("store-unreachable", None),
        ("Secret store", "local"),
        ("Hosts", ""),
        ("Path of the secret", "127.0.0.1:16443 127.0.0.1:18443"),
        ("is it a path?", None),
        ("Path of the secret", "prod/x"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("it works", None),
        ("Client to set up", "none"),
    ]
    words = ["init", "p", "--issuer", "pitchpoint", "--base-url", vendor.address, "--timeout", "5"]
    code, said = at_terminal(empty_home, words, answers)
    assert code == 0, said


def test_a_secret_with_other_names_is_asked_about(empty_home: Home, vendor: Vendor) -> None:
    """`user` and `pass`, as another program has written them (N8 of the first hour)."""
    empty_home.data.mkdir(parents=True)
    secret = {"version": 1, "value": {"user": "svc-acme", "pass": "correct-horse"}}
    (empty_home.data / "prod%2Fx.json").write_text(json.dumps(secret))
    alone = empty_home.run("init", "p", *flags(vendor))
    assert alone.code == 4
    assert "holds pass, user, and the profile needs username, password" in alone.err
    assert "--set fields.username=NAME" in alone.err
    assert not empty_home.config_file.exists()
    named = ("--set", "fields.username=user", "--set", "fields.password=pass")
    assert empty_home.run("init", "p", *flags(vendor, *named)).code == 0
    empty_home.config_file.unlink()
    answers: Answers = [
        ("Hosts", ""),
        ("Member that holds the username", "user"),
        ("Member that holds the password", "p"),
        ("it works", None),
        ("Client to set up", "none"),
    ]
    code, said = at_terminal(empty_home, ["init", "p", *flags(vendor)], answers)
    assert code == 0, said
    assert "correct-horse" not in said
    written = tomllib.loads(empty_home.config_file.read_text())["profiles"]["p"]
    assert written["fields"] == {"username": "user", "password": "pass"}


def test_the_end_names_what_comes_next(empty_home: Home, vendor: Vendor) -> None:
    """The client that was set up, else the token (N26 of the first hour); and the file names what
    explains it on a machine without the repository (N25)."""
    empty_home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
    more = ("--host", "git.example.com", "--setup", "git")
    done = empty_home.run("init", "p", *flags(vendor, *more), stdin=MEMBERS)
    assert done.code == 0, done.err
    assert "next: use git; nightporter status p" in done.err
    other = ("--set", "refresh_token=prod/x/q")
    done = empty_home.run("init", "q", *flags(vendor, *other))
    assert "next: nightporter token q" in done.err, done.err
    assert "`nightporter explain configuration`" in empty_home.config_file.read_text()
    explained = empty_home.run("explain", "configuration")
    assert (explained.code, "[profiles.NAME]" in explained.out) == (0, True)


def test_a_host_of_plain_http_is_said(empty_home: Home, vendor: Vendor) -> None:
    """What `http://` before a host means (N27 of the first hour)."""
    answers: Answers = [
        ("Hosts", "http://git.example.com"),
        ("a host that begins with http:// allows plain http to it", None),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
        ("Client to set up", "none"),
    ]
    code, said = at_terminal(empty_home, ["init", "p", *flags(vendor)], answers)
    assert code == 0, said
