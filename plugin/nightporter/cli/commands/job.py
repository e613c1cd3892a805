"""The scheduled job, and the permissions that it and others need: `rotate`, `policy`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence

import click

from nightporter.cli.frame import (
    Choice,
    Count,
)
from nightporter.cli.init_config import Answers
from nightporter.cli.init_config import render as render_init
from nightporter.cli.pairs import parse_pair, settings_of
from nightporter.cli.root import cli, pass_options
from nightporter.cli.terminal import Options, open_porter, put
from nightporter.client.broker import Broker
from nightporter.client.configuration import load_config
from nightporter.core.checks import one_of
from nightporter.core.config import choose_profile, parse_config
from nightporter.core.errors import (
    CommandLineError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.issuers import DEFAULT_VENDOR, VENDORS
from nightporter.machine import process
from nightporter.machine.places import read_environment
from nightporter.operations import rotate as rotate_job
from nightporter.operations.policies import Audience, render_policy
from nightporter.operations.rotate_processes import processes_for, rotate_divided
from nightporter.stores import STORES


@cli.command()
@click.argument("profiles", nargs=-1)
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="Every profile of the configuration (also when none is named).",
)
@click.option(
    "--access", is_flag=True, help="Mint and publish access tokens that end within 30 minutes."
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Do only shard I of N; N alone takes I from JOB_COMPLETION_INDEX.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=Count(1, 256),
    default=8,
    show_default=True,
    help="How many at a time.",
)
@click.option(
    "--processes",
    metavar="N",
    type=Count(1, 64),
    help="Divide them over N processes; else over the cores that are there, where it pays.",
)
@click.option("--dry-run", is_flag=True, help="Say what is due, and do nothing.")
@click.option(
    "-o",
    "--output",
    metavar="FORM",
    type=Choice(["text", "json"]),
    help="text or json; else text at a terminal, lines of JSON elsewhere.",
)
@pass_options
def rotate(
    options: Options,
    profiles: tuple[str, ...],
    is_all: bool,
    access: bool,
    shard: str | None,
    jobs: int,
    processes: int | None,
    dry_run: bool,
    output: str | None,
) -> None:
    """Sign in or refresh what is due: the scheduled job.

    It also publishes access tokens and removes what has expired. A profile that fails does not stop
    the others; the exit code is the lowest that is not 0.
    """
    environment = read_environment()
    with open_porter(options) as porter:
        named = list(dict.fromkeys(profiles)) if not is_all else []
        names = named or rotate_job.rotatable(
            porter.config
        )  # who names a read-only profile is told
        engine_index = environment.get("JOB_COMPLETION_INDEX") or environment.get(
            "AWS_BATCH_JOB_ARRAY_INDEX"
        )
        if shard:
            names = rotate_job.of_shard(names, *rotate_job.parse_shard(shard, engine_index))
        brokers = [porter.broker_for(name) for name in names]
        is_text = output == "text" or (output is None and sys.stdout.isatty())
        with process.note_signals() as arrived:

            def rotate_part(
                part: Sequence[Broker], at_a_time: int, should_stop: Callable[[], bool]
            ) -> Iterator[rotate_job.Report]:
                return rotate_job.rotate_all(
                    part,
                    jobs=at_a_time,
                    timeout_s=options.timeout_s,
                    is_access=access,
                    is_dry_run=dry_run,
                    should_stop=should_stop,
                )

            reports = rotate_divided(
                brokers,
                rotate_part,
                processes=processes_for(processes, profiles=len(brokers), jobs=jobs),
                jobs=jobs,
                should_stop=lambda: bool(arrived),
            )
            done, worst = 0, 0  # no report is kept: there may be tens of thousands
            for report in _with_progress(reports, len(brokers), is_text):
                done += 1
                if code := _show_report(report, is_text):
                    worst = min(worst or code, code)
    if worst:
        raise click.exceptions.Exit(worst)
    if done < len(brokers):
        raise KeyboardInterrupt


def _with_progress(
    reports: Iterator[rotate_job.Report], count: int, is_text: bool
) -> Iterator[rotate_job.Report]:
    if not is_text or not sys.stderr.isatty() or count < 2:
        yield from reports
        return
    with click.progressbar(reports, length=count, label="rotating", file=sys.stderr) as shown:
        yield from shown


def _show_report(report: rotate_job.Report, is_text: bool) -> int:
    """Prints it; its exit code."""
    if not is_text:
        put(json.dumps(report.to_json()))
    else:
        what = f"would {report.did}" if report.is_dry_run else report.did
        ends = (
            f", session until {format_rfc3339(report.refresh_expires_at)}"
            if report.refresh_expires_at is not None
            else ""
        )
        why = f": {report.error.message} [{report.error.reference}]" if report.error else ""
        put(f"{report.profile}: {what}{ends} ({report.duration_s:.1f} s){why}")
    return report.error.exit_code if report.error else 0


@cli.command()
@click.argument("profile", required=False)
@click.option(
    "--role",
    metavar="ROLE",
    type=Choice([audience.value for audience in Audience]),
    required=True,
    help="full, refresh-only, read-only, or credentials (who writes the secret).",
)
@click.option("--store", metavar="TYPE", help="Without a configuration: the type of the store.")
@click.option("--credentials", metavar="PATH", help="Without one: the secret with the password.")
@click.option(
    "--issuer",
    metavar="NAME",
    type=Choice(sorted(VENDORS)),
    default=DEFAULT_VENDOR,
    show_default=True,
    help="Without one: the token issuer, as `explain vendors` lists them.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Without one: a further key of the profile, such as publish_access_token (repeatable).",
)
@click.option(
    "--store-set",
    "store_settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Without one: a key of the store, such as mount (repeatable).",
)
@pass_options
def policy(
    options: Options,
    /,
    profile: str | None,
    role: str,
    store: str | None,
    credentials: str | None,
    issuer: str,
    settings: tuple[str, ...],
    store_settings: tuple[str, ...],
) -> None:
    """Print the minimal IAM or Vault policy of a role.

    With --store and --credentials it needs no configuration, and contacts nobody.
    """
    if store is None:
        if credentials or settings or store_settings:
            raise click.UsageError("--credentials, --set and --store-set need --store TYPE.")
        chosen = choose_profile(load_config(options.config), profile)
    else:
        answers = Answers(
            profile=profile or issuer,
            vendor=issuer,
            store=_known_store(store),
            credentials=credentials,
            options=dict(parse_pair("--store-set", text) for text in store_settings),
            settings=settings_of(settings),
        )
        text = render_init(answers)
        parsed = parse_config(text, source="the command line", vendors=VENDORS, stores=STORES)
        chosen = choose_profile(parsed, None)
    put(render_policy(chosen, Audience(role)))


def _known_store(kind: str) -> str:
    if problem := one_of(*STORES)(kind):
        raise CommandLineError(f"--store {problem}")
    return kind
