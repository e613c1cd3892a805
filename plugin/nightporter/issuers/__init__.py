"""The vendors: a table of rows, and one small adapter for each way of deviating from RFC 6749.

An adapter turns a profile and credentials into requests, and answers into tokens. It is pure:
`http` sends.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from nightporter.core.model import (
    Credentials,
    Grant,
    IssuedTokens,
    Profile,
    Rotation,
    Secret,
    Vendor,
)

if TYPE_CHECKING:
    from nightporter.issuers.oauth import Call, Request, Response

_ENTRA_OPTIONS = frozenset({"grant", "tenant", "scopes", "redirect_port"})
_ENTRA_GRANTS = (Grant.AUTHORIZATION_CODE, Grant.CLIENT_CREDENTIALS, Grant.DEVICE_CODE)

VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor
    for vendor in (
        Vendor(
            name="pitchpoint",
            module="nightporter.issuers.pitchpoint",
            document=(
                "Pitchpoint developer guide, 'Obtaining An Access Token' and 'Refresh Access Token'"
            ),
            read_on="2026-11-21",
            base_url="https://api.pointservices.com",
            token_endpoint="{base_url}",
            rotation=Rotation.REUSED,
            grants=(Grant.PASSWORD,),
            refresh_needs=frozenset(),
        ),
        Vendor(
            name="vault-ist",
            module="nightporter.issuers.vault_ist",
            document="vault.ist, 'Refreshing Access Tokens'",
            read_on="2026-11-21",
            base_url="https://api.vault.ist",
            token_endpoint="{base_url}",
            rotation=Rotation.MAY_ROTATE,
            grants=(Grant.REFRESH_TOKEN,),
            refresh_needs=frozenset({"partner_id"}),
            options=frozenset({"partner_id"}),
        ),
        Vendor(
            name="perspio",
            module="nightporter.issuers.oauth2",
            document="Perspio, 'Refresh Access Token'",
            read_on="2026-11-21",
            base_url="https://login.microsoftonline.com",
            token_endpoint="{base_url}/{tenant}/oauth2/v2.0/token",
            rotation=Rotation.ROTATES,
            grants=_ENTRA_GRANTS,
            options=_ENTRA_OPTIONS,
            preset={
                "tenant": "7d548d61-6361-4a6e-85e6-509e2c05d05e",
                # The scopes of the vendor's document, by grant.
                "login_scopes": "api://perspiotalk/access_as_user offline_access",
                "refresh_scopes": "api://perspiotalk/all_readwrite offline_access",
                "client_scopes": "api://perspiotalk/.default",
            },
        ),
        Vendor(
            name="entra",
            module="nightporter.issuers.oauth2",
            document=(
                "Microsoft identity platform v2.0, 'OAuth 2.0 authorization code flow' and its"
                " neighbours"
            ),
            read_on="2026-11-21",
            base_url="https://login.microsoftonline.com",
            token_endpoint="{base_url}/{tenant}/oauth2/v2.0/token",
            rotation=Rotation.ROTATES,
            grants=_ENTRA_GRANTS,
            options=_ENTRA_OPTIONS,
            preset={"tenant": "common"},
        ),
        Vendor(
            name="oauth2",
            module="nightporter.issuers.oauth2",
            document="RFC 6749, RFC 7009, RFC 7636, RFC 8414, RFC 8628",
            read_on="2026-11-21",
            base_url=None,
            token_endpoint="{token_endpoint}",
            rotation=Rotation.MAY_ROTATE,
            grants=(
                Grant.PASSWORD,
                Grant.CLIENT_CREDENTIALS,
                Grant.REFRESH_TOKEN,
                Grant.AUTHORIZATION_CODE,
                Grant.DEVICE_CODE,
            ),
            options=frozenset(
                {
                    "grant",
                    "scopes",
                    "token_endpoint",
                    "authorization_endpoint",
                    "device_authorization_endpoint",
                }
                | {
                    "revocation_endpoint",
                    "issuer_url",
                    "token_endpoint_auth_method",
                    "extra_parameters",
                    "rotation",
                }
                | {"grace", "refresh_token_life", "refresh_token_midnight", "redirect_port"}
            ),
        ),
    )
}


class Issuer(Protocol):
    """One vendor's wire format. The requests take a profile whose addresses are known
    (`with_discovery`)."""

    def discovery_request(self, profile: Profile) -> Request | None:
        """What to ask for the issuer's addresses; None where the profile or the vendor names
        them."""

    def with_discovery(self, profile: Profile, response: Response) -> Profile:
        """Raises: IssuerReplyError."""

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        """Raises: ValueError naming the member that the credentials lack."""

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        """Raises: ValueError naming the member that the client's secret lacks."""

    def parse(self, response: Response, call: Call) -> IssuedTokens:
        """Raises: as `oauth.parse_tokens`."""

    def refresh_expires_at(self, profile: Profile, issued_at: int) -> int | None:
        """When a refresh token issued at `issued_at` dies; None where the vendor states nothing."""

    def asked_scope(self, profile: Profile, call: Call) -> str | None:
        """The scopes that the session is to have with this call, as one text; None where the
        vendor's document names none."""

    def revocation_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request | None:
        """RFC 7009, where the issuer has an address for it."""


class FixedAddresses:
    """For vendors whose addresses follow from `base_url`, and that revoke nothing."""

    def discovery_request(self, profile: Profile) -> Request | None:
        return None

    def with_discovery(self, profile: Profile, response: Response) -> Profile:
        return profile

    def asked_scope(self, profile: Profile, call: Call) -> str | None:
        return None

    def revocation_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request | None:
        return None


DEFAULT_VENDOR = next(iter(VENDORS))  # what `init` and `policy` take where none is named


def issuer_for(profile: Profile) -> Issuer:
    """The adapter of the profile's vendor."""
    return cast(Issuer, importlib.import_module(profile.vendor.module).Adapter())
