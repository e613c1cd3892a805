"""Work divided over forked children, whose lines come to one reader.

For a job of many independent parts: one Python process has one core. The children are forked before
connections are opened and threads are started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from nightporter.core.values import dataclass
from nightporter.machine.files import write_all

Tell = Callable[[str], bool]  # whether somebody listens
Work = Callable[[Tell], None]
LOOK_S = 0.1  # how often the parent asks whether it should stop


@dataclass(slots=True)
class _Child:
    number: int
    pid: int
    rest: bytes = b""


def can_fork() -> bool:
    """Whether this system forks safely: macOS' own libraries don't survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS
        return os.cpu_count() or 1


def run_in_children(
    works: Sequence[Work], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, str | None]]:
    """Runs each work in a child of its own, and yields its number with each line that it tells, and
    with None where its process ended otherwise than at the work's end.

    Once `should_stop` says so, the children get SIGTERM; what they make of it is theirs.
    """
    _flush()
    children: dict[int, _Child] = {}
    try:
        for number, work in enumerate(works):
            listening, telling = os.pipe()
            pid = os.fork()
            if pid == 0:
                # Where the parent has died nobody must seem to listen.
                for descriptor in (listening, *children):
                    os.close(descriptor)
                _live(work, telling)
            os.close(telling)
            children[listening] = _Child(number, pid)
        yield from _listen(children, should_stop)
    finally:
        _end(children)


def _live(work: Work, telling: int) -> NoReturn:
    """A child's whole life. No traceback is shown: a frame may hold a secret."""
    code = 1
    try:
        work(lambda line: _tell(telling, line))
        code = 0
    finally:
        for thread in threading.enumerate():  # an exchange that has to end outlives who asked
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        _flush()
        os._exit(code)


def _tell(telling: int, line: str) -> bool:
    try:
        write_all(telling, f"{line}\n".encode())
    except OSError:
        return False
    return True


def _listen(
    children: dict[int, _Child], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, str | None]]:
    is_told = False
    with selectors.DefaultSelector() as selector:
        for descriptor in children:
            selector.register(descriptor, selectors.EVENT_READ)
        while children:
            if should_stop() and not is_told:
                is_told = True
                _signal(children)
            for key, _events in selector.select(LOOK_S):
                child = children[key.fd]
                content = os.read(key.fd, 1 << 16)
                yield from _lines(child, content)
                if not content:
                    selector.unregister(key.fd)
                    del children[key.fd]
                    os.close(key.fd)
                    if os.waitpid(child.pid, 0)[1] != 0:
                        yield child.number, None


def _lines(child: _Child, content: bytes) -> Iterator[tuple[int, str]]:
    *lines, child.rest = (child.rest + content).split(b"\n")
    for line in lines:
        yield child.number, line.decode()


def _signal(children: dict[int, _Child]) -> None:
    for child in children.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)


def _end(children: dict[int, _Child]) -> None:
    """Ends those that are left, where the reader has gone away."""
    for descriptor in children:
        os.close(descriptor)
    _signal(children)
    for child in children.values():
        os.waitpid(child.pid, 0)


def _flush() -> None:
    """Else a child would write once more what waits in the parent's buffers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
