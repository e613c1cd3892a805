"""Sessions of every vendor with the real command against the sandbox: seed, client credentials,
login, device code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lab.browsers import HEAD
from lab.patience import line_of, patience
from lab.support import Home, free_port
from lab.worlds.vendor import Vendor


def configure(home: Home, issuer: str, address: str, *lines: str, credentials: bool = True) -> None:
    head = (
        f'[profiles.acme]\nissuer = "{issuer}"\nbase_url = "{address}"\ncredentials = "prod/acme"\n'
    )
    home.configure(head + "\n".join(lines) + "\n")
    if credentials:
        home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")


def record(home: Home) -> dict[str, object]:
    document = json.loads((home.data / "prod%2Facme%2Frefresh-token.json").read_text())
    value: dict[str, object] = document["value"]
    return value


# vault.ist: seeded, may rotate.


@pytest.fixture
def seeded(empty_home: Home, vendor: Vendor) -> Home:
    vendor.world.rotation = "may-rotate"
    configure(empty_home, "vault-ist", vendor.address, "partner_id = 42", credentials=False)
    done = empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token() + "\n")
    assert done.code == 0, done.err
    return empty_home


def test_a_seed_is_stored_and_not_spent(seeded: Home, vendor: Vendor) -> None:
    assert vendor.count("refresh") == 0
    assert vendor.world.is_session_alive(str(record(seeded)["refresh_token"]))
    assert record(seeded)["username"] is None


def test_a_seeded_session_refreshes_and_follows_a_rotation(seeded: Home, vendor: Vendor) -> None:
    for _ in range(4):
        seeded.drop_cache()
        done = seeded.run("token")
        assert done.code == 0, done.err
        assert vendor.world.is_session_alive(str(record(seeded)["refresh_token"]))
        assert record(seeded)["claim"] is None
        assert record(seeded)["access_token"] is None
    assert vendor.count("reuse") == 0


def test_a_dead_seed_says_seed_again_and_is_not_sent_twice(seeded: Home, vendor: Vendor) -> None:
    vendor.world.revoke_all()
    for _ in range(2):
        done = seeded.run("token")
        assert (done.code, done.out) == (4, "")
        assert "nightporter seed acme" in done.err
        seeded.drop_cache()
    # It is the only copy, so one refusal is not believed; after two it is marked.
    assert vendor.count("refresh") == 2
    assert '"error": "invalid_grant"' in json.dumps(record(seeded)["rejected"])
    assert seeded.run("seed", "acme", "--check", stdin=vendor.world.new_refresh_token()).code == 0
    assert seeded.run("token").code == 0


def test_before_the_first_seed(empty_home: Home, vendor: Vendor) -> None:
    configure(empty_home, "vault-ist", vendor.address, "partner_id = 42", credentials=False)
    done = empty_home.run("token")
    assert done.code == 4
    assert "nightporter seed acme" in done.err
    assert "no login" in empty_home.run("login", "acme").err


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "x" * 40_000])
def test_a_seed_that_is_none(seeded: Home, text: str) -> None:
    before = record(seeded)
    assert seeded.run("seed", "acme", stdin=text).code == 2
    assert record(seeded) == before


def test_an_unknown_refusal_costs_no_session(seeded: Home, vendor: Vendor) -> None:
    before = record(seeded)["refresh_token"]
    vendor.fail({"kind": "status", "status": 400, "body": {"error": "something_new"}})
    assert seeded.run("token").code == 6
    assert record(seeded)["refresh_token"] == before
    seeded.drop_cache()
    assert seeded.run("token").code == 0


def test_a_new_refresh_token_beside_a_useless_rest_is_kept(seeded: Home, vendor: Vendor) -> None:
    fresh = vendor.world.new_refresh_token()
    vendor.fail(
        {"kind": "status", "status": 200, "body": {"access_token": "a\nb", "refresh_token": fresh}}
    )
    assert seeded.run("token").code == 6
    assert record(seeded)["refresh_token"] == fresh


# Entra: client credentials, shared.


def test_client_credentials_are_shared_through_the_store(empty_home: Home, vendor: Vendor) -> None:
    configure(
        empty_home,
        "entra",
        vendor.address,
        'tenant = "t"',
        'grant = "client_credentials"',
        'scopes = "x/.default"',
    )
    first = empty_home.run("token")
    assert first.code == 0, first.err
    empty_home.drop_cache()
    assert empty_home.run("token").out == first.out
    assert vendor.count("sign-in") == 1
    assert record(empty_home)["refresh_token"] is None
    assert vendor.world.scopes == ["x/.default"]


def test_a_wrong_client_secret_is_tried_once(empty_home: Home, vendor: Vendor) -> None:
    configure(empty_home, "entra", vendor.address, 'tenant = "t"', 'grant = "client_credentials"')
    empty_home.set_credentials("acme", client_secret="wrong")
    for _ in range(3):
        done = empty_home.run("token")
        assert done.code == 3
        assert "invalid_client" in done.err
        empty_home.drop_cache()
    assert vendor.count("sign-in") == 1
    empty_home.set_credentials("acme", client_secret="demo-secret")
    assert empty_home.run("token").code == 0


def test_the_client_in_a_secret_of_its_own(empty_home: Home, vendor: Vendor) -> None:
    configure(
        empty_home,
        "entra",
        vendor.address,
        'tenant = "t"',
        'client = "prod/client"',
        credentials=False,
    )
    from nightporter.session.port import ABSENT
    from nightporter.stores.local import LocalStore

    members = {"client_id": "demo-client", "client_secret": "demo-secret"}
    LocalStore(str(empty_home.data)).write("prod/client", members, ABSENT, None, timeout_s=5)
    assert empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token()).code == 0
    assert empty_home.run("token").code == 0


def test_a_rotating_refresh_without_its_client_is_refused_and_the_session_kept(
    empty_home: Home, vendor: Vendor
) -> None:
    configure(empty_home, "entra", vendor.address, 'tenant = "t"')
    empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token())
    vendor.world.clients = {"demo-client": "changed"}
    assert empty_home.run("token").code == 3
    assert vendor.world.is_session_alive(str(record(empty_home)["refresh_token"]))
    assert record(empty_home)["claim"] is None


# Logging in.

BROWSER = """
page = opener.open(address).read().decode()
target = html.unescape(re.search('id="{link}" href="([^"]+)"', page)[1])
{extra}
opener.open(target).read()
"""


def browser(tmp_path: Path, link: str = "allow", extra: str = "") -> str:
    """A browser that follows one link of the authorize page."""
    file = tmp_path / "browser"
    file.write_text(HEAD + BROWSER.format(link=link, extra=extra))
    file.chmod(0o755)
    return f"{file} %s"


@pytest.fixture
def entra(empty_home: Home, vendor: Vendor) -> Home:
    configure(empty_home, "entra", vendor.address, 'tenant = "t"', 'scopes = "api offline_access"')
    return empty_home


def test_login_through_the_browser(entra: Home, vendor: Vendor, tmp_path: Path) -> None:
    done = entra.run("login", "acme", "--check", BROWSER=browser(tmp_path))
    assert done.code == 0, done.err
    assert "checked" in done.err
    assert done.out == ""
    assert vendor.world.is_session_alive(str(record(entra)["refresh_token"]))
    assert entra.run("token").code == 0
    assert vendor.world.scopes[0] == "api offline_access"


def test_login_denied(entra: Home, tmp_path: Path) -> None:
    done = entra.run("login", "acme", BROWSER=browser(tmp_path, "deny"))
    assert done.code == 4
    assert "denied" in done.err


def test_an_answer_with_another_state_is_ignored(
    entra: Home, vendor: Vendor, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    stray = (
        "try: opener.open(target.replace('state=', 'state=x'))\n"
        f"except Exception as exc: open({str(told)!r}, 'w').write(str(exc.code))"
    )
    done = entra.run("login", "acme", BROWSER=browser(tmp_path, extra=stray))
    assert done.code == 0, done.err
    assert told.read_text() == "400"


def test_nobody_answers(entra: Home, tmp_path: Path) -> None:
    done = entra.run("--timeout", "2", "login", "acme", BROWSER="true")
    assert done.code == 4
    assert "in time" in done.err
    assert "*Web*" in done.err


def test_a_port_that_is_taken(entra: Home, vendor: Vendor) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        configure(entra, "entra", vendor.address, 'tenant = "t"', f"redirect_port = {port}")
        done = entra.run("login", "acme", BROWSER="true")
    assert done.code == 2
    assert f"port {port}" in done.err


def pasted(home: Home, change: str = "") -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "nightporter", "login", "acme", "--no-browser"],
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = line_of(process, process.stderr, "authorize")
    found = re.search(r"http://\S+authorize\S+", said)
    assert found
    page = urllib.request.urlopen(found[0]).read().decode()
    import html

    target = html.unescape(re.search('id="allow" href="([^"]+)"', page)[1])  # type: ignore[index]  # the page is ours
    _, err = process.communicate(target + change + "\n", timeout=patience(60))
    return process.returncode, said + err


def test_login_without_a_browser(entra: Home, vendor: Vendor) -> None:
    assert pasted(entra)[0] == 0
    assert entra.run("token").code == 0


def test_a_pasted_address_of_another_log_in(entra: Home) -> None:
    code, err = pasted(entra, change="x")
    assert code == 4
    assert "state" in err


def test_device_code(empty_home: Home, vendor: Vendor) -> None:
    configure(empty_home, "entra", vendor.address, 'tenant = "t"', 'grant = "device_code"')
    process = empty_home.start("login", "acme")
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"Open (\S+) on any device and enter the code (\S+)", line)
    assert found, line
    time.sleep(1.2)
    urllib.request.urlopen(f"{found[1]}?user_code={found[2]}").read()
    _, err = process.communicate(timeout=patience(30))
    assert process.returncode == 0, err
    assert vendor.world.is_session_alive(str(record(empty_home)["refresh_token"]))


def test_device_code_denied_and_run_out(empty_home: Home, vendor: Vendor) -> None:
    configure(empty_home, "entra", vendor.address, 'tenant = "t"', 'grant = "device_code"')
    process = empty_home.start("login", "acme")
    assert process.stderr is not None
    line = process.stderr.readline()
    vendor.world.answer_device(line.split()[-1], is_approved=False)
    process.communicate(timeout=patience(30))
    assert process.returncode == 4
    done = empty_home.run("--timeout", "2", "login", "acme")
    assert done.code == 4
    assert "in time" in done.err


# Any issuer, by discovery alone.


@pytest.fixture
def generic(empty_home: Home, vendor: Vendor) -> Home:
    empty_home.configure(
        '[profiles.acme]\nissuer = "oauth2"\ngrant = "authorization_code"\nissuer_url ='
        f' "{vendor.address}"\ncredentials = "prod/acme"\nrotation = "rotates"\n'
    )
    empty_home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    return empty_home


def test_discovery_login_refresh_and_revocation(
    generic: Home, vendor: Vendor, tmp_path: Path
) -> None:
    done = generic.run("login", "acme", BROWSER=browser(tmp_path))
    assert done.code == 0, done.err
    token = str(record(generic)["refresh_token"])
    assert generic.run("token", "--force-refresh").code == 0
    assert vendor.world.refresh_tokens[token].successor == record(generic)["refresh_token"]
    done = generic.run("logout", "acme", "--everywhere")
    assert "revoked" in done.err
    assert vendor.count("revoke") == 1


def test_an_issuer_without_metadata(generic: Home) -> None:
    generic.configure(
        generic.config_file.read_text().replace(
            "issuer_url = ", f'issuer_url = "http://127.0.0.1:{free_port()}"\n#'
        )
    )
    generic.run("seed", "acme", stdin="some-token")
    assert generic.run("token").code == 6
    assert record(generic)["refresh_token"] == "some-token"


def test_password_grant_of_any_issuer(empty_home: Home, vendor: Vendor) -> None:
    empty_home.configure(
        '[profiles.acme]\nissuer = "oauth2"\ntoken_endpoint ='
        f' "{vendor.address}/oauth2/token"\ncredentials = "prod/acme"\nclient ='
        ' "prod/client"\nrotation = "rotates"\nrefresh_token_life = "30d"\n'
    )
    from nightporter.session.port import ABSENT
    from nightporter.stores.local import LocalStore

    members = {"client_id": "demo-client", "client_secret": "demo-secret"}
    LocalStore(str(empty_home.data)).write("prod/client", members, ABSENT, None, timeout_s=5)
    empty_home.set_credentials("acme", username="svc-acme", password="correct-horse")
    assert empty_home.run("token").code == 0
    assert empty_home.run("token", "--force-refresh").code == 0
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 1)
    assert record(empty_home)["expires_at"] is not None
