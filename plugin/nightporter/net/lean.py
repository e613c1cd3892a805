"""What the network libraries can do without, in a process of our own.

For the command alone: in a program that uses us as a library, they may be asked for all of it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

# Packages of which we use a module or two, and whose own code imports all the others.
PACKAGES = frozenset(
    (
        "hvac",
        "hvac.api",
        "hvac.api.auth_methods",
        "hvac.api.secrets_engines",
        "idna",
        "urllib3.http2",
    )
)
# Of the standard library: imported by requests, hvac and what they import, for what none of our
# calls does (archives, a host's name beyond ASCII, deprecated methods).
MODULES = frozenset(("bz2", "encodings.idna", "inspect", "lzma", "tokenize", "zipfile"))


def import_less() -> None:
    """Lets requests, urllib3 and hvac be imported without what none of our calls uses: a tenth of a
    cold start."""
    _leave_out_charsets()
    sys.meta_path.insert(0, _OnDemandFinder)


def _leave_out_charsets() -> None:
    """Keeps requests from importing chardet or charset_normalizer: they guess how a text is encoded
    whose answer doesn't say so, and we read bytes and JSON.

    None in sys.modules means "not installed" (Python reference, 5.3.1), which requests provides
    for (`requests.compat`, since 2.32), with a warning.
    """
    for name in ("chardet", "charset_normalizer"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # "not installed"
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")


class _OnDemandFinder:
    """Finds the packages above, with a loader that puts off their own code."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in PACKAGES | MODULES else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _OnDemandLoader(spec.loader.name, spec.loader.path)
        return spec


class _OnDemandLoader(SourceFileLoader):
    """Runs a package's own code when it is asked for a name that none of its modules has
    (`importlib.util.LazyLoader` would run it before the first of them)."""

    def exec_module(self, module: ModuleType) -> None:
        run = super().exec_module

        def find(name: str) -> Any:
            full_name = f"{module.__name__}.{name}"
            if name.startswith("__"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            places = getattr(module, "__path__", None)
            if places and PathFinder.find_spec(full_name, places):
                return importlib.import_module(full_name)
            del module.__getattr__
            run(module)
            return getattr(module, name)

        module.__getattr__ = find  # type: ignore[method-assign]  # PEP 562
