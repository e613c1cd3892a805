"""How this nightporter was installed, and so how a library is added to it, and how it is installed
again or removed.

Remedies are commands for this very environment. None names a package index for nightporter itself:
there is no release, and a name that is free there could be anybody's. What is named is the source
that this installation was made from, which pip notes beside the package (PEP 610).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from nightporter.core.errors import ConfigError
from nightporter.core.store_description import StoreDescription
from nightporter.machine.lambda_time import is_lambda

CLONE = "./nightporter"  # a clone, where the source isn't known any more


class Installation(Enum):
    """The kinds of installation that remedies differ for."""

    PIPX = "pipx"
    UV_TOOL = "uv tool"
    ZIPAPP = "zipapp"
    LAMBDA = "lambda"
    CONTAINER = "container"
    PIP = "pip"


def detect(prefix: str | None = None) -> Installation:
    """Returns how this process's nightporter was installed. `prefix`: instead of `sys.prefix`."""
    root = Path(prefix or sys.prefix)
    if is_lambda(os.environ):
        return Installation.LAMBDA
    if not Path(__file__).exists():  # inside an archive
        return Installation.ZIPAPP
    if (root / "pipx_metadata.json").exists():
        return Installation.PIPX
    if (root / "uv-receipt.toml").exists():
        return Installation.UV_TOOL
    if _is_container() and not os.access(root, os.W_OK):
        return Installation.CONTAINER
    return Installation.PIP


def _is_container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) or any(map(os.path.exists, marks))


def source() -> str | None:
    """Returns the directory, archive or repository that this was installed from, where pip noted
    it."""
    from importlib.metadata import PackageNotFoundError, distribution  # deferred: only a remedy

    try:
        noted: Any = json.loads(distribution("nightporter").read_text("direct_url.json") or "{}")
        url = str(noted["url"])
    except (PackageNotFoundError, OSError, ValueError, KeyError, TypeError):
        return None
    if "vcs_info" in noted:
        return f"{noted['vcs_info'].get('vcs', 'git')}+{url}"
    parts = urlsplit(url)
    return url2pathname(parts.path) if parts.scheme == "file" else url


def requirement(extras: Sequence[str] = ()) -> str:
    """Returns what pip, pipx or uv is given to install nightporter again, quoted for a shell."""
    found, suffix = source(), f"[{','.join(extras)}]" if extras else ""
    if found is None:
        return f"'{CLONE}{suffix}'"
    if "://" in found:
        return shlex.quote(f"nightporter{suffix} @ {found}")
    return shlex.quote(f"{found}{suffix}")


def _python(prefix: str | None) -> str:
    return shlex.quote(os.path.join(prefix, "bin", "python") if prefix else sys.executable)


def install_command(
    distribution: str, *, prefix: str | None = None, is_upgrade: bool = False
) -> str:
    """Returns what to type so that this nightporter can import a library. `distribution`: as a
    shell takes it, so with quotes where it names an extra. `is_upgrade`: an older one is there."""
    found, python = detect(prefix), _python(prefix)
    wanted = f"--upgrade {distribution}" if is_upgrade else distribution
    if found is Installation.PIPX:
        name = shlex.quote(Path(prefix or sys.prefix).name)
        if is_upgrade:  # `inject` leaves what is there as it is
            return f"pipx runpip {name} install {wanted}"
        return f"pipx inject {name} {wanted}"
    if found is Installation.UV_TOOL:
        return f"uv pip install --python {python} {wanted}"
    if found is Installation.PIP and importlib.util.find_spec("pip") is None:
        if shutil.which("uv"):
            return f"uv pip install --python {python} {wanted}"
        return f"{python} -m ensurepip && {python} -m pip install {wanted}"
    return f"{python} -m pip install {_user_options()}{wanted}"


def _user_options() -> str:
    """What pip must be told outside of a virtual environment."""
    import site  # deferred: only a remedy
    import sysconfig

    if sys.prefix != sys.base_prefix:
        return ""
    options = "--user " if __file__.startswith(str(site.getusersitepackages())) else ""
    marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return f"{options}--break-system-packages " if os.path.exists(marker) else options


def library_hint(distribution: str, *, is_upgrade: bool = False) -> str:
    """Returns the remedy for a library that is not installed, or (`is_upgrade`) is too old."""
    found = detect()
    if found is Installation.LAMBDA:
        what = "a newer " if is_upgrade else ""
        layer = " (nightporter-layer-vault.zip, which scripts/build-layer writes, holds it)"
        where = layer if distribution == "hvac" else ""
        return f"Add {what}{distribution} to the function or its layers{where}."
    if found is Installation.CONTAINER:
        wanted = f"--upgrade {distribution}" if is_upgrade else distribution
        line = f"RUN {shlex.quote(sys.executable)} -m pip install {wanted}"
        return f"Add it where the image is built: `{line}`."
    return f"Install it with `{install_command(distribution, is_upgrade=is_upgrade)}`."


def install_hint(description: StoreDescription, *, missing: str | None = None) -> str:
    """Returns the remedy for a store's library that is not installed.

    The extras of nightporter are named by their library, which can be had without a release.
    """
    extra = description.requirement.startswith("nightporter[")
    distribution = description.library if extra else description.requirement
    return library_hint(distribution or missing or description.library)


def install_again_command(extras: Sequence[str] = ()) -> str:
    """Returns what installs nightporter again in the way in which it is installed now."""
    found = detect()
    if found is Installation.PIPX:
        return f"pipx install {requirement(extras)}"
    if found is Installation.UV_TOOL:
        return f"uv tool install {requirement(extras)}"
    if found is Installation.PIP and importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {_python(None)} {requirement(extras)}"
    if found is Installation.PIP:
        return f"{_python(None)} -m pip install {_user_options()}{requirement(extras)}"
    return "./scripts/zipapp in a clone of nightporter"


def keyring_command() -> str:
    """Returns what puts the command `keyring` on PATH, with nightporter's backend in it."""
    found = detect()
    if found is Installation.PIPX:
        return f"pipx install keyring && pipx inject keyring {requirement()}"
    if found is Installation.UV_TOOL:
        return f"uv tool install keyring --with {requirement()}"
    return install_command("keyring")


def client_hint(description: StoreDescription) -> str:
    """Returns what a client tells its user where it can't find the command (kubectl's
    `installHint`)."""
    wanted = description.requirement
    extras = [wanted[len("nightporter[") : -1]] if wanted.startswith("nightporter[") else []
    return f"nightporter is not on PATH; it was installed with: {install_again_command(extras)}"


def path_hint(program: str) -> str:
    """Returns what puts a command of this installation on PATH."""
    found = detect()
    if found is Installation.PIPX:
        return "Run `pipx ensurepath`, open a new terminal, and repeat."
    if found is Installation.UV_TOOL:
        return "Run `uv tool update-shell`, open a new terminal, and repeat."
    here = shlex.quote(os.path.join(os.path.dirname(sys.executable), program))
    link = f"mkdir -p ~/.local/bin && ln -sf {here} ~/.local/bin/"
    return f"Run `{link}` (or take another directory that is on PATH), and repeat."


def uninstall_command(*, prefix: str | None = None) -> str:
    """Returns what removes the package itself."""
    found = detect(prefix)
    if found is Installation.PIPX:
        return f"pipx uninstall {shlex.quote(Path(prefix or sys.prefix).name)}"
    if found is Installation.UV_TOOL:
        return "uv tool uninstall nightporter"
    if found is Installation.ZIPAPP:
        return f"rm {shlex.quote(os.path.abspath(sys.argv[0]))}"
    if found is Installation.PIP and importlib.util.find_spec("pip") is None:
        return f"uv pip uninstall --python {_python(prefix)} nightporter"
    return f"{_python(prefix)} -m pip uninstall nightporter"


def check_library(description: StoreDescription) -> None:
    """Raises: ConfigError where the store's library is not installed."""
    if description.library and importlib.util.find_spec(description.library) is None:
        raise ConfigError(
            f"the store type {description.type!r} needs the package {description.library!r},"
            " which is not installed",
            hint=install_hint(description),
        )
