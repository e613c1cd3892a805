"""Access tokens on this machine, and the small notes beside them: failures, refusals, attempts,
locks.

Access tokens only; a refresh token never comes here. Everything is keyed by a hash of whatever the
token depends on (configuration, identity in the environment, credential files), so that a change of
any of them is simply a miss. A cache that can't be used is no error: what is left is the memory of
the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from nightporter.core import errors
from nightporter.core.errors import NightporterError
from nightporter.core.expiry import MAX_UNIX_S
from nightporter.core.limits import EARLY_MEMORY_S, FAILURE_MEMORY_S
from nightporter.core.model import Secret, Token, is_token_text
from nightporter.core.output import output_of
from nightporter.machine import process
from nightporter.machine.files import (
    open_lock,
    open_private_directory,
    read_private,
    remove,
    replace_private,
)

SCHEMA = 1
KEYRING_SERVICE = "nightporter"
REFUSED_FOR_S = 7 * 86_400
KEPT_TOKENS = 20  # so many files of tokens are never looked through
DEAD_AFTER_S = 86_400


class Place(Protocol):
    """Where named bytes are kept. Nothing here raises: what fails is a miss."""

    def load(self, name: str) -> bytes | None:
        """Returns the bytes kept under the name, or None."""

    def keep(self, name: str, content: bytes) -> None:
        """Keeps the bytes under the name, in place of what was there."""

    def drop(self, name: str) -> None:
        """Removes the name, if it is there."""

    def release(self) -> None:
        """Drops what is in this process's memory alone."""


class Memory:
    """For `NIGHTPORTER_CACHE=off` and where no directory can be written."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self._kept.get(name)

    def keep(self, name: str, content: bytes) -> None:
        self._kept[name] = content

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)

    def release(self) -> None:
        self._kept.clear()


class Directory:
    """Private files in the first directory of `candidates` that is ours; memory where none is."""

    def __init__(self, candidates: tuple[str, ...]) -> None:
        self._candidates = candidates
        self._path: str | None = None
        self._memory: Memory | None = None

    @property
    def path(self) -> str | None:
        """The directory, made or found at first use; None where only memory is left."""
        if self._path is None and self._memory is None:
            for candidate in self._candidates:
                with contextlib.suppress(OSError):
                    if open_private_directory(candidate) and os.access(
                        candidate, os.W_OK | os.X_OK
                    ):
                        self._path = candidate
                        break
            else:
                self._memory = Memory()
        return self._path

    def load(self, name: str) -> bytes | None:
        if self.path is None:
            return self._memory.load(name) if self._memory else None
        with contextlib.suppress(OSError):
            return read_private(os.path.join(self.path, name))
        return None

    def keep(self, name: str, content: bytes) -> None:
        if self.path is None:
            if self._memory:
                self._memory.keep(name, content)
            return
        file = os.path.join(self.path, name)
        try:
            replace_private(file, content)
        except (
            OSError
        ):  # a directory in the file's place, a full disk: what is there must not be served instead
            remove(file)

    def drop(self, name: str) -> None:
        if self.path is not None:
            remove(os.path.join(self.path, name))
        elif self._memory:
            self._memory.drop(name)

    def release(self) -> None:
        if self._memory:
            self._memory.release()

    def drop_replies(self) -> None:
        """What the front door may answer: of any profile, since a lost reply costs nothing."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                for name in os.listdir(self.path):
                    if is_reply(name):
                        remove(os.path.join(self.path, name))


def is_reply(name: str) -> bool:
    """Whether a file of the cache is a reply file of the front door."""
    return name.startswith("+") and name.endswith(".reply")


class Keyring:
    """The desktop's keyring, for tokens alone. Any failure of it (no D-Bus, cron, WSL) is a
    miss."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._memory = Memory()
        self._failed = False

    def load(self, name: str) -> bytes | None:
        found = self._ask(lambda ring: ring.get_password(KEYRING_SERVICE, name))
        return found.encode() if isinstance(found, str) else self._memory.load(name)

    def keep(self, name: str, content: bytes) -> None:
        self._memory.keep(name, content)
        self._ask(lambda ring: ring.set_password(KEYRING_SERVICE, name, content.decode()))

    def drop(self, name: str) -> None:
        self._memory.drop(name)
        if self._ask(lambda ring: ring.get_password(KEYRING_SERVICE, name)) is not None:
            self._ask(lambda ring: ring.delete_password(KEYRING_SERVICE, name))

    def release(self) -> None:
        self._memory.release()

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        if self._failed:
            return None
        try:
            import keyring  # deferred: optional, and slow to import

            return call(keyring)
        except Exception as exc:  # keyring's backends raise whatever D-Bus and the systems raise
            self._failed = True
            self._notify(f"{_keyring_problem(exc)}; tokens are kept in memory only")
            return None


def _keyring_problem(exc: Exception) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name == "keyring":
        from nightporter.machine.installation import install_command  # deferred: only a failure

        return (
            "NIGHTPORTER_CACHE=keyring needs the package 'keyring', which is not installed"
            f" (`{install_command('keyring')}`)"
        )
    return f"the keyring can't be used ({type(exc).__name__})"


class AccessCache:
    """What this machine remembers of one profile under one identity.

    `tokens` holds the access token, `notes` what is no secret; locks are files in `notes`'
    directory.
    """

    def __init__(
        self,
        profile: str,
        key: str,
        *,
        tokens: Place,
        notes: Directory | Memory,
        clock: Callable[[], float] = time.time,
        boot_clock: Callable[[], float] = process.boot_time,
        boot_mark: Callable[[], str | None] = process.boot_mark,
    ) -> None:
        self._name = f"{profile}.{key}"
        self._refused_name = f"{profile}.refused"  # under any identity: a refused token is refused
        self._tokens = tokens
        self._notes = notes
        self._clock = clock
        self._boot_clock = boot_clock
        self._boot_mark = boot_mark

    def release(self) -> None:
        """Drops what is in this process's memory alone: files and the keyring keep what they
        have."""
        self._tokens.release()
        self._notes.release()

    # Tokens.

    def load(self) -> Token | None:
        """Returns the cached token, whatever is left of it.

        Its age is the time since boot, which no wall clock moves. Where the machine was booted
        since, the wall clock must do, and one from the future (the clock was set back) is a miss.
        """
        entry = _parse(self._tokens.load(f"{self._name}.token"))
        try:
            token = Token(
                Secret(str(entry["access_token"])),
                token_type=str(entry["token_type"]),
                expires_at_s=int(entry["expires_at"]),
                obtained_at_s=float(entry["obtained_at"]),
                exchanged_at_s=float(entry["exchanged_at"]),
                generation=int(entry["generation"]),
                ends_s=self._ends_s(entry),
                life_s=float(entry["life"]),
                output=output_of(entry.get("output")),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        times = (token.expires_at_s, token.obtained_at_s, token.exchanged_at_s, token.life_s)
        if not all(0 <= each <= MAX_UNIX_S for each in (*times, token.ends_s or 0)):
            return None  # JSON's numbers have no end, and NaN is one to Python
        is_past = token.ends_s is not None or token.obtained_at_s <= self._clock() + 1
        return token if is_past and is_token_text(token.value) else None

    def _ends_s(self, entry: dict[str, Any]) -> float | None:
        """None where the entry is of another boot, or knows of none."""
        mark = self._boot_mark()
        if mark is None or entry.get("boot") != mark or entry.get("ends") is None:
            return None
        return float(entry["ends"])

    def keep(self, token: Token) -> None:
        """Keeps the token in place of the one before, with its age since boot."""
        entry = {
            "schema": SCHEMA,
            "access_token": token.value,
            "token_type": token.token_type,
            "expires_at": token.expires_at_s,
            "obtained_at": token.obtained_at_s,
            "exchanged_at": token.exchanged_at_s,
            "generation": token.generation,
            "boot": self._boot_mark(),
            "ends": token.ends_s,
            "life": token.life_s,
            "output": dict(token.output),
        }
        self._tokens.keep(f"{self._name}.token", json.dumps(entry).encode())
        if isinstance(self._tokens, Directory) and self._tokens.path is not None:
            sweep(self._tokens.path, self._clock())

    def token_file(self) -> str | None:
        """Where the token lies, if that is a file."""
        if not isinstance(self._tokens, Directory) or self._tokens.path is None:
            return None
        return os.path.join(self._tokens.path, f"{self._name}.token")

    def state_files(self) -> list[str]:
        """The files on which it depends whether the token may be served, besides its own."""
        path = self._notes.path if isinstance(self._notes, Directory) else None
        return [os.path.join(path, self._refused_name)] if path else []

    def forget(self) -> None:
        """Drops everything but the digests of refused tokens: those stay refused."""
        self._tokens.drop(f"{self._name}.token")
        for place in (self._tokens, self._notes):
            if isinstance(place, Directory):
                place.drop_replies()
        for note in ("failure", "tried"):
            self._notes.drop(f"{self._name}.{note}")

    # Tokens that a client reported as refused: known by digest, so that no copy of them is served
    # again.

    def refuse(self, value: str) -> None:
        """Notes that a client reported this access token as refused, for 7 days."""
        now = self._clock()
        refused = {digest: until for digest, until in self._refused().items() if until > now}
        refused[_digest(value)] = now + REFUSED_FOR_S
        self._notes.keep(
            self._refused_name, json.dumps({"schema": SCHEMA, "refused": refused}).encode()
        )
        held = self.load()
        if held and held.value == value:
            self._tokens.drop(f"{self._name}.token")

    def is_refused(self, value: str) -> bool:
        """Whether a client of this machine reported this access token as refused."""
        return self._refused().get(_digest(value), 0) > self._clock()

    def _refused(self) -> dict[str, float]:
        refused = _parse(self._notes.load(self._refused_name)).get("refused")
        if not isinstance(refused, dict):
            return {}
        return {key: value for key, value in refused.items() if isinstance(value, (int, float))}

    # Failures, remembered for a moment: clients run a failing helper several times.

    def failure(self) -> NightporterError | None:
        """Returns the error that this profile ended with less than 5 s ago, or None."""
        entry = _parse(self._notes.load(f"{self._name}.failure"))
        return errors.from_members(entry) if self._is_young(entry, FAILURE_MEMORY_S) else None

    def keep_failure(self, error: NightporterError) -> None:
        """Notes the error that an ask ended with."""
        entry = {**errors.to_members(error), "schema": SCHEMA, "at": self._clock()}
        self._notes.keep(f"{self._name}.failure", json.dumps(entry).encode())

    def clear_failure(self) -> None:
        """Drops the note of the last error."""
        self._notes.drop(f"{self._name}.failure")

    # Early renewals, one attempt a minute for all commands of the machine.

    def tried_early(self) -> bool:
        """Whether a renewal ahead of time was tried less than 60 s ago."""
        return self._is_young(_parse(self._notes.load(f"{self._name}.tried")), EARLY_MEMORY_S)

    def _is_young(self, entry: dict[str, Any], memory_s: float) -> bool:
        """Whether a note was written less than so many seconds ago."""
        at, now = entry.get("at"), self._clock()
        return isinstance(at, (int, float)) and now - memory_s < at <= now

    def note_early_try(self) -> None:
        """Notes that a renewal ahead of time is tried now."""
        self._notes.keep(
            f"{self._name}.tried", json.dumps({"schema": SCHEMA, "at": self._clock()}).encode()
        )

    # One process of the machine at a time.

    @contextlib.contextmanager
    def lock(self, deadline: float) -> Iterator[bool]:
        """Yields whether the machine's lock was won before `deadline` (monotonic seconds).

        The lock saves work, the claim protects: nobody waits longer than a claim lives, since who
        holds it may be stopped or forked. Without a directory it counts as won.
        """
        path = self._notes.path if isinstance(self._notes, Directory) else None
        with contextlib.ExitStack() as stack:
            won = True
            if path is not None:
                with contextlib.suppress(OSError):
                    won = stack.enter_context(
                        open_lock(os.path.join(path, f"{self._name}.lock"), deadline=deadline)
                    )
            yield won


def sweep(directory: str, now: float) -> int:
    """Removes tokens that ended over a day ago, with what lies beside them, and returns how many
    files it was. Identities that change often would leave files for ever (99designs/aws-vault#125).

    Their lock goes too: nobody asks for an identity that has had no token for a day, and a lock is
    for economy only.
    """
    removed = 0
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(directory) if name.endswith(".token")]
        for name in names if len(names) > KEPT_TOKENS else ():
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                ends = _parse(read_private(path)).get("expires_at")
                if isinstance(ends, (int, float)) and ends < now - DEAD_AFTER_S:
                    stem = path.removesuffix(".token")
                    kinds = ("token", "lock", "failure", "tried")
                    removed += sum(remove(f"{stem}.{kind}") for kind in kinds)
    return removed


def drop_everywhere(profile: str, directories: tuple[str, ...]) -> int:
    """Removes all that is cached for the profile under any identity, in all cache places. How many
    files it was."""
    removed = 0
    for directory in directories:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            stem, _, _kind = name.rpartition(".")
            owner, _, key = stem.rpartition(".")
            is_its = owner == profile and len(key) == KEY_LENGTH and not name.endswith(".lock")
            is_its |= (
                name == f"{profile}.google.json"
            )  # the output file that google-auth reads before it asks
            if (
                is_its or is_reply(name) or name.endswith(".tmp")
            ):  # what a killed process left half written
                removed += remove(os.path.join(directory, name))
    return removed


KEY_LENGTH = 32


def cache_key(parts: object) -> str:
    """The name of an identity: a hash over all that a token depends on (anything with a faithful
    `repr`)."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:KEY_LENGTH]


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _parse(content: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(content) if content else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else {}
