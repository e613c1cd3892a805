"""A clone of this repository, as far as it is needed, with a newer revision on top of an older."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab.support import ROOT

NEWER = "# What the newer revision has changed.\n"


def clone_of_two(place: Path) -> Path:
    """Makes a repository of two revisions. The newer one changes a module of the package."""
    for name in ("scripts", "plugin", "terraform"):
        shutil.copytree(
            ROOT / name,
            place / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", ".terraform*", "*.tfstate*"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    (place / ".gitignore").write_text(f"{(ROOT / '.gitignore').read_text()}.venv\n")
    changed = place / "plugin/nightporter/aws_lambda.py"
    _git(place, "init", "-q", "-b", "main")
    _git(place, "add", ".")
    _git(place, "commit", "-q", "-m", "the revision before")
    changed.write_text(f"{changed.read_text()}{NEWER}")
    _git(place, "commit", "-q", "-a", "-m", "the newer revision")
    return place


def _git(place: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "gc.auto=0")
    subprocess.run(["git", "-C", str(place), *identity, *words], check=True, capture_output=True)
