"""Failures that a client kept to itself: docker, Terraform, pip and others go on without a token
and say nothing.

The helper notes them here, one a protocol and profile, for `status` and `doctor`; the next success
takes the note away. Holds no secret: our messages never do.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from nightporter.core.values import asdict, dataclass

NAME = "helpers.failures"
SCHEMA = 1
KEPT_S = 7 * 86_400
MAX_KEPT = 50


class Place(Protocol):
    """Where named bytes are kept. Nothing here raises: what fails is a miss."""

    def load(self, name: str) -> bytes | None:
        """Returns the bytes kept under the name, or None."""

    def keep(self, name: str, content: bytes) -> None:
        """Keeps the bytes under the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperFailure:
    """`profile` is None where none was found: a broken configuration, a hostile ask. `at`: Unix
    seconds."""

    protocol: str
    profile: str | None
    at: int
    reference: str
    message: str


class HelperFailures:
    """The notes of one machine's user."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def load(self, now: float) -> list[HelperFailure]:
        """The notes of the last week, the newest first. What can't be read is none."""
        try:
            document = json.loads(self._place.load(NAME) or b"{}")
            notes = document["failures"] if document.get("schema") == SCHEMA else []
            found = [_parse(note) for note in notes]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return []
        return sorted(
            (note for note in found if 0 <= now - note.at < KEPT_S), key=lambda note: -note.at
        )

    def keep(self, failure: HelperFailure) -> None:
        """Replaces the note of the same protocol and profile."""
        self._save([failure, *self._others(failure.protocol, failure.profile, failure.at)])

    def drop(self, protocol: str, profile: str, now: float) -> None:
        """After a success. Writes only where there is something to take away."""
        notes, kept = self.load(now), self._others(protocol, profile, now)
        if len(kept) < len(notes):
            self._save(kept)

    def _others(self, protocol: str, profile: str | None, now: float) -> list[HelperFailure]:
        """A note without a profile is replaced by whatever happens next in that protocol."""
        return [
            note
            for note in self.load(now)
            if note.protocol != protocol or note.profile not in (profile, None)
        ]

    def _save(self, notes: list[HelperFailure]) -> None:
        document = {"schema": SCHEMA, "failures": [asdict(note) for note in notes[:MAX_KEPT]]}
        self._place.keep(NAME, json.dumps(document).encode())


def _parse(note: Any) -> HelperFailure:
    profile, at = note["profile"], int(note["at"])
    if not 0 <= at < 1 << 53:
        raise ValueError("at")
    return HelperFailure(
        protocol=str(note["protocol"]),
        profile=None if profile is None else str(profile),
        at=at,
        reference=str(note["reference"]),
        message=str(note["message"]),
    )
