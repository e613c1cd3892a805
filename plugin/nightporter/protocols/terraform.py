"""Terraform's credentials helper protocol ("Credentials Helpers", CLI internals): parse an ask,
render a reply.

Pure. The host comes as the last argument, in punycode, with `:port` where it isn't 443. Terraform
keeps a failure to itself and goes on without a token.
"""

from __future__ import annotations

import json

from nightporter.core.hosts import BadAskError, Target, parse_target
from nightporter.core.model import Token

VERBS = ("get", "store", "forget")
NONE = "{}"
REFUSES_STORE = (
    "it stores no tokens of others: it fetches them itself, `terraform login` is not needed for"
    " this host"
)
MAX_BYTES = 1 << 20


def parse_host(text: str) -> Target:
    """The host of the command line, exactly as Terraform writes it.

    Raises: BadAskError.
    """
    if "/" in text or not text.isascii():
        raise BadAskError("not a host", address=text)
    return parse_target(text)


def render(token: Token) -> str:
    """The answer to `get`."""
    return json.dumps({"token": token.value})
