"""What is done with a session beside exchanging it: what a person brings and ends, results that
wait, published tokens, and the secrets behind a profile."""

from __future__ import annotations

from typing import Any

import pytest

from lab.still import BOOT, NOW, REUSED, ROTATING, SHARING, World
from nightporter.core.errors import (
    NothingPublishedError,
    SecretNotFoundError,
    StoreBusyError,
    StoreDeniedError,
    VersionConflictError,
)
from nightporter.core.model import Ask, Claim, Credentials, IssuedTokens, Refusal, Secret, Token
from nightporter.core.record import PendingResult, render_session
from nightporter.core.values import replace
from nightporter.issuers.oauth import Response

END = 1_784_174_400  # the second midnight in New York after NOW, by Pitchpoint's row
ISSUED = IssuedTokens(
    access_token=Secret("A2"), token_type="Bearer", expires_in=600, refresh_token=Secret("R2")
)
OTHER = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)


def names(world: World) -> list[str]:
    return [event for event, _ in world.events if event != "read"]


# What a person brings.


def bring(world: World, issued: IssuedTokens | None) -> Any:
    return world.session.store_login(
        Secret("S1"),
        issued_at=NOW,
        client=Credentials(version="1", username="svc", client_id="i"),
        issued=issued,
        deadline=BOOT,
    )


def test_a_seed_begins_a_session_with_the_end_of_the_row() -> None:
    """Refusals and marks are forgotten with what was there, its claim too; the generation goes on,
    and nobody else's access token stays."""
    world = World()
    refused = Refusal(credentials_version="1", until=NOW + 99, count=3, error="e")
    world.put(refused=refused, claim=OTHER, unknown={"later": 1})
    record = bring(world, None)
    kept = world.kept()
    assert kept == record
    assert (kept.refresh_token, kept.expires_at, kept.issued_at) == (Secret("S1"), END, NOW)
    assert (kept.generation, kept.refused, kept.claim, kept.by) == (5, None, None, "h")
    assert (kept.access_token, kept.unknown) == (None, {"later": 1})
    assert (kept.identity.username, kept.identity.client_id) == ("svc", "i")
    assert kept.lineage not in (None, "l")
    assert [link.how for link in kept.history] == ["seed"]
    assert world.noted == [(kept.lineage, 5)]
    assert names(world) == ["seeded"]


def test_a_login_keeps_its_access_token_where_tokens_are_shared() -> None:
    """With the end that the vendor states, before the row's."""
    world = World()
    issued = replace(ISSUED, refresh_life_s=7_200, output={"instance_url": "https://a.example"})
    kept = bring(world, issued)
    assert (kept.access_token, kept.access_token_expires_at) == (Secret("A2"), NOW + 600)
    assert (kept.exchanged_at, kept.expires_at) == (NOW, NOW + 7_200)
    assert kept.output == {"instance_url": "https://a.example"}
    assert [link.how for link in kept.history] == ["login"]
    assert names(world) == ["logged-in"]
    world = World(SHARING.replace("share_access_token = true", "share_access_token = false"))
    assert bring(world, issued).access_token is None


def test_a_person_s_session_is_tried_to_be_written_for_a_claim_s_life() -> None:
    """However little time the command has left: a blip must not lose it; another's write in between
    is gone over."""
    world = World()
    world.write_errors = [
        StoreBusyError("busy"),
        VersionConflictError("another"),
        StoreBusyError("b"),
    ]
    bring(world, None)
    assert world.kept().refresh_token == Secret("S1")
    assert len(world.pauses) == 3


def test_a_logout_everywhere_empties_the_record() -> None:
    """Lineage and generation stay, so that a result that waits somewhere is not put back; what
    waits here is dropped."""
    world = World()
    world.put(claim=OTHER)
    world.waiting = [pending(world)]
    world.session.end(BOOT + 5)
    kept = world.kept()
    assert (kept.refresh_token, kept.access_token, kept.claim) == (None, None, None)
    assert (kept.generation, kept.lineage, kept.expires_at) == (5, "l", None)
    assert [link.how for link in kept.history] == ["logout"]
    assert world.waiting == []
    assert world.events[-1] == ("logged-out", {"profile": "p", "where": "everywhere"})


def test_where_there_is_no_session_a_logout_writes_nothing() -> None:
    """And says nothing; a record that can't be read is one to end."""
    world = World()
    world.session.end(BOOT + 5)
    assert world.values == {}
    assert names(world) == []
    world.values["r"] = ({"something": "else"}, 1)
    world.session.end(BOOT + 5)
    assert world.kept().refresh_token is None


# Results that wait.


def pending(world: World, **more: Any) -> PendingResult:
    record = world.record(generation=5, refresh_token=Secret("R2"), **more)
    return PendingResult(nonce="mine", record=render_session(record), at=NOW, name="x")


def settle(world: World, *waiting: PendingResult, for_s: float = 5) -> list[str]:
    world.waiting = list(waiting)
    world.session.settle_pending(BOOT + for_s)
    return names(world)


def test_a_result_is_put_back_over_its_own_claim_at_once() -> None:
    """Before anything is sent: the record still holds the token that it has replaced."""
    world = World()
    world.put(claim=replace(OTHER, nonce="mine"))
    assert settle(world, pending(world)) == ["spill-consumed"]
    assert (world.kept().refresh_token, world.kept().claim) == (Secret("R2"), None)
    assert world.waiting == []


@pytest.mark.parametrize("claim", [None, replace(OTHER, life_s=16)])
def test_a_result_is_put_back_where_nobody_holds_a_living_claim(claim: Claim | None) -> None:
    """A claim that has lapsed is nobody's."""
    world = World()
    world.put(claim=claim)
    world.session.watched = {}
    if claim:
        world.session.runtime = replace(
            world.session.runtime, is_dead=lambda found, _machine: found.nonce == "n"
        )
    assert settle(world, pending(world)) == ["spill-consumed"]
    assert world.kept().refresh_token == Secret("R2")


def test_a_result_waits_while_another_holds_the_claim() -> None:
    """As long as the ask has time, and it stays on the disk."""
    world = World()
    world.put(claim=OTHER)
    with pytest.raises(StoreBusyError, match="a result in waiting waits for the store") as caught:
        settle(world, pending(world))
    assert "as soon as that claim ends" in caught.value.hint
    assert world.pauses == [0.6] * 8
    assert len(world.waiting) == 1
    assert world.kept().refresh_token == Secret("R1")


@pytest.mark.parametrize(
    ("more", "events", "is_kept"),
    [
        ({"generation": 4}, ["spill-consumed"], False),
        ({"generation": 5}, ["spill-outlived"], False),
        ({"generation": 6}, ["spill-outlived"], False),
        ({"generation": 4, "lineage": "other"}, [], True),
        ({"generation": 6, "lineage": "other"}, [], True),
    ],
)
def test_a_result_is_dropped_where_the_record_has_gone_on_alone(
    more: dict[str, Any], events: list[str], is_kept: bool
) -> None:
    """Another session's record says nothing of ours."""
    world = World()
    world.put(**more)
    assert settle(world, pending(world)) == events
    assert (len(world.waiting) == 1) is is_kept


def test_a_result_that_has_ended_is_dropped() -> None:
    """There is nothing to save in it."""
    world = World()
    world.put()
    assert settle(world, pending(world, expires_at=NOW)) == ["spill-outlived"]
    assert world.kept().generation == 4


def test_a_result_is_left_for_who_may_write_it() -> None:
    """A rotator's on the machine of a consumer, whose role only reads the record."""
    world = World()
    world.put()
    world.is_denied = True
    assert settle(world, pending(world)) == []
    assert [left.name for left in world.waiting] == ["x"]
    world.is_denied = False
    assert settle(world, *world.waiting) == ["spill-consumed"]


def test_a_result_that_can_not_be_read_is_left_and_told() -> None:
    """A later version's, perhaps; the others are settled."""
    world = World()
    world.put()
    odd = PendingResult(nonce="n", record={"x": 1}, at=NOW, name="odd")
    assert settle(world, odd, pending(world)) == ["pending-unreadable", "spill-consumed"]
    assert [left.name for left in world.waiting] == ["odd"]


def test_who_was_first_is_looked_at_again() -> None:
    """A conflict may come of an old read."""
    world = World()
    world.put()
    world.write_errors = [VersionConflictError("another")]
    assert settle(world, pending(world)) == ["spill-consumed"]
    assert world.pauses == [0.6]


# Published tokens.


def published(world: World, **more: Any) -> None:
    world.values["a"] = (
        {
            "schema": 1,
            "issuer": world.profile.issuer,
            "token_endpoint": world.profile.token_endpoint,
            "access_token": "P1",
            "token_type": "Bearer",
            "expires_at": "2026-07-14T14:10:00Z",  # NOW + 600
            "exchanged_at": "2026-07-14T13:59:00Z",
            "generation": 7,
            "by": "there",
            "published_at": "2026-07-14T13:59:01Z",
            **more,
        },
        1,
    )


def read(world: World, *, min_ttl_s: float = 60, for_s: float = 30, **more: Any) -> Token:
    ask = Ask(deadline=BOOT + world.slept_s + for_s, min_ttl_s=min_ttl_s, **more)
    return world.session.published(ask)


def test_a_published_token_counts_by_the_store_s_clock() -> None:
    """Its end is the record's, its age ours."""
    world = World()
    published(world)
    token = read(world)
    assert (token.value, token.generation, token.token_type) == ("P1", 7, "Bearer")
    assert (token.expires_at_s, token.ends_s, token.life_s) == (NOW + 600, BOOT + 600, 600)
    assert token.obtained_at_s == NOW


@pytest.mark.parametrize(("min_ttl_s", "is_good"), [(599, True), (600, False)])
def test_a_published_token_has_more_left_than_is_asked_for(min_ttl_s: float, is_good: bool) -> None:
    """Else it is looked for again for 5 s: stores serve old reads."""
    world = World()
    published(world)
    if is_good:
        assert read(world, min_ttl_s=min_ttl_s).value == "P1"
        return
    with pytest.raises(NothingPublishedError, match="no live access token is published at 'a'"):
        read(world, min_ttl_s=min_ttl_s)
    assert world.pauses == [1.0] * 4


def test_a_refused_token_is_not_taken_from_there() -> None:
    """A client has reported it; and no ask waits longer than it has time."""
    world = World()
    published(world)
    with pytest.raises(NothingPublishedError):
        read(world, is_refused=lambda value: value == "P1", for_s=2.5)
    assert world.pauses == [1.0] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "there is none, or it has ended"),
        (
            {"expires_at": "2026-07-14T13:59:59Z"},
            "published at 2026-07-14T13:59:01Z by there, ended at 2026-07-14T13:59:59Z",
        ),
        ({"schema": 2}, "by there, which can't be used"),
        ({"by": None, "published_at": None, "schema": 2}, "an unknown time by an unknown host"),
    ],
)
def test_who_published_last_is_told(change: dict[str, Any] | None, words: str) -> None:
    """So that a person finds the job that should have."""
    world = World()
    if change is not None:
        published(world, **change)
    with pytest.raises(NothingPublishedError) as caught:
        read(world)
    assert words in caught.value.message


def held(left_s: int, generation: int = 5) -> Token:
    return Token(
        Secret("A5"),
        token_type="Bearer",
        expires_at_s=NOW + left_s,
        obtained_at_s=float(NOW),
        exchanged_at_s=float(NOW - 30),
        generation=generation,
        ends_s=BOOT + left_s,
        life_s=float(left_s),
    )


def test_what_is_published_says_who_and_when() -> None:
    """With the time of its exchange, by which readers bound its life."""
    world = World()
    world.session.publish(held(600), BOOT + 5)
    value, _ = world.values["a"]
    assert value == {
        "schema": 1,
        "issuer": "pitchpoint",
        "token_endpoint": world.profile.token_endpoint,
        "access_token": "A5",
        "token_type": "Bearer",
        "expires_at": "2026-07-14T14:10:00Z",
        "generation": 5,
        "exchanged_at": "2026-07-14T13:59:30Z",
        "by": "h",
        "published_at": "2026-07-14T14:00:00Z",
    }
    assert world.events[-1] == ("published", {"profile": "p"})


def test_another_who_publishes_first_is_left_alone() -> None:
    """Its token is as fresh; no event says that ours is there."""
    world = World()
    world.write_errors = [VersionConflictError("another")]
    world.session.publish(held(600), BOOT + 5)
    assert world.values == {}
    assert names(world) == []


def test_where_nothing_is_published_nothing_is_written() -> None:
    """A profile without `publish_access_token`."""
    world = World(ROTATING)
    world.session.publish(held(600), BOOT + 5)
    assert world.values == {}


# The secrets behind a profile.


def test_credentials_are_the_secret_s_and_the_client_s() -> None:
    """With both versions: a refusal of either is over when one changes."""
    world = World(SHARING + 'client = "d"\n')
    world.values["c"] = ({"username": "svc", "password": "x"}, 3)
    world.values["d"] = ({"client_id": "i", "client_secret": "s"}, 9)
    found = world.session.load_credentials(BOOT + 5)
    assert (found.username, found.password, found.version) == ("svc", Secret("x"), "3/9")
    assert (found.client_id, found.client_secret) == ("i", Secret("s"))
    client = world.session.load_client(BOOT + 5)
    assert (client.client_id, client.version, client.password) == ("i", "9", None)


def test_the_client_may_be_in_the_credentials() -> None:
    """Unless the role reads none."""
    world = World()
    world.values["c"] = ({"username": "svc", "password": "x", "client_id": "i"}, 3)
    assert world.session.load_client(BOOT + 5).client_id == "i"
    assert world.session.load_credentials(BOOT + 5).version == "3"
    world = World(SHARING + 'role = "refresh-only"\n')
    with pytest.raises(SecretNotFoundError, match="names no `client`, and role 'refresh-only'"):
        world.session.load_client(BOOT + 5)


def test_a_secret_that_is_missing_or_of_no_use_is_named() -> None:
    """With its path and its store, or the member that can't be used."""
    world = World()
    with pytest.raises(SecretNotFoundError, match="no secret at 'c' in store 'local'"):
        world.session.load_credentials(BOOT + 5)
    world.values["c"] = ({"username": 7, "password": "x"}, 1)
    with pytest.raises(SecretNotFoundError, match="the secret 'c' can't be used: its member"):
        world.session.load_credentials(BOOT + 5)


def key_of(world: World) -> str:
    return world.session.run(world.session.loading_credentials(BOOT + 5)).key


def test_sign_ins_are_counted_by_secret_and_request() -> None:
    """A corrected secret or profile is tried at once; what goes into no request changes nothing."""
    world = World()
    world.values["c"] = ({"username": "svc", "password": "x"}, 3)
    first = key_of(world)
    same = World(SHARING + "min_ttl = 5\n")
    same.values = dict(world.values)
    assert key_of(same) == first
    for text in (
        SHARING + 'username = "other"\n',
        SHARING + 'base_url = "https://other.example"\n',
        SHARING + 'fields = { username = "username" }\n',
    ):
        other = World(text)
        other.values = dict(world.values)
        assert key_of(other) != first
    world.values["c"] = ({"username": "svc", "password": "x"}, 4)
    assert key_of(world) != first


# Claims of others, sweeping, and the issuer's addresses.


@pytest.mark.parametrize(
    ("age_s", "watched_s", "further_s", "is_alive"),
    [
        (0.0, 0.0, 0.0, True),
        (16.9, 0.0, 0.0, True),
        (17.0, 0.0, 0.0, False),
        (17.0, 0.0, 16.0, True),
        (33.0, 0.0, 16.0, False),
        (0.0, 17.0, 0.0, False),
        (None, 16.9, 0.0, True),
        (None, 17.0, 0.0, False),
    ],
)
def test_a_claim_lapses_by_the_store_s_clock_or_our_own_watch(
    age_s: float | None, watched_s: float, further_s: float, is_alive: bool
) -> None:
    """A second after its 16 s: stores tell whole seconds. Our own watch is of an unchanged version
    from when it was first seen."""
    world = World()
    first = replace(world.seen(claim=OTHER), age_s=0.0)
    assert world.session.is_claim_alive(first)
    later = replace(first, age_s=age_s, seen_at=BOOT + watched_s)
    assert world.session.is_claim_alive(later, further_s=further_s) is is_alive
    assert not world.session.is_claim_alive(world.seen())


def test_a_claim_of_the_dead_is_free_at_once() -> None:
    """Whoever could have listened is gone."""
    world = World()
    world.session.runtime = replace(
        world.session.runtime,
        machine="m",
        is_dead=lambda claim, machine: (claim.nonce, machine) == ("n", "m"),
    )
    assert not world.session.is_claim_alive(world.seen(claim=OTHER))
    assert world.session.is_claim_alive(world.seen(claim=replace(OTHER, nonce="another")))


def test_who_goes_on_while_we_sweep_keeps_what_it_wrote() -> None:
    """A conflict is no failure of the job."""
    world = World()
    world.put(expires_at=NOW)
    world.write_errors = [VersionConflictError("another")]
    assert world.session.sweep(world.session.read(BOOT + 5), BOOT + 5)
    assert world.kept().refresh_token == Secret("R1")
    world.write_errors = [StoreDeniedError("no", right="w")]
    with pytest.raises(StoreDeniedError):
        world.session.sweep(world.session.read(BOOT + 5), BOOT + 5)


def test_the_token_endpoint_is_asked_once_and_nothing_is_spent() -> None:
    """By a GET, whatever it answers."""
    answer = Response(status=405, headers={}, body=b"")
    world = World(REUSED, answers=[answer])
    address, found = world.session.probe(BOOT + 5)
    assert found is answer
    (request,) = world.sent
    assert (request.method, request.url, request.body) == ("GET", address, b"")
    assert address == world.profile.token_endpoint
