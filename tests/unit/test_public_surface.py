"""What version 1 promises (plugin/docs/stability.md), against what was recorded: a change of a name
is deliberate, since it is recorded (`python tests/unit/test_public_surface.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import nightporter
from nightporter.cli.app import cli
from nightporter.core import config, errors, record
from nightporter.core.explanations import EXPLANATIONS
from nightporter.stores import STORES

RECORDED = Path(__file__).with_name("public_surface.json")


def options(command: click.Command) -> list[str]:
    named = [p for p in command.params if isinstance(p, click.Option)]
    return sorted(word for option in named for word in (*option.opts, *option.secondary_opts))


def commands(group: click.Group, before: str = "") -> dict[str, list[str]]:
    """Each command, by its whole name, with its options."""
    found = {}
    for name, command in group.commands.items():
        if command.hidden:
            continue
        found[before + name] = options(command)
        if isinstance(command, click.Group):
            found.update(commands(command, f"{before}{name} "))
    return found


def surface() -> dict[str, Any]:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    own = [item for item in classes if issubclass(item, errors.NightporterError)]
    return {
        "library": sorted(nightporter.__all__),
        "global options": options(cli),
        "commands": commands(cli),
        "profile keys": sorted({*config._PROFILE_KEYS, *config._OPTION_KEYS}),
        "store keys": {name: sorted(store.keys) for name, store in STORES.items()},
        "exit codes": {item.reference: item.exit_code for item in own},
        "references": sorted(EXPLANATIONS),
        "record schema": record.SCHEMA,
    }


def test_the_public_surface_is_as_recorded() -> None:
    """A name that goes is a major version; a new one is recorded with the change that brings it."""
    assert json.loads(json.dumps(surface())) == json.loads(RECORDED.read_text())


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(surface(), indent=1, sort_keys=True) + "\n")
