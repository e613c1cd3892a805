"""The file that `nightporter init` adds a profile to: written whole, or not at all.

What is in it stays byte for byte, its mode too, and a link to somebody's dotfiles stays a link. Two
runs take turns, and the later one adds its profile to what the earlier one has written. Whether the
file can be written is asked before the first question, so that nobody answers eight for nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

from nightporter.cli.setups.merge import MARK, split_mark
from nightporter.client.configuration import IN_VARIABLE
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.issuers import VENDORS
from nightporter.machine.files import make_directories, open_lock, replace_private
from nightporter.machine.places import data_directory
from nightporter.stores import STORES

LOCK = "configuration.lock"
TURN_S = 10.0
_HINT = "Make the file and its directory writable for you, or name another file with --config."


def read_existing(place: str) -> str:
    """Returns the text of the configuration that a profile is added to, with the ends of its lines
    as they are; empty where there is none.

    Raises: ConfigError.
    """
    if place == IN_VARIABLE:
        raise ConfigError(
            f"the configuration is in the variable {IN_VARIABLE}; it is not changed",
            hint="Name a file with --config, or unset the variable.",
        )
    text = _text_of(place)
    parse_config(text, source=place, vendors=VENDORS, stores=STORES)
    return text


def check_can_write(place: str) -> None:
    """Finds out whether the file can be written, without writing anything.

    Raises: ConfigError.
    """
    target = os.path.realpath(place)
    above = os.path.dirname(target)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise ConfigError(f"{place} can't be written: {above} is not a directory", hint=_HINT)
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} can't be written: no write permission in {above}", hint=_HINT)


def write_all(place: str, text: str) -> None:
    """Writes the configuration through links, with the mode and the byte order mark that the file
    has.

    Raises: ConfigError; then the file is as it was.
    """
    target = os.path.realpath(place)
    try:
        mark, mode = _form_of(target)
        make_directories(os.path.dirname(target))
        replace_private(target, f"{mark}{text}".encode(), mode=mode)
    except OSError as exc:
        raise ConfigError(
            f"{place} can't be written ({exc.strerror}); it is as it was", hint=_HINT
        ) from exc


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Waits until no other `init` of this user is writing. The lock is not beside the file, which
    may be in a repository. Where no lock can be had, nobody is kept from writing."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            make_directories(data_directory())
            lock = os.path.join(data_directory(), LOCK)
            stack.enter_context(open_lock(lock, deadline=time.monotonic() + TURN_S))
        yield


def _text_of(place: str) -> str:
    try:
        with open(place, encoding="utf-8", newline="") as opened:
            return split_mark(opened.read())[1]
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{place} is not UTF-8 text", hint="Save it as UTF-8, or name another with --config."
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"{place} can't be read ({exc.strerror})",
            hint="Check the path and who may read the file, or name another with --config.",
        ) from exc


def _form_of(target: str) -> tuple[str, int]:
    try:
        with open(target, "rb") as opened:
            is_marked = opened.read(3) == MARK.encode()
            return MARK if is_marked else "", stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except FileNotFoundError:
        return "", 0o600
