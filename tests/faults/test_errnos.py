"""Errno by errno: what a file system may say at each of our calls, for each kind of file that we
keep. Nothing is a defect; each file has its own answer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience, within
from nightporter.core.errors import (
    NightporterError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from nightporter.core.model import Secret, Token
from nightporter.core.record import PendingResult
from nightporter.machine.access_cache import AccessCache, Directory
from nightporter.machine.journal import FileJournal
from nightporter.session.port import ABSENT
from nightporter.stores.local import LocalStore

NAMES = (
    "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG EIO EMFILE ENFILE ENOMEM ELOOP ENAMETOOLONG ENOTDIR"
    " EISDIR ENOENT EEXIST EBUSY ESTALE EAGAIN EDEADLK ENOLCK ENOSYS EOPNOTSUPP EINVAL EXDEV ENXIO"
    " ENODEV EOVERFLOW EMLINK EREMOTEIO ENOTCONN EHOSTDOWN ETIMEDOUT ENOKEY EKEYEXPIRED EUCLEAN"
    " ETXTBSY ENOTEMPTY EILSEQ EINTR"
)
NUMBERS = sorted({getattr(errno, name, 0) for name in NAMES.split()} - {0})
CALLS = {
    "open": (os, "open"),
    "read": (os, "fstat"),
    "list": (os, "listdir"),
    "chmod": (os, "fchmod"),
    "sync": (os, "fsync"),
    "rename": (os, "replace"),
    "mkdir": (os, "mkdir"),
    "stat": (os, "stat"),
    "lock": (fcntl, "flock"),
    "close": (os, "close"),
}
TOKEN = Token(Secret("t"), token_type="Bearer", expires_at_s=2**40, obtained_at_s=time.time())


@contextlib.contextmanager
def broken(call: str, number: int, place: Path) -> Iterator[None]:
    """This call fails with that errno, on paths below the place and on descriptors."""
    module, name = CALLS[call]
    usual: Callable[..., Any] = getattr(module, name)

    def fail(what: Any, *arguments: Any, **options: Any) -> Any:
        is_descriptor = isinstance(what, int)
        if is_descriptor and call == "close":
            usual(what)
        if is_descriptor or str(what).startswith(str(place)):
            raise OSError(number, os.strerror(number), None if is_descriptor else what)
        return usual(what, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, fail)
        yield


each_call = pytest.mark.parametrize("call", CALLS)


@each_call
def test_the_cache_costs_the_economy_and_never_an_answer(call: str, tmp_path: Path) -> None:
    """Contract 7: no writable place means memory only."""
    for number in NUMBERS:
        for is_warm in (False, True):
            directory = Directory((str(tmp_path / f"{number}{is_warm}"),))
            cache = AccessCache("p", "k" * 32, tokens=directory, notes=directory)
            if is_warm:
                cache.keep(TOKEN)
            with broken(call, number, tmp_path):
                is_taken = call == "lock" and number in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
                deadline = time.monotonic() + (0.05 if is_taken else patience(60))
                with within(1), cache.lock(deadline) as won:
                    assert won is not is_taken
                cache.keep(TOKEN)
                cache.load()
                cache.refuse("t")
                cache.is_refused("t")
                cache.keep_failure(NightporterError("x"))
                cache.failure()
                cache.forget()


@each_call
def test_the_journal_says_whether_the_result_is_safe(call: str, tmp_path: Path) -> None:
    """A result that it calls kept is there for the next run; it never raises, since what it is
    told stands between a vendor's answer and its save."""
    pending = PendingResult(nonce="n", record={"refresh_token": "t"}, at=1, is_sign_in=False)
    for number in NUMBERS:
        place = tmp_path / str(number)
        with broken(call, number, tmp_path):
            journal = FileJournal(str(place / "spill"), "path")
            is_kept = journal.keep(pending)
            journal.note("lineage", 3)
            journal.load()
            journal.highest("lineage")
            journal.drop("x")
        assert len(FileJournal(str(place / "spill"), "path").load()) == is_kept
        if call in ("list", "lock"):
            assert is_kept


def numbers(names: str) -> set[int]:
    return {getattr(errno, name) for name in names.split() if hasattr(errno, name)}


DENIED = numbers("EACCES EPERM EROFS ENOKEY EKEYEXPIRED")
PASSING = numbers(
    "EIO EMFILE ENFILE ENOMEM EBUSY ESTALE EAGAIN ETIMEDOUT ENOTCONN EHOSTDOWN EREMOTEIO EUCLEAN"
    " ENOENT EOVERFLOW ETXTBSY EINTR EDEADLK"
)


@each_call
def test_the_local_store_has_words_for_each(call: str, tmp_path: Path) -> None:
    """A store can't do without its files: exit 5, and tried again only where it may pass. What is
    written and said to have failed may have happened, but never the other way round."""
    for number in NUMBERS:
        store = LocalStore(str(tmp_path / str(number)))
        version = store.write("p", {"n": 1}, ABSENT, None, timeout_s=5)
        error: NightporterError | None = None
        with broken(call, number, tmp_path):
            try:
                store.write("p", {"n": 2}, version, None, timeout_s=0.05)
            except StoreError as exc:
                error = exc
            with contextlib.suppress(StoreError):
                store.read("p", timeout_s=5)
            with contextlib.suppress(StoreError):
                store.missing_rights(["p"], ["p"], timeout_s=5)
        after = store.read("p", timeout_s=5).value
        assert after == {"n": 1 if error else 2} or (error and call == "close"), error
        if error is None or call in ("lock", "read", "stat", "mkdir"):
            continue
        assert isinstance(error, StoreDeniedError) == (number in DENIED), error
        assert isinstance(error, StoreUnreachableError) == (number in PASSING), error
        assert error.hint


def test_no_file_is_left_behind_by_a_write_that_failed(tmp_path: Path) -> None:
    """A temporary file holds a secret."""
    store = LocalStore(str(tmp_path / "store"))
    version = store.write("p", {"n": 1}, ABSENT, None, timeout_s=5)
    for call in ("sync", "chmod", "rename"):
        with broken(call, errno.EIO, tmp_path), pytest.raises(StoreError):
            store.write("p", {"n": 2}, version, None, timeout_s=5)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "p.json",
        "p.json.lock",
    ]
