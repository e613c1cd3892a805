"""Any issuer that follows RFC 6749, and Microsoft Entra (Perspio among its tenants), which is a
preset of it.

Grants: password, client_credentials, refresh_token, authorization_code with PKCE (RFC 7636) and
device_code (RFC 8628, both driven by `login`). Addresses from the profile, from Entra's tenant, or
by discovery (RFC 8414, and OpenID Connect's own place for the same document).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from nightporter.core.checks import url_problem
from nightporter.core.errors import IssuerReplyError
from nightporter.core.expiry import parse_duration, rounded_up_to_midnight
from nightporter.core.model import Credentials, Grant, IssuedTokens, Profile, Secret
from nightporter.issuers.oauth import (
    Call,
    Request,
    Response,
    form_request,
    get_request,
    parse_tokens,
)

ENDPOINTS = (
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
)
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Adapter:
    # Addresses.

    def discovery_request(self, profile: Profile) -> Request | None:
        issuer_url = profile.options.get("issuer_url")
        if issuer_url is None or "token_endpoint" in profile.options:
            return None
        # OpenID Connect's place: most issuers serve it, OAuth-only ones among them (RFC 8414
        # section 5).
        return get_request(f"{str(issuer_url).rstrip('/')}/.well-known/openid-configuration")

    def with_discovery(self, profile: Profile, response: Response) -> Profile:
        document = _metadata(profile, response)
        found: dict[str, str] = {}
        for name in ENDPOINTS:
            address = document.get(name)
            if address is None or name in profile.options:
                continue
            if problem := url_problem(address):
                raise IssuerReplyError(f"the issuer's metadata: {name} {problem}")
            found[name] = str(address)
        if "token_endpoint" not in found:
            raise IssuerReplyError("the issuer's metadata names no token_endpoint")
        return replace(profile, options={**profile.options, **found})

    # Requests.

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        if profile.grant is Grant.CLIENT_CREDENTIALS:
            _need(profile, credentials, "client_id", "client_secret")
            members = {"grant_type": "client_credentials", "scope": scope(profile, "client_scopes")}
        else:
            _need(profile, credentials, "username", "password")
            members = {
                "grant_type": "password",
                "username": credentials.username,
                "password": credentials.password.reveal() if credentials.password else None,
                "scope": scope(profile, "login_scopes"),
            }
        return _posted(profile, members, credentials)

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        members = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.reveal(),
            "scope": scope(profile, "refresh_scopes"),
        }
        return _posted(profile, members, client)

    def code_request(
        self,
        profile: Profile,
        *,
        code: Secret,
        redirect_uri: str,
        verifier: Secret,
        client: Credentials | None,
    ) -> Request:
        """Exchanges an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
        members = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": redirect_uri,
            "code_verifier": verifier.reveal(),
        }
        return _posted(profile, members, client)

    def device_request(self, profile: Profile, client: Credentials | None) -> Request:
        """Starts a device authorization (RFC 8628 section 3.1)."""
        members = {"scope": scope(profile, "login_scopes")}
        return _posted(
            profile,
            members,
            client,
            _address(profile, "device_authorization_endpoint", "devicecode"),
        )

    def device_token_request(
        self, profile: Profile, device_code: Secret, client: Credentials | None
    ) -> Request:
        """Asks whether the person has said yes (RFC 8628 section 3.4)."""
        return _posted(
            profile, {"grant_type": DEVICE_GRANT, "device_code": device_code.reveal()}, client
        )

    def authorization_url(
        self,
        profile: Profile,
        *,
        redirect_uri: str,
        state: str,
        challenge: str,
        client: Credentials | None,
    ) -> str:
        """Where the person goes (RFC 6749 section 4.1.1, PKCE S256). It holds no secret."""
        members = {
            "response_type": "code",
            "response_mode": "query" if profile.issuer in ("entra", "perspio") else None,
            "client_id": client.client_id if client else None,
            "redirect_uri": redirect_uri,
            "scope": scope(profile, "login_scopes"),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **profile.options.get("extra_parameters", {}),
        }
        query = urlencode({key: value for key, value in members.items() if value is not None})
        return f"{_address(profile, 'authorization_endpoint', 'authorize')}?{query}"

    def revocation_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request | None:
        if "revocation_endpoint" not in profile.options:
            return None
        members = {"token": refresh_token.reveal(), "token_type_hint": "refresh_token"}
        return _posted(profile, members, client, profile.options["revocation_endpoint"])

    # Answers.

    def asked_scope(self, profile: Profile, call: Call) -> str | None:
        if call is Call.REFRESH:
            return scope(profile, "refresh_scopes")
        is_client = call is Call.SIGN_IN and profile.grant is Grant.CLIENT_CREDENTIALS
        return scope(profile, "client_scopes" if is_client else "login_scopes")

    def parse(self, response: Response, call: Call) -> IssuedTokens:
        return parse_tokens(response, call)

    def refresh_expires_at(self, profile: Profile, issued_at: int) -> int | None:
        life = profile.options.get("refresh_token_life")
        zone = profile.options.get("refresh_token_midnight")
        if life is None and zone is None:
            return None
        life_s = parse_duration(life) if isinstance(life, str) else int(life or 0)
        return rounded_up_to_midnight(issued_at, life_s, zone) if zone else issued_at + life_s


def scope(profile: Profile, kind: str) -> str | None:
    """The scopes as one string: the profile's own, else the vendor's documented ones for this
    call."""
    scopes = profile.options.get("scopes", profile.options.get(kind))
    return " ".join(scopes) if isinstance(scopes, list) else scopes


def _posted(
    profile: Profile,
    members: Mapping[str, str | None],
    client: Credentials | None,
    url: str | None = None,
) -> Request:
    default_method = (
        "client_secret_post" if profile.issuer in ("entra", "perspio") else "client_secret_basic"
    )
    return form_request(
        url or profile.options.get("token_endpoint") or profile.token_endpoint,
        {**profile.options.get("extra_parameters", {}), **members},
        client_id=client.client_id if client else None,
        client_secret=client.client_secret if client else None,
        auth_method=profile.options.get("token_endpoint_auth_method", default_method),
    )


def _address(profile: Profile, name: str, entra_name: str) -> str:
    """An endpoint of the profile; Entra's stand beside its token endpoint.

    Raises: ValueError.
    """
    if name in profile.options:
        return str(profile.options[name])
    if profile.issuer in ("entra", "perspio"):
        return profile.token_endpoint.removesuffix("token") + entra_name
    raise ValueError(f"the profile names no {name}")


def _need(profile: Profile, credentials: Credentials, *names: str) -> None:
    for name in names:
        if getattr(credentials, name) is None:
            raise ValueError(f"it lacks the member {profile.fields.get(name, name)!r}")


def _metadata(profile: Profile, response: Response) -> Mapping[str, Any]:
    host = urlsplit(str(profile.options["issuer_url"])).netloc
    try:
        document = json.loads(response.body) if response.status == 200 else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise IssuerReplyError(
            f"{host} serves no metadata under /.well-known/openid-configuration"
            f" ({response.status})",
            hint="Name `token_endpoint` in the profile, or correct `issuer_url`.",
        )
    # RFC 8414 section 3.3: another issuer's metadata must not be used.
    if str(document.get("issuer", "")).rstrip("/") != str(profile.options["issuer_url"]).rstrip(
        "/"
    ):
        raise IssuerReplyError(
            f"the metadata of {host} is another issuer's", hint="Correct `issuer_url`."
        )
    return document
