"""KEY=VALUE on the command line, for `init` and `policy`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nightporter.cli.init_config import Setting
from nightporter.core.checks import is_number


def settings_of(pairs: Sequence[str], **flags: str | None) -> dict[str, Setting]:
    """The profile's further keys. `fields.username=user` is a key of the table `fields`."""
    found: dict[str, Setting] = {key: value for key, value in flags.items() if value}
    for text in pairs:
        key, value = parse_pair("--set", text)
        table, dot, name = key.partition(".")
        if dot:
            inner = found.get(table)
            found[table] = {**(inner if isinstance(inner, dict) else {}), name: value}
        else:
            found[key] = int(value) if is_number(value) else value
    return found


def parse_pair(flag: str, text: str) -> tuple[str, str]:
    """Returns key and value. Raises: click.UsageError where there is no equals sign."""
    key, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"{flag} takes KEY=VALUE")
    return key, value
