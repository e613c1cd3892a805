"""Finds and reads the configuration (contract, section 2). Never from the working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.model import Config
from nightporter.issuers import VENDORS
from nightporter.machine.places import absolute, config_file, expand, read_environment
from nightporter.machine.trust import check_configuration
from nightporter.stores import STORES

IN_VARIABLE = "NIGHTPORTER_CONFIG_TOML"


def load_config(path: str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from the first place that has one (contract, section 2). Never from the
    working directory.

    Raises: ConfigError.
    """
    environment = read_environment() if environment is None else environment
    file = config_place(path, environment)
    if file == IN_VARIABLE:
        text = environment[IN_VARIABLE].removeprefix("\ufeff")  # a byte order mark
        return parse_config(text, source=IN_VARIABLE, vendors=VENDORS, stores=STORES)
    check_configuration(file, environment)
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read().removeprefix("\ufeff")
        return parse_config(text, source=file, vendors=VENDORS, stores=STORES)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{file}: can't be read as UTF-8 text ({type(exc).__name__})",
            hint="Look at the file and at who may read it, or name another with --config.",
        ) from exc
    raise ConfigError(
        f"there is no configuration at {file}",
        hint=(
            "Run `nightporter init`, or name another with --config, NIGHTPORTER_CONFIG or"
            " NIGHTPORTER_CONFIG_TOML."
        ),
    )


def config_place(path: str | None, environment: Mapping[str, str]) -> str:
    """Returns the file that `load_config` reads, or the variable's name. `path`: what the caller
    names, which alone may be relative to the working directory.

    Raises: ConfigError.
    """
    if path:
        return os.path.abspath(expand(path, "the configuration's path"))
    if named := environment.get("NIGHTPORTER_CONFIG"):
        return absolute(expand(named, "NIGHTPORTER_CONFIG"), "NIGHTPORTER_CONFIG")
    return IN_VARIABLE if environment.get(IN_VARIABLE) else config_file()


def has_config(path: str | None, environment: Mapping[str, str]) -> bool:
    """Whether anybody has configured nightporter here: a file that is named and isn't there is a
    mistake that `load_config` tells."""
    if path or environment.get("NIGHTPORTER_CONFIG") or environment.get(IN_VARIABLE):
        return True
    return os.path.exists(config_file())
