"""The ports of the engine: what it needs of a store, an issuer's transport and this machine, said
where it is used.

A read is a hint, a won compare-and-set is the proof: Secrets Manager, Vault's standbys and OpenBao
clusters all serve old reads. So every write names the version that it follows, and nothing else
about a store can be relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from nightporter.core.record import PendingResult, Remains, Unreadable
from nightporter.core.values import dataclass

if TYPE_CHECKING:
    from nightporter.issuers.oauth import Request, Response


class Version(NamedTuple):
    """Names one state of a path, for the compare-and-set of the write that follows it.

    `token` is the store's own. `floor` is a number that no generation ever written to the path has
    exceeded, so that generations go on growing when the value itself is gone (expired, deleted).
    `proof` tells the same `token` of two lives of a path apart (deleted with its metadata and made
    again), where the store can.
    """

    token: str
    floor: int = 0
    proof: str = ""


ABSENT = Version("")


class _Found(NamedTuple):
    value: Mapping[str, Any] | Unreadable | None
    version: Version


class Stored(_Found):
    """What a read found: a pair of value and version, and what the store told beside it. `value`
    None: absent or expired; the version still serves for a compare-and-set.

    `expired` is the object whose `expires_at` has passed, `remains` what outlived a value that the
    store has taken away. `written_at` and `now` are Unix seconds on the store's clock: when this
    version was written, and when the store answered; None where it doesn't tell.
    """

    expired: Mapping[str, Any] | None
    remains: Remains | None
    written_at: float | None
    now: float | None

    def __new__(
        cls,
        value: Mapping[str, Any] | Unreadable | None,
        version: Version,
        *,
        expired: Mapping[str, Any] | None = None,
        remains: Remains | None = None,
        written_at: float | None = None,
        now: float | None = None,
    ) -> Stored:
        """Makes the pair."""
        found = super().__new__(cls, value, version)
        found.expired, found.remains = expired, remains
        found.written_at, found.now = written_at, now
        return found


@dataclass(frozen=True, slots=True)
class KeepExpiry:
    """For `expires_at`: leave the store's own expiry as it is (a claim must not give its short life
    to the record), but for at least `life_s` seconds."""

    life_s: int = 0


KEEP_EXPIRY: Final = KeepExpiry()


class Store(Protocol):
    """A place for JSON objects under paths, with compare-and-set and expiry.

    Every method raises StoreUnreachableError, StoreBusyError, StoreSealedError, StoreDeniedError or
    another StoreError. `timeout_s` bounds the call.
    """

    versions_per_day: int | None
    """How many versions a path takes in a day without end; None where there is no such limit."""

    def read(self, path: str, *, timeout_s: float) -> Stored:
        """Returns what is at the path. An object whose `expires_at` has passed has no value."""

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
        one. What the store did with it is read back, and put right where it can be.

        Raises: VersionConflictError: nothing was written. StoreValueError: too large.
        StoreLifeError: the store would delete it before its time. After StoreUnreachableError the
        outcome is unknown: the same call again is safe, and its conflict may be our own earlier
        success.
        """

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        """Makes the path's value unreachable, as far as the store can.

        Raises: VersionConflictError.
        """

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        """Makes earlier versions of the path unreachable, as far as the store can and our
        permissions go."""

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        """Makes what is expired or superseded at the path unreachable; whether there was something
        to do."""

    def disconnect(self) -> None:
        """Drops open connections and keeps the login: after a fork they belong to the other
        process."""

    def close(self) -> None:
        """Gives back what was opened (connections, a lease)."""


class Sender(Protocol):
    """The transport to one profile's issuer."""

    def send(
        self, request: Request, *, timeout_s: float, may_begin: Callable[[], bool] | None = None
    ) -> Response:
        """Returns the answer to a request, whatever its status.

        `may_begin` is asked when the connection is there, just before the first byte.

        Raises: IssuerUnreachableError: certainly not sent. OutcomeUnknownError: sent, or perhaps
        sent, and no whole answer within `timeout_s`. IssuerReplyError.
        """

    def disconnect(self) -> None:
        """Drops open connections: after a fork they belong to the other process."""


class Journal(Protocol):
    """What this machine keeps of a session record on its own disk: results that the store did not
    accept, and the highest state that was ever seen here."""

    path: str
    """For people: where it is."""

    def keep(self, pending: PendingResult) -> bool:
        """Returns whether the result is safe now."""

    def load(self) -> Sequence[PendingResult]:
        """Returns the kept results, the oldest first; those that can't be trusted are left out."""

    def drop(self, name: str) -> None:
        """Removes one kept result."""

    def highest(self, lineage: str) -> int:
        """Returns the highest generation of this lineage that was seen here; 0 where none was."""

    def note(self, lineage: str, generation: int) -> None:
        """Remembers a state that was seen. Never raises: a container has no such memory."""
