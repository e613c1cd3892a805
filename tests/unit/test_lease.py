"""The lease of one exchange: how long it may be sent under, and what becomes of a result that the
store doesn't accept. The flows are driven by hand, with the clocks stepped apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from nightporter.core.config import parse_config
from nightporter.core.errors import (
    NightporterError,
    ResultPendingError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreRolledBackError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
    WriteBudgetError,
)
from nightporter.core.model import Identity, Secret, SessionRecord
from nightporter.core.record import PendingResult, render_session
from nightporter.issuers import VENDORS
from nightporter.issuers.oauth import Call
from nightporter.session import effects
from nightporter.session.driver import Runtime
from nightporter.session.lease import Lease, Records
from nightporter.session.port import ABSENT, Stored, Version
from nightporter.session.transitions import Snapshot, snapshot_of
from nightporter.stores import STORES

NOW, BOOT = 1_784_037_600.0, 5_000.0
IDENTITY = Identity(issuer="x", token_endpoint="y")
RESULT = SessionRecord(
    identity=IDENTITY,
    refresh_token=Secret("new"),
    access_token=Secret("access"),
    access_token_expires_at=int(NOW) + 3600,
    generation=2,
    issued_at=int(NOW),
    exchanged_at=int(NOW),
    lineage="l",
)


@dataclass
class World:
    """A store of one path whose next writes can fail, clocks, and a disk."""

    wall_s: float = NOW
    boot_s: float = BOOT
    value: dict[str, Any] | None = None
    version: Version = ABSENT
    fates: list[str | NightporterError] = field(default_factory=list)
    read_error: NightporterError | None = None
    write_s: float = 0.0
    writes: int = 0
    pending: list[PendingResult] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    has_disk: bool = True

    def lease(self, *, per_day: int | None = None) -> Lease:
        text = '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n'
        profile = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]
        runtime = Runtime(
            clock=lambda: self.wall_s,
            monotonic=lambda: self.boot_s,
            boot=lambda: self.boot_s,
            uniform=lambda low, high: (low + high) / 2,
            holder="host-1/7/9",
            host="host-1",
            emit=lambda event, **_facts: self.events.append(event),
        )
        return Lease(Records(profile=profile, runtime=runtime, versions_per_day=per_day))

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.read(), seen_at=self.boot_s)

    def read(self) -> Stored:
        if self.read_error:
            raise self.read_error
        return Stored(self.value, self.version, written_at=self.wall_s, now=self.wall_s)

    def write(self, effect: effects.Write) -> Version:
        self.writes += 1
        self.wall_s += self.write_s
        self.boot_s += self.write_s
        fate = self.fates.pop(0) if self.fates else "done"
        if isinstance(fate, NightporterError):
            raise fate
        if effect.expected.token != self.version.token:
            raise VersionConflictError("another was first")
        self.value = dict(effect.value)
        self.version = Version(str(int(self.version.token or 0) + 1))
        if fate == "unheard":
            raise StoreUnreachableError("the answer was lost")
        if fate == "overtaken":
            self.value = {**self.value, "claim": None, "refresh_token": "another's"}
            self.version = Version(str(int(self.version.token) + 1))
            raise StoreUnreachableError("the answer was lost")
        return self.version

    def do(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.Read():
                return self.read()
            case effects.Write():
                return self.write(effect)
            case effects.Sleep():
                self.wall_s += effect.seconds
                self.boot_s += effect.seconds
            case effects.KeepPending():
                if self.has_disk:
                    self.pending.append(effect.pending)
                return self.has_disk
        return None

    def run(self, flow: effects.Flow[Any]) -> Any:
        """Drives a flow to its end."""
        answer, error = None, None
        while True:
            try:
                effect = flow.throw(error) if error else flow.send(answer)
            except StopIteration as done:
                return done.value
            answer, error = None, None
            try:
                answer = self.do(effect)
            except NightporterError as exc:
                error = exc

    def take(self, lease: Lease) -> Snapshot | None:
        """Claims the record, which is absent at first, for a sign-in."""
        seen = self.snapshot()
        base = seen.record or SessionRecord(identity=IDENTITY, refresh_token=None, lineage="l")
        found: Snapshot | None = self.run(
            lease.taking(
                seen,
                base,
                base=base,
                purpose=Call.SIGN_IN,
                deadline=self.boot_s + 30,
                is_takeover=False,
            )
        )
        return found

    def claimed(self) -> tuple[Lease, Snapshot]:
        lease = self.lease()
        snapshot = self.take(lease)
        assert snapshot is not None
        return lease, snapshot


@pytest.fixture
def world() -> World:
    return World()


# How long may be sent under a claim.


@pytest.mark.parametrize(("later_s", "may"), [(0, True), (3.9, True), (4.1, False)])
def test_it_is_sent_under_within_four_seconds(world: World, later_s: float, may: bool) -> None:
    """A frozen holder wakes up to a claim that is no longer its own."""
    lease, _ = world.claimed()
    world.boot_s += later_s
    assert lease.is_young() == may
    assert lease.may_begin() == may


@pytest.mark.parametrize("step_s", [-3600, -12, 12, 3600])
def test_a_stepped_wall_clock_changes_nothing(world: World, step_s: float) -> None:
    """The holder's age counts on the clock since boot alone."""
    lease, _ = world.claimed()
    world.wall_s += step_s
    world.boot_s += 3.9
    assert lease.is_young()
    world.boot_s += 0.2
    assert not lease.is_young()


def test_the_age_counts_from_before_the_first_try(world: World) -> None:
    """A write that takes 3 s, and is repeated once, has used the four seconds up."""
    world.write_s, world.fates = 3.0, [StoreUnreachableError("away")]
    lease, _ = world.claimed()
    assert lease.age_s() > 6
    assert not lease.is_young()


def test_nothing_more_is_sent_once_an_outcome_is_unknown(world: World) -> None:
    """A second send within one claim needs to know the first's outcome."""
    lease, _ = world.claimed()
    lease.is_spent = True
    assert not lease.is_young()


def test_a_claim_whose_answer_was_lost_is_known_by_its_nonce(world: World) -> None:
    """The repeated write collides with our own success, and a read shows the nonce."""
    world.fates = ["unheard"]
    lease, snapshot = world.claimed()
    assert lease.claim is not None
    assert world.value is not None
    assert world.value["claim"]["nonce"] == lease.claim.nonce
    assert snapshot.version == world.version


def test_the_loser_of_a_claim_is_told_so(world: World) -> None:
    """Also on an absent record, where a cold storm begins."""
    other = world.lease()
    snapshot = world.snapshot()
    world.claimed()
    base = SessionRecord(identity=IDENTITY, refresh_token=None)
    flow = other.taking(
        snapshot, base, base=base, purpose=Call.SIGN_IN, deadline=BOOT + 9, is_takeover=False
    )
    assert world.run(flow) is None
    assert world.events.count("claim-lost") == 1


def test_two_lost_claims_in_a_row_are_no_alarm(world: World) -> None:
    """Waiters poll; only a version that never gives way for seconds means a store that was set
    back."""
    lease, held = world.lease(), Version("7")
    base = SessionRecord(identity=IDENTITY, refresh_token=None)
    seen = Snapshot(record=base, version=held)

    def lose() -> None:
        world.version = Version("8")
        flow = lease.taking(
            seen,
            base,
            base=base,
            purpose=Call.SIGN_IN,
            deadline=world.boot_s + 9,
            is_takeover=False,
        )
        assert world.run(flow) is None

    for _ in range(2):
        lose()
        world.boot_s += 1
    world.boot_s += 5
    with pytest.raises(StoreRolledBackError):
        lose()


def test_a_right_that_is_missing_is_named_before_anything_is_sent(world: World) -> None:
    """Who can't write the claim exits 5."""
    world.fates = [StoreDeniedError("denied", right="update on x")]
    with pytest.raises(StoreDeniedError, match="nothing was sent") as raised:
        world.claimed()
    assert raised.value.right == "update on x"


def test_the_versions_of_a_day_are_counted(world: World) -> None:
    """With 100 versions a day the 51st claim in a row is refused, and the next day's is not."""
    lease = world.lease(per_day=100)
    for _ in range(50):
        assert world.take(lease) is not None
    with pytest.raises(WriteBudgetError):
        world.take(lease)
    world.wall_s += 1800
    world.boot_s += 1800
    assert world.take(lease) is not None


# Saving.


def save(world: World, lease: Lease, snapshot: Snapshot) -> bool:
    return bool(world.run(lease.saving(snapshot, RESULT)))


def test_a_result_is_written_over_our_claim(world: World) -> None:
    """Nothing is on the disk then."""
    lease, snapshot = world.claimed()
    assert save(world, lease, snapshot)
    assert world.value == render_session(RESULT)
    assert world.pending == []


def test_a_store_that_is_away_for_a_moment_is_tried_again(world: World) -> None:
    """The save goes on while the claim lives, and nothing is left on the disk."""
    lease, snapshot = world.claimed()
    world.fates = [StoreUnreachableError("away"), StoreBusyError("busy"), StoreUnreachableError("")]
    assert save(world, lease, snapshot)
    assert world.pending == []
    assert world.value == render_session(RESULT)


def test_a_store_that_stays_away_leaves_the_result_on_the_disk(world: World) -> None:
    """Until the claim's end it is tried, and then the result is kept with the claim's nonce."""
    lease, snapshot = world.claimed()
    nonce = lease.claim.nonce if lease.claim else ""
    world.fates = [StoreUnreachableError("away")] * 100
    with pytest.raises(ResultPendingError):
        save(world, lease, snapshot)
    assert 12 <= world.boot_s - BOOT <= 16
    (kept,) = world.pending
    assert (kept.nonce, dict(kept.record)) == (nonce, render_session(RESULT))
    assert lease.is_left


def test_neither_store_nor_disk_is_said(world: World) -> None:
    """Its hint names what has to be writable."""
    lease, snapshot = world.claimed()
    world.has_disk, world.fates = False, [StoreDeniedError("no", right="w")]
    with pytest.raises(StoreError, match="neither the store nor the data directory"):
        save(world, lease, snapshot)


def test_a_denied_save_is_not_repeated(world: World) -> None:
    """A permission doesn't come back within seconds; the result is safe on the disk."""
    lease, snapshot = world.claimed()
    world.fates, before = [StoreDeniedError("no", right="w")], world.writes
    with pytest.raises(ResultPendingError):
        save(world, lease, snapshot)
    assert world.writes == before + 1


def test_a_save_whose_answer_was_lost_is_ours(world: World) -> None:
    """Its repetition collides, and the store shows our own value."""
    lease, snapshot = world.claimed()
    world.fates = ["unheard"]
    assert save(world, lease, snapshot)


def test_a_save_that_another_overtook_is_fenced(world: World) -> None:
    """The value in the store is another's: our result is dropped, and never served."""
    lease, snapshot = world.claimed()
    world.fates = ["overtaken"]
    assert not save(world, lease, snapshot)
    assert "fenced" in world.events
    assert world.pending == []


def test_an_ambiguous_save_that_can_not_be_looked_at_is_fenced(world: World) -> None:
    """Where the read fails too, the result must not be served."""
    lease, snapshot = world.claimed()
    world.fates = ["overtaken"]
    world.read_error = StoreUnreachableError("away")
    assert not save(world, lease, snapshot)


def test_a_conflict_at_the_first_write_is_another_s_takeover(world: World) -> None:
    """No read is needed to know that."""
    lease, snapshot = world.claimed()
    world.version = Version("99")
    world.read_error = StoreUnreachableError("away")
    assert not save(world, lease, snapshot)


def test_a_result_that_is_too_large_is_saved_without_its_access_token(world: World) -> None:
    """The refresh token is what must not be lost."""
    lease, snapshot = world.claimed()
    world.fates = [StoreValueError("too large")]
    assert save(world, lease, snapshot)
    assert world.value is not None
    assert world.value["refresh_token"] == "new"
    assert "access" not in world.value.values()


def test_a_holder_that_slept_for_half_a_day_writes_nothing(world: World) -> None:
    """A store may have forgotten the version that would fence it off."""
    lease, snapshot = world.claimed()
    world.boot_s += 12 * 3600 + 1
    before = world.writes
    assert not save(world, lease, snapshot)
    assert world.writes == before


def test_a_store_that_was_not_asked_yet_costs_no_try(world: World) -> None:
    """Sixty cold starts on one machine need half a minute for their clients."""
    busy = StoreUnreachableError("not ready")
    busy.is_unasked = True
    world.fates = [busy] * 20
    lease, _ = world.claimed()
    assert lease.claim is not None


def test_a_store_that_is_away_is_tried_five_times(world: World) -> None:
    """Whatever time there would be left."""
    world.fates = [StoreUnreachableError("away")] * 20
    with pytest.raises(StoreUnreachableError):
        world.claimed()
    assert world.writes == 5


# Giving back.


def test_a_claim_under_which_nothing_was_sent_is_given_back(world: World) -> None:
    """The record is then as it was before."""
    lease, _ = world.claimed()
    world.run(lease.releasing())
    assert world.value is not None
    assert world.value.get("claim") is None


@pytest.mark.parametrize("flag", ["is_spent", "is_left"])
def test_a_claim_with_an_unknown_outcome_lapses(world: World, flag: str) -> None:
    """To give it back would let another send at once."""
    lease, _ = world.claimed()
    setattr(lease, flag, True)
    world.run(lease.releasing())
    assert world.value is not None
    assert world.value["claim"] is not None
