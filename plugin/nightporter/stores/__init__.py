"""The adapters of the stores, and the table of their descriptions.

Ours are listed here; those of others come by the entry point group `nightporter.stores`, whose
names are the types and whose values are descriptions. Entry points are looked at only for a type
that isn't built in, or where all types are listed: a cached answer never pays for them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Final

from nightporter.core.errors import ConfigError
from nightporter.core.store_description import StoreDescription

GROUP: Final = "nightporter.stores"
OURS: Final[Mapping[str, str]] = {
    "local": "nightporter.stores.local_description",
    "vault": "nightporter.stores.vault_description",
    "aws-secrets-manager": "nightporter.stores.secrets_manager_description",
}


class Stores(Mapping[str, StoreDescription]):
    """Descriptions by type, each loaded when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, StoreDescription] = {}

    def __getitem__(self, kind: str) -> StoreDescription:
        """Returns the description of a type.

        Raises: KeyError for an unknown type; ConfigError where its package can't be loaded.
        """
        if kind not in self._loaded:
            self._loaded[kind] = _load(kind)
        return self._loaded[kind]

    def __iter__(self) -> Iterator[str]:
        return iter([*OURS, *sorted(set(_entry_points()) - set(OURS))])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _load(kind: str) -> StoreDescription:
    if kind in OURS:
        return importlib.import_module(OURS[kind]).DESCRIPTION  # type: ignore[no-any-return]
    found = _load_foreign(kind)
    if not isinstance(found, StoreDescription) or found.type != kind:
        raise ConfigError(
            f"the entry point {kind!r} of {GROUP} is not the description of a store of that type",
            hint="Ask the author of the package that brings it, or uninstall it.",
        )
    return found


def _load_foreign(kind: str) -> object:
    named = _entry_points()
    if kind not in named:
        raise KeyError(kind)
    module, _, attribute = named[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute or "DESCRIPTION")
    except Exception as exc:
        raise ConfigError(
            f"the store type {kind!r} can't be loaded from {module}: {type(exc).__name__}",
            hint="Reinstall the package that brings it, or ask its author.",
        ) from exc


def _entry_points() -> dict[str, str]:
    import importlib.metadata  # deferred: 20 ms that a store of our own doesn't need

    return {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}


STORES: Final = Stores()
