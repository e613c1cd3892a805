"""What a store may be able to do beyond the port that sessions use.

Each is asked for with `isinstance`, and what a store can't do is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from nightporter.core.values import dataclass


@runtime_checkable
class Inspected(Protocol):
    """A store that can say which rights are missing (`doctor`)."""

    def missing_rights(
        self, reads: Sequence[str], writes: Sequence[str], *, timeout_s: float
    ) -> list[str]:
        """Returns the rights that are missing, in the store's own words, as far as it tells
        without anything being changed.

        `reads`: paths that are read only; `writes`: paths that are read and written.

        Raises: StoreError.
        """


@runtime_checkable
class Located(Protocol):
    """A store that says where it is and as whom it is asked (`doctor`)."""

    def whereabouts(self) -> str:
        """Returns it in a few words without a secret, once the store has answered."""


@runtime_checkable
class Removable(Protocol):
    """A store with a way of its own to remove a secret that a person keeps there (`credentials
    delete`). The port's `delete` is for session records."""

    def remove(self, path: str, *, timeout_s: float) -> str:
        """Removes the secret, if it is there. Returns what a person should know of it, or "".

        Raises: StoreError.
        """


@dataclass(frozen=True, slots=True)
class LifeLimit:
    """What lets a store delete by itself what is written, after how many seconds, and how that is
    lifted."""

    source: str
    seconds: int
    todo: str


@runtime_checkable
class Expiring(Protocol):
    """A store that deletes by itself what is old, and may be set up to do so too early."""

    def life_limit(self, path: str, *, timeout_s: float) -> LifeLimit | None:
        """Returns what limits the life of what is written at the path; None where nothing does, or
        nobody may look.

        Raises: StoreError.
        """


@runtime_checkable
class Labelled(Protocol):
    """A store whose current version is a label that a person can move back (`doctor --repair`)."""

    def newer_than_current(self, path: str) -> tuple[str, str] | None:
        """Returns the current version and the newest of its successors, where the label was moved
        back; else None.

        Raises: StoreError.
        """

    def move_current(self, path: str, to_version_id: str, from_version_id: str) -> None:
        """Moves the label.

        Raises: VersionConflictError when it isn't at `from_version_id`.
        """


@runtime_checkable
class Staged(Labelled, Protocol):
    """A store with a version that waits to become the current one (Secrets Manager's own
    rotation)."""

    def stages(self, path: str) -> Mapping[str, list[str]]:
        """Returns the labels of each version."""

    def read_version(self, path: str, version_id: str) -> Mapping[str, Any] | None:
        """Returns the value of one version; None while it has none."""

    def write_pending(
        self,
        path: str,
        version_id: str,
        value: Mapping[str, Any],
        *,
        rotation_token: str | None = None,
    ) -> None:
        """Gives the pending version its value. `rotation_token`: with which a caller of another
        account proves that it was called (PutSecretValue, RotationToken)."""

    def drop_pending(self, path: str, version_id: str) -> None:
        """Takes the pending label off, if it is there."""

    def fence(self, path: str, version_id: str, value: Mapping[str, Any]) -> None:
        """Writes a successor to a superseded version, so that a stale writer's compare-and-set
        fails."""
