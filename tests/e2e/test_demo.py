"""The demo: a small environment of its own, the main job, and a sandbox to go on with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.patience import patience, until
from lab.support import ROOT, Home, clean_environment

pytestmark = pytest.mark.clients
COPIED = ("scripts", "plugin", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A clone in which nothing has been set up."""
    place = tmp_path / "clone"
    place.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, place / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True
            )
        else:
            shutil.copy(source, place / name)
    yield place
    subprocess.run([place / "scripts/demo", "--end"], check=True)


def demo(place: Path, home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), "HOME": str(home.path)}
    done = subprocess.run(
        [place / "scripts/demo", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(180),
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_demo_needs_the_core_alone_and_goes_on_by_hand(clone: Path, empty_home: Home) -> None:
    first = demo(clone, empty_home)
    assert first.stdout.count('"kind": "ExecCredential"') == 3
    assert "making .core" in first.stderr
    size = sum(file.stat().st_size for file in (clone / ".core").rglob("*") if file.is_file())
    assert size < 100_000_000
    assert not (clone / ".venv").exists()
    assert sorted(empty_home.path.rglob("*nightporter*")) == []
    kept = demo(clone, empty_home, "--keep")
    assert ". .demo/activate" in kept.stdout
    assert "making" not in kept.stderr  # it is there
    pid = int((clone / ".demo/sandbox.pid").read_text())
    os.kill(pid, 0)
    line = (
        '. .demo/activate && nightporter init second --issuer pitchpoint --base-url "$SANDBOX"'
        " --store local --credentials demo/pitchpoint --set refresh_token=demo/second"
        " && nightporter status"
    )
    done = subprocess.run(["sh", "-c", line], cwd=clone, capture_output=True, text=True)
    assert "it works" in done.stderr, done.stderr
    assert re.search(r"^second .*demo/second", done.stdout, re.M)
    subprocess.run([clone / "scripts/demo", "--end"], check=True)
    assert not (clone / ".demo").exists()
    until(lambda: _is_gone(pid))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
