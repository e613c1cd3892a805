"""Hosts that a client asked the keyring for by plain http a moment ago.

pip and uv ask for the index address first and then for the bare host of it, each time in a new
process, and send what they get by the scheme of the address. So what the first process heard is
left for the next one, in a file a host beside the cached tokens. Holds no secret.
"""

from __future__ import annotations

import hashlib

from nightporter.machine.helper_failures import Place

KEPT_S = 60.0


class PlainAsks:
    """What this user's clients asked for by plain http. `host`: as a client names it without a
    scheme, in one spelling."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def note(self, host: str, now: float) -> None:
        """Remembers an ask of now (Unix seconds)."""
        self._place.keep(_name(host), b"%d" % now)

    def is_recent(self, host: str, now: float) -> bool:
        """Whether the last ask is less than a minute old, whichever way the clock was set since."""
        noted = self._place.load(_name(host)) or b""
        return noted.isdigit() and len(noted) < 20 and abs(now - int(noted)) < KEPT_S


def _name(host: str) -> str:
    return f"{hashlib.sha256(host.encode()).hexdigest()[:16]}.plain"
