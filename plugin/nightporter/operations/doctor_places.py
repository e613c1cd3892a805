"""What doctor says of the files that we keep on this machine: whose they are, who can read them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping

from nightporter.core.errors import ConfigError
from nightporter.machine.access_cache import is_reply
from nightporter.machine.files import lock_error
from nightporter.machine.places import all_cache_directories, cache_directories, data_directory
from nightporter.machine.trust import is_lifted
from nightporter.operations.findings import Finding, ok, warning


def place_findings(environment: Mapping[str, str], *, is_repair: bool) -> Iterator[Finding]:
    """Yields what is wrong with cache directories and with results that wait for their store.
    `is_repair`: closes what others can read, and removes what killed processes left."""
    with contextlib.suppress(ConfigError):  # it is said where the configuration is read
        if is_lifted(environment) and environment.get("NIGHTPORTER_TRUST"):
            yield warning("trust-lifted", "NIGHTPORTER_TRUST=all: any file is obeyed")
    for directory in all_cache_directories(environment):
        if os.path.lexists(directory):
            yield from _directory(directory, is_repair=is_repair)
    named = environment.get("NIGHTPORTER_CACHE_DIR")
    if named and not cache_directories(environment):
        yield warning(
            "cache-unusable", "NIGHTPORTER_CACHE_DIR is a relative path, which is not used"
        )
    usable = [path for path in cache_directories(environment) if _can_hold(path)]
    if environment.get("NIGHTPORTER_CACHE", "file") == "file" and not usable:
        yield warning("cache-unusable", "no directory can hold cached tokens")
    if usable and os.path.isdir(usable[0]) and (problem := lock_error(usable[0])):
        yield warning(
            "cache-unusable",
            f"{usable[0]} takes no locks ({problem.strerror}): each process of this machine"
            " exchanges for itself",
            todo="Set NIGHTPORTER_CACHE_DIR to a directory on a local disk.",
        )
    spill = os.path.join(data_directory(), "spill")
    if os.path.isdir(spill):
        yield from _directory(spill, is_repair=is_repair)


def _directory(directory: str, *, is_repair: bool) -> Iterator[Finding]:
    if os.path.islink(directory):
        yield warning("file-mode", f"{directory} is a link, which is not trusted")
        return
    yield from _closed(directory, is_repair=is_repair)
    try:
        names = sorted(os.listdir(directory))
    except OSError as exc:
        yield warning("cache-unusable", f"{directory} can't be read ({exc.strerror})")
        return
    for name in names:
        path = os.path.join(directory, name)
        try:
            if name.endswith(".tmp") and time.time() - os.lstat(path).st_mtime > 3600:
                yield from _left_over(path, is_repair=is_repair)
            elif not name.endswith((".lock", ".tmp")):
                yield from _closed(path, is_repair=is_repair, quiet=True)
        except FileNotFoundError:
            continue  # another process has replaced or removed it meanwhile
        except OSError as exc:
            yield warning("file-mode", f"{path} can't be put right ({exc.strerror})")


def _closed(path: str, *, is_repair: bool, quiet: bool = False) -> Iterator[Finding]:
    try:
        status = os.lstat(path)
    except OSError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        yield warning(
            "file-mode",
            f"{path} belongs to another user",
            todo="Remove it, or take it over with chown.",
        )
    elif mode & 0o077 and os.name != "nt":
        if not is_repair:
            yield warning("file-mode", f"{path} has mode {mode:04o}")
            return
        yield _close(path, status)
    elif not quiet:
        yield ok(f"{path}: mode {mode:04o}")


def _close(path: str, status: os.stat_result) -> Finding:
    """Closes what others could read. What they could write may be theirs by now: of a cache it
    is thrown away, anything else is left to a person."""
    mode = stat.S_IMODE(status.st_mode)
    is_cached = is_reply(os.path.basename(path)) or path.endswith(
        (".token", ".failure", ".refused", ".tried")
    )
    if is_cached:
        os.unlink(path)
    elif mode & 0o022 and not stat.S_ISDIR(status.st_mode):
        return warning(
            "file-mode",
            f"{path} could be written by others (mode {mode:04o}), so it is not used",
            todo="Look at what is in it, then run `chmod 600` on it, or remove it.",
        )
    else:
        os.chmod(path, mode & ~0o077)
    return ok(f"repaired: {path} was open to others (mode {mode:04o})")


def _left_over(path: str, *, is_repair: bool) -> Iterator[Finding]:
    if is_repair:
        os.unlink(path)
        yield ok(f"repaired: {path}, which a killed process left, is removed")
    else:
        yield warning("file-mode", f"{path} was left by a killed process")


def _can_hold(directory: str) -> bool:
    """Whether it is there and ours, or can be made."""
    while not os.path.lexists(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)
