"""Google's executable-sourced credentials (AIP-4117, google-auth's `pluggable`): parse an ask,
render a reply. Pure.

What it hands out is a subject token that Google's STS exchanges, so only a JWT will do, and only
for an audience that the profile names. Failures are answers too, with exit 0: google-auth reads
standard error as a part of the output.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from nightporter.core.errors import ConfigError, HostNotAllowedError, IssuerReplyError
from nightporter.core.model import Profile, Token
from nightporter.core.values import dataclass

PREFIX = "GOOGLE_EXTERNAL_ACCOUNT_"
TOKEN_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
REVOKED = json.dumps({"version": 1, "success": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleAsk:
    """What google-auth says in its variables. `output_file`: where it looks for an answer before it
    runs us."""

    audience: str
    token_type: str
    email: str | None
    output_file: str | None
    is_revoke: bool


def parse(environment: Mapping[str, str]) -> GoogleAsk:
    """The ask.

    Raises: ConfigError for a token type that an access token can't be.
    """
    token_type = environment.get(f"{PREFIX}TOKEN_TYPE") or TOKEN_TYPES[0]
    if token_type not in TOKEN_TYPES:
        raise ConfigError(
            "the subject token type is not one that nightporter can serve",
            hint=f"Set `subject_token_type` in the credential configuration to {TOKEN_TYPES[0]}.",
        )
    return GoogleAsk(
        audience=environment.get(f"{PREFIX}AUDIENCE", ""),
        token_type=token_type,
        email=environment.get(f"{PREFIX}IMPERSONATED_EMAIL") or None,
        output_file=environment.get(f"{PREFIX}OUTPUT_FILE") or None,
        is_revoke=environment.get(f"{PREFIX}REVOKE") == "1",
    )


def check_audience(ask: GoogleAsk, profile: Profile) -> None:
    """A credential configuration may come from anywhere: what it names must be named by the profile
    too.

    Raises: HostNotAllowedError.
    """
    for value, key in ((ask.audience, "google_audiences"), (ask.email, "google_service_accounts")):
        if value is not None and value not in profile.helper_options[key]:
            raise HostNotAllowedError(
                f"what google-auth asks for is not in `{key}` of profile {profile.name!r}, so it"
                " gets no token",
                hint=f"If the credential configuration is right, name it in `{key}`.",
            )


def check_jwt(token: Token) -> None:
    """Google's STS takes no opaque token.

    Raises: IssuerReplyError.
    """
    parts = token.value.split(".")
    if len(parts) != 3 or not all(parts) or not all(_is_json_object(part) for part in parts[:2]):
        raise IssuerReplyError(
            "the issuer's access token is not a JWT, and Google exchanges nothing else",
            hint=(
                "Use this protocol only for issuers whose access tokens are JWTs that the pool"
                " trusts."
            ),
        )


def _is_json_object(part: str) -> bool:
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
    except (binascii.Error, ValueError, RecursionError):
        return False


def render(token: Token, ask: GoogleAsk, *, reported_expiry: int) -> str:
    """The answer, which is also what the output file holds."""
    answer = {"version": 1, "success": True, "token_type": ask.token_type, "id_token": token.value}
    return json.dumps({**answer, "expiration_time": reported_expiry})


def render_error(code: str, message: str) -> str:
    """Returns the answer of a failed executable-sourced credential."""
    return json.dumps({"version": 1, "success": False, "code": code, "message": message})
