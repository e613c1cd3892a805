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

import pytest

from lab.worlds.simulated import Clock, Direct, InMemory, profile_of, session_of
from nightporter.core.limits import early_renewal_s
from nightporter.core.model import Ask, Token
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
    """What a fleet has cost."""

    sign_ins: int
    refreshes: int
    writes: Counter[int]
    reads: Counter[int]


def simulate(consumers: int, hours: float, room: Path, *, begin: float) -> Outcome:
    """`consumers` hosts that start within the first token's life and are busy from then on."""
    picks, clock = random.Random(7), Clock(begin)
    world = World(users={"svc": "pw"}, clock=clock)
    store = Counting(clock)
    store.values["c"] = ({"username": "svc", "password": "pw"}, 1)
    profile = profile_of(
        'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nshare_access_token = true\n'
    )
    fractions = [picks.random() for _ in range(consumers)]
    sessions: list[Session] = [
        session_of(profile, store, Direct(world), clock, room, f"host-{number}")
        for number in range(consumers)
    ]
    moments = [(begin + picks.uniform(0, LIFE_S), number) for number in range(consumers)]
    heapq.heapify(moments)
    held: dict[int, Token] = {}
    while moments and moments[0][0] < begin + hours * 3600:
        at, number = heapq.heappop(moments)
        clock.now = max(clock.now, at)
        before = held.get(number)
        ask = Ask(
            deadline=clock.now + 30,
            min_ttl_s=60,
            better_than_ends_s=before.expires_at_s if before else None,  # as a broker renews ahead
        )
        token = held[number] = obtain(sessions[number], ask)
        assert world.is_live(token.value)
        due = token.expires_at_s - early_renewal_s(token.life_s, fractions[number])
        heapq.heappush(moments, (max(due, clock.now + 1), number))
    return Outcome(
        world.counts["sign-in"],
        world.counts["refresh"],
        Counter(int(at) for at in store.writes),
        store.reads,
    )


def check(consumers: int, hours: float, room: Path, *, begin: float) -> Outcome:
    found = simulate(consumers, hours, room, begin=begin)
    lives = hours * 3600 / (LIFE_S * 0.8) + 1  # of a token that is renewed in its last fifth
    assert found.sign_ins <= hours / 24 + 2
    assert found.sign_ins + found.refreshes <= lives + hours / 24 + 2
    assert found.writes.total() <= 2 * (found.sign_ins + found.refreshes) + 2
    assert found.reads.total() <= consumers * (lives + 1) * 1.02
    assert max(found.reads.values()) + max(found.writes.values()) < VAULT_REQUESTS
    assert max(found.reads.values()) < SECRETS_MANAGER_READS
    assert max(found.writes.values()) < SECRETS_MANAGER_WRITES
    print(
        f"{consumers} consumers, {hours} h: {found.sign_ins} sign-ins, {found.refreshes} refreshes,"
        f" {found.writes.total()} writes, {found.reads.total() / consumers / hours:.2f} reads an"
        f" hour and consumer, at most {max(found.reads.values())} a second"
    )
    return found


BEFORE_MIDNIGHT = datetime(2026, 7, 2, 2, tzinfo=UTC).timestamp()  # 22:00 in New York


def test_a_hundred_times_the_fleet_costs_no_more_exchanges(tmp_path: Path) -> None:
    small = check(50, 6, tmp_path / "small", begin=BEFORE_MIDNIGHT)
    large = check(2_000, 6, tmp_path / "large", begin=BEFORE_MIDNIGHT)
    assert large.sign_ins <= small.sign_ins
    assert large.refreshes <= small.refreshes + 1
    assert large.writes.total() <= small.writes.total() + 2


@pytest.mark.long
def test_100_000_consumers_through_midnight(tmp_path: Path) -> None:
    check(100_000, 4, tmp_path, begin=BEFORE_MIDNIGHT)
