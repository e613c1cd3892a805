"""What tests/conftest.py promises of every run: none hangs, and an order can be had again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lab.patience import patience
from lab.support import ROOT

HANGING = "import threading\ndef test_it():\n    threading.Event().wait()\n"
NUMBERED = (
    "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_it(n): print('ran', n)\n"
)


def run_suite(directory: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a suite of this one file as ours is run."""
    (directory / "test_it.py").write_text(content)
    common = ["-c", str(ROOT / "pyproject.toml"), "-p", "conftest", "-p", "no:cacheprovider", "-s"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *common, *options, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


def test_a_test_that_hangs_fails_and_shows_where(tmp_path: Path) -> None:
    """A regression that waits for ever would hold CI up, and say nothing."""
    done = run_suite(tmp_path, HANGING, "--timeout=0.5")
    assert done.returncode == 1, done.stdout
    assert "Timeout" in done.stdout
    assert "threading.Event().wait()" in done.stdout


def test_an_order_can_be_had_again(tmp_path: Path) -> None:
    """The seed is printed, and what it is given for is the same order."""
    first = run_suite(tmp_path, NUMBERED)
    (seed,) = re.findall(r"the same order again: --randomly-seed=(\d+)", first.stdout)
    again = run_suite(tmp_path, NUMBERED, f"--randomly-seed={seed}")
    orders = [re.findall(r"ran (\d)", done.stdout) for done in (first, again)]
    assert sorted(orders[0]) == [str(number) for number in range(9)]
    assert orders[0] == orders[1]
