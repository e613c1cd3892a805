"""Opens stores, transports and sessions, and keeps idle connections for the next session that wants
the same.

Heavy modules (network, stores) are imported by the functions that open them, so that a cached
answer never pays for them.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile, StoreConfig
from nightporter.issuers import issuer_for
from nightporter.machine import lambda_time, process
from nightporter.machine.places import data_directory, spill_directory
from nightporter.machine.room import with_room, without_collector
from nightporter.machine.trust import check_named_file
from nightporter.stores import STORES

if TYPE_CHECKING:
    from nightporter.session.driver import Apart
    from nightporter.session.port import Store
    from nightporter.session.repository import Session


def open_store(
    store: StoreConfig, environment: Mapping[str, str], notify: Callable[[str], None]
) -> Store:
    """The adapter of one store. Nothing is sent yet.

    Raises: ConfigError when its extra is not installed.
    """
    description = STORES[store.type]
    try:
        module = _imported(description.adapter)
    except ModuleNotFoundError as exc:
        from nightporter.machine.installation import install_hint  # deferred: only a failure

        raise ConfigError(
            f"the store type {store.type!r} needs the package {exc.name!r}, which is not installed",
            hint=install_hint(description, missing=exc.name),
        ) from exc
    return module.open_store(store.options, environment, notify, data_directory())  # type: ignore[no-any-return]  # by name


def _imported(name: str) -> Any:
    """Returns the module; importing it compiles many regular expressions."""
    return without_collector(lambda: with_room(lambda: importlib.import_module(name)))


class _LazyTransport:
    """`http.Transport`, imported at the first request: the session is read while nothing is known
    to be sent yet."""

    def __init__(self, profile: Profile, environment: Mapping[str, str]) -> None:
        self._profile = profile
        self._environment = environment
        self._transport: Any = None

    def send(
        self,
        request: Any,
        *,
        timeout_s: float,
        may_begin: Callable[[], bool] | None = None,
    ) -> Any:
        if self._transport is None:
            # deferred: an answer without an exchange needs no network library
            http = _imported("nightporter.net.http")
            self._transport = http.Transport(
                self._profile, self._environment, check_file=check_named_file
            )
        return self._transport.send(request, timeout_s=timeout_s, may_begin=may_begin)

    def disconnect(self) -> None:
        """Drops open connections."""
        if self._transport is not None:
            self._transport.disconnect()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Ends it."""


C = TypeVar("C", bound=Closable)


class Pool:
    """Connections that wait for the next session that wants the same: a job over a thousand
    profiles opens a few."""

    def __init__(self) -> None:
        self._idle: dict[object, list[Any]] = {}
        self._lock = threading.Lock()

    def lease(self, key: object, open_one: Callable[[], C]) -> C:
        """Returns an idle connection of that key, or opens one."""
        with self._lock:
            waiting = self._idle.get(key)
            found: C | None = waiting.pop() if waiting else None
        return found if found is not None else open_one()

    def give_back(self, key: object, item: Closable) -> None:
        """Keeps the connection for the next that wants one of that key."""
        with self._lock:
            self._idle.setdefault(key, []).append(item)

    def close(self) -> None:
        """Closes all idle connections."""
        with self._lock:
            items = [item for waiting in self._idle.values() for item in waiting]
            self._idle.clear()
        for item in items:
            item.close()


def open_apart(
    emit: Callable[..., None],
    *,
    is_library: bool,
    environment: Mapping[str, str],
    at_end: Callable[[], None] = lambda: None,
) -> tuple[Apart, Callable[..., None]]:
    """Returns how an exchange that must end is set apart here, and the emitter to use with it.
    `at_end`: what a child that outlives its command does last."""
    from nightporter.machine.finisher import InChild, InThread  # deferred, as in open_session
    from nightporter.session.driver import Inline

    if lambda_time.is_lambda(environment):
        return Inline(), emit  # a thread or a child would be frozen with its exchange
    if is_library:
        return InThread(), emit
    child = InChild(emit, at_end)
    return child, child.emit


def open_session(
    profile: Profile,
    environment: Mapping[str, str],
    *,
    pool: Pool,
    emit: Callable[..., None],
    notify: Callable[[str], None],
    apart: Apart,
    is_heard: bool = False,
) -> Session:
    """Returns the session of a profile, with everything real behind it; closed, it gives its
    connections to the pool. `apart`: how an exchange that must end is set apart. `is_heard`: a
    person reads what is reported."""
    from nightporter.client.proofs import assertion_reader, sign
    from nightporter.machine.journal import FileJournal
    from nightporter.machine.seal import KeyringSeal
    from nightporter.session.driver import Runtime

    # deferred, with all above: a cached token needs none of it
    from nightporter.session.repository import Session

    store_key = ("store", profile.store.name)
    store = pool.lease(store_key, lambda: open_store(profile.store, environment, notify))
    sender_key = ("sender", profile.ca_cert, profile.proxy)
    sender = pool.lease(sender_key, lambda: _LazyTransport(profile, environment))

    def give_back() -> None:
        pool.give_back(store_key, store)
        pool.give_back(sender_key, sender)

    return Session(
        profile,
        store=store,
        issuer=issuer_for(profile),
        sender=sender,
        journal=FileJournal(
            spill_directory(environment),
            profile.refresh_token,
            seal=KeyringSeal(data_directory()) if profile.store.options.get("seal") else None,
        ),
        runtime=Runtime(
            boot=process.boot_clock(),
            apart=apart,
            listen_left_s=lambda_time.listen_left_s,
            holder=process.holder_name(),
            host=process.host_name(),
            is_dead=process.is_dead,
            hold_signals=process.hold_signals,
            machine=process.machine_mark(environment),
            emit=emit,
            check_exchange=lambda_time.check_exchange,
            is_heard=is_heard,
            read_assertion=assertion_reader(environment),
            sign_assertion=sign,
        ),
        on_close=give_back,
    )
