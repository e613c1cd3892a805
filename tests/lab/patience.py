"""How long tests wait: every limit of a test follows the load of a machine that is shared, and no
wait is without an end.

A limit here is a net for what would hang, or the sign of an order of magnitude (2 s, not 13). The
rules behind the numbers are tested with clocks that the tests hold (tests/unit).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")
PAUSE_S = 0.02
AT_MOST = 20.0  # times slower: what hangs on an overloaded machine ends as well


def slowness() -> float:
    """Returns how many processes want each core, now or over the last minute; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    waiting = os.getloadavg()[0]
    with contextlib.suppress(OSError):  # no /proc
        running, _, _ = Path("/proc/loadavg").read_text().split()[3].partition("/")
        waiting = max(waiting, float(running))
    return min(max(1.0, waiting / (cores or 1)), AT_MOST)


def patience(seconds: float) -> float:
    """Returns how long to wait here and now for what a quiet machine does in `seconds`."""
    return seconds * slowness()


def until(seen: Callable[[], T], seconds: float = 30.0) -> T:
    """Polls until `seen` returns something true, and returns that.

    Raises: AssertionError, after `seconds` of a quiet machine.
    """
    began = time.monotonic()
    while not (found := seen()):
        waited = time.monotonic() - began
        assert waited < patience(seconds), f"nothing seen in {waited:.0f} s"
        time.sleep(PAUSE_S)
    return found


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no more than `seconds` of a quiet machine."""
    limit, began = patience(seconds), time.monotonic()
    yield
    took = time.monotonic() - began
    limit = max(limit, patience(seconds))  # the load may have come meanwhile
    assert took < limit, f"it took {took:.1f} s, of {limit:.1f}"


def line_of(process: subprocess.Popen[str], stream: IO[str] | None, what: str) -> str:
    """Reads lines until one has `what` in it, and returns all of them.

    Raises: AssertionError, where the stream ends before.
    """
    assert stream is not None
    said = ""
    while what not in said:
        line = stream.readline()
        assert line, f"it ended with {process.wait()}, having said: {said}"
        said += line
    return said
