"""A whole home that an earlier version left behind is gone on from, and nothing in it is lost:
configuration, session records with a claim in force, published tokens, a result that waits for its
store, what was seen, cached tokens, notes of failures and locks.

And the way back: what an earlier version did with records of 1.0.0rc1 that have unknown members.

`upgrade/README.md` says how it was written. A result that the first edition (5556318) left waiting
is not put back: contract 6 owes it its records alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core.record import parse_session
from nightporter.simulator.world import Grant

RECORDED = Path(__file__).parent / "upgrade"
VERSIONS = ["5556318", "6087d87", "608319d"]
WITH_JOURNAL = ["6087d87", "608319d"]
WRITTEN_AT = "127.0.0.1:18471"
SESSION = "prod%2Fpitchpoint%2Frefresh-token.json"
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def value_in(file: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(file.read_text())["value"]
    return value


def pending_in(version: str) -> dict[str, Any]:
    (file,) = (RECORDED / version / "home/data/spill").iterdir()
    record: dict[str, Any] = json.loads(file.read_text())["record"]
    return record


def move_in(home: Home, version: str, address: str) -> None:
    """Everything where it was, readable by its owner alone; the sandbox has another address, and
    refresh tokens end in the future as they did then."""
    source = RECORDED / version / "home"
    later = (datetime.now(UTC) + timedelta(hours=30)).strftime(STAMP)
    places = {"data": home.data, "shared": home.path / "shared", "cache": home.cache}
    home.configure((source / "config.toml").read_text().replace(WRITTEN_AT, address))
    for file in source.rglob("*"):
        room, *below = file.relative_to(source).parts
        if room not in places or not file.is_file():
            continue
        place = places[room].joinpath(*below)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = file.read_text().replace(WRITTEN_AT, address)
        if file.name == SESSION:
            text = re.sub(r'"expires_at": "[^"]+"', f'"expires_at": "{later}"', text)
        place.touch(mode=0o600)
        place.write_text(text)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def home(version: str, empty_home: Home, vendor: Vendor) -> Home:
    """The earlier version's home; the vendor has its sessions, and of the strict one the token that
    the answer brought whose save failed."""
    move_in(empty_home, version, vendor.address.removeprefix("http://"))
    vendor.world.sign_in("svc-acme", "correct-horse")
    _, grant = vendor.world.refresh_tokens.popitem()
    session = value_in(RECORDED / version / "home/data" / SESSION)
    vendor.world.refresh_tokens[session["refresh_token"]] = grant
    vendor.world.refresh_tokens[pending_in(version)["refresh_token"]] = grant
    vendor.world.counts.clear()
    return empty_home


def sent_tokens(home: Home) -> dict[str, Any]:
    return value_in(home.path / "shared/prod%2Fist.json")


@pytest.mark.parametrize("version", WITH_JOURNAL, indirect=True)
def test_a_result_that_waits_is_put_back(home: Home, version: str, vendor: Vendor) -> None:
    """The record still holds the token that the vendor has replaced, under a claim: what waits on
    the disk goes into the store first, and the session goes on from it."""
    before = pending_in(version)
    assert sent_tokens(home)["refresh_token"] != before["refresh_token"]
    done = home.run("token", "ist")
    assert done.code == 0, done.err
    after = sent_tokens(home)
    assert vendor.count("refresh") == 1
    assert after["lineage"] == before["lineage"]
    assert after["generation"] > before["generation"]
    kept = [link["digest"] for link in after["history"]]
    assert kept[: len(before["history"])] == [link["digest"] for link in before["history"]]
    assert not list((home.data / "spill").glob("*.json"))


@pytest.mark.parametrize("version", ["5556318"], indirect=True)
def test_a_result_of_the_first_edition_is_left_alone(home: Home) -> None:
    """It isn't put back, and nobody takes it away either: `uninstall` lists the directory."""
    (file,) = (home.data / "spill").iterdir()
    before = file.read_bytes()
    home.run("status")
    home.run("token", "pitchpoint")
    assert file.read_bytes() == before
    assert str(home.data) in home.run("uninstall", "--print").out


@pytest.mark.parametrize("version", WITH_JOURNAL, indirect=True)
def test_what_was_seen_forbids_an_older_state(home: Home, vendor: Vendor) -> None:
    """A machine remembers the newest state that it saw with the earlier version: where the store is
    set back behind it, nothing is sent."""
    (pending,) = (home.data / "spill").iterdir()
    pending.unlink()
    file = home.path / "shared/prod%2Fist.json"
    stored = json.loads(file.read_text())
    stored["value"] |= {"generation": 1, "claim": None, "sent": None}
    file.write_text(json.dumps(stored))
    done = home.run("token", "ist")
    assert (done.code, vendor.count("refresh")) == (5, 0), done.err
    assert "store-rolled-back" in done.err


def test_a_session_that_only_waits_for_its_issuer_survives(home: Home) -> None:
    """Whether its exchange fails or not, the record keeps token and generation."""
    before = value_in(home.path / "shared/prod%2Faway.json")
    done = home.run("--timeout", "2", "token", "away")
    assert done.code == 6, done.err
    after = value_in(home.path / "shared/prod%2Faway.json")
    for name in ("refresh_token", "generation", "lineage"):
        assert after.get(name) == before.get(name) or before.get(name) is None


def test_the_rest_is_read_or_dropped(home: Home, vendor: Vendor) -> None:
    """Nothing in cache, notes and locks stops a command, and no token of then is served: it may be
    of another boot."""
    cached = [json.loads(file.read_text()) for file in home.cache.glob("*.token")]
    assert cached
    for command in (["status"], ["config", "check"], ["token", "pitchpoint"], ["rotate"]):
        done = home.run("--timeout", "5", *command)
        assert "defect" not in done.err
        assert "Traceback" not in done.err
        if command != ["rotate"]:  # whose profiles are not all within reach
            assert done.code == 0, done.err
    token = home.run("token", "pitchpoint").out.strip()
    assert token in vendor.world.access_tokens
    assert token not in [found["access_token"] for found in cached]


# The way back.

OLDER = ["5556318", "6087d87"]


def back(version: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record as 1.0.0rc1 wrote it, and after the earlier version."""
    place = RECORDED / version / "back"
    return value_in(place / f"{name}.before.json"), value_in(place / f"{name}.after.json")


@pytest.mark.parametrize("version", OLDER)
@pytest.mark.parametrize("name", ["ist", "pitchpoint"])
def test_an_older_version_keeps_what_it_does_not_know(version: str, name: str) -> None:
    """A refresh and a seed by it: unknown members stay, generations grow, no link is lost."""
    before, after = back(version, name)
    assert after["of_tomorrow"] == before["of_tomorrow"]
    assert after.keys() >= before.keys()
    assert after["generation"] > before["generation"]
    assert after["history"][: len(before["history"])] == before["history"]
    assert parse_session(after) != parse_session(before)


@pytest.mark.parametrize("version", OLDER)
def test_we_go_on_from_what_an_older_version_wrote(
    version: str, empty_home: Home, vendor: Vendor
) -> None:
    """A fleet of two versions: its record is ours to refresh, with its own lineage."""
    address = vendor.address.removeprefix("http://")
    move_in(empty_home, version, address)
    stored = json.loads((RECORDED / version / "back/ist.after.json").read_text())
    stored = json.loads(json.dumps(stored).replace(WRITTEN_AT, address))
    file = empty_home.path / "shared/prod%2Fist.json"
    file.write_text(json.dumps(stored))
    vendor.world.refresh_tokens[stored["value"]["refresh_token"]] = Grant(family="f")
    done = empty_home.run("token", "ist")
    assert done.code == 0, done.err
    after = value_in(file)
    assert (after["lineage"], after["of_tomorrow"]) == (
        stored["value"]["lineage"],
        stored["value"]["of_tomorrow"],
    )
    assert after["generation"] == stored["value"]["generation"] + 1
