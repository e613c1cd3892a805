"""The outputs of `nightporter token`: for shells, curl and scripts."""

from __future__ import annotations

import json

from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.expiry import format_rfc3339
from nightporter.core.hosts import DEFAULT_PORTS, rules_of
from nightporter.core.model import Profile, Token

OUTPUTS = ("token", "json", "header", "env", "curl", "authorization", "netrc")


def end_of(output: str) -> str:
    """What follows the result: HTTPie takes a header's value from a file as it is, line break and
    all."""
    return "" if output == "authorization" else "\n"


def render(token: Token, output: str, profile: Profile) -> str:
    """The token in one of `OUTPUTS`. A token is visible ASCII, so only the quotes of each form
    matter.

    Raises: HostNotAllowedError for `netrc` without a host that it could name.
    """
    value = token.value
    if output == "json":
        return json.dumps(
            {
                "profile": profile.name,
                "access_token": value,
                "token_type": token.token_type,
                "expires_at": format_rfc3339(token.expires_at_s),
                **token.output,
            }
        )
    if output == "header":
        return f"Authorization: {token.token_type} {value}"
    if output == "authorization":
        return f"{token.token_type} {value}"
    if output == "netrc":
        return _netrc(token, profile)
    if output == "env":
        quoted = value.replace("'", "'\\''")
        return f"NIGHTPORTER_TOKEN='{quoted}'"
    if output == "curl":
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'header = "Authorization: {token.token_type} {escaped}"'
    return value


def _netrc(token: Token, profile: Profile) -> str:
    """Entries for plain hosts on the usual port: the format has no port, scheme or path to hold a
    token back."""
    targets = [
        rule.target for rule in rules_of(profile) if not rule.is_wildcard and not rule.target.path
    ]
    names = [
        target.host
        for target in targets
        if target.port == DEFAULT_PORTS["https"] and target.scheme == "https"
    ]
    if any(char.isspace() for char in profile.helper_username):
        raise ConfigError(
            f"`helper_username` of profile {profile.name!r} holds white space, which netrc can't",
            hint="Choose another form (`nightporter token -o curl`), or another user name.",
        )
    if not names:
        raise HostNotAllowedError(
            f"`hosts` of profile {profile.name!r} holds no plain host name on port 443, and netrc"
            " knows no other"
        )
    entry = "machine {} login {} password {}"
    return "\n".join(entry.format(name, profile.helper_username, token.value) for name in names)


def reported_expiry(token: Token, *, min_ttl_s: float, now: float) -> int:
    """What helper protocols are told: the real expiry less the margin, but never a past one for a
    fresh token."""
    early = token.expires_at_s - int(min_ttl_s)
    return early if early > now else token.expires_at_s
