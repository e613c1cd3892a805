"""Private files: the rules of a keyring for everything that we put on a disk.

A directory is ours alone (0700, our uid, no link), a file is ours alone (0600, our uid, regular, no
link, one name), and it is replaced atomically, whatever the umask says. What breaks these rules is
not read; where it is ours to replace, it is replaced. Locks are taken on files of their own, since
locking the data file itself breaks readers on Windows (int128/kubelogin#1144).
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator

if sys.platform == "win32":  # pragma: no cover - not run by our tests
    import msvcrt
else:
    import fcntl

MAX_FILE_BYTES = 1 << 20
_LEFT_OVER = re.compile(r"\.[0-9]+\.[0-9a-f]+\.tmp")
_LOOK_S = 1.0  # how long one look at a file system's clock is used
_STEADY_S = 0.05  # how far two of our own clocks may drift apart in that time
MANY_FILES = 200
SWEEP_S = 1.0
_SWEPT_UNTIL: dict[str, float] = {}  # large directories: monotonic seconds
# What says that somebody else holds the lock; msvcrt says EACCES or EDEADLOCK.
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
# What a file system says of a call that it doesn't know (NFS without a lock manager, FUSE).
_UNSUPPORTED = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class NoLocksError(OSError):
    """The file system offers no locks: that is not "somebody else holds it"."""


def _is_mine(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _is_private(status: os.stat_result, forbidden: int = 0o077) -> bool:
    return os.name == "nt" or (_is_mine(status) and stat.S_IMODE(status.st_mode) & forbidden == 0)


def open_private_directory(path: str) -> bool:
    """Creates the directory or makes it private. Returns whether it is now private and ours.

    A link or a foreign directory in its place is never followed. A link of our own is replaced. A
    directory of our own that others could enter is closed, and what lies in it is thrown away,
    since others may have put it there.

    Raises: OSError when it can't be made.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) and _is_mine(status):
        os.unlink(path)
        os.mkdir(path, 0o700)
        status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or not _is_mine(status):
        return False
    if not _is_private(status):
        os.chmod(path, 0o700)
        _discard_files(path)
    return True


def make_directories(path: str) -> None:
    """Makes the directory and what is missing above it, each ours alone whatever the umask says
    (`os.makedirs` gives its mode to the last one only).

    Raises: OSError.
    """
    if not path or os.path.isdir(path):
        return
    make_directories(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def is_private_directory(path: str) -> bool:
    """Returns whether it is an absolute path of our own directory into which nobody else can put
    anything."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return (
        os.path.isabs(path)
        and stat.S_ISDIR(status.st_mode)
        and _is_mine(status)
        and _is_private(status, 0o022)
    )


def close_directory(path: str) -> bool:
    """As `open_private_directory` for a directory that holds a store's only copy: nothing in it is
    thrown away, and a link to it is followed where it is ours or root's (with another's, they would
    choose the directory).

    Raises: OSError when it can't be made.
    """
    try:
        link = os.lstat(path)
    except FileNotFoundError:
        make_directories(path)
        link = os.lstat(path)
    status = os.stat(path) if stat.S_ISLNK(link.st_mode) else link
    if not _is_mine(status) or not (_is_mine(link) or link.st_uid == 0):
        return False
    if not _is_private(status):
        os.chmod(path, 0o700)
    return True


def _discard_files(directory: str) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def read_private(path: str, *, close_if_readable: bool = False) -> bytes | None:
    """Returns the bytes of a private file that belongs to us; None when it is absent, not to be
    trusted, or larger than 1 MiB.

    With `close_if_readable` a file that others could read, but not write, is closed to them and
    then taken: nobody else can have put anything into it.

    Raises: OSError for anything but an absent file (an I/O error, no right to the directory).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_LINK)
    except FileNotFoundError:
        return None
    except OSError:
        if os.path.islink(path):
            return None
        raise
    try:
        status = os.fstat(descriptor)
        forbidden = 0o022 if close_if_readable else 0o077
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if (
            not stat.S_ISREG(status.st_mode)
            or not _is_private(status, forbidden)
            or status.st_nlink > 1
        ):
            return None  # (no name at all is fine: it was replaced while we opened it)
        if not _is_private(status):
            os.fchmod(descriptor, 0o600)
        content = read_up_to(descriptor, MAX_FILE_BYTES + 1, status.st_size)
    finally:
        with contextlib.suppress(OSError):  # what was read is whole
            os.close(descriptor)
    return content if len(content) <= MAX_FILE_BYTES else None


def read_up_to(descriptor: int, most: int, expected: int) -> bytes:
    """Returns at most so many bytes of a file, in one read where it has the expected size: a file
    object takes five calls and a buffer of the most, and neither takes nor closes a directory."""
    found = os.read(descriptor, min(expected + 1, most))
    while len(found) != expected and len(found) < most:
        piece = os.read(descriptor, most - len(found))
        if not piece:
            break
        found += piece
    return found


def replace_private(
    path: str, content: bytes, *, mode: int = 0o600, is_only_copy: bool = False
) -> None:
    """Writes the file whole and atomically, on the disk before it takes the old one's place.

    `is_only_copy`: after a power cut it must still be in that place. `mode` is another than 0600
    only for what is no secret: programs, and files of others that have one.

    Raises: OSError.
    """
    _sweep(os.path.dirname(path))
    temporary, descriptor = _open_temporary(path)
    try:
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)
            write_all(descriptor, content)
            _sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if is_only_copy:
            _sync_directory(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all of it, in as many pieces as the system takes.

    Raises: OSError.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open_temporary(beside: str) -> tuple[str, int]:
    """Makes a file that is written and then renamed. It is locked meanwhile, so that what a killed
    process has left can be told from what another is writing."""
    while True:
        path = _name_beside(beside)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there
            _try_lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # swept between two of these lines


def _sweep(directory: str) -> None:
    """Removes what killed processes have left here: it may hold a secret. Where a directory has a
    file for each of thousands of profiles, a process looks once a second, not at each write."""
    now = time.monotonic()
    if now < _SWEPT_UNTIL.get(directory, 0.0):
        return
    if directory in _SWEPT_UNTIL:
        _SWEPT_UNTIL[directory] = now + SWEEP_S  # one thread looks
    count = 0
    with contextlib.suppress(OSError), os.scandir(directory or ".") as entries:
        for entry in entries:  # one by one: all names of a large directory are megabytes
            count += 1
            if _LEFT_OVER.fullmatch(entry.name):
                _remove_unlocked(entry.path)
    if count > MANY_FILES:
        _SWEPT_UNTIL[directory] = now + SWEEP_S
    else:
        _SWEPT_UNTIL.pop(directory, None)


def _remove_unlocked(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | _NO_LINK)
        try:
            if _try_lock(descriptor):
                os.unlink(path)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Waits until the content is on the disk, where the file system can tell.

    Raises: OSError for a disk that failed or is full.
    """
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise


def _sync_directory(path: str) -> None:
    """A rename is on the disk once its directory is. It is done already: what fails here takes
    nothing back, so it is no error."""
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_own_regular_file(descriptor: int) -> bool:
    """Returns whether an open file is regular and belongs to us."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and _is_mine(status)


def remove(path: str) -> bool:
    """Whether there was a file to remove."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def open_lock(path: str, *, deadline: float, poll_s: float = 0.02) -> Iterator[bool]:
    """Holds the lock file until the block ends; yields whether it was won before `deadline`
    (monotonic seconds).

    The lock dies with its process. A lock file that is a link or another's is not opened.

    Raises: NoLocksError when the file system offers no locks (NFS without a lock manager: ENOLCK;
    others ENOSYS, EOPNOTSUPP); OSError when the file can't be opened or the disk fails.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
    try:
        while not (won := _try_lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(poll_s)
        yield won
    finally:
        _unlock(descriptor)
        with contextlib.suppress(OSError):  # NFS tells late what went wrong; nothing was written
            os.close(descriptor)


def _unlock(descriptor: int) -> None:
    """Unlocks the file itself, since a child forked meanwhile holds the same open file: closing
    ours alone would leave it locked."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks has none to remove
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":  # pragma: no cover - not run by our tests
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in _TAKEN:
            return False
        if exc.errno in _UNSUPPORTED:
            raise NoLocksError(*exc.args) from exc
        raise
    return True


def time_beside(path: str) -> float:
    """Returns the time of the clock of the path's file system, in Unix seconds: that of a file made
    beside it now. On a network's it is the server's, where a file that is touched may get ours
    (SMB).

    Raises: OSError.
    """
    probe = _name_beside(path)
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):  # swept by another's write
            os.unlink(probe)


class ClockBeside:
    """The clock of one directory's file system, looked at about once a second: a file that is made
    and removed costs a busy disk more than all the rest of a read. Safe for threads.

    A clock that was set back within that second is not seen before it is over, so whatever must not
    take something for older than it is looks by itself (`time_beside`).
    """

    def __init__(self) -> None:
        self._look: tuple[float, float, float] | None = None
        self._turn = threading.Lock()

    def time(self, path: str) -> float:
        """Returns the time in Unix seconds, as `time_beside` does for a path in the directory.

        Raises: OSError.
        """
        found_s, passed_s = self._known()
        if passed_s < _LOOK_S:
            return found_s + passed_s
        # Nobody waits for a turn: in the child of a fork its holder may never come back.
        is_our_turn = self._turn.acquire(blocking=False)
        try:
            if not is_our_turn and passed_s < 2 * _LOOK_S:
                return found_s + passed_s
            return self._look_again(path)
        finally:
            if is_our_turn:
                self._turn.release()

    def _known(self) -> tuple[float, float]:
        """What the last look has shown, and how long ago that was; infinitely long where it counts
        no more."""
        if self._look is None:
            return 0.0, math.inf
        looked_at, offset_s, found_s = self._look
        steady, offset_now_s = _steady_and_offset()
        # Our own clock was set, or this machine slept: the file system's may have moved too.
        is_steady = abs(offset_now_s - offset_s) < _STEADY_S
        return found_s, steady - looked_at if is_steady else math.inf

    def _look_again(self, path: str) -> float:
        _, before_s = _steady_and_offset()
        found_s = time_beside(path)
        looked_at, offset_s = _steady_and_offset()  # afterwards, so that it never runs ahead
        is_steady = abs(offset_s - before_s) < _STEADY_S
        self._look = (looked_at, offset_s, found_s) if is_steady else None
        return found_s


def _steady_and_offset() -> tuple[float, float]:
    """The monotonic clock, and how far the wall clock is from it."""
    steady = time.monotonic()
    return steady, time.time() - steady


def _name_beside(path: str) -> str:
    """A name that nobody else uses, and that a sweep knows, in the same directory."""
    return os.path.join(os.path.dirname(path), f".{os.getpid()}.{time.monotonic_ns():x}.tmp")


def lock_error(directory: str) -> OSError | None:
    """Returns why no lock can be taken on a file in the directory; None where one can."""
    path = _name_beside(os.path.join(directory, ""))
    try:
        with open_lock(path, deadline=0.0):
            pass
    except OSError as exc:
        return exc
    finally:
        remove(path)
    return None
