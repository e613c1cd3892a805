"""Digests of past refresh tokens, and an issuer's words about a token that came twice."""

from __future__ import annotations

import pytest

from nightporter.core.lineage import (
    Link,
    extended,
    parse_history,
    render_history,
    says_used_before,
    token_digest,
)

LINK = Link(digest="0123abcd", parent=None, generation=1, at=1_790_000_000, by="host", how="seed")


@pytest.mark.parametrize(
    "words",
    [
        "Refresh token was used before.",
        "Maximum allowed refresh token reuse exceeded",
        "Invalid Refresh Token: Already Used",
        "The refresh token has already been used",
        "refresh_token_already_used",
        "refresh token reuse detected",
        "token has been redeemed: it was already redeemed",
    ],
)
def test_words_about_a_token_that_came_twice(words: str) -> None:
    assert says_used_before(words)


@pytest.mark.parametrize(
    "words",
    [
        "Refresh token has expired or is invalid.",
        "Token is not active",
        "The user's password has changed",
        "AADSTS70008: The refresh token has expired due to inactivity.",
        "because of a policy",
        "",
        None,
        7,
    ],
)
def test_words_about_anything_else(words: object) -> None:
    assert not says_used_before(words)


def test_a_history_reads_back_and_is_bounded() -> None:
    history: tuple[Link, ...] = ()
    for _ in range(20):
        history = extended(history, LINK)
    assert len(history) == 8
    assert parse_history(render_history(history)) == history


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [None, 1, {}],
        [{"at": "yesterday", "generation": 1, "how": "seed"}],
        [{"at": "2026-07-14T14:00:00Z", "generation": True, "how": "seed"}],
        [{"at": "2026-07-14T14:00:00Z", "generation": 1, "how": "magic"}],
    ],
)
def test_what_others_write_costs_no_record(value: object) -> None:
    assert parse_history(value) == ()


def test_names_of_others_are_not_shown_as_they_are() -> None:
    item = render_history([LINK])[0] | {"by": "\x1b[31m", "digest": "../../x", "parent": 7}
    (found,) = parse_history([item])
    assert (found.by, found.digest, found.parent) == (None, None, None)


def test_a_digest_is_salted_with_the_lineage_and_short() -> None:
    assert token_digest("a", "token") != token_digest("b", "token")
    assert len(token_digest("a", "token") or "") == 8
    assert token_digest(None, "token") is token_digest("a", None) is None
