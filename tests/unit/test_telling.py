"""What is said of an issuer's replies, to whom and when, and what the audit log keeps of a refresh
token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.still import NOW, ROTATING, World, profile
from nightporter.core.lineage import Link
from nightporter.core.model import Credentials, IssuedTokens, Secret
from nightporter.core.told import Told
from nightporter.core.values import replace
from nightporter.issuers import issuer_for
from nightporter.issuers.oauth import Call, Response
from nightporter.session import telling

ATTENDED = 'issuer = "entra"\ntenant = "t"\nclient = "c"\ngrant = "device_code"\n'
ATTENDED += 'refresh_token = "r"\nscopes = ["a", "b"]\nusername = "svc"\n'
LINK = Link(digest="0123abcd", parent="89abcdef", generation=4, at=NOW, by="there", how="refresh")
WORLD = World(ROTATING)
NARROW, ANOTHER = Told(missing=("b", "c")), Told(is_other_user=True, user="eve")


def said(before: Told | None, after: Told | None) -> list[tuple[str, str]]:
    events: list[tuple[str, str]] = []
    which = profile(ATTENDED)
    telling.tell(before, after, which, lambda event, detail: events.append((event, detail)))
    return events


WITHOUT = ("scope-narrowed", "the issuer granted less than was asked for, without b, c")
EVE = ("other-user", "the id_token is about eve, and the profile's username is svc")


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (None, None, []),
        (None, NARROW, [WITHOUT]),
        (NARROW, NARROW, []),
        (replace(NARROW, missing=("b",)), NARROW, [WITHOUT]),
        (NARROW, replace(NARROW, is_said=True), [WITHOUT]),
        (replace(NARROW, is_said=True), replace(NARROW, is_said=True), []),
        (NARROW, None, []),
        (NARROW, Told(is_said=True), []),
        (None, ANOTHER, [EVE]),
        (ANOTHER, ANOTHER, []),
        (ANOTHER, replace(ANOTHER, is_said=True), [EVE]),
        (ANOTHER, Told(is_said=True), []),
        (None, replace(NARROW, is_other_user=True, subject="eve"), [WITHOUT, EVE]),
    ],
)
def test_what_is_new_is_said_and_once_to_who_is_heard(
    before: Told | None, after: Told | None, events: list[tuple[str, str]]
) -> None:
    """A helper is not heard, so the next command says what it learned."""
    assert said(before, after) == events


def test_what_a_reply_tells_is_held_to_what_was_asked_for() -> None:
    """By who asked with it: a sign-in that names no scopes granted all of them, and a password
    says itself who signs in."""
    issued = IssuedTokens(
        access_token=Secret("A"),
        token_type="Bearer",
        expires_in=60,
        refresh_token=None,
        scopes=("a",),
    )
    which = profile(ATTENDED)

    def told(before: Told | None, call: Call, *, is_heard: bool = False) -> Told:
        return telling.told_after(
            before, issued, call, profile=which, issuer=issuer_for(which), is_heard=is_heard
        )

    assert told(None, Call.LOG_IN).missing == ("b",)
    assert told(None, Call.LOG_IN).is_said is False
    assert told(None, Call.LOG_IN, is_heard=True).is_said is True
    silent = replace(issued, scopes=None)
    issued = silent
    assert told(NARROW, Call.REFRESH).missing == ("b", "c")
    assert told(NARROW, Call.LOG_IN).missing == ()


def test_words_are_without_the_secrets_that_the_issuer_has_seen() -> None:
    """Of the record, the credentials and the client."""
    secrets = [f"secret-{number}-value" for number in range(5)]
    record = WORLD.record(refresh_token=Secret(secrets[0]), access_token=Secret(secrets[1]))
    known = (
        Credentials(version="1", password=Secret(secrets[2])),
        Credentials(version="1", client_secret=Secret(secrets[3])),
        None,
    )
    body = json.dumps({"error": "x", "error_description": "no: " + " ".join(secrets)})
    response = Response(status=400, headers={}, body=body.encode())
    assert telling.words_of(response, record, known) == f"no: *** *** *** *** {secrets[4]}"
    bare = WORLD.record(refresh_token=None, access_token=None)
    for record_or_none in (bare, None):
        assert telling.safe("no", record_or_none, (None,)) == "no"


@pytest.mark.parametrize(
    ("body", "is_used"),
    [
        ({"error": "invalid_grant", "error_description": "refresh token was already used"}, True),
        ({"error": "invalid_grant", "error_description": "refresh token has expired"}, False),
        ({}, False),
    ],
)
def test_an_issuer_that_says_that_it_came_twice(body: dict[str, Any], is_used: bool) -> None:
    """By its words about the refusal."""
    response = Response(status=400, headers={}, body=json.dumps(body).encode())
    assert telling.says_used(response) is is_used


def test_the_audit_log_keeps_digests_of_the_newest_token_alone() -> None:
    """And its end; a link of another generation is not its."""
    record = WORLD.record(history=(replace(LINK, generation=3), LINK), expires_at=NOW)
    assert telling.lineage(record) == {
        "generation": 4,
        "refresh_expires_at": "2026-07-14T14:00:00Z",
        "token": "0123abcd",
        "parent": "89abcdef",
    }
    for other in (replace(record, generation=5), replace(record, history=())):
        assert telling.lineage(replace(other, expires_at=None)) == {
            "generation": other.generation,
            "refresh_expires_at": None,
        }


def test_who_held_a_session_that_somebody_else_has_used() -> None:
    """By the last link of its record."""
    assert telling.held_by(WORLD.record(history=(LINK,))) == {
        "generation": 4,
        "holder": "there",
        "since": "2026-07-14T14:00:00Z",
        "how": "refresh",
    }
    assert telling.held_by(WORLD.record()) == {"generation": 4}
    assert telling.held_by(None) == {"generation": None}
    assert telling.holder(None) is telling.holder(WORLD.record()) is None


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ((LINK,), "; it came by the refresh of there and is in the store since 2026-07-14T14:00"),
        ((replace(LINK, by=None),), "by the refresh of an unknown host"),
        ((), "had never sent it"),
    ],
)
def test_the_error_of_a_session_that_somebody_else_has_used(
    history: tuple[Link, ...], words: str
) -> None:
    """Who held it, since when, and what to revoke."""
    error = telling.used_elsewhere(
        WORLD.profile, WORLD.seen(history=history), error="invalid_grant", remedy="Seed it."
    )
    assert words in error.message
    assert "its refresh token was used before (invalid_grant)" in error.message
    assert error.error == "invalid_grant"
    assert "`nightporter logout p --everywhere`" in error.hint
    assert error.hint.endswith("start again: Seed it.")
