"""What this machine keeps of session records on its own disk: results that the store did not
accept, and the highest state that was seen here.

An exchange has been paid for when its result is written, and a rotated refresh token exists nowhere
else. One file a result, 0600 in the data directory, named by a hash of the record's path alone: the
store's address may be spelled differently today.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from typing import Any

from nightporter.core.errors import NightporterError
from nightporter.core.limits import LAST_GENERATION
from nightporter.core.record import PendingResult
from nightporter.machine.files import close_directory, read_private, remove, replace_private
from nightporter.machine.seal import KeyringSeal

SCHEMA = 1
KEPT_LINEAGES = 16


class FileJournal:
    """The files of one record. `path` is the directory of results, for people; what was seen is
    beside it."""

    def __init__(
        self, directory: str, record_path: str, *, seal: KeyringSeal | None = None
    ) -> None:
        self.path = directory
        self._seal = seal
        self._seen_path = os.path.join(os.path.dirname(directory), "seen")
        self._stem = hashlib.sha256(record_path.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def keep(self, pending: PendingResult) -> bool:
        """Returns whether the result is safe on this disk."""
        content = json.dumps(
            {
                "schema": SCHEMA,
                "nonce": pending.nonce,
                "record": dict(pending.record),
                "at": pending.at,
                "sign_in": pending.is_sign_in,
            }
        ).encode()
        name = f"{self._stem}.{secrets.token_hex(8)}.json"
        return self._write(self.path, name, self._sealed(content), is_only_copy=True)

    def _sealed(self, content: bytes) -> bytes:
        """As it is where the keyring can't be asked: the only copy of a refresh token is worth more
        than the seal."""
        if self._seal is None:
            return content
        with contextlib.suppress(NightporterError):
            return json.dumps({"schema": SCHEMA, "sealed": self._seal.close(content)}).encode()
        return content

    def _unsealed(self, document: dict[str, Any]) -> dict[str, Any]:
        if self._seal is None or "sealed" not in document:
            return document
        try:
            found = json.loads(self._seal.open(str(document["sealed"])))
        except (NightporterError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def load(self) -> Sequence[PendingResult]:
        """Returns the kept results, the oldest first; those that can't be trusted are left out."""
        try:
            names = [name for name in os.listdir(self.path) if self._is_pending(name)]
        except OSError:
            return ()
        found = [pending for name in names if (pending := self._parse(name)) is not None]
        return sorted(found, key=lambda pending: (pending.at, pending.name))

    def drop(self, name: str) -> None:
        """Removes one kept result."""
        if self._is_pending(name):
            remove(os.path.join(self.path, name))

    def highest(self, lineage: str) -> int:
        """Returns the highest generation of this lineage that was seen here; 0 where none was."""
        return self._seen().get(lineage, 0)

    def note(self, lineage: str, generation: int) -> None:
        """Remembers a state that was seen, unless a newer one was. Never raises. After a power cut
        the note before it may be there, whole."""
        seen = self._seen()
        if seen.get(lineage, -1) >= generation:
            return
        seen.pop(lineage, None)
        newest = list(seen.items())[-(KEPT_LINEAGES - 1) :]
        content = {"schema": SCHEMA, "lineages": dict([*newest, (lineage, generation)])}
        self._write(self._seen_path, f"{self._stem}.json", json.dumps(content).encode())

    def _is_pending(self, name: str) -> bool:
        return name.startswith(f"{self._stem}.") and name.endswith(".json")

    def _write(
        self, directory: str, name: str, content: bytes, *, is_only_copy: bool = False
    ) -> bool:
        try:
            if not close_directory(directory):
                return False
            path = os.path.join(directory, name)
            replace_private(path, content, is_only_copy=is_only_copy)
        except OSError:
            return False
        return True

    def _read(self, directory: str, name: str) -> dict[str, Any]:
        try:
            content = read_private(os.path.join(directory, name))
            document = json.loads(content) if content else None
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            return {}
        return document

    def _parse(self, name: str) -> PendingResult | None:
        document = self._unsealed(self._read(self.path, name))
        if not isinstance(document.get("record"), dict):
            return None
        at = document.get("at")
        return PendingResult(
            nonce=str(document.get("nonce", "")),
            record=document["record"],
            at=at if isinstance(at, int) else 0,
            is_sign_in=document.get("sign_in") is True,
            name=name,
        )

    def _seen(self) -> dict[str, int]:
        lineages = self._read(self._seen_path, f"{self._stem}.json").get("lineages")
        if not isinstance(lineages, dict):
            return {}
        return {
            key: value
            for key, value in lineages.items()
            if isinstance(value, int) and 0 <= value <= LAST_GENERATION
        }
