"""When a 401 causes another exchange: once in five minutes a profile, and not for a token younger
than a minute (contract, section 5)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

import pytest

from nightporter.client.bearer import _Renewal
from nightporter.client.porter import Porter
from nightporter.client.renewals import Renewals
from nightporter.core.model import Secret, Token


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakePorter:
    """Hands out token-1 until it is refused, then the next."""

    clock: Clock
    age_s: float = 600.0
    number: int = 1
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.renewals = Renewals(self.clock)

    def get_token(self, _profile: str | None) -> Token:
        begun = time.time() - self.age_s
        return Token(
            Secret(f"token-{self.number}"),
            token_type="Bearer",
            expires_at_s=int(begun) + 3600,
            obtained_at_s=begun,
            exchanged_at_s=begun,
        )

    def refuse(self, _profile: str | None, value: str) -> None:
        self.refused.append(value)
        self.number += 1


def renewed(porter: FakePorter) -> str | None:
    renewal = _Renewal(cast(Porter, porter), "p")
    fresh = renewal.after_401(porter.get_token("p"))
    return None if fresh is None else fresh.value


@pytest.mark.parametrize(("later_s", "second"), [(0, None), (299.9, None), (300, "token-3")])
def test_one_renewal_in_five_minutes(later_s: float, second: str | None) -> None:
    """A vendor that answers 401 to everything costs one exchange in five minutes."""
    clock = Clock()
    porter = FakePorter(clock)
    assert renewed(porter) == "token-2"
    clock.now += later_s
    assert renewed(porter) == second


@pytest.mark.parametrize(("age_s", "is_renewed"), [(55, False), (65, True)])
def test_a_token_younger_than_a_minute_is_not_the_reason(age_s: float, is_renewed: bool) -> None:
    """Another one would fare no better: the 401 is the caller's."""
    porter = FakePorter(Clock(), age_s=age_s)
    assert (renewed(porter) is not None) == is_renewed
    assert bool(porter.refused) == is_renewed


def test_profiles_are_apart() -> None:
    """One profile's renewal says nothing of another's."""
    renewals = Renewals(Clock())
    renewals.note("p")
    assert renewals.is_recent("p")
    assert not renewals.is_recent("q")
    assert renewals.lock("p") is renewals.lock("p")
    assert renewals.lock("p") is not renewals.lock("q")


def test_a_token_that_another_thread_renewed_is_taken() -> None:
    """Of ten threads with one refused token the first exchanges."""
    porter = FakePorter(Clock())
    old = porter.get_token("p")
    assert renewed(porter) == "token-2"
    fresh = _Renewal(cast(Porter, porter), "p").after_401(old)
    assert fresh is not None
    assert fresh.value == "token-2"
    assert porter.refused == ["token-1"]
