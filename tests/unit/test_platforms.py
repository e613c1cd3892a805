"""Branches of macOS and Windows, played by fakes on Linux: that they are what is written here, not
that those systems are as the fakes say. `plugin/docs/platforms.md` lists them all."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import platformdirs.macos
import platformdirs.windows
import pytest

from nightporter.core.model import Claim
from nightporter.machine import (
    children,
    client_input,
    files,
    places,
    process,
    reply,
    streams,
    trust,
)

ROOT = Path(__file__).resolve().parents[2]


def copy_of(module: ModuleType) -> ModuleType:
    """The module as another system would load it."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_elsewhere", module.__file__)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class Msvcrt(ModuleType):
    """`msvcrt.locking`: EACCES where somebody holds the byte."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.taken: set[tuple[int, int]] = set()

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in self.taken:
            raise OSError(errno.EACCES, "Permission denied")
        self.taken.add((status.st_dev, status.st_ino))


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Msvcrt:
    """No users, no fcntl, no fork; `os.name` is left alone, since pathlib would follow it. What
    pytest does with `tmp_path` comes before it and after."""
    locks = Msvcrt()
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name in ("geteuid", "getuid", "fork", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(sys, "platform", "win32")
    return locks


def test_a_lock_of_windows_is_held_by_one(windows: Msvcrt, tmp_path: Path) -> None:
    """By msvcrt, which says EACCES to the second; that is "taken", not an error."""
    there = copy_of(files)
    path = str(tmp_path / "lock")
    with there.open_lock(path, deadline=0.0) as first, there.open_lock(path, deadline=0.0) as next_:
        assert (first, next_) == (True, False)


def test_files_of_windows_are_written_and_read(windows: Msvcrt, tmp_path: Path) -> None:
    """Without O_NOFOLLOW, O_CLOEXEC and user ids."""
    there = copy_of(files)
    path = str(tmp_path / "file")
    there.replace_private(path, b"content")
    assert there.read_private(path) == b"content"
    with open(path, "rb") as file:
        assert there.is_own_regular_file(file.fileno())


def test_a_file_of_windows_is_private_by_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its modes say nothing: the profile directory's ACL keeps others out."""
    monkeypatch.setattr(os, "name", "nt")
    wide = os.stat_result((0o100666, *[0] * 9))
    assert files._is_private(wide)
    monkeypatch.setattr(os, "name", "posix")
    assert not files._is_private(wide)


def test_nothing_on_windows_asks_for_users_or_forks(windows: Msvcrt) -> None:
    """Trust in files is not judged, and a renewal ahead runs where it is."""
    assert trust.is_lifted({})
    assert places._user_id() == 0
    assert not children.can_fork()


def test_standard_input_of_windows_is_not_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `select` takes sockets alone."""
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setitem(sys.modules, "select", None)
    client_input._wait(0, time.monotonic())


def test_streams_of_windows_are_written_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no PIPE_BUF, so nothing is known of how much a pipe takes."""
    monkeypatch.setattr(streams, "select", SimpleNamespace())
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as stream:
        assert not streams._is_pipe(stream)


def test_macos_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own libraries don't survive it: `rotate --processes` goes on in one process."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not children.can_fork()


def test_macos_has_the_format_of_the_bsds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door compares what its `stat -f` prints: hexadecimal in capitals, seconds since 1970."""
    monkeypatch.setattr(sys, "platform", "darwin")
    there = copy_of(reply)
    assert there.MAGIC.endswith(" bsd")
    assert not reply.MAGIC.endswith(" bsd")
    seen = (0o100600, 1, 7, 9, 1_784_037_600_000_000_005)
    line = next(
        item(seen)
        for name, item in vars(there).items()
        if getattr(item, "__code__", None) and "IS_BSD" in item.__code__.co_names
    )
    assert line == "8180 1 7 9 1784037600.000000005"


def test_a_machine_without_proc_is_nobody_s_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows: no boot id, so no holder is ever called dead, and a claim lapses by the
    store's clock alone."""
    monkeypatch.setattr(process, "_read", lambda _path: None)
    assert process.boot_mark() is None
    assert process.machine_mark({}) is None
    claim = Claim(holder="h/999999/1", until=0, nonce="n", machine="m")
    assert not process.is_dead(claim, None)
    assert process.holder_name().endswith("/0")


def test_the_clock_since_boot_of_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC, which goes on in a sleep there; Python's own doesn't, and would take a token
    for younger than it is."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_MONOTONIC: 42.0}.__getitem__)
    assert process.boot_time() == 42.0


def test_the_clock_since_boot_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own, which counts a sleep there."""
    monkeypatch.delattr(time, "clock_gettime")
    monkeypatch.setattr(time, "monotonic", lambda: 42.0)
    assert process.boot_time() == 42.0


def test_signals_that_a_system_lacks_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no SIGHUP."""
    monkeypatch.delattr(signal, "SIGHUP")
    assert {int(number) for number in copy_of(process)._HELD} == {signal.SIGINT, signal.SIGTERM}


def test_places_of_macos_and_windows() -> None:
    """Under the user's own directories; what the page says is what the library does."""
    told = (ROOT / "plugin/docs/platforms.md").read_text()
    macos = platformdirs.macos.MacOS(places.APP, appauthor=False)
    for path in (macos.user_config_dir, macos.user_data_dir, macos.user_cache_dir):
        assert path.replace(os.path.expanduser("~"), "~") in told


def test_every_branch_by_platform_is_on_the_page() -> None:
    """A module that asks which system it is on is named there."""
    told = (ROOT / "plugin/docs/platforms.md").read_text()
    package = ROOT / "plugin/nightporter"
    marks = ("sys.platform", "os.name", "hasattr(os,", "hasattr(signal,", "LOCAL_PEERCRED")
    asking = [
        str(file.relative_to(package))
        for file in sorted(package.rglob("*.py"))
        if any(mark in file.read_text() for mark in marks)
    ]
    assert len(asking) > 10
    assert [name for name in asking if f"`{name}`" not in told] == []
