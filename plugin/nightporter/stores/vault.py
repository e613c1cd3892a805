"""HashiCorp Vault and OpenBao, KV version 2, through hvac.

A record's members are the secret's data. The TTL is the key's `delete_version_after`, which is a
duration, belongs to the key and is applied by the next write: so it is set just before the write,
by the process that holds the claim. The `deletion_time` in the write's reply is checked, and
corrected by one more write where it is off. It is a soft delete, and can be set wrong by others:
the expiry inside the record is the truth.

Vault's words (mount, cas, lease) stay in this file, which is the one that imports hvac. Documents:
Vault API, "KV secrets engine version 2", "Auth methods", "sys/internal/ui/mounts".
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import hvac.exceptions
import requests
import urllib3
from hvac.adapters import JSONAdapter
from hvac.api.auth_methods.token import Token
from hvac.api.secrets_engines.kv_v2 import KvV2

from nightporter.core.checks import url_problem
from nightporter.core.errors import (
    ConfigError,
    IssuerReplyError,
    StoreDeniedError,
    StoreElectingError,
    StoreError,
    StoreLifeError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.core.limits import LAST_GENERATION
from nightporter.core.record import is_expired, parse_remains, remains_of
from nightporter.core.values import dataclass
from nightporter.machine.trust import check_named_file
from nightporter.net.http import KEPT_S, begin_until, open_session, read_bounded
from nightporter.net.proxies import environment_proxies
from nightporter.net.quiet import quiet
from nightporter.net.tls import file_mark
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.stores.bounded import CallTimeoutError, bounded
from nightporter.stores.capabilities import LifeLimit
from nightporter.stores.encoding import encode_value
from nightporter.stores.vault_description import VARIABLES
from nightporter.stores.vault_errors import (
    NothingThereError,
    data_of,
    errors_of,
    is_of_policy,
    translated,
)
from nightporter.stores.vault_login import Login

T = TypeVar("T")
CONNECT_S = 3.0
TTL_TARGET_S = (
    2  # aimed at this much past the expiry: never before it, at most TTL_SLACK_S after it
)
TTL_SLACK_S = 5
SAME_LIFE_S = 1.0  # a version that was seen longer ago is looked at again before it is followed
REMAINS_KEY = "nightporter"  # in the key's custom_metadata: what outlives Vault's TTL
MAX_CUSTOM_BYTES = 512
MAX_TTL_S = 9_223_372_036


class VaultStore:
    """Session records and secrets in a KV version 2 mount of Vault or OpenBao."""

    versions_per_day: int | None = None

    def __init__(
        self,
        options: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._options = options
        self._environment = environment
        self._clock = clock
        self._notify = notify
        self._mount: str = options.get("mount", "secret")
        self._login = Login(options.get("auth", {"method": "token"}), environment)
        self._client: JSONAdapter | None = None
        self._logged_in = False
        self._is_known = False  # whether Vault has looked our token up
        self._marks: list[object] = []  # of the files of certificates
        self._used_at = 0.0  # monotonic
        self._is_version_2 = False
        self._timeout_s = 10.0
        self._date: float | None = None  # the server's clock at its last reply
        self._seen: dict[str, tuple[Version, float]] = {}
        self._denied: set[str] = set()

    # The port.

    def read(self, path: str, *, timeout_s: float) -> Stored:
        def ask(client: JSONAdapter) -> Stored:
            try:
                reply = KvV2(client).read_secret_version(
                    _quoted(path), mount_point=self._mount, raise_on_deleted_version=False
                )
            except hvac.exceptions.InvalidPath as exc:
                # A destroyed version is a 404 with metadata, which hvac's switch for deleted ones
                # doesn't cover.
                data = data_of(exc)
                if not (data and data.get("metadata")):
                    raise
                return self._stored(data)
            return self._stored(reply["data"])

        try:
            stored = self._call(ask, f"read on {self._mount}/data/{path}", timeout_s)
            self._seen[path] = (stored.version, time.monotonic())
        except NothingThereError:
            self._check_version_2(path, timeout_s)
            if path.startswith(("data/", f"{self._mount}/")):
                self._notify(
                    f"there is nothing at {path!r} of the mount {self._mount!r}: a path is given"
                    " without the mount and without data/"
                )
            return Stored(None, ABSENT)
        self._is_version_2 = True
        return stored

    def _stored(self, reply: Mapping[str, Any]) -> Stored:
        """What a read's reply tells, in the server's time."""
        data, metadata = reply.get("data"), reply["metadata"]
        if data is not None and not isinstance(data, dict):
            raise ValueError("data")
        now = self._date
        is_over = is_expired(data or {}, self._clock() if now is None else now)
        custom = metadata.get("custom_metadata")
        remains = parse_remains(custom.get(REMAINS_KEY)) if isinstance(custom, dict) else None
        return Stored(
            data if data and not is_over else None,
            _version(metadata),
            expired=data if is_over else None,
            remains=None if data else remains,
            written_at=_instant(metadata.get("created_time")),
            now=now,
        )

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected_version: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        encode_value(path, value)  # for its size alone: hvac makes the request
        self._check_version_2(path, timeout_s)
        self._check_same_life(path, expected_version, timeout_s)
        if isinstance(expires_at, KeepExpiry):
            return self._write_for(path, value, expected_version, expires_at.life_s, timeout_s)
        now = self._clock() if self._date is None else self._date
        has_ttl = self._set_ttl(path, expires_at, now, timeout_s, value)
        written = self._put(path, value, expected_version, timeout_s)
        if has_ttl and isinstance(expires_at, int) and not written.is_timed(expires_at):
            return self._repair_ttl(path, value, written, expires_at, timeout_s)
        if has_ttl and expires_at is None and written.deleted_at is not None:
            self._notify(
                f"{self._mount}/{path}: the mount deletes it at"
                f" {format_rfc3339(written.deleted_at)} although the session has no end: raise"
                " or remove the mount's delete_version_after"
            )
        return written.version

    def _write_for(
        self,
        path: str,
        value: Mapping[str, Any],
        expected: Version,
        life_s: int,
        timeout_s: float,
    ) -> Version:
        """Writes what must live for at least `life_s`: the key's TTL is left alone unless it is
        shorter.

        Raises: StoreLifeError where the mount allows no longer one.
        """
        written = self._put(path, value, expected, timeout_s)
        if written.lives(life_s):
            return written.version
        self._set_ttl(path, None, 0, timeout_s, value)
        repaired = self._put(path, value, written.version, timeout_s)
        if repaired.lives(life_s):
            return repaired.version
        raise StoreLifeError(
            f"{self._mount}/{path}: Vault deletes what is written there after"
            f" {repaired.life_s} s, and a claim must live for {life_s}",
            hint=f"{self._unlimit_mount()} Nothing was sent.",
        )

    def _check_same_life(self, path: str, expected: Version, timeout_s: float) -> None:
        """A key whose metadata was deleted counts from 1 again: where the version that is to be
        followed was not seen just now, it is looked at once more.

        Raises: VersionConflictError.
        """
        version, at = self._seen.get(path, (None, 0.0))
        is_fresh = version == expected and time.monotonic() - at <= SAME_LIFE_S
        if not expected.proof or is_fresh:
            return
        there = self.read(path, timeout_s=timeout_s).version
        if there.token == expected.token and there.proof != expected.proof:
            raise VersionConflictError(f"{self._mount}/{path} was deleted and written again")

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        """`max_versions = 1` of the write before has taken them away."""

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.session.close()

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        # An empty object over it, with room for one version, takes the value away by
        # compare-and-set and with the rights of a writer; destroying what is left needs one right
        # more, and is done where it is there.
        self._set_ttl(path, None, 0, timeout_s, {})
        newest = self._put(path, {}, expected_version, timeout_s).version.floor
        with contextlib.suppress(StoreDeniedError):
            self._destroy(path, newest, timeout_s)

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        # The TTL is a soft delete: what it took away can be undeleted until it is destroyed.
        def ask(client: JSONAdapter) -> int | None:
            try:
                KvV2(client).read_secret_version(
                    _quoted(path), mount_point=self._mount, raise_on_deleted_version=True
                )
            except hvac.exceptions.InvalidPath as exc:
                data = data_of(exc)
                if data is None and errors_of(exc) is None:
                    raise  # no answer of Vault's
                metadata: Any = (data or {}).get("metadata")
                return int(metadata["version"]) if metadata and not metadata["destroyed"] else None
            return None

        deleted = self._call(ask, f"read on {self._mount}/data/{path}", timeout_s)
        if deleted is None:
            return False
        self._destroy(path, deleted, timeout_s)
        return True

    def _destroy(self, path: str, newest: int, timeout_s: float) -> None:
        numbers = list(range(max(1, newest - 10), newest + 1))

        def destroy(client: JSONAdapter) -> Any:
            return KvV2(client).destroy_secret_versions(
                _quoted(path), numbers, mount_point=self._mount
            )

        self._call(destroy, f"update on {self._mount}/destroy/{path}", timeout_s)

    def missing_rights(
        self, reads: Sequence[str], writes: Sequence[str], *, timeout_s: float
    ) -> list[str]:
        """Asks `sys/capabilities-self`, which Vault's default policy allows to everybody."""
        wanted: dict[str, tuple[str, ...]] = {
            f"{self._mount}/data/{_quoted(path)}": ("read",) for path in reads
        }
        for path in writes:
            wanted[f"{self._mount}/data/{_quoted(path)}"] = ("create", "read", "update")
            wanted[f"{self._mount}/metadata/{_quoted(path)}"] = ("create", "update")

        def ask(client: JSONAdapter) -> dict[str, Any]:
            reply = client.post("/v1/sys/capabilities-self", json={"paths": list(wanted)})
            found: dict[str, Any] = (reply.json() if hasattr(reply, "json") else reply)["data"]
            return found

        granted = self._call(ask, "update on sys/capabilities-self", timeout_s)
        missing = []
        for path, needed in wanted.items():
            there = set(granted.get(path) or ())
            if "root" not in there and (
                lacking := [right for right in needed if right not in there]
            ):
                missing.append(f"{_listed(lacking)} on {path}")
        return missing

    def whereabouts(self) -> str:
        """Returns where the store is, in words for people."""
        namespace = self._option("namespace")
        within = f", namespace {namespace!r}" if namespace else ""
        return f"{self._address}{within}, mount {self._mount!r}, {self._login.words}"

    def _unlimit_mount(self) -> str:
        command = f"vault write {shlex.quote(self._mount)}/config delete_version_after=0s"
        return f"Lift the limit of the mount: `{command}`."

    def _unlimit_key(self, path: str) -> str:
        where = f"-mount={shlex.quote(self._mount)} -delete-version-after=0s {shlex.quote(path)}"
        return f"Lift the limit of the key: `vault kv metadata put {where}`."

    def life_limit(self, path: str, *, timeout_s: float) -> LifeLimit | None:
        """That of the mount, where its configuration may be read; else what became of the last
        write, which who reads the secret may see."""

        def ask_mount(client: JSONAdapter) -> int:
            reply = client.get(f"/v1/{self._mount}/config")
            return _duration_s(reply["data"].get("delete_version_after"))

        def ask_last(client: JSONAdapter) -> int:
            try:
                reply = client.get(f"/v1/{self._mount}/data/{_quoted(path)}")
                data: Mapping[str, Any] = reply["data"]
            except hvac.exceptions.InvalidPath as exc:
                data = data_of(exc) or {}
            metadata = data.get("metadata") or {}
            ends, begun = (_instant(metadata.get(key)) for key in ("deletion_time", "created_time"))
            stated = (data.get("data") or {}).get("expires_at")
            is_own = isinstance(stated, str) and abs(parse_rfc3339(stated) - (ends or 0)) < 60
            return 0 if ends is None or begun is None or is_own else int(ends - begun)

        mount = (f"the mount {self._mount!r}", ask_mount, self._unlimit_mount())
        # Who may not read the mount's configuration doesn't know which of the two it was.
        last = ("the last write", ask_last, f"{self._unlimit_key(path)} {self._unlimit_mount()}")
        for what, ask, todo in (mount, last):
            with contextlib.suppress(StoreDeniedError, NothingThereError):
                seconds = self._call(ask, "read", timeout_s)
                if seconds or ask is ask_mount:
                    return LifeLimit(what, seconds, todo) if seconds else None
        return None

    def close(self) -> None:
        """Revokes a token that we logged in for: each login leaves a lease behind."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._logged_in:
            self._timeout_s = 2.0
            with contextlib.suppress(Exception):  # a lease that stays expires
                Token(client).revoke_self()
        client.session.close()

    # Writing.

    def _put(
        self, path: str, value: Mapping[str, Any], expected: Version, timeout_s: float
    ) -> _Written:
        def put(client: JSONAdapter) -> _Written:
            reply = KvV2(client).create_or_update_secret(
                _quoted(path),
                secret=dict(value),
                cas=int(expected.token or 0),
                mount_point=self._mount,
            )
            data = reply["data"]
            deletion_time = data.get("deletion_time")
            return _Written(
                number=int(data["version"]),
                created_time=str(data["created_time"]),
                created_at=parse_rfc3339(data["created_time"]),
                deleted_at=parse_rfc3339(deletion_time) if deletion_time else None,
            )

        try:
            written = self._call(put, f"create and update on {self._mount}/data/{path}", timeout_s)
        except NothingThereError as exc:
            # A write has no "not there": it is a proxy's or a node's that is coming up.
            raise StoreUnreachableError(
                f"{self._address} answered a write with 404",
                hint="Check `address`, and what is between here and Vault; it is tried again.",
            ) from exc
        self._seen[path] = (written.version, time.monotonic())
        return written

    def _set_ttl(
        self,
        path: str,
        expires_at: int | None,
        now: float,
        timeout_s: float,
        value: Mapping[str, Any],
    ) -> bool:
        """Sets the key's TTL, counted from `now`, its room for one version, and what of `value`
        must outlive it. Returns whether the TTL could be set.

        A missing permission must not cost the result that is about to be written, so it is only
        said, once.
        """
        seconds = 0
        if expires_at is not None:
            seconds = min(max(1, math.ceil(expires_at - now) + TTL_TARGET_S), MAX_TTL_S)

        remains = remains_of(value, max_bytes=MAX_CUSTOM_BYTES)
        custom = {} if remains is None else {"custom_metadata": {REMAINS_KEY: remains}}

        def post(members: Mapping[str, Any]) -> Callable[[JSONAdapter], Any]:
            return lambda client: KvV2(client).update_metadata(
                _quoted(path),
                max_versions=1,
                delete_version_after=f"{seconds}s",
                mount_point=self._mount,
                **members,
            )

        right = f"create and update on {self._mount}/metadata/{path}"
        if custom and "custom_metadata" not in self._denied:
            try:
                self._call(post(custom), right, timeout_s)
                return True
            except StoreDeniedError as exc:
                self._say_once("custom_metadata", exc, "back-offs end with Vault's TTL")
        try:
            self._call(post({}), right, timeout_s)
        except StoreDeniedError as exc:
            self._say_once("metadata", exc, "it is kept, and Vault won't delete it at its end")
            return False
        return True

    def _say_once(self, what: str, exc: StoreDeniedError, price: str) -> None:
        if what not in self._denied:
            self._denied.add(what)
            self._notify(f"{exc.message}; {price}. `nightporter policy` prints what a role needs")

    def _repair_ttl(
        self,
        path: str,
        value: Mapping[str, Any],
        written: _Written,
        expires_at: int,
        timeout_s: float,
    ) -> Version:
        """One more write, with the TTL counted from the server's clock.

        It is off when another writer's TTL slipped onto the key between our two requests, or when
        the clocks differ.
        """
        self._set_ttl(path, expires_at, written.created_at, timeout_s, value)
        try:
            repaired = self._put(path, value, written.version, timeout_s)
        except VersionConflictError:
            return (
                written.version
            )  # somebody has gone on from our write; theirs is the TTL to get right
        if not repaired.is_timed(expires_at):
            self._notify(
                f"{self._mount}/{path}: Vault's own deletion time is off; the expiry in the record"
                " holds. The mount may limit delete_version_after."
            )
        return repaired.version

    def _check_version_2(self, path: str, timeout_s: float) -> None:
        """A version 2 write to a version 1 mount succeeds silently at the wrong path: ask first.

        Raises: StoreValueError naming the command that upgrades the mount.
        """
        if self._is_version_2:
            return

        def ask(client: JSONAdapter) -> object:
            reply = client.get(f"/v1/sys/internal/ui/mounts/{self._mount}/{_quoted(path)}")
            return (reply["data"].get("options") or {}).get("version")

        if self._call(ask, f"any right below {self._mount}/", timeout_s) != "2":
            raise StoreValueError(
                f"the mount {self._mount!r} is not a KV version 2 secrets engine",
                hint=(
                    f"Upgrade it with `vault kv enable-versioning {self._mount}/`, or name another"
                    " `mount`."
                ),
            )
        self._is_version_2 = True

    # The connection.

    def _call(self, ask: Callable[[JSONAdapter], T], right: str, timeout_s: float) -> T:
        """Returns what `ask` returns, within the time: name look-up, login and all."""
        self._timeout_s = timeout_s
        self._refresh_connection()
        deadline = time.monotonic() + timeout_s

        def run() -> T:
            begin_until(deadline)
            with quiet():
                return self._ask(ask)

        with translated(self._address, right, self._environment):
            try:
                return bounded(run, timeout_s, who=self._address or "Vault")
            except CallTimeoutError:
                self._client = None  # the thread still holds it; the next call opens another
                raise

    def _ask(self, ask: Callable[[JSONAdapter], T]) -> T:
        """Runs one request, logging in where it is needed; a denied one is repeated once with a
        fresh login.

        Vault says "permission denied" for a missing right and for an expired token alike.
        """
        had_client = self._client is not None
        try:
            return ask(self._open())
        except hvac.exceptions.Forbidden as exc:
            if errors_of(exc) is None:
                raise
            if not had_client:
                self._check_token()
                raise
        self._renew_login()
        try:
            return ask(self._open())
        except hvac.exceptions.Forbidden:
            self._check_token()
            raise

    def _check_token(self) -> None:
        """Looks the token up, which every token with the default policy may do. One without it is
        told that by its policies, so it is known.

        Raises: StoreDeniedError where Vault doesn't know it: no policy would help then.
        """
        client = self._client
        if client is None or self._is_known:
            return
        with contextlib.suppress(hvac.exceptions.VaultError, requests.exceptions.RequestException):
            try:
                Token(client).lookup_self()
            except hvac.exceptions.Forbidden as exc:
                if is_of_policy(exc):
                    return
                raise StoreDeniedError(
                    f"{self._address} knows no such token: the token has expired, or was revoked",
                    hint=self._login.remedy,
                ) from exc
            self._is_known = True

    def _refresh_connection(self) -> None:
        """Opens another connection where the kept one is old (a load balancer may have forgotten
        it) or a file of certificates has been replaced."""
        files = [self._option(key) for key in ("ca_cert", "client_cert", "client_key")]
        marks = [file_mark(os.path.expanduser(file)) for file in files if file]
        is_old = time.monotonic() - self._used_at > KEPT_S
        if self._client is not None and (is_old or marks != self._marks):
            self.disconnect()
        self._marks, self._used_at = marks, time.monotonic()

    def _renew_login(self) -> None:
        """Replaces our login with a new one and revokes the old; where it is refused, the old one
        stays."""
        old, self._client = self._client, None
        try:
            self._open()
        except (StoreDeniedError, ConfigError):
            self._client = old
            return
        if old is not None and self._logged_in:
            with contextlib.suppress(Exception):  # it may have run out
                Token(old).revoke_self()

    @property
    def _address(self) -> str:
        return str(self._option("address") or "")

    def _option(self, key: str) -> Any:
        given = (self._environment.get(name) for name in VARIABLES[key])
        return self._options.get(key) or next(filter(None, given), None)

    def _source(self, key: str) -> str:
        """Returns what an option came from, for messages: its key or the variable's name."""
        if self._options.get(key):
            return key
        named = (name for name in VARIABLES[key] if self._environment.get(name))
        return next(named, key)

    def _open(self) -> JSONAdapter:
        if self._client is not None:
            return self._client
        if not self._address:
            raise ConfigError(
                "the Vault store has no address",
                hint="Set `address` in the store, VAULT_ADDR or BAO_ADDR.",
            )
        if problem := _address_problem(self._address):
            raise ConfigError(f"{self._source('address')} {problem}")
        session = open_session(
            ca_cert=self._option("ca_cert"),
            proxy=None,
            environment=self._environment,
            key=self._source("ca_cert"),
            client_cert=self._option("client_cert"),
            client_key=self._option("client_key"),
            client_cert_key=self._source("client_cert"),
            check_file=check_named_file,
        )
        # What hvac.Client sends with, without the Client, which has an object for each API of Vault
        # and takes VAULT_TOKEN, ~/.vault-token and VAULT_CLIENT_CERT by itself.
        client = JSONAdapter(
            base_uri=self._address.rstrip("/"),
            verify=session.verify,
            cert=session.cert,
            proxies=environment_proxies(self._address, self._environment),
            namespace=self._option("namespace"),
            session=session,
            allow_redirects=False,
        )
        self._bound(session)
        token = self._login.run(client, self._address)
        client.token, self._logged_in = token.text, token.is_ours
        self._client, self._is_known = client, False
        return client

    def _bound(self, session: requests.Session) -> None:
        """Every request gets the time of the call it belongs to, and no redirect is taken for an
        answer."""
        send = session.send
        session.headers["Accept-Encoding"] = "identity"  # a megabyte can hold a gigabyte

        def bounded(request: requests.PreparedRequest, **options: Any) -> requests.Response:
            options["stream"] = True
            options["timeout"] = (min(CONNECT_S, self._timeout_s), max(0.1, self._timeout_s))
            reply = send(request, **options)
            self._date = _date_of(reply)
            if 300 <= reply.status_code < 400:
                # So does a standby whose leader has just died.
                raise StoreElectingError(
                    f"{self._address} redirects to another node, and the token is not sent there",
                    hint="Set `address` to the active node, or let the standby forward requests.",
                )
            self._read(reply)
            return reply

        session.send = bounded  # type: ignore[method-assign]  # hvac offers no place of its own for a time per call

    def _read(self, reply: requests.Response) -> None:
        """Reads the answer, at most 1 MiB of it, packed and unpacked.

        Raises: StoreError, requests.ConnectionError.
        """
        try:
            content = read_bounded(reply, self._address)
        except IssuerReplyError as exc:
            reply.close()
            raise StoreError(
                exc.message, hint="Check `address`, and what is between here and Vault."
            ) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise requests.ConnectionError(exc) from exc
        reply._content, reply._content_consumed = content, True  # type: ignore[attr-defined]  # as requests itself does


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What a write's reply says, in the server's time."""

    number: int
    created_time: str
    created_at: int
    deleted_at: int | None

    @property
    def version(self) -> Version:
        """The version, with the time of its creation as proof of its life."""
        return _version({"version": self.number, "created_time": self.created_time})

    @property
    def life_s(self) -> int | None:
        """For how long Vault keeps it; None where there is no end."""
        return None if self.deleted_at is None else self.deleted_at - self.created_at

    def lives(self, life_s: int) -> bool:
        """Whether Vault keeps it for so many seconds."""
        return self.life_s is None or self.life_s >= life_s

    def is_timed(self, expires_at: int) -> bool:
        return self.deleted_at is not None and 0 <= self.deleted_at - expires_at <= TTL_SLACK_S


def _version(metadata: Mapping[str, Any]) -> Version:
    number = int(metadata["version"])
    floor = number if number <= LAST_GENERATION else 0
    return Version(str(number), floor, str(metadata.get("created_time") or ""))


def _duration_s(text: object) -> int:
    """Seconds of a duration as Go writes it: `1h0m20s`. 0: none."""
    units = {"h": 3600, "m": 60, "s": 1}
    found = re.findall(r"(\d+)(?:\.\d+)?([hms])", str(text or ""))
    return sum(int(number) * units[unit] for number, unit in found)


def _instant(text: object) -> float | None:
    """Unix seconds with their fraction, of the time stamps that Vault writes."""
    try:
        whole = parse_rfc3339(str(text))
    except ValueError:
        return None
    found = re.search(r"\.\d{1,9}", str(text))
    return whole + (float(found[0]) if found else 0.0)


def _date_of(reply: requests.Response) -> float | None:
    try:
        return parsedate_to_datetime(reply.headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return None


def _listed(words: Sequence[str]) -> str:
    """`create, read and update`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _quoted(path: str) -> str:
    """Returns the path as a URL needs it; hvac doesn't quote it."""
    return quote(path, safe="/")


def _address_problem(address: str) -> str | None:
    """Returns what is wrong with the address of a Vault, which is that of the server alone."""
    if problem := url_problem(address):
        return problem
    if address.rstrip("/").endswith("/v1"):
        return "must be the server's address alone: leave out /v1"
    return None


def open_store(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    notify: Callable[[str], None],
    data_directory: str,
) -> VaultStore:
    """The store of a `[stores.NAME]` table. Nothing is sent yet."""
    return VaultStore(options, environment, notify=notify)
