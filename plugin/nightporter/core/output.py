"""Members of a reply that a client needs beside the token (`instance_url`), by `extra_output` of
the vendor's row. Pure."""

from __future__ import annotations

import re

MAX_VALUE = 2048  # characters
MAX_MEMBERS = 10
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")
_TOKENS = frozenset({"access_token", "refresh_token", "id_token"})


def output_of(value: object) -> dict[str, str]:
    """Returns the members that may be kept and shown: text that can be printed, and no token.
    What doesn't fit is left out, since nothing rests on it."""
    if not isinstance(value, dict):
        return {}
    fit = {name: text for name, text in value.items() if _is_fit(name, text)}
    return dict(list(fit.items())[:MAX_MEMBERS])


def _is_fit(name: object, text: object) -> bool:
    if not isinstance(name, str) or not _NAME.match(name) or name in _TOKENS:
        return False
    return isinstance(text, str) and 0 < len(text) <= MAX_VALUE and text.isprintable()
