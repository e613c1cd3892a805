"""The only room that knows every other: from a configuration and an environment to brokers that work.

The environment is read here and passed down as a mapping; below, nobody looks at it. Heavy rooms (network, stores) are
imported by the functions that open them, so that a cached answer never pays for them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import platformdirs

from nightporter import door, invocation, process
from nightporter.access_cache import AccessCache, Directory, Keyring, Memory, Place, cache_key
from nightporter.audit import audited
from nightporter.broker import DEFAULT_TIMEOUT_S, Broker
from nightporter.config import choose_profile, parse_config
from nightporter.errors import ConfigError
from nightporter.issuers import VENDORS, issuer_for
from nightporter.mishaps import NAME as MISHAPS
from nightporter.mishaps import Mishaps
from nightporter.model import Config, Profile, StoreConfig, Token
from nightporter.stores import MODULES, Store

if TYPE_CHECKING:
    from nightporter.session import Session

APP = "nightporter"
WARM_S = 1.0  # for so long a held token is served without a look at what other processes were told of it
END_OF_INVOCATION_S = 1.0  # so that an error is ours, and not Lambda's
IDENTITY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws-secrets-manager": (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    ),
    "vault": ("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "VAULT_CACERT"),
    "local": (),
}


def read_environment() -> dict[str, str]:
    """The process's environment; an empty NIGHTPORTER_* variable counts as unset."""
    return {name: value for name, value in os.environ.items() if value or not name.startswith("NIGHTPORTER_")}


ADDRESS_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws-secrets-manager": (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    ),
    "vault": ("VAULT_ADDR", "VAULT_NAMESPACE"),
    "local": (),
}


# Where things are.


def config_file() -> str:
    """The user's configuration file, whether or not it is there."""
    return os.path.join(platformdirs.user_config_dir(APP, appauthor=False), "config.toml")


def data_directory() -> str:
    return platformdirs.user_data_dir(APP, appauthor=False)


def spill_directory(environment: Mapping[str, str]) -> str:
    """Where results wait that a store would not take. In Lambda only /tmp can be written."""
    place = f"/tmp/{APP}" if environment.get("AWS_LAMBDA_FUNCTION_NAME") else data_directory()  # noqa: S108 - private
    return os.path.join(place, "spill")


def cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where cached tokens may lie, the first one first. A relative place is none."""
    if named := environment.get("NIGHTPORTER_CACHE_DIR"):
        return (os.path.abspath(os.path.expanduser(named)),)
    runtime = environment.get("XDG_RUNTIME_DIR")
    found = ([os.path.join(runtime, APP)] if runtime else []) + [platformdirs.user_cache_dir(APP, appauthor=False)]
    return tuple(path for path in found if os.path.isabs(path))


def all_cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every cache place of the user, also those that are not in use now: for log-out."""
    elsewhere = {key: value for key, value in environment.items() if key != "NIGHTPORTER_CACHE_DIR"}
    return tuple(dict.fromkeys(cache_directories(environment) + cache_directories(elsewhere)))


def load_config(path: str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from the first place that has one (contract, section 2). Never from the working directory.

    Raises: ConfigError.
    """
    environment = read_environment() if environment is None else environment
    named = path or environment.get("NIGHTPORTER_CONFIG")
    if not named and (text := environment.get("NIGHTPORTER_CONFIG_TOML")):
        return parse_config(text, source="NIGHTPORTER_CONFIG_TOML", vendors=VENDORS)
    file = os.path.expanduser(named) if named else config_file()
    try:
        with open(file, encoding="utf-8") as opened:
            return parse_config(opened.read(), source=file, vendors=VENDORS)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: can't be read as UTF-8 text ({type(exc).__name__})") from exc
    raise ConfigError(
        f"there is no configuration at {file}",
        hint="Run `nightporter init`, or name another with --config, NIGHTPORTER_CONFIG or NIGHTPORTER_CONFIG_TOML.",
    )


def config_place(path: str | None, environment: Mapping[str, str]) -> str:
    """What `load_config` would read."""
    named = path or environment.get("NIGHTPORTER_CONFIG")
    if named:
        return os.path.expanduser(named)
    return "NIGHTPORTER_CONFIG_TOML" if environment.get("NIGHTPORTER_CONFIG_TOML") else config_file()


def has_config(path: str | None, environment: Mapping[str, str]) -> bool:
    """Whether `load_config` would find anything, good or bad."""
    place = config_place(path, environment)
    return place == "NIGHTPORTER_CONFIG_TOML" or os.path.exists(place)


# Stores and sessions.


def open_store(store: StoreConfig, environment: Mapping[str, str], notify: Callable[[str], None]) -> Store:
    """The adapter of one store. Nothing is sent yet.

    Raises: ConfigError when its extra is not installed.
    """
    try:
        module: Any = importlib.import_module(MODULES[store.type])
    except ModuleNotFoundError as exc:
        extra = {"vault": "vault", "aws-secrets-manager": "aws"}.get(store.type, "")
        raise ConfigError(
            f"the store type {store.type!r} needs the package {exc.name!r}, which is not installed",
            hint=f"Install it with `pip install 'nightporter[{extra}]'`.",
        ) from exc
    return module.open_store(store.options, environment, notify, data_directory())  # type: ignore[no-any-return]  # by name


class _LazyTransport:
    """`http.Transport`, imported at the first request: the session is read while nothing is known to be sent yet."""

    def __init__(self, profile: Profile, environment: Mapping[str, str]) -> None:
        self._profile = profile
        self._environment = environment
        self._transport: Any = None

    def send(self, request: Any, *, timeout_s: float) -> Any:
        if self._transport is None:
            from nightporter.http import Transport  # deferred: 90 ms that an answer without an exchange doesn't need

            self._transport = Transport(self._profile, self._environment)
        return self._transport.send(request, timeout_s=timeout_s)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Pool:
    """Connections that wait for the next session that wants the same: a job over a thousand profiles opens a few."""

    def __init__(self) -> None:
        self._idle: dict[object, list[Any]] = {}
        self._lock = threading.Lock()

    def lease(self, key: object, open_one: Callable[[], C]) -> C:
        with self._lock:
            waiting = self._idle.get(key)
            found: C | None = waiting.pop() if waiting else None
        return found if found is not None else open_one()

    def give_back(self, key: object, item: Closable) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(item)

    def close(self) -> None:
        with self._lock:
            items = [item for waiting in self._idle.values() for item in waiting]
            self._idle.clear()
        for item in items:
            item.close()


def open_session(
    profile: Profile,
    environment: Mapping[str, str],
    *,
    pool: Pool,
    emit: Callable[..., None],
    notify: Callable[[str], None],
) -> Session:
    """The session of a profile, with everything real behind it; closed, it gives its connections to the pool."""
    from nightporter.session import Session, Surroundings  # deferred, with all below: a cached token needs none of it
    from nightporter.spill import Spill

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
        spill=Spill(spill_directory(environment), cache_key(_record_place(profile, environment))),
        around=Surroundings(
            holder=process.holder_name(),
            machine=process.machine_mark(environment),
            emit=emit,
            check_exchange=invocation.check_exchange,
        ),
        on_close=give_back,
    )


def _record_place(profile: Profile, environment: Mapping[str, str]) -> object:
    """Which record in which store is meant, whoever asks: what a kept result must never be mistaken about."""
    names = ADDRESS_VARIABLES[profile.store.type]
    return (
        profile.store.type,
        sorted((key, repr(value)) for key, value in profile.store.options.items() if key != "auth"),
        [(name, environment.get(name)) for name in names],
        profile.refresh_token,
    )


# The cache.


def identity_parts(profile: Profile, environment: Mapping[str, str]) -> object:
    """All that a token of this profile depends on: configuration, identity in the environment, credential files."""
    names = [*IDENTITY_VARIABLES[profile.store.type], *_secret_variables(profile.store)]
    files = [os.path.expanduser(file) for file in _credential_files(profile.store, environment)]
    return (
        repr(profile),
        [(name, environment.get(name)) for name in names],
        [(file, _file_state(file)) for file in files],
        _local_directory(profile.store),
    )


def _secret_variables(store: StoreConfig) -> list[str]:
    """Variables of the user's own naming that hold a credential of the store."""
    auth = store.options.get("auth", {})
    return [auth[key] for key in ("secret_id_env", "password_env") if key in auth]


def keep_reply(
    reply: str,
    token: Token,
    broker: Broker,
    *,
    floor_s: float | None,
    config_file: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    began: float,
    given: bytes | None = None,
) -> None:
    """Leaves a reply for the front door, where one may stand for the next ask of this kind.

    Not where a variable of the user's own naming holds a credential, not where tokens are in no file, and not where the
    file holds another token by now. `floor_s`: what the ask itself wants to be left.
    """
    cache, store = broker.cache, broker.profile.store
    token_file = cache.token_file()
    if token_file is None or _secret_variables(store):
        return
    own_seen = door.look(token_file)
    cached = cache.load()
    if own_seen is None or cached is None or cached.value != token.value:
        return
    files = [config_file, os.path.dirname(config_file), *_credential_files(store, environment)]
    candidates = cache_directories(environment)
    directory = os.path.dirname(token_file)
    # A helper's success takes the note of its failure away, so a reply stands for no ask after one.
    notes = [] if given is None else [os.path.join(directory, MISHAPS)]
    earlier = candidates[: candidates.index(directory)] if directory in candidates else candidates
    door.leave(
        reply,
        arguments=arguments,
        environment=environment,
        directory=directory,
        watched=[*(os.path.expanduser(file) for file in files), *cache.state_files(), *notes],
        absent=earlier,  # where tokens would be looked for before here, if such a place appeared
        own=token_file,
        own_seen=own_seen,
        left_s=broker.warm_left_s(token, floor_s),
        by_token=store.type == "vault",
        given=given,
        began=began,
    )


def _local_directory(store: StoreConfig) -> str | None:
    return os.path.expanduser(store.options.get("path", data_directory())) if store.type == "local" else None


def _credential_files(store: StoreConfig, environment: Mapping[str, str]) -> list[str]:
    if store.type == "aws-secrets-manager":
        return [
            environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
            environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        ]
    if store.type == "vault":
        auth = store.options.get("auth", {})
        named = [auth[key] for key in ("token_file", "secret_id_file") if key in auth]
        uses_home = auth.get("method") == "token" and not named and not environment.get("VAULT_TOKEN")
        return [*named, *(["~/.vault-token"] if uses_home else [])]
    return []


def _file_state(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def open_cache(profile: Profile, environment: Mapping[str, str], notify: Callable[[str], None]) -> AccessCache:
    """The profile's cache under today's identity.

    Raises: ConfigError for a NIGHTPORTER_CACHE that is none of its words.
    """
    in_lambda = bool(environment.get("AWS_LAMBDA_FUNCTION_NAME"))
    kind = environment.get("NIGHTPORTER_CACHE", "off" if in_lambda else "file")
    if kind not in ("file", "keyring", "off"):
        raise ConfigError("NIGHTPORTER_CACHE must be one of 'file', 'keyring', 'off'")
    notes: Directory | Memory = Memory() if kind == "off" else Directory(cache_directories(environment))
    tokens: Place = Keyring(notify) if kind == "keyring" else notes
    return AccessCache(profile.name, cache_key(identity_parts(profile, environment)), tokens=tokens, notes=notes)


def open_mishaps(environment: Mapping[str, str]) -> Mishaps:
    """The notes of failures that clients kept to themselves: where the cached tokens are, or nowhere."""
    if environment.get("NIGHTPORTER_CACHE") == "off" or environment.get("AWS_LAMBDA_FUNCTION_NAME"):
        return Mishaps(Memory())
    return Mishaps(Directory(cache_directories(environment)))


# The whole.


class Porter:
    """Hands out tokens by profile name. Safe for threads and forks; holds no global state.

    `config` is a `Config`, the path of a TOML file, TOML text (anything with a line break), or None for the usual
    places.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | None = None,
        *,
        is_library: bool = True,
        emit: Callable[..., None] = lambda _event, **_facts: None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._environment = read_environment()
        self.config = self._read(config)
        # In Lambda a thread would be frozen with its exchange, once the handler has answered.
        self._is_library = is_library and not self._environment.get("AWS_LAMBDA_FUNCTION_NAME")
        self._emit = audited(emit, self._environment)
        self._notify = notify or _log_warning
        self._brokers: dict[str, Broker] = {}
        self.warm: dict[str | None, tuple[float, float, Token]] = {}
        self._lock = threading.Lock()
        self._refusals = 0
        self._pool = Pool()
        self._renewals: dict[str | None, tuple[threading.Lock, list[float]]] = {}
        _PORTERS.add(self)

    def _read(self, config: Config | str | os.PathLike[str] | None) -> Config:
        if isinstance(config, Config):
            return config
        if isinstance(config, str) and "\n" in config:
            return parse_config(config, source="the given text", vendors=VENDORS)
        return load_config(os.fspath(config) if config is not None else None, self._environment)

    def get_token(
        self,
        profile: str | None = None,
        *,
        min_ttl: float | None = None,
        force_refresh: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Token:
        """An access token of the profile; without a name of the only one.

        `min_ttl`: seconds that must be left, else the profile's. `force_refresh`: from an exchange that began after
        this call did. `timeout`: seconds for everything.

        Raises: NightporterError; its subclasses say whose turn it is.
        """
        warm = self.warm.get(profile)
        if (
            warm is not None
            and warm[0] > time.time()
            and warm[1] > time.monotonic()
            and min_ttl is None
            and not force_refresh
        ):
            return warm[2]
        broker, refusals = self.broker_for(profile), self._refusals
        if left_s := invocation.remaining_s():  # 0 in the init phase, where a read may take its time
            timeout = max(0.1, min(timeout, left_s - END_OF_INVOCATION_S))
        token = broker.access_token(min_ttl_s=min_ttl, is_forced=force_refresh, timeout_s=timeout)
        entry = self._warm_entry(broker, token)
        with self._lock:
            if refusals == self._refusals:  # else it may be the very token that was refused meanwhile
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
        """As `get_token`, in a thread of the loop's own pool. Cancelled, it leaves the exchange to end by itself."""
        import asyncio  # deferred: 30 ms that only a program with an event loop has paid already
        import functools

        ask = functools.partial(self.get_token, profile, min_ttl=min_ttl, force_refresh=force_refresh, timeout=timeout)
        return await asyncio.get_running_loop().run_in_executor(None, ask)

    def _warm_entry(self, broker: Broker, token: Token) -> tuple[float, float, Token]:
        """Until when this very token is the answer: by both clocks, since either may be stepped or stand still."""
        left_s = min(broker.warm_left_s(token), WARM_S)
        return (time.time() + left_s, time.monotonic() + left_s, token)

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

    def _open_broker(self, profile: Profile) -> Broker:
        return Broker(
            profile,
            cache=open_cache(profile, self._environment, self._notify),
            open_session=lambda: open_session(
                profile, self._environment, pool=self._pool, emit=self._emit, notify=self._notify
            ),
            is_library=self._is_library,
            emit=self._emit,
            host_fraction=process.host_fraction(),
            notify=self._notify,
        )

    def refuse(self, profile: str | None, value: str) -> None:
        """A client reports this token as refused: it is not served again on this machine."""
        broker = self.broker_for(profile)
        broker.refuse(value)
        with self._lock:
            self._refusals += 1
            self.warm.clear()

    def renewals(self, profile: str | None) -> tuple[threading.Lock, list[float]]:
        """The lock and the time (monotonic) of the last renewal after a 401, shared by all who ask for the profile."""
        with self._lock:
            return self._renewals.setdefault(profile, (threading.Lock(), [float("-inf")]))

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
        self._pool.close()

    def __enter__(self) -> Porter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._renewals = {}
        self._pool = Pool()  # the parent's sockets are the parent's
        for broker in self._brokers.values():
            broker.reset_locks()


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

        # Many environments wake up from one snapshot: with its sockets, and with one state of the random numbers.
        snapshot_restore_py.register_after_restore(_after_fork)
        snapshot_restore_py.register_after_restore(random.seed)
