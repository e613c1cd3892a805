"""What is not said is not so: every default of every data class in the pure rooms is nothing, but
for those that are named here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

from nightporter.core.values import fields
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version

ROOMS = ("core", "issuers", "protocols", "session")
SOMETHING: dict[tuple[str, str], Any] = {
    ("Backoff", "first_s"): 0.25,
    ("Backoff", "max_s"): 4.0,
    ("Claim", "life_s"): 16,
    ("Dialect", "access_life_s"): 3_600,
    ("Dialect", "token_types"): frozenset({"bearer"}),
    ("ExecAsk", "api_version"): "client.authentication.k8s.io/v1",
    ("Request", "method"): "POST",
    ("SessionRecord", "token_type"): "Bearer",
    ("Settings", "interval_s"): 60.0,
    ("Settings", "timeout_s"): 10.0,
    ("Sight", "can_mark"): True,
    ("Vendor", "module"): "nightporter.issuers.oauth2",
    ("Vendor", "refresh_needs"): frozenset({"client_id"}),
}


def classes() -> Iterator[type]:
    for room in ROOMS:
        package = importlib.import_module(f"nightporter.{room}")
        for item in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(item.name)
            for kind in vars(module).values():
                if isinstance(kind, type) and kind.__module__ == item.name:
                    yield kind


def defaults(kind: type) -> Iterator[tuple[str, Any]]:
    for one in fields(kind) if "__fields__" in vars(kind) else ():
        factory: Any = getattr(one, "factory", None)
        value = factory() if factory else one.default
        if isinstance(value, (bool, int, float, str, tuple, frozenset, set, dict, type(None))):
            yield one.name, value


def test_what_is_not_said_is_not_so() -> None:
    """A record of an older version, a profile without a key, an ask that says nothing more."""
    every = list(classes())
    assert len(every) > 60
    found = {(kind.__name__, name): value for kind in every for name, value in defaults(kind)}
    assert {key: value for key, value in found.items() if value} == SOMETHING
    assert all(
        value in (False, 0, None) or len(value) == 0 for value in found.values() if not value
    )


def test_a_store_s_words_say_nothing_of_themselves() -> None:
    """A version without a floor or a proof, an expiry that is kept as it is."""
    assert Version("1") == Version("1", 0, "")
    assert KeepExpiry() == KeepExpiry(0)
    assert (ABSENT.floor, ABSENT.proof) == (0, "")
    seen = Stored(None, ABSENT)
    assert (seen.expired, seen.remains, seen.written_at, seen.now) == (None, None, None, None)
    told = Stored({"a": 1}, Version("7", 7), expired={"b": 2}, written_at=3.0, now=4.0)
    assert (told.value, told.version, told.expired) == ({"a": 1}, Version("7", 7), {"b": 2})
    assert (told.written_at, told.now) == (3.0, 4.0)
