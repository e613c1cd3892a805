"""The public client: from a configuration and an environment to one working broker per profile.

The environment is read once, here, and passed down as a mapping.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nightporter.client.broker import DEFAULT_TIMEOUT_S, Broker
from nightporter.client.configuration import load_config
from nightporter.client.identity import open_cache
from nightporter.core.config import choose_profile, parse_config
from nightporter.core.errors import NightporterError
from nightporter.core.model import Config, Profile, Token
from nightporter.issuers import VENDORS
from nightporter.machine import lambda_time, process
from nightporter.machine.places import APP, read_environment
from nightporter.stores import STORES

WARM_S = (
    1.0  # for so long a held token is served without a look at what other processes were told of it
)
END_OF_INVOCATION_S = 1.0  # so that an error is ours, and not Lambda's

# The variables that ask for metrics; `core.otlp` says what else is asked of them.
_METERS = (
    "NIGHTPORTER_METRICS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
THREADS = 32  # of aget_token; they wait more than they work
T = TypeVar("T")

if TYPE_CHECKING:
    from nightporter.client.connections import Pool
    from nightporter.client.exporter import Exporter
    from nightporter.client.renewals import Renewals
    from nightporter.session.driver import Apart
    from nightporter.session.repository import Session


def _emit_nothing(_event: str, **_facts: Any) -> None:
    pass


class Porter:
    """Hands out tokens by profile name. Safe for threads and forks; holds no global state.

    `config` is a `Config`, the path of a TOML file, TOML text (anything with a line break), or None
    for the usual places. `apart`: how an exchange that must end is set apart from who asked; by
    default in a thread (library), in a child (command), or not at all (Lambda). `is_heard`: a
    person reads what `emit` gets.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | None = None,
        *,
        is_library: bool = True,
        emit: Callable[..., None] = _emit_nothing,
        notify: Callable[[str], None] | None = None,
        apart: Apart | None = None,
        is_heard: bool = False,
    ) -> None:
        self._given = (is_library, emit, notify, apart, is_heard)
        self._is_heard = is_heard
        self._environment = read_environment()
        self.config = self._read(config)
        # In Lambda a thread would be frozen with its exchange, once the handler has answered.
        self._is_library = is_library and not lambda_time.is_lambda(self._environment)
        self._exporter: Exporter | None = None
        self._emit = self._metered(_audited(emit, self._environment), is_library=is_library)
        self._notify = notify or _log_warning
        self._brokers: dict[str, Broker] = {}
        self.warm: dict[str | None, tuple[float, Token]] = {}
        self.warm_clock = process.boot_clock()
        self._lock = threading.Lock()
        self._refusals = 0
        self._pool: Pool | None = None
        self._executor: Any = None  # of aget_token
        self._apart = apart
        self._renewals: Renewals | None = None
        _PORTERS.add(self)

    def _read(self, config: Config | str | os.PathLike[str] | None) -> Config:
        if isinstance(config, Config):
            return config
        if isinstance(config, str) and "\n" in config:
            return parse_config(config, source="the given text", vendors=VENDORS, stores=STORES)
        return load_config(os.fspath(config) if config is not None else None, self._environment)

    def _metered(self, emit: Callable[..., None], *, is_library: bool) -> Callable[..., None]:
        if not any(self._environment.get(name) for name in _METERS):
            return emit
        from nightporter.client.exporter import open_metrics  # deferred: most users keep no metrics

        note, self._exporter = open_metrics(self._environment, is_library=is_library)

        def both(event: str, **facts: Any) -> None:
            note(event, **facts)
            emit(event, **facts)

        return both

    def send_metrics(self) -> None:
        """In Lambda, where nothing runs between invocations: sends what was counted. Elsewhere that
        happens by itself."""
        if self._exporter is not None:
            self._exporter.settle()

    def get_token(
        self,
        profile: str | None = None,
        *,
        min_ttl: float | None = None,
        force_refresh: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Token:
        """An access token of the profile; without a name of the only one.

        `min_ttl`: seconds that must be left, else the profile's. `force_refresh`: from an exchange
        that began after this call did. `timeout`: seconds for everything.

        Raises: NightporterError; its subclasses say whose turn it is.
        """
        warm = self.warm.get(profile)
        if (
            warm is not None
            and warm[0] > self.warm_clock()
            and min_ttl is None
            and not force_refresh
        ):
            return warm[1]
        broker, refusals = self.broker_for(profile), self._refusals
        if (
            left_s := lambda_time.remaining_s()
        ):  # 0 in the init phase, where a read may take its time
            timeout = max(0.1, min(timeout, left_s - END_OF_INVOCATION_S))
        try:
            token = broker.access_token(
                min_ttl_s=min_ttl, is_forced=force_refresh, timeout_s=timeout
            )
        finally:
            self.send_metrics()
        entry = self._warm_entry(broker, token)
        with self._lock:
            if (
                refusals == self._refusals
            ):  # else it may be the very token that was refused meanwhile
                self.warm[profile] = entry
        return token

    async def aget_token(
        self,
        profile: str | None = None,
        *,
        min_ttl: float | None = None,
        force_refresh: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Token:
        """As `get_token`, in a thread of the porter's own. Cancelled, it leaves the exchange to end
        by itself."""
        import functools

        ask = functools.partial(
            self.get_token, profile, min_ttl=min_ttl, force_refresh=force_refresh, timeout=timeout
        )
        return await self.in_thread(ask)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Returns what the call returns, which runs in a thread.

        Not in the loop's default executor: a slow issuer would fill it, and the whole program would
        have no name look-ups meanwhile (python/cpython#112169).
        """
        import asyncio  # deferred: 30 ms that only a program with an event loop has paid already
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix=APP)
            executor: ThreadPoolExecutor = self._executor
        return await asyncio.get_running_loop().run_in_executor(executor, call)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or the porter of another process, has the same configuration and nothing else:
        locks, connections and tokens are its own."""
        return _open_again, (self.config, *self._given)

    def _warm_entry(self, broker: Broker, token: Token) -> tuple[float, Token]:
        """Until when this very token is the answer, on the clock that its own end is counted on:
        one that neither stands still nor is set."""
        return (self.warm_clock() + min(broker.warm_left_s(token), WARM_S), token)

    def broker_for(self, profile: str | None) -> Broker:
        """The broker of a profile.

        Raises: ConfigError.
        """
        chosen = choose_profile(self.config, profile)
        with self._lock:
            broker = self._brokers.get(chosen.name)
            if broker is None:
                broker = self._brokers[chosen.name] = self._open_broker(chosen)
        return broker

    def name_in(self, error: NightporterError) -> None:
        """Lets a remedy name the profile, where this porter was asked for one alone."""
        if len(self._brokers) == 1:
            next(iter(self._brokers.values())).name_in(error)

    def _open_broker(self, profile: Profile) -> Broker:
        return Broker(
            profile,
            cache=open_cache(profile, self._environment, self._notify),
            open_session=lambda: self._open_session(profile),
            is_library=self._is_library,
            emit=self._emit,
            watch=self._watcher(),
            host_fraction=process.host_fraction(),
            notify=self._notify,
        )

    def _watcher(self) -> Callable[[Session], None] | None:
        if self.config.notify is None:
            return None
        from nightporter.client.alarms import watcher  # deferred: most users name nobody

        return watcher(self.config.notify, self._environment)

    def _open_session(self, profile: Profile) -> Session:
        # Deferred: a cached answer opens no session.
        from nightporter.client.connections import Pool, open_apart, open_session

        with self._lock:
            self._pool = self._pool or Pool()
        apart, emit = self._apart, self._emit
        if apart is None:
            apart, emit = open_apart(
                emit,
                is_library=self._is_library,
                environment=self._environment,
                at_end=self._exporter.drain if self._exporter else lambda: None,
            )
        return open_session(
            profile,
            self._environment,
            pool=self._pool,
            emit=emit,
            notify=self._notify,
            apart=apart,
            is_heard=self._is_heard,
        )

    def refuse(self, profile: str | None, value: str) -> None:
        """A client reports this token as refused: it is not served again on this machine."""
        broker = self.broker_for(profile)
        broker.refuse(value)
        with self._lock:
            self._refusals += 1
            self.warm.clear()

    @property
    def renewals(self) -> Renewals:
        """The renewals after a 401, shared by all who ask for a profile."""
        from nightporter.client.renewals import Renewals  # deferred: the first 401 needs it

        with self._lock:
            if self._renewals is None:
                self._renewals = Renewals()
            return self._renewals

    def forget(self, profile: str | None) -> None:
        """Drops what this process and machine hold of the profile under today's identity."""
        self.broker_for(profile).forget()
        with self._lock:
            self._refusals += 1
            self.warm.clear()

    def close(self) -> None:
        """Gives connections and leases back."""
        for broker in self._brokers.values():
            broker.close()
        if self._pool is not None:
            self._pool.close()
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        if self._exporter is not None:
            self._exporter.close()

    def __enter__(self) -> Porter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def after_fork(self) -> None:
        """Makes a forked child independent: locks, threads and sockets are the parent's."""
        self._lock = threading.Lock()
        self._renewals = None
        self._pool = None  # the parent's sockets are the parent's
        self._executor = None  # and so are its threads
        if self._exporter is not None:
            self._exporter.after_fork()
        for broker in self._brokers.values():
            broker.reset_locks()


def _open_again(
    config: Config,
    is_library: bool,
    emit: Callable[..., None],
    notify: Callable[[str], None] | None,
    apart: Apart | None,
    is_heard: bool,
) -> Porter:
    return Porter(
        config,
        is_library=is_library,
        emit=emit,
        notify=notify,
        apart=apart,
        is_heard=is_heard,
    )


def _audited(emit: Callable[..., None], environment: Mapping[str, str]) -> Callable[..., None]:
    if "NIGHTPORTER_LOG" not in environment:
        return emit
    from nightporter.machine.audit import audited  # deferred: most users keep no log

    return audited(emit, environment)


def _log_warning(text: str) -> None:
    import logging  # deferred: 14 ms that a silent answer does not need

    logging.getLogger(APP).warning("%s", text)


_PORTERS: weakref.WeakSet[Porter] = weakref.WeakSet()


def _after_fork() -> None:
    for porter in _PORTERS:
        porter.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    with contextlib.suppress(ImportError):
        import random

        import snapshot_restore_py  # type: ignore[import-not-found]  # Lambda's runtime has it

        # Many environments wake up from one snapshot: with its sockets, and with one state of the
        # random numbers.
        snapshot_restore_py.register_after_restore(_after_fork)
        snapshot_restore_py.register_after_restore(random.seed)
