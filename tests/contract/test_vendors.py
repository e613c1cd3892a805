"""The sentences of the four vendors' documents that state a behaviour, one test each, and what the
answers of every vendor mean, in their own bodies. What becomes of a session is in
`test_conformance`; `scope`, `id_token` and `error_description` are in `test_what_replies_tell`."""

from __future__ import annotations

import base64
import json
from datetime import date
from typing import Any
from urllib.parse import parse_qs

import pytest

from nightporter.core.config import parse_config
from nightporter.core.errors import (
    ConfigError,
    CredentialsRefusedError,
    IssuerReplyError,
    NightporterError,
    SessionRejectedError,
)
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.model import (
    Credentials,
    Grant,
    Identity,
    Profile,
    Rotation,
    Secret,
    SessionRecord,
    Token,
)
from nightporter.issuers import VENDORS, issuer_for, oauth2
from nightporter.issuers.oauth import Call, Request, Response, form_request, parse_tokens
from nightporter.operations.rotate import Due, due
from nightporter.protocols import plain
from nightporter.stores import STORES

CLIENT = Credentials(version="1", client_id="id", client_secret=Secret("se:cret /ü"))


def profile(issuer: str, **keys: Any) -> Profile:
    lines = "\n".join(f"{key} = {toml(value)}" for key, value in keys.items())
    text = f'[profiles.p]\nissuer = "{issuer}"\ncredentials = "c"\n{lines}\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def addressed(issuer: str) -> Profile:
    """A profile with whatever address the vendor has none of."""
    if issuer == "oauth2":
        return profile(issuer, token_endpoint="https://i.example/t")
    return profile(
        issuer, **({} if VENDORS[issuer].base_url else {"base_url": "https://i.example"})
    )


def refresh(which: Profile, client: Credentials | None = None) -> Request:
    return issuer_for(which).refresh_request(which, Secret("old"), client)


def form(request: Request) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(request.body.decode()).items()}


def reply(status: int, members: Any) -> Response:
    return Response(status=status, headers={}, body=json.dumps(members).encode())


# Pitchpoint.


def test_pitchpoint_sign_in_is_json_posted_to_sign_in_with_password() -> None:
    which = profile("pitchpoint")
    credentials = Credentials(
        version="1", username="customerUsername", password=Secret("customerPassword")
    )
    request = issuer_for(which).sign_in_request(which, credentials)
    assert (
        request.url
        == "https://api.pointservices.com/user-management-services-ws/oauth2/002/signInWithPassword"
    )
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "username": "customerUsername",
        "password": "customerPassword",
    }


def test_pitchpoint_refresh_is_json_posted_to_refresh_id_token() -> None:
    request = refresh(profile("pitchpoint"))
    assert (
        request.url
        == "https://api.pointservices.com/user-management-services-ws/oauth2/002/refreshIdToken"
    )
    assert json.loads(request.body) == {"refresh_token": "old"}


def test_pitchpoint_the_refresh_token_should_be_reused() -> None:
    assert profile("pitchpoint").rotation is Rotation.REUSED
    assert not profile("pitchpoint").is_exclusive


def test_pitchpoint_expires_in_will_in_most_cases_be_3600() -> None:
    assert parse_tokens(reply(200, {"access_token": "a"}), Call.SIGN_IN).expires_in == 3600


def test_pitchpoint_the_useralias_is_sent_where_there_is_one() -> None:
    """The account of the organisation to act as."""
    which = profile("pitchpoint")
    credentials = Credentials(
        version="1", username="u", password=Secret("p"), useralias="acme-branch"
    )
    sent = json.loads(issuer_for(which).sign_in_request(which, credentials).body)
    assert sent == {"username": "u", "password": "p", "useralias": "acme-branch"}


@pytest.mark.parametrize(
    ("signed_in", "expires"),
    [
        ("2026-07-14T14:00:00Z", "2026-07-16T04:00:00Z"),
        ("2026-07-14T04:00:00Z", "2026-07-15T04:00:00Z"),
        ("2026-03-08T04:30:00Z", "2026-03-09T04:00:00Z"),
        ("2026-11-01T03:30:00Z", "2026-11-02T05:00:00Z"),
    ],
)
def test_pitchpoint_24_hours_rounded_up_to_midnight_eastern_time(
    signed_in: str, expires: str
) -> None:
    """By the row alone; `test_expiry` has the days on which the clocks change."""
    which = profile("pitchpoint")
    found = issuer_for(which).refresh_expires_at(which, parse_rfc3339(signed_in))
    assert found == parse_rfc3339(expires)


def test_pitchpoint_a_refresh_is_preferred_to_a_sign_in_until_the_token_expires() -> None:
    """ "Pitchpoint suggests that you use this call rather than signing-in again"."""
    which = profile("pitchpoint")
    now = parse_rfc3339("2026-07-14T14:00:00Z")
    until = issuer_for(which).refresh_expires_at(which, now)
    identity = Identity(issuer="pitchpoint", token_endpoint=which.token_endpoint)
    record = SessionRecord(identity=identity, refresh_token=Secret("r"), expires_at=until)
    assert until is not None
    assert due(which, record, now=now, sign_in_lasts_until=until) is Due.NOTHING
    assert due(which, record, now=until - 3600, sign_in_lasts_until=until + 86_400) is Due.SIGN_IN


def test_pitchpoint_the_token_type_is_bearer_by_default() -> None:
    """ "token_type: The token type; default Bearer"."""
    which = profile("pitchpoint")
    members = {"access_token": "a", "refresh_token": "r", "scope": "policy", "expires_in": 3600}
    for told in ({}, {"token_type": "Bearer"}, {"token_type": None}):
        answer = reply(200, {**members, **told})
        assert issuer_for(which).parse(answer, Call.REFRESH).token_type == "Bearer"


@pytest.mark.parametrize("status", [400, 403])
def test_pitchpoint_access_denied_means_what_the_call_makes_it(status: int) -> None:
    """ "Invalid username / password combination" at both calls: the text decides nothing."""
    issuer = issuer_for(profile("pitchpoint"))
    body = {
        "error_description": "Invalid username / password combination",
        "error": "access_denied",
    }
    with pytest.raises(CredentialsRefusedError):
        issuer.parse(reply(status, body), Call.SIGN_IN)
    with pytest.raises(SessionRejectedError):
        issuer.parse(reply(status, body), Call.REFRESH)


def test_the_access_token_goes_into_the_authorization_header() -> None:
    """Step 2: "Incorporate the access token in the Authorization header"."""
    token = Token(Secret("t.o.k"), token_type="Bearer", expires_at_s=1, obtained_at_s=0.0)
    assert plain.render(token, "header", profile("pitchpoint")) == "Authorization: Bearer t.o.k"


# vault.ist.


def test_vault_ist_without_expires_in_the_documents_24_hours_hold() -> None:
    """ "The access_token is valid for 24 hours"."""
    issuer = issuer_for(profile("vault-ist"))
    assert issuer.parse(reply(200, {"access_token": "a"}), Call.REFRESH).expires_in == 86_400


def test_vault_ist_the_shape_of_the_older_api() -> None:
    """401 with `status`, and no `error`."""
    old = {"status": "UNAUTHORIZED", "message": "m", "traceId": "t", "errors": list[str]()}
    with pytest.raises(SessionRejectedError) as caught:
        issuer_for(profile("vault-ist")).parse(reply(401, old), Call.REFRESH)
    assert caught.value.is_certain
    with pytest.raises(SessionRejectedError) as caught:
        issuer_for(profile("perspio")).parse(reply(401, old), Call.REFRESH)
    assert not caught.value.is_certain  # no word of Entra's


def test_vault_ist_a_missing_refresh_token_is_a_wrong_request() -> None:
    """ "Missing refresh token." is no dead session: nothing is given up for it."""
    body = {"error": "invalid_request", "error_description": "Missing refresh token."}
    with pytest.raises(IssuerReplyError) as caught:
        issuer_for(profile("vault-ist")).parse(reply(400, body), Call.REFRESH)
    assert caught.value.error == "invalid_request"


def test_vault_ist_headers_partner_id_and_grant_type_and_a_camel_case_body() -> None:
    request = refresh(profile("vault-ist", partner_id=42))
    assert request.url == "https://api.vault.ist/v1/auth/token"
    assert request.headers["partnerId"] == "42"
    assert request.headers["grantType"] == "refresh_token"
    assert json.loads(request.body) == {"refreshToken": "old"}


@pytest.mark.parametrize("partner_id", [2**31, -(2**31) - 1, "x", 1.5, True])
def test_vault_ist_partner_id_is_int32(partner_id: Any) -> None:
    with pytest.raises(ConfigError, match="32-bit"):
        profile("vault-ist", partner_id=partner_id)


def test_vault_ist_partner_id_from_the_secret_is_checked_too() -> None:
    which = profile("vault-ist")
    assert refresh(which, Credentials(version="1", partner_id="-7")).headers["partnerId"] == "-7"
    for partner_id in ("2147483648", "7\r\nX-Evil: 1", ""):
        with pytest.raises(ValueError, match="32-bit"):
            refresh(which, Credentials(version="1", partner_id=partner_id))


def test_vault_ist_a_new_refresh_token_if_applicable() -> None:
    with_one = parse_tokens(
        reply(200, {"access_token": "a", "refresh_token": "new", "expires_in": 3600}), Call.REFRESH
    )
    without = parse_tokens(reply(200, {"access_token": "a", "expires_in": 86400}), Call.REFRESH)
    assert with_one.refresh_token is not None
    assert without.refresh_token is None
    which = profile("vault-ist")
    assert (which.rotation, which.is_exclusive, which.share_access_token) == (
        Rotation.MAY_ROTATE,
        True,
        False,
    )


def test_vault_ist_the_reply_is_believed_about_the_life_of_the_access_token() -> None:
    assert (
        parse_tokens(
            reply(200, {"access_token": "a", "expires_in": 86400}), Call.REFRESH
        ).expires_in
        == 86_400
    )


def test_vault_ist_no_sign_in_is_invented() -> None:
    which = profile("vault-ist")
    assert not which.signs_in_unattended
    with pytest.raises(ValueError, match="no sign-in"):
        issuer_for(which).sign_in_request(which, CLIENT)


# Perspio and Entra.


def test_perspio_refresh_is_a_form_with_the_documented_members() -> None:
    request = refresh(profile("perspio"), CLIENT)
    tenant = "7d548d61-6361-4a6e-85e6-509e2c05d05e"
    assert request.url == f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert form(request) == {
        "client_id": "id",
        "client_secret": "se:cret /ü",
        "refresh_token": "old",
        "scope": "api://perspiotalk/all_readwrite offline_access",
        "grant_type": "refresh_token",
    }


def test_perspio_client_credentials_ask_for_the_default_scope() -> None:
    which = profile("perspio", grant="client_credentials")
    request = issuer_for(which).sign_in_request(which, CLIENT)
    assert form(request)["scope"] == "api://perspiotalk/.default"
    assert form(request)["grant_type"] == "client_credentials"
    assert which.signs_in_unattended


def test_perspio_with_client_credentials_simply_request_a_new_access_token() -> None:
    """ "Refresh tokens are only provided when using the Authorization Code Flow"."""
    which = profile("perspio", grant="client_credentials")
    assert not which.grant.has_session
    assert due(which, None, now=0.0, sign_in_lasts_until=None) is Due.NOTHING
    assert not profile("perspio").signs_in_unattended


def test_perspio_a_person_signs_in_once() -> None:
    """The authorization request, with PKCE and a redirect to localhost."""
    which = profile("perspio")
    adapter = issuer_for(which)
    assert isinstance(adapter, oauth2.Adapter)
    url = adapter.authorization_url(
        which, redirect_uri="http://localhost:4711", state="s", challenge="c", client=CLIENT
    )
    address, _, query = url.partition("?")
    tenant = "7d548d61-6361-4a6e-85e6-509e2c05d05e"
    assert address == f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize"
    assert {key: values[0] for key, values in parse_qs(query).items()} == {
        "response_type": "code",
        "response_mode": "query",
        "client_id": "id",
        "redirect_uri": "http://localhost:4711",
        "scope": "api://perspiotalk/access_as_user offline_access",
        "state": "s",
        "code_challenge": "c",
        "code_challenge_method": "S256",
    }


def test_perspio_the_only_type_supported_is_bearer() -> None:
    with pytest.raises(IssuerReplyError, match="token_type"):
        issuer_for(profile("perspio")).parse(
            reply(200, {"access_token": "a", "token_type": "pop", "expires_in": 3599}), Call.REFRESH
        )


@pytest.mark.parametrize("error", ["invalid_grant", "interaction_required"])
def test_perspio_refresh_tokens_expire_are_revoked_or_lack_privileges(error: str) -> None:
    """ "The application needs to expect and handle errors returned"."""
    with pytest.raises(SessionRejectedError) as caught:
        issuer_for(profile("perspio")).parse(reply(400, {"error": error}), Call.REFRESH)
    assert caught.value.is_certain


def test_perspio_rotates_and_shares() -> None:
    which = profile("perspio")
    assert (which.rotation, which.share_access_token, which.grant) == (
        Rotation.ROTATES,
        True,
        Grant.AUTHORIZATION_CODE,
    )


def test_entra_takes_tenant_and_scopes() -> None:
    which = profile("entra", tenant="contoso", scopes=["a", "b"])
    assert (
        refresh(which, CLIENT).url == "https://login.microsoftonline.com/contoso/oauth2/v2.0/token"
    )
    assert form(refresh(which, CLIENT))["scope"] == "a b"


def test_an_id_token_is_ignored() -> None:
    answer = {
        "access_token": "a",
        "expires_in": 3599,
        "refresh_token": "n",
        "id_token": "eyJ0...",
        "scope": "x",
    }
    assert parse_tokens(reply(200, answer), Call.REFRESH).expires_in == 3599


def test_refresh_tokens_have_no_stated_life() -> None:
    for which in (profile("perspio"), profile("entra", tenant="t"), profile("vault-ist")):
        assert issuer_for(which).refresh_expires_at(which, 1_784_037_600) is None


def test_the_aadsts_number_is_kept_for_people_and_nothing_else_of_the_prose() -> None:
    body = {
        "error": "invalid_grant",
        "error_description": "AADSTS70008: The token of bob@contoso has expired",
    }
    with pytest.raises(NightporterError) as caught:
        parse_tokens(reply(400, body), Call.REFRESH)
    assert "AADSTS70008" in str(caught.value)
    assert "bob" not in str(caught.value)


# Any other issuer.


def generic(**keys: Any) -> Profile:
    return profile("oauth2", token_endpoint="https://issuer.example/token", **keys)


def test_client_secret_basic_is_form_encoded_as_the_rfc_wants_it() -> None:
    """RFC 6749 section 2.3.1: both parts are form-encoded before they are joined."""
    request = refresh(generic(), CLIENT)
    kind, _, coded = request.headers["Authorization"].partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(coded).decode() == "id:se%3Acret+%2F%C3%BC"
    assert "client_secret" not in form(request)


def test_client_secret_post_and_none() -> None:
    posted = refresh(generic(token_endpoint_auth_method="client_secret_post"), CLIENT)
    assert form(posted)["client_secret"] == "se:cret /ü"
    public = refresh(generic(token_endpoint_auth_method="none"), CLIENT)
    assert form(public)["client_id"] == "id"
    assert "client_secret" not in form(public)
    assert "Authorization" not in public.headers


def test_a_body_in_json_where_the_document_wants_it() -> None:
    """Atlassian's example; the client's secret is in it, or in the header, as the profile says."""
    posted = refresh(profile("atlassian"), CLIENT)
    assert posted.headers["Content-Type"] == "application/json"
    assert json.loads(posted.body) == {
        "grant_type": "refresh_token",
        "refresh_token": "old",
        "client_id": "id",
        "client_secret": "se:cret /ü",
    }
    basic = generic(request_body="json", scopes=["a", "b"])
    assert json.loads(refresh(basic, CLIENT).body)["scope"] == "a b"
    assert refresh(basic, CLIENT).headers["Authorization"].startswith("Basic ")


def test_password_grant_with_extra_parameters_and_scopes() -> None:
    which = generic(grant="password", scopes="read write", extra_parameters={"audience": "api"})
    credentials = Credentials(version="1", username="u", password=Secret("p"))
    members = form(issuer_for(which).sign_in_request(which, credentials))
    assert members == {
        "grant_type": "password",
        "username": "u",
        "password": "p",
        "scope": "read write",
        "audience": "api",
    }


@pytest.mark.parametrize(
    ("keys", "expires_at"),
    [
        ({}, None),
        ({"refresh_token_life": "30d"}, 1_784_037_600 + 30 * 86_400),
        (
            {"refresh_token_life": "24h", "refresh_token_midnight": "America/New_York"},
            1_784_174_400,
        ),
        ({"refresh_token_midnight": "Europe/Berlin"}, 1_784_066_400),
    ],
)
def test_the_life_of_a_refresh_token(keys: dict[str, str], expires_at: int | None) -> None:
    which = generic(**keys)
    assert issuer_for(which).refresh_expires_at(which, 1_784_037_600) == expires_at


def test_discovery() -> None:
    which = profile("oauth2", issuer_url="https://issuer.example/")
    issuer = issuer_for(which)
    request = issuer.discovery_request(which)
    assert request is not None
    assert (request.method, request.url) == (
        "GET",
        "https://issuer.example/.well-known/openid-configuration",
    )
    metadata = {"issuer": "https://issuer.example", "token_endpoint": "https://issuer.example/t"}
    found = issuer.with_discovery(which, reply(200, metadata))
    assert refresh(found, CLIENT).url == "https://issuer.example/t"
    assert (
        found.token_endpoint == "https://issuer.example/"
    )  # the record's identity stays what is configured


@pytest.mark.parametrize(
    ("status", "metadata"),
    [
        (404, {}),
        (200, []),
        (200, {"issuer": "https://other.example", "token_endpoint": "https://issuer.example/t"}),
        (200, {"issuer": "https://issuer.example"}),
        (200, {"issuer": "https://issuer.example", "token_endpoint": "http://issuer.example/t"}),
        (200, {"issuer": "https://issuer.example", "token_endpoint": 7}),
    ],
)
def test_metadata_that_must_not_be_used(status: int, metadata: Any) -> None:
    """RFC 8414 section 3.3: another issuer's metadata, plain http, nonsense."""
    which = profile("oauth2", issuer_url="https://issuer.example")
    with pytest.raises(IssuerReplyError):
        issuer_for(which).with_discovery(which, reply(status, metadata))


@pytest.mark.parametrize(
    ("address", "hosts", "said"),
    [
        ("https://login.example/t", [], "is on another host"),
        ("https://issuer.example.evil/t", ["login.example"], "is on another host"),
        ("https://login.example:8443/t", ["login.example:443"], "is on another host"),
        ("https://127.0.0.1/t", ["127.0.0.1"], "this machine"),
        ("https://169.254.169.254/t", ["169.254.169.254"], "this machine"),
        ("http://localhost/t", ["localhost"], "this machine"),
        ("https://login.example/t", ["LOGIN.example"], None),
        ("https://login.example:8443/t", ["login.example:8443"], None),
        ("https://issuer.example:8443/t", [], None),
    ],
)
def test_discovery_stays_on_the_issuers_host(
    address: str, hosts: list[str], said: str | None
) -> None:
    """Unless the profile names others; and it leads near only where the issuer is near."""
    which = profile("oauth2", issuer_url="https://issuer.example", endpoint_hosts=hosts)
    metadata = {"issuer": "https://issuer.example", "token_endpoint": address}
    if said is None:
        assert issuer_for(which).with_discovery(which, reply(200, metadata))
    else:
        with pytest.raises(IssuerReplyError, match=said):
            issuer_for(which).with_discovery(which, reply(200, metadata))


# The error classes of every vendor: adopt or sign in again, stop, back off, unknown.

DEAD = {
    "pitchpoint": (403, {"error": "access_denied"}),
    "vault-ist": (
        400,
        {"error": "invalid_grant", "error_description": "Refresh token has expired or is invalid."},
    ),
    "perspio": (400, {"error": "interaction_required"}),
    "entra": (400, {"error": "invalid_grant"}),
    "oauth2": (200, {"error": "invalid_grant"}),
    "github": (200, {"error": "bad_refresh_token"}),
    "slack": (200, {"ok": False, "error": "invalid_refresh_token"}),
    "hubspot": (400, {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid"}),
    "atlassian": (403, {"error": "unauthorized_client"}),
}
RFC_DEAD = (400, {"error": "invalid_grant"})
ROWS = {
    "stop and tell a person": (401, {"error": "invalid_client"}, "credentials-refused"),
    "too many attempts": (
        400,
        {"error": {"message": "TOO_MANY_ATTEMPTS_TRY_LATER"}},
        "sign-in-throttled",
    ),
    "back off (429)": (429, {}, "issuer-busy"),
    "back off (503)": (503, {}, "issuer-busy"),
    "back off (said)": (400, {"error": "temporarily_unavailable"}, "issuer-busy"),
    "unknown outcome": (502, {}, "issuer-outcome-unknown"),
    "a wrong request is never retried": (400, {"error": "invalid_request"}, "issuer-reply"),
}


@pytest.mark.parametrize("issuer", VENDORS)
def test_a_dead_grant_is_recognised(issuer: str) -> None:
    which = addressed(issuer)
    with pytest.raises(NightporterError) as caught:
        issuer_for(which).parse(reply(*DEAD.get(issuer, RFC_DEAD)), Call.REFRESH)
    assert caught.value.reference == "session-rejected"


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("issuer", VENDORS)
def test_each_row_for_each_vendor(issuer: str, row: str) -> None:
    which = addressed(issuer)
    status, body, reference = ROWS[row]
    with pytest.raises(NightporterError) as caught:
        issuer_for(which).parse(reply(status, body), Call.REFRESH)
    assert caught.value.reference == reference


def test_every_row_names_its_document_and_the_day_it_was_read() -> None:
    for vendor in VENDORS.values():
        assert vendor.document.title
        assert vendor.document.section
        assert date.fromisoformat(vendor.document.date)


def test_no_request_prints_its_secrets() -> None:
    request = form_request(
        "https://i.example/t", {"a": "hunter2"}, client_id="i", client_secret=Secret("hunter3")
    )
    assert "hunter" not in repr(request)


@pytest.mark.parametrize("missing", ["username", "password"])
def test_pitchpoint_s_missing_member_is_named_as_the_secret_spells_it(missing: str) -> None:
    """A person looks for it under the name that `fields` gives it."""
    members: dict[str, Any] = {"username": "u", "password": Secret("p"), missing: None}
    found = profile("pitchpoint", fields={"username": "user", "password": "pass"})
    with pytest.raises(ValueError, match=f"lacks the member '{missing[:4]}'"):
        issuer_for(found).sign_in_request(found, Credentials(version="1", **members))
