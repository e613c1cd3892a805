"""Headers for an MCP server or any HTTP API, as `headersHelper`-style clients want them (Claude
Code's `headersHelper`, Codex's `http_headers_helper`): parse an ask, render a reply. Pure.

The reply is one JSON object of header names and values. It merges into the client's own headers,
so an empty object is "not mine". Claude Code names the server in a variable; Codex clears the
environment, so its address is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from nightporter.core.hosts import Target, parse_target
from nightporter.core.model import Token

URL_VARIABLE = "CLAUDE_CODE_MCP_SERVER_URL"
NONE = "{}"
TIMEOUT_S = 8.0  # Claude Code gives up after 10 s


def address_of(arguments: list[str], environment: Mapping[str, str]) -> str | None:
    """The address that the client talks to: the argument, else what Claude Code names."""
    return arguments[0] if arguments else environment.get(URL_VARIABLE) or None


def parse(address: str) -> Target:
    """The target of the address; a bare host is one of https.

    Raises: BadAskError.
    """
    return parse_target(address, has_path=True)


def render(token: Token) -> str:
    """The answer."""
    return json.dumps({"Authorization": f"{token.token_type} {token.value}"})
