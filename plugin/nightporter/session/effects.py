"""What the engine wants done. It decides, and yields one of these; a driver does it and sends back
what came of it, or throws what was raised.

So the decisions can be run without a store, a vendor or a clock, and every place where a process
may die, be frozen or be overtaken is an effect: tests enumerate them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar, cast

from nightporter.core.record import PendingResult
from nightporter.core.values import dataclass
from nightporter.issuers.oauth import Request, Response
from nightporter.session.port import KeepExpiry, Stored, Version

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a path of the store. Answer: `Stored`."""

    path: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Write:
    """One compare-and-set. Answer: the `Version` written."""

    path: str
    value: Mapping[str, Any]
    expected: Version
    expires_at: int | KeepExpiry | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """One request to the issuer. Answer: `Response`."""

    request: Request
    timeout_s: float
    may_begin: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Lets time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Detach:
    """From here on the flow goes on to its end, whatever becomes of who asked; who asked waits for
    it until `deadline` (monotonic seconds)."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Shield:
    """Signals wait from here on, or no more."""

    is_on: bool


@dataclass(frozen=True, slots=True)
class LoadPending:
    """Answer: the results that wait on this machine's disk."""


@dataclass(frozen=True, slots=True)
class KeepPending:
    """Keeps a result on this machine's disk. Answer: whether it is safe."""

    pending: PendingResult


@dataclass(frozen=True, slots=True)
class DropPending:
    """Removes a kept result."""

    name: str


@dataclass(frozen=True, slots=True)
class Highest:
    """Answer: the highest generation of the lineage that this machine has seen."""

    lineage: str


@dataclass(frozen=True, slots=True)
class Note:
    """Remembers the highest state that this machine has seen."""

    lineage: str
    generation: int


Effect = (
    Read
    | Write
    | Send
    | Sleep
    | Detach
    | Shield
    | LoadPending
    | KeepPending
    | DropPending
    | Highest
    | Note
)
Flow = Generator[Effect, Any, T]


# The typed price of generators: what comes out of a `yield` is Any.


def reading(path: str, timeout_s: float) -> Flow[Stored]:
    """Reads once."""
    return cast(Stored, (yield Read(path, timeout_s)))


def writing(
    path: str,
    value: Mapping[str, Any],
    expected: Version,
    expires_at: int | KeepExpiry | None,
    timeout_s: float,
) -> Flow[Version]:
    """Writes once."""
    return cast(Version, (yield Write(path, value, expected, expires_at, timeout_s)))


def sending(
    request: Request, timeout_s: float, may_begin: Callable[[], bool] | None
) -> Flow[Response]:
    """Sends once."""
    return cast(Response, (yield Send(request, timeout_s, may_begin)))


def sleeping(seconds: float) -> Flow[None]:
    """Lets time pass."""
    yield Sleep(seconds)


def loading_pending() -> Flow[Sequence[PendingResult]]:
    """Loads the results that wait on this machine's disk."""
    return cast("Sequence[PendingResult]", (yield LoadPending()))


def keeping_pending(pending: PendingResult) -> Flow[bool]:
    """Keeps a result on this machine's disk; whether it is safe."""
    return cast(bool, (yield KeepPending(pending)))


def highest_seen(lineage: str) -> Flow[int]:
    """Looks up the highest generation of the lineage that this machine has seen."""
    return cast(int, (yield Highest(lineage)))
