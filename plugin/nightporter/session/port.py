"""The ports of the engine: what it needs of a store, an issuer's transport and a journal, said
where it is used.

A read is a hint, a won compare-and-set is the proof: Secrets Manager, Vault's standbys and OpenBao
clusters all serve old reads. So every write names the version that it follows, and nothing else
about a store can be relied on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from nightporter.core.record import Spilled, Unreadable


class Version(NamedTuple):
    """Names one state of a path, for the compare-and-set of the write that follows it.

    `token` is the store's own. `floor` is a number that no generation ever written to the path has
    exceeded, so that generations go on growing when the value itself is gone (expired, deleted).
    """

    token: str
    floor: int = 0


ABSENT = Version("")


class Stored(NamedTuple):
    """`value` None: absent or expired. The version is right for a compare-and-set all the same."""

    value: Mapping[str, Any] | Unreadable | None
    version: Version


class KeepExpiry:
    """For `expires_at`: leave the store's own expiry as it is (a claim must not give its short life
    to the record)."""


KEEP_EXPIRY: Final = KeepExpiry()


class Store(Protocol):
    """A place for JSON objects under paths, with compare-and-set and expiry.

    Every method raises StoreUnreachableError, StoreBusyError, StoreSealedError, StoreDeniedError or
    another StoreError. `timeout_s` bounds the call.
    """

    versions_per_day: int | None
    """How many versions a path takes in a day without end; None where there is no such limit."""

    def read(self, path: str, *, timeout_s: float) -> Stored:
        """What is at the path. An object whose `expires_at` has passed is absent."""

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected_version: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        """Writes if the path is still at `expected_version`; ABSENT means that nothing was ever
        there.

        `expires_at` (Unix seconds, as in the value) is handed to the store's own TTL where it has
        one.

        Raises: VersionConflictError: nothing was written. StoreValueError: too large. After
        StoreUnreachableError the outcome is unknown: the same call again is safe, and its conflict
        may be our own earlier success.
        """

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        """Makes the path's value unreachable, as far as the store can.

        Raises: VersionConflictError.
        """

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        """Makes what is expired or superseded at the path unreachable; whether there was something
        to do."""

    def close(self) -> None:
        """Gives back what was opened (connections, a lease)."""


class Journal(Protocol):
    """Where the result of an exchange is kept when the store does not accept the write."""

    path: str
    """For people: where the result is."""

    def keep(self, spilled: Spilled) -> bool:
        """Whether the result is safe now."""

    def load(self) -> Spilled | None:
        """The kept result; None where there is none that can be trusted."""

    def drop(self) -> None:
        """Removes the kept result."""
