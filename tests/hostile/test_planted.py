"""Records that somebody else has written: what they tell is bounded, and printable when shown."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lab.support import Done, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

ESCAPES = "\x1b]0;OWNED\x07\x1b[2J\u202e\u2066\x9b31m\r\u200b\u2028"
SAFE_CONTROLS = "\n"


def is_printable(text: str) -> bool:
    return all(char.isprintable() or char in SAFE_CONTROLS for char in text)


def dirty(value: Any) -> Any:
    """Every text of a record with escapes in it."""
    if isinstance(value, dict):
        return {key: dirty(item) for key, item in value.items()}
    return f"{value}{ESCAPES}" if isinstance(value, str) else value


@pytest.fixture
def signed_in(home: Home) -> Home:
    assert home.run("token").code == 0
    return home


COMMANDS = (
    ("status",),
    ("timeline",),
    ("doctor",),
    ("token", "--force-refresh", "--timeout", "2"),
    ("rotate", "--all"),
    ("logout", "--everywhere"),
)

PLANTED: dict[str, dict[str, Any]] = {
    "by": {"by": f"host{ESCAPES}"},
    "claim": {
        "claim": {
            "holder": f"x/1/1{ESCAPES}",
            "until": "2099-01-01T00:00:00Z",
            "nonce": f"n{ESCAPES}",
            "machine": f"m{ESCAPES}",
            "life": 16,
        }
    },
    "refused": {
        "refused": {
            "credentials_version": "1",
            "until": "2099-01-01T00:00:00Z",
            "count": 2,
            "error": "\x1b]52;c;aGk=\x07",
        }
    },
    "user": {"username": f"eve{ESCAPES}", "issuer": f"pitchpoint{ESCAPES}"},
    "rejected": {
        "rejected": {"digest": ESCAPES, "error": f"invalid_grant{ESCAPES}", "at": f"x{ESCAPES}"}
    },
    "unknown": {f"key{ESCAPES}": ESCAPES, "lineage": ESCAPES, "sent": ESCAPES, "busy": ESCAPES},
    "types": {"by": 7, "claim": [], "refused": "x", "attempts": 3, "generation": "many"},
}


@pytest.mark.parametrize("case", PLANTED)
def test_no_escape_reaches_a_stream(signed_in: Home, case: str) -> None:
    """A record's writer could drive the terminal of who watches (CVE-2024-50349)."""
    signed_in.set_record(**PLANTED[case])
    for command in COMMANDS[:4:3]:
        done = signed_in.run(*command)
        assert is_printable(done.out), (command, done.out)
        assert is_printable(done.err), (command, done.err)
        assert "reference: defect" not in done.err, done.err


def test_every_text_of_the_record_at_once(signed_in: Home) -> None:
    file = signed_in.record_file()
    document = json.loads(file.read_text())
    document["value"] = dirty(document["value"])
    file.write_text(json.dumps(document))
    for command in COMMANDS:
        done = signed_in.run(*command)
        assert is_printable(done.out + done.err), command
        assert "reference: defect" not in done.err, done.err


def at(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


@pytest.fixture
def shared(home: Home, vendor: Vendor) -> Home:
    home.configure(
        pitchpoint_config(
            vendor.address,
            more='share_access_token = true\npublish_access_token = "prod/pitchpoint/access"',
        )
    )
    assert home.run("token").code == 0
    return home


@pytest.mark.parametrize(
    "members",
    [
        {"access_token_expires_at": "9999-12-31T23:59:59Z", "exchanged_at": "2020-01-01T00:00:00Z"},
        {"access_token_expires_at": "9999-12-31T23:59:59Z", "exchanged_at": at(9e6)},
        {"access_token_expires_at": "9999-12-31T23:59:59Z", "exchanged_at": None},
        {"token_type": "Basic", "access_token_expires_at": at(3000)},
        {"token_type": "bearer\r\nX: y", "access_token_expires_at": at(3000)},
    ],
    ids=["old", "to come", "never", "Basic", "a header"],
)
def test_a_shared_token_that_is_not_plausible(shared: Home, members: dict[str, Any]) -> None:
    shared.set_record(access_token="EVIL-TOKEN", **members)
    shared.drop_cache()
    done = shared.run("token")
    assert "EVIL-TOKEN" not in done.out
    assert done.code == 0, done.err


def test_a_planted_token_ends_with_the_right_to_plant_it(shared: Home) -> None:
    """The record is clean again: the machine that had adopted the token gives it up within a day,
    and at once with a forced exchange; nothing says 9999."""
    clean = shared.record()
    shared.set_record(
        access_token="EVIL-TOKEN",
        access_token_expires_at="9999-12-31T23:59:59Z",
        exchanged_at=at(-60),
    )
    shared.drop_cache()
    adopted = json.loads(shared.run("token", "-o", "json").out)
    if adopted["access_token"] == "EVIL-TOKEN":
        assert adopted["expires_at"] < at(25 * 3600)
    shared.set_record(**clean)
    done = shared.run("token", "--force-refresh")
    assert done.code == 0, done.err
    assert "EVIL-TOKEN" not in shared.run("token").out


@pytest.mark.parametrize("generation", [2**53 - 1, 2**53, 10**40])
def test_a_planted_published_token(shared: Home, vendor: Vendor, generation: int) -> None:
    """Readers take it for a day at most, and the job publishes over it."""
    file = shared.data / "prod%2Fpitchpoint%2Faccess.json"
    assert shared.run("rotate", "--access", "--all").code == 0
    document = json.loads(file.read_text())
    document["value"] |= {
        "access_token": "EVIL-TOKEN",
        "expires_at": "9999-12-31T23:59:59Z",
        "generation": generation,
    }
    document["version"] += 1
    file.write_text(json.dumps(document))
    for _ in range(2):
        rotated = shared.run("rotate", "--access", "--all")
    assert "reference: defect" not in rotated.err
    now = json.loads(file.read_text())["value"]
    assert now["access_token"] != "EVIL-TOKEN"
    assert vendor.world.is_live(now["access_token"])


def plant_published(home: Home, **members: object) -> None:
    file = home.data / "prod%2Fpitchpoint%2Faccess.json"
    document = json.loads(file.read_text())
    document["value"] |= {"access_token": "EVIL", **members}
    document["version"] += 1
    file.write_text(json.dumps(document))


def test_doctor_tells_a_planted_token(shared: Home) -> None:
    """It had no word, and status told when a token ends that nobody is given. What doctor says to
    type writes over both."""
    assert shared.run("rotate", "--access", "--all").code == 0
    assert "implausible-token" not in shared.run("doctor").out
    never = "9999-12-31T23:59:59Z"
    shared.set_record(access_token="EVIL", access_token_expires_at=never)
    plant_published(shared, expires_at=never)
    said = shared.run("doctor").out
    assert "published at 'prod/pitchpoint/access' is implausible" in said
    assert "shared at 'prod/pitchpoint/refresh-token' is implausible" in said
    status = shared.run("status").out
    assert "given to nobody" in status
    assert "9999" not in status
    for command in ("token pitchpoint --force-refresh", "rotate pitchpoint --access"):
        assert f"nightporter {command}" in said
        assert shared.run(*command.split()).code == 0
    assert "implausible-token" not in shared.run("doctor").out


def read_only(home: Home, vendor: Vendor) -> Done:
    more = 'role = "read-only"\npublish_access_token = "prod/pitchpoint/access"'
    home.configure(pitchpoint_config(vendor.address, more=more))
    return home.run("token", "-o", "json")


def test_a_reader_s_token_ends_within_a_day(shared: Home, vendor: Vendor) -> None:
    file = shared.data / "prod%2Fpitchpoint%2Faccess.json"
    assert shared.run("rotate", "--access", "--all").code == 0
    document = json.loads(file.read_text())
    document["value"] |= {"access_token": "EVIL", "expires_at": "9999-12-31T23:59:59Z"}
    document["version"] += 1
    file.write_text(json.dumps(document))
    shared.drop_cache()
    done = read_only(shared, vendor)
    if done.code == 0:
        assert json.loads(done.out)["expires_at"] < at(25 * 3600)
