"""What replies tell beside the tokens: scopes that were not granted, whose session it is, and the
issuer's own words."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.scope import missing_scopes, scopes_of
from nightporter.core.told import (
    NOTHING,
    Claims,
    Told,
    claims_of,
    is_user,
    parse_told,
    render_told,
    told_after,
)
from nightporter.core.words import MAX_WORDS, safe_words

# Scopes.


def missing(asked: Any, granted: Any) -> tuple[str, ...]:
    return missing_scopes(scopes_of(asked) or (), scopes_of(granted) or ())


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("read write", "write read"),
        ("read write", "write,read"),
        ("read write", ["write", "read", "more"]),
        (["read", "write"], "read  write\n"),
        ("read offline_access openid", "read"),
        ("api://perspiotalk/.default", "api://perspiotalk/access_as_user"),
        ("https://graph.example/.default offline_access", "https://graph.example/User.Read"),
        ("api://perspiotalk/all_readwrite", "api%3A%2F%2Fperspiotalk%2Fall_readwrite"),
        ("https://graph.example/User.Read", "User.Read profile openid email"),
        ("user.read", "https://graph.example/User.Read"),
        ("email", "https://www.example.com/auth/userinfo.email openid"),
        ("api://x/use openid profile email offline_access", "api://x/use"),
        ("api refresh_token", "api id"),
        ("", "read"),
        (None, "policy"),
    ],
)
def test_what_is_only_written_in_another_way_is_no_narrowing(asked: Any, granted: Any) -> None:
    assert missing(asked, granted) == ()


@pytest.mark.parametrize(
    ("asked", "granted", "lost"),
    [
        ("read write", "read", ("write",)),
        ("read write", "", ("read", "write")),
        ("read write admin", "admin,READ", ("write",)),
        ("openid write", "openid", ("write",)),
        ("api://a/write", "api://b/write", ("api://a/write",)),
        ("api://a/write", "api://a/write_all", ("api://a/write",)),
        ("read", "read:user", ("read",)),
        ("openid profile email", "openid profile", ("email",)),
        ("profile", "", ("profile",)),
    ],
)
def test_what_was_not_granted(asked: str, granted: str, lost: tuple[str, ...]) -> None:
    assert missing(asked, granted) == lost


@pytest.mark.parametrize("silent", [None, 7, {"read": True}, ["read", 7]])
def test_a_reply_without_scopes_says_nothing(silent: Any) -> None:
    assert scopes_of(silent) is None


def after(before: Told = NOTHING, *, is_refresh: bool = True, **keys: Any) -> Told:
    known: dict[str, Any] = {"asked": "read write", "granted": None, "claims": None}
    known |= {"username": None, "is_heard": True, **keys}
    return told_after(before, is_refresh=is_refresh, **known)


NARROW = Told(missing=("write",), is_said=True)


def test_a_refresh_without_scopes_changes_nothing_and_a_sign_in_without_them_granted_all() -> None:
    assert after(NARROW) == NARROW
    assert after(NARROW, is_refresh=False) == NOTHING


def test_it_is_said_once_per_change_and_not_by_who_is_not_heard() -> None:
    unheard = after(granted=("read",), is_heard=False)
    assert (unheard.missing, unheard.is_said) == (("write",), False)
    assert after(unheard, granted=("read",), is_heard=False) == unheard
    said = after(unheard, granted=("read",))
    assert said == NARROW
    assert after(said, granted=("read",), is_heard=False) == said
    assert not after(said, granted=(), is_heard=False).is_said
    assert after(said, granted=("read", "write")) == NOTHING


# Whose session it is.


def id_token(members: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def test_the_claims_of_an_id_token() -> None:
    found = claims_of(id_token({"sub": "s-1", "email": "a@b", "preferred_username": "alice"}))
    assert found == Claims(subject="s-1", names=("alice", "a@b"))


@pytest.mark.parametrize(
    "senseless",
    [
        None,
        7,
        "",
        "a",
        "a.b.c",
        "e30.e30.",
        "e30.W10.",
        id_token([1]),
        "e30." + "x" * 70_000,
        "é.",
    ],
)
def test_an_id_token_that_can_not_be_read_tells_nothing(senseless: Any) -> None:
    assert claims_of(senseless) is None


@pytest.mark.parametrize("sub", [7, "a\x1b[31mb", "a\u202eb", ""])
def test_a_subject_that_can_not_be_printed_is_not_kept(sub: Any) -> None:
    assert claims_of(id_token({"sub": sub})) is None


ALICE = Claims(subject="s-1", names=("Alice@corp.example", "Alice Doe"))


@pytest.mark.parametrize("name", ["alice@CORP.example", "alice", "alice doe", "s-1"])
def test_a_user_is_known_by_any_of_the_names(name: str) -> None:
    assert is_user(ALICE, name)


@pytest.mark.parametrize("name", ["bob", "alice@other.example", "alic"])
def test_another_user_is_not(name: str) -> None:
    assert not is_user(ALICE, name)
    assert after(claims=ALICE, username=name).is_other_user


def test_an_id_token_without_names_is_no_proof_of_another_user() -> None:
    assert is_user(Claims(subject="s-1"), "alice")


# In the record.


def test_the_record_keeps_what_was_told() -> None:
    told = Told(missing=("a", "b"), subject="s", user="u", is_other_user=True, words="no")
    assert parse_told(json.loads(json.dumps(render_told(told)))) == told
    assert render_told(NOTHING) is None


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), st.lists))
def test_nothing_in_a_record_breaks_it(value: Any) -> None:
    members = ("missing_scope", "subject", "user", "other_user", "said", "words")
    found = parse_told(dict.fromkeys(members, value))
    assert found is not None
    assert found.words.isprintable()
    assert parse_told(render_told(found) or {}) == found


def test_a_thousand_scopes_do_not_fill_the_record() -> None:
    asked = " ".join(f"scope-{number}" for number in range(1000))
    found = after(asked=asked, granted=("read",))
    assert 0 < len(json.dumps(render_told(found))) < 1_200
    again = after(parse_told(render_told(found)) or NOTHING, asked=asked, granted=("read",))
    assert again.missing == found.missing


# The issuer's words.

PASSWORD = "correct-horse/battery staple ü+1"


@pytest.mark.parametrize(
    "text",
    [
        f"the password {PASSWORD} is wrong",
        f"the password {PASSWORD.upper()} is wrong",
        f"body: password={quote_plus(PASSWORD)}&x=1",
        json.dumps({"password": PASSWORD}),
        f"begins with {PASSWORD[:12]}",
        f"ends with {PASSWORD[12:]}",
        f"split \x1b{PASSWORD[:9]}\x00{PASSWORD[9:]}",
        "Basic " + base64.b64encode(PASSWORD.encode()).decode(),
        "x" * 190 + PASSWORD,
    ],
)
def test_no_secret_is_in_the_words(text: str) -> None:
    shown = safe_words(text, [PASSWORD])
    for start in range(len(PASSWORD) - 8):
        assert PASSWORD[start : start + 9].casefold() not in shown.casefold()
    assert "***" in shown or "..." in shown


@pytest.mark.parametrize(
    "token",
    [
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        "AMf-vBxITbnfBBMJpPXMvop1qa1cMaUuqAKX",
        "gho_16C7e42F292c6912E7",
    ],
)
def test_what_looks_like_a_token_is_masked_also_where_it_is_not_ours(token: str) -> None:
    assert safe_words(f"the token {token}, is dead") == "the token ***, is dead"


def test_a_usual_word_is_no_part_of_a_secret_that_must_be_hidden() -> None:
    said = "Invalid username / password combination"
    assert safe_words(said, ["a-wrong-password"]) == said
    assert safe_words(said, ["password"]) == "Invalid username / *** combination"
    assert safe_words("no such a-wrong-password", ["a-wrong-password"]) == "no such ***"


def test_what_people_need_stays() -> None:
    said = (
        "AADSTS50173: The provided grant has expired. Trace ID:"
        " 0b1e8ae6-3a3b-4a4c-9d9d-1f2e3d4c5b6a"
    )
    assert safe_words(said, ["some-secret"]) == said


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_the_words_are_printable_short_and_without_a_secret(text: str, secrets: list[str]) -> None:
    shown = safe_words(text, secrets)
    assert shown.isprintable()
    assert len(shown) <= MAX_WORDS


@pytest.mark.parametrize("text", [None, 7, {"a": 1}, ["x"]])
def test_what_is_no_text_is_no_word(text: Any) -> None:
    assert safe_words(text) == ""
