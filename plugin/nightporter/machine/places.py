"""Where this user's files are, and the environment that decides it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping

import platformdirs

from nightporter.core.errors import ConfigError
from nightporter.machine.lambda_time import is_lambda

APP = "nightporter"
WRAPPER_MARK = "# Written by `nightporter setup`."  # in each program that it writes


def read_environment() -> dict[str, str]:
    """The process's environment; an empty NIGHTPORTER_* variable counts as unset."""
    return {
        name: value
        for name, value in os.environ.items()
        if value or not name.startswith("NIGHTPORTER_")
    }


def _user_directory(find: Callable[..., str]) -> str | None:
    """Returns a directory of the user's; None where neither HOME nor a passwd entry tells one
    (OpenShift's arbitrary user ids, `env -i`; ecederstrand/exchangelib#448)."""
    try:
        found = find(APP, appauthor=False)
    except (RuntimeError, KeyError, OSError):
        return None
    return found if os.path.isabs(found) else None


def config_file() -> str:
    """Returns the user's configuration file, whether or not it is there.

    Raises: ConfigError where nothing tells the user's home.
    """
    directory = _user_directory(platformdirs.user_config_dir)
    if directory is None:
        raise ConfigError(
            "there is no configuration: neither HOME nor a passwd entry tells where it would be",
            hint="Set NIGHTPORTER_CONFIG (a path) or NIGHTPORTER_CONFIG_TOML (the text), or HOME.",
        )
    return os.path.join(directory, "config.toml")


def data_directory() -> str:
    """Returns the user's data directory; where nothing tells one, a private one for temporary
    files, since a result that no store took must lie somewhere."""
    return _user_directory(platformdirs.user_data_dir) or os.path.join(
        tempfile.gettempdir(), f"{APP}-{_user_id()}"
    )


def has_home() -> bool:
    """Returns whether a directory of the user's own is known."""
    return _user_directory(platformdirs.user_data_dir) is not None


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def spill_directory(environment: Mapping[str, str]) -> str:
    """Where results wait that a store would not take. In Lambda only /tmp can be written."""
    place = f"/tmp/{APP}" if is_lambda(environment) else data_directory()  # noqa: S108 - private
    return os.path.join(place, "spill")


def expand(path: str, source: str) -> str:
    """Returns a path that may begin with `~`. `source`: what named it, for the message.

    Raises: ConfigError where nothing tells the home.
    """
    found = os.path.expanduser(path)
    if not found.startswith("~"):
        return found
    home = found.split("/", 1)[0]
    if home == "~":
        raise ConfigError(
            f"{source}: neither HOME nor a passwd entry says what ~ is",
            hint="Set HOME, or name an absolute path.",
        )
    raise ConfigError(
        f"{source}: no passwd entry says what {home!r} is", hint="Name an absolute path."
    )


def absolute(path: str, source: str) -> str:
    """Returns the path, which must not depend on the working directory: a cloned repository could
    have put something there.

    Raises: ConfigError.
    """
    if not os.path.isabs(path):
        raise ConfigError(
            f"{source} names the relative path {path!r}: the working directory would decide",
            hint="Name an absolute path, or one that begins with ~.",
        )
    return path


def cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where cached tokens may lie, the first one first. A relative place is none."""
    if named := environment.get("NIGHTPORTER_CACHE_DIR"):
        place = os.path.expanduser(named)
        return (place,) if os.path.isabs(place) else ()
    runtime = environment.get("XDG_RUNTIME_DIR")
    found = [os.path.join(runtime, APP)] if runtime and _is_ones_own(runtime) else []
    usual = _user_directory(platformdirs.user_cache_dir)
    return tuple(path for path in [*found, *([usual] if usual else [])] if os.path.isabs(path))


def _is_ones_own(directory: str) -> bool:
    """Whether it can be the user's runtime directory (XDG Base Directory Specification: owned by
    the user alone). Under `sudo -E` it is another's."""
    try:
        status = os.stat(directory)
    except OSError:
        return True  # not there: nothing in it is believed either
    return not hasattr(os, "geteuid") or (
        status.st_uid == os.geteuid() and not status.st_mode & 0o022
    )


def all_cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every cache place of the user, also those that are not in use now: for logout."""
    elsewhere = {key: value for key, value in environment.items() if key != "NIGHTPORTER_CACHE_DIR"}
    return tuple(dict.fromkeys(cache_directories(environment) + cache_directories(elsewhere)))
