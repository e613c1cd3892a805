"""The nouns: what each says of itself, whom a session fits, and that no plaintext is printed."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest

from lab.still import REUSED, ROTATING, SHARING, profile
from nightporter.core.errors import (
    CredentialsRefusedError,
    NightporterError,
    SessionRejectedError,
    StoreBusyError,
    from_members,
    to_members,
)
from nightporter.core.model import Ask, Grant, Identity, Role, Secret, Token, is_token_text
from nightporter.core.told import Told, claims_of, is_user, members_of, parse_told, render_told
from nightporter.core.values import dataclass, field, fields
from nightporter.issuers import VENDORS

# Secrets and tokens.


def test_a_secret_is_printed_nowhere() -> None:
    """And leaves no process; two are equal where their plaintext is."""
    secret = Secret("hunter22")
    assert "hunter22" not in f"{secret} {secret!r}"
    assert (secret == Secret("hunter22"), secret == Secret("x"), secret == "hunter22") == (
        *(True, False, False),
    )
    assert len({secret, Secret("hunter22")}) == 1
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def token(**more: Any) -> Token:
    return Token(Secret("T"), token_type="Bearer", expires_at_s=1_000, obtained_at_s=400.0, **more)


def test_what_is_left_of_a_token_counts_on_the_clock_that_nobody_sets() -> None:
    """Where its end on it is known; else by the wall clock."""
    assert token(ends_s=77.0).left_s(wall_s=0, boot_s=70) == 7
    assert token().left_s(wall_s=990, boot_s=0) == 10
    assert token().life_s == 600
    assert token(life_s=5.0).life_s == 5
    assert (token().output, token().generation, token().exchanged_at_s) == ({}, 0, 0)
    assert token(output={"a": "b"}).output == {"a": "b"}
    assert token().expires_at.isoformat() == "1970-01-01T00:16:40+00:00"
    assert (
        repr(token()) == str(token()) == ("<Token Bearer *** expires_at=1970-01-01T00:16:40+00:00>")
    )


@pytest.mark.parametrize(
    ("value", "is_one"),
    [("a!~", True), ("", False), ("a b", False), ("a\x7f", False), ("é", False), (None, False)],
)
def test_an_access_token_is_visible_ascii(value: object, is_one: bool) -> None:
    """So that no output or header can be broken with it."""
    assert is_token_text(value) is is_one


# Grants, vendors, profiles.


@pytest.mark.parametrize(
    ("grant", "facts"),
    [
        (Grant.PASSWORD, (True, False, False, True, True, False)),
        (Grant.CLIENT_CREDENTIALS, (True, False, False, False, False, True)),
        (Grant.REFRESH_TOKEN, (False, False, True, True, False, False)),
        (Grant.AUTHORIZATION_CODE, (False, True, False, True, False, False)),
        (Grant.DEVICE_CODE, (False, True, False, True, False, False)),
    ],
)
def test_what_a_grant_says_of_itself(grant: Grant, facts: tuple[bool, ...]) -> None:
    """Who begins a session, whether there is one, and what is sent for it."""
    assert facts == (
        *(grant.is_unattended, grant.needs_person, grant.is_seeded),
        *(grant.has_session, grant.sends_password, grant.needs_client_secret),
    )


def test_which_rows_are_data_alone() -> None:
    """Not those with an adapter, with defaults of their own, or for every issuer."""
    found = {name: (row.is_any, row.is_adapted, row.is_data) for name, row in VENDORS.items()}
    assert {name for name, (is_any, _, _) in found.items() if is_any} == {"oauth2"}
    assert {name for name, (_, is_adapted, _) in found.items() if is_adapted} == {
        *("pitchpoint", "vault-ist"),
    }
    assert not any(found[name][2] for name in ("oauth2", "pitchpoint", "vault-ist", "entra"))
    assert not found["perspio"][2]
    assert found["xero"][2]


@pytest.mark.parametrize(
    ("text", "exclusive", "rotates", "strict", "unattended"),
    [
        (SHARING, True, False, False, True),
        (REUSED, False, False, False, True),
        (REUSED + 'role = "refresh-only"\n', False, False, False, False),
        (ROTATING, True, True, True, False),
        (ROTATING + "grace = 60\n", True, True, False, False),
    ],
)
def test_what_a_profile_says_of_itself(
    text: str, exclusive: bool, rotates: bool, strict: bool, unattended: bool
) -> None:
    """Who needs a claim, whether a token may be sent twice, and who signs in."""
    found = profile(text)
    assert (found.is_exclusive, found.may_rotate) == (exclusive, rotates)
    assert (found.is_strict, found.signs_in_unattended) == (strict, unattended)
    assert found.issuer == found.vendor.name


def test_a_role_s_words_are_the_configuration_s() -> None:
    """As the contract names them."""
    assert [role.value for role in Role] == ["full", "refresh-only", "read-only"]


MINE = Identity(issuer="i", token_endpoint="t", username="u", useralias="a", client_id="c")


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        ({}, True),
        ({"issuer": "j"}, False),
        ({"token_endpoint": "s"}, False),
        ({"username": None, "useralias": None, "client_id": None}, True),
        ({"username": "v"}, False),
        ({"useralias": "b"}, False),
        ({"client_id": "d"}, False),
        ({"username": ""}, False),
    ],
)
def test_a_session_fits_whom_it_may_be_of(other: dict[str, Any], fits: bool) -> None:
    """None is unknown and fits any, on either side; an issuer is always known."""
    members = {"issuer": "i", "token_endpoint": "t", "username": "u", "useralias": "a"}
    theirs = Identity(**{**members, "client_id": "c", **other})
    assert MINE.matches(theirs) is fits
    assert theirs.matches(MINE) is fits


def test_an_ask_that_says_nothing_takes_any_token() -> None:
    """Nothing is refused, forced or better than something."""
    ask = Ask(deadline=1.0)
    assert not ask.is_refused("x")
    assert (ask.min_ttl_s, ask.better_than_ends_s) == (0, None)
    assert (ask.is_forced, ask.is_sign_in, ask.retry_refused) == (False, False, False)


# Errors between processes.


def test_an_error_s_members() -> None:
    """All that a note for the next process holds."""
    refused = CredentialsRefusedError("m", error="e", until=77, hint="h")
    assert to_members(refused) == {
        "class": "CredentialsRefusedError",
        "message": "m",
        "hint": "h",
        "retry_after": None,
        "error": "e",
        "until": 77,
    }
    found = from_members(to_members(refused))
    assert isinstance(found, CredentialsRefusedError)
    assert (found.error, found.until) == ("e", 77)
    rejected = to_members(SessionRejectedError("m", error="e"))
    assert rejected["error"] == "e"
    assert "until" not in rejected
    assert "error" not in to_members(StoreBusyError("m"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3, 3.0), (0, 0.0), (-1, None), (1e9, None), (10**400, None), ("3", None), (None, None)],
)
def test_a_note_s_numbers_are_bounded(value: object, seconds: float | None) -> None:
    """JSON's have no end, and a note may be anybody's."""
    found = from_members({"class": "StoreBusyError", "message": "m", "retry_after": value})
    assert isinstance(found, StoreBusyError)
    assert found.retry_after_s == seconds


@pytest.mark.parametrize("name", ["dict", "Any", "no such", "", None, 7])
def test_a_note_of_another_class_is_a_defect(name: object) -> None:
    """No class but ours is ever made of it."""
    found = from_members({"class": name, "message": "m", "until": "x"})
    assert type(found) is NightporterError
    assert found.message == "m"


# What an id_token tells, and what a record keeps of it.


def jwt(payload: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    return f"h.{body}.s"


def test_an_id_token_is_read_and_bounded() -> None:
    """64 KiB; what is no object tells nothing."""
    assert members_of(jwt({"a": 1})) == {"a": 1}
    room = 65_536 - len(jwt({"a": ""}))
    longest = jwt({"a": "x" * (room * 3 // 4 - 3)})
    assert members_of(longest + "s" * (65_536 - len(longest))) is not None
    assert members_of(longest + "s" * (65_537 - len(longest))) is None
    for odd in (jwt([1]), "x", "h.%.s", None, 7):
        assert members_of(odd) is None


def test_who_an_id_token_is_about() -> None:
    """By any of its names, each once, in the order in which they are looked for."""
    told = {"sub": "s", "name": "N", "email": "e@x", "upn": "e@x", "preferred_username": "p"}
    found = claims_of(jwt(told))
    assert found is not None
    assert (found.subject, found.names) == ("s", ("p", "e@x", "N"))
    named = claims_of(jwt({"unique_name": "u", "username": "n"}))
    assert named is not None
    assert (named.subject, named.names) == (None, ("u", "n"))
    assert claims_of(jwt({"sub": "", "name": 7})) is None
    for user, is_theirs in (("P", True), ("s", True), ("E@x", True), ("e", True), ("x", False)):
        assert is_user(found, user) is is_theirs
    assert not is_user(found, "e@y")


TOLD = Told(missing=("a", "b"), subject="s", user="u", is_other_user=True, is_said=True, words="w")
MEMBERS = {"missing_scope": "a b", "subject": "s", "user": "u", "other_user": True, "said": True}
MEMBERS |= {"words": "w"}


def test_what_was_told_reads_back() -> None:
    """What says nothing is left out, and nothing at all is no member."""
    assert render_told(TOLD) == MEMBERS
    assert parse_told(MEMBERS) == TOLD
    assert render_told(Told()) is render_told(None) is None
    assert render_told(Told(user="u")) == {"user": "u"}
    assert TOLD.who == "u"
    assert Told(subject="s").who == "s"


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"other_user": 1}, "is_other_user", False),
        ({"said": "true"}, "is_said", False),
        ({"words": "\x1b"}, "words", ""),
        ({"words": 7}, "words", ""),
        ({"words": "w" * 201}, "words", "w" * 200),
        ({"subject": ""}, "subject", None),
        ({"subject": "s" * 256}, "subject", "s" * 255),
        ({"user": "\u202e"}, "user", None),
        ({"missing_scope": None}, "missing", ()),
        ({"missing_scope": "x" * 250 + " " + " ".join("ab" * 250)}, "missing", None),
    ],
)
def test_what_does_not_fit_is_left_out(change: dict[str, Any], name: str, value: Any) -> None:
    """Nothing rests on it, and the others stay; scopes fill a thousand characters at most."""
    found = parse_told({**MEMBERS, **change})
    assert found is not None
    if value is None and name == "missing":
        assert sum(len(scope) + 1 for scope in found.missing) <= 1_000
        return
    assert getattr(found, name) == value
    assert parse_told("x") is None


# Fields that no argument sets.


def test_a_field_that_no_argument_sets_has_its_default() -> None:
    """Made for each instance, or one value; without either `__post_init__` sets it."""

    @dataclass(slots=True)
    class Box:
        given: int
        made: list[int] = field(init=False, default_factory=list)
        fixed: int = field(init=False, default=7)
        later: int = field(init=False)

        def __post_init__(self) -> None:
            self.later = self.given + 1

    first, second = Box(1), Box(given=2)
    assert (first.made, first.fixed, first.later) == ([], 7, 2)
    assert first.made is not second.made
    assert [one.name for one in fields(first)] == ["given", "made", "fixed", "later"]
    for wrong in ({}, {"given": 1, "other": 2}, {"given": 1, "made": []}):
        with pytest.raises(TypeError):
            Box(**wrong)
    with pytest.raises(TypeError, match="each once"):
        Box(1, given=1)  # type: ignore[misc]
