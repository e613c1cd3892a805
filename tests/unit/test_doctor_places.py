"""What doctor finds in our directories, while other processes use them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nightporter.operations.doctor_places import place_findings
from nightporter.operations.findings import Finding


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory with a file that a killed process left, and one that others can read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    for name, mode in (("a.token.tmp", 0o600), ("b.token", 0o644)):
        (directory / name).write_text("{}")
        (directory / name).chmod(mode)
    long_ago = time.time() - 7200
    os.utime(directory / "a.token.tmp", (long_ago, long_ago))
    return directory


def examine(cache: Path, *, is_repair: bool) -> list[Finding]:
    """The findings of the files, without those of other directories."""
    environment = {"NIGHTPORTER_CACHE_DIR": str(cache), "HOME": str(cache.parent)}
    found = place_findings(environment, is_repair=is_repair)
    return [item for item in found if str(cache) in item.what and item.level != "ok"]


def test_a_file_that_goes_away_meanwhile(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process has removed since the directory was read is no finding, and no end of
    the examination."""
    names = os.listdir(cache)
    monkeypatch.setattr("os.listdir", lambda _: [*names, "gone.token", "gone.token.tmp"])
    assert [os.path.basename(item.what.split()[0]) for item in examine(cache, is_repair=False)] == [
        "a.token.tmp",
        "b.token",
    ]


def test_a_file_that_cannot_be_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair that the system refuses is told, and the next file is still looked at."""

    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr("os.unlink", refuse)
    told = [item.what for item in examine(cache, is_repair=True)]
    assert [what for what in told if "can't be put right (Operation not permitted)" in what] == told
    assert len(told) == 2


def test_a_repair(cache: Path) -> None:
    """Both are gone, and a second look finds nothing."""
    assert examine(cache, is_repair=True) == []
    assert os.listdir(cache) == []
    assert examine(cache, is_repair=False) == []
