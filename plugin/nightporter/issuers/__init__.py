"""The vendors: a table of rows, and one small adapter for each that deviates from RFC 6749.

An adapter turns a profile and credentials into requests, and answers into tokens. It is pure: `http` sends.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from nightporter.model import Credentials, IssuedTokens, Profile, Rotation, Secret, Vendor
from nightporter.oauth import Call, Request, Response

VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor
    for vendor in (
        Vendor(
            name="pitchpoint",
            module="nightporter.issuers.pitchpoint",
            document="Pitchpoint developer guide, 'Obtaining An Access Token' and 'Refresh Access Token'",
            read_on="2026-11-21",
            base_url="https://api.pointservices.com",
            token_endpoint="{base_url}",
            rotation=Rotation.REUSED,
            grants=("password",),
            is_life_from_sign_in=True,
        ),
    )
}


class Issuer(Protocol):
    """One vendor's wire format."""

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        """Raises: ValueError naming the member that the credentials lack."""

    def refresh_request(self, profile: Profile, refresh_token: Secret, client: Credentials | None) -> Request:
        """`client` holds client_id and client_secret where the vendor wants them at a refresh."""

    def parse(self, response: Response, call: Call) -> IssuedTokens:
        """Raises: as `oauth.parse_tokens`."""

    def refresh_expires_at(self, profile: Profile, issued_at: int) -> int | None:
        """When a refresh token of a sign-in at `issued_at` dies; None where the vendor states nothing."""


def issuer_for(profile: Profile) -> Issuer:
    """The adapter of the profile's vendor."""
    return cast(Issuer, importlib.import_module(VENDORS[profile.issuer].module).Adapter())
