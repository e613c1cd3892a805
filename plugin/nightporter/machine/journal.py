"""Results that could not be saved: kept in a private file until the store is back.

An exchange has been paid for when its result is written, and a rotated refresh token exists nowhere
else. One file a session record, 0600 in the data directory, named by a hash of store and path.
"""

from __future__ import annotations

import json
import os

from nightporter.core.record import Spilled
from nightporter.machine.files import close_directory, read_private, remove, replace_private


class Spill:
    """The file of one record. `name` tells it from every other record of every other store."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self.path = os.path.join(directory, f"{name}.json")

    def keep(self, spilled: Spilled) -> bool:
        """Whether the result is safe on this disk."""
        content = json.dumps(
            {"schema": 1, "nonce": spilled.nonce, "record": dict(spilled.record), "at": spilled.at}
        ).encode()
        try:
            if not close_directory(self._directory):
                return False
            replace_private(self.path, content)
        except OSError:
            return False
        return True

    def load(self) -> Spilled | None:
        """The kept result; None where there is none that can be trusted."""
        try:
            content = read_private(self.path)
            document = json.loads(content) if content else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or not isinstance(document.get("record"), dict):
            return None
        at = document.get("at")
        return Spilled(
            nonce=str(document.get("nonce", "")),
            record=document["record"],
            at=at if isinstance(at, int) else 0,
        )

    def drop(self) -> None:
        remove(self.path)
