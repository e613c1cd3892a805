"""The driver: each effect meets its port and brings back what the port says, signals are held for
as long as the flow wants it, and work that is set apart ends apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from nightporter.core.errors import StoreBusyError
from nightporter.core.record import PendingResult
from nightporter.issuers.oauth import Request, Response
from nightporter.session import effects
from nightporter.session.driver import Backoff, Driver, Inline, Runtime
from nightporter.session.effects import Flow
from nightporter.session.port import ABSENT, Journal, Sender, Store, Stored, Version

STORED = Stored({"a": 1}, Version("3", 3))
ANSWER = Response(status=200, headers={}, body=b"{}")
PENDING = PendingResult(nonce="n", record={}, at=7, is_sign_in=False, name="x")
REQUEST = Request(method="POST", url="https://a.example/token", body=b"", headers={})


def may_begin() -> bool:
    return True


@dataclass
class Ports:
    """A store, a sender, a journal and a world that note what they are asked."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    error: Exception | None = None
    is_elsewhere: bool = False
    late: list[Any] = field(default_factory=list)

    versions_per_day = None

    def read(self, path: str, *, timeout_s: float) -> Stored:
        self.calls.append(("read", path, timeout_s))
        if self.error:
            raise self.error
        return STORED

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected: Version,
        ends: object,
        *,
        timeout_s: float,
    ) -> Version:
        self.calls.append(("write", path, value, expected, ends, timeout_s))
        return Version("4", 4)

    def send(
        self, request: Request, *, timeout_s: float, may_begin: Callable[[], bool]
    ) -> Response:
        self.calls.append(("send", request, timeout_s, may_begin))
        return ANSWER

    def disconnect(self) -> None:
        self.calls.append(("disconnect",))

    def load(self) -> list[PendingResult]:
        return [PENDING]

    def keep(self, pending: PendingResult) -> str:
        self.calls.append(("keep", pending))
        return "kept as y"

    def drop(self, name: str) -> str:
        self.calls.append(("drop", name))
        return "dropped"

    def highest(self, lineage: str) -> int:
        self.calls.append(("highest", lineage))
        return 41

    def note(self, lineage: str, generation: int) -> str:
        self.calls.append(("note", lineage, generation))
        return "noted"

    def sleep(self, seconds: float) -> None:
        self.calls.append(("sleep", seconds))

    @contextlib.contextmanager
    def hold_signals(self) -> Iterator[None]:
        self.calls.append(("hold",))
        yield
        self.calls.append(("release",))

    def __call__(
        self, work: Callable[[], Any], deadline: float, on_late: Callable[[Any], None]
    ) -> Any:
        self.calls.append(("apart", deadline))
        on_late("late")
        found = work()
        self.calls.append(("apart ends",))
        return found

    def driver(self) -> Driver:
        runtime = Runtime(sleep=self.sleep, hold_signals=self.hold_signals, apart=self)
        return Driver(
            store=cast(Store, self),
            sender=cast(Sender, self),
            journal=cast(Journal, self),
            runtime=runtime,
            on_late=self.late.append,
        )


def asking(effect: Any) -> Flow[Any]:
    """A flow that returns what one effect brings back."""
    return (yield effect)


WRITE = effects.Write("p", {"a": 1}, ABSENT, 99, 2.0)
CASES = [
    (effects.Read("p", 1.5), STORED, ("read", "p", 1.5)),
    (WRITE, Version("4", 4), ("write", "p", {"a": 1}, ABSENT, 99, 2.0)),
    (effects.Send(REQUEST, 9.0, may_begin), ANSWER, ("send", REQUEST, 9.0, may_begin)),
    (effects.Sleep(0.5), None, ("sleep", 0.5)),
    (effects.LoadPending(), [PENDING], None),
    (effects.KeepPending(PENDING), "kept as y", ("keep", PENDING)),
    (effects.DropPending("x"), "dropped", ("drop", "x")),
    (effects.Highest("l"), 41, ("highest", "l")),
    (effects.Note("l", 5), "noted", ("note", "l", 5)),
]


@pytest.mark.parametrize(("effect", "answer", "call"), CASES)
def test_each_effect_meets_its_port(effect: Any, answer: Any, call: Any) -> None:
    """With all that it says, and the flow gets what the port returns."""
    ports = Ports()
    assert ports.driver().run(asking(effect)) == answer
    assert ports.calls == ([call] if call else [])


def test_what_a_port_raises_is_the_flow_s_to_handle() -> None:
    """And what the flow doesn't handle leaves as it is."""
    ports = Ports(error=StoreBusyError("busy"))

    def flow() -> Flow[str]:
        try:
            yield effects.Read("p", 1.0)
        except StoreBusyError:
            return "handled"
        return "not raised"

    assert ports.driver().run(flow()) == "handled"
    with pytest.raises(StoreBusyError):
        ports.driver().run(asking(effects.Read("p", 1.0)))


def test_after_an_error_the_flow_goes_on_with_answers() -> None:
    """An error is told once, and not again beside the next answer."""
    ports = Ports(error=StoreBusyError("busy"))

    def flow() -> Flow[list[Any]]:
        with contextlib.suppress(StoreBusyError):
            yield effects.Read("p", 1.0)
        ports.error = None
        return [(yield effects.Sleep(1)), (yield effects.Read("p", 1.0))]

    assert ports.driver().run(flow()) == [None, STORED]


def test_what_is_no_effect_is_a_defect() -> None:
    """It must not be skipped in silence."""
    with pytest.raises(TypeError, match="no such effect: str"):
        Ports().driver().run(asking("x"))


# Signals.


@pytest.mark.parametrize(
    ("shields", "calls"),
    [
        ([True, False], ["hold", "release"]),
        ([True, True, False, False], ["hold", "release"]),
        ([False], []),
        ([True], ["hold", "release"]),
        ([True, False, True], ["hold", "release", "hold", "release"]),
    ],
)
def test_signals_are_held_once_and_let_through_at_the_end(
    shields: list[bool], calls: list[str]
) -> None:
    """However often a flow says so, and also where it doesn't say that it is over."""
    ports = Ports()

    def flow() -> Flow[None]:
        for is_on in shields:
            yield effects.Shield(is_on)

    ports.driver().run(flow())
    assert [call[0] for call in ports.calls] == calls


def test_signals_are_let_through_where_a_flow_fails() -> None:
    """The process would otherwise not end at a second Ctrl-C."""
    ports = Ports(error=StoreBusyError("busy"))

    def flow() -> Flow[None]:
        yield effects.Shield(True)
        yield effects.Read("p", 1.0)

    with pytest.raises(StoreBusyError):
        ports.driver().run(flow())
    assert [call[0] for call in ports.calls] == ["hold", "read", "release"]


# Work that is set apart.


def detaching() -> Flow[str]:
    yield effects.Shield(True)
    yield effects.Detach(12.5)
    yield effects.Sleep(1.0)
    return "done"


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_work_that_is_set_apart_goes_on_there(is_elsewhere: bool) -> None:
    """Signals are held until it ends, the asker gets its result, and connections that another
    process has used are closed here."""
    ports = Ports(is_elsewhere=is_elsewhere)
    assert ports.driver().run(detaching()) == "done"
    names = [call[0] for call in ports.calls]
    assert names[:5] == ["hold", "apart", "sleep", "release", "apart ends"]
    assert names[5:] == (["disconnect", "disconnect"] if is_elsewhere else [])
    assert ("apart", 12.5) in ports.calls
    assert ports.late == ["late"]


def test_who_leaves_the_work_behind_does_not_let_signals_through() -> None:
    """The work goes on elsewhere, and its signals are its own."""
    ports = Ports()

    class Leaving(Ports):
        def __call__(self, work: Any, deadline: float, on_late: Any) -> Any:
            raise StoreBusyError("the exchange goes on")

    driver = Leaving(calls=ports.calls).driver()
    with pytest.raises(StoreBusyError):
        driver.run(detaching())
    assert [call[0] for call in ports.calls] == ["hold"]


def test_inline_the_asker_does_it_itself() -> None:
    """However late it gets: in Lambda there is nobody else."""
    assert not Inline.is_elsewhere
    assert Inline()(lambda: 7, 0.0, lambda _late: None) == 7


# Defaults, and pauses.


def test_a_runtime_that_is_told_nothing_holds_nothing_back() -> None:
    """No process is dead, no exchange too late, no answer bounded, nothing is signed."""
    runtime = Runtime()
    assert not runtime.is_dead(cast(Any, None), None)
    runtime.check_exchange(True)
    runtime.emit("event", fact=1)
    assert runtime.listen_left_s() is None
    assert runtime.read_assertion(cast(Any, None)).reveal() == ""
    assert (runtime.is_heard, runtime.holder, runtime.host, runtime.machine) == (
        False,
        "",
        "",
        None,
    )


@pytest.mark.parametrize(
    ("tries", "asked_s", "low_s", "high_s"),
    [
        (0, None, 0.125, 0.25),
        (1, None, 0.125, 0.25),
        (2, None, 0.25, 0.5),
        (5, None, 2.0, 4.0),
        (9, None, 2.0, 4.0),
        (1, 3.0, 3.0, 3.0),
        (5, 3.0, 3.0, 4.0),
        (2, 0.0, 0.25, 0.5),
    ],
)
def test_pauses_double_to_a_bound_or_are_what_was_asked_for(
    tries: int, asked_s: float | None, low_s: float, high_s: float
) -> None:
    """Half of a pause is jitter, so that a fleet does not come back all at once."""
    pause = Backoff().pause_s
    assert pause(tries, lambda low, _high: low, asked_s) == low_s
    assert pause(tries, lambda _low, high: high, asked_s) == high_s
