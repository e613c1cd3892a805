"""Rules of the session room that no other test reaches: the write budget, a label that was moved
back, skew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import boto3
import pytest

from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import Home, pitchpoint_config
from lab.worlds.simulated import Clock, Direct, InMemory, profile_of, session_of
from lab.worlds.vendor import Vendor
from nightporter.core.errors import StoreRolledBackError, WriteBudgetError
from nightporter.core.model import Ask
from nightporter.issuers.oauth import Response
from nightporter.session.engine import obtain
from nightporter.session.port import ABSENT
from nightporter.simulator.world import World
from nightporter.stores.secrets_manager import SecretsManagerStore

TEXT = 'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nshare_access_token = true\n'


def test_the_write_budget_refuses_a_claim_and_never_a_result(tmp_path: Path) -> None:
    clock = Clock(1_784_037_600.0)
    world, store = World(users={"svc": "pw"}, clock=clock), InMemory(clock)
    store.values["c"] = ({"username": "svc", "password": "pw"}, 1)
    session = session_of(profile_of(TEXT), store, Direct(world), clock, tmp_path, "host")
    exchanges = 0
    with pytest.raises(WriteBudgetError, match="100 versions a day"):
        for _ in range(200):
            obtain(session, Ask(deadline=clock.now + 30, is_forced=True))
            exchanges += 1
            clock.now += 60
    assert 48 <= exchanges <= 54
    assert len(store.writes) == exchanges * 2
    record, _ = store.values["c/refresh-token"]
    assert record["claim"] is None
    clock.now += 3600
    obtain(session, Ask(deadline=clock.now + 30, is_forced=True))


class Frozen(Direct):
    """The machine sleeps for two hours while the first answer is on its way."""

    def send(self, *args: Any, **more: Any) -> Response:
        response = super().send(*args, **more)
        clock = cast(Clock, self.world.clock)
        clock.now += 7200 if sum(self.world.counts.values()) == 1 else 0
        return response


def test_a_token_that_has_ended_when_it_arrives_is_not_handed_out(tmp_path: Path) -> None:
    """What came late is exchanged again."""
    clock = Clock(1_784_037_600.0)
    world, store = World(users={"svc": "pw"}, clock=clock), InMemory(clock)
    store.values["c"] = ({"username": "svc", "password": "pw"}, 1)
    session = session_of(profile_of(TEXT), store, Frozen(world), clock, tmp_path, "host")
    token = obtain(session, Ask(deadline=clock.now + 100_000))
    assert token.left_s(wall_s=clock.now, boot_s=clock.now) > 3000
    assert dict(world.counts) == {"sign-in": 1, "refresh": 1}


@pytest.mark.usefixtures("aws_environment")
def test_a_label_that_a_person_moved_back_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    with open_strict_aws(StrictAws()) as address:
        store = SecretsManagerStore({"endpoint_url": address})
        store.write("c", {"username": "svc", "password": "pw"}, ABSENT, None, timeout_s=5)
        world, clock = World(users={"svc": "pw"}), Clock(time.time())
        session = session_of(profile_of(TEXT), store, Direct(world), clock, tmp_path, "host")
        obtain(session, Ask(deadline=clock.now + 30))
        client = boto3.client("secretsmanager", endpoint_url=address)
        versions = client.describe_secret(SecretId="c/refresh-token")["VersionIdsToStages"]
        current = next(version for version, labels in versions.items() if "AWSCURRENT" in labels)
        previous = next(version for version, labels in versions.items() if "AWSPREVIOUS" in labels)
        client.update_secret_version_stage(
            SecretId="c/refresh-token",
            VersionStage="AWSCURRENT",
            MoveToVersionId=previous,
            RemoveFromVersionId=current,
        )
        clock.now += 60  # what it holds is the claim, which has run out
        with pytest.raises(StoreRolledBackError) as rolled:
            obtain(session, Ask(deadline=clock.now + 60, is_forced=True))
        assert "AWSCURRENT" in rolled.value.hint
        store.close()


def test_a_clock_that_is_off_is_said_and_changes_no_expiry(home: Home, vendor: Vendor) -> None:
    vendor.world.clock_offset_s = 3600
    home.configure(pitchpoint_config(vendor.address))
    done = home.run("-v", "token")
    assert done.code == 0
    assert "clock-skew" in done.err
    assert "issuer_is_ahead_s=3" in done.err
    assert abs(time.time() - _issued_at(home)) < 60


def _issued_at(home: Home) -> float:
    from nightporter.core.expiry import parse_rfc3339

    return parse_rfc3339(home.record()["issued_at"])
