"""The group that all commands join, and its global options."""

from __future__ import annotations

import click

from nightporter import __version__
from nightporter.cli.frame import (
    HELP_END,
    Group,
    global_options,
)
from nightporter.cli.terminal import Options, put

pass_options = click.make_pass_decorator(Options, ensure=True)


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=HELP_END,
)
@click.version_option(__version__, "-V", "--version", prog_name="nightporter")
@global_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Exchange vendor credentials for access tokens: one session for any number of machines, kept
    in your own secret store."""
    if context.invoked_subcommand is None:
        put(context.get_help())
