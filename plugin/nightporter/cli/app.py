"""The command line, with click: every command, its options and its help.

Standard output carries the result alone; whatever is for people goes to standard error. What
`token` and `exec-credential` do is in `fast`, which runs without this module.
"""

from __future__ import annotations

import click

from nightporter import __version__
from nightporter.cli.commands import agent, job, looking, sandbox, sessions, setting_up, tokens
from nightporter.cli.root import cli as cli
from nightporter.cli.terminal import put
from nightporter.core.errors import CommandLineError

# Importing them has added their commands.
_COMMANDS = (agent, job, looking, sandbox, sessions, setting_up, tokens)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line (sys.argv without `arguments`) to its exit code; our own errors go to
    the caller, and click's as ours.

    Raises: NightporterError.
    """
    try:
        code = cli.main(arguments, prog_name="nightporter", standalone_mode=False)
    except click.ClickException as exc:
        raise _usage_error(exc) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def _usage_error(exc: click.ClickException) -> CommandLineError:
    """What click has to say, in one line, and which help shows how it is right."""
    said = " ".join(exc.format_message().split())
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    command = context.command_path if context is not None else "nightporter"
    return CommandLineError(
        f"{said[:1].lower()}{said[1:]}", hint=f"`{command} --help` shows what it takes."
    )


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
