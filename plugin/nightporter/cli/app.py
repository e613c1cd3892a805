"""The command line, with click: every command, its options and its help.

Standard output carries the result alone; whatever is for people goes to standard error. What
`token` and `exec-credential` do is in `fast`, which runs without this module.
"""

from __future__ import annotations

import io

import click

from nightporter import __version__
from nightporter.cli.commands import agent, job, looking, sandbox, sessions, setting_up, tokens
from nightporter.cli.root import cli as cli
from nightporter.cli.terminal import put, say_plainly

# Importing them has added their commands.
_COMMANDS = (agent, job, looking, sandbox, sessions, setting_up, tokens)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line (sys.argv without `arguments`) to its exit code; our own errors go to
    the caller."""
    try:
        code = cli.main(arguments, prog_name="nightporter", standalone_mode=False)
    except click.ClickException as exc:
        shown = io.StringIO()
        exc.show(shown)  # it repeats what was typed, which a program may have done
        say_plainly(f"{shown.getvalue()}  reference: configuration")
        return 2
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


@cli.command("help", hidden=True, add_help_option=False)
@click.argument("names", nargs=-1)
@click.pass_context
def help_command(context: click.Context, names: tuple[str, ...]) -> None:
    """Print the help of a command."""
    if context.parent is not None:
        cli.main([*names, "--help"], prog_name="nightporter", standalone_mode=False)


@cli.command("version", hidden=True)
def version_command() -> None:
    """Print the version."""
    put(f"nightporter, version {__version__}")
