"""Where this user's files are, and the environment that decides it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import platformdirs

APP = "nightporter"


def read_environment() -> dict[str, str]:
    """The process's environment; an empty NIGHTPORTER_* variable counts as unset."""
    return {
        name: value
        for name, value in os.environ.items()
        if value or not name.startswith("NIGHTPORTER_")
    }


def config_file() -> str:
    """The user's configuration file, whether or not it is there."""
    return os.path.join(platformdirs.user_config_dir(APP, appauthor=False), "config.toml")


def data_directory() -> str:
    return platformdirs.user_data_dir(APP, appauthor=False)


def spill_directory(environment: Mapping[str, str]) -> str:
    """Where results wait that a store would not take. In Lambda only /tmp can be written."""
    place = f"/tmp/{APP}" if environment.get("AWS_LAMBDA_FUNCTION_NAME") else data_directory()  # noqa: S108 - private
    return os.path.join(place, "spill")


def cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where cached tokens may lie, the first one first. A relative place is none."""
    if named := environment.get("NIGHTPORTER_CACHE_DIR"):
        return (os.path.abspath(os.path.expanduser(named)),)
    runtime = environment.get("XDG_RUNTIME_DIR")
    found = ([os.path.join(runtime, APP)] if runtime else []) + [
        platformdirs.user_cache_dir(APP, appauthor=False)
    ]
    return tuple(path for path in found if os.path.isabs(path))


def all_cache_directories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every cache place of the user, also those that are not in use now: for log-out."""
    elsewhere = {key: value for key, value in environment.items() if key != "NIGHTPORTER_CACHE_DIR"}
    return tuple(dict.fromkeys(cache_directories(environment) + cache_directories(elsewhere)))
