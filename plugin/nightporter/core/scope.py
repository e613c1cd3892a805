"""Scopes: what was asked for, what an issuer says it granted, and what is missing of it. Pure.

RFC 6749 section 5.1: an issuer that grants less than was asked for must say so in `scope`, and that
member is the only sign of it. What is only written in another way is no difference: an order,
commas (GitHub, Slack), percent signs (Perspio's document), letter case and the resource's address
before the name (Entra).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

MAX_SCOPES = 200
MAX_SCOPE = 255  # characters of one
# Asked for and hardly ever repeated: they ask for a refresh token or an id_token, not for a right.
# `refresh_token` is Salesforce's word for the first.
_UNTOLD = frozenset({"offline_access", "refresh_token", "openid"})
# They ask for claims. Entra, asked for an API's scopes beside them, repeats the API's alone.
_CLAIMS = frozenset({"profile", "email", "address", "phone"})
_DEFAULT = ".default"  # Entra: whatever the client was given beforehand


def scopes_of(value: Any) -> tuple[str, ...] | None:
    """Returns the scopes that a reply's member or a profile's key names; None where it names
    none at all, which says nothing."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if not isinstance(value, str):
        return None
    found = re.split(r"[\s,]+", unquote(value))
    printable = (word for word in found if word and word.isprintable() and len(word) <= MAX_SCOPE)
    return tuple(dict.fromkeys(printable))[:MAX_SCOPES]


def missing_scopes(asked: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """Returns which of the scopes that were asked for were not granted, in their order."""
    had = {word.casefold() for word in granted}
    if had and not had & (_CLAIMS | _UNTOLD):
        had |= _CLAIMS
    return tuple(word for word in asked if not _is_granted(word.casefold(), had))


def _is_granted(asked: str, granted: set[str]) -> bool:
    if asked in granted or asked in _UNTOLD or _name_of(asked) == _DEFAULT:
        return True
    if _is_address(asked):
        return _name_of(asked) in granted
    return any(_is_address(word) and _name_of(word) == asked for word in granted)


def _is_address(scope: str) -> bool:
    return "://" in scope


def _name_of(scope: str) -> str:
    """Returns a scope without its resource: `user.read` of `https://graph.example/user.read`, and
    Google's `email` of `.../auth/userinfo.email`."""
    return scope.rpartition("/")[2].removeprefix("userinfo.")
