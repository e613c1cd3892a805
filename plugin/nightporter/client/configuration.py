"""Finds and reads the configuration (contract, section 2). Never from the working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.model import Config
from nightporter.issuers import VENDORS
from nightporter.machine.places import config_file, expand, read_environment
from nightporter.stores import STORES


def load_config(path: str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from the first place that has one (contract, section 2). Never from the
    working directory.

    Raises: ConfigError.
    """
    environment = read_environment() if environment is None else environment
    named = path or environment.get("NIGHTPORTER_CONFIG")
    if not named and (text := environment.get("NIGHTPORTER_CONFIG_TOML")):
        return parse_config(text, source="NIGHTPORTER_CONFIG_TOML", vendors=VENDORS, stores=STORES)
    file = expand(named, "the configuration's path") if named else config_file()
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read().removeprefix("\ufeff")  # a byte order mark
        return parse_config(text, source=file, vendors=VENDORS, stores=STORES)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: can't be read as UTF-8 text ({type(exc).__name__})") from exc
    raise ConfigError(
        f"there is no configuration at {file}",
        hint=(
            "Run `nightporter init`, or name another with --config, NIGHTPORTER_CONFIG or"
            " NIGHTPORTER_CONFIG_TOML."
        ),
    )


def config_place(path: str | None, environment: Mapping[str, str]) -> str:
    """What `load_config` would read."""
    named = path or environment.get("NIGHTPORTER_CONFIG")
    if named:
        return expand(named, "the configuration's path")
    return (
        "NIGHTPORTER_CONFIG_TOML" if environment.get("NIGHTPORTER_CONFIG_TOML") else config_file()
    )


def has_config(path: str | None, environment: Mapping[str, str]) -> bool:
    """Whether `load_config` would find anything, good or bad."""
    place = config_place(path, environment)
    return place == "NIGHTPORTER_CONFIG_TOML" or os.path.exists(place)
