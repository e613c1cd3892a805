"""Who this process is to others, whether another one is still alive, signals that must wait, and
what comes in its place.

Only what the operating system tells for certain is used: a claim's holder is called dead only on
the same boot of the same machine and in the same pid namespace, and never in Lambda, whose
environments look alike.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from nightporter.core.model import Claim
from nightporter.machine.lambda_time import is_lambda


def _read(path: str) -> str | None:
    """A short file of the kernel's, in one read: it is asked for at each exchange."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            return os.read(descriptor, 4096).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
    except OSError:
        return None


def host_name() -> str:
    """This machine's name, fit for a record."""
    return (
        "".join(char if char.isalnum() or char in "-._" else "-" for char in socket.gethostname())
        or "unnamed"
    )


def host_fraction() -> float:
    """A number from 0 to 1 that differs between hosts and stays for one host: the jitter of early
    renewal."""
    return int.from_bytes(hashlib.sha256(host_name().encode()).digest()[:4], "big") / 2**32


def _start_of(pid: int) -> str | None:
    """When the process started, in the kernel's ticks since boot (proc(5), `stat`, field 22)."""
    status = _read(f"/proc/{pid}/stat")
    return status.rpartition(")")[2].split()[19] if status else None


def boot_clock() -> Callable[[], float]:
    """Returns the clock that runs since this machine's boot, through suspends too, and that nobody
    sets.

    In Lambda the wall clock: a frozen environment's own clocks may stand still for hours, and AWS
    sets its wall clock.
    """
    if is_lambda(os.environ):
        return time.time
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        # macOS' CLOCK_MONOTONIC goes on in a sleep (clock_gettime(3)); Python's own clock doesn't.
        try:
            read = functools.partial(time.clock_gettime, getattr(time, name))
            read()
        except (AttributeError, OSError):  # not Linux, or not Unix
            continue
        return read
    return time.monotonic


def boot_time() -> float:
    """Seconds on `boot_clock`."""
    return boot_clock()()


def boot_mark() -> str | None:
    """Names this boot of this machine; None where the system doesn't tell."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    return boot.strip() if boot else None


def machine_mark(environment: Mapping[str, str]) -> str | None:
    """Names this boot and pid namespace, or None where that can't be told or must not be."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    if boot is None or is_lambda(environment):
        return None
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return hashlib.sha256(f"{host_name()}\0{boot.strip()}\0{namespace}".encode()).hexdigest()[:16]


def holder_name() -> str:
    """`host/pid/start` of this process."""
    pid = os.getpid()
    return f"{host_name()}/{pid}/{_start_of(pid) or 0}"


def is_dead(claim: Claim, machine: str | None) -> bool:
    """Whether the claim's holder is certainly gone: same machine, and its process is not there any
    more."""
    if machine is None or claim.machine != machine:
        return False
    _host, _, process = claim.holder.partition("/")
    pid, _, start = process.partition("/")
    if not (pid + start).isascii() or not pid.isdigit() or not start.isdigit():
        return False
    began = _start_of(int(pid))
    if began is not None:
        return began != start
    try:
        os.kill(int(pid), 0)  # its /proc entry may only be hidden from us (hidepid)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


_HELD = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextlib.contextmanager
def note_signals() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP until the block ends: for a job that first ends what it
    has begun."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.getsignal(number) for number in _HELD}
    ours = [
        number
        for number, handler in before.items()
        if handler is not None and handler != signal.SIG_IGN
    ]
    for number in ours:
        signal.signal(number, lambda number, _frame: arrived.append(number))
    try:
        yield arrived
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Lets SIGINT, SIGTERM and SIGHUP wait until the block ends, then delivers them.

    Dispositions belong to the whole process and may be set by its main thread alone, so elsewhere
    this does nothing: there the program that embeds us owns the signals.
    """
    arrived: list[int] = []
    try:
        with note_signals() as arrived:
            yield
    finally:
        for number in dict.fromkeys(arrived):
            signal.raise_signal(number)


def restore_core_limit() -> None:
    """What is run from here on may dump core as it could without us."""
    soft, _, hard = os.environ.pop("NIGHTPORTER_CORE_LIMIT", "").partition(":")
    if soft and hard:
        import resource  # deferred: not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (int(soft), int(hard)))


def become(command: Sequence[str], **more: str) -> NoReturn:
    """Runs a command in this process's place. `more`: variables that it gets beside ours.

    Raises: OSError.
    """
    restore_core_limit()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and an ignored signal survives exec
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(command[0], list(command), {**os.environ, **more})  # noqa: S606 - to run it is what was asked
