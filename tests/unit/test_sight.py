"""What one attempt sees in a record, row by row: whose it is, what may be sent from it, who holds
the claim, and what a fresh record goes on from."""

from __future__ import annotations

from typing import Any

import pytest

from lab.still import BOOT, NOW, REUSED, ROTATING, SHARING, World
from nightporter.core.model import (
    Attempt,
    Busy,
    Claim,
    Credentials,
    Identity,
    Refusal,
    Rejected,
    Secret,
)
from nightporter.core.record import ForeignRecord, Remains
from nightporter.core.values import replace
from nightporter.session import transitions
from nightporter.session.lifecycle import Bar, Claimed, Holding
from nightporter.session.port import ABSENT, Version
from nightporter.session.repository import KnownCredentials
from nightporter.session.sight import Sight
from nightporter.session.transitions import Snapshot

OTHER = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)
REFUSED = Refusal(credentials_version="1", until=NOW + 99, count=1, error="e", key="k")
WORLD = World(ROTATING)


def sight(world: World = WORLD, **ask: Any) -> Sight:
    return world.exchange(**ask).sight


def foreign(**more: Any) -> Snapshot:
    record = ForeignRecord(reason="r", generation=9, lineage="f", refused=REFUSED, **more)
    return Snapshot(version=Version("7", 7), foreign=record, now=float(NOW), seen_at=BOOT)


# What the record is to us.


@pytest.mark.parametrize(
    ("members", "ask", "holding"),
    [
        ({}, {}, Holding.ALIVE),
        ({}, {"is_sign_in": True}, Holding.REPLACING),
        ({"refresh_token": None}, {}, Holding.EMPTY),
        ({"expires_at": NOW + 1}, {}, Holding.ALIVE),
        ({"expires_at": NOW}, {}, Holding.ABSENT),
        ({"identity": Identity(issuer="x", token_endpoint="y")}, {}, Holding.FOREIGN),
    ],
)
def test_what_a_record_is_to_us(
    members: dict[str, Any], ask: dict[str, Any], holding: Holding
) -> None:
    """By its identity, its refresh token and its end."""
    assert sight(**ask).holding(WORLD.seen(**members)) is holding


def test_what_is_no_record_of_ours() -> None:
    """Nothing, something else, or a newer version's."""
    assert sight().holding(Snapshot(version=ABSENT)) is Holding.ABSENT
    assert sight().holding(foreign()) is Holding.FOREIGN
    assert sight().holding(foreign(is_newer=True)) is Holding.NEWER


def test_a_marked_token_is_sent_by_a_person_alone() -> None:
    """And a mark of another token says nothing of this one."""
    marked = transitions.marked_record(WORLD.record(), error="e", now=float(NOW))
    seen = replace(WORLD.seen(), record=marked)
    assert sight().holding(seen) is Holding.REJECTED
    assert sight(retry_refused=True).holding(seen) is Holding.ALIVE
    other = replace(marked, refresh_token=Secret("R9"))
    assert sight().holding(replace(seen, record=other)) is Holding.ALIVE
    assert marked.rejected == Rejected(
        digest=transitions.digest_of(marked), error="e", at=NOW, is_elsewhere=False
    )
    assert (marked.refresh_token, marked.access_token) == (Secret("R1"), None)


@pytest.mark.parametrize(
    ("world", "count", "can_mark", "holding"),
    [
        (WORLD, 1, True, Holding.DOUBTED),
        (WORLD, 2, True, Holding.CONDEMNED),
        (WORLD, 3, True, Holding.CONDEMNED),
        (WORLD, 1, False, Holding.REJECTED),
        (World(REUSED), 1, True, Holding.REJECTED),
    ],
)
def test_the_only_copy_is_not_given_up_on_one_word(
    world: World, count: int, can_mark: bool, holding: Holding
) -> None:
    """But where a sign-in needs nobody, or who was refused may not write."""
    found = sight(world)
    found.can_mark = can_mark
    found.rejections = {Secret("R1"): count}
    assert found.holding(world.seen()) is holding
    assert found.holding(world.seen(refresh_token=Secret("R2"))) is Holding.ALIVE


# What must be known before it can be judged.


@pytest.mark.parametrize(
    ("text", "members", "must"),
    [
        (SHARING, {}, False),
        (SHARING, {"refused": REFUSED}, True),
        (SHARING, {"attempts": {"k": Attempt(count=1, at=NOW)}}, True),
        (SHARING, {"username": "svc"}, True),
        (SHARING + 'username = "svc"\n', {"username": "svc"}, False),
    ],
)
def test_when_the_credentials_must_be_read(text: str, members: dict[str, Any], must: bool) -> None:
    """Where they say whose session it is, or what a sign-in is refused by; not twice."""
    world = World(text)
    members = dict(members)
    identity = replace(world.record().identity, username=members.pop("username", None))
    seen = world.seen(identity=identity, **members)
    assert sight(world).must_know_credentials(seen) is must
    known = sight(world)
    known.known.credentials = KnownCredentials(credentials=Credentials(version="1"), key="k")
    assert not known.must_know_credentials(seen)
    none = sight(world)
    none.known.has_no_credentials = True
    assert not none.must_know_credentials(seen)


OAUTH = 'issuer = "oauth2"\ntoken_endpoint = "https://a.example/t"\ngrant = "refresh_token"\n'
OAUTH += 'refresh_token = "r"\nclient = "d"\n'


@pytest.mark.parametrize(
    ("text", "members", "must"),
    [
        (OAUTH, {"client_id": "c"}, True),
        (OAUTH, {"refused": REFUSED}, True),
        (OAUTH, {}, False),
        (SHARING, {"client_id": "c", "refused": REFUSED}, False),
    ],
)
def test_when_the_client_must_be_read(text: str, members: dict[str, Any], must: bool) -> None:
    """Where its id decides whose session this is."""
    world = World(text)
    members = dict(members)
    identity = replace(world.record().identity, client_id=members.pop("client_id", None))
    seen = world.seen(identity=identity, **members)
    assert sight(world).must_know_client(seen) is must
    assert not sight(world).must_know_client(Snapshot(version=ABSENT))
    known = sight(world)
    known.known.client = Credentials(version="1", client_id="c")
    assert not known.must_know_client(seen)
    if must:
        known.known.client = Credentials(version="1", client_id="other")
        fits = identity.client_id is None
        assert known.is_own(seen) is fits


# What blocks a call.


@pytest.mark.parametrize(
    ("call", "until_s", "refresh", "sign_in"),
    [
        ("refresh", 9, Bar.BUSY, Bar.NOTHING),
        ("sign-in", 9, Bar.NOTHING, Bar.BUSY),
        ("refresh", 0, Bar.NOTHING, Bar.NOTHING),
        ("sign-in", -1, Bar.NOTHING, Bar.NOTHING),
    ],
)
def test_a_busy_issuer_bars_the_call_that_it_answered(
    call: str, until_s: int, refresh: Bar, sign_in: Bar
) -> None:
    """Until its time; a person who asks lifts it, and another's record bars no refresh of ours."""
    seen = WORLD.seen(busy=Busy(call=call, until=NOW + until_s))
    assert sight().refresh_bar(seen)[0] is refresh
    assert sight().sign_in_bar(seen)[0] is sign_in
    lifted = sight(retry_refused=True)
    assert lifted.refresh_bar(seen) == lifted.sign_in_bar(seen) == (Bar.NOTHING, 0)
    stranger = Identity(issuer="x", token_endpoint="y")
    theirs = WORLD.seen(busy=Busy(call=call, until=NOW + until_s), identity=stranger)
    assert sight().refresh_bar(theirs) == (Bar.NOTHING, 0)


def test_a_refused_sign_in_is_barred_by_its_credentials() -> None:
    """Others are tried at once."""
    world = World(SHARING)
    seen = world.seen(refused=REFUSED)
    for key, bar in (("k", Bar.REFUSED), ("other", Bar.NOTHING)):
        found = sight(world)
        found.known.credentials = KnownCredentials(
            credentials=Credentials(version="2" if key == "other" else "1"), key=key
        )
        assert found.sign_in_bar(seen)[0] is bar
    assert found.refresh_bar(seen)[0] is Bar.NOTHING


# Who holds the claim.


def test_whose_the_claim_is() -> None:
    """Nobody's, a living holder's, or one's that has lapsed or died."""
    found = sight()
    assert found.claimed(WORLD.seen(), Holding.ALIVE) is Claimed.FREE
    seen = replace(WORLD.seen(claim=OTHER), age_s=16.0)
    assert found.claimed(seen, Holding.ALIVE) is Claimed.BUSY
    assert found.claimed(replace(seen, age_s=17.0), Holding.ALIVE) is Claimed.LAPSED


def test_the_situation_is_what_the_table_looks_at() -> None:
    """ "No session" is sure after a second look."""
    found = sight().situation(Snapshot(version=ABSENT))
    assert (found.holding, found.claimed) == (Holding.ABSENT, Claimed.FREE)
    assert (found.is_exclusive, found.is_unattended, found.is_sure) == (True, False, False)
    assert not found.is_shared_fresh
    looked = sight()
    looked.looks = 1
    assert looked.situation(Snapshot(version=ABSENT)).is_sure
    world = World(SHARING)
    shared = sight(world, min_ttl_s=5).situation(world.seen())
    assert (shared.is_shared_fresh, shared.is_unattended) == (True, True)
    stranger = Identity(issuer="x", token_endpoint="y")
    assert not sight(world, min_ttl_s=5).situation(world.seen(identity=stranger)).is_shared_fresh


@pytest.mark.parametrize(("skew_s", "taken_s"), [(5.0, 0.0), (5.5, 5.5), (-5.0, 0.0), (-6.0, -6.0)])
def test_the_best_clock_is_the_store_s_where_ours_is_visibly_wrong(
    skew_s: float, taken_s: float
) -> None:
    """By more than 5 s; a store that tells no time changes nothing."""
    seen = replace(WORLD.seen(), now=NOW + skew_s)
    assert sight().best_time_s(seen) == NOW + taken_s
    assert sight().best_time_s(replace(seen, now=None)) == NOW


# What a fresh record goes on from.


def test_a_fresh_record_goes_on_counting() -> None:
    """From what a store has kept beside the value: all of it. From another's record counts alone:
    its refusal and its lineage are not ours."""
    identity = Identity(issuer="i", token_endpoint="t")
    remains = Remains(
        generation=9,
        lineage="l",
        attempts={"k": Attempt(count=1, at=NOW)},
        refused=REFUSED,
        busy=Busy(call="refresh", until=NOW),
    )
    found = transitions.fresh_record(Snapshot(version=ABSENT, remains=remains), identity, by="h")
    assert (found.identity, found.generation, found.lineage, found.by) == (identity, 9, "l", "h")
    assert (found.refused, found.busy) == (REFUSED, remains.busy)
    assert found.attempts == remains.attempts
    theirs = transitions.fresh_record(foreign(), identity, by="h")
    assert (theirs.generation, theirs.refused, theirs.lineage) == (9, None, None)
