"""Pitchpoint: JSON bodies, its own paths, and a refresh token that is reused until an Eastern
midnight.

Follows the vendor's "Obtaining An Access Token" and "Refresh Access Token". A token's own claims
are never read: the vendor's example token expires in January 1970.
"""

from __future__ import annotations

from nightporter.core.model import Credentials, Profile, Secret
from nightporter.issuers import FixedAddresses
from nightporter.issuers.oauth import Request, json_request

SIGN_IN_PATH = "/user-management-services-ws/oauth2/002/signInWithPassword"
REFRESH_PATH = "/user-management-services-ws/oauth2/002/refreshIdToken"


class Adapter(FixedAddresses):
    """Pitchpoint's way to sign in and to refresh."""

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        if credentials.username is None or credentials.password is None:
            missing = "username" if credentials.username is None else "password"
            raise ValueError(f"it lacks the member {profile.fields.get(missing, missing)!r}")
        return json_request(
            profile.base_url + SIGN_IN_PATH,
            {
                "username": credentials.username,
                "password": credentials.password.reveal(),
                "useralias": credentials.useralias,
            },
        )

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        return json_request(
            profile.base_url + REFRESH_PATH, {"refresh_token": refresh_token.reveal()}
        )
