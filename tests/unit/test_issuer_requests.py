"""What is sent to an issuer, member by member: each grant, each way of a client to prove itself,
each vendor's own paths; and how a row's dialect reads what comes back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lab.still import REUSED, ROTATING, profile
from nightporter.core.errors import (
    CredentialsRefusedError,
    IssuerReplyError,
    LoginRequiredError,
    NightporterError,
    SessionRejectedError,
)
from nightporter.core.model import Credentials, Profile, Secret
from nightporter.core.references import WHO_ACTS, render_exits, render_page
from nightporter.core.values import replace
from nightporter.issuers import issuer_for
from nightporter.issuers.dialect import Dialect, dialect_of, seconds
from nightporter.issuers.oauth import (
    ASSERTION_TYPE,
    Call,
    Request,
    Response,
    description_of,
    error_words,
    form_request,
    get_request,
    json_request,
    parse_tokens,
)
from nightporter.issuers.oauth2 import Adapter
from nightporter.session.proofs import must_sign

OAUTH = 'issuer = "oauth2"\ncredentials = "c"\ntoken_endpoint = "https://a.example/t"\n'
CLIENT = Credentials(version="1", client_id="i d", client_secret=Secret("s:t"))
PROVED = Credentials(version="1", client_id="i", prove=lambda _profile: Secret("signed"))
USER = replace(CLIENT, username="svc", password=Secret("p w"))
URL = "https://a.example/t"


def form(request: Request) -> dict[str, str]:
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Accept"] == "application/json"
    return {
        name: one for name, [one] in parse_qs(request.body.decode(), strict_parsing=True).items()
    }


def adapter(of: Profile) -> Adapter:
    found = issuer_for(of)
    assert isinstance(found, Adapter)
    return found


# How a client proves itself.


@pytest.mark.parametrize(
    ("more", "body", "header"),
    [
        ({}, {}, None),
        ({"client_id": "i"}, {"client_id": "i"}, None),
        (
            {"client_id": "i", "client_secret": Secret("s")},
            {"client_id": "i", "client_secret": "s"},
            None,
        ),
        (
            {"client_id": "i", "client_secret": Secret("s"), "auth_method": "none"},
            {"client_id": "i"},
            None,
        ),
        (
            {
                "client_id": "i d",
                "client_secret": Secret("s:t"),
                "auth_method": "client_secret_basic",
            },
            {},
            "Basic aStkOnMlM0F0",  # i+d:s%3At
        ),
        ({"client_id": "i", "auth_method": "client_secret_basic"}, {"client_id": "i"}, None),
        ({"client_secret": Secret("s")}, {}, None),
        (
            {"client_id": "i", "client_secret": Secret("s"), "client_assertion": Secret("j")},
            {"client_id": "i", "client_assertion_type": ASSERTION_TYPE, "client_assertion": "j"},
            None,
        ),
        (
            {"client_assertion": Secret("j")},
            {"client_assertion_type": ASSERTION_TYPE, "client_assertion": "j"},
            None,
        ),
    ],
)
def test_a_client_proves_itself_in_one_way(
    more: dict[str, Any], body: dict[str, str], header: str | None
) -> None:
    """In the body, by Basic with both parts encoded, or by an assertion and nothing beside it."""
    request = form_request(URL, {"a": "b", "left": None}, **more)
    assert form(request) == {"a": "b", **body}
    assert request.headers.get("Authorization") == header
    assert request.url == URL
    assert ASSERTION_TYPE == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_json_bodies_and_gets() -> None:
    """Where a vendor's document wants one; members that are None are left out."""
    request = form_request(URL, {"a": "b"}, client_id="i", is_json=True)
    assert json.loads(request.body) == {"a": "b", "client_id": "i"}
    assert request.headers["Content-Type"] == "application/json"
    request = json_request(URL, {"a": "b", "left": None}, {"X": "y"})
    assert json.loads(request.body) == {"a": "b"}
    assert request.headers == {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "X": "y",
    }
    request = get_request(URL)
    assert (request.method, request.body) == ("GET", b"")
    assert request.headers == {"Accept": "application/json"}
    assert "s:t" not in repr(form_request(URL, {"x": "s:t"}))


# The requests of RFC 6749 and its kin.


def test_sign_ins() -> None:
    """By a user's password, or by the client alone; scopes are one text."""
    of = profile(OAUTH + 'grant = "password"\nscopes = ["a", "b"]\n')
    request = adapter(of).sign_in_request(of, USER)
    assert form(request) == {
        "grant_type": "password",
        "username": "svc",
        "password": "p w",
        "scope": "a b",
    }
    assert request.headers["Authorization"].startswith("Basic ")
    of = profile(OAUTH + 'grant = "client_credentials"\n')
    assert form(adapter(of).sign_in_request(of, CLIENT)) == {"grant_type": "client_credentials"}
    assert form(adapter(of).sign_in_request(of, PROVED))["client_assertion"] == "signed"


@pytest.mark.parametrize(
    ("grant", "client", "missing"),
    [
        ("password", CLIENT, "username"),
        ("password", replace(USER, password=None), "password"),
        ("client_credentials", replace(CLIENT, client_id=None), "client_id"),
        ("client_credentials", replace(CLIENT, client_secret=None), "key"),
    ],
)
def test_what_a_sign_in_lacks_is_named_as_the_secret_names_it(
    grant: str, client: Credentials, missing: str
) -> None:
    """The profile may call it otherwise."""
    of = profile(OAUTH + f'grant = "{grant}"\nfields = {{ client_secret = "key" }}\n')
    with pytest.raises(ValueError, match=f"it lacks the member '{missing}'"):
        adapter(of).sign_in_request(of, client)


def test_a_refresh() -> None:
    """With the scopes of the session, unless the row leaves them out; extra parameters are under
    ours."""
    text = OAUTH + 'grant = "refresh_token"\nscopes = ["a"]\n'
    of = profile(text)
    assert form(adapter(of).refresh_request(of, Secret("R"), CLIENT)) == {
        "grant_type": "refresh_token",
        "refresh_token": "R",
        "scope": "a",
    }
    of = profile(text + "scope_at_refresh = false\n")
    of = replace(of, options={**of.options, "extra_parameters": {"x": "y", "grant_type": "z"}})
    assert form(adapter(of).refresh_request(of, Secret("R"), None)) == {
        "grant_type": "refresh_token",
        "refresh_token": "R",
        "x": "y",
    }
    assert adapter(of).asked_scope(of, Call.REFRESH) == "a"


def attended(more: str = "") -> Profile:
    return profile(
        OAUTH + 'grant = "authorization_code"\nscopes = ["a", "b"]\nrefresh_token = "r"\n'
        'authorization_endpoint = "https://a.example/go"\n' + more
    )


def test_where_a_person_goes() -> None:
    """With PKCE, and what the profile adds."""
    of = attended()
    of = replace(of, options={**of.options, "authorization_parameters": {"prompt": "login"}})
    url = adapter(of).authorization_url(
        of, redirect_uri="http://127.0.0.1:7/", state="st", challenge="ch", client=CLIENT
    )
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://a.example/go"
    assert parse_qs(parts.query) == {
        "response_type": ["code"],
        "client_id": ["i d"],
        "redirect_uri": ["http://127.0.0.1:7/"],
        "scope": ["a b"],
        "state": ["st"],
        "code_challenge": ["ch"],
        "code_challenge_method": ["S256"],
        "prompt": ["login"],
    }


def test_a_code_and_a_device() -> None:
    """RFC 6749 4.1.3 with RFC 7636, and RFC 8628."""
    of = attended('device_authorization_endpoint = "https://a.example/d"\n')
    request = adapter(of).code_request(
        of, code=Secret("C"), redirect_uri="u", verifier=Secret("V"), client=None
    )
    assert form(request) == {
        "grant_type": "authorization_code",
        "code": "C",
        "redirect_uri": "u",
        "code_verifier": "V",
    }
    request = adapter(of).device_request(of, None)
    assert (request.url, form(request)) == ("https://a.example/d", {"scope": "a b"})
    request = adapter(of).device_token_request(of, Secret("D"), None)
    assert request.url == URL
    assert form(request) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "D",
    }
    bare = attended()
    with pytest.raises(ValueError, match="names no device_authorization_endpoint"):
        adapter(bare).device_request(bare, None)


def test_a_revocation() -> None:
    """RFC 7009, where there is an address for it."""
    of = attended('revocation_endpoint = "https://a.example/r"\n')
    request = adapter(of).revocation_request(of, Secret("R"), CLIENT)
    assert request is not None
    assert request.url == "https://a.example/r"
    assert form(request) == {"token": "R", "token_type_hint": "refresh_token"}
    assert adapter(of).revocation_request(attended(), Secret("R"), CLIENT) is None


# Discovery.


def discovered(more: str = "") -> Profile:
    return profile(
        'issuer = "oauth2"\ncredentials = "c"\ngrant = "refresh_token"\n'
        f'issuer_url = "https://i.example/x/"\n{more}'
    )


def answer(document: object, status: int = 200) -> Response:
    return Response(status=status, headers={}, body=json.dumps(document).encode())


METADATA = {
    "issuer": "https://i.example/x",
    "token_endpoint": "https://i.example/t",
    "revocation_endpoint": "https://i.example/r",
    "authorization_response_iss_parameter_supported": True,
}


def test_discovery_asks_openid_connect_s_place() -> None:
    """Where the profile names the issuer alone."""
    of = discovered()
    request = adapter(of).discovery_request(of)
    assert request is not None
    assert request.url == "https://i.example/x/.well-known/openid-configuration"
    named = discovered('token_endpoint = "https://i.example/own"\n')
    assert adapter(of).discovery_request(named) is None
    assert adapter(of).discovery_request(profile(OAUTH + 'grant = "refresh_token"\n')) is None


def test_what_discovery_finds_stands_behind_what_is_named() -> None:
    """And whether `iss` is promised (RFC 9207)."""
    of = discovered('revocation_endpoint = "https://i.example/own"\n')
    found = adapter(of).with_discovery(of, answer(METADATA)).options
    assert found["token_endpoint"] == "https://i.example/t"
    assert found["revocation_endpoint"] == "https://i.example/own"
    assert found["authorization_response_iss"] is True
    silent = {**METADATA, "authorization_response_iss_parameter_supported": "true"}
    assert (
        "authorization_response_iss" not in adapter(of).with_discovery(of, answer(silent)).options
    )


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"issuer": "https://evil.example"}, 200, "another issuer's"),
        ({"issuer": None}, 200, "another issuer's"),
        ({"token_endpoint": None}, 200, "names no token_endpoint"),
        ({"token_endpoint": "http://i.example/t"}, 200, "token_endpoint"),
        ({"token_endpoint": "https://evil.example/t"}, 200, "is on another host"),
        ({"token_endpoint": "https://127.0.0.1/t"}, 200, "is on another host"),
        ({}, 404, r"serves no metadata .*\(404\)"),
    ],
)
def test_discovery_leads_nowhere_else(change: dict[str, Any], status: int, words: str) -> None:
    """RFC 8414 3.3: another issuer's metadata must not be used."""
    of = discovered()
    with pytest.raises(IssuerReplyError, match=words):
        adapter(of).with_discovery(of, answer({**METADATA, **change}, status))
    senseless: list[object] = [[], "x", None]
    for odd in senseless:
        with pytest.raises(IssuerReplyError, match="serves no metadata"):
            adapter(of).with_discovery(of, answer(odd))


@pytest.mark.parametrize(
    ("host", "address", "is_let"),
    [
        ("t.example", "https://t.example/t", True),
        ("T.example", "https://t.example/t", True),
        ("t.example:8443", "https://t.example:8443/t", True),
        ("t.example", "https://t.example:8443/t", True),
        ("t.example:8443", "https://t.example/t", False),
        ("127.0.0.1", "https://127.0.0.1/t", False),
    ],
)
def test_discovery_leads_to_hosts_that_are_named(host: str, address: str, is_let: bool) -> None:
    """But never to this machine, where the issuer is not here."""
    of = discovered()
    of = replace(of, options={**of.options, "endpoint_hosts": [host]})
    reply = answer({**METADATA, "token_endpoint": address})
    if is_let:
        assert adapter(of).with_discovery(of, reply).options["token_endpoint"] == address
        return
    with pytest.raises(IssuerReplyError):
        adapter(of).with_discovery(of, reply)


# Vendors with ways of their own.


def test_pitchpoint_s_paths_and_members() -> None:
    """JSON; an alias where there is one."""
    of = profile(REUSED)
    request = issuer_for(of).sign_in_request(of, replace(USER, useralias="al"))
    assert request.url == of.base_url + (
        "/user-management-services-ws/oauth2/002/signInWithPassword"
    )
    assert json.loads(request.body) == {"username": "svc", "password": "p w", "useralias": "al"}
    assert "useralias" not in json.loads(issuer_for(of).sign_in_request(of, USER).body)
    request = issuer_for(of).refresh_request(of, Secret("R"), None)
    assert request.url == of.base_url + "/user-management-services-ws/oauth2/002/refreshIdToken"
    assert json.loads(request.body) == {"refresh_token": "R"}
    for lacking, name in (
        (replace(USER, username=None), "username"),
        (replace(USER, password=None), "password"),
    ):
        with pytest.raises(ValueError, match=f"it lacks the member '{name}'"):
            issuer_for(of).sign_in_request(of, lacking)
    assert issuer_for(of).revocation_request(of, Secret("R"), None) is None
    assert issuer_for(of).discovery_request(of) is None
    assert issuer_for(of).asked_scope(of, Call.REFRESH) is None
    assert issuer_for(of).with_discovery(of, answer({})) is of


def test_vault_ist_s_headers() -> None:
    """The partner is a number of 32 bits, by the profile or the client's secret."""
    of = profile(ROTATING)
    request = issuer_for(of).refresh_request(of, Secret("R"), None)
    assert request.url == f"{of.base_url}/v1/auth/token"
    assert json.loads(request.body) == {"refreshToken": "R"}
    assert (request.headers["partnerId"], request.headers["grantType"]) == ("7", "refresh_token")
    bare = replace(of, options={key: of.options[key] for key in of.options if key != "partner_id"})
    by_secret = Credentials(version="1", partner_id="-2147483648")
    request = issuer_for(of).refresh_request(bare, Secret("R"), by_secret)
    assert request.headers["partnerId"] == "-2147483648"
    for partner in ("2147483648", "-2147483649", "x", "7\r\nX: y"):
        with pytest.raises(ValueError, match="32-bit"):
            issuer_for(of).refresh_request(
                bare, Secret("R"), replace(by_secret, partner_id=partner)
            )
    with pytest.raises(ValueError, match="it lacks the member 'partner_id'"):
        issuer_for(of).refresh_request(bare, Secret("R"), None)
    with pytest.raises(ValueError, match="no sign-in"):
        issuer_for(of).sign_in_request(of, USER)


# Dialects, and what errors say.


def test_a_row_s_dialect() -> None:
    """What a row leaves out is RFC 6749's."""
    assert dialect_of({}) == Dialect()
    assert Dialect() == Dialect(
        dead=frozenset(),
        busy=frozenset(),
        refused=frozenset(),
        token_types=frozenset({"bearer"}),
        access_life_s=3600,
        life_field=None,
        output=(),
    )
    found = dialect_of(
        {
            "dead_errors": ["d"],
            "busy_errors": ["b"],
            "refused_errors": ["r"],
            "token_types": ["Bot"],
            "access_token_life": "2h",
            "life_field": "left",
            "extra_output": ["url"],
        }
    )
    assert [*found.dead, *found.busy, *found.refused] == ["d", "b", "r"]
    assert found.codes == {"d", "b", "r"}
    assert found.token_types == {"bearer", "bot"}
    assert found.access_life_s == 7_200
    assert (found.life_field, found.output) == ("left", ("url",))
    assert seconds(7) == 7


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ({"error": "e"}, 400, ("e",)),
        ({"error": {"code": 400, "message": "BAD : because"}}, 400, ("BAD",)),
        ({"error": {"code": "c", "message": None}}, 400, ("c",)),
        ({"error": "e", "status": "S"}, 400, ("e", "S")),
        ({"status": "S"}, 400, ("S",)),
        ({"status": "S"}, 200, ()),
        ({"status": "S", "access_token": "t", "error": "e"}, 400, ("e",)),
        ({"ok": False}, 200, ("unnamed",)),
        ({"ok": False, "error": "e"}, 200, ("e",)),
        ({"error": True}, 400, ("unnamed",)),
        ({"error": 7}, 400, ("unnamed",)),
        ({"error": ""}, 400, ()),
        ({}, 400, ()),
    ],
)
def test_an_issuer_s_codes(document: dict[str, Any], status: int, words: tuple[str, ...]) -> None:
    """RFC 6749's, Google's, HubSpot's, Slack's; the most telling first."""
    assert error_words(document, status=status) == words


def test_numbers_are_codes_where_the_row_names_them() -> None:
    """And a status beside a 200 is one where the row knows it."""
    dialect = Dialect(dead=frozenset({"1013", "S"}))
    assert error_words({"error": 1013}, dialect) == ("1013",)
    assert error_words({"error": True}, dialect) == ("unnamed",)
    assert error_words({"status": "S"}, dialect, status=200) == ("S",)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"error_description": "d", "message": "m"}, "d"),
        ({"error": {"message": "g"}, "message": "m"}, "g"),
        ({"error": {}, "message": "m"}, "m"),
        ({"error": "e", "message": "m"}, "m"),
        ({"error": "e"}, None),
        ([], None),
    ],
)
def test_an_issuer_s_own_words(document: Any, words: str | None) -> None:
    """As they came."""
    assert description_of(answer(document, 400)) == words


@pytest.mark.parametrize(
    ("call", "error", "kind", "words"),
    [
        (Call.SIGN_IN, "access_denied", CredentialsRefusedError, "refused the sign-in"),
        (Call.LOG_IN, "access_denied", LoginRequiredError, "refused the login"),
        (Call.REFRESH, "access_denied", SessionRejectedError, "refused the refresh token"),
        (Call.REFRESH, "invalid_client", CredentialsRefusedError, "refused the client or user"),
        (Call.REFRESH, "invalid_scope", IssuerReplyError, "calls the refresh request wrong"),
    ],
)
def test_what_an_error_means_for_a_call(
    call: Call, error: str, kind: type[NightporterError], words: str
) -> None:
    """With the status and the code that people look up, and nothing else of the prose."""
    body = {"error": error, "error_description": "AADSTS70008: the secret prose"}
    with pytest.raises(kind) as caught:
        parse_tokens(answer(body, 400), call)
    assert f"{words} (400, {error}, AADSTS70008)" in caught.value.message
    assert "prose" not in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 307, 399])
def test_a_redirect_is_never_followed(status: int) -> None:
    """It would take the password with it."""
    with pytest.raises(IssuerReplyError, match=rf"with a redirect \({status}\)"):
        parse_tokens(answer({"access_token": "t"}, status), Call.REFRESH)


# Keys, and the pages of the catalogue.


@pytest.mark.parametrize(
    ("options", "signs"),
    [
        ({}, False),
        ({"token_endpoint_auth_method": "private_key_jwt"}, True),
        ({"token_endpoint_auth_method": "client_secret_post"}, False),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "client_assertion_file": "/j"},
            False,
        ),
    ],
)
def test_who_must_sign(options: dict[str, str], signs: bool) -> None:
    """Not who is given an assertion by its workload."""
    of = profile(OAUTH + 'grant = "refresh_token"\n')
    assert must_sign(replace(of, options={**of.options, **options})) is signs


def test_every_exit_code_names_its_references() -> None:
    """Each error once, beside who must act."""
    lines = render_exits().splitlines()
    assert lines[:2] == ["| exit | who acts | when | references |", "| --- | --- | --- | --- |"]
    assert [int(line.split("|")[1]) for line in lines[2:]] == list(WHO_ACTS) == list(range(1, 8))
    assert "`credentials-refused`" in lines[4]
    assert "`host-not-allowed`" in lines[8]
    names = [name for line in lines[2:] for name in line.split("|")[4].split(",")]
    assert len(names) == len(set(names))
    page = render_page()
    assert page.startswith("# References\n\nEvery error ends with a reference.")
    assert "\n## credentials-refused\n\n" in page
    assert page.count("**What to do.**") == page.count("\n## ")
