"""Trials: one fault each, tried in a forked process of its own, some at a time.

How long a trial may take is counted in its own processor time; its wall time is bounded by the
load of the machine, so that a busy machine makes no fault look like an endless loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MAX_MEMORY = 6 * 2**30  # a fault that collects without an end must not take the machine's memory
MISSED = "missed"  # in place of a result: the time was over, or the process was killed
BROKEN = "broken"  # ... or it failed by itself, which says nothing about the fault


@dataclass(frozen=True, eq=False)
class Trial:
    """What a forked process does, and how much processor time it may take."""

    name: str
    work: Callable[[], Any]
    seconds: float


class Result(NamedTuple):
    """What a trial returned; else MISSED or BROKEN, with the reason."""

    value: Any
    reason: str = ""


LATE = Result(MISSED, "SIGKILL")  # its wall time was over


@dataclass(eq=False)
class _Running:
    trial: Trial
    place: Path
    child: int
    started: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        slowness = 2 + os.getloadavg()[0] / (os.cpu_count() or 1)
        return time.monotonic() - self.started > 20 + slowness * self.trial.seconds

    def stop(self) -> None:
        """Ends it before its time: asked first, since it may have trials of its own."""
        os.kill(self.child, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while os.waitpid(self.child, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        _end_group(self.child)

    def result(self, status: int) -> Result:
        if os.WIFSIGNALED(status):
            return Result(MISSED, signal.Signals(os.WTERMSIG(status)).name)
        with contextlib.suppress(OSError, ValueError):
            return Result(json.loads((self.place / "result.json").read_text()))
        return Result(BROKEN, f"see {self.place / 'output.txt'}")


def run_trials(
    trials: Iterable[Trial], *, parallel: int, work: Path
) -> Iterator[tuple[Trial, Result]]:
    """Yields each trial with its result, in the order in which they end."""
    free = [work / f"slot-{number}" for number in range(parallel)]
    running: list[_Running] = []
    try:
        yield from _run(iter(trials), free, running)
    finally:
        for one in running:
            one.stop()


def _run(
    waiting: Iterator[Trial], free: list[Path], running: list[_Running]
) -> Iterator[tuple[Trial, Result]]:
    while True:
        while free and (trial := next(waiting, None)):
            place = free.pop()
            running.append(_Running(trial, place, _start(trial, place)))
        if not running:
            return
        time.sleep(0.01)
        for one in list(running):
            ended, status = os.waitpid(one.child, os.WNOHANG)
            if not ended and not one.is_over():
                continue
            _end_group(one.child)
            if not ended:
                _, status = os.waitpid(one.child, 0)  # SIGKILL, unless it has ended meanwhile
            running.remove(one)
            free.append(one.place)
            yield one.trial, one.result(status)


def _end_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # with the servers that its tests have started


def _start(trial: Trial, place: Path) -> int:
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)  # whoever is first: the group exists before it is ended
        return child
    try:
        _settle(place, trial.seconds)
        (place / "result.json").write_text(json.dumps(trial.work()))
    except BaseException:  # noqa: BLE001 - also pytest's own exits: this process returns to nobody
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def _settle(place: Path, seconds: float) -> None:
    """A process group, output, temporary files and limits of its own."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(place / "output.txt", "w") as output, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(place / "tmp")
    limit_s = int(10 + 3 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
