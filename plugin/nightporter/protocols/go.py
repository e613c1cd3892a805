"""Go's GOAUTH command (`go help goauth`, Go 1.24): parse an ask, render a reply. Pure.

Run without an address before the first fetch, and with one, and the server's answer on standard
input, after a 4xx. Addresses in a reply are bare origins: Go 1.24 matches none that ends with a
slash or has a path (golang/go#71889).
"""

from __future__ import annotations

from collections.abc import Iterable

from nightporter.core.hosts import BadAskError, Target, decode_text, parse_target
from nightporter.core.model import Token

MAX_BYTES = 1 << 20


def parse_url(url: str) -> Target:
    """The target of the address that could not be fetched. Module paths of other people choose it.

    Raises: BadAskError.
    """
    target = parse_target(url, has_path=True)
    if "://" not in url or target.scheme != "https":
        raise BadAskError("not an https address")
    return target


def says_unauthorized(response: bytes) -> bool:
    """Whether the server's answer, status line first, is a 401. A 404 or 403 says nothing about the
    token.

    Raises: BadAskError.
    """
    if len(response) > MAX_BYTES:
        raise BadAskError("the response is too long")
    words = decode_text(response.split(b"\n", 1)[0].rstrip(b"\r")).split(" ", 2)
    return len(words) > 1 and words[0].startswith("HTTP/") and words[1] == "401"


def render(token: Token, urls: Iterable[str]) -> str:
    """Addresses, an empty line, the header, an empty line; without the last one Go drops the whole
    answer."""
    lines = [*dict.fromkeys(urls), "", f"Authorization: {token.token_type} {token.value}", ""]
    return "\n".join(lines)
