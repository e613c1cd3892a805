"""Commands that hand out tokens: `token`, `exec-credential`, `credential`, `run`."""

from __future__ import annotations

import os
from typing import Any

import click

from nightporter.cli import fast, helpers, setups
from nightporter.cli.fast import ExecCredentialAsk, TokenAsk
from nightporter.cli.frame import (
    Choice,
    Seconds,
)
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, open_porter, say
from nightporter.machine.process import become, restore_core_limit
from nightporter.protocols import plain

retry_refused_option = click.option(
    "--retry-refused",
    is_flag=True,
    help="Try credentials that were refused once more (at a terminal only).",
)


@cli.command()
@click.argument("profile", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FORM",
    type=Choice(plain.OUTPUTS),
    default="token",
    show_default=True,
    help="token, json, header, env, curl, authorization or netrc.",
)
@click.option("--min-ttl", type=Seconds(), metavar="SECONDS", help="Seconds that must be left.")
@click.option("--force-refresh", is_flag=True, help="From an exchange that begins now.")
@retry_refused_option
@pass_options
def token(options: Options, /, **asked: Any) -> None:
    """Print the access token of PROFILE."""
    fast.token(options, TokenAsk(**asked))


@cli.command("exec-credential")
@click.argument("profile", required=False)
@retry_refused_option
@pass_options
def exec_credential(options: Options, /, **asked: Any) -> None:
    """Print kubectl's ExecCredential for PROFILE."""
    fast.exec_credential(options, ExecCredentialAsk(**asked))


@cli.command(
    context_settings={"ignore_unknown_options": True},
    help=f"""Answer a client's helper protocol (git, docker, ...).

    Clients run it. PROTOCOL is one of {", ".join(helpers.PROTOCOLS)}.
    """,
)
@click.argument("protocol", metavar="PROTOCOL", type=Choice(helpers.PROTOCOLS))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_options
def credential(options: Options, protocol: str, arguments: tuple[str, ...]) -> None:
    """Answers a client's helper protocol."""
    raise click.exceptions.Exit(helpers.serve(protocol, list(arguments), options))


@cli.command(
    "run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("profile")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--npm",
    "is_npm",
    is_flag=True,
    help="Give npm the token in a private npmrc for this run, and in no variable.",
)
@click.option(
    "--with-scripts",
    is_flag=True,
    help="With --npm: run the scripts of packages too. They can read the token.",
)
@pass_options
def run_command(
    options: Options, profile: str, command: tuple[str, ...], is_npm: bool, with_scripts: bool
) -> None:
    """Run a command with the token in NIGHTPORTER_TOKEN.

    COMMAND and every process that it starts can read the token. The exit code is that of COMMAND.

    npm reads the .npmrc of the checkout that it is run in: use `nightporter run --npm PROFILE --
    npm install`, which keeps the token from the checkout and from the scripts of packages.
    """
    command = command[1:] if command[0] == "--" else command
    if not command:
        raise click.UsageError("Missing argument 'COMMAND'.")
    if with_scripts and not is_npm:
        raise click.UsageError("--with-scripts is for --npm.")
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        registries = setups.registries(broker.profile) if is_npm else []
        found = broker.access_token(timeout_s=options.timeout_s())
    if is_npm:
        from nightporter.cli.npm import run_npm  # deferred: only here

        restore_core_limit()
        raise click.exceptions.Exit(
            run_npm(command, found.value, registries, dict(os.environ), with_scripts=with_scripts)
        )
    try:
        become(command, NIGHTPORTER_TOKEN=found.value)
    except FileNotFoundError:
        say(f"{command[0]}: there is no such command")
        raise click.exceptions.Exit(127) from None
    except OSError as exc:
        say(f"{command[0]}: can't be run: {exc.strerror}")
        raise click.exceptions.Exit(126) from None
