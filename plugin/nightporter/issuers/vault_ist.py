"""vault.ist: the grant type and a partner id as request headers, camelCase in and snake_case out.
No sign-in at all.

Follows the vendor's "Refreshing Access Tokens". How a first refresh token is had is not documented,
so an operator seeds one. "A new refresh token (if applicable)": it may rotate. How long it lives is
not stated.
"""

from __future__ import annotations

from nightporter.core.model import Credentials, Profile, Secret
from nightporter.issuers import FixedAddresses
from nightporter.issuers.oauth import Request, json_request

REFRESH_PATH = "/v1/auth/token"


class Adapter(FixedAddresses):
    """vault.ist's way to sign in and to refresh."""

    def sign_in_request(self, profile: Profile, credentials: Credentials) -> Request:
        raise ValueError("vault.ist documents no sign-in; the session is seeded")

    def refresh_request(
        self, profile: Profile, refresh_token: Secret, client: Credentials | None
    ) -> Request:
        partner_id = profile.options.get("partner_id")
        if partner_id is None and client is not None:
            partner_id = client.partner_id
        if partner_id is None:
            raise ValueError(
                f"it lacks the member {profile.fields.get('partner_id', 'partner_id')!r}"
            )
        return json_request(
            profile.base_url + REFRESH_PATH,
            {"refreshToken": refresh_token.reveal()},
            {"partnerId": str(_int32(partner_id)), "grantType": "refresh_token"},
        )


def _int32(text: str | int) -> int:
    """The document's int32, checked before it is sent: into a header goes nothing but a number."""
    try:
        number = int(text)
    except ValueError:
        number = 2**31
    if not -(2**31) <= number < 2**31:
        raise ValueError("its member 'partner_id' is not a signed 32-bit integer")
    return number
