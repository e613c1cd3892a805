"""kill -9 at every step from claim to publish, on every store, with a vendor that revokes the
family on reuse."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.patience import patience, until, within
from lab.worlds.fleet import (
    STORES,
    Fleet,
    Shared,
    finish,
    open_shared,
    rotating_fleet,
    signing_in_fleet,
    wait_until_stopped,
)
from lab.worlds.vendor import Vendor

STEPS = ("claim", "claim-won", "send", "answered", "save", "saved")


@pytest.fixture(params=STORES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with open_shared(request.param, request, tmp_path) as found:
        yield found


@pytest.mark.parametrize("step", STEPS)
def test_a_sign_in_killed_anywhere(
    shared: Shared, vendor: Vendor, tmp_path: Path, step: str
) -> None:
    fleet = signing_in_fleet(shared, vendor, tmp_path, share_access_token=True)
    assert fleet.run(fleet.machine(), fault=f"{step}:kill").code == -signal.SIGKILL
    done = fleet.run(fleet.machine())
    assert done.code == 0, done.err
    assert fleet.is_alive()
    sent_before = step in ("answered", "save", "saved")
    assert vendor.count("sign-in") == (1 if not sent_before or step == "saved" else 2)
    assert vendor.count("refresh") == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_killed_anywhere(
    shared: Shared, vendor: Vendor, tmp_path: Path, step: str
) -> None:
    """No session is lost that a saved reply could have kept; the one window ends in a clear
    word."""
    fleet = rotating_fleet(shared, vendor, tmp_path)
    assert fleet.run(fleet.machine(), fault=f"{step}:kill").code == -signal.SIGKILL
    done = fleet.run(fleet.machine())
    if step in ("answered", "save"):  # the vendor has rotated, and the bytes were never written
        assert done.code == 4, done.err
        assert "seed" in fleet.machine().run("token").err
        # It is the only copy, so it stays; but nobody sends it again.
        assert fleet.record()["refresh_token"]
        assert fleet.record()["rejected"]["error"] == "invalid_grant"
        sent = vendor.count("refresh") + vendor.count("reuse")
        assert fleet.run(fleet.machine()).code == 4
        assert vendor.count("refresh") + vendor.count("reuse") == sent
    else:
        assert done.code == 0, done.err
        assert fleet.is_alive()
        assert vendor.count("reuse") == 0


@pytest.mark.parametrize("step", ["answered", "save"])
def test_the_window_is_closed_where_the_vendor_gives_a_grace(
    shared: Shared, vendor: Vendor, tmp_path: Path, step: str
) -> None:
    vendor.world.grace_s = 60
    fleet = rotating_fleet(shared, vendor, tmp_path, grace="60s")
    fleet.run(fleet.machine(), fault=f"{step}:kill")
    assert fleet.run(fleet.machine()).code == 0
    assert fleet.is_alive()


@pytest.mark.parametrize("fleet_of", [signing_in_fleet, rotating_fleet], ids=["reused", "rotates"])
def test_two_hosts(shared: Shared, vendor: Vendor, tmp_path: Path, fleet_of: object) -> None:
    """The holder is frozen between its exchange and its save; another takes over; the first wakes
    and is fenced."""
    vendor.world.grace_s = 300
    fleet: Fleet = (
        signing_in_fleet(shared, vendor, tmp_path, share_access_token=True)
        if fleet_of is signing_in_fleet
        else rotating_fleet(shared, vendor, tmp_path, grace="300s")
    )
    first = fleet.start(fleet.machine(), fault="save:stop")
    try:
        wait_until_stopped(first)
        held = fleet.record()
        assert held["claim"] is not None
        # It waits until the claim has lived for its whole time, on its own clock.
        second = fleet.run(fleet.machine(), LEAP="0.1")
        assert second.code == 0, second.err
        assert "take-over" in second.err
        newest = fleet.record()
        os.kill(first.pid, signal.SIGCONT)
        done = finish(first)
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
    assert "fenced" in done.err
    assert done.code == 0, done.err
    assert done.out == second.out  # it adopted what the other had written
    assert fleet.record() == newest
    assert fleet.is_alive()
    assert newest["generation"] == held["generation"] + 1


@pytest.mark.parametrize("name", ["term", "int"])
def test_a_signal_between_send_and_save_waits_for_the_save(
    shared: Shared, vendor: Vendor, tmp_path: Path, name: str
) -> None:
    fleet = rotating_fleet(shared, vendor, tmp_path)
    done = fleet.run(fleet.machine(), fault=f"answered:{name}")
    assert done.code != 0
    assert "saved" in done.err
    assert done.out == ""
    assert fleet.is_alive()
    assert fleet.run(fleet.machine()).code == 0


def test_ctrl_c_in_the_real_command_while_the_vendor_thinks(
    shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(shared, vendor, tmp_path)
    vendor.fail({"kind": "hang", "seconds": min(patience(1.5), 8), "call": "refresh"})
    process = fleet.machine().start("token", "acme")
    until(lambda: vendor.count("refresh"))
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert done.out == ""
    # The exchange goes on without the command.
    until(lambda: fleet.record()["claim"] is None)
    assert fleet.is_alive()


def test_a_dead_holder_on_this_machine_is_free_at_once(
    shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = rotating_fleet(shared, vendor, tmp_path)
    fleet.run(fleet.machine(), fault="claim-won:kill")
    with within(10):  # a claim lives for 16 s
        assert fleet.run(fleet.machine()).code == 0


def test_in_lambda_nobody_is_called_dead(shared: Shared, vendor: Vendor, tmp_path: Path) -> None:
    """Its environments look alike: host name, pid 1, boot."""
    fleet = rotating_fleet(shared, vendor, tmp_path)
    fleet.run(fleet.machine(), fault="claim-won:kill", AWS_LAMBDA_FUNCTION_NAME="f")
    done = fleet.run(
        fleet.machine(), AWS_LAMBDA_FUNCTION_NAME="f", TIMEOUT=str(min(patience(3), 12))
    )
    assert done.code == 6
    assert "claim-busy" in done.err
