"""Rows over the wire: the sandbox speaks in a vendor's words below /vendors/NAME, and one's own row
is tested with it."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

from lab.patience import patience
from lab.support import Home, OpenBao
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World

OWN = """
[vendors.acme]
base_url = "https://login.acme.example"
token_endpoint = "{base_url}/oauth/token"
dead_errors = ["no_more"]
token_types = ["user"]
"""


def posted(url: str, wishes: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}/_sandbox/world", json.dumps(wishes).encode())
    with urllib.request.urlopen(request) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def counts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_sandbox/state") as reply:
        found: dict[str, int] = json.load(reply)["counts"]
    return found


def configure(
    home: Home, issuer: str, url: str, more: str = "", grant: str = "refresh_token"
) -> None:
    home.configure(
        f'{more}[profiles.acme]\nissuer = "{issuer}"\nbase_url = "{url}"\n'
        f'credentials = "prod/pitchpoint"\ngrant = "{grant}"\n'
    )
    members = json.dumps({"client_id": "demo-client", "client_secret": "demo-secret"})
    assert home.run("credentials", "set", "acme", stdin=members).code == 0


def test_an_extra_output_comes_with_the_token_each_time(empty_home: Home, vendor: Vendor) -> None:
    """Fresh from the vendor, from the cache, from the record; and never with a plain token."""
    url = f"{vendor.address}/vendors/salesforce"
    configure(empty_home, "salesforce", url)
    seed = posted(url, {"seed": True})["refresh_token"]
    assert empty_home.run("seed", "acme", stdin=seed).code == 0
    for _ in range(3):
        found = json.loads(empty_home.run("token", "acme", "-o", "json").out)
        assert found["instance_url"] == "https://instance_url.example"
    assert empty_home.record()["output"] == {"instance_url": "https://instance_url.example"}
    assert "instance_url" not in empty_home.run("token", "acme").out
    assert counts(url) == {"refresh": 1}
    assert vendor.count("refresh") == 0  # each vendor's world is its own


def test_a_dead_token_in_a_200_is_known_by_the_row(empty_home: Home, vendor: Vendor) -> None:
    """GitHub's answer; the command says who must act, and nobody sends the token again."""
    url = f"{vendor.address}/vendors/github"
    configure(empty_home, "github", url)
    empty_home.run("seed", "acme", stdin="ghr_of-another-time")
    done = empty_home.run("token", "acme")
    assert done.code == 4
    assert "bad_refresh_token" in done.err
    assert "nightporter seed acme" in done.err
    sent = counts(url)["refresh"]
    assert empty_home.run("token", "acme", "--force-refresh").code == 4
    assert counts(url)["refresh"] == sent == 2


def test_a_device_code_that_is_pending_in_a_200(empty_home: Home, vendor: Vendor) -> None:
    """GitHub's way; the login waits for the person and then has a session."""
    url = f"{vendor.address}/vendors/github"
    configure(empty_home, "github", url, grant="device_code")
    process = empty_home.start("login", "acme")
    assert process.stderr is not None
    found = re.search(
        r"Open (\S+) on any device and enter the code (\S+)", process.stderr.readline()
    )
    assert found
    time.sleep(1.2)
    urllib.request.urlopen(f"{found[1]}?user_code={found[2]}").read()
    process.communicate(timeout=patience(30))
    assert process.returncode == 0
    assert empty_home.run("token", "acme").code == 0


def test_a_told_life_is_in_record_status_and_timeline(empty_home: Home, vendor: Vendor) -> None:
    url = f"{vendor.address}/vendors/quickbooks"
    configure(empty_home, "quickbooks", url)
    posted(url, {"refresh_life_s": 8_640_000})
    seed = posted(url, {"seed": True})["refresh_token"]
    empty_home.run("seed", "acme", stdin=seed)
    assert empty_home.record()["expires_at"] is None
    assert empty_home.run("token", "acme").code == 0
    ends = empty_home.record()["expires_at"]
    assert ends is not None
    (status,) = json.loads(empty_home.run("status", "-o", "json").out)
    assert status["session"]["expires_at"] == ends
    assert "the refresh token ends" in empty_home.run("timeline", "acme").out


def test_somebody_is_told_in_time_that_a_session_ends(empty_home: Home, vendor: Vendor) -> None:
    """Only a person can begin another: with a fifth of its life left, `doctor` says so."""
    url = f"{vendor.address}/vendors/github"
    configure(empty_home, "github", url)
    posted(url, {"refresh_life_s": 10 * 86_400})
    empty_home.run("seed", "acme", stdin=posted(url, {"seed": True})["refresh_token"])
    assert empty_home.run("token", "acme").code == 0
    assert "session-old" not in empty_home.run("doctor", "acme").out
    empty_home.set_record(issued_at=format_rfc3339(time.time() - 90 * 86_400))
    assert "session-old" in empty_home.run("doctor", "acme").out


def test_an_idle_life_is_shown_and_is_no_end(empty_home: Home, vendor: Vendor) -> None:
    url = f"{vendor.address}/vendors/xero"
    configure(empty_home, "xero", url)
    empty_home.run("seed", "acme", stdin=posted(url, {"seed": True})["refresh_token"])
    assert empty_home.run("token", "acme").code == 0
    assert empty_home.record()["expires_at"] is None
    (status,) = json.loads(empty_home.run("status", "-o", "json").out)
    assert status["session"]["idle_ends_at"] is not None
    assert "if not refreshed" in empty_home.run("status").out
    assert "unless it is refreshed" in empty_home.run("timeline", "acme").out


def test_a_row_of_ones_own_is_tried_with_the_sandbox(empty_home: Home) -> None:
    """As `nightporter sandbox` opens it: with the rows of the configuration."""
    empty_home.configure(OWN)
    shown = empty_home.run("explain", "vendors", "acme").out
    assert 'dead_errors = ["no_more"]' in shown
    assert "acme" in empty_home.run("explain", "vendors").out
    started = empty_home.start("sandbox")
    try:
        assert started.stdout is not None
        url = f"{started.stdout.readline().strip()}/vendors/acme"
        configure(empty_home, "acme", url, OWN)
        empty_home.run("seed", "acme", stdin=posted(url, {"seed": True})["refresh_token"])
        assert empty_home.run("token", "acme").code == 0
        posted(url, {"revoke": "refresh"})
        done = empty_home.run("token", "acme", "--force-refresh")
        assert done.code == 4
        assert "no_more" in done.err
    finally:
        started.kill()
        started.communicate()


def test_init_adds_a_profile_of_ones_own_row(empty_home: Home, vendor: Vendor) -> None:
    """And of a built-in one that has an address it asks for none."""
    empty_home.configure(OWN)
    url = f"{vendor.address}/oauth"
    members = json.dumps({"client_id": "demo-client", "client_secret": "demo-secret"})
    done = empty_home.run(
        *("init", "ours", "--issuer", "acme", "--base-url", url, "--store", "local"),
        *("--credentials", "prod/acme", "--set", "grant=refresh_token", "--no-check"),
        stdin=members,
    )
    assert done.code == 0, done.err
    assert 'issuer = "acme"' in empty_home.config_file.read_text()
    assert empty_home.run("config", "check").code == 0
    done = empty_home.run("init", "other", "--issuer", "acne", "--store", "local")
    assert done.code == 2
    assert "did you mean 'acme'?" in done.err


def test_there_is_no_world_of_a_vendor_that_nobody_knows(empty_home: Home) -> None:
    with open_sandbox(World(users={})) as url:
        for path in ("/vendors/nobody/oauth2/token", "/vendors/nobody/_sandbox/state"):
            try:
                urllib.request.urlopen(url + path)
            except urllib.error.HTTPError as exc:
                assert exc.code == 404
            else:
                raise AssertionError(path)


def test_the_world_is_in_the_help(empty_home: Home) -> None:
    said = empty_home.run("sandbox", "--help").out
    for word in ("/_sandbox/world", "/_sandbox/state", "/vendors/", '"seed"', '"revoke"', "faults"):
        assert word in said


def test_a_told_life_is_the_ttl_of_the_key(
    empty_home: Home, vendor: Vendor, openbao: OpenBao
) -> None:
    """On Vault the record is gone when the vendor said that its refresh token would be."""
    url, mount = f"{vendor.address}/vendors/keycloak", openbao.mount()
    empty_home.environment |= {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    store = f'[stores.v]\ntype = "vault"\nmount = "{mount}"\n'
    configure(empty_home, "keycloak", url, store)
    posted(url, {"refresh_life_s": 1800})
    empty_home.run("seed", "acme", stdin=posted(url, {"seed": True})["refresh_token"])
    assert empty_home.run("token", "acme").code == 0
    path = "prod/pitchpoint/refresh-token"
    ends = openbao.call("GET", f"{mount}/data/{path}")["data"]["data"]["expires_at"]
    versions = openbao.metadata(mount, path)["versions"]
    gone = versions[max(versions, key=int)]["deletion_time"]
    assert 0 <= parse_rfc3339(gone) - parse_rfc3339(ends) <= 5
