"""What an issuer's replies tell beside the tokens reaches people, once, and no helper says it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from lab.browsers import HEAD
from lab.support import Home
from lab.worlds.vendor import Vendor

SECRET = "a-client-secret-of-some-length"


def configure(home: Home, address: str, *lines: str) -> None:
    home.configure(
        "\n".join(
            (
                "[profiles.acme]",
                'issuer = "oauth2"',
                f'token_endpoint = "{address}/oauth2/token"',
                f'authorization_endpoint = "{address}/oauth2/authorize"',
                f'device_authorization_endpoint = "{address}/oauth2/devicecode"',
                'credentials = "prod/acme"',
                *lines,
            )
        )
        + "\n"
    )
    home.set_credentials("acme", client_id="demo-client", client_secret=SECRET)


@pytest.fixture
def acme(empty_home: Home, vendor: Vendor) -> Home:
    """A seeded session of an issuer that may rotate, which asks for two scopes."""
    vendor.world.clients = {"demo-client": SECRET}
    configure(empty_home, vendor.address, 'grant = "refresh_token"', 'scopes = ["read", "write"]')
    seed(empty_home, vendor)
    return empty_home


def seed(home: Home, vendor: Vendor) -> str:
    token = vendor.world.new_refresh_token()
    assert home.run("seed", "acme", stdin=token).code == 0
    return token


def id_token(**members: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def reply(vendor: Vendor, **members: Any) -> None:
    """The next answer of the vendor: new tokens, and these members."""
    fresh = {"refresh_token": vendor.world.new_refresh_token(), **vendor.world.issue_access_token()}
    body = {"token_type": "Bearer", **fresh, **members}
    vendor.fail({"kind": "status", "status": 200, "body": body})


def status(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.run("status", "acme", "-o", "json").out)[0]["session"]
    return found


def told(home: Home) -> dict[str, Any]:
    """What the record keeps of it."""
    (file,) = home.data.glob("*refresh-token.json")
    found: dict[str, Any] = json.loads(file.read_text())["value"].get("told", {})
    return found


# A narrower scope.


def test_a_narrower_scope_is_said_once_and_stays_in_status(acme: Home, vendor: Vendor) -> None:
    for scope, is_said in (("read", True), ("read", False), ("write", True), ("write", False)):
        reply(vendor, scope=scope)
        done = acme.run("token", "--force-refresh")
        assert done.code == 0
        assert ("scope-narrowed" in done.err) is is_said, (scope, done.err)
        assert told(acme)["missing_scope"] == ("read" if scope == "write" else "write")
    assert status(acme)["missing_scopes"] == ["read"]
    assert "scope read" in acme.run("status").out
    assert "scope-narrowed" in acme.run("doctor", "acme").out
    reply(vendor, scope="write,read,more")
    assert acme.run("token", "--force-refresh").err == ""
    assert told(acme) == {}


def test_a_helper_never_says_it_and_the_next_command_does(acme: Home, vendor: Vendor) -> None:
    reply(vendor, scope="read")
    done = acme.run("exec-credential", "acme")
    assert (done.code, done.err) == (0, "")
    reply(vendor, scope="read")
    assert acme.run("token", "--force-refresh").err.count("scope-narrowed") == 1
    reply(vendor, scope="read")
    assert acme.run("token", "--force-refresh").err == ""


def test_a_silent_reply_changes_nothing(acme: Home, vendor: Vendor) -> None:
    reply(vendor, scope="read")
    acme.run("token", "--force-refresh")
    assert acme.run("token", "--force-refresh").err == ""
    assert told(acme)["missing_scope"] == "write"


def test_a_reused_token_that_needs_no_claim_is_said_once_too(
    empty_home: Home, vendor: Vendor
) -> None:
    vendor.world.clients = {"demo-client": SECRET}
    vendor.world.rotation = "reused"
    lines = ('grant = "refresh_token"', 'rotation = "reused"', 'scopes = "read write"')
    configure(empty_home, vendor.address, *lines)
    token = seed(empty_home, vendor)
    for is_said in (True, False):
        reply(vendor, scope="read", refresh_token=token)
        done = empty_home.run("token", "--force-refresh")
        assert ("scope-narrowed" in done.err) is is_said
    assert told(empty_home)["missing_scope"] == "write"


def test_a_consumer_without_permission_to_write_does_not_try(
    empty_home: Home, vendor: Vendor
) -> None:
    vendor.world.clients = {"demo-client": SECRET}
    vendor.world.rotation = "reused"
    lines = ('grant = "refresh_token"', 'rotation = "reused"', 'scopes = "read write"')
    configure(empty_home, vendor.address, *lines, 'client = "prod/client"')
    token = seed(empty_home, vendor)
    text = empty_home.config_file.read_text()
    empty_home.configure(text + 'role = "refresh-only"\n')
    reply(vendor, scope="read", refresh_token=token)
    done = empty_home.run("token", "--force-refresh")
    assert (done.code, done.err) == (0, "")
    assert told(empty_home) == {}


# Whose session it is.


def test_status_shows_whose_session_it_is(acme: Home, vendor: Vendor) -> None:
    reply(vendor, id_token=id_token(sub="s-1", preferred_username="alice"))
    assert acme.run("token", "--force-refresh").err == ""
    assert (status(acme)["user"], status(acme)["subject"]) == ("alice", "s-1")
    assert acme.run("token", "--force-refresh").err == ""  # the sandbox's id_token tells nothing
    assert "alice (subject s-1)" in acme.run("status").out


def test_a_seed_of_another_user_is_said_once(empty_home: Home, vendor: Vendor) -> None:
    vendor.world.clients = {"demo-client": SECRET}
    configure(empty_home, vendor.address, 'grant = "refresh_token"', 'username = "alice"')
    seed(empty_home, vendor)
    for name, is_said in (("bob", True), ("bob", False), ("Alice@corp.example", False)):
        reply(vendor, id_token=id_token(sub="s", preferred_username=name))
        done = empty_home.run("token", "--force-refresh")
        assert done.code == 0
        assert ("other-user" in done.err) is is_said, done.err
        assert told(empty_home).get("other_user", False) is (name == "bob")
        if is_said:
            assert status(empty_home)["is_other_user"]
            assert "other-user" in empty_home.run("doctor", "acme").out


def test_a_log_in_as_somebody_else_stores_nothing(empty_home: Home, vendor: Vendor) -> None:
    vendor.world.clients = {"demo-client": SECRET}
    configure(empty_home, vendor.address, 'grant = "device_code"', 'username = "alice"')
    reply(vendor, id_token=id_token(sub="s", preferred_username="bob"))
    done = empty_home.run("login", "acme")
    assert done.code == 4
    assert "'bob'" in done.err
    assert "nightporter login acme" in done.err
    assert empty_home.run("token").code == 4
    reply(vendor, id_token=id_token(sub="s", preferred_username="alice"))
    done = empty_home.run("login", "acme")
    assert done.code == 0, done.err
    assert "logged in as alice" in done.err


# The issuer's words.


def refuse(vendor: Vendor, words: str, *, error: str, times: int = 1) -> None:
    body = {"error": error, "error_description": words}
    vendor.fail({"kind": "status", "status": 400, "body": body, "times": times})


def test_the_words_of_a_refusal_are_for_v_and_doctor(home: Home, vendor: Vendor) -> None:
    home.set_credentials(username="svc-acme", password="a-wrong-password")
    done = home.run("token")
    assert done.code == 3
    assert "Invalid username" not in done.err
    assert "Invalid username / password combination" in home.run("doctor").out
    home.set_credentials(username="svc-acme", password="another-wrong-password")
    assert "Invalid username / password combination" in home.run("-v", "token").err
    home.set_credentials(username="svc-acme", password="correct-horse")
    assert home.run("token").code == 0
    assert "Invalid username" not in home.run("doctor").out


def test_the_words_are_made_safe(acme: Home, vendor: Vendor) -> None:
    sent = seed(acme, vendor)
    words = f"\x1b[31mbad\u202e {sent} {SECRET} {sent[:15]} " + "x" * 400
    refuse(vendor, words, error="invalid_grant", times=2)
    shown = acme.run("token", "-v").err
    assert "bad" in shown
    told = shown + acme.run("doctor").out + json.dumps(status(acme))
    stored = "".join(file.read_text() for file in acme.data.glob("*refresh-token.json"))
    assert sent[:15] not in told
    assert SECRET not in told + stored
    assert "\x1b[31m" not in told
    assert "\u202e" not in told + stored
    assert "x" * 201 not in told + stored


def test_the_audit_log_has_no_words_of_others(acme: Home, vendor: Vendor) -> None:
    refuse(vendor, "words of theirs", error="invalid_grant", times=2)
    log = acme.path / "log"
    acme.run("token", NIGHTPORTER_LOG=str(log))
    assert "refresh-rejected" in log.read_text()
    assert "words of theirs" not in log.read_text()


def test_a_remembered_refusal_has_its_words_under_v(home: Home, vendor: Vendor) -> None:
    home.set_credentials(username="svc-acme", password="a-wrong-password")
    assert home.run("token").code == 3
    home.drop_cache()
    done = home.run("-v", "token")
    assert done.code == 3
    assert "Invalid username / password combination" in done.err
    assert vendor.count("sign-in") == 1


def test_a_log_in_that_the_browser_brings_back_refused(
    empty_home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.world.clients = {"demo-client": SECRET}
    configure(empty_home, vendor.address, 'grant = "authorization_code"')
    browser = tmp_path / "browser"
    browser.write_text(
        HEAD + "import urllib.parse as p\n"
        "q = dict(p.parse_qsl(p.urlsplit(address).query))\n"
        "a = {'error': 'invalid_scope', 'state': q['state'],"
        f" 'error_description': 'no such scope \\x1b[31m {SECRET}'}}\n"
        "opener.open(q['redirect_uri'] + '?' + p.urlencode(a)).read()\n"
    )
    browser.chmod(0o755)
    done = empty_home.run("login", "acme", "-v", BROWSER=f"{browser} %s")
    assert done.code == 4, done.err
    assert "no such scope" in done.err
    assert SECRET not in done.err
    assert "\x1b" not in done.err
    assert "no such scope" not in empty_home.run("login", "acme", BROWSER=f"{browser} %s").err


# A seed that may be none.


def test_a_wrong_request_after_a_seed_says_seed_again(empty_home: Home, vendor: Vendor) -> None:
    vendor.world.rotation = "may-rotate"
    empty_home.configure(
        '[profiles.acme]\nissuer = "vault-ist"\ncredentials = "prod/acme"\npartner_id = 42\n'
        f'base_url = "{vendor.address}"\n'
    )
    seed(empty_home, vendor)
    refuse(vendor, "Missing refresh token.", error="invalid_request")
    done = empty_home.run("token")
    assert done.code == 6
    assert "seed again" in done.err
    assert "nightporter seed acme" in done.err
    assert "Missing refresh token." in empty_home.run("doctor").out
    empty_home.drop_cache()
    assert empty_home.run("token").code == 0
    empty_home.drop_cache()
    refuse(vendor, "Missing refresh token.", error="invalid_request")
    done = empty_home.run("token")  # this token has worked: something else is wrong
    assert done.code == 6
    assert "seed" not in done.err
