"""At Eastern midnight every consumer finds the refresh token dead at once: 60 cold processes in the
long tier, 20 at every change, one session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.worlds.fleet import Shared, open_shared, rotating_fleet, signing_in_fleet
from lab.worlds.storm import run_storm
from lab.worlds.vendor import Vendor

CONSUMERS = 60
FEW = 20


def long_run(*values: object) -> object:
    """The other store, or the whole storm, in the long tier."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.fixture
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with open_shared(request.param, request, tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("shared", "consumers"),
    [
        ("vault", FEW),
        long_run("vault", CONSUMERS),
        pytest.param("moto", CONSUMERS, marks=pytest.mark.clients),
    ],
    indirect=["shared"],
)
def test_a_cold_storm_on_an_absent_record(
    shared: Shared, vendor: Vendor, tmp_path: Path, consumers: int
) -> None:
    """The world's worst beginning: no record, not a dead one; each process on a host of its own."""
    vendor.world.latency_s = 0.1
    outcome = run_storm(signing_in_fleet(shared, vendor, tmp_path), consumers, kills=0)
    assert outcome.count(0) == consumers, [done.err for done in outcome.done if done.code][:3]
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize("shared", [long_run("vault"), long_run("moto")], indirect=True)
def test_one_sign_in(shared: Shared, vendor: Vendor, tmp_path: Path) -> None:
    vendor.world.latency_s = 0.1
    outcome = run_storm(signing_in_fleet(shared, vendor, tmp_path), CONSUMERS)
    assert outcome.count(0) == CONSUMERS, [done.err for done in outcome.done if done.code][:3]
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    "shared", [pytest.param("moto", marks=pytest.mark.clients), long_run("vault")], indirect=True
)
def test_with_sharing_no_refresh_at_all(shared: Shared, vendor: Vendor, tmp_path: Path) -> None:
    vendor.world.latency_s = 0.1
    outcome = run_storm(
        signing_in_fleet(shared, vendor, tmp_path, share_access_token=True), CONSUMERS
    )
    assert outcome.count(0) == CONSUMERS, [done.err for done in outcome.done if done.code][:3]
    assert vendor.count("sign-in") == 1
    assert vendor.count("refresh") <= 1
    assert len({done.out for done in outcome.done}) == 1


@pytest.mark.parametrize("shared", [long_run("vault"), long_run("moto")], indirect=True)
def test_a_rotating_token_is_sent_once(shared: Shared, vendor: Vendor, tmp_path: Path) -> None:
    vendor.world.latency_s = 0.1
    fleet = rotating_fleet(shared, vendor, tmp_path)
    outcome = run_storm(fleet, CONSUMERS)
    assert outcome.count(0) == CONSUMERS, [done.err for done in outcome.done if done.code][:3]
    assert (vendor.count("refresh"), vendor.count("reuse")) == (1, 0)
    assert fleet.is_alive()


@pytest.mark.parametrize(
    ("shared", "consumers"),
    [("vault", FEW), long_run("vault", CONSUMERS), long_run("moto", CONSUMERS)],
    indirect=["shared"],
)
def test_a_wrong_password_is_tried_at_most_three_times(
    shared: Shared, vendor: Vendor, tmp_path: Path, consumers: int
) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    outcome = run_storm(signing_in_fleet(shared, vendor, tmp_path), consumers)
    assert outcome.count(3) == consumers, [done.err for done in outcome.done if done.code != 3][:3]
    assert vendor.count("sign-in") <= 3
