"""A session record member by member: what reads back, what makes it foreign and is named, what of a
foreign one is respected, and what outlives its value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.still import NOW, SHARING, profile
from nightporter.core.model import (
    Attempt,
    Busy,
    Claim,
    Refusal,
    Rejected,
    Secret,
    Sent,
    SessionRecord,
    Token,
)
from nightporter.core.record import (
    ForeignRecord,
    Remains,
    clipped,
    idle_end,
    is_readable,
    last_exchange,
    parse_credentials,
    parse_published,
    parse_remains,
    parse_session,
    remains_of,
    render_published,
    render_session,
)
from nightporter.core.told import Told
from nightporter.core.values import replace

AT, STAMP = 1_784_037_600, "2026-07-14T14:00:00Z"
FULL: dict[str, Any] = {
    "schema": 1,
    "issuer": "pitchpoint",
    "token_endpoint": "https://a.example",
    "username": "svc",
    "useralias": "al",
    "client_id": "c",
    "refresh_token": "R",
    "issued_at": STAMP,
    "expires_at": "2026-07-16T04:00:00Z",
    "generation": 41,
    "access_token": "A",
    "token_type": "Bearer",
    "access_token_expires_at": "2026-07-14T15:00:00Z",
    "claim": {"holder": "h/1/2", "until": STAMP, "nonce": "n", "machine": "m", "life": 64},
    "refused": {
        "credentials_version": "7",
        "until": STAMP,
        "count": 2,
        "error": "access_denied",
        "key": "k",
    },
    "by": "h",
    "lineage": "l",
    "exchanged_at": STAMP,
    "attempts": {"k": {"count": 1, "at": STAMP}},
    "sent": {"generation": 41, "at": STAMP},
    "rejected": {"digest": "d", "error": "e", "at": STAMP, "used_elsewhere": True},
    "busy": {"call": "refresh", "until": STAMP},
    "output": {"instance_url": "https://b.example"},
    "told": {"user": "u"},
    "later": [1],
}


def read(**change: Any) -> SessionRecord:
    found = parse_session({**FULL, **change})
    assert isinstance(found, SessionRecord)
    return found


def test_every_member_reads_back() -> None:
    """As the contract shapes them, and unknown ones with them."""
    record = read()
    assert render_session(record) == FULL
    assert record.claim == Claim(holder="h/1/2", until=AT, nonce="n", machine="m", life_s=64)
    assert record.refused == Refusal(
        credentials_version="7", until=AT, count=2, error="access_denied", key="k"
    )
    assert record.attempts == {"k": Attempt(count=1, at=AT)}
    assert record.sent == Sent(generation=41, at=AT)
    assert record.rejected == Rejected(digest="d", error="e", at=AT, is_elsewhere=True)
    assert record.busy == Busy(call="refresh", until=AT)
    assert (record.told, record.unknown) == (Told(user="u"), {"later": [1]})
    assert (record.issued_at, record.exchanged_at, record.generation) == (AT, AT, 41)
    assert record.access_token_expires_at == AT + 3_600


def test_what_may_be_absent_is_nothing() -> None:
    """The members of the last line of the contract, and an empty text of a secret."""
    needed = ("schema", "issuer", "token_endpoint", "generation")
    bare = parse_session({name: FULL[name] for name in needed})
    assert isinstance(bare, SessionRecord)
    assert bare == SessionRecord(identity=bare.identity, generation=41)
    assert read(refresh_token="").refresh_token is None
    assert read(access_token="").access_token is None
    plain = render_session(replace(read(), output={}, told=None, history=()))
    assert not {"output", "told", "history"} & plain.keys()


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": 7}, "issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"username": 7}, "username"),
        ({"username": "a\x07"}, "username"),
        ({"useralias": "\u202e"}, "useralias"),
        ({"client_id": []}, "client_id"),
        ({"refresh_token": 7}, "refresh_token"),
        ({"issued_at": 7}, "issued_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"generation": 2**53 - 2}, "generation"),
        ({"generation": 1.5}, "generation"),
        ({"generation": None}, "generation"),
        ({"access_token": "a b"}, "access_token"),
        ({"token_type": "Bea rer"}, "token_type"),
        ({"token_type": "é"}, "token_type"),
        ({"access_token_expires_at": {}}, "access_token_expires_at"),
        ({"claim": "x"}, "claim"),
        ({"claim": {"holder": 7}}, "holder"),
        ({"claim": {**FULL["claim"], "nonce": 7}}, "nonce"),
        ({"claim": {**FULL["claim"], "machine": 7}}, "machine"),
        ({"claim": {**FULL["claim"], "until": "soon"}}, "until"),
        ({"refused": []}, "refused"),
        ({"refused": {**FULL["refused"], "credentials_version": ""}}, "credentials_version"),
        ({"refused": {**FULL["refused"], "count": -1}}, "count"),
        ({"refused": {**FULL["refused"], "error": 7}}, "error"),
        ({"refused": {**FULL["refused"], "key": 7}}, "key"),
        ({"by": 7}, "by"),
        ({"lineage": 7}, "lineage"),
        ({"exchanged_at": 7}, "exchanged_at"),
        ({"attempts": []}, "attempts"),
        ({"attempts": {"k": 7}}, "attempts"),
        ({"attempts": {"k": {"count": 1}}}, "at"),
        ({"attempts": {"k": {"at": STAMP}}}, "count"),
        ({"sent": 7}, "sent"),
        ({"sent": {"at": STAMP}}, "generation"),
        ({"sent": {"generation": 1}}, "at"),
        ({"rejected": 7}, "rejected"),
        ({"rejected": {"at": STAMP}}, "digest"),
        ({"rejected": {"digest": "d"}}, "at"),
        ({"busy": 7}, "busy"),
        ({"busy": {"until": STAMP}}, "call"),
        ({"busy": {"call": "refresh"}}, "until"),
    ],
)
def test_a_member_that_can_not_be_read_is_named(change: dict[str, Any], member: str) -> None:
    """And nothing of its value: the record is another's, or of another time."""
    found = parse_session({**FULL, **change})
    assert isinstance(found, ForeignRecord)
    assert f"member '{member}' can't be read" in found.reason
    assert found.members == {**FULL, **change}
    assert not found.is_newer


@pytest.mark.parametrize(
    ("schema", "is_newer"), [(2, True), (0, False), (True, False), ("1", False), (None, False)]
)
def test_another_schema_is_not_read(schema: object, is_newer: bool) -> None:
    """A higher one is a newer nightporter's, which persons alone write over."""
    found = parse_session({**FULL, "schema": schema})
    assert isinstance(found, ForeignRecord)
    assert found.is_newer is is_newer
    assert "another schema" in found.reason


def test_what_of_a_foreign_record_is_respected() -> None:
    """Its claim, counts, refusals and generation, each as far as it can be read."""
    found = parse_session({**FULL, "schema": 2})
    assert isinstance(found, ForeignRecord)
    record = read()
    assert (found.generation, found.claim, found.attempts, found.refused, found.lineage) == (
        *(41, record.claim, record.attempts, record.refused, "l"),
    )
    odd = {"generation": 2**53 - 2, "claim": 7, "attempts": 7, "refused": 7, "lineage": 7}
    found = parse_session({**FULL, "schema": 2, **odd})
    assert isinstance(found, ForeignRecord)
    assert (found.generation, found.claim, found.attempts) == (0, None, {})
    assert (found.refused, found.lineage) == (None, None)


@pytest.mark.parametrize(
    ("life", "life_s"), [(16, 16), (64, 64), (0, 16), (65, 64), (True, 16), ("64", 16), (None, 16)]
)
def test_no_claim_lives_longer_than_ours(life: object, life_s: int) -> None:
    """Nor shorter, whatever it says."""
    claim = read(claim={"holder": "h", "life": life}).claim
    assert claim == Claim(holder="h", until=0, nonce="", machine=None, life_s=life_s)


def test_what_others_wrote_is_clipped() -> None:
    """Printable ASCII of at most 80 characters, when it is read and when it is written."""
    assert clipped("a" * 81) == "a" * 80
    assert clipped("a\x1bé~ ") == "a??~ "
    assert clipped(None) is None
    long = "x" * 81
    record = read(by=long, lineage=long, refused={**FULL["refused"], "error": long})
    assert (record.by, record.lineage) == ("x" * 80, "x" * 80)
    assert record.refused is not None
    assert record.refused.error == "x" * 80
    written = render_session(
        replace(
            record,
            by=long,
            claim=Claim(holder=long, until=AT, nonce="n"),
            refused=replace(record.refused, error=long),
            rejected=Rejected(digest="d", error=long, at=AT),
        )
    )
    assert (written["by"], written["claim"]["holder"]) == ("x" * 80, "x" * 80)
    assert (written["refused"]["error"], written["rejected"]["error"]) == ("x" * 80, "x" * 80)
    assert "used_elsewhere" not in written["rejected"]


def test_the_newest_eight_attempts_are_kept() -> None:
    """By their time."""
    attempts = {f"k{number}": Attempt(count=1, at=AT - number) for number in range(9)}
    kept = render_session(replace(read(), attempts=attempts))["attempts"]
    assert set(kept) == {f"k{number}" for number in range(8)}


@pytest.mark.parametrize("generation", [41.0, 0, 2**53 - 3])
def test_a_whole_number_may_come_back_as_a_float(generation: float) -> None:
    """Of Vault's JSON, by other writers' tools."""
    assert read(generation=generation).generation == generation


def test_what_we_could_not_read_back_is_not_written() -> None:
    """Text that is no Unicode, a value that JSON has not, a member out of shape."""
    assert is_readable(FULL)
    for change in ({"later": "\udc80"}, {"later": object()}, {"generation": -1}):
        assert not is_readable({**FULL, **change})


# What outlives its value.


def test_what_outlives_the_value() -> None:
    """The counts, the newest two attempts, the refusal and the busy time; the rest as room is."""
    attempts = {
        f"k{number}": {"count": number, "at": f"2026-07-14T14:00:0{number}Z"} for number in range(3)
    }
    value = {**FULL, "attempts": attempts}
    text = remains_of(value, max_bytes=512)
    assert text is not None
    record = read(attempts=attempts)
    found = parse_remains(text)
    assert found == Remains(
        generation=41,
        lineage="l",
        attempts={key: record.attempts[key] for key in ("k1", "k2")},
        refused=record.refused,
        busy=record.busy,
    )
    sizes: dict[tuple[int, bool, bool] | None, int] = {}
    for room in range(512, 0, -1):
        kept = parse_remains(remains_of(value, max_bytes=room))
        shape = None
        if kept is not None:
            shape = (len(kept.attempts), kept.refused is not None, kept.busy is not None)
        sizes.setdefault(shape, room)
    assert list(sizes) == [
        *((2, True, True), (1, True, False), (1, False, False), (0, False, False), None),
    ]
    for shape, room in sizes.items():
        if shape:
            assert len((remains_of(value, max_bytes=room) or "").encode()) <= room
    assert remains_of({"x": 1}, max_bytes=512) is None


@pytest.mark.parametrize("text", [None, 7, "", "[]", "{}", "[" * 100_000, '{"generation": -1}'])
def test_remains_that_can_not_be_read_are_none(text: object) -> None:
    """Anybody may write there; a count is bounded."""
    assert parse_remains(text) is None
    bounded = parse_remains(json.dumps({"generation": 2**53 - 1}))
    assert bounded is not None
    assert bounded.generation < 2**53 - 2


def test_when_a_session_was_last_exchanged_and_dies_unused() -> None:
    """By the record, else by when it was brought; a guess of the row's."""
    record = read(exchanged_at=None)
    assert last_exchange(record) == AT
    assert last_exchange(read(issued_at=None)) == AT
    assert last_exchange(None) is None
    of = profile(SHARING)
    idle = replace(of, options={**of.options, "idle_life": "1h"})
    assert idle_end(record, idle) == AT + 3_600
    assert idle_end(record, replace(of, options={})) is None
    for none in (None, replace(record, refresh_token=None), replace(record, issued_at=None)):
        assert idle_end(none, idle) is None


# Published tokens.


def published(**change: Any) -> dict[str, Any]:
    of = profile(SHARING)
    token = Token(
        Secret("P"),
        token_type="Bearer",
        expires_at_s=NOW + 600,
        obtained_at_s=0.0,
        generation=7,
        output={"a": "b"},
    )
    identity = replace(read().identity, issuer=of.issuer, token_endpoint=of.token_endpoint)
    value = render_published(identity, token, exchanged_at=NOW, expires_at=NOW + 600)
    return {**value, **change}


def test_a_published_token_reads_back() -> None:
    """With what goes beside it; no longer than a day after its exchange."""
    found = parse_published(published(), profile(SHARING), now=NOW)
    assert found is not None
    assert (found.secret, found.expires_at, found.exchanged_at) == (Secret("P"), NOW + 600, NOW)
    assert (found.generation, found.output) == (7, {"a": "b"})
    token = Token(Secret("P"), token_type="Bearer", expires_at_s=0, obtained_at_s=0.0)
    value = render_published(read().identity, token, exchanged_at=NOW, expires_at=NOW + 90_000)
    assert value["expires_at"] == "2026-07-15T14:00:00Z"
    assert "output" not in value


@pytest.mark.parametrize(
    ("change", "is_read"),
    [
        ({"schema": 2}, False),
        ({"schema": True}, False),
        ({"issuer": "other"}, False),
        ({"token_endpoint": "https://evil.example"}, False),
        ({"access_token": ""}, False),
        ({"access_token": None}, False),
        ({"access_token": "a b"}, False),
        ({"expires_at": None}, False),
        ({"expires_at": "soon"}, False),
        ({"generation": -1}, False),
        ({"generation": 2**53 - 2}, False),
        ({"token_type": "MAC"}, False),
        ({"token_type": "bearer"}, True),
        ({"token_type": None}, True),
        ({"exchanged_at": None}, True),
        ({"exchanged_at": "2026-07-14T14:00:05Z"}, True),
        ({"exchanged_at": "2026-07-14T14:00:06Z"}, False),
        ({"expires_at": "2026-07-15T14:00:00Z"}, True),
        ({"expires_at": "2026-07-15T14:00:01Z"}, False),
        ({"output": "x"}, True),
    ],
)
def test_what_is_published_is_believed_within_bounds(change: dict[str, Any], is_read: bool) -> None:
    """A bearer token of this issuer, of an exchange that is not in the future, for a day at
    most."""
    found = parse_published(published(**change), profile(SHARING), now=NOW)
    assert (found is not None) is is_read
    assert parse_published(None, profile(SHARING), now=NOW) is None


# Credentials.


def test_credentials_are_read_by_their_names() -> None:
    """The client's secret goes over the other; a number of a partner is text."""
    value = {"username": "u", "password": "p", "useralias": "a", "partner_id": 7, "client_id": "x"}
    client = {"client_id": "c", "client_secret": "s", "private_key": "k", "key_id": "i"}
    found = parse_credentials(value, "v", {}, {**client, "certificate": "z"})
    assert (found.version, found.username, found.password) == ("v", "u", Secret("p"))
    assert (found.useralias, found.partner_id, found.client_id) == ("a", "7", "c")
    assert (found.client_secret, found.private_key) == (Secret("s"), Secret("k"))
    assert (found.key_id, found.certificate) == ("i", "z")
    odds: list[dict[str, Any]] = [{"username": ""}, {"username": 7}, {"partner_id": []}]
    for odd in odds:
        with pytest.raises(ValueError, match="is not a non-empty string"):
            parse_credentials(odd, "v", {})
