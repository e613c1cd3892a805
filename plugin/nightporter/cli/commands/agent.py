"""The command that hands out tokens over HTTP."""

from __future__ import annotations

import click

from nightporter.cli.frame import Count
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options


@cli.command()
@click.option(
    "--socket",
    "path",
    metavar="PATH",
    help="Where to listen; by default nightporter/agent.sock in XDG_RUNTIME_DIR.",
)
@click.option("--port", type=Count(0, 65_535), metavar="N", help="Listen on 127.0.0.1 too; 0: any.")
@click.option(
    "--token-file",
    metavar="FILE",
    help="What asks at the port prove themselves by; made where there is none.",
)
@pass_options
def agent(options: Options, /, path: str | None, port: int | None, token_file: str | None) -> None:
    """Hand out tokens over HTTP to other programs.

    It listens at a Unix socket, or at the one that systemd hands over, until Ctrl-C or SIGTERM.
    """
    from nightporter.cli.agent import run_agent  # deferred: no other command needs a server

    run_agent(options, path=path, port=port, token_file=token_file)
