"""Where metrics are kept, and when they are sent: `NIGHTPORTER_METRICS` and the variables of
OpenTelemetry.

What is sent is the state, cumulative: a file of the host (that of NIGHTPORTER_METRICS, else one
beside the cached tokens), to which all processes add, so that the numbers go on from process to
process, one sender at a time is enough, and what a dead collector missed is in the next request. A
process without a place for a file counts for itself.

When: a command sends from a child that has left it, once it has its answer; a library and the agent
from a thread, at most once in the interval; in Lambda each invocation sends before it ends. So a
collector costs nobody a session, and only a library's end (CLOSE_S) and an invocation
(INVOCATION_S) any time.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping

from nightporter import __version__
from nightporter.core import otlp
from nightporter.core.errors import NightporterError
from nightporter.core.events import Event
from nightporter.core.metrics import Series
from nightporter.machine.files import make_directories, open_lock
from nightporter.machine.lambda_time import is_lambda, remaining_s
from nightporter.machine.metrics_file import MetricsFile, MetricsMemory
from nightporter.machine.places import cache_directories
from nightporter.machine.trust import check_named_file

State = MetricsFile | MetricsMemory
FILE = "metrics.prom"
CLOSE_S = 2.0  # the end of a program waits so long for a collector
INVOCATION_S = 1.0
END_S = 1.0  # what is left of the invocation for its answer
PAUSE_S = 60.0  # of an environment of Lambda whose collector didn't answer
FIRST_S = 1.0  # a library's first request comes soon, for a program that is short
ROUNDS = 3  # what was counted while we sent is sent as well, and then left to the next


def open_metrics(
    environment: Mapping[str, str], *, is_library: bool
) -> tuple[Callable[..., None], Exporter | None]:
    """Returns what counts an event, and what sends the numbers where the variables want it.

    Raises: ConfigError for a NIGHTPORTER_METRICS that is no absolute path.
    """
    place = environment.get("NIGHTPORTER_METRICS")
    settings = otlp.read_settings(environment)
    if settings is None or settings.problem is not None:
        return (MetricsFile(place).note if place else _nothing), None
    state: State = MetricsFile(place) if place else _own_state(environment)
    exporter = Exporter(settings, state, environment, is_library=is_library)
    return exporter.note, exporter


def _nothing(_event: str, **_facts: object) -> None:
    pass


def _own_state(environment: Mapping[str, str]) -> State:
    """A file of our own, where this machine's cache is used and there is a place for it."""
    if environment.get("NIGHTPORTER_CACHE") == "off" or is_lambda(environment):
        return MetricsMemory()
    for directory in cache_directories(environment):
        with contextlib.suppress(OSError):
            make_directories(directory)
            if os.access(directory, os.W_OK | os.X_OK):
                return MetricsFile(os.path.join(directory, FILE))
    return MetricsMemory()


class Exporter:
    """Counts events and sends the numbers. Safe for threads and forks."""

    def __init__(
        self,
        settings: otlp.Settings,
        state: State,
        environment: Mapping[str, str],
        *,
        is_library: bool,
    ) -> None:
        self._settings = settings
        self._state = state
        self._environment = environment
        self._is_lambda = is_lambda(environment)
        self._has_thread = is_library and not self._is_lambda
        self._not_before = 0.0  # monotonic: after a failure in Lambda
        self.after_fork()
        if self._has_thread:
            _prepare(settings)
            _OPEN.add(self)

    def after_fork(self) -> None:
        """In the child: nothing is counted here yet, and the thread is the parent's."""
        self._state.after_fork()
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._starting, self._sending = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._instance: str | None = None

    def note(self, event: str, **facts: object) -> None:
        """Counts one event."""
        found = Event.parse(event)
        if found is None or not found.is_audited:
            return
        self._state.note(event, **facts)
        self._dirty.set()
        if self._has_thread:
            self._start_thread()

    def settle(self) -> None:
        """In Lambda: sends what was counted, within INVOCATION_S and what is left of the
        invocation. A collector that failed is left alone for PAUSE_S."""
        if not self._is_lambda or not self._dirty.is_set():
            return
        left_s = remaining_s()
        bound_s = INVOCATION_S if left_s is None else min(INVOCATION_S, left_s - END_S)
        if bound_s > 0 and time.monotonic() >= self._not_before and not self._drain(bound_s):
            self._not_before = time.monotonic() + PAUSE_S

    def close(self) -> None:
        """Sends what is left: a command without waiting for it."""
        if self._is_lambda:
            self.settle()
        elif self._has_thread:
            self._closing.set()
            self._dirty.set()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(CLOSE_S)
        elif self._dirty.is_set():
            self._leave_child()

    def drain(self) -> None:
        """Sends what was counted, here and now: for who has time, and nobody that waits."""
        if self._dirty.is_set():
            self._drain(self._settings.timeout_s)

    # In a thread.

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is not None or self._closing.is_set():
                return
            self._thread = threading.Thread(
                target=self._run, name="nightporter-metrics", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # the interpreter is ending
                self._thread.start()

    def _run(self) -> None:
        wait_s = min(FIRST_S, self._settings.interval_s)
        is_closing = False
        while not is_closing:  # what was counted before the end is sent, however soon that comes
            self._dirty.wait()
            is_closing = self._closing.wait(wait_s)
            wait_s = self._settings.interval_s
            self._drain(self._settings.timeout_s)

    # In a child.

    def _leave_child(self) -> None:
        """A child of a child, so that what this process may become (`run`) has no child that it
        doesn't know."""
        if not hasattr(os, "fork") or threading.active_count() > 1:
            self._drain(CLOSE_S)
            return
        try:
            child = os.fork()
        except OSError:  # as many processes as are allowed
            return
        if child == 0:
            try:
                self._be_child()
            finally:
                os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)

    def _be_child(self) -> None:
        from nightporter.machine.finisher import leave_command  # deferred: only who sends leaves

        leave_command()
        if os.fork() == 0:
            if hasattr(signal, "alarm"):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(self._settings.timeout_s) + 3)  # whatever hangs
            self._drain(self._settings.timeout_s)

    # Sending.

    def _drain(self, bound_s: float) -> bool:
        """Sends the state, and once more where it has changed meanwhile. Returns whether the
        collector took it; True where another process is at it, which looks again when it has
        sent."""
        self._dirty.clear()
        deadline = time.monotonic() + bound_s
        try:
            for _ in range(ROUNDS):
                with self._turn() as is_ours:
                    if not is_ours:
                        return True
                    series, since = self._state.read()
                    is_taken = self._send(series, since, deadline - time.monotonic())
                if not is_taken:
                    self._dirty.set()
                    return False
                if self._state.read()[0] == series:
                    return True
        except (OSError, NightporterError):  # the file is another's, or the disk fails
            return False
        return True

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """One sender at a time, of this process and of this host."""
        with contextlib.ExitStack() as stack:
            won = self._sending.acquire(blocking=False)
            if won:
                stack.callback(self._sending.release)
                if isinstance(self._state, MetricsFile):
                    lock = f"{self._state.path}.sender"
                    won = stack.enter_context(open_lock(lock, deadline=time.monotonic()))
            yield won

    def _send(self, series: Series, since: float, bound_s: float) -> bool:
        from nightporter.net import otlp as sender  # deferred: 90 ms that only who sends pays

        if not series or bound_s <= 0:
            return not series
        document = otlp.request(
            series, self._resource(), version=__version__, since=since, now=time.time()
        )
        return sender.send(
            self._settings,
            document,
            self._environment,
            timeout_s=min(bound_s, self._settings.timeout_s),
            check_file=check_named_file,
        )

    def _resource(self) -> dict[str, str]:
        """Who counts. The instance is the file, or this process where it counts for itself."""
        import uuid  # deferred: only who sends needs it

        host = socket.gethostname()
        if self._instance is None:
            if isinstance(self._state, MetricsFile):
                name = f"{host}\0{os.getuid() if hasattr(os, 'getuid') else 0}\0{self._state.path}"
                self._instance = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
            else:
                self._instance = str(uuid.uuid4())
        found = {
            "service.name": "nightporter",
            "service.version": __version__,
            "service.instance.id": self._instance,
            "host.name": host,
        }
        if self._is_lambda:
            found["faas.name"] = self._environment["AWS_LAMBDA_FUNCTION_NAME"]
            found["faas.instance"] = self._environment.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        return {**found, **self._settings.resource}


def _prepare(settings: otlp.Settings) -> None:
    """Imports here what the thread will need: a program that forks while a thread imports leaves
    its child with a module that nobody ever completes."""
    import uuid  # noqa: F401

    from nightporter.net import otlp as sender

    sender.prepare(settings)


_OPEN: weakref.WeakSet[Exporter] = weakref.WeakSet()


def _close_all() -> None:
    for exporter in list(_OPEN):
        exporter.close()


atexit.register(_close_all)
