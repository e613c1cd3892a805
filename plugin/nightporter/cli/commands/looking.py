"""Commands that look and change nothing: `status`, `timeline`, `doctor`, `explain`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from nightporter.cli.frame import output_option
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, open_porter, put, say
from nightporter.client.configuration import load_config
from nightporter.client.identity import open_helper_failures
from nightporter.core.checks import nearest, one_of
from nightporter.core.errors import (
    ConfigError,
)
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.model import Config, Role
from nightporter.issuers import VENDORS
from nightporter.machine.files import replace_private
from nightporter.machine.places import read_environment
from nightporter.operations.status import Paint, status_of, to_json, to_text, unstyled


@cli.command()
@click.argument("profiles", nargs=-1)
@output_option
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@pass_options
def status(options: Options, profiles: tuple[str, ...], output: str, watch: bool) -> None:
    """Show sessions and cached tokens.

    Without PROFILES it shows all.
    """
    failures, paint = open_helper_failures(read_environment()), _paint()
    with open_porter(options) as porter:
        names = profiles or tuple(porter.config.profiles)
        while True:
            now = time.time()
            notes = failures.load(now)
            found = [
                status_of(porter.broker_for(name), notes, timeout_s=options.timeout_s())
                for name in names
            ]
            if output == "json":
                put(json.dumps([to_json(item) for item in found], indent=2))
            else:
                text = "\n\n".join(to_text(item, now, paint=paint) for item in found)
                if watch and paint is _styled:
                    click.clear()
                put(text, is_styled=paint is _styled)
            if not watch:
                break
            time.sleep(WATCH_S)
    codes = [item.exit_code for item in found if item.exit_code]
    if codes:
        raise click.exceptions.Exit(min(codes))


WATCH_S = 2.0


@cli.command("timeline")
@click.argument("profile", required=False)
@click.option("--svg", type=click.Path(dir_okay=False), metavar="FILE", help="Draw it into FILE.")
@pass_options
def timeline_command(options: Options, profile: str | None, svg: str | None) -> None:
    """Show past and coming sign-ins, refreshes and expiries."""
    from nightporter.operations import timeline  # deferred: only here

    with open_porter(options) as porter:
        broker = porter.broker_for(profile)
        session = broker.session
        is_reader = broker.profile.role is Role.READ_ONLY
        record = None if is_reader else session.read(time.monotonic() + options.timeout_s()).record
        chosen = broker.profile
        shown = timeline.timeline(
            chosen,
            record,
            broker.held(),
            time.time(),
            lambda at: session.issuer.refresh_expires_at(chosen, at),
        )
        put(timeline.to_text(shown))
        if svg:
            content = timeline.to_svg(shown).encode()
            replace_private(os.path.abspath(svg), content, mode=0o644)


@cli.command()
@click.argument("profiles", nargs=-1)
@click.option(
    "--repair",
    is_flag=True,
    help="Do what is safe: modes, left-over files, waiting results, labels.",
)
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write a report without secrets.",
)
@output_option
@pass_options
def doctor(
    options: Options, profiles: tuple[str, ...], repair: bool, bundle: str | None, output: str
) -> None:
    """Find out what is wrong, without spending a token.

    It examines files, commands, stores, permissions, sessions and issuers. The exit code is the
    lowest class among the errors.
    """
    from nightporter.operations import doctor as examination  # deferred: it knows every room

    environment, paint = read_environment(), _paint()
    findings = []
    for finding in examination.Doctor(options.config, environment, is_repair=repair).examine(
        profiles
    ):
        findings.append(finding)
        if output == "text":
            put(examination.to_text([finding], paint=paint), is_styled=paint is _styled)
    put(examination.to_json(findings) if output == "json" else examination.summary(findings))
    if bundle:
        replace_private(
            os.path.abspath(bundle),
            examination.bundle(findings, options.config, environment).encode(),
        )
        say(f"the report is in {bundle}; read it before you give it away")
    if code := examination.exit_code(findings):
        raise click.exceptions.Exit(code)


STYLES: Mapping[str, Mapping[str, Any]] = {
    "title": {"bold": True},
    "ok": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "error": {"fg": "red"},
}


def _styled(text: str, style: str) -> str:
    return click.style(text, **STYLES[style])


def _paint() -> Paint:
    """Styles at a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return _styled if sys.stdout.isatty() and not is_plain else unstyled


@cli.command()
@click.argument("reference", required=False)
@click.argument("name", required=False)
@pass_options
def explain(options: Options, reference: str | None, name: str | None) -> None:
    """Tell what the reference of an error means.

    Every error ends with its reference. Without REFERENCE all are listed. Where the configuration
    has one profile, the commands name it. `explain vendors` lists the rows of the vendors, and
    `explain vendors NAME` prints one, as a row of your own would look in the configuration.
    """
    if reference == "vendors":
        put(_explained_vendors(options, name))
        return
    if name is not None:
        raise click.UsageError("only `explain vendors` takes a NAME.")
    if reference is None:
        put("\n".join(EXPLANATIONS))
        return
    if reference not in EXPLANATIONS:
        near = nearest(reference, EXPLANATIONS)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"there is no such reference{advice}", hint="`nightporter explain` lists them."
        )
    from nightporter.operations.explain import explanation  # deferred: only here

    put(explanation(reference, _config_if_any(options)))


def _config_if_any(options: Options) -> Config | None:
    """The configuration; None where there is none that can be read, which may be what is asked
    about."""
    with contextlib.suppress(ConfigError):
        return load_config(options.config)
    return None


def _explained_vendors(options: Options, name: str | None) -> str:
    """The built-in rows, and the user's own where there is a configuration."""
    from nightporter.operations import explain_vendors  # deferred: only here

    known = dict(VENDORS)
    if config := _config_if_any(options):
        known |= config.vendors
    if name is None:
        return explain_vendors.to_list(known.values())
    if problem := one_of(*known)(name):
        raise ConfigError(f"vendor {name!r}: {problem}", hint="`nightporter explain vendors`.")
    return explain_vendors.to_row(known[name])
