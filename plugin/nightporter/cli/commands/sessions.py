"""Commands by which a person begins and ends sessions: `credentials`, `login`, `seed`, `logout`."""

from __future__ import annotations

import click

from nightporter.cli.frame import (
    Group,
    global_options,
)
from nightporter.cli.person import Terminal, check_agreed, person
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, open_porter, say
from nightporter.client.broker import Broker
from nightporter.operations import account


@cli.group(cls=Group)
@global_options
def credentials() -> None:
    """Write or remove the username and password in the store."""


@credentials.command("set")
@click.argument("profile", required=False)
@pass_options
def credentials_set(options: Options, profile: str | None) -> None:
    """Write the username and password of PROFILE to its store.

    They are asked for at a terminal; elsewhere standard input holds them as a JSON object.
    """
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        members = Terminal().read_members(account.check_has_secret(broker.profile))
        account.set_credentials(broker, members, options.timeout_s(), say)


@credentials.command("delete")
@click.argument("profile", required=False)
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask before the secret is removed.")
@pass_options
def credentials_delete(options: Options, profile: str | None, is_agreed: bool) -> None:
    """Remove the username and password of PROFILE from its store.

    The session stays: `nightporter logout PROFILE --everywhere` ends it.
    """
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        chosen = account.check_has_secret(broker.profile)
        if not is_agreed:
            check_agreed(
                f"Remove the credentials of {chosen.name!r} from store {chosen.store.name!r}?"
            )
        account.delete_credentials(broker, options.timeout_s(), say)


@cli.command()
@click.argument("profile", required=False)
@click.option(
    "--no-browser", is_flag=True, help="Print the address; paste the one that the browser ends at."
)
@click.option(
    "--check", is_flag=True, help="Exchange once afterwards, to see that the session works."
)
@pass_options
def login(options: Options, profile: str | None, no_browser: bool, check: bool) -> None:
    """Start a session in the browser, or by a device code."""
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        who = account.start_by_log_in(broker, person(no_browser=no_browser), options.log_in_s())
        _after_login(broker, options, check, f"logged in as {who}" if who else "logged in")


@cli.command()
@click.argument("profile", required=False)
@click.option(
    "--check", is_flag=True, help="Exchange once afterwards, to see that the session works."
)
@pass_options
def seed(options: Options, profile: str | None, check: bool) -> None:
    """Store a refresh token that you already have.

    It is read from standard input, and asked for at a terminal.
    """
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        account.start_by_seed(broker, Terminal().read_refresh_token(), options.timeout_s())
        _after_login(broker, options, check, "seeded")


def _after_login(broker: Broker, options: Options, check: bool, done: str) -> None:
    profile = broker.profile
    say(
        f"{done}: the session of {profile.name!r} is in store {profile.store.name!r} at"
        f" {profile.refresh_token!r}"
    )
    if check:
        say(
            "checked: received an access token, valid until"
            f" {account.check(broker, options.timeout_s())}"
        )


@cli.command()
@click.argument("profile", required=False)
@click.option(
    "--everywhere",
    is_flag=True,
    help="Drop the records in the store too: ends the session for all machines.",
)
@pass_options
def logout(options: Options, profile: str | None, everywhere: bool) -> None:
    """Drop what is cached for PROFILE on this machine."""
    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        removed = account.forget(broker)
        if everywhere:
            account.end_session(broker, options.timeout_s(), say)
        else:
            broker.note("logged-out", where="here")
    rest = (
        " and in the store"
        if everywhere
        else "; the session in the store stays (--everywhere ends it)"
    )
    say(f"logged out of {broker.profile.name!r} here ({removed} cached file(s)){rest}")
