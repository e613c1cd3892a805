"""Metrics in a file, for node_exporter's textfile collector (NIGHTPORTER_METRICS) or until they are
sent; and in memory, where a process has no file.

The file is the state: each event is added to what is in it, under a lock, and the file is replaced
whole. So the numbers of all processes of a host come together, and a restart loses none. An event
comes after the save that it tells of; nobody waits longer than LOCK_S for a lock, and what can't be
written is added with the next event of the process.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from typing import Any

from nightporter.core import metrics
from nightporter.core.errors import ConfigError
from nightporter.core.events import Event
from nightporter.machine.files import is_own_regular_file, open_lock, read_up_to

LOCK_S = 0.5
MAX_WAITING = 1_000  # events of one process whose file can't be written
MAX_BYTES = 4 << 20
_SINCE = re.compile(r"# counted since (\d{1,12})\n")  # ours: Prometheus reads a comment
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class MetricsFile:
    """`place`: an absolute path."""

    def __init__(self, place: str) -> None:
        self._path = os.path.expanduser(place)
        if not os.path.isabs(self._path):
            raise ConfigError(
                "NIGHTPORTER_METRICS must be an absolute path",
                hint="Set the variable to one that ends in .prom, or unset it.",
            )
        self._waiting: list[tuple[Event, dict[str, Any], float]] = []
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path

    def read(self) -> tuple[metrics.Series, float]:
        """Returns the series, and since when they are counted (Unix seconds).

        Raises: OSError.
        """
        text = _read_own(self._path)
        return metrics.parse(text), _since(text) or time.time()

    def after_fork(self) -> None:
        """In the child: the parent's thread will never free the lock, and has what waits."""
        self._lock, self._waiting = threading.Lock(), []

    def note(self, event: str, **facts: Any) -> None:
        """Counts one event. A file that can't be written stops nobody."""
        found = Event.parse(event)
        if found is None or not found.is_audited:
            return
        with self._lock:
            self._waiting = [*self._waiting, (found, facts, time.time())][-MAX_WAITING:]
            with contextlib.suppress(OSError, ValueError):
                self._flush()

    def _flush(self) -> None:
        with open_lock(f"{self._path}.lock", deadline=time.monotonic() + LOCK_S) as won:
            if not won:
                return
            text = _read_own(self._path)
            series = metrics.parse(text)
            for event, facts, at in self._waiting:
                metrics.count(series, event, facts, now=at)
            head = f"# counted since {_since(text) or int(time.time())}\n"
            _replace(self._path, (head + metrics.render(series)).encode())
            self._waiting = []


def _since(text: str) -> int | None:
    found = _SINCE.match(text)
    return int(found[1]) if found else None


class MetricsMemory:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """In the child: counts from zero on, since the parent's counts are the parent's."""
        self._series: metrics.Series = {}
        self._since = time.time()
        self._lock = threading.Lock()

    def note(self, event: str, **facts: Any) -> None:
        """Counts one event."""
        found = Event.parse(event)
        if found is not None and found.is_audited:
            with self._lock, contextlib.suppress(ValueError):
                metrics.count(self._series, found, facts, now=time.time())

    def read(self) -> tuple[metrics.Series, float]:
        """Returns the series, and since when they are counted (Unix seconds)."""
        with self._lock:
            return dict(self._series), self._since


def _read_own(path: str) -> str:
    """Returns what is there; empty where there is nothing.

    Raises: OSError for a link, for what is no regular file, and for another user's.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    except FileNotFoundError:
        return ""
    try:
        if not is_own_regular_file(descriptor):
            raise PermissionError(path)
        size = os.fstat(descriptor).st_size
        return read_up_to(descriptor, MAX_BYTES, size).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _replace(path: str, content: bytes) -> None:
    """Atomically, and readable for the collector: there is no secret in it. Not on the disk at
    once, since a power cut may cost a count."""
    temporary = os.path.join(os.path.dirname(path), f".{os.getpid()}.{time.monotonic_ns():x}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
