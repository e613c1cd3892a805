"""The session record between JSON and memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.model import Identity, Secret, SessionRecord
from nightporter.core.record import (
    ForeignRecord,
    Unreadable,
    is_expired,
    parse_credentials,
    parse_session,
    render_session,
)
from nightporter.core.values import replace

EXAMPLE: dict[str, Any] = {
    "schema": 1,
    "issuer": "pitchpoint",
    "token_endpoint": "https://api.pointservices.com",
    "username": "svc-acme",
    "useralias": None,
    "client_id": None,
    "refresh_token": "r",
    "issued_at": "2026-07-14T14:00:00Z",
    "expires_at": "2026-07-16T04:00:00Z",
    "generation": 41,
    "access_token": None,
    "token_type": "Bearer",
    "access_token_expires_at": None,
    "claim": {"holder": "host/1/2", "until": "2026-07-14T14:00:15Z"},
    "refused": {
        "credentials_version": "7",
        "until": "2026-07-14T15:00:00Z",
        "count": 2,
        "error": "access_denied",
    },
    "by": "host",
}


def test_the_contract_s_example_survives() -> None:
    record = parse_session(EXAMPLE)
    assert isinstance(record, SessionRecord)
    again = render_session(record)
    assert again.pop("claim") == {**EXAMPLE["claim"], "nonce": "", "machine": None, "life": 16}
    later = {"lineage", "exchanged_at", "attempts", "sent", "rejected", "busy"}
    assert {key: again.pop(key) for key in later if again[key]} == {}
    assert {key: value for key, value in again.items() if key not in later} == {
        key: value for key, value in EXAMPLE.items() if key != "claim"
    }


@pytest.mark.parametrize("key", ["username", "useralias", "client_id"])
@pytest.mark.parametrize("text", ["a\x1b[2J", "a\u202eb", "a\nb", "a\x85"])
def test_a_name_that_is_not_printable_is_no_name(key: str, text: str) -> None:
    """What people read is made printable at the edge too; this is what may go on from here."""
    found = parse_session({**EXAMPLE, key: text})
    assert isinstance(found, ForeignRecord)
    assert key in found.reason
    assert text not in found.reason


def test_unknown_members_survive_and_never_take_ours() -> None:
    record = parse_session({**EXAMPLE, "later": [1]})
    assert isinstance(record, SessionRecord)
    assert render_session(record)["later"] == [1]
    taking = replace(record, unknown={"later": [1], "refresh_token": "theirs", "generation": 99})
    rendered = render_session(taking)
    assert (rendered["refresh_token"], rendered["generation"]) == (
        EXAMPLE["refresh_token"],
        EXAMPLE["generation"],
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"hello": "world"},
        {**EXAMPLE, "schema": 2},
        {**EXAMPLE, "schema": True},
        {**EXAMPLE, "issuer": None},
        {**EXAMPLE, "generation": -1},
        {**EXAMPLE, "generation": True},
        {**EXAMPLE, "claim": "x"},
        {**EXAMPLE, "claim": {}},
        {**EXAMPLE, "refused": {"until": "x"}},
        {**EXAMPLE, "refresh_token": 7},
        Unreadable(reason="torn"),
    ],
)
def test_what_is_not_a_record_is_foreign(value: Any) -> None:
    assert isinstance(parse_session(value), ForeignRecord)


def test_a_foreign_record_says_nothing_of_its_values() -> None:
    found = parse_session({**EXAMPLE, "refresh_token": ["hunter2"]})
    assert isinstance(found, ForeignRecord)
    assert "hunter2" not in found.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=25),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(EXAMPLE, json_values)))
def test_any_object_is_a_record_or_foreign(changes: dict[str, Any]) -> None:
    found = parse_session({**EXAMPLE, **changes})
    if isinstance(found, SessionRecord):
        assert isinstance(parse_session(render_session(found)), SessionRecord)


def test_nothing_prints_a_secret() -> None:
    record = SessionRecord(
        identity=Identity(issuer="i", token_endpoint="e"),
        refresh_token=Secret("hunter2"),
        access_token=Secret("hunter3"),
    )
    assert "hunter" not in repr(record)
    assert "hunter" not in str(record.refresh_token)


def test_null_matches_any_identity() -> None:
    ours = Identity(issuer="i", token_endpoint="e", username="u")
    assert ours.matches(Identity(issuer="i", token_endpoint="e"))
    assert Identity(issuer="i", token_endpoint="e").matches(ours)
    assert not ours.matches(Identity(issuer="i", token_endpoint="e", username="v"))
    assert not ours.matches(Identity(issuer="i", token_endpoint="f"))


def test_expired() -> None:
    assert is_expired({"expires_at": "2026-07-16T04:00:00Z"}, 1784174400)
    assert not is_expired({"expires_at": "2026-07-16T04:00:00Z"}, 1784174399)
    odds: list[Any] = [None, 7, "soon", []]
    for odd in odds:
        assert not is_expired({"expires_at": odd}, 2e9)


def test_credentials_by_other_names_and_from_two_secrets() -> None:
    found = parse_credentials(
        {"user": "u", "password": "p"}, "7", {"username": "user"}, {"client_id": "c"}
    )
    assert (found.username, found.client_id, found.version) == ("u", "c", "7")
    assert found.password is not None
    with pytest.raises(ValueError, match="'user'"):
        parse_credentials({"user": 7}, "7", {"username": "user"})
