"""The command line, with click: every command, its options and its help.

Standard output carries the result alone; whatever is for people goes to standard error. What
`token` and `exec-credential` do is in `fast`, which runs without this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from nightporter import __version__
from nightporter.cli import fast, helpers, setups
from nightporter.cli import init as init_command
from nightporter.cli.fast import ExecCredentialAsk, TokenAsk
from nightporter.cli.frame import (
    HELP_END,
    Answer,
    Choice,
    Count,
    Group,
    Seconds,
    global_options,
    with_choices,
)
from nightporter.cli.init_config import Answers, Setting
from nightporter.cli.init_config import render as render_init
from nightporter.cli.terminal import Options, open_porter, put, say
from nightporter.client.broker import Broker
from nightporter.client.configuration import config_place, load_config
from nightporter.client.identity import open_helper_failures
from nightporter.core.checks import nearest, one_of
from nightporter.core.config import choose_profile, parse_config
from nightporter.core.errors import (
    ConfigError,
    NightporterError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.model import Profile, Role
from nightporter.issuers import DEFAULT_VENDOR, VENDORS
from nightporter.machine import process
from nightporter.machine.files import replace_private
from nightporter.machine.places import read_environment
from nightporter.operations import account
from nightporter.operations import rotate as rotate_job
from nightporter.operations.login import Person
from nightporter.operations.policies import Audience, render_policy
from nightporter.operations.rotate_processes import processes_for, rotate_divided
from nightporter.operations.status import Paint, status_of, to_json, to_text, unstyled
from nightporter.protocols import plain
from nightporter.stores import OURS, STORES

pass_options = click.make_pass_decorator(Options, ensure=True)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line (sys.argv without `arguments`) to its exit code; our own errors go to
    the caller."""
    try:
        code = cli.main(arguments, prog_name="nightporter", standalone_mode=False)
    except click.ClickException as exc:
        with contextlib.suppress(OSError, ValueError):
            exc.show()
            click.echo("  reference: configuration", err=True)
        return 2
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


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


# Tokens.


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
    _restore_core_limit()
    if is_npm:
        from nightporter.cli.npm import run_npm  # deferred: only here

        raise click.exceptions.Exit(
            run_npm(command, found.value, registries, dict(os.environ), with_scripts=with_scripts)
        )
    environment = {**os.environ, "NIGHTPORTER_TOKEN": found.value}
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and an ignored signal survives exec
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - to run it is what was asked
    except FileNotFoundError:
        say(f"{command[0]}: there is no such command")
        raise click.exceptions.Exit(127) from None
    except OSError as exc:
        say(f"{command[0]}: can't be run: {exc.strerror}")
        raise click.exceptions.Exit(126) from None


def _restore_core_limit() -> None:
    """The command that is run may dump core as it could without us."""
    soft, _, hard = os.environ.pop("NIGHTPORTER_CORE_LIMIT", "").partition(":")
    if soft and hard:
        import resource  # deferred: not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (int(soft), int(hard)))


# Credentials and sessions.


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
        members = _Terminal().read_members(account.check_has_secret(broker.profile))
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
            _check_agreed(
                f"Remove the credentials of {chosen.name!r} from store {chosen.store.name!r}?"
            )
        account.delete_credentials(broker, options.timeout_s(), say)


def _check_agreed(question: str) -> None:
    """Raises: ConfigError where nobody can be asked, or the answer is no."""
    terminal_of_person = _Terminal()
    if not terminal_of_person.is_there:
        raise ConfigError("nobody is at the terminal to be asked", hint="Add --yes.")
    if terminal_of_person.ask(question, default="no", choices=("yes", "no")) == "no":
        raise ConfigError("nothing was removed", hint="Answer yes, or add --yes.")


class _Terminal:
    """Prompts at a terminal, or reads JSON from standard input."""

    def __init__(self, *, no_browser: bool = False) -> None:
        self.is_there = sys.stdin is not None and sys.stdin.isatty()
        self.person = _person(no_browser=no_browser)
        self.say = say

    def ask(self, question: str, *, default: str | None = None, choices: Sequence[str] = ()) -> str:
        answer = click.prompt(
            with_choices(question, choices),
            default=default,
            show_default=bool(default),
            show_choices=False,
            type=Answer(choices) if choices else None,
            err=True,
        )
        return str(answer).strip()

    def read_members(self, profile: Profile) -> dict[str, str]:
        if not self.is_there:
            return account.parse_members(_read_stdin())
        found = {}
        for name, is_secret, is_needed in account.members_asked(profile):
            usual = profile.username if name == "username" else None if is_needed else ""
            found[name] = click.prompt(
                name.replace("_", " ").capitalize(),
                hide_input=is_secret,
                default=usual,
                show_default=bool(usual),
                err=True,
            )
        return {name: value for name, value in found.items() if value}

    def read_refresh_token(self) -> str:
        return (
            click.prompt("Refresh token", hide_input=True, err=True)
            if self.is_there
            else _read_stdin()
        )


def _person(*, no_browser: bool) -> Person:
    return Person(
        say=lambda text: click.echo(text, err=True),
        open_browser=None if no_browser else webbrowser.open,
        read_line=lambda: sys.stdin.readline(),
    )


def _read_stdin() -> str:
    try:
        return sys.stdin.read(65_537).removeprefix("\ufeff")  # Windows writes one
    except (UnicodeDecodeError, AttributeError, OSError, ValueError) as exc:
        raise ConfigError("standard input can't be read as UTF-8 text") from exc


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
        person = _person(no_browser=no_browser)
        who = account.start_by_log_in(broker, person, options.log_in_s())
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
        account.start_by_seed(broker, _Terminal().read_refresh_token(), options.timeout_s())
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


# Looking.


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
            codes = [
                _show_report(report, is_text)
                for report in _with_progress(reports, len(brokers), is_text)
            ]
    failures = [code for code in codes if code]
    if failures:
        raise click.exceptions.Exit(min(failures))
    if len(codes) < len(brokers):
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
            options=dict(_parse_pair("--store-set", text) for text in store_settings),
            settings=_settings(settings),
        )
        text = render_init(answers)
        parsed = parse_config(text, source="the command line", vendors=VENDORS, stores=STORES)
        chosen = choose_profile(parsed, None)
    put(render_policy(chosen, Audience(role)))


def _known_store(kind: str) -> str:
    if problem := one_of(*STORES)(kind):
        raise ConfigError(f"--store {problem}")
    return kind


@cli.command()
@click.argument("profiles", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FORM",
    type=Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text or json.",
)
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
                put(text)
            if not watch:
                break
            time.sleep(WATCH_S)
    codes = [item.exit_code for item in found if item.exit_code]
    if codes:
        raise click.exceptions.Exit(min(codes))


WATCH_S = 2.0


# The first five minutes.


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
        | dict(_parse_pair("--store-set", text) for text in more_options),
        auth=dict(_parse_pair("--auth", text) for text in auth),
        settings=_settings(settings, base_url=base_url, role=role),
        is_checked=not no_check,
    )
    init_command.Onboarding(given, _Terminal(no_browser=no_browser), options).run()


def _settings(pairs: Sequence[str], **flags: str | None) -> dict[str, Setting]:
    """The profile's further keys. `fields.username=user` is a key of the table `fields`."""
    found: dict[str, Setting] = {key: value for key, value in flags.items() if value}
    for text in pairs:
        key, value = _parse_pair("--set", text)
        table, dot, name = key.partition(".")
        if dot:
            inner = found.get(table)
            found[table] = {**(inner if isinstance(inner, dict) else {}), name: value}
        else:
            found[key] = int(value) if value.isascii() and value.isdigit() else value
    return found


def _parse_pair(flag: str, text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"{flag} takes KEY=VALUE")
    return key, value


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
@click.option(
    "-o",
    "--output",
    metavar="FORM",
    type=Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text or json.",
)
@pass_options
def doctor(
    options: Options, profiles: tuple[str, ...], repair: bool, bundle: str | None, output: str
) -> None:
    """Find out what is wrong, without spending a token.

    It examines files, commands, stores, permissions, sessions and issuers. The exit code is the
    lowest class among the errors.
    """
    from nightporter.operations import doctor as examination  # deferred: it knows every room

    environment = read_environment()
    findings = []
    for finding in examination.Doctor(options.config, environment, is_repair=repair).examine(
        profiles
    ):
        findings.append(finding)
        if output == "text":
            put(examination.to_text([finding], paint=_paint()))
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

    Every error ends with its reference. Without REFERENCE all are listed. `explain vendors` lists
    the rows of the vendors, and `explain vendors NAME` prints one, as a row of your own would
    stand in the configuration.
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
    found = EXPLANATIONS[reference]
    put(
        f"{reference}\n\n{click.wrap_text(found.meaning, 78)}\n\n"
        f"{click.wrap_text(f'What to do: {found.remedy}', 78)}"
    )


def _explained_vendors(options: Options, name: str | None) -> str:
    """The built-in rows, and the user's own where there is a configuration."""
    from nightporter.operations import explain_vendors  # deferred: only here

    known = dict(VENDORS)
    with contextlib.suppress(ConfigError):
        known |= load_config(options.config).vendors
    if name is None:
        return explain_vendors.to_list(known.values())
    if problem := one_of(*known)(name):
        raise ConfigError(f"vendor {name!r}: {problem}", hint="`nightporter explain vendors`.")
    return explain_vendors.to_row(known[name])


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
    if times and not times.isdigit():
        raise click.BadParameter(f"{text!r} is not KIND or KIND:TIMES")
    if kind.startswith("status-") and kind[7:].isdigit():
        return {"kind": "status", "status": int(kind[7:]), "times": int(times or 1)}
    return {"kind": kind, "times": int(times or 1)}
