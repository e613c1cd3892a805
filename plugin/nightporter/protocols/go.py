"""Go's GOAUTH command (`go help goauth`, Go 1.24): parse an ask, render a reply. Pure.

Run without an address before the first fetch, and with one, and the server's answer on standard
input, after a 4xx. Addresses in a reply are bare origins: Go 1.24 matches none that ends with a
slash or has a path (golang/go#71889).
"""

from __future__ import annotations

from collections.abc import Iterable

from nightporter.core.hosts import BadAskError, Target, parse_target
from nightporter.core.model import Token

MAX_BYTES = 1 << 20


def parse_url(url: str) -> Target:
    """The target of the address that could not be fetched. Module paths of other people choose it.

    Raises: BadAskError.
    """
    target = parse_target(url, has_path=True)
    if "://" not in url or target.scheme != "https":
        raise BadAskError("not an https address", address=url)
    return target


def says_unauthorized(response: bytes) -> bool:
    """Whether the server's answer, status line first, is a 401. A 404 or 403 says nothing about the
    token. Only the number is read: the rest is anybody's text."""
    words = response.partition(b"\n")[0].split(b" ", 2)
    return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].strip() == b"401"


def render(token: Token, urls: Iterable[str]) -> str:
    """Addresses, an empty line, the header, an empty line; without the last one Go drops the whole
    answer."""
    lines = [*dict.fromkeys(urls), "", f"Authorization: {token.token_type} {token.value}", ""]
    return "\n".join(lines)
