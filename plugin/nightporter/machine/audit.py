"""What happened to sessions, one JSON line an event, where NIGHTPORTER_LOG says: a file, or
`stderr`.

Every exchange, adoption, refusal, take-over and stale service, and nothing secret. Events come from
the session and the broker through one call (`Audit.note`); the rooms that emit pass no secrets.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from nightporter.core.errors import ConfigError
from nightporter.core.events import Event
from nightporter.core.expiry import format_rfc3339
from nightporter.machine.files import is_own_regular_file
from nightporter.machine.streams import write_to_stream

STANDARD_ERROR = ("stderr", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2")


class Audit:
    """`place`: an absolute path, `stderr`, or None for none."""

    def __init__(self, place: str | None) -> None:
        if place not in (None, "stderr") and not os.path.isabs(os.path.expanduser(str(place))):
            raise ConfigError(
                "NIGHTPORTER_LOG must be an absolute path, or 'stderr'",
                hint="Set the variable to one of them, or unset it.",
            )
        self._place = place

    def note(self, event: str, **facts: Any) -> None:
        """One event. A log that can't be written stops nobody."""
        found = Event.parse(event)
        if self._place is None or found is None or not found.is_audited:
            return
        known = {key: value for key, value in facts.items() if value is not None}
        head = {
            "time": format_rfc3339(int(time.time())),
            "event": event,
            "host": socket.gethostname(),
        }
        line = json.dumps({**head, "pid": os.getpid(), **known}, default=str) + "\n"
        try:
            if self._place in STANDARD_ERROR:
                write_to_stream(sys.stderr, line)
            else:
                self._append(os.path.expanduser(self._place), line)
        except (OSError, ValueError, AttributeError):
            return

    @staticmethod
    def _append(path: str, line: str) -> None:
        """In one write, so that the lines of many processes stay whole; to a regular file of our
        own alone, since a FIFO that nobody reads would hold us up, and another's file is theirs."""
        flags = (
            os.O_WRONLY
            | os.O_APPEND
            | os.O_CREAT
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_CLOEXEC", 0)
            | getattr(os, "O_NONBLOCK", 0)
        )
        descriptor = os.open(path, flags, 0o600)
        try:
            if is_own_regular_file(descriptor):
                os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def audited(emit: Callable[..., None], environment: Mapping[str, str]) -> Callable[..., None]:
    """The emitter that notes each event, and passes it on.

    Raises: ConfigError for a NIGHTPORTER_LOG that is no place.
    """
    place = environment.get("NIGHTPORTER_LOG")
    if place is None:
        return emit
    audit = Audit(place)

    def both(event: str, **facts: Any) -> None:
        audit.note(event, **facts)
        emit(event, **facts)

    return both
