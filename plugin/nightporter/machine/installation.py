"""How this nightporter was installed, and so how a library is added to it or it is removed.

Remedies are commands for this very environment. None names a package index for nightporter itself:
there is no release, and a name that is free there could be anybody's.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from enum import Enum
from pathlib import Path

from nightporter.core.errors import ConfigError
from nightporter.core.store_description import StoreDescription


class Installation(Enum):
    """The kinds of installation that remedies differ for."""

    PIPX = "pipx"
    UV_TOOL = "uv tool"
    ZIPAPP = "zipapp"
    LAMBDA = "lambda"
    PIP = "pip"


def detect(prefix: str | None = None) -> Installation:
    """Returns how this process's nightporter was installed. `prefix`: instead of `sys.prefix`."""
    root = Path(prefix or sys.prefix)
    if os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return Installation.LAMBDA
    if not Path(__file__).exists():  # inside an archive
        return Installation.ZIPAPP
    if (root / "pipx_metadata.json").exists():
        return Installation.PIPX
    if (root / "uv-receipt.toml").exists():
        return Installation.UV_TOOL
    return Installation.PIP


def install_command(distribution: str, *, prefix: str | None = None) -> str:
    """Returns what to type, or to do, so that this nightporter can import a library."""
    found = detect(prefix)
    python = shlex.quote(os.path.join(prefix, "bin", "python") if prefix else sys.executable)
    if found is Installation.PIPX:
        return f"pipx inject nightporter {distribution}"
    if found is Installation.UV_TOOL:
        return f"uv pip install --python {python} {distribution}"
    if found is Installation.ZIPAPP:
        return f"scripts/zipapp with {distribution}"
    if found is Installation.LAMBDA:
        return f"scripts/build-layer with {distribution}"
    return f"{python} -m pip install {distribution}"


def install_hint(description: StoreDescription, *, missing: str | None = None) -> str:
    """Returns the remedy for a store's library that is not installed.

    The extras of nightporter are named by their library, which can be had without a release.
    """
    extra = description.requirement.startswith("nightporter[")
    distribution = description.library if extra else description.requirement
    command = install_command(distribution or missing or description.library)
    if detect() in (Installation.ZIPAPP, Installation.LAMBDA):
        return f"Build it again: {command}."
    return f"Install it with `{command}`."


def uninstall_command(*, prefix: str | None = None) -> str:
    """Returns what removes the package itself."""
    found = detect(prefix)
    if found is Installation.PIPX:
        return "pipx uninstall nightporter"
    if found is Installation.UV_TOOL:
        return "uv tool uninstall nightporter"
    if found is Installation.PIP:
        return f"{shlex.quote(sys.executable)} -m pip uninstall nightporter"
    return f"rm {shlex.quote(os.path.abspath(sys.argv[0]))}"


def check_library(description: StoreDescription) -> None:
    """Raises: ConfigError where the store's library is not installed."""
    if description.library and importlib.util.find_spec(description.library) is None:
        raise ConfigError(
            f"the store type {description.type!r} needs the package {description.library!r},"
            " which is not installed",
            hint=install_hint(description),
        )
