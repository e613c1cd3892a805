"""`sandbox`: a server that plays all vendors, for trying out and for tests."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from nightporter.cli.frame import (
    Count,
)
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, put, say
from nightporter.client.configuration import load_config
from nightporter.core.checks import is_number
from nightporter.core.errors import (
    NightporterError,
)
from nightporter.issuers import VENDORS


@cli.command()
@click.option(
    "--port",
    type=Count(0, 65_535),
    default=0,
    help="The port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--username", default="demo", show_default=True, help="The only user.")
@click.option("--password", default="demo", show_default=True, help="The password of that user.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:TIMES]",
    help="Fail so many requests: busy, status-503, html, truncated, close, lost, hang, ...",
)
@click.option(
    "--expires-in",
    type=Count(min=1),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long its access tokens are valid.",
)
@pass_options
def sandbox(
    options: Options,
    /,
    port: int,
    username: str,
    password: str,
    faults: tuple[str, ...],
    expires_in: int,
) -> None:
    """Run a local server that plays the token issuers.

    It is for trying out and for tests, and prints its URL. Ctrl-C ends it. Below /vendors/NAME it
    speaks in the words of that vendor's row, your own rows included, with a world of its own:

    \b
        base_url = "http://127.0.0.1:PORT/vendors/slack"

    GET URL/_sandbox/state shows counts. POST URL/_sandbox/world changes the world while it runs;
    the body is JSON:

    \b
        {"seed": true}               answers with a new refresh token
        {"revoke": "refresh"}        all refresh tokens are dead; "access": all access tokens
        {"rotation": "rotates"}      or "may-rotate", "reused"
        {"grace_s": 60}              for how long a replaced refresh token works
        {"refresh_life_s": 3600}     new refresh tokens end then, and say so
        {"scope": "read"}            what is granted, whatever is asked for
        {"users": {"demo": "new"}}   the passwords; "clients": the clients' secrets
        {"client_keys": {"demo-client": "(PEM)"}}    public keys of clients that sign
        {"clock_offset_s": 3600}     the vendor's clock is wrong
        {"expires_in": 60}, {"latency_s": 2}, {"reset_counts": true}
        {"faults": [{"kind": "busy", "call": "refresh", "times": 3}]}

    The kinds of faults are busy, status (with "status", "body", "headers"), html, huge, truncated,
    redirect, close, lost, hang, late, drip, gzip and form.
    """
    from nightporter.simulator.server import open_sandbox
    from nightporter.simulator.world import World

    vendors = dict(VENDORS)
    with contextlib.suppress(NightporterError):
        vendors |= load_config(options.config).vendors
    world = World(users={username: password}, expires_in=expires_in)
    world.faults.extend(_parse_fault(text) for text in faults)
    with open_sandbox(world, port=port, vendors=vendors) as address:
        put(address)
        say(
            f'sandbox: set base_url = "{address}"; GET {address}/_sandbox/state shows counts,'
            " POST /_sandbox/world changes it (see --help); Ctrl-C ends it"
        )
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


def _parse_fault(text: str) -> dict[str, Any]:
    kind, _, times = text.partition(":")
    if times and not is_number(times):
        raise click.BadParameter(f"{text!r} is not KIND or KIND:TIMES")
    if kind.startswith("status-") and is_number(kind[7:]):
        return {"kind": "status", "status": int(kind[7:]), "times": int(times or 1)}
    return {"kind": kind, "times": int(times or 1)}
