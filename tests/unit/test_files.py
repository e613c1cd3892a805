"""What of the disk is trusted: one rule at a time, over owner, mode, kind and place."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience
from nightporter.machine import files
from nightporter.machine.files import (
    MAX_FILE_BYTES,
    close_directory,
    is_own_regular_file,
    is_private_directory,
    open_lock,
    open_private_directory,
    read_private,
    replace_private,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    return path


def make_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there belongs to somebody else from now on: us."""
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_file_that_others_can_use_is_a_miss(file: Path, mode: int) -> None:
    """Each bit alone: others may have written it, or may know what is in it."""
    file.chmod(mode)
    assert read_private(str(file)) is None


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_our_own_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_private(str(file)) == b"content"


@pytest.mark.parametrize(("mode", "is_taken"), [(0o644, True), (0o620, False), (0o602, False)])
def test_a_readable_only_copy_is_closed_and_taken(file: Path, mode: int, is_taken: bool) -> None:
    """Nobody else can have put anything into it; into one that they could write, they can."""
    file.chmod(mode)
    found = read_private(str(file), close_if_readable=True)
    assert found == (b"content" if is_taken else None)
    assert mode_of(file) == (0o600 if is_taken else mode)


def test_another_s_file_is_a_miss(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_foreign(monkeypatch)
    assert read_private(str(file)) is None


@pytest.mark.parametrize("kind", ["pipe", "link", "two names", "too large", "absent"])
def test_what_is_no_file_of_ours_alone_is_a_miss(file: Path, kind: str) -> None:
    """A pipe would hold the reader up; a link or a second name leads to a file of others."""
    other = file.parent / "other"
    match kind:
        case "pipe":
            os.mkfifo(other, 0o600)
        case "link":
            other.symlink_to(file)
        case "two names":
            other.hardlink_to(file)
        case "too large":
            replace_private(str(other), b"x" * (MAX_FILE_BYTES + 1))
    assert read_private(str(other)) is None


def test_a_file_of_1_mib_is_read(file: Path) -> None:
    """The bound itself is within it."""
    replace_private(str(file), b"x" * 2**20)
    assert read_private(str(file)) == b"x" * 2**20


def test_a_replaced_file_is_private_and_leaves_nothing_beside_it(file: Path) -> None:
    """Whatever the umask and the old file's mode were."""
    file.chmod(0o666)
    before = os.umask(0)
    try:
        replace_private(str(file), b"new")
    finally:
        os.umask(before)
    assert (file.read_bytes(), mode_of(file)) == (b"new", 0o600)
    assert list(file.parent.iterdir()) == [file]


def test_what_can_not_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """What was half written may hold a secret."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_private(str(tmp_path / "taken"), b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("is_only_copy", [False, True])
def test_the_content_is_on_the_disk_before_it_takes_the_old_one_s_place(
    file: Path, monkeypatch: pytest.MonkeyPatch, is_only_copy: bool
) -> None:
    """After a power cut there is the old content or the new one; an only copy is there for
    certain."""
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        done.append("sync")
        sync(descriptor)

    def noted_rename(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_rename)
    replace_private(str(file), b"new", is_only_copy=is_only_copy)
    assert done == ["sync", "rename", *(["sync"] if is_only_copy else [])]


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_store_s_directory_is_closed_and_keeps_what_it_holds(file: Path, mode: int) -> None:
    """It holds only copies."""
    file.parent.chmod(mode)
    assert close_directory(str(file.parent))
    assert mode_of(file.parent) == 0o700
    assert file.exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_cache_s_directory_is_closed_and_emptied(file: Path, mode: int) -> None:
    """Others may have put there what lies in it."""
    file.parent.chmod(mode)
    assert open_private_directory(str(file.parent))
    assert mode_of(file.parent) == 0o700
    assert not file.exists()


def test_a_private_directory_is_left_as_it_is(file: Path) -> None:
    assert open_private_directory(str(file.parent))
    assert file.exists()


def test_another_s_directory_is_used_by_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_foreign(monkeypatch)
    assert not close_directory(str(file.parent))
    assert not open_private_directory(str(file.parent))
    assert not is_private_directory(str(file.parent))
    assert file.exists()


def test_a_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    """With all that is missing above it, whatever the umask says."""
    before = os.umask(0)
    try:
        assert open_private_directory(str(tmp_path / "a/b/c"))
        assert close_directory(str(tmp_path / "d/e"))
    finally:
        os.umask(before)
    assert {mode_of(tmp_path / name) for name in ("a", "a/b", "a/b/c", "d", "d/e")} == {0o700}


def test_a_link_in_a_cache_s_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Where it leads to is not ours to empty."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert open_private_directory(str(tmp_path / "link"))
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/kept").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted by /proc")
def test_a_directory_in_a_file_s_place_leaves_nothing_open(file: Path) -> None:
    """`os.fdopen` refused it too, and left the descriptor to nobody."""
    file.unlink()
    file.mkdir(mode=0o700)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            read_private(str(file))
    assert os.listdir("/proc/self/fd") == before


def test_a_file_in_a_directory_s_place_is_no_directory(file: Path) -> None:
    assert not open_private_directory(str(file))
    assert not is_private_directory(str(file))


@pytest.mark.parametrize(
    ("mode", "is_private"), [(0o700, True), (0o755, True), (0o720, False), (0o702, False)]
)
def test_into_a_private_directory_nobody_else_can_put_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_private: bool
) -> None:
    """Others may look; a relative path is somebody's choice of a working directory."""
    tmp_path.chmod(mode)
    assert is_private_directory(str(tmp_path)) is is_private
    monkeypatch.chdir(tmp_path)
    assert not is_private_directory(".")


def test_only_our_own_regular_file_is_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a pipe, and not another's."""
    descriptor = os.open(file, os.O_RDONLY)
    reader, writer = os.pipe()
    assert is_own_regular_file(descriptor)
    assert not is_own_regular_file(reader)
    make_foreign(monkeypatch)
    assert not is_own_regular_file(descriptor)
    for opened in (descriptor, reader, writer):
        os.close(opened)


def test_a_lock_ends_with_its_block_though_a_child_holds_the_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that was forked meanwhile has the same open file."""
    opened: list[int] = []
    open_file = os.open

    def noted_open(*args: Any) -> int:
        opened.append(open_file(*args))
        return opened[-1]

    monkeypatch.setattr(os, "open", noted_open)
    path = str(tmp_path / "lock")
    with open_lock(path, deadline=0.0) as won:
        childs = os.dup(opened[0])
        with open_lock(path, deadline=0.0) as second:
            assert (won, second) == (True, False)
    with open_lock(path, deadline=0.0) as won:
        assert won
    os.close(childs)


def test_what_is_removed_under_its_lock_leaves_no_descriptor(tmp_path: Path) -> None:
    """A long process sweeps again and again."""
    stale = tmp_path / "stale.lock"
    stale.touch()
    before = len(os.listdir("/dev/fd"))
    files._remove_unlocked(str(stale))
    files._remove_unlocked(str(tmp_path / "nothing"))
    assert not stale.exists()
    assert len(os.listdir("/dev/fd")) == before


def test_while_one_thread_looks_through_a_large_directory_no_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that write at once would each hold what the directory has."""
    for number in range(files.MANY_FILES + 1):
        (tmp_path / f"{number}.json").touch()
    monkeypatch.setattr(files, "_SWEPT_UNTIL", {str(tmp_path): 0.0})  # large, and due
    monkeypatch.setattr(files, "SWEEP_S", 600.0)
    begun, go_on, looks = threading.Event(), threading.Event(), []
    scan = os.scandir

    def noted_scan(path: str) -> Any:
        looks.append(path)
        begun.set()
        assert go_on.wait(patience(30))
        return scan(path)

    monkeypatch.setattr(os, "scandir", noted_scan)
    first = threading.Thread(
        target=replace_private, args=(str(tmp_path / "a"), b"1"), name="the one that looks"
    )
    first.start()
    try:
        assert begun.wait(patience(30))
        replace_private(str(tmp_path / "b"), b"2")
        assert (tmp_path / "b").read_bytes() == b"2"
        assert not (tmp_path / "a").exists()
        assert looks == [str(tmp_path)]
    finally:
        go_on.set()
        first.join(patience(30))
    assert (tmp_path / "a").read_bytes() == b"1"


def test_another_s_link_in_a_cache_s_place_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, place = tmp_path / "cache", tmp_path / "place"
    place.mkdir()
    link.symlink_to(place)
    make_foreign(monkeypatch)
    assert not open_private_directory(str(link))
    assert link.is_symlink()
