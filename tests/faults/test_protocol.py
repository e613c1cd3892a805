"""The session protocol with real processes and real stores: slow vendors, lost answers, clocks that
are off, stores that were set back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience, until
from lab.support import BIN
from lab.worlds.fleet import (
    STORES,
    Fleet,
    Shared,
    finish,
    open_shared,
    rotating_fleet,
    signing_in_fleet,
)
from lab.worlds.vendor import Vendor


@pytest.fixture(params=STORES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with open_shared(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with open_shared("local", request, tmp_path) as found:
        yield found


def slow(seconds: float) -> float:
    """What outlasts a command here and now, and no claim."""
    return min(patience(seconds), 14)


def has_no_claim(fleet: Fleet) -> bool:
    return fleet.record()["claim"] is None


# Exchanges are listened to.


@pytest.mark.parametrize("grace_s", [0, 10])
def test_a_slow_answer_is_not_thrown_away_by_our_own_limit(
    shared: Shared, vendor: Vendor, tmp_path: Path, grace_s: int
) -> None:
    """The vendor answers after the time limit: the command says that the exchange goes on, and its
    result is saved by who listens."""
    vendor.world.grace_s = grace_s
    more = {"grace": f"{grace_s}s"} if grace_s else {}
    fleet = rotating_fleet(shared, vendor, tmp_path, **more)
    late_s = slow(4)
    vendor.fail({"kind": "late", "seconds": late_s, "call": "refresh"})
    home = fleet.machine()
    done = home.run("--timeout", str(late_s / 2), "token", "acme")
    assert (done.code, done.out) == (6, "")
    assert "exchange-continues" in done.err
    until(lambda: has_no_claim(fleet))
    assert fleet.is_alive()
    assert (vendor.count("refresh"), vendor.count("reuse")) == (1, 0)
    assert fleet.machine().run("token", "acme").code == 0
    assert vendor.count("reuse") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_who_listens(
    local: Shared, vendor: Vendor, tmp_path: Path, number: signal.Signals
) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    vendor.fail({"kind": "late", "seconds": 6, "call": "refresh"})
    process = fleet.machine().start("token", "acme")
    until(lambda: vendor.count("refresh") == 1)
    process.send_signal(number)
    done = finish(process)  # its streams are closed at once: nothing of the finisher holds them
    assert done.out == ""
    assert done.code == (-number if number == signal.SIGKILL else 6)
    until(lambda: has_no_claim(fleet))
    assert fleet.is_alive()
    assert vendor.count("reuse") == 0


def test_a_cached_token_is_served_while_the_exchange_goes_on(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """A renewal ahead of time waits for 2 s, and is saved when it comes."""
    fleet = rotating_fleet(local, vendor, tmp_path, min_ttl=5)
    vendor.world.expires_in = 1000
    home = fleet.machine()
    first = home.run("token", "acme").out
    (cached,) = home.cached()
    entry = json.loads(cached.read_text())
    cached.write_text(json.dumps({**entry, "ends": entry["ends"] - 900}))
    vendor.fail({"kind": "late", "seconds": slow(4), "call": "refresh"})
    done = home.run("token", "acme")
    assert (done.code, done.out) == (0, first)
    until(lambda: has_no_claim(fleet))
    assert fleet.is_alive()


def test_a_library_ends_after_its_exchange(local: Shared, vendor: Vendor, tmp_path: Path) -> None:
    """A thread that the interpreter waits for saves what comes after the time limit."""
    fleet = rotating_fleet(local, vendor, tmp_path)
    home = fleet.machine()
    late_s = slow(3)
    vendor.fail({"kind": "late", "seconds": late_s, "call": "refresh"})
    code = (
        "import nightporter\n"
        f"try: nightporter.get_token('acme', timeout={late_s / 3})\n"
        "except nightporter.IssuerError as exc: print(exc.reference)\n"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", code], env=home.environment, capture_output=True, text=True
    )
    assert done.stdout == "exchange-continues\n", done.stderr
    assert fleet.is_alive()
    assert has_no_claim(fleet)


def test_two_lost_answers_within_the_grace(local: Shared, vendor: Vendor, tmp_path: Path) -> None:
    vendor.world.grace_s = 30
    fleet = rotating_fleet(local, vendor, tmp_path, grace="30s")
    vendor.fail({"kind": "lost", "times": 2, "call": "refresh"})
    done = fleet.machine().run("--timeout", "20", "token", "acme")
    assert done.code == 0, done.err
    assert fleet.is_alive()
    assert vendor.count("reuse") == 0


def test_what_a_200_brought_is_read_in_any_wrapping(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """gzip that nobody asked for, and a form-encoded body."""
    fleet = rotating_fleet(local, vendor, tmp_path)
    for kind in ("gzip", "form"):
        vendor.fail({"kind": kind, "call": "refresh"})
        done = fleet.machine().run("token", "acme", "--force-refresh")
        assert done.code == 0, done.err
        assert fleet.is_alive()


# Attempts.


def test_a_killed_fleet_with_a_wrong_password(
    shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """Killed before the refusal comes, eight times on two machines: two attempts. A corrected
    password is tried at once."""
    fleet = signing_in_fleet(shared, vendor, tmp_path)
    vendor.world.users = {"svc-acme": "changed"}
    machines = [fleet.machine(), fleet.machine()]
    for index in range(8):
        fleet.run(machines[index % 2], fault="answered:kill", TIMEOUT=str(slow(3)))
    assert vendor.count("sign-in") == 2
    vendor.world.users = {"svc-acme": "correct-horse"}
    home = fleet.machine()
    done = home.run("--timeout", "60", "token", "acme")
    assert (done.code, done.out) == (6, "")
    assert "sign-in-unsettled" in done.err
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    assert home.run("credentials", "set", "acme", stdin=members).code == 0
    assert home.run("--timeout", "60", "token", "acme").code == 0


def test_a_throttled_sign_in_is_left_alone_by_the_fleet(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = signing_in_fleet(local, vendor, tmp_path)
    vendor.fail(
        {
            "kind": "status",
            "status": 429,
            "times": 99,
            "headers": {"Retry-After": "120"},
            "body": {},
        }
    )
    first = fleet.machine().run("--timeout", str(patience(5)), "token", "acme")
    assert first.code == 6, first.err
    seen = vendor.count("sign-in")
    second = fleet.machine().run("--timeout", str(patience(5)), "token", "acme")
    assert second.code == 6
    assert "not to be called again before" in second.err
    assert vendor.count("sign-in") == seen == 1
    assert fleet.record()["busy"]["call"] == "sign-in"
    assert fleet.record()["attempts"] == {}


# Clocks.


@pytest.mark.parametrize("offset", ["-600", "-12", "12", "600"])
def test_clocks_that_are_off(shared: Shared, vendor: Vendor, tmp_path: Path, offset: str) -> None:
    """A machine whose clock is wrong by minutes neither breaks a claim nor poisons the others."""
    vendor.world.expires_in = 900
    fleet = rotating_fleet(shared, vendor, tmp_path)
    vendor.fail({"kind": "late", "seconds": slow(3), "call": "refresh"})
    first = fleet.start(fleet.machine(), CLOCK_OFFSET=offset)
    until(lambda: vendor.count("refresh") == 1)
    second = fleet.run(fleet.machine())
    done = finish(first)
    assert (done.code, second.code) == (0, 0), done.err + second.err
    assert done.out == second.out
    assert (vendor.count("refresh"), vendor.count("reuse")) == (1, 0)
    ends = json.loads(fleet.machine().run("token", "acme", "-o", "json").out)["expires_at"]
    from nightporter.core.expiry import parse_rfc3339

    assert abs(parse_rfc3339(ends) - time.time() - 900) < 30


# Records.


def set_record(fleet: Fleet, **members: Any) -> None:
    """Writes over the record of a local store."""
    (file,) = (fleet.root / "shared-store").glob("*refresh-token.json")
    document = json.loads(file.read_text())
    document["value"] |= members
    document["version"] += 1
    file.write_text(json.dumps(document))


def test_a_store_that_was_set_back(local: Shared, vendor: Vendor, tmp_path: Path) -> None:
    """The machine that has seen the newer token does not send the older one."""
    fleet = rotating_fleet(local, vendor, tmp_path)
    home = fleet.machine()
    (file,) = (tmp_path / "shared-store").glob("*refresh-token.json")
    home.run("token", "acme")
    backup = file.read_text()
    home.run("token", "acme", "--force-refresh")
    file.write_text(backup)
    home.drop_cache()
    done = home.run("token", "acme", "--force-refresh")
    assert done.code == 5, done.err
    assert "store-rolled-back" in done.err
    assert vendor.count("reuse") == 0
    assert "was set back" in home.run("doctor", "acme").out + home.run("doctor", "acme").err
    home.run("doctor", "acme", "--repair")
    assert home.run("token", "acme", "--force-refresh").code == 4  # a person has decided


def test_a_newer_version_s_record_is_left_alone(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    set_record(fleet, schema=2, novel={"kept": True})
    before = fleet.record()
    done = fleet.machine().run("token", "acme")
    assert done.code == 5
    assert "newer nightporter" in done.err
    assert fleet.record() == before
    seed = vendor.world.new_refresh_token()
    assert fleet.machine().run("seed", "acme", stdin=seed).code == 0
    assert fleet.machine().run("token", "acme").code == 0


def test_a_failing_sign_in_keeps_another_identity_s_record(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = signing_in_fleet(local, vendor, tmp_path)
    assert fleet.machine().run("token", "acme").code == 0
    set_record(fleet, username="somebody-else", novel=1)
    before = fleet.record()
    vendor.world.users = {"svc-acme": "changed"}
    done = fleet.machine().run("token", "acme")
    assert done.code == 3, done.err
    assert done.err.count("foreign-record") == 1
    after = fleet.record()
    kept = {key: after[key] for key in before if key not in ("attempts", "lineage")}
    assert kept == {key: before[key] for key in kept}
    vendor.world.users = {"svc-acme": "correct-horse"}
    assert fleet.machine().run("token", "acme").code == 0
    assert fleet.record()["username"] == "svc-acme"


def test_one_spurious_refusal_loses_no_session(
    shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(shared, vendor, tmp_path)
    vendor.fail(
        {"kind": "status", "status": 400, "call": "refresh", "body": {"error": "invalid_grant"}}
    )
    done = fleet.machine().run("token", "acme")
    assert done.code == 0, done.err
    assert fleet.is_alive()


def test_a_planted_access_token_is_not_served_for_ever(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    set_record(
        fleet,
        access_token="EVIL-TOKEN",
        access_token_expires_at="9999-12-31T23:59:59Z",
        by="\x1b]0;owned\x07",
    )
    home = fleet.machine()
    status = home.run("status", "acme")
    assert "\x1b]" not in status.out + status.err
    done = home.run("token", "acme")
    assert done.code == 0, done.err
    assert "EVIL" not in done.out
    assert "EVIL" not in json.dumps(fleet.record())


def test_a_claim_in_the_far_future_stops_nobody(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """`until` is for people: a claim that is older than it lives has lapsed, whatever it says."""
    fleet = rotating_fleet(local, vendor, tmp_path)
    claim = {"holder": "x/1/1", "until": "9999-12-31T23:59:59Z", "nonce": "n", "machine": None}
    set_record(fleet, claim=claim)
    (file,) = (tmp_path / "shared-store").glob("*refresh-token.json")
    os.utime(file, (time.time() - 70, time.time() - 70))
    done = fleet.machine().run("--timeout", str(slow(8)), "token", "acme")
    assert done.code == 0, done.err


def test_a_stopped_process_does_not_block_its_machine(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """The machine's lock is economy: nobody waits for it longer than a claim lives."""
    vendor.world.grace_s = 300
    fleet = rotating_fleet(local, vendor, tmp_path, grace="300s")
    home = fleet.machine()
    first = fleet.start(home, fault="send:stop")
    try:
        until(lambda: fleet.record()["claim"] is not None)
        done = home.run("--timeout", "60", "token", "acme")
        assert done.code == 0, done.err
    finally:
        first.kill()
        finish(first)


# Pending results.


def test_a_pending_result_survives_a_respelled_profile(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    store, away = tmp_path / "shared-store", tmp_path / "away"
    home = fleet.machine()
    assert fleet.run(home, fault=f"answered:mv {store} {away} && touch {store}").code == 5
    store.unlink()
    away.rename(store)
    config = home.config_file.read_text()
    home.configure(config.replace("[profiles.acme]", '[profiles.acme]\nusername = "somebody"'))
    home.run("token", "acme")
    home.configure(config)
    assert home.run("token", "acme").code == 0
    assert fleet.is_alive()
    assert vendor.count("reuse") == 0


def test_a_logout_elsewhere_outlives_a_pending_result(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    store, away = tmp_path / "shared-store", tmp_path / "away"
    home = fleet.machine()
    assert fleet.run(home, fault=f"answered:mv {store} {away} && touch {store}").code == 5
    store.unlink()
    away.rename(store)
    assert fleet.machine().run("logout", "acme", "--everywhere").code == 0
    done = home.run("token", "acme")
    assert done.code == 4, done.err
    assert fleet.record()["refresh_token"] is None
    assert list((home.data / "spill").iterdir()) == []
