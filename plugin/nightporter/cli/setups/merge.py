"""Files of others, changed in one place and left alone in all others. Pure: text in, text out.

What can't be parsed, or would lose something by being rewritten, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from nightporter.core.errors import ConfigError

MARK = "\ufeff"  # a byte order mark
OTHER_FILE_HINT = "It is the client's own file: correct it, or move it away and run setup again."


def change_json(text: str, change: Callable[[dict[str, Any]], None], *, source: str) -> str:
    """The JSON object with a change made to it, members in their order, indented as it was.

    Raises: ConfigError for what is no object, or says a member twice.
    """
    mark, text = split_mark(text)
    try:
        document = json.loads(text, object_pairs_hook=_unique) if text.strip() else {}
    except (ValueError, RecursionError):
        raise ConfigError(
            f"{source} is not a JSON object without repeated members; nothing was changed",
            hint=OTHER_FILE_HINT,
        ) from None
    if not isinstance(document, dict):
        raise ConfigError(
            f"{source} is not a JSON object; nothing was changed", hint=OTHER_FILE_HINT
        )
    before = json.dumps(document)
    change(document)
    if json.dumps(document) == before:
        return mark + text
    indent = re.search(r"\n([ \t]+)\S", text)
    written = json.dumps(document, indent=indent[1] if indent else "\t", ensure_ascii=False)
    return f"{mark}{written}\n"


def split_mark(text: str) -> tuple[str, str]:
    """Returns a byte order mark, which editors on Windows write and others keep, and the text after
    it."""
    rest = text.removeprefix(MARK)
    return text[: len(text) - len(rest)], rest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def change_toml(text: str, change: Callable[[Any], None], *, source: str) -> str:
    """The TOML document with a change made to it, comments and layout kept (tomlkit).

    Raises: ConfigError.
    """
    import tomlkit  # deferred: only the setups of cargo and uv need it
    from tomlkit.exceptions import TOMLKitError

    mark, text = split_mark(text)
    try:
        document = tomlkit.parse(text)
        change(document)
        return mark + tomlkit.dumps(document)
    except (TOMLKitError, AttributeError, TypeError, ValueError):
        raise ConfigError(
            f"{source} is not TOML of the expected shape; nothing was changed",
            hint=OTHER_FILE_HINT,
        ) from None


def set_line(text: str, key: str, value: str | None) -> str:
    """An ini-like file with one `key=value` line set, or taken out for None (npmrc)."""
    mark, text = split_mark(text)
    lines = [
        line for line in re.split(r"(?<=\n)", text) if line and line.split("=", 1)[0].strip() != key
    ]
    if value is not None:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append(f"{key}={value}\n")
    return mark + "".join(lines)


def npmrc_lines(text: str) -> list[tuple[str, str]]:
    """Keys and values of an npmrc."""
    lines = split_mark(text)[1].split("\n")
    pairs = [line.partition("=") for line in lines if not line.lstrip().startswith(("#", ";"))]
    return [(key.strip(), value.strip()) for key, separator, value in pairs if separator]


BEGIN = "# >>> nightporter {} >>>"
END = "# <<< nightporter {} <<<"


def _mark_line(mark: str) -> str:
    """The whole line, as editors leave it. For `re.M`."""
    return rf"^{re.escape(mark)}[ \t]*(?:\r?\n|\Z)"


def set_block(text: str, name: str, block: str | None) -> str:
    """A file of lines with our marked block in it, or without it for None. A mark whose other one
    was edited away goes alone: the lines beside it are the user's."""
    begin, end = BEGIN.format(name), END.format(name)
    first, last = _mark_line(begin), _mark_line(end)
    ours = rf"(?:(?!{first}).)*?"  # not across another beginning
    rest = re.sub(rf"{first}{ours}{last}", "", text, flags=re.S | re.M)
    rest = re.sub(rf"{first}|{last}", "", rest, flags=re.M)
    if block is None:
        return rest
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return f"{rest}{begin}\n{block}\n{end}\n"
