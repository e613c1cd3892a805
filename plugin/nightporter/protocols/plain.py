"""The outputs of `nightporter token`: for shells, curl and scripts."""

from __future__ import annotations

import json

from nightporter.expiry import format_rfc3339
from nightporter.model import Token

OUTPUTS = ("token", "json", "header", "env", "curl")


def render(token: Token, output: str, *, profile: str) -> str:
    """The token in one of `OUTPUTS`. A token is visible ASCII, so only the quotes of each form matter."""
    value = token.value
    if output == "json":
        return json.dumps(
            {
                "profile": profile,
                "access_token": value,
                "token_type": token.token_type,
                "expires_at": format_rfc3339(token.expires_at_s),
            }
        )
    if output == "header":
        return f"Authorization: {token.token_type} {value}"
    if output == "env":
        quoted = value.replace("'", "'\\''")
        return f"NIGHTPORTER_TOKEN='{quoted}'"
    if output == "curl":
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'header = "Authorization: {token.token_type} {escaped}"'
    return value


def reported_expiry(token: Token, *, min_ttl_s: float, now: float) -> int:
    """What helper protocols are told: the real expiry less the margin, but never a past one for a fresh token."""
    early = token.expires_at_s - int(min_ttl_s)
    return early if early > now else token.expires_at_s
