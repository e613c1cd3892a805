"""What the network libraries can do without, in a process of our own.

For the command alone: in a program that uses us as a library, they may be asked for all of it.
"""

from __future__ import annotations

import importlib
import sys
import threading
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
# calls does (archives, deprecated methods, the source of a traceback).
MODULES = frozenset(("bz2", "inspect", "lzma", "tokenize", "zipfile"))


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
        is_meant = name in PACKAGES or name in MODULES
        spec = PathFinder.find_spec(name, path, target) if is_meant else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _OnDemandLoader(spec.loader.name, spec.loader.path)
        return spec


class _OnDemandLoader(SourceFileLoader):
    """Runs a module's own code when it is asked for a name that none of its modules has
    (`importlib.util.LazyLoader` would run it before the first of them)."""

    def exec_module(self, module: ModuleType) -> None:
        run = super().exec_module
        places = getattr(module, "__path__", ()) if module.__name__ in PACKAGES else ()
        turn, is_running = threading.RLock(), False

        def find(name: str) -> Any:
            nonlocal is_running
            full_name = f"{module.__name__}.{name}"
            is_asked = not name.startswith("__")
            if is_asked and places and PathFinder.find_spec(full_name, places):
                return importlib.import_module(full_name)
            with turn:  # another thread waits until all of it is there
                if not is_asked or is_running:
                    raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
                if vars(module).get("__getattr__") is find:
                    is_running = True
                    try:
                        run(module)
                    finally:
                        is_running = False
                    del module.__getattr__
            return getattr(module, name)

        module.__getattr__ = find  # type: ignore[method-assign]  # PEP 562
