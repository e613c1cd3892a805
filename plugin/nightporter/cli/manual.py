"""The man page, made from the tree of commands. Pure: the same tree gives the same text.

One page for all commands, as `man nightporter` is what people type. roff is written by a few
functions; what it would take for a request of its own (a dot or an apostrophe at the beginning of a
line, a backslash) is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from nightporter.cli.frame import GLOBALS, examples_of, page_of

HEAD = '.TH NIGHTPORTER 1 "" "nightporter" "User Commands"'
FILES = """\
.TP
~/.config/nightporter/config.toml
The configuration, unless NIGHTPORTER_CONFIG or --config name another (on Linux; `nightporter config
path` prints the place). It holds no secret.
.TP
~/.local/share/nightporter
Data: the embedded store, wrappers that `nightporter setup` writes, results that a store would not
take.
.TP
$XDG_RUNTIME_DIR/nightporter, ~/.cache/nightporter
Cached access tokens, readable by their owner alone."""


def render(root: click.Group, version: str) -> str:
    """Returns the page as roff text."""
    context = click.Context(root, info_name="nightporter")
    end = dict(_sections(root.epilog or ""))
    parts = [
        HEAD,
        _section("NAME", f"nightporter \\- {_inline(_first(root))}"),
        _section(
            "SYNOPSIS", ".B nightporter\n[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]..."
        ),
        _section("DESCRIPTION", _paragraphs(root.help or "")),
        _section("OPTIONS", "\n".join(_options(root, context, is_global=True))),
        _section("COMMANDS", "\n".join(_commands(root, context))),
        *(
            _section(title.upper(), f".nf\n{_lines(body)}\n.fi")
            for title, body in end.items()
            if title in ("Environment", "Exit codes", "Examples")
        ),
        _section("FILES", _inline(FILES)),
        _section("VERSION", version),
        _section("SEE ALSO", "README.md and plugin/docs of the repository; `nightporter explain`"),
    ]
    return "\n".join(parts) + "\n"


def _sections(epilog: str) -> Iterator[tuple[str, str]]:
    for block in epilog.split("\b\n")[1:]:
        title, _, body = block.strip("\n").partition(":\n")
        yield title, body


def _commands(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.commands[name]
        if command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        usage = " ".join(word for word in command.collect_usage_pieces(context) if word)
        yield f".SS {_inline(context.command_path)} {_inline(usage)}"
        yield _paragraphs(command.help or "")
        yield from _options(command, context, is_global=False)
        if parent.parent is None:
            yield from _examples(name)
        if isinstance(command, click.Group):
            yield from _commands(command, context)


def _examples(name: str) -> Iterator[str]:
    if lines := examples_of(name):
        yield f".PP\n.nf\n{_lines(chr(10).join(lines))}\n.fi"
        yield f".PP\nPage: {_inline(page_of(name))}"


def _options(command: click.Command, context: click.Context, *, is_global: bool) -> Iterator[str]:
    for option in command.params:
        if not isinstance(option, click.Option) or (option.name in GLOBALS) is not is_global:
            continue
        record = option.get_help_record(context)
        if record is not None:
            yield f".TP\n\\fB{_inline(record[0])}\\fR\n{_inline(record[1])}"


def _first(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split()).rstrip(".")


def _paragraphs(text: str) -> str:
    cleaned = [" ".join(block.split()) for block in text.split("\n\n")]
    return "\n.PP\n".join(_inline(block) for block in cleaned if block)


def _section(title: str, body: str) -> str:
    return f".SH {title}\n{body}"


def _lines(text: str) -> str:
    return "\n".join(_escaped(line) for line in text.splitlines())


def _escaped(line: str) -> str:
    escaped = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _inline(text: str) -> str:
    """Text whose hyphens can be copied; requests at the beginning of a line stay."""
    return "\n".join(
        line if re.match(r"\.(TP|PP)$", line) else _escaped(line) for line in text.split("\n")
    )
