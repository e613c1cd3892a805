"""The private copy of this tree that faults are tried in, so that the tree may change meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / os.environ.get("MUTATION_WORK", ".mutation")  # also what is known already
COPY = WORK / "copy"
PACKAGE = "plugin/nightporter"
COPIED = ("plugin", "tests", "scripts", "terraform", "pyproject.toml", "README.md", "CHANGELOG.md")


def make_copy() -> Path:
    """Brings the copy up to date: this tree's files, and a Python of its own that finds them.

    Returns the copy's Python.
    """
    COPY.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.rmtree(COPY / name, ignore_errors=True)
            shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, COPY / name)
    if not (COPY / ".venv/bin/python").exists():
        venv.create(COPY / ".venv", symlinks=True)
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    paths = f"{COPY / 'plugin'}\n{ROOT / '.venv' / library}\n"
    (COPY / ".venv" / library / "copy.pth").write_text(paths)
    for command in (ROOT / ".venv/bin").iterdir():
        if not command.name.startswith(("python", "activate", "Activate")):
            _place_command(command, COPY / ".venv/bin" / command.name)
    return COPY / ".venv/bin/python"


def _place_command(command: Path, place: Path) -> None:
    """Links a command of the environment into the copy's; one of ours gets the copy's Python."""
    place.unlink(missing_ok=True)
    launcher = ROOT / PACKAGE / "launchers" / command.name
    if launcher.exists():
        shutil.copy2(launcher, place)
    elif command.name == "nightporter-python":
        own = command.read_text().replace(str(ROOT / ".venv"), str(COPY / ".venv"))
        place.write_text(own)
        place.chmod(0o755)
    else:
        place.symlink_to(command)
