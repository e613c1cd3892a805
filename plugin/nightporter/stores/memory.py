"""The smallest store: a dict of this process, with compare-and-set and expiry.

For tests, and as the example of plugin/docs/adding.md. It can be given a clock, so that time passes
without waiting. It is not configured by a type of its own: a command's memory ends with it.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from nightporter.core.errors import VersionConflictError
from nightporter.core.record import is_expired
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.stores.encoding import encode_value


class MemoryStore:
    """A store for one process; `contents` may be shared by several clients of it."""

    versions_per_day: int | None = None

    def __init__(
        self,
        contents: dict[str, list[tuple[Mapping[str, Any] | None, float]]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`contents`: for each path every value that it ever had, None for a deletion, and when it
        was written. `clock` returns Unix seconds."""
        self.contents = {} if contents is None else contents
        self._clock = clock

    def read(self, path: str, *, timeout_s: float) -> Stored:
        with _LOCK:
            history = self.contents.get(path, [])
            version = len(history)
            value, written_at = copy.deepcopy(history[-1]) if history else (None, None)
        now = self._clock()
        is_over = value is not None and is_expired(value, now)
        return Stored(
            None if is_over else value,
            _version(version),
            expired=value if is_over else None,
            written_at=written_at,
            now=now,
        )

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected_version: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        return self._append(path, json.loads(encode_value(path, value)), expected_version)

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        self._append(path, None, expected_version)

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        with _LOCK:
            history = self.contents.get(path, [])
            history[:-1] = [(None, written_at) for _, written_at in history[:-1]]

    def disconnect(self) -> None:
        pass

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        with _LOCK:
            history = self.contents.get(path, [])
            value, version = (history[-1][0], len(history)) if history else (None, 0)
        if value is None or not is_expired(value, self._clock()):
            return False
        self.delete(path, _version(version), timeout_s=timeout_s)
        return True

    def close(self) -> None:
        pass

    def _append(self, path: str, value: Mapping[str, Any] | None, expected: Version) -> Version:
        with _LOCK:
            history = self.contents.setdefault(path, [])
            if _version(len(history)).token != expected.token:
                raise VersionConflictError(f"{path}: another writer was first")
            history.append((value, self._clock()))
            return _version(len(history))


def _version(number: int) -> Version:
    return Version(str(number), number) if number else ABSENT


_LOCK = threading.Lock()  # of all: several clients may share their contents
