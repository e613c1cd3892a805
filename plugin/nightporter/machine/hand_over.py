"""A secret for one run of another program: a private file, gone when that program has ended.

What a killed process leaves behind is removed by the next run, or by a logout.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping

from nightporter.machine.files import open_private_directory, replace_private
from nightporter.machine.places import all_cache_directories, cache_directories

PREFIX = "run-"


@contextlib.contextmanager
def hand_over(files: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yields a directory of its own (0700) that holds the files (0600), until the block ends.

    Raises: OSError where no place can hold it.
    """
    sweep(environment)
    directory = _make_directory(environment)
    try:
        for name, content in files.items():
            replace_private(os.path.join(directory, name), content.encode())
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep(environment: Mapping[str, str]) -> None:
    """Removes what our killed processes have left."""
    for base in (*all_cache_directories(environment), tempfile.gettempdir()):
        with contextlib.suppress(OSError), os.scandir(base) as entries:
            for entry in entries:
                if _is_left_over(entry):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _make_directory(environment: Mapping[str, str]) -> str:
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    for base in cache_directories(environment):
        with contextlib.suppress(OSError):
            if open_private_directory(base):
                os.mkdir(os.path.join(base, name), 0o700)
                return os.path.join(base, name)
    return tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    head, _, rest = entry.name.removeprefix(PREFIX).partition("-")
    if not entry.name.startswith(PREFIX) or not rest or not (head.isascii() and head.isdigit()):
        return False
    status = entry.stat(follow_symlinks=False)
    is_ours = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and is_ours and not _is_alive(int(head))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
