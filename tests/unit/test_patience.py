"""The waits that the tests share: none is without an end, and each limit follows the load."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from lab import patience as waits
from lab.patience import line_of, patience, slowness, until, within


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How much slower the machine is said to be."""
    said = [1.0]
    monkeypatch.setattr(waits, "slowness", lambda: said[0])
    return said


def says(monkeypatch: pytest.MonkeyPatch, *, average: float, running: int) -> None:
    """Two cores, and what /proc/loadavg tells of them."""
    line = f"{average} 1.00 1.00 {running}/900 4711\n"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (average, 1.0, 1.0))
    monkeypatch.setattr(Path, "read_text", lambda _path: line)


@pytest.mark.parametrize(
    ("average", "running", "expected"),
    [(0.1, 1, 1.0), (8.0, 2, 4.0), (0.5, 9, 4.5), (500.0, 2, 20.0)],
    ids=["quiet", "the last minute", "a load that has just come", "bounded"],
)
def test_a_machine_is_as_slow_as_its_cores_are_wanted(
    monkeypatch: pytest.MonkeyPatch, average: float, running: int, expected: float
) -> None:
    says(monkeypatch, average=average, running=running)
    assert slowness() == expected
    assert patience(3) == 3 * expected


def test_a_wait_ends_with_what_was_seen(load: list[float]) -> None:
    seen = iter(["", None, "it"])
    assert until(lambda: next(seen)) == "it"


def test_a_wait_for_what_never_comes_fails(load: list[float]) -> None:
    with pytest.raises(AssertionError, match="nothing seen in"):
        until(lambda: False, 0.01)


def test_a_wait_is_longer_while_the_machine_is_slow(load: list[float]) -> None:
    """The load is looked at each time: it may come after the wait has begun."""
    load[0], began = 10.0, time.monotonic()
    with pytest.raises(AssertionError):
        until(lambda: False, 0.02)
    assert time.monotonic() - began >= 0.2


def test_what_takes_too_long_fails(load: list[float]) -> None:
    with pytest.raises(AssertionError, match="it took"), within(0.01):
        time.sleep(0.02)


def test_what_takes_long_on_a_slow_machine_does_not(load: list[float]) -> None:
    with within(0.01):
        load[0] = 20.0
        time.sleep(0.02)


def test_an_error_of_the_block_is_not_covered_by_its_time(load: list[float]) -> None:
    with pytest.raises(ValueError, match="its own"), within(0.0):
        raise ValueError("its own")


def test_lines_are_read_up_to_the_one_that_is_wanted() -> None:
    stream = io.StringIO("one\nready at 4711\nthree\n")
    assert line_of(Mock(), stream, "ready") == "one\nready at 4711\n"


def test_a_stream_that_ends_before_is_a_failure_that_tells_what_was_said() -> None:
    process = Mock()
    process.wait.return_value = 3
    with pytest.raises(AssertionError, match="ended with 3, having said: one"):
        line_of(process, io.StringIO("one\n"), "ready")
