"""Commands of the first day and the last: `init`, `setup`, `config`, `uninstall`, `completion`."""

from __future__ import annotations

import click

from nightporter.cli import init as init_command
from nightporter.cli import setups
from nightporter.cli.frame import (
    Choice,
    Group,
    global_options,
)
from nightporter.cli.pairs import parse_pair, settings_of
from nightporter.cli.person import Terminal
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, put, say
from nightporter.client.configuration import config_place, load_config
from nightporter.core.errors import (
    ConfigError,
)
from nightporter.core.model import Role
from nightporter.machine.places import read_environment
from nightporter.stores import OURS, STORES


@cli.command()
@click.option(
    "--store",
    metavar="TYPE",
    help=f"Where the secret is: {', '.join(OURS)}, or a type that a package has brought.",
)
@click.option(
    "--store-set",
    "--store-option",
    "more_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="A further key of the store, such as namespace or kms_key_id (repeatable).",
)
@click.option("--address", metavar="URL", help="The URL of Vault; else VAULT_ADDR.")
@click.option("--mount", help="The mount of Vault's KV version 2 engine (secret).")
@click.option(
    "--auth",
    multiple=True,
    metavar="KEY=VALUE",
    help="The Vault auth method: method=..., role_id=... (repeatable).",
)
@click.option("--region", help="The AWS region; else boto3's own chain.")
@click.option(
    "--endpoint-url", metavar="URL", help="The endpoint of Secrets Manager, if not AWS's own."
)
@click.option(
    "--issuer",
    "--vendor",
    "vendor",
    metavar="NAME",
    help="The token issuer, as `explain vendors` lists them, or a row of your own (--vendor is the"
    " older name).",
)
@click.option("--base-url", metavar="URL", help="The base URL of the issuer, if not the usual one.")
@click.option(
    "--role",
    metavar="ROLE",
    type=Choice([role.value for role in Role]),
    help="What this machine may do: full (sign in), refresh-only, or read-only.",
)
@click.option(
    "--credentials",
    metavar="PATH",
    help="The secret that holds username and password (or client_id).",
)
@click.option("--host", "hosts", multiple=True, help="A host that may have the token (repeatable).")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A further key of the profile (repeatable).",
)
@click.option(
    "--setup",
    "clients",
    multiple=True,
    metavar="CLIENT",
    type=Choice(tuple(setups.CLIENTS)),
    help="Set CLIENT up as `nightporter setup` does (repeatable).",
)
@click.option(
    "--no-browser",
    is_flag=True,
    help="Print the login URL; paste the one that the browser ends at.",
)
@click.option("--no-check", is_flag=True, help="Write the file; contact neither issuer nor store.")
@click.argument("profile", required=False)
@pass_options
def init(
    options: Options,
    /,
    profile: str | None,
    vendor: str | None,
    store: str | None,
    credentials: str | None,
    base_url: str | None,
    hosts: tuple[str, ...],
    clients: tuple[str, ...],
    auth: tuple[str, ...],
    more_options: tuple[str, ...],
    settings: tuple[str, ...],
    role: str | None,
    no_check: bool,
    no_browser: bool,
    **store_options: str | None,
) -> None:
    """Add a profile, check it, and get the first token.

    It asks, tries each answer, and writes the configuration. Run it again for another profile, or
    with the name of a profile alone to check that one. It asks nothing that an option answers.
    """
    given = init_command.Given(
        profile=profile,
        vendor=vendor,
        store=store,
        credentials=credentials,
        hosts=hosts,
        clients=clients,
        store_options={key: value for key, value in store_options.items() if value}
        | dict(parse_pair("--store-set", text) for text in more_options),
        auth=dict(parse_pair("--auth", text) for text in auth),
        settings=settings_of(settings, base_url=base_url, role=role),
        is_checked=not no_check,
    )
    init_command.Onboarding(given, Terminal(no_browser=no_browser), options).run()


@cli.command(
    help=f"""Configure a client so that it asks nightporter.

    CLIENT is one of {", ".join(setups.CLIENTS)}. Settings of yours are never overwritten. --undo
    without PROFILE is for all profiles.
    """
)
@click.argument("client", metavar="CLIENT", type=Choice(tuple(setups.CLIENTS)))
@click.argument("profile", required=False)
@click.option("--print", "prints", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--undo", is_flag=True, help="Take back what this command has set up.")
@pass_options
def setup(options: Options, client: str, profile: str | None, prints: bool, undo: bool) -> None:
    """Configures a client, or takes that back."""
    environment = read_environment()
    if undo and profile is None:
        plans = setups.undo_all(client, options, environment, say, is_dry=prints)
        if prints:
            put("\n\n".join(setups.show(item) for item in plans))
    elif prints:
        loaded = load_config(options.config, environment)
        plan, _ = setups.plan(
            client, profile, loaded, options.config, environment, is_undo=undo, is_dry=True
        )
        put(setups.show(plan))
        for note in plan.notes:
            say(note)
    else:
        setups.set_up(client, profile, options, environment, say, is_undo=undo)


@cli.group(cls=Group)
@global_options
def config() -> None:
    """Show or check the configuration."""


@config.command("path")
@pass_options
def config_path(options: Options) -> None:
    """Print which file (or variable) is read."""
    put(config_place(options.config, read_environment()))


@config.command("check")
@pass_options
def config_check(options: Options) -> None:
    """Say everything that is wrong with the configuration."""
    from nightporter.operations import findings  # deferred: only here

    environment = read_environment()
    checked = load_config(options.config, environment)
    if errors := findings.file_problems(checked, environment):
        problems = tuple(f"{error.message}. {error.hint}" for error in errors)
        raise ConfigError(
            f"{checked.source}: a file that it names can't be used", problems=problems
        )
    found = list(findings.configuration_findings(checked, environment))
    for finding in found:
        say(f"warning: {finding.what}\n  what to do: {finding.todo}")
    warned = f", {len(found)} warning(s)" if found else ""
    say(
        f"{checked.source}: {len(checked.profiles)} profile(s), {len(checked.stores)} store(s), no"
        f" errors{warned}"
    )


@config.command("show")
@pass_options
def config_show(options: Options) -> None:
    """Print what is in effect, with the source of each value.

    It holds no secret.
    """
    from nightporter.operations.show_config import render_effective  # deferred: tomlkit

    environment = read_environment()
    put(
        render_effective(load_config(options.config, environment), environment, STORES).rstrip("\n")
    )


@cli.command()
@click.option("--print", "prints", is_flag=True, help="Print the commands; nothing is removed.")
@pass_options
def uninstall(options: Options, prints: bool) -> None:
    """Print how to remove everything from this machine.

    The result is a shell script: clients are taken back to what they were, sessions end, files go,
    the package last. What other machines use too (credentials and sessions in a shared store) is
    in it as a comment. It removes nothing by itself.
    """
    from nightporter.cli.uninstall import script  # deferred: only here

    if not prints:
        raise ConfigError(
            "nothing was removed: this command prints what there is to remove",
            hint="Look at `nightporter uninstall --print`, and run what it prints.",
        )
    put(script(options, read_environment()), end="")


@cli.command()
@click.argument("shell", metavar="SHELL", type=Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    SHELL is bash, zsh or fish. The wheel brings the scripts too: where its directory `share` is on
    the search path of the shell, nothing has to be done.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    put(found(cli, {}, "nightporter", "_NIGHTPORTER_COMPLETE").source())
