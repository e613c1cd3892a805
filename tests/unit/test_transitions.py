"""The record as values: what is believed, what bars a call, what supersedes what. Numbers of the
contract are literals here, just below and just above."""

from __future__ import annotations

from typing import Any

import pytest

from nightporter.core.config import parse_config
from nightporter.core.model import (
    Attempt,
    Busy,
    Claim,
    Identity,
    IssuedTokens,
    Profile,
    Refusal,
    Secret,
    Sent,
    SessionRecord,
)
from nightporter.core.record import (
    ForeignRecord,
    PendingResult,
    clipped,
    is_readable,
    parse_published,
    parse_remains,
    parse_session,
    remains_of,
    render_session,
)
from nightporter.core.values import replace
from nightporter.issuers import VENDORS
from nightporter.session import transitions
from nightporter.session.lifecycle import Bar
from nightporter.session.port import Stored, Version
from nightporter.session.transitions import Snapshot
from nightporter.stores import STORES

NOW = 1_784_037_600
IDENTITY = Identity(issuer="vault-ist", token_endpoint="https://api.vault.ist")
RECORD = SessionRecord(
    identity=IDENTITY,
    refresh_token=Secret("R1"),
    generation=4,
    lineage="l",
    access_token=Secret("A1"),
    access_token_expires_at=NOW + 600,
    exchanged_at=NOW - 60,
)


def profile(text: str = 'issuer = "vault-ist"\npartner_id = 7\nrefresh_token = "r"') -> Profile:
    config = parse_config(f"[profiles.p]\n{text}\n", source="t", vendors=VENDORS, stores=STORES)
    return config.profiles["p"]


def seen(record: SessionRecord = RECORD, **more: Any) -> Snapshot:
    return Snapshot(version=Version("7", 7), record=record, **more)


# Claims.


@pytest.mark.parametrize(
    ("life", "age", "watched", "lapsed"),
    [
        (16, 16.9, 0.0, False),
        (16, 17.0, 0.0, True),
        (64, 64.9, 0.0, False),
        (64, 65.0, 0.0, True),
        (16, None, 16.9, False),
        (16, None, 17.0, True),
    ],
)
def test_a_claim_lapses_by_the_store_s_clock(
    life: int, age: float | None, watched: float, lapsed: bool
) -> None:
    """Its age counts where the store tells it, else our own watch; never `until`."""
    claim = Claim(holder="h", until=0, nonce="n", life_s=life)
    assert transitions.has_lapsed(claim, age, watched) is lapsed


@pytest.mark.parametrize(("age_s", "lapsed"), [(17, False), (32.9, False), (33, True)])
def test_a_slow_holder_is_waited_for_where_nobody_may_take_over(age_s: float, lapsed: bool) -> None:
    """On a loaded machine a sign-in may take longer than its claim lives."""
    claim = Claim(holder="a", until=NOW, nonce="n", machine=None, life_s=16)
    assert transitions.has_lapsed(claim, age_s, 0.0, further_s=16) == lapsed


def test_a_claim_lives_longer_where_a_second_send_hurts() -> None:
    strict, grace = profile(), replace(profile(), grace_s=30)
    assert transitions.claim_life_s(strict, is_refresh=True) == 64
    assert transitions.claim_life_s(strict, is_refresh=False) == 16
    assert transitions.claim_life_s(grace, is_refresh=True) == 16


@pytest.mark.parametrize(("told", "taken"), [(1, 16), (16, 16), (64, 64), (9999, 64), ("x", 16)])
def test_no_claim_of_others_lives_longer_than_ours(told: object, taken: int) -> None:
    value = render_session(RECORD)
    claim = {"holder": "h/1/1", "until": "2026-07-14T14:00:00Z", "nonce": "n", "life": told}
    parsed = parse_session({**value, "claim": claim})
    assert isinstance(parsed, SessionRecord)
    assert parsed.claim is not None
    assert parsed.claim.life_s == taken


# Bars.


@pytest.mark.parametrize(
    ("count", "age", "bar"),
    [
        (1, 0, Bar.NOTHING),
        (2, 0, Bar.UNSETTLED),
        (2, 299, Bar.UNSETTLED),
        (2, 300, Bar.NOTHING),
        (9, 299, Bar.UNSETTLED),
        (9, 300, Bar.NOTHING),
    ],
)
def test_two_attempts_without_an_outcome_back_off_five_minutes(
    count: int, age: int, bar: Bar
) -> None:
    """Never longer, however many there were."""
    record = replace(RECORD, attempts={"k": Attempt(count=count, at=NOW - age)})
    found = transitions.sign_in_bar(seen(record), key="k", version="1", is_own=True, now=NOW)
    assert found[0] is bar
    other = transitions.sign_in_bar(seen(record), key="x", version="1", is_own=True, now=NOW)
    assert other[0] is Bar.NOTHING


@pytest.mark.parametrize(
    ("until", "key", "version", "own", "bar"),
    [
        (NOW + 1, "k", "1", True, Bar.REFUSED),
        (NOW, "k", "1", True, Bar.NOTHING),
        (NOW + 1, "corrected", "1", True, Bar.NOTHING),
        (NOW + 30 * 86_400, "k", "1", True, Bar.NOTHING),
        (NOW + 1, "k", "1", False, Bar.REFUSED),
    ],
)
def test_a_refusal_is_keyed(until: int, key: str, version: str, own: bool, bar: Bar) -> None:
    """By the secret and the profile; one of others, or with a senseless end, bars nothing."""
    refusal = Refusal(credentials_version="1", until=until, count=1, error="e", key="k")
    found = transitions.sign_in_bar(
        seen(replace(RECORD, refused=refusal)), key=key, version=version, is_own=own, now=NOW
    )
    assert found[0] is bar


def test_a_version_number_alone_is_no_identity() -> None:
    """A refusal without a key in a record that isn't ours is about others' credentials."""
    refusal = Refusal(credentials_version="1", until=NOW + 60, count=1, error="e")
    record = seen(replace(RECORD, refused=refusal))
    mine = transitions.sign_in_bar(record, key="k", version="1", is_own=True, now=NOW)
    theirs = transitions.sign_in_bar(record, key="k", version="1", is_own=False, now=NOW)
    assert (mine[0], theirs[0]) == (Bar.REFUSED, Bar.NOTHING)


@pytest.mark.parametrize(
    ("until", "bar"), [(NOW + 3600, Bar.BUSY), (NOW, Bar.NOTHING), (NOW + 7200, Bar.NOTHING)]
)
def test_a_busy_issuer_is_left_alone_for_an_hour_at_most(until: int, bar: Bar) -> None:
    record = replace(RECORD, busy=Busy(call="refresh", until=until))
    assert transitions.refresh_bar(seen(record), profile(), client_version=None, now=NOW)[0] is bar
    sign_in = transitions.sign_in_bar(seen(record), key="k", version="1", is_own=True, now=NOW)
    assert sign_in[0] is Bar.NOTHING


def test_a_refused_sign_in_does_not_stop_who_refreshes() -> None:
    """The session lives; only the client's own refusal bars both."""
    for error, bar in (("access_denied", Bar.NOTHING), ("invalid_client", Bar.REFUSED)):
        refusal = Refusal(credentials_version="1", until=NOW + 60, count=1, error=error)
        found = transitions.refresh_bar(
            seen(replace(RECORD, refused=refusal)), profile(), client_version=None, now=NOW
        )
        assert found[0] is bar


@pytest.mark.parametrize(
    ("version", "bar"),
    [("9/3", Bar.REFUSED), ("3", Bar.REFUSED), ("4", Bar.NOTHING), ("9", Bar.NOTHING)],
)
def test_a_refused_client_is_tried_once_its_secret_changes(version: str, bar: Bar) -> None:
    """A host may read the client's secret alone: its version is the last part."""
    refusal = Refusal(credentials_version="9/3", until=NOW + 60, count=1, error="invalid_client")
    found = transitions.refresh_bar(
        seen(replace(RECORD, refused=refusal)), profile(), client_version=version, now=NOW
    )
    assert found[0] is bar


# The only copy.


@pytest.mark.parametrize(
    ("new", "by_person", "allowed"),
    [
        (replace(RECORD, refresh_token=None), False, False),
        (replace(RECORD, refresh_token=None), True, True),
        (replace(RECORD, refresh_token=Secret("R2"), generation=5), False, True),
        (replace(RECORD, refresh_token=Secret("R2"), generation=4), False, False),
        (replace(RECORD, refresh_token=Secret("R0"), generation=3), False, False),
        (replace(RECORD, refresh_token=None, generation=5, lineage="m"), False, True),
        (replace(RECORD, claim=None, generation=1), False, True),
    ],
)
def test_what_supersedes_the_only_copy(new: SessionRecord, by_person: bool, allowed: bool) -> None:
    """A newer one, a person, or nothing."""
    assert transitions.supersedes(new, RECORD, now=NOW, by_person=by_person) is allowed


def test_a_token_past_its_end_may_go() -> None:
    ended = replace(RECORD, expires_at=NOW)
    assert transitions.supersedes(replace(RECORD, refresh_token=None), ended, now=NOW)
    tidy = transitions.tidied(ended, now=NOW)
    assert tidy.refresh_token is None
    assert tidy.generation == ended.generation
    still = replace(RECORD, expires_at=NOW + 1)
    assert transitions.tidied(still, now=NOW).refresh_token == still.refresh_token


def test_a_mark_keeps_the_token_and_names_it_alone() -> None:
    marked = transitions.marked_record(RECORD, error="invalid_grant", now=NOW)
    assert marked.refresh_token == RECORD.refresh_token
    assert transitions.is_marked(marked)
    assert not transitions.is_marked(replace(marked, refresh_token=Secret("R2")))
    assert "R1" not in str(marked.rejected)


# Tokens in the record.


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({}, True),
        ({"token_type": "Basic"}, False),
        ({"access_token_expires_at": NOW - 60 + 86_400}, True),
        ({"access_token_expires_at": NOW - 60 + 86_401}, False),
        ({"exchanged_at": NOW + 5}, True),
        ({"exchanged_at": NOW + 6}, False),
        ({"exchanged_at": None, "access_token_expires_at": NOW + 86_400}, True),
        ({"exchanged_at": None, "access_token_expires_at": NOW + 86_401}, False),
        ({"access_token_expires_at": None}, False),
    ],
)
def test_what_the_store_tells_of_a_token_is_bounded(
    changes: dict[str, Any], believed: bool
) -> None:
    """Bearer, of an exchange that is not in the future, and gone within a day of it."""
    record = replace(RECORD, **changes)
    assert (transitions.shared_ends_at(record, now=NOW) is not None) is believed
    assert (transitions.tidied(record, now=NOW).access_token is not None) is (
        believed or record.access_token is None
    )


def test_what_we_write_can_be_believed_when_it_is_read() -> None:
    """A vendor's token of a month is shared for a day."""
    issued = IssuedTokens(
        access_token=Secret("A2"), token_type="Bearer", expires_in=2_592_000, refresh_token=None
    )
    after = transitions.refreshed_record(
        RECORD,
        replace(profile(), share_access_token=True),
        issued,
        sent_at=NOW,
        refresh_end=lambda: None,
        by="h",
    )
    assert transitions.shared_ends_at(after, now=NOW) == NOW + 86_400
    assert is_readable(render_session(after))


def test_a_reused_token_that_came_back_changed_keeps_its_end() -> None:
    """A refresh never extends the life of a token that is reused."""
    reused = profile('issuer = "pitchpoint"\ncredentials = "c"')
    issued = IssuedTokens(
        access_token=Secret("A2"), token_type="Bearer", expires_in=60, refresh_token=Secret("R9")
    )
    before = replace(RECORD, expires_at=NOW + 50, issued_at=NOW - 50)
    after = transitions.refreshed_record(
        before, reused, issued, sent_at=NOW, refresh_end=lambda: NOW + 9999, by="h"
    )
    assert (after.refresh_token, after.expires_at) == (Secret("R9"), NOW + 50)


@pytest.mark.parametrize(
    ("sent", "grace", "left"),
    [
        (Sent(generation=4, at=NOW - 10), 30, 20),
        (Sent(generation=4, at=NOW - 30), 30, 0),
        (Sent(generation=3, at=NOW - 10), 30, 0),
        (Sent(generation=4, at=NOW - 10), 0, 0),
        (None, 30, 0),
    ],
)
def test_a_grace_period_counts_from_the_first_send(
    sent: Sent | None, grace: int, left: int
) -> None:
    record, vendor = replace(RECORD, sent=sent), replace(profile(), grace_s=grace)
    assert transitions.grace_left_s(record, vendor, now=NOW) == left
    if sent is not None and sent.generation == 4:
        assert transitions.with_sent(record, NOW).sent == sent


# What is read.


@pytest.mark.parametrize("generation", [2**53 - 2, 2**53, 2**63, -1, 1.5, True, "7", float("inf")])
def test_a_senseless_generation_is_not_gone_on_from(generation: Any) -> None:
    parsed = parse_session({**render_session(RECORD), "generation": generation})
    assert isinstance(parsed, ForeignRecord)
    assert parsed.generation == 0
    assert isinstance(
        parse_session({**render_session(RECORD), "generation": 2**53 - 3}), SessionRecord
    )


@pytest.mark.parametrize(
    ("schema", "is_newer"), [(2, True), (0, False), ("1", False), (True, False)]
)
def test_a_higher_schema_is_a_newer_version_s(schema: Any, is_newer: bool) -> None:
    parsed = parse_session({**render_session(RECORD), "schema": schema})
    assert isinstance(parsed, ForeignRecord)
    assert parsed.is_newer is is_newer


def test_texts_of_a_record_are_printable_and_short() -> None:
    """No control, escape or bidirectional character reaches a terminal from a record."""
    assert clipped("\x1b]0;x\x07\u202e" + "a" * 200) == "?]0;x??" + "a" * 73
    value = render_session(RECORD)
    evil = "\x1b[2J"
    claim = {"holder": evil, "until": "2026-07-14T14:00:00Z", "nonce": "n"}
    parsed = parse_session({**value, "by": evil, "claim": claim})
    assert isinstance(parsed, SessionRecord)
    assert parsed.by == "?[2J"
    assert parsed.claim is not None
    assert parsed.claim.holder == "?[2J"
    assert isinstance(parse_session({**value, "username": evil}), ForeignRecord)


def test_what_can_not_be_read_back_is_not_written() -> None:
    assert is_readable(render_session(RECORD))
    assert not is_readable(render_session(replace(RECORD, generation=2**53 - 2)))
    assert not is_readable(render_session(replace(RECORD, unknown={"x": "\ud800"})))


def test_what_outlives_a_ttl_fits_and_comes_back() -> None:
    """Vault's custom_metadata holds 512 bytes a value."""
    refusal = Refusal(
        credentials_version="v" * 80, until=NOW, count=3, error="e" * 80, key="k" * 16
    )
    attempts = {f"{index:016d}": Attempt(count=2, at=NOW + index) for index in range(8)}
    record = replace(RECORD, refused=refusal, attempts=attempts)
    text = remains_of(render_session(record), max_bytes=512)
    assert text is not None
    assert len(text.encode()) <= 512
    found = parse_remains(text)
    assert found is not None
    assert (found.generation, found.lineage) == (4, "l")
    assert found.refused is not None
    assert parse_remains("[" * 100_000) is None
    assert parse_remains('{"generation": -1}') is None


def test_an_expired_record_keeps_what_is_in_force() -> None:
    """Expiry ends the refresh token, not the record."""
    refusal = Refusal(credentials_version="1", until=NOW + 60, count=2, error="e", key="k")
    value = render_session(replace(RECORD, expires_at=NOW - 1, refused=refusal))
    snapshot = transitions.snapshot_of(Stored(None, Version("7", 7), expired=value), seen_at=0.0)
    assert snapshot.record is not None
    assert snapshot.generation == 4
    found = transitions.sign_in_bar(snapshot, key="k", version="1", is_own=True, now=NOW)
    assert found[0] is Bar.REFUSED


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"token_type": "Basic"},
        {"generation": 2**53 - 1},
        {"generation": "x"},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"expires_at": 7},
        {"access_token": "a\nb"},
        {"issuer": "other"},
        {"exchanged_at": "2036-07-14T14:00:00Z"},
    ],
)
def test_a_published_token_is_held_to_the_same_bounds(change: dict[str, Any]) -> None:
    value = {
        "schema": 1,
        "issuer": "vault-ist",
        "token_endpoint": "https://api.vault.ist",
        "access_token": "A1",
        "token_type": "Bearer",
        "expires_at": "2026-07-14T15:00:00Z",
        "generation": 3,
    }
    assert parse_published(value, profile(), now=NOW) is not None
    assert parse_published({**value, **change}, profile(), now=NOW) is None


# Results that wait on a disk.


WAITING = PendingResult(
    nonce="n", record=render_session(RECORD), at=NOW, is_sign_in=False, name="w"
)
OURS = Claim(holder="h", until=NOW, nonce="n")
OTHERS = Claim(holder="h", until=NOW, nonce="m")


@pytest.mark.parametrize(
    ("there", "is_outlived"),
    [
        (replace(RECORD, generation=3), False),
        (RECORD, True),
        (replace(RECORD, generation=5), True),
        (replace(RECORD, generation=5, lineage="m"), False),
        (replace(RECORD, generation=5, claim=OURS), False),
        (replace(RECORD, generation=5, claim=OTHERS), True),
    ],
)
def test_a_waiting_result_is_outlived_by_a_later_state_of_its_own_session(
    there: SessionRecord, is_outlived: bool
) -> None:
    """By nothing else: it may be the only copy of a refresh token."""
    assert transitions.is_outlived(RECORD, WAITING, seen(there), now=NOW) is is_outlived


def test_a_waiting_result_past_its_end_is_outlived() -> None:
    """Nobody could use it."""
    ended = replace(RECORD, expires_at=NOW)
    there = seen(replace(RECORD, generation=3))
    assert transitions.is_outlived(ended, WAITING, there, now=NOW)
    assert not transitions.is_outlived(replace(ended, expires_at=NOW + 1), WAITING, there, now=NOW)


@pytest.mark.parametrize(("generation", "is_outlived"), [(3, False), (4, True)])
def test_a_waiting_sign_in_is_outlived_by_any_later_session(
    generation: int, is_outlived: bool
) -> None:
    """It never was the only copy of a session that others use."""
    waiting = replace(WAITING, is_sign_in=True)
    there = seen(replace(RECORD, lineage="m", generation=generation))
    assert transitions.is_outlived(RECORD, waiting, there, now=NOW) is is_outlived
    empty = Snapshot(version=Version("7", generation))
    assert not transitions.is_outlived(RECORD, waiting, empty, now=NOW)


@pytest.mark.parametrize(
    ("there", "belongs"),
    [
        (RECORD, True),
        (replace(RECORD, lineage="m"), False),
        (replace(RECORD, lineage="m", claim=OURS), True),
        (replace(RECORD, lineage="m", claim=OTHERS), False),
        (None, True),
    ],
)
def test_where_a_waiting_result_belongs(there: SessionRecord | None, belongs: bool) -> None:
    """Over its own claim, over its own session, or where nothing is."""
    snapshot = seen(there) if there else Snapshot(version=Version("7", 7))
    assert transitions.belongs(RECORD, WAITING, snapshot) is belongs
    assert transitions.belongs(RECORD, replace(WAITING, is_sign_in=True), snapshot)


# Results.


def test_a_rescued_refresh_token_is_a_state_of_its_own() -> None:
    """It has its own generation, and no access token, mark or claim of the state before."""
    rescued = transitions.rescued_record(
        replace(RECORD, claim=OURS), Secret("R2"), sent_at=NOW, refresh_expires_at=None, by="h"
    )
    assert (rescued.refresh_token, rescued.generation) == (Secret("R2"), 5)
    assert (rescued.access_token, rescued.access_token_expires_at) == (None, None)
    assert (rescued.claim, rescued.rejected, rescued.exchanged_at) == (None, None, NOW)


def test_attempts_are_counted_in_a_record_that_is_not_ours() -> None:
    """Every other member of it stays as it was."""
    members = {"schema": 1, "refresh_token": "theirs", "later": 1}
    snapshot = Snapshot(version=Version("7", 7), foreign=ForeignRecord(reason="r", members=members))
    counted = replace(RECORD, claim=OURS, attempts={"k": Attempt(count=1, at=NOW)})
    value = transitions.claimed_value(snapshot, counted)
    assert value["attempts"]["k"]["count"] == 1
    assert {**value, "claim": None, "attempts": None} == {
        **members,
        "claim": None,
        "attempts": None,
    }
    assert "attempts" not in transitions.claimed_value(snapshot, replace(counted, attempts={}))


@pytest.mark.parametrize(
    ("how", "token", "links"), [("refresh", "R2", 1), ("refresh", None, 0), ("logout", None, 1)]
)
def test_a_state_without_a_refresh_token_is_a_link_only_where_a_person_ended_it(
    how: str, token: str | None, links: int
) -> None:
    """A refused or swept one has no successor."""
    after = replace(RECORD, refresh_token=Secret(token) if token else None, generation=5)
    assert len(transitions.linked(RECORD, after, how, NOW).history) == links
