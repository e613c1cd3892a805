"""Does what the engine wants done: the one place where a flow meets a store, an issuer, a disk, a
clock and signals.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from nightporter.core.model import Claim, Profile, Secret
from nightporter.core.values import dataclass, field
from nightporter.issuers import assertions
from nightporter.session import effects
from nightporter.session.effects import Effect, Flow
from nightporter.session.port import Journal, Sender, Store

T = TypeVar("T")


class Apart(Protocol):
    """Runs work that must be completed apart from the caller that asked for it."""

    is_elsewhere: bool
    """Whether the work uses our connections in another process, so that ours are stale after it."""

    def __call__(
        self, work: Callable[[], Any], deadline: float, on_late: Callable[[Any], None]
    ) -> Any:
        """Returns what `work` returns. `on_late` gets it where nobody waits for it any more.

        Raises: ExchangeContinuesError when that takes longer than `deadline` (monotonic seconds)
        and the work goes on; what `work` raises.
        """


class Inline:
    """The asker does the work itself, and waits as long as it takes: in Lambda, where a thread or
    a process would be frozen, and in simulations."""

    is_elsewhere = False

    def __call__(
        self,
        work: Callable[[], Any],
        deadline: float,  # noqa: ARG002 - the port's
        on_late: Callable[[Any], None],  # noqa: ARG002
    ) -> Any:
        """Does the work here and now."""
        return work()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The world around one session, so that a test or a simulation can be one.

    `clock`: Unix seconds of this host, which is believed only where nothing better tells the time.
    `monotonic`: for deadlines. `boot`: seconds since boot, suspends included: for the ages of
    claims and tokens. `host`, `holder`, `machine`: as in `Claim` and the record's
    `by`. `check_exchange(strict)` raises where nothing may be begun (Lambda); `listen_left_s` is
    how long an answer can be listened to at most, or None. `is_heard`: a person reads what is
    reported here. `read_assertion`, `sign_assertion`: as `proofs` needs them.
    """

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    boot: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    holder: str = ""
    host: str = ""
    machine: str | None = None
    is_dead: Callable[[Claim, str | None], bool] = lambda _claim, _machine: False
    hold_signals: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    emit: Callable[..., None] = lambda _event, **_facts: None
    check_exchange: Callable[[bool], None] = lambda _is_strict: None
    listen_left_s: Callable[[], float | None] = lambda: None
    is_heard: bool = False
    read_assertion: Callable[[Profile], Secret] = lambda _profile: Secret("")
    sign_assertion: Callable[..., Secret] = assertions.sign
    apart: Apart = field(default_factory=Inline)


class Driver:
    """Runs flows over real ports. Not thread-safe; callers serialize."""

    def __init__(
        self,
        *,
        store: Store,
        sender: Sender,
        journal: Journal,
        runtime: Runtime,
        on_late: Callable[[Any], None] = lambda _answer: None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._journal = journal
        self._runtime = runtime
        self._on_late = on_late
        self._shield: contextlib.ExitStack | None = None
        self._is_apart = False  # somebody else goes on with the flow

    def run(self, flow: Flow[T]) -> T:
        """Returns what the flow returns; raises what it raises."""
        try:
            return self._go_on(flow)
        finally:
            if not self._is_apart:
                self._set_shield(False)

    def _go_on(self, flow: Flow[T]) -> T:
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                effect = flow.throw(error) if error else flow.send(answer)
            except StopIteration as done:
                found: T = done.value
                return found
            if isinstance(effect, effects.Detach):
                return self._set_apart(flow, effect.deadline)
            answer, error = None, None
            try:
                answer = self._do(effect)
            except Exception as exc:  # noqa: BLE001 - handed over to the flow, which knows each
                error = exc

    def _set_apart(self, flow: Flow[T], deadline: float) -> T:
        apart = self._runtime.apart

        def work() -> T:
            try:
                return self._go_on(flow)
            finally:
                self._set_shield(False)

        self._is_apart = True
        found: T = apart(work, deadline, self._on_late)
        self._is_apart = False
        if apart.is_elsewhere:
            self._store.disconnect()
            self._sender.disconnect()
        return found

    def _do(self, effect: Effect) -> Any:
        match effect:
            case effects.Read():
                return self._store.read(effect.path, timeout_s=effect.timeout_s)
            case effects.Write():
                return self._store.write(
                    effect.path,
                    effect.value,
                    effect.expected,
                    effect.expires_at,
                    timeout_s=effect.timeout_s,
                )
            case effects.Send():
                return self._sender.send(
                    effect.request, timeout_s=effect.timeout_s, may_begin=effect.may_begin
                )
            case effects.Sleep():
                return self._runtime.sleep(effect.seconds)
            case effects.Shield():
                return self._set_shield(effect.is_on)
            case effects.LoadPending():
                return self._journal.load()
            case effects.KeepPending():
                return self._journal.keep(effect.pending)
            case effects.DropPending():
                return self._journal.drop(effect.name)
            case effects.Highest():
                return self._journal.highest(effect.lineage)
            case effects.Note():
                return self._journal.note(effect.lineage, effect.generation)
        raise TypeError(f"no such effect: {type(effect).__name__}")

    def _set_shield(self, is_on: bool) -> None:
        if is_on and self._shield is None:
            self._shield = contextlib.ExitStack()
            self._shield.enter_context(self._runtime.hold_signals())
        elif not is_on and self._shield is not None:
            shield, self._shield = self._shield, None
            shield.close()


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubling with jitter, or what the other side asked
    for, whichever is longer."""

    first_s: float = 0.25
    max_s: float = 4.0

    def pause_s(
        self, tries: int, uniform: Callable[[float, float], float], asked_s: float | None = None
    ) -> float:
        """Seconds before try number `tries + 1`."""
        backed_off = min(self.max_s, self.first_s * 2.0 ** max(0, tries - 1))
        return max(asked_s or 0.0, backed_off * uniform(0.5, 1.0))
