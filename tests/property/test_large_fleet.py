"""100,000 consumers on one session: what a fleet costs its store and its vendor must not grow with
the fleet, and its reads must stay below the stores' quotas at the worst second.

The real decisions (`obtain`, `early_renewal_s`) over a store in memory that counts. Each consumer
is busy, so it renews at the very moment at which its token is due; between two such moments it
serves from its cache and asks nobody.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from lab.worlds.simulated import Clock, Direct, InMemory, profile_of, session_of
from nightporter.core.limits import early_renewal_s
from nightporter.core.model import Ask
from nightporter.session.engine import obtain
from nightporter.session.port import Stored
from nightporter.session.repository import Session
from nightporter.simulator.world import World

SECRETS_MANAGER_READS, SECRETS_MANAGER_WRITES = 10_000, 50  # a second, documented
VAULT_REQUESTS = 1_000  # a second: a small cluster
LIFE_S = 3600  # of a token


@dataclass
class Counting(InMemory):
    """A store that counts its reads second by second."""

    reads: Counter[int] = field(default_factory=Counter)

    def read(self, path: str, *, timeout_s: float) -> Stored:
        if path != "c":  # the credentials are read by who signs in alone
            self.reads[int(self.clock.now)] += 1
        return super().read(path, timeout_s=timeout_s)


@dataclass(frozen=True)
class Outcome:
    """What a fleet has cost. `decided`: how many asks were run through the engine."""

    sign_ins: int
    refreshes: int
    writes: Counter[int]
    reads: Counter[int]
    decided: int

    @property
    def exchanges(self) -> int:
        return self.sign_ins + self.refreshes


class Held(NamedTuple):
    """What of a token decides when its holder asks again."""

    ends_s: int
    life_s: float


@dataclass
class Fleet:
    """Hosts with one session, each busy: it asks when its token is due, and at no other time.

    `alike_s`: asks with the same token in hand that see the same version of the record within so
    many seconds get what the engine has decided for the first of them, and count as a read each.
    The engine's answer depends on nothing else: a host's own fraction is in the moment of its ask.
    Nought runs every ask through the engine.
    """

    room: Path
    clock: Clock
    world: World
    store: Counting
    alike_s: float
    sessions: dict[int, Session] = field(default_factory=dict)
    followed: dict[tuple[int, int | None], tuple[float, Held]] = field(default_factory=dict)
    decided: int = 0

    def ask(self, number: int, ends_s: int | None) -> Held:
        """`ends_s`: when the token ends that the host holds."""
        version = self.store.values.get(RECORD, ({}, 0))[1]
        at, found = self.followed.get((version, ends_s), (-1e9, None))
        if found is not None and self.clock.now - at < self.alike_s:
            self.store.reads[int(self.clock.now)] += 1
            return Held(found.ends_s, found.life_s - (self.clock.now - at))
        self.decided += 1
        ask = Ask(
            deadline=self.clock.now + 30,
            min_ttl_s=60,
            better_than_ends_s=ends_s,  # as a broker renews ahead
        )
        token = obtain(self._session(number), ask)
        assert self.world.is_live(token.value)
        found = Held(token.expires_at_s, token.life_s)
        if self.store.values[RECORD][1] == version:
            self.followed[version, ends_s] = (self.clock.now, found)
        else:
            self.followed.clear()
        return found

    def _session(self, number: int) -> Session:
        if number not in self.sessions:
            sender = Direct(self.world)
            self.sessions[number] = session_of(
                PROFILE, self.store, sender, self.clock, self.room, f"host-{number}"
            )
        return self.sessions[number]


RECORD = "c/refresh-token"
PROFILE = profile_of(
    'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nshare_access_token = true\n'
)


def simulate(
    consumers: int, hours: float, room: Path, *, begin: float, alike_s: float = 0.0
) -> Outcome:
    """`consumers` hosts that start within the first token's life and are busy from then on."""
    picks, clock = random.Random(7), Clock(begin)
    world = World(users={"svc": "pw"}, clock=clock)
    store = Counting(clock)
    store.values["c"] = ({"username": "svc", "password": "pw"}, 1)
    fleet = Fleet(room, clock, world, store, alike_s)
    fractions = [picks.random() for _ in range(consumers)]
    moments = [(begin + picks.uniform(0, LIFE_S), number) for number in range(consumers)]
    heapq.heapify(moments)
    held: dict[int, int] = {}
    while moments[0][0] < begin + hours * 3600:
        at, number = moments[0]
        clock.now = max(clock.now, at)
        ends_s, life_s = fleet.ask(number, held.get(number))
        held[number] = ends_s
        assert ends_s > clock.now
        due = ends_s - early_renewal_s(life_s, fractions[number])
        heapq.heapreplace(moments, (max(due, clock.now + 1), number))
    return Outcome(
        world.counts["sign-in"],
        world.counts["refresh"],
        Counter(int(at) for at in store.writes),
        store.reads,
        fleet.decided,
    )


def check(
    consumers: int, hours: float, room: Path, *, begin: float, alike_s: float = 0.0
) -> Outcome:
    found = simulate(consumers, hours, room, begin=begin, alike_s=alike_s)
    lives = hours * 3600 / (LIFE_S * 0.8) + 1  # of a token that is renewed in its last fifth
    assert found.sign_ins <= hours / 24 + 2
    assert found.exchanges <= lives + hours / 24 + 2
    assert found.writes.total() <= 2 * found.exchanges + 2
    # One read for each token that there was; who exchanges looks once more.
    assert found.reads.total() <= consumers * found.exchanges + 4 * found.exchanges
    assert max(found.reads.values()) + max(found.writes.values()) < VAULT_REQUESTS
    assert max(found.reads.values()) < SECRETS_MANAGER_READS
    assert max(found.writes.values()) < SECRETS_MANAGER_WRITES
    worst = max(found.reads, key=lambda second: found.reads[second])
    print(
        f"{consumers} consumers, {hours} h: {found.sign_ins} sign-ins, {found.refreshes} refreshes,"
        f" {found.writes.total()} writes, {found.reads.total() / consumers / hours:.2f} reads an"
        f" hour and consumer, at most {found.reads[worst]} a second"
        f" ({datetime.fromtimestamp(worst, NEW_YORK):%a %H:%M}); {found.decided} decisions"
    )
    return found


ALIKE_S = 10.0
NEW_YORK = ZoneInfo("America/New_York")
BEFORE_MIDNIGHT = datetime(2026, 7, 2, 2, tzinfo=UTC).timestamp()  # 22:00 in New York


def test_a_hundred_times_the_fleet_costs_no_more_exchanges(tmp_path: Path) -> None:
    small = check(50, 6, tmp_path / "small", begin=BEFORE_MIDNIGHT)
    large = check(2_000, 6, tmp_path / "large", begin=BEFORE_MIDNIGHT)
    assert large.sign_ins <= small.sign_ins
    assert large.refreshes <= small.refreshes + 1
    assert large.writes.total() <= small.writes.total() + 2


def test_asks_that_are_alike_are_decided_once(tmp_path: Path) -> None:
    """The short cut of the long simulation counts what the engine, asked each time, counts."""
    each = simulate(300, 30, tmp_path / "each", begin=BEFORE_MIDNIGHT)
    once = simulate(300, 30, tmp_path / "once", begin=BEFORE_MIDNIGHT, alike_s=ALIKE_S)
    assert once.decided < each.decided / 2
    assert (once.sign_ins, once.refreshes) == (each.sign_ins, each.refreshes)
    assert once.writes == each.writes
    assert once.reads == each.reads


@pytest.mark.long
def test_100_000_consumers_through_midnight(tmp_path: Path) -> None:
    check(100_000, 4, tmp_path, begin=BEFORE_MIDNIGHT)


@pytest.mark.long
def test_100_000_consumers_for_7_days(tmp_path: Path) -> None:
    """As many sign-ins, refreshes and writes as 1,000 cost, and reads below the stores' quotas."""
    week = 7 * 24
    small = check(1_000, week, tmp_path / "s", begin=BEFORE_MIDNIGHT, alike_s=ALIKE_S)
    large = check(100_000, week, tmp_path / "l", begin=BEFORE_MIDNIGHT, alike_s=ALIKE_S)
    assert large.sign_ins <= small.sign_ins
    assert large.refreshes <= small.refreshes + 7
    assert large.writes.total() <= small.writes.total() + 14
