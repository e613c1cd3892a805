"""Where a refresh token comes from, and who else has used it: lineage, the theft alarm, and what
the audit log keeps of both."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience
from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core.lineage import token_digest


def configure(home: Home, vendor: Vendor, store: str = "") -> None:
    home.configure(
        f'{store}\n[profiles.acme]\nissuer = "oauth2"\ngrant = "authorization_code"\n'
        f'base_url = "{vendor.address}"\ntoken_endpoint = "{vendor.address}/oauth2/token"\n'
        'credentials = "prod/acme"\nrotation = "rotates"\n'
        + ('store = "shared"\n' if store else "")
    )
    home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")


@pytest.fixture
def seeded(empty_home: Home, vendor: Vendor) -> Home:
    configure(empty_home, vendor)
    seed(empty_home, vendor)
    return empty_home


def seed(home: Home, vendor: Vendor) -> str:
    token = vendor.world.new_refresh_token()
    done = home.run("seed", "acme", stdin=token + "\n")
    assert done.code == 0, done.err
    return token


def use_with_curl(vendor: Vendor, token: str) -> None:
    """Somebody else exchanges the token."""
    answer = subprocess.run(
        [
            *("curl", "-sS", "--noproxy", "*", "-u", "demo-client:demo-secret"),
            *("-d", "grant_type=refresh_token", "--data-urlencode", f"refresh_token={token}"),
            f"{vendor.address}/oauth2/token",
        ],
        capture_output=True,
        text=True,
        timeout=patience(20),
        check=True,
    )
    assert "access_token" in json.loads(answer.stdout)


def record_file(home: Home) -> Path:
    return home.data / "prod%2Facme%2Frefresh-token.json"


def record(home: Home) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(record_file(home).read_text())["value"]
    return value


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_seeded_token_that_curl_used_first(seeded: Home, vendor: Vendor, tmp_path: Path) -> None:
    """The one moment at which a theft can be told: who held it, since when, what to revoke."""
    held = record(seeded)
    use_with_curl(vendor, held["refresh_token"])
    log = tmp_path / "audit.jsonl"
    done = seeded.run("token", NIGHTPORTER_LOG=str(log))
    assert (done.code, done.out) == (4, "")
    assert "reference: session-used-elsewhere" in done.err
    assert f"seed of {held['by']}" in done.err
    assert held["issued_at"] in done.err
    assert "nightporter logout acme --everywhere" in done.err
    assert record(seeded)["rejected"]["used_elsewhere"] is True
    noted = [event for event in events(log) if event["event"] == "used-elsewhere"]
    assert [(event["holder"], event["how"]) for event in noted] == [(held["by"], "seed")]
    shown = seeded.run("status").out
    assert "given up" in shown
    assert f"seed of {held['by']}" in shown
    (status,) = json.loads(seeded.run("status", "-o", "json").out)
    assert status["session"]["given_up"]["used_elsewhere"] is True
    assert [link["how"] for link in status["session"]["history"]] == ["seed"]
    seeded.drop_cache()  # whoever asks next is told the same, and sends nothing
    count = vendor.count("refresh")
    again = seeded.run("token")
    assert (again.code, "session-used-elsewhere" in again.err) == (4, True)
    assert vendor.count("refresh") == count
    seed(seeded, vendor)
    assert seeded.run("token").code == 0
    assert record(seeded)["rejected"] is None


def test_a_session_that_its_issuer_ended_is_no_theft(seeded: Home, vendor: Vendor) -> None:
    vendor.world.revoke_all()
    done = seeded.run("token")
    assert (done.code, "reference: session-rejected" in done.err) == (4, True)


def test_our_own_lost_answer_is_no_theft(seeded: Home, vendor: Vendor) -> None:
    """The exchange took effect, and its answer was lost: it was we who used the token."""
    vendor.fail({"kind": "lost", "call": "refresh"})
    assert seeded.run("token", "--timeout", "3").code == 6
    held = record(seeded)
    assert held["sent"] is not None
    moved = json.loads(record_file(seeded).read_text())
    moved["value"]["claim"] = None  # as if its 64 s were over
    moved["version"] += 1
    record_file(seeded).write_text(json.dumps(moved))
    seeded.drop_cache()
    done = seeded.run("token")
    assert (done.code, "reference: session-rejected" in done.err) == (4, True), done.err
    assert "used_elsewhere" not in record(seeded)["rejected"]


def test_a_restored_back_up_is_no_theft(seeded: Home, vendor: Vendor) -> None:
    backup = record_file(seeded).read_text()
    assert seeded.run("token").code == 0
    seeded.drop_cache()
    record_file(seeded).write_text(backup)
    done = seeded.run("token")
    assert (done.code, "reference: store-rolled-back" in done.err) == (5, True)


def test_the_record_keeps_a_bounded_lineage(seeded: Home, vendor: Vendor) -> None:
    """Each token names its parent, by digests that hold nothing of it."""
    tokens = [record(seeded)["refresh_token"]]
    for _ in range(9):
        assert seeded.run("token", "--force-refresh").code == 0
        tokens.append(record(seeded)["refresh_token"])
    found = record(seeded)
    history = found["history"]
    assert [link["generation"] for link in history] == list(range(3, 11))
    assert [link["how"] for link in history] == ["refresh"] * 8
    for before, after in itertools.pairwise(history):
        assert after["parent"] == before["digest"]
    assert history[-1]["digest"] == token_digest(found["lineage"], tokens[-1])
    text = json.dumps(history)
    assert not any(token[i : i + 8] in text for token in tokens for i in range(len(token) - 8))


def test_the_audit_log_knows_who_began_and_ended_a_session(
    empty_home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    home = Home(empty_home.path, {"NIGHTPORTER_LOG": str(log)})
    configure(home, vendor)
    token = seed(home, vendor)
    assert home.run("token").code == 0
    home.drop_cache()
    assert home.run("rotate").code == 0
    assert home.run("logout", "acme").code == 0
    assert home.run("logout", "acme", "--everywhere").code == 0
    assert home.run("credentials", "delete", "acme", "--yes").code == 0
    noted = events(log)
    names = [event["event"] for event in noted]
    for name in (
        *("credentials-set", "seeded", "saved", "served", "rotated", "logged-out"),
        "credentials-deleted",
    ):
        assert name in names, names
    seeded_event = next(event for event in noted if event["event"] == "seeded")
    saved = next(event for event in noted if event["event"] == "saved")
    assert saved["parent"] == seeded_event["token"]
    assert all(event["profile"] == "acme" for event in noted)
    assert token not in log.read_text()
    assert "demo-secret" not in log.read_text()
