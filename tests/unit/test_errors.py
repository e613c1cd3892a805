"""An error travels: to a note for the next processes of this machine, and between processes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import nightporter
from nightporter.core.errors import NightporterError, from_members, to_members, with_profile

ROOMS = ("core", "issuers", "session", "net", "machine", "stores", "client")


def classes(root: type[NightporterError]) -> Iterator[type[NightporterError]]:
    yield root
    for kind in root.__subclasses__():
        yield from classes(kind)


def every_class() -> list[type[NightporterError]]:
    for room in ROOMS:
        package = importlib.import_module(f"nightporter.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = dict.fromkeys(classes(NightporterError))
    return [kind for kind in found if kind.__module__.startswith(f"{nightporter.__name__}.")]


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_stays_what_it_is(kind: type[NightporterError]) -> None:
    """A finer class of a store's own came back as a defect, with exit code 1."""
    error = kind.__new__(kind)
    NightporterError.__init__(error, "what happened", hint="what to do", retry_after_s=3.0)
    for name in ("error", "until"):
        if not hasattr(error, name):
            setattr(error, name, None if name == "until" else "code")
    found = from_members(to_members(error))
    assert (found.exit_code, found.reference) == (kind.exit_code, kind.reference)
    assert (found.message, found.hint) == ("what happened", "what to do")
    assert (found.retryable, found.retry_after_s) == (kind.retryable, 3.0)


def test_a_remedy_names_the_profile_and_leaves_variables_alone() -> None:
    """AWS_PROFILE became AWS_pitchpoint."""
    hint = "Set AWS_PROFILE, or run `nightporter seed PROFILE`."
    assert with_profile(hint, "acme") == "Set AWS_PROFILE, or run `nightporter seed acme`."
