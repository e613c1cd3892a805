"""Answers of token endpoints, and what they mean for the call that was made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.errors import (
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerError,
    IssuerReplyError,
    NightporterError,
    OutcomeUnknownError,
    SessionRejectedError,
    SignInThrottledError,
)
from nightporter.core.model import Secret
from nightporter.issuers.dialect import Dialect
from nightporter.issuers.oauth import Call, Response, parse_tokens


def reply(status: int, members: Any, **headers: str) -> Response:
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    return Response(status=status, headers=headers, body=body)


GOOD = {"access_token": "a.b.c", "refresh_token": "AMf-1", "expires_in": 3600}


def test_the_vendors_example_answer() -> None:
    """The document's refresh answer, whose JWT claims an expiry in January 1970: they are not
    looked at."""
    found = parse_tokens(
        reply(200, {**GOOD, "scope": "policy", "token_type": "Bearer"}), Call.REFRESH
    )
    assert found.access_token.reveal() == "a.b.c"
    assert found.refresh_token is not None
    assert (found.refresh_token.reveal(), found.expires_in, found.token_type) == (
        "AMf-1",
        3600,
        "Bearer",
    )


@pytest.mark.parametrize(
    ("given_as", "seconds"), [(3600, 3600), ("3600", 3600), (3599.9, 3599), (None, 3600)]
)
def test_expires_in_as_number_numeric_string_or_absent(given_as: Any, seconds: int) -> None:
    assert (
        parse_tokens(reply(200, {**GOOD, "expires_in": given_as}), Call.SIGN_IN).expires_in
        == seconds
    )


@pytest.mark.parametrize("senseless", [-1, 0, "-5", "soon", True, [], {}, 1e300, "1e9", ""])
def test_a_senseless_expires_in_is_an_issuer_error(senseless: Any) -> None:
    with pytest.raises(IssuerReplyError, match="expires_in"):
        parse_tokens(reply(200, {**GOOD, "expires_in": senseless}), Call.SIGN_IN)


@pytest.mark.parametrize("token", [None, "", "a b", "a\nb", "a\x00b", "ü", 7, ["a"]])
def test_an_access_token_must_be_visible_ascii(token: Any) -> None:
    with pytest.raises(IssuerReplyError, match="access_token"):
        parse_tokens(reply(200, {**GOOD, "access_token": token}), Call.SIGN_IN)


def test_an_empty_refresh_token_is_none() -> None:
    """Azure/kubelogin PR 63: an empty one replaced the good one."""
    assert (
        parse_tokens(reply(200, {**GOOD, "refresh_token": ""}), Call.REFRESH).refresh_token is None
    )


def test_access_denied_is_a_wrong_password_at_sign_in_and_a_dead_token_at_refresh() -> None:
    answer = reply(
        403,
        {"error": "access_denied", "error_description": "Invalid username / password combination"},
    )
    with pytest.raises(CredentialsRefusedError):
        parse_tokens(answer, Call.SIGN_IN)
    with pytest.raises(SessionRejectedError) as rejected:
        parse_tokens(answer, Call.REFRESH)
    assert rejected.value.is_certain


CLASSES: list[tuple[int, Any, type[NightporterError], type[NightporterError]]] = [
    (400, {"error": "invalid_grant"}, CredentialsRefusedError, SessionRejectedError),
    (200, {"error": "invalid_grant"}, CredentialsRefusedError, SessionRejectedError),
    (
        400,
        {"error": {"code": 400, "message": "TOKEN_EXPIRED"}},
        CredentialsRefusedError,
        SessionRejectedError,
    ),
    (
        400,
        {"error": {"message": "INVALID_REFRESH_TOKEN : x"}},
        CredentialsRefusedError,
        SessionRejectedError,
    ),
    (
        401,
        {"status": "UNAUTHORIZED", "message": "no", "traceId": "1", "errors": []},
        CredentialsRefusedError,
        SessionRejectedError,
    ),
    (401, {"error": "invalid_client"}, CredentialsRefusedError, CredentialsRefusedError),
    (
        400,
        {"error": {"message": "USER_DISABLED"}},
        CredentialsRefusedError,
        CredentialsRefusedError,
    ),
    (
        400,
        {"error": {"message": "TOO_MANY_ATTEMPTS_TRY_LATER : x"}},
        SignInThrottledError,
        SignInThrottledError,
    ),
    (429, {"error": "TOO_MANY_ATTEMPTS_TRY_LATER"}, SignInThrottledError, SignInThrottledError),
    (400, {"error": "invalid_request"}, IssuerReplyError, IssuerReplyError),
    (429, {}, IssuerBusyError, IssuerBusyError),
    (503, b"<html>busy</html>", IssuerBusyError, IssuerBusyError),
    (400, {"error": "temporarily_unavailable"}, IssuerBusyError, IssuerBusyError),
    (500, {"error": "boom"}, OutcomeUnknownError, OutcomeUnknownError),
    (502, b"bad gateway", OutcomeUnknownError, OutcomeUnknownError),
    (200, b"<html>Please log in</html>", IssuerReplyError, IssuerReplyError),
    (403, b"<html>blocked</html>", IssuerReplyError, IssuerReplyError),
    (200, b"[]", IssuerReplyError, IssuerReplyError),
    (200, {}, IssuerReplyError, IssuerReplyError),
    (307, b"", IssuerReplyError, IssuerReplyError),
    (404, {"error": "not_found"}, IssuerReplyError, IssuerReplyError),
]


@pytest.mark.parametrize(("status", "body", "at_sign_in", "at_refresh"), CLASSES)
def test_the_table_of_error_classes(
    status: int, body: Any, at_sign_in: type[NightporterError], at_refresh: type[NightporterError]
) -> None:
    with pytest.raises(at_sign_in) as caught:
        parse_tokens(reply(status, body), Call.SIGN_IN)
    assert type(caught.value) is at_sign_in
    with pytest.raises(at_refresh) as caught:
        parse_tokens(reply(status, body), Call.REFRESH)
    assert type(caught.value) is at_refresh


def test_an_unknown_refusal_is_not_certain() -> None:
    """Whatever status of a refusal it comes with: the only copy is not given up for it."""
    for status in (400, 401, 403):
        with pytest.raises(SessionRejectedError) as rejected:
            parse_tokens(reply(status, {"error": "something_new"}), Call.REFRESH)
        assert not rejected.value.is_certain


def test_retry_after_in_seconds_and_as_a_date() -> None:
    with pytest.raises(IssuerBusyError) as busy:
        parse_tokens(reply(429, {}, **{"retry-after": "7"}), Call.REFRESH)
    assert busy.value.retry_after_s == 7
    dates = {
        "retry-after": "Tue, 14 Jul 2026 14:00:30 GMT",
        "date": "Tue, 14 Jul 2026 14:00:00 GMT",
    }
    with pytest.raises(IssuerBusyError) as busy:
        parse_tokens(reply(503, {}, **dates), Call.REFRESH)
    assert busy.value.retry_after_s == 30


def test_no_error_repeats_what_the_issuer_wrote_in_prose() -> None:
    body = {"error": "access_denied", "error_description": "user svc-acme with password hunter2"}
    with pytest.raises(CredentialsRefusedError) as refused:
        parse_tokens(reply(403, body), Call.SIGN_IN)
    assert "hunter2" not in str(refused.value) + refused.value.hint + repr(refused.value)


def test_a_hostile_error_code_is_not_repeated() -> None:
    with pytest.raises(NightporterError) as caught:
        parse_tokens(reply(400, {"error": "x\n\x1b[31mevil"}), Call.SIGN_IN)
    assert "evil" not in str(caught.value)


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from(Call))
def test_whatever_comes_back_is_tokens_or_one_of_our_errors(
    status: int, body: bytes, call: Call
) -> None:
    with pytest.raises((IssuerError, CredentialsRefusedError, SessionRejectedError)):
        parse_tokens(reply(status, body), call)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
)


@given(
    st.sampled_from([200, 400, 401, 403, 429, 500]),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("access_token", "expires_in", "error", "token_type", "status"), json_values
        ),
    ),
)
def test_no_json_object_crashes_the_parser(status: int, members: dict[str, Any]) -> None:
    try:
        parse_tokens(reply(status, members), Call.REFRESH)
    except NightporterError as exc:
        assert exc.exit_code in (3, 4, 6)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_form_encoded_answer_is_read(mark: bytes) -> None:
    """IBM/mcp-context-forge PR 4259: the refresh token of a form would be lost otherwise."""
    body = mark + b"access_token=a.b.c&refresh_token=AMf-2&expires_in=60&token_type=bearer\r\n"
    found = parse_tokens(reply(200, body), Call.REFRESH)
    assert found.refresh_token is not None
    assert (found.access_token.reveal(), found.refresh_token.reveal()) == ("a.b.c", "AMf-2")
    assert found.expires_in == 60


def test_a_form_without_an_access_token_keeps_its_refresh_token() -> None:
    """What a 200 brought is kept even where the rest is of no use."""
    with pytest.raises(IssuerReplyError) as caught:
        parse_tokens(reply(200, b"refresh_token=AMf-2"), Call.REFRESH)
    assert caught.value.refresh_token is not None


@pytest.mark.parametrize("page", [b"<html>error=1</html>", b"a=1&b=2", b"error", b"\xff\xfe"])
def test_a_page_is_no_form(page: bytes) -> None:
    """A login page or a proxy's words are no members."""
    with pytest.raises(IssuerReplyError):
        parse_tokens(reply(200, page), Call.REFRESH)


@pytest.mark.parametrize("call", list(Call))
@pytest.mark.parametrize(
    ("status", "members"),
    [
        (400, {"error": {"message": "QUOTA_EXCEEDED"}}),
        (400, {"error": {"message": "QUOTA_EXCEEDED : Exceeded quota for verifying passwords."}}),
        (403, {"error": {"message": "RATE_LIMIT_EXCEEDED"}}),
        (400, {"error": {"message": "RESOURCE_EXHAUSTED"}}),
        (403, {"error": "rate_limit_exceeded"}),
        (400, {"error": "too_many_requests"}),
        (400, {"error": "rate_limited"}),
        (400, {"error": "temporarily_unavailable"}),
    ],
)
def test_a_quota_is_no_wrong_password_and_no_dead_session(
    call: Call, status: int, members: dict[str, Any]
) -> None:
    """firebase/firebase-js-sdk#8159, #9259: the session was given up, and the password sent."""
    with pytest.raises(IssuerBusyError):
        parse_tokens(reply(status, members), call)


@pytest.mark.parametrize("error", ["invalid_resource", "invalid_target", "invalid_scope"])
def test_a_wrong_scope_is_no_wrong_password(error: str) -> None:
    """Entra's AADSTS500011: the secret is right, the profile isn't."""
    with pytest.raises(IssuerReplyError, match="request wrong"):
        parse_tokens(reply(400, {"error": error}), Call.SIGN_IN)


DEAD = (Call.REFRESH, SessionRejectedError)

# Dialects: what a vendor's row says about its words.

ROW = Dialect(
    dead=frozenset({"bad_refresh_token", "BAD_REFRESH_TOKEN", "unauthorized_client"}),
    busy=frozenset({"quota", "RESOURCE"}),
    refused=frozenset({"incorrect_client_credentials", "1004"}),
    token_types=frozenset({"bearer", "bot"}),
    life_field="refresh_token_expires_in",
    access_life_s=86_400,
)


@pytest.mark.parametrize(
    ("status", "body", "call", "error"),
    [
        (200, {"error": "bad_refresh_token"}, Call.REFRESH, SessionRejectedError),
        (400, {"status": "BAD_REFRESH_TOKEN"}, Call.REFRESH, SessionRejectedError),
        (400, {"error": {"code": "bad_refresh_token"}}, Call.REFRESH, SessionRejectedError),
        (400, {"error": {"message": "bad_refresh_token: x"}}, Call.REFRESH, SessionRejectedError),
        (403, {"error": "unauthorized_client"}, Call.REFRESH, SessionRejectedError),
        (403, {"error": "unauthorized_client"}, Call.SIGN_IN, CredentialsRefusedError),
        (400, {"error": "bad_refresh_token"}, Call.SIGN_IN, CredentialsRefusedError),
        (429, {"error": "bad_refresh_token"}, Call.REFRESH, IssuerBusyError),
        (503, {"error": "incorrect_client_credentials"}, Call.REFRESH, IssuerBusyError),
        (403, {"error": "quota"}, Call.REFRESH, IssuerBusyError),
        (403, {"error": "quota"}, Call.SIGN_IN, IssuerBusyError),
        (200, {"error": {"message": "RESOURCE exhausted"}}, Call.REFRESH, IssuerBusyError),
        (200, {"error": "incorrect_client_credentials"}, Call.REFRESH, CredentialsRefusedError),
        (200, {"ok": False, "error": "bad_refresh_token"}, Call.REFRESH, SessionRejectedError),
        (400, {"error": {"code": 1004, "message": "no"}}, Call.REFRESH, CredentialsRefusedError),
        (400, {"error": {"code": [1], "message": {}}}, Call.REFRESH, SessionRejectedError),
        (200, {"status": "BAD_REFRESH_TOKEN", "access_token": None}, *DEAD),
        (203, {"status": "fine"}, Call.REFRESH, IssuerReplyError),
        (200, {"ok": False}, Call.REFRESH, IssuerReplyError),
        (200, {"ok": False, "access_token": "a"}, Call.REFRESH, IssuerReplyError),
        (200, {"error": "news", "access_token": "a"}, Call.REFRESH, IssuerReplyError),
        (400, {"status": "news"}, Call.REFRESH, SessionRejectedError),
        (400, b"error=bad_refresh_token&error_description=x", Call.REFRESH, SessionRejectedError),
    ],
)
def test_what_a_rows_codes_mean(
    status: int, body: Any, call: Call, error: type[NightporterError]
) -> None:
    with pytest.raises(error) as caught:
        parse_tokens(reply(status, body), call, ROW)
    if isinstance(caught.value, SessionRejectedError):
        is_known = "news" not in str(body) and "[1]" not in str(body)
        assert caught.value.is_certain == is_known


def test_a_code_that_the_row_does_not_know_is_no_dead_session() -> None:
    """Another vendor's word is kept apart: the session stays."""
    for body in ({"error": "bad_refresh_token"}, {"status": "UNAUTHORIZED"}):
        with pytest.raises(SessionRejectedError) as caught:
            parse_tokens(reply(400, body), Call.REFRESH)
        assert not caught.value.is_certain


def test_a_status_in_an_answer_with_tokens_is_no_error() -> None:
    assert parse_tokens(reply(200, {**GOOD, "status": "BAD_REFRESH_TOKEN"}), Call.REFRESH, ROW)
    assert parse_tokens(reply(200, {**GOOD, "ok": True, "status": "fine"}), Call.REFRESH, ROW)


@pytest.mark.parametrize("word", ["bot", "BOT", "Bearer", "", None])
def test_words_that_mean_bearer_at_the_vendor(word: str | None) -> None:
    found = parse_tokens(reply(200, {**GOOD, "token_type": word}), Call.REFRESH, ROW)
    assert found.token_type == "Bearer"
    if word in ("bot", "BOT"):
        with pytest.raises(IssuerReplyError, match="token_type"):
            parse_tokens(reply(200, {**GOOD, "token_type": word}), Call.REFRESH)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(15_897_600, 15_897_600), ("1800", 1800), (0, None), (-1, None), ("soon", None), (None, None)],
)
def test_the_stated_life_of_a_refresh_token(told: Any, seconds: int | None) -> None:
    """0 and nonsense state nothing."""
    answer = reply(200, {**GOOD, "refresh_token_expires_in": told})
    assert parse_tokens(answer, Call.REFRESH, ROW).refresh_life_s == seconds
    assert parse_tokens(answer, Call.REFRESH).refresh_life_s is None


def test_the_rows_life_of_an_access_token_where_the_answer_has_none() -> None:
    assert parse_tokens(reply(200, {"access_token": "a"}), Call.REFRESH, ROW).expires_in == 86_400


def test_a_refresh_token_beside_an_error_is_rescued() -> None:
    with pytest.raises(IssuerReplyError) as caught:
        parse_tokens(reply(200, {**GOOD, "error": "strange"}), Call.REFRESH)
    assert caught.value.refresh_token == Secret("AMf-1")


@pytest.mark.parametrize("status", [200, 201, 203])
def test_tokens_count_with_any_status_of_success(status: int) -> None:
    """A transforming proxy says 203 (RFC 9110 section 15.3.4): the token in it is the only one."""
    found = parse_tokens(reply(status, GOOD), Call.REFRESH)
    assert found.refresh_token == Secret("AMf-1")


def test_a_name_in_another_encoding_costs_no_token() -> None:
    """What follows a successful exchange may not drop what it brought."""
    body = json.dumps({**GOOD, "name": "M?ller"}).encode().replace(b"?", b"\xfc")
    assert parse_tokens(reply(200, body), Call.REFRESH).refresh_token == Secret("AMf-1")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "USER_DISABLED"}, "enable the account"),
        ({"message": "OPERATION_NOT_ALLOWED"}, "another way to sign in"),
        ("invalid_client", "token_endpoint_auth_method"),
        ("unauthorized_client", "grant"),
        ("interaction_required", "second factor"),
        ("access_denied", "Correct the secret"),
    ],
)
def test_a_refusal_names_what_helps(error: Any, said: str) -> None:
    """Another password doesn't enable an account, nor a client that shows in a wrong way
    who it is."""
    with pytest.raises(CredentialsRefusedError) as caught:
        parse_tokens(reply(400, {"error": error}), Call.SIGN_IN)
    assert said in caught.value.hint


def test_a_second_factor_is_named() -> None:
    """A 200 with mfaPendingCredential was "`base_url` is a proxy or a login page"."""
    with pytest.raises(IssuerReplyError) as caught:
        parse_tokens(reply(200, {"mfaPendingCredential": "x", "mfaInfo": []}), Call.SIGN_IN)
    assert caught.value.is_refusal
    assert "second factor" in caught.value.hint
    assert "second factor" in CredentialsRefusedError("remembered", error="no_token").hint
