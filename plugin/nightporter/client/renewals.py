"""Which profiles were renewed after a 401 within the last minutes: one renewal for all threads and
all `BearerAuth` of a porter (contract, section 5)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from cachetools import TTLCache

ONCE_IN_S = 300.0
PROFILES = 10_000  # of one process; a forgotten one costs an exchange, never an answer


class Renewals:
    """Locks and recent renewals by profile. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._recent: TTLCache[Hashable, bool] = TTLCache(PROFILES, ttl=ONCE_IN_S, timer=clock)
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def lock(self, profile: str | None) -> threading.Lock:
        """Returns the lock under which the renewal of this profile is decided."""
        with self._lock:
            return self._locks.setdefault(profile, threading.Lock())

    def is_recent(self, profile: str | None) -> bool:
        """Returns whether a renewal of the profile began within the last `ONCE_IN_S` seconds."""
        with self._lock:
            return profile in self._recent

    def note(self, profile: str | None) -> None:
        """Remembers that a renewal of the profile begins now."""
        with self._lock:
            self._recent[profile] = True
