"""Any issuer that follows RFC 6749, and Microsoft Entra (Perspio among its tenants), which is a
preset of it.

Grants: password, client_credentials, refresh_token, authorization_code with PKCE (RFC 7636) and
device_code (RFC 8628, both driven by `login`). Addresses from the profile, from Entra's tenant, or
by discovery (RFC 8414, and OpenID Connect's own place for the same document).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from nightporter.core.checks import is_near, url_problem
from nightporter.core.errors import IssuerReplyError
from nightporter.core.model import Credentials, Grant, Profile, Secret
from nightporter.core.values import replace
from nightporter.core.vendor_table import ENDPOINTS
from nightporter.issuers import Speaker
from nightporter.issuers.oauth import (
    Call,
    Request,
    Response,
    form_request,
    get_request,
)

ISS_PROMISED = "authorization_response_iss"  # an option that discovery adds (RFC 9207 section 3)
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Adapter(Speaker):
    # Addresses.

    """Any OAuth 2 server, by its metadata or by the endpoints that the profile names."""

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
            if problem := url_problem(address) or _place_problem(profile, str(address)):
                raise IssuerReplyError(
                    f"the issuer's metadata: {name} {problem}",
                    hint="Name the host in `endpoint_hosts`, if you trust it.",
                )
            found[name] = str(address)
        if "token_endpoint" not in found:
            raise IssuerReplyError("the issuer's metadata names no token_endpoint")
        promised = document.get("authorization_response_iss_parameter_supported") is True
        more = {**found, **({ISS_PROMISED: True} if promised else {})}
        return replace(profile, options={**profile.options, **more})

    # Requests.

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        if profile.grant is Grant.CLIENT_CREDENTIALS:
            if credentials.prove is None:
                _need(profile, credentials, "client_id", "client_secret")
            members = {"grant_type": "client_credentials", "scope": scope(profile, "client")}
        else:
            _need(profile, credentials, "username", "password")
            members = {
                "grant_type": "password",
                "username": credentials.username,
                "password": credentials.password.reveal() if credentials.password else None,
                "scope": scope(profile, "login"),
            }
        return _posted(profile, members, credentials)

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        members = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.reveal(),
            "scope": scope(profile, "refresh"),
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
        members = {"scope": scope(profile, "login")}
        return _posted(
            profile,
            members,
            client,
            _address(profile, "device_authorization_endpoint"),
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
            "client_id": client.client_id if client else None,
            "redirect_uri": redirect_uri,
            "scope": scope(profile, "login"),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **profile.options.get("extra_parameters", {}),
            **profile.options.get("authorization_parameters", {}),
        }
        query = urlencode({key: value for key, value in members.items() if value is not None})
        return f"{_address(profile, 'authorization_endpoint')}?{query}"

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
            return wanted_scope(profile, "refresh")
        is_client = call is Call.SIGN_IN and profile.grant is Grant.CLIENT_CREDENTIALS
        return wanted_scope(profile, "client" if is_client else "login")


def scope(profile: Profile, kind: str) -> str | None:
    """The scopes that are sent with a call (`login`, `refresh`, `client`), as one string."""
    if kind == "refresh" and not profile.options.get("scope_at_refresh", True):
        return None
    return wanted_scope(profile, kind)


def wanted_scope(profile: Profile, kind: str) -> str | None:
    """The profile's own scopes, else the vendor's documented ones for this call. An empty `scope`
    is never sent: RFC 6749 has none."""
    scopes = profile.options.get("scopes", profile.vendor.call_scopes.get(kind))
    text = " ".join(scopes) if isinstance(scopes, list) else scopes
    return text or None


def _posted(
    profile: Profile,
    members: Mapping[str, str | None],
    client: Credentials | None,
    url: str | None = None,
) -> Request:
    return form_request(
        url or profile.options.get("token_endpoint", profile.token_endpoint),
        {**profile.options.get("extra_parameters", {}), **members},
        client_id=client.client_id if client else None,
        client_secret=client.client_secret if client else None,
        client_assertion=client.prove(profile) if client and client.prove else None,
        auth_method=profile.options.get("token_endpoint_auth_method", "client_secret_basic"),
        is_json=profile.options.get("request_body") == "json",
    )


def _address(profile: Profile, name: str) -> str:
    """An endpoint of the profile.

    Raises: ValueError.
    """
    if name in profile.options:
        return str(profile.options[name])
    raise ValueError(f"the profile names no {name}")


def _place_problem(profile: Profile, address: str) -> str | None:
    """What is wrong with where discovery leads: another host may only be one that the profile
    names, and this machine or its link only where the issuer itself is there."""
    issuer, found = urlsplit(str(profile.options["issuer_url"])), urlsplit(address)
    if found.netloc.lower() == issuer.netloc.lower():
        return None
    hosts = {host.lower() for host in profile.options.get("endpoint_hosts", ())}
    if found.hostname != issuer.hostname and not hosts & {found.netloc.lower(), found.hostname}:
        return "is on another host"
    if is_near(found.hostname or "") and not is_near(issuer.hostname or ""):
        return "is on this machine or its link, where the issuer is not"
    return None


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
