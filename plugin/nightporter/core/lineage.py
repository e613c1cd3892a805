"""Where a refresh token comes from: the record keeps short digests of the last ones, each with its
parent, time and host. Pure.

Nothing is decided by it but words: when an issuer says that a token was used before and we know
that we never sent it before, somebody else has, and the digests say who held it.

A digest helps nobody to guess a token: it is salted with the lineage, which is random and in no
log, and so short (32 bits) that of all tokens one in four thousand million has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.core.limits import KEPT_LINKS, MAX_TEXT
from nightporter.core.values import dataclass

WAYS = ("seed", "login", "sign-in", "refresh", "logout")
_DIGEST_HEX = 8
# What issuers say about a rotated token that comes again. Supabase: "Already Used"; Keycloak:
# "Maximum allowed refresh token reuse exceeded"; Ory: "was already used"; RFC 9700, section 4.14.2.
_USED_BEFORE = re.compile(
    r"(?<![a-z])(re-?us(e|ed|age)|already (been )?(used|redeemed|consumed|rotated|exchanged)"
    r"|(was|were|been) used (before|already|more than once)|previously used|used twice|replay(ed)?"
    r"|already_used|token_reused?)(?![a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One refresh token of the past, or the one that is in use.

    `digest`: None for a logout. `parent`: the digest of the token that it was exchanged for; None
    where a person or a sign-in brought it. `at`: Unix seconds. `how`: one of WAYS.
    """

    digest: str | None
    parent: str | None
    generation: int
    at: int
    by: str | None
    how: str


def token_digest(lineage: str | None, token: str | None) -> str | None:
    """Returns 8 hexadecimal digits that tell the tokens of one session apart; None without
    either."""
    if lineage is None or token is None:
        return None
    salted = f"nightporter lineage\0{lineage}\0{token}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(salted).hexdigest()[:_DIGEST_HEX]


def extended(history: Sequence[Link], link: Link) -> tuple[Link, ...]:
    """Returns the history with one more link, as much as is kept."""
    return (*history, link)[-KEPT_LINKS:]


def says_used_before(text: object) -> bool:
    """Returns whether an issuer's words about a refused refresh token say that it came a second
    time."""
    return isinstance(text, str) and _USED_BEFORE.search(text) is not None


def render_history(history: Sequence[Link]) -> list[dict[str, Any]]:
    """Returns the members as the record keeps them."""
    return [
        {
            "digest": link.digest,
            "parent": link.parent,
            "generation": link.generation,
            "at": format_rfc3339(link.at),
            "by": link.by,
            "how": link.how,
        }
        for link in history[-KEPT_LINKS:]
    ]


def parse_history(value: object) -> tuple[Link, ...]:
    """Returns the links that can be read; the others are left out, since nothing rests on them."""
    if not isinstance(value, list):
        return ()
    found = (_link_of(item) for item in value[-KEPT_LINKS:])
    return tuple(link for link in found if link is not None)


def _link_of(value: object) -> Link | None:
    if not isinstance(value, Mapping):
        return None
    at, generation = value.get("at"), value.get("generation")
    if not isinstance(at, str) or type(generation) is not int or value.get("how") not in WAYS:
        return None
    try:
        at_s = parse_rfc3339(at)
    except ValueError:
        return None
    return Link(
        digest=_digest_or_none(value.get("digest")),
        parent=_digest_or_none(value.get("parent")),
        generation=generation,
        at=at_s,
        by=_name_or_none(value.get("by")),
        how=str(value["how"]),
    )


def _digest_or_none(value: object) -> str | None:
    is_digest = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8}", value) is not None
    return str(value) if is_digest else None


def _name_or_none(value: object) -> str | None:
    is_name = isinstance(value, str) and value.isascii() and value.isprintable()
    return str(value)[:MAX_TEXT] if is_name else None
