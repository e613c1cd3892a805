"""The embedded store: one JSON file a path, in a directory of the user's own.

`{"version": 7, "value": {...}}`, named by the percent-encoded path, 0600 in a 0700 directory,
replaced atomically under a lock file beside it. The version goes on growing after a deletion. For a
laptop, for trying out, and for tests. The file system's permissions are all that protects it,
unless the store has `seal = "keyring"`: then the value is sealed with a key that the desktop's
keyring holds (`{"version": 7, "sealed": "..."}`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nightporter.core.errors import (
    ConfigError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.limits import LAST_GENERATION
from nightporter.core.record import Unreadable, is_expired
from nightporter.machine.files import (
    ClockBeside,
    NoLocksError,
    close_directory,
    lock_error,
    open_lock,
    read_private,
    replace_private,
    time_beside,
)
from nightporter.machine.places import expand, has_home
from nightporter.machine.seal import KeyringSeal
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.stores.encoding import MAX_VALUE_BYTES

MAX_NAME_BYTES = 250


class LocalStore:
    """Session records and secrets as files of the user's own (contract, section 3)."""

    versions_per_day: int | None = None

    def __init__(
        self,
        directory: str,
        *,
        clock: Callable[[], float] = time.time,
        seal: KeyringSeal | None = None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._clock_beside = ClockBeside()
        self._seal = seal

    def read(self, path: str, *, timeout_s: float) -> Stored:
        stored = self._load(self._file(path))
        if stored.value is not None:
            stored = self._with_time(path, stored)
        if isinstance(stored.value, Mapping) and is_expired(stored.value, self._now(stored)):
            return Stored(
                None,
                stored.version,
                expired=stored.value,
                written_at=stored.written_at,
                now=stored.now,
            )
        return stored

    def _with_time(self, path: str, stored: Stored) -> Stored:
        """The file's time, against that of a file made beside it: on a network's file system both
        are the server's. Where there is a claim, whose age decides, made just now."""
        file = self._file(path)
        has_claim = isinstance(stored.value, Mapping) and bool(stored.value.get("claim"))
        with contextlib.suppress(OSError):
            written_at = os.stat(file).st_mtime
            now = time_beside(file) if has_claim else self._clock_beside.time(file)
            return Stored(stored.value, stored.version, written_at=written_at, now=now)
        return stored

    def _now(self, stored: Stored) -> float:
        return self._clock() if stored.now is None else stored.now

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected_version: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        return self._exchange(path, value, expected_version, timeout_s)

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        self._exchange(path, None, expected_version, timeout_s)

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        pass  # there are none

    def disconnect(self) -> None:
        pass

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        stored = self._load(self._file(path))
        if not isinstance(stored.value, Mapping) or not is_expired(stored.value, self._clock()):
            return False
        self.delete(path, stored.version, timeout_s=timeout_s)
        return True

    def whereabouts(self) -> str:
        """Returns where the store is, in words for people."""
        return f"files in {self._directory}"

    def missing_rights(
        self, reads: Sequence[str], writes: Sequence[str], *, timeout_s: float
    ) -> list[str]:
        """Returns what this user may not do with the path's file, in words; empty where all is
        well."""
        if not writes or not os.path.isdir(self._directory):
            return []
        if not os.access(self._directory, os.W_OK | os.X_OK):
            denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise _translate(denied, self._directory)  # no policy helps here
        if (error := lock_error(self._directory)) is not None:
            raise _translate(error, self._directory) from error
        return []

    def close(self) -> None:
        pass

    def _exchange(
        self, path: str, value: Mapping[str, Any] | None, expected: Version, timeout_s: float
    ) -> Version:
        file = self._file(path)
        with self._locked(file, timeout_s):
            found = self._load(file).version
            is_same = found.token == expected.token
            # A file that was removed and made again counts from 1 once more.
            if not is_same or expected.proof not in ("", found.proof):
                raise VersionConflictError(f"{file}: another writer was first")
            after = found.floor + 1
            try:
                document = {"version": after, **self._body(value)}
                content = json.dumps(document, ensure_ascii=False).encode()
            except UnicodeError as exc:  # a lone surrogate, which no file can hold
                raise StoreValueError(f"{file}: the value holds text that is no Unicode") from exc
            if len(content) > MAX_VALUE_BYTES + 100:
                raise StoreValueError(
                    f"{file}: a value of {len(content)} bytes is more than {MAX_VALUE_BYTES}"
                )
            try:
                replace_private(file, content, is_only_copy=True)
            except OSError as exc:
                raise _translate(exc, file) from exc
        return Version(str(after), after, _proof(content))

    def _body(self, value: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._seal is None or value is None:
            return {"value": value}
        return {"sealed": self._seal.close(json.dumps(value, ensure_ascii=False).encode())}

    def _unsealed(self, file: str, sealed: object) -> Any:
        """Raises: StoreDeniedError."""
        if self._seal is None:
            raise StoreDeniedError(
                f"{file} is sealed with a key of the desktop's keyring",
                hint='Set `seal = "keyring"` in the store, on the machine that sealed it.',
            )
        return json.loads(self._seal.open(str(sealed)))

    @contextlib.contextmanager
    def _locked(self, file: str, timeout_s: float) -> Iterator[None]:
        try:
            if not close_directory(self._directory):
                raise StoreDeniedError(
                    f"{self._directory} belongs to another user",
                    hint=(
                        "Set `path` of the store to a directory of your own; or let its owner run"
                        f" this, or root give it to you: chown -R USER {self._directory}."
                    ),
                )
            with open_lock(f"{file}.lock", deadline=time.monotonic() + timeout_s) as won:
                if not won:
                    raise StoreUnreachableError(f"{file} stayed locked by another process")
                yield
        except OSError as exc:
            raise _translate(exc, file) from exc

    def _load(self, file: str) -> Stored:
        try:
            content = read_private(file, close_if_readable=True)
        except OSError as exc:
            raise _translate(exc, file) from exc
        if content is None:
            if os.path.lexists(file) and not self._has_appeared(file):
                raise StoreDeniedError(
                    f"{file} is not a private file of yours (owner, mode 0600, no link, at most 1"
                    " MiB)",
                    hint=(
                        f"If you trust what it holds, run `chmod 600 {file}`; else remove it, and"
                        " run `nightporter credentials set PROFILE`."
                    ),
                )
            return self._load(file) if os.path.lexists(file) else Stored(None, ABSENT)
        try:
            document = json.loads(content)
            number = document["version"]
            sealed = document.get("sealed")
            value = document["value"] if sealed is None else self._unsealed(file, sealed)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError("version")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # A torn or foreign file has no version of its own; the bytes name it, and time is past
            # any count.
            digest = hashlib.sha256(content).hexdigest()
            return Stored(
                Unreadable(reason=f"{file} is not a file of this store"),
                Version(digest, int(time.time())),
            )
        floor = number if number <= LAST_GENERATION else 0
        version = Version(str(number), floor, _proof(content))
        if value is None or isinstance(value, dict):
            return Stored(value, version)
        return Stored(Unreadable(reason=f"{file} holds no JSON object"), version)

    def _has_appeared(self, file: str) -> bool:
        """Whether the file came into being between two looks, so that another look will do."""
        with contextlib.suppress(OSError):
            return read_private(file, close_if_readable=True) is not None
        return False

    def _file(self, path: str) -> str:
        name = quote(path, safe="") + ".json"
        if len(name) > MAX_NAME_BYTES:
            raise StoreValueError(
                f"the path {path[:40]!r}... is too long for the local store",
                hint=f"Choose a shorter one: it becomes a file's name of {MAX_NAME_BYTES} bytes.",
            )
        return os.path.join(self._directory, name)


def _proof(content: bytes) -> str:
    """Tells two files of the same version number apart."""
    return hashlib.sha256(content).hexdigest()[:16]


def _errnos(*names: str) -> frozenset[int]:
    """The numbers of these names; a system has not all of them."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_FULL = _errnos("ENOSPC", "EDQUOT")
_DENIED = _errnos("EACCES", "EPERM", "EROFS")
_KEYS = _errnos("ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED")
_SCARCE = _errnos("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS")
_NO_PLACE = _errnos(
    *("ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EINVAL", "EXDEV", "ENXIO", "ENODEV", "EMLINK"),
    *("ENOSYS", "EOPNOTSUPP", "ENOTSUP", "ENOLCK", "EEXIST", "ENOTEMPTY", "EILSEQ"),
)


def _translate(exc: OSError, file: str) -> StoreError:
    """Errno by errno; what is not named here (a network's file system that is away) may pass."""
    why = exc.strerror or "input/output error"
    if isinstance(exc, NoLocksError):
        return StoreError(
            f"{file}: its file system offers no locks ({why})",
            hint=(
                "Put the store on a local disk (`path` of the store), mount the file system with"
                " locks, or use Vault or AWS."
            ),
        )
    if exc.errno in _FULL:
        return StoreError(
            f"{file}: the disk is full, or your quota of it ({why})",
            hint="Make room, and run it again.",
        )
    if exc.errno == errno.EFBIG:
        return StoreError(f"{file}: {why}", hint="Raise the limit of file sizes (`ulimit -f`).")
    if exc.errno in _DENIED:
        return StoreDeniedError(
            f"{file}: {why}",
            hint=(
                f"Make it yours, if nobody else needs it: `{_owning_command(file)}`; or set `path`"
                " of the store to a directory of your own."
            ),
        )
    if exc.errno in _KEYS:
        return StoreDeniedError(
            f"{file}: {why}",
            hint=(
                "The file system wants a key that is not there now: renew the Kerberos ticket"
                " (`kinit`), or unlock the encrypted directory; under cron neither may exist."
            ),
        )
    if exc.errno in _SCARCE:
        return StoreUnreachableError(
            f"{file}: {why}", hint="This machine or process is at a limit (`ulimit -n`, memory)."
        )
    if exc.errno in _NO_PLACE:
        return StoreError(f"{file}: {why}", hint="Name another place (`path` of the store).")
    return StoreUnreachableError(f"{file}: {why}")


def open_store(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    notify: Callable[[str], None],
    data_directory: str,
) -> LocalStore:
    """Returns the store of a `[stores.NAME]` table; without `path` in the user's data directory.

    Raises: ConfigError where that is nowhere.
    """
    seal = KeyringSeal(data_directory) if options.get("seal") else None
    if "path" in options:
        return LocalStore(expand(options["path"], "path"), seal=seal)
    if not has_home():
        raise ConfigError(
            "the embedded store has no place: neither HOME nor a passwd entry tells one",
            hint="Set HOME, or name the store's `path`.",
        )
    return LocalStore(data_directory, seal=seal)


def _owning_command(file: str) -> str:
    """What gives the store's directory, with all that is in it, to who reads this."""
    directory = file if os.path.isdir(file) else os.path.dirname(file)
    owner = os.getuid() if hasattr(os, "getuid") else "YOU"
    return f"sudo chown -R {owner} {shlex.quote(directory)}"
