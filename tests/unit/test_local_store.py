"""The embedded store on a disk: versions, whose files it uses, what a torn file is, by whose clock
a value is old, and what each error of the system means."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience
from nightporter.core.errors import (
    ConfigError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.record import Unreadable
from nightporter.machine import files
from nightporter.machine.files import NoLocksError, time_beside
from nightporter.session.port import ABSENT, Version
from nightporter.stores import local
from nightporter.stores.local import LocalStore

T = 1.0


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "store"))


def file_of(store: LocalStore, path: str = "p") -> Path:
    return Path(store._file(path))


def put(store: LocalStore, value: dict[str, Any], over: Version = ABSENT) -> Version:
    return store.write("p", value, over, None, timeout_s=T)


def test_a_value_is_a_private_file_that_counts_up(store: LocalStore) -> None:
    """0600 in a 0700 directory, named by the percent-encoded path, also after a deletion."""
    version = store.write("a/b c", {"n": 1}, ABSENT, None, timeout_s=T)
    file = Path(store._directory) / "a%2Fb%20c.json"
    assert json.loads(file.read_text()) == {"version": 1, "value": {"n": 1}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert (version.token, version.floor) == ("1", 1)
    assert store.read("a/b c", timeout_s=T).version == version
    store.delete("a/b c", version, timeout_s=T)
    assert json.loads(file.read_text()) == {"version": 2, "value": None}
    assert store.read("a/b c", timeout_s=T).value is None
    assert store.whereabouts() == f"files in {store._directory}"


def test_another_s_write_is_a_conflict(store: LocalStore) -> None:
    """And so is a file that was removed and made again: it counts from 1 once more."""
    first = put(store, {"n": 1})
    for stale in (ABSENT, Version("2", 2), Version("1", 1, "another proof")):
        with pytest.raises(VersionConflictError, match="another writer was first"):
            put(store, {"n": 2}, stale)
    file_of(store).unlink()
    again = put(store, {"n": 9})
    assert again.token == first.token
    with pytest.raises(VersionConflictError):
        put(store, {"n": 2}, first)
    assert put(store, {"n": 2}, Version("1", 1)).token == "2"


def test_a_path_of_250_bytes_is_the_longest(store: LocalStore) -> None:
    """With its ending, as file systems have it."""
    store.write("x" * 245, {}, ABSENT, None, timeout_s=T)
    with pytest.raises(StoreValueError, match="too long"):
        store.write("x" * 246, {}, ABSENT, None, timeout_s=T)


def test_what_can_not_be_written_is_said_before_it_is_tried(store: LocalStore) -> None:
    """Text that is no Unicode, and more than every store takes."""
    with pytest.raises(StoreValueError, match="no Unicode"):
        put(store, {"a": "\udc80"})
    put(store, {"a": "x" * 65_500})
    with pytest.raises(StoreValueError, match="is more than 65536"):
        put(store, {"a": "x" * 65_700}, store.read("p", timeout_s=T).version)
    assert len(list(Path(store._directory).glob("*.tmp"))) == 0


# What is on the disk already.


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        '{"version": 1}',
        '{"value": {}}',
        '{"version": true, "value": {}}',
        '{"version": -1, "value": {}}',
        '{"version": 1.0, "value": {}}',
        "[" * 100_000,
    ],
)
def test_a_torn_file_is_unreadable_and_can_be_written_over(store: LocalStore, content: str) -> None:
    """By its very bytes, with a version past any count."""
    put(store, {"n": 1})
    file_of(store).write_text(content)
    found = store.read("p", timeout_s=T)
    assert isinstance(found.value, Unreadable)
    assert "is not a file of this store" in found.value.reason
    assert len(found.version.token) == 64
    assert found.version.floor > 1_700_000_000
    assert not store.sweep("p", timeout_s=T)
    after = put(store, {"n": 2}, found.version)
    assert found.version.floor < after.floor <= time.time() + 1  # it is counted from the second


def test_a_value_that_is_no_object_has_a_version(store: LocalStore) -> None:
    """It can be written over by who has seen it; a count beyond all is not gone on from."""
    put(store, {"n": 1})
    file_of(store).write_text('{"version": 3, "value": [1]}')
    found = store.read("p", timeout_s=T)
    assert isinstance(found.value, Unreadable)
    assert "holds no JSON object" in found.value.reason
    assert (found.version.token, found.version.floor) == ("3", 3)
    file_of(store).write_text(f'{{"version": {2**53}, "value": {{}}}}')
    found = store.read("p", timeout_s=T)
    assert (found.version.token, found.version.floor) == (str(2**53), 0)
    assert put(store, {}, found.version).token == "1"


def test_a_file_that_others_may_read_is_closed_and_used(store: LocalStore) -> None:
    """It was ours, and a copy tool has opened it."""
    version = put(store, {"n": 1})
    file_of(store).chmod(0o644)
    assert store.read("p", timeout_s=T).version == version
    assert stat.S_IMODE(file_of(store).stat().st_mode) == 0o600


def test_a_link_is_not_used(store: LocalStore, tmp_path: Path) -> None:
    """Whoever made it chose what is in it; what to type is said."""
    put(store, {"n": 1})
    file_of(store).rename(tmp_path / "elsewhere.json")
    file_of(store).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(StoreDeniedError, match="not a private file of yours") as caught:
        store.read("p", timeout_s=T)
    assert f"`chmod 600 {file_of(store)}`" in caught.value.hint


def test_a_sealed_value_without_the_key_is_said(store: LocalStore) -> None:
    """With the setting that it was written under."""
    put(store, {"n": 1})
    file_of(store).write_text('{"version": 3, "sealed": "x"}')
    with pytest.raises(StoreDeniedError, match="sealed with a key") as caught:
        store.read("p", timeout_s=T)
    assert 'seal = "keyring"' in caught.value.hint


# By whose clock a value is old.


def expiring() -> dict[str, Any]:
    return {"schema": 1, "refresh_token": "R", "expires_at": "2026-07-14T14:00:00Z"}  # 1784037600


@pytest.mark.parametrize(("now", "is_over"), [(1_784_037_599.9, False), (1_784_037_600.0, True)])
def test_what_has_expired_is_swept_by_our_clock(tmp_path: Path, now: float, is_over: bool) -> None:
    """And what is swept is gone from the disk."""
    store = LocalStore(str(tmp_path / "store"), clock=lambda: now)
    put(store, expiring())
    assert store.sweep("p", timeout_s=T) is is_over
    assert ("refresh_token" in file_of(store).read_text()) is not is_over
    assert not store.sweep("p", timeout_s=T)
    assert not store.sweep("nothing", timeout_s=T)


def test_what_has_expired_is_told_apart_by_the_file_system_s_clock(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is the server's where it is a network's; ours counts where there is none."""
    put(store, expiring())
    monkeypatch.setattr(files, "time_beside", lambda _file: 1_784_037_600.0)
    found = store.read("p", timeout_s=T)
    assert (found.value, found.expired, found.now) == (None, expiring(), 1_784_037_600.0)
    assert found.version.token == "1"
    assert found.written_at == os.stat(file_of(store)).st_mtime
    store = LocalStore(store._directory)  # which has not looked yet
    monkeypatch.setattr(files, "time_beside", lambda _file: 1_784_037_590.0)
    assert store.read("p", timeout_s=T).value == expiring()

    def fails(_file: str) -> float:
        raise OSError

    monkeypatch.setattr(files, "time_beside", fails)
    store = LocalStore(store._directory, clock=lambda: 0.0)
    found = store.read("p", timeout_s=T)
    assert (found.value, found.now, found.written_at) == (expiring(), None, None)


class Clocks:
    """Ours, monotonic and of the day, and a file system's, whose looks are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steady, self.wall, self.beside, self.looks = 100.0, 5000.0, 9000.0, 0
        ours = types.SimpleNamespace(monotonic=lambda: self.steady, time=lambda: self.wall)
        monkeypatch.setattr(files, "time", ours)
        monkeypatch.setattr(files, "time_beside", self._look)

    def _look(self, _path: str) -> float:
        self.looks += 1
        return self.beside

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds
        self.beside += seconds


def test_one_look_at_a_file_system_s_clock_holds_for_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And goes on with ours meanwhile."""
    clocks, clock = Clocks(monkeypatch), files.ClockBeside()
    assert clock.time("d/f") == 9000.0
    clocks.pass_(0.9)
    assert clock.time("d/f") == pytest.approx(9000.9)
    assert clocks.looks == 1
    clocks.pass_(0.1)
    assert clock.time("d/f") == pytest.approx(9001.0)
    assert clocks.looks == 2
    clocks.pass_(0.5)
    clocks.beside += 30  # a server's clock that was set is seen with the next look
    assert clock.time("d/f") == pytest.approx(9001.5)
    clocks.pass_(0.5)
    assert clock.time("d/f") == pytest.approx(9032.0)


def test_a_step_of_our_clock_during_a_look_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would count as there for a second."""
    clocks, clock = Clocks(monkeypatch), files.ClockBeside()

    def slow(_path: str) -> float:
        found = clocks._look("")
        clocks.wall -= 60
        clocks.beside -= 60
        return found

    monkeypatch.setattr(files, "time_beside", slow)
    clock.time("d/f")
    monkeypatch.setattr(files, "time_beside", clocks._look)
    assert clock.time("d/f") == 8940.0


def test_one_thread_looks_and_the_others_go_on_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the look before, for a second more; whoever has none looks as well."""
    clocks, clock = Clocks(monkeypatch), files.ClockBeside()
    clock.time("d/f")
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: str) -> float:
        begun.set()
        assert go_on.wait(patience(30))
        return clocks._look(path)

    clocks.pass_(1.0)
    monkeypatch.setattr(files, "time_beside", slow)
    looking = threading.Thread(target=clock.time, args=("d/f",))
    looking.start()
    try:
        assert begun.wait(patience(30))
        assert clock.time("d/f") == pytest.approx(9001.0)
        assert clocks.looks == 1
        clocks.pass_(1.0)
        monkeypatch.setattr(files, "time_beside", clocks._look)
        assert clock.time("d/f") == pytest.approx(9002.0)
        assert clocks.looks == 2
    finally:
        go_on.set()
        looking.join(patience(30))


def test_a_claim_s_age_is_by_a_file_made_just_now(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose clock was set back would make a young claim an old one."""
    times = [9000.0, 8940.0, 8941.0]
    look = lambda _file: times.pop(0)  # noqa: E731 - as short as what it stands for
    monkeypatch.setattr(files, "time_beside", look)
    monkeypatch.setattr(local, "time_beside", look)
    put(store, {"n": 1})
    assert store.read("p", timeout_s=T).now == 9000.0
    put(store, {"n": 1, "claim": {"nonce": "n"}}, store.read("p", timeout_s=T).version)
    assert [store.read("p", timeout_s=T).now for _ in "ab"] == [8940.0, 8941.0]


@pytest.mark.parametrize("step_s", [-3600.0, -0.06, 0.06, 3600.0])
def test_a_look_does_not_hold_beyond_a_step_of_our_clock(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """Somebody has set it, or this machine slept: on a disk of our own the files' clock is it."""
    clocks, clock = Clocks(monkeypatch), files.ClockBeside()
    clock.time("d/f")
    clocks.pass_(0.1)
    clocks.wall += step_s
    clocks.beside += step_s
    assert clock.time("d/f") == pytest.approx(9000.1 + step_s)
    assert clocks.looks == 2


def test_a_look_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is not made up for it."""
    clocks, clock = Clocks(monkeypatch), files.ClockBeside()

    def fails(_path: str) -> float:
        raise PermissionError

    monkeypatch.setattr(files, "time_beside", fails)
    with pytest.raises(PermissionError):
        clock.time("d/f")
    monkeypatch.setattr(files, "time_beside", clocks._look)
    assert clock.time("d/f") == 9000.0


def test_a_look_at_the_clock_leaves_nothing_behind(store: LocalStore) -> None:
    """No file and no descriptor."""
    put(store, {"n": 1})
    before = (os.listdir(store._directory), len(os.listdir("/dev/fd")))
    now = time_beside(str(file_of(store)))
    assert abs(now - os.stat(file_of(store)).st_mtime) < 60
    assert (os.listdir(store._directory), len(os.listdir("/dev/fd"))) == before


def test_the_clock_is_that_of_a_file_made_now(store: LocalStore) -> None:
    """Whatever the times of the record and its lock are."""
    put(store, {"n": 1})
    for path in (file_of(store), f"{file_of(store)}.lock"):
        os.utime(path, (1.0, 1.0))
    found = store.read("p", timeout_s=T)
    assert found.written_at == 1.0
    assert found.now is not None
    assert abs(found.now - time.time()) < 60


# What each error of the system means.


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ENOSPC", StoreError, "Make room"),
        ("EDQUOT", StoreError, "Make room"),
        ("EFBIG", StoreError, "ulimit -f"),
        ("EACCES", StoreDeniedError, "yours"),
        ("EPERM", StoreDeniedError, "yours"),
        ("EROFS", StoreDeniedError, "yours"),
        ("ENOKEY", StoreDeniedError, "kinit"),
        ("EKEYEXPIRED", StoreDeniedError, "kinit"),
        ("EKEYREJECTED", StoreDeniedError, "kinit"),
        ("EKEYREVOKED", StoreDeniedError, "kinit"),
        ("EMFILE", StoreUnreachableError, "ulimit -n"),
        ("ENOMEM", StoreUnreachableError, "ulimit -n"),
        ("ENOBUFS", StoreUnreachableError, "ulimit -n"),
        ("ENFILE", StoreUnreachableError, "ulimit -n"),
        ("ENOTDIR", StoreError, "another place"),
        ("EMLINK", StoreError, "another place"),
        ("EISDIR", StoreError, "another place"),
        ("ENAMETOOLONG", StoreError, "another place"),
        ("EINVAL", StoreError, "another place"),
        ("EXDEV", StoreError, "another place"),
        ("ENXIO", StoreError, "another place"),
        ("ENODEV", StoreError, "another place"),
        ("EOPNOTSUPP", StoreError, "another place"),
        ("ENOTSUP", StoreError, "another place"),
        ("ENOLCK", StoreError, "another place"),
        ("EEXIST", StoreError, "another place"),
        ("ENOTEMPTY", StoreError, "another place"),
        ("EILSEQ", StoreError, "another place"),
        ("ELOOP", StoreError, "another place"),
        ("ENOSYS", StoreError, "another place"),
        ("EIO", StoreUnreachableError, "Check the store's address"),
        ("ESTALE", StoreUnreachableError, "Check the store's address"),
    ],
)
def test_an_error_of_the_system_has_words(name: str, kind: type[StoreError], words: str) -> None:
    """Errno by errno; what is not named may pass."""
    exc = OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    found = local._translate(exc, "/s/p.json")
    assert type(found) is kind
    assert found.message.startswith("/s/p.json: ")
    assert words in found.hint


def test_a_file_system_without_locks_is_no_place_for_a_store() -> None:
    """Whatever the number that says so; an error without words has some."""
    found = local._translate(NoLocksError(errno.ENOLCK, "No locks available"), "/s")
    assert "offers no locks (No locks available)" in found.message
    assert "local disk" in found.hint
    assert local._translate(OSError(), "/s").message == "/s: input/output error"


def test_what_may_not_be_done_is_found_before_it_is_tried(store: LocalStore) -> None:
    """Where nothing is to be written, or nothing is there yet, nothing is missing."""
    assert store.missing_rights(["p"], ["p"], timeout_s=T) == []
    put(store, {})
    assert store.missing_rights(["p"], ["p"], timeout_s=T) == []
    assert LocalStore.versions_per_day is None


def test_the_store_is_where_its_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else in the data directory, and nowhere for a user without a home."""

    def opened(options: dict[str, Any]) -> LocalStore:
        return local.open_store(options, {}, lambda _text: None, "/data")

    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened({"path": "~/s"})._directory == str(tmp_path / "s")
    assert opened({})._directory == "/data"
    assert opened({})._seal is None
    assert opened({"seal": "keyring"})._seal is not None
    monkeypatch.setattr(local, "has_home", lambda: False)
    assert opened({"path": "/s"})._directory == "/s"
    with pytest.raises(ConfigError, match="has no place"):
        opened({})
