"""What earlier versions wrote is read and served (contract 6).

`upgrade/README.md` says how it was written."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core.model import SessionRecord
from nightporter.core.record import parse_session, render_session

RECORDED = Path(__file__).parent / "upgrade"
VERSIONS = ["5556318", "6087d87"]
WRITTEN_AT = "127.0.0.1:18471"
RECORD = "prod%2Fpitchpoint%2Frefresh-token.json"


def recorded(version: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((RECORDED / version / "store" / RECORD).read_text())["value"]
    return value


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_is_read_and_loses_nothing_when_written_again(version: str) -> None:
    """Every member, also one that nobody knows yet, is as it was."""
    value = {**recorded(version), "of_tomorrow": {"kept": [1, 2]}}
    record = parse_session(value)
    assert isinstance(record, SessionRecord)
    written = render_session(record)
    assert {name: written.get(name) for name in value} == value


@pytest.fixture(params=VERSIONS)
def upgraded(request: pytest.FixtureRequest, empty_home: Home, vendor: Vendor) -> Home:
    """A home as the earlier version left it, but for address and ends; the vendor has its session.

    The record has a member of a later version."""
    source = RECORDED / request.param
    address = vendor.address.removeprefix("http://")
    empty_home.configure((source / "config.toml").read_text().replace(WRITTEN_AT, address))
    empty_home.data.mkdir(parents=True, mode=0o700)
    later = (datetime.now(UTC) + timedelta(hours=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for file in (source / "store").iterdir():
        stored = json.loads(file.read_text().replace(WRITTEN_AT, address))
        if file.name == RECORD:
            stored["value"] |= {"expires_at": later, "of_tomorrow": [7]}
        place = empty_home.data / file.name
        place.touch(mode=0o600)
        place.write_text(json.dumps(stored))
    empty_home.cache.mkdir(parents=True, mode=0o700)
    for file in source.glob("*.token"):
        shutil.copy(file, empty_home.cache)
        (empty_home.cache / file.name).chmod(0o600)
    vendor.world.sign_in("svc-acme", "correct-horse")
    _, grant = vendor.world.refresh_tokens.popitem()
    vendor.world.refresh_tokens[recorded(request.param)["refresh_token"]] = grant
    vendor.world.counts.clear()
    return empty_home


def test_a_session_goes_on(upgraded: Home, vendor: Vendor) -> None:
    """It is refreshed, nobody signs in, and what the old cache held is not taken for an answer."""
    shown = upgraded.run("status", "pitchpoint", "-o", "json")
    assert shown.code == 0, shown.err
    done = upgraded.run("token", "pitchpoint")
    assert done.code == 0, done.err
    assert done.out.strip() in vendor.world.access_tokens
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (0, 1)


def test_what_a_rotation_writes_keeps_unknown_members(upgraded: Home, vendor: Vendor) -> None:
    """`seed` replaces the session, and still leaves what it doesn't know."""
    before = json.loads((upgraded.data / RECORD).read_text())
    done = upgraded.run("seed", "pitchpoint", stdin="a-new-refresh-token\n")
    assert done.code == 0, done.err
    after = json.loads((upgraded.data / RECORD).read_text())
    assert after["value"]["of_tomorrow"] == [7]
    assert after["version"] > before["version"]
    assert after["value"]["generation"] > before["value"]["generation"]


def test_the_configuration_is_valid(upgraded: Home) -> None:
    """A file that was valid stays valid."""
    assert upgraded.run("config", "check").code == 0
