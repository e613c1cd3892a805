"""What is wrong with a configuration, collected, so that the user corrects a file once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nightporter.core import checks
from nightporter.core.checks import Check
from nightporter.core.errors import ConfigError


class Findings:
    """The findings of one source. No finding repeats a value."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: list[str] = []

    def add(self, key: str, problem: str) -> None:
        """Notes what is wrong with a key."""
        self.lines.append(f"{self.source}: {key}: {problem}")

    def table(self, where: str, value: Any) -> dict[str, Any]:
        """Returns a table; an empty one, and a finding, where it is something else."""
        if isinstance(value, dict):
            return value
        self.add(where, "must be a table")
        return {}

    def check_keys(self, where: str, table: Mapping[str, Any], known: Mapping[str, Check]) -> None:
        """Notes unknown keys and wrong values."""
        for key, value in table.items():
            if key not in known:
                self.add(f"{where}.{key}", self.unknown_key(key, known))
            elif problem := known[key](value):
                self.add(f"{where}.{key}", problem)

    @staticmethod
    def unknown_key(key: str, known: Iterable[str]) -> str:
        """Returns what to say of a key that nobody knows."""
        if key in checks.SECRET_KEYS:
            return (
                "is an unknown key, and the file must not hold secret values: keep them in the"
                " store"
            )
        near = checks.nearest(key, list(known))
        return "is an unknown key" + (f"; did you mean {near[0]!r}?" if near else "")

    def missing(self, where: str, table: Mapping[str, Any], needed: Iterable[str]) -> None:
        """Notes the keys that are not there."""
        for key in needed:
            if key not in table:
                self.add(f"{where}.{key}", "is missing")

    def raise_if_any(self) -> None:
        """Raises: ConfigError with all findings."""
        if self.lines:
            count = len(self.lines)
            what = "one error" if count == 1 else f"{count} errors"
            raise ConfigError(
                f"{self.source}: {what} in the configuration", problems=tuple(self.lines)
            )
