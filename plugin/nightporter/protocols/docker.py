"""docker's credential helper protocol (docker-credential-helpers, `credentials`): parse an ask,
render a reply. Pure.

Errors are texts on standard output with exit 1, and the exact words of "not found" keep public
images pullable for strict clients (skopeo). An access token never goes under the user name
`<token>`, which would make it a refresh token.
"""

from __future__ import annotations

import json

from nightporter.core.hosts import BadAskError, Rule, Target, decode_text, parse_target
from nightporter.core.model import Token

ACTIONS = ("get", "store", "erase", "list", "version")
NOT_FOUND = "credentials not found in native keychain"
NO_SERVER = "no credentials server URL"
REFUSES_STORE = (
    "nightporter stores no passwords: it fetches tokens itself, and needs no `docker login`"
)
MAX_BYTES = 1 << 20


def can_ask_for(rule: Rule) -> bool:
    """Whether docker can ask for what an entry of `hosts` names: it looks a plain host up, and
    tells neither path nor scheme."""
    return not rule.is_wildcard and not rule.target.path and rule.target.scheme == "https"


def is_empty(content: bytes) -> bool:
    """Whether the client names no server."""
    return not content.strip(b" \t\r\n")


def parse_server(content: bytes) -> Target:
    """The registry in the raw server string. What follows its first slash decides nothing.

    Raises: BadAskError.
    """
    if len(content) > MAX_BYTES:
        raise BadAskError("the request is too long")
    text = decode_text(content.strip(b" \t\r\n"))
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    return parse_target(f"{scheme}{separator}{rest.lstrip('/').partition('/')[0]}")


def render(token: Token, server: bytes, *, username: str) -> str:
    """The answer to `get`. `server` is what docker asked for, which it compares."""
    name = "oauth2" if username == "<token>" else username
    return json.dumps(
        {"ServerURL": server.decode().strip(), "Username": name, "Secret": token.value}
    )


def render_list(servers: dict[str, str]) -> str:
    """The answer to `list`: server to user name."""
    return json.dumps(servers)
