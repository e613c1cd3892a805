"""Rules of a session that no outcome of a whole story shows: which shared token is good for an ask,
for how long an answer is listened to, what is kept without a claim, what is published and swept.
The store is a dictionary, and both clocks are the test's."""

from __future__ import annotations

from typing import Any

import pytest

from lab.still import (
    BOOT,
    NOW,
    REUSED,
    ROTATING,
    SHARING,
    World,
    ask,
    reply,
)
from nightporter.core.errors import (
    SessionRejectedError,
    StoreRolledBackError,
)
from nightporter.core.model import (
    Ask,
    Attempt,
    Claim,
    Credentials,
    Secret,
    Token,
)
from nightporter.core.record import PendingResult, render_session
from nightporter.core.values import replace
from nightporter.issuers.oauth import Call
from nightporter.session.engine import obtain
from nightporter.session.exchange import Exchange
from nightporter.session.lifecycle import Holding
from nightporter.session.port import ABSENT
from nightporter.session.repository import KnownCredentials
from nightporter.session.transitions import Snapshot

# Which shared token is good for an ask.


@pytest.mark.parametrize(("min_ttl_s", "is_good"), [(29, True), (30, False), (60, False)])
def test_a_shared_token_has_more_left_than_is_asked_for(min_ttl_s: float, is_good: bool) -> None:
    """One with exactly as much left would be less by the time it is used."""
    world = World()
    assert world.exchange(min_ttl_s=min_ttl_s).sight.is_shared_fresh(world.seen()) is is_good


def test_a_refused_token_is_not_served_from_the_record() -> None:
    """A client has reported it, whichever machine wrote it there."""
    world = World()
    for refused, is_good in (("A1", False), ("A0", True)):
        found = world.exchange(
            min_ttl_s=5, is_refused=lambda value, refused=refused: value == refused
        )
        assert found.sight.is_shared_fresh(world.seen()) is is_good


@pytest.mark.parametrize(
    ("news_from", "waits", "is_good"),
    [(3, 1, True), (4, 1, False), (3, 0, False), (None, 1, False)],
)
def test_what_a_holder_wrote_meanwhile_is_adopted_whatever_is_left(
    news_from: int | None, waits: int, is_good: bool
) -> None:
    """A vendor of short tokens would otherwise be asked once more by every waiter; what was there
    before, or came without our waiting for it, is held to `min_ttl`."""
    world = World()
    sight = world.exchange(min_ttl_s=600).sight
    sight.news_from, sight.waits = news_from, waits
    assert sight.is_shared_fresh(world.seen()) is is_good


def test_what_is_in_the_record_is_nobody_s_where_sharing_is_off() -> None:
    """An older configuration may have left it there; and no record holds no token."""
    world = World(SHARING.replace("share_access_token = true", "share_access_token = false"))
    assert not world.exchange(min_ttl_s=0).sight.is_shared_fresh(world.seen())
    nothing = Snapshot(version=ABSENT)
    assert not World().exchange(min_ttl_s=0).sight.is_shared_fresh(nothing)


def test_not_even_news_is_served_after_its_end() -> None:
    """It is adopted while anything is left of it."""
    world = World()
    sight = world.exchange(min_ttl_s=600).sight
    sight.news_from, sight.waits = 3, 1
    assert not sight.is_shared_fresh(world.seen(access_token_expires_at=NOW))


@pytest.mark.parametrize(("held_s", "is_better"), [(27.9, True), (28, False), (30, False)])
def test_who_renews_ahead_takes_a_better_token_alone(held_s: float, is_better: bool) -> None:
    """Stores tell whole seconds: what ends within two of them may be the very same token."""
    world = World()
    found = world.exchange(min_ttl_s=0, better_than_ends_s=BOOT + held_s)
    assert found.sight.is_shared_fresh(world.seen()) is is_better


def test_a_forced_ask_is_not_answered_by_the_record() -> None:
    """It wants an exchange that began after it."""
    world = World()
    assert not world.exchange(is_forced=True, min_ttl_s=0).sight.is_shared_fresh(world.seen())


def test_a_slow_sign_in_is_waited_for_where_nobody_may_sign_in() -> None:
    """After two sign-ins without a known outcome its holder still saves over a claim that has
    lapsed; a session that lives has no such holder."""
    world = World()
    claim = Claim(holder="other/1/1", until=NOW, nonce="n", life_s=16)
    attempts = {"k": Attempt(count=2, at=NOW - 20)}
    sight = world.exchange().sight
    credentials = Credentials(version="1")
    sight.known.credentials = KnownCredentials(credentials=credentials, key="k")
    for age_s, empty, alive in ((20.0, "BUSY", "LAPSED"), (33.0, "LAPSED", "LAPSED")):
        seen = replace(world.seen(claim=claim, attempts=attempts), age_s=age_s)
        assert sight.claimed(seen, Holding.ABSENT).name == empty
        assert sight.claimed(seen, Holding.ALIVE).name == alive


# How long an answer is listened to.


def test_the_answer_to_a_rotating_token_is_listened_to_for_a_minute() -> None:
    """Whatever --timeout says: the token that comes with it would be lost."""
    assert World(ROTATING).exchange().listen_s(Call.REFRESH) == 60


def test_everything_else_ends_with_the_ask_or_after_ten_seconds() -> None:
    """A sign-in, or the refresh of a token that is reused, can be made again."""
    short = World(REUSED).exchange()
    assert short.listen_s(Call.SIGN_IN) == 2
    assert short.listen_s(Call.REFRESH) == 2
    long = Exchange(short.session, Ask(deadline=BOOT + 30))
    assert long.listen_s(Call.REFRESH) == 10


def test_in_lambda_it_is_listened_to_until_the_invocation_ends() -> None:
    """What its clock leaves is the bound there."""
    world = World(ROTATING)
    world.session.runtime = replace(world.session.runtime, listen_left_s=lambda: 7.0)
    assert world.exchange().listen_s(Call.REFRESH) == 7


# What is kept without a claim.


@pytest.mark.parametrize("change", [{"refresh_token": Secret("R2")}, {"expires_at": NOW + 9}])
def test_a_reused_token_that_came_back_changed_is_kept(change: dict[str, Any]) -> None:
    """Without a claim, over the very version that was seen."""
    world = World(REUSED)
    world.put()
    after = world.record(generation=5, **change)
    assert world.session.run(world.exchange().keeping_changed(world.seen(), after))
    for name, value in change.items():
        assert getattr(world.kept(), name) == value


def test_a_reused_token_that_came_back_the_same_costs_no_write() -> None:
    """Consumers of a reused token need no right to write."""
    world = World(REUSED)
    world.put()
    after = world.record(generation=5)
    assert not world.session.run(world.exchange().keeping_changed(world.seen(), after))
    assert world.kept().generation == 4


def test_nothing_is_kept_over_another_s_claim() -> None:
    """Its holder writes the newer state."""
    world = World(REUSED)
    world.put()
    claim = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)
    after = world.record(generation=5, refresh_token=Secret("R2"))
    assert not world.session.run(world.exchange().keeping_changed(world.seen(claim=claim), after))
    assert world.kept().refresh_token == Secret("R1")


def test_who_may_not_write_goes_on_without() -> None:
    """The token that was asked for is there."""
    world = World(REUSED, is_denied=True)
    after = world.record(generation=5, refresh_token=Secret("R2"))
    assert not world.session.run(world.exchange().keeping_changed(world.seen(), after))


# What is published.


def token(generation: int, left_s: int) -> Token:
    return Token(
        Secret(f"A{generation}"),
        token_type="Bearer",
        expires_at_s=NOW + left_s,
        obtained_at_s=float(NOW),
        exchanged_at_s=float(NOW),
        generation=generation,
        ends_s=BOOT + left_s,
        life_s=float(left_s),
    )


@pytest.mark.parametrize(
    ("generation", "left_s", "wins"),
    [(5, 3598, False), (5, 3599, False), (5, 3602, True), (6, 600, True), (4, 600, False)],
)
def test_a_published_token_is_replaced_by_a_better_one_alone(
    generation: int, left_s: int, wins: bool
) -> None:
    """Of two jobs the slower one may write last."""
    world = World()
    world.session.publish(token(5, 3600), BOOT + 5)
    world.session.publish(token(generation, left_s), BOOT + 5)
    assert (world.values["a"][1] == 2) is wins


# Sweeping, and what a person brings.


def test_an_ended_refresh_token_is_swept() -> None:
    """Its bytes are gone; counts and lineage stay."""
    world = World()
    world.put(expires_at=NOW, access_token_expires_at=NOW)
    assert world.session.sweep(world.session.read(BOOT + 5), BOOT + 5)
    assert "R1" not in str(world.values["r"][0])
    assert (world.kept().generation, world.kept().lineage) == (4, "l")


@pytest.mark.parametrize("expires_at", [NOW + 1, None])
def test_a_living_refresh_token_is_not_swept(expires_at: int | None) -> None:
    """It is the only copy."""
    world = World()
    world.put(expires_at=expires_at)
    assert not world.session.sweep(world.session.read(BOOT + 5), BOOT + 5)
    assert world.kept().refresh_token == Secret("R1")


def test_nothing_is_swept_under_another_s_claim() -> None:
    """Its holder is about to replace it."""
    world = World()
    claim = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)
    world.put(expires_at=NOW, claim=claim)
    assert not world.session.sweep(world.session.read(BOOT + 5), BOOT + 5)
    assert world.kept().refresh_token == Secret("R1")


def test_a_seed_settles_results_that_wait() -> None:
    """A person has decided about the session: an older result is not put back over it."""
    world = World()
    world.put()
    pending = PendingResult(
        nonce="n", record=render_session(world.record()), at=NOW, is_sign_in=False, name="x"
    )
    world.waiting = [pending]
    world.session.store_login(
        Secret("S1"), issued_at=NOW, client=None, issued=None, deadline=BOOT + 5
    )
    assert world.waiting == []
    assert world.kept().refresh_token == Secret("S1")
    assert world.kept().generation == 5


# Whole asks, where a rule shows in what is sent.


REJECTED = reply(400, error="invalid_grant")


@pytest.mark.parametrize(("generation", "sends"), [(3, 1), (4, 1), (5, 0)])
def test_from_an_older_state_than_was_seen_here_nothing_is_sent(
    generation: int, sends: int
) -> None:
    """The store was set back: the refresh token in it may have been used long ago."""
    world = World(ROTATING, highest_seen=generation)
    world.put(access_token=None, access_token_expires_at=None)
    world.answers = [reply(200, access_token="A2", refresh_token="R2", expires_in=600)]
    if sends:
        assert obtain(world.session, ask()).value == "A2"
    else:
        with pytest.raises(StoreRolledBackError):
            obtain(world.session, ask())
    assert len(world.sent) == sends


def test_a_token_that_was_refused_twice_is_marked_with_the_issuer_s_code() -> None:
    """It stays in the record, and nobody sends it again: not even in another ask."""
    world = World(ROTATING)
    world.put(access_token=None, access_token_expires_at=None)
    world.answers = [REJECTED, REJECTED]
    for _ in range(2):
        with pytest.raises(SessionRejectedError) as rejected:
            obtain(world.session, ask())
        assert rejected.value.error == "invalid_grant"
        assert "nightporter seed p" in rejected.value.hint
    assert len(world.sent) == 2
    mark = world.kept().rejected
    assert mark is not None
    assert (mark.error, world.kept().refresh_token) == ("invalid_grant", Secret("R1"))
