"""What all commands of the command line share: global options, words that are completed, help.

Each help has whole sentences, examples, and the global options in a section of their own; what
holds for all commands (variables, exit codes, where the documents are) is in `nightporter --help`
and in the man page, which is made from the same tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from nightporter.cli.terminal import MAX_TIMEOUT_S, Options
from nightporter.core.checks import nearest

F = TypeVar("F", bound=Callable[..., Any])
GLOBALS = ("config", "timeout", "verbose")
SHORT = 60  # choices that fit into the line of a question

EXAMPLES: Mapping[str, str] = {
    "agent": """
nightporter agent                                          at a socket of your own
nightporter agent --port 7654 --token-file ~/agent.token   at a loopback port too
""",
    "completion": """
nightporter completion bash >~/.local/share/bash-completion/completions/nightporter
nightporter completion zsh >~/.zfunc/_nightporter     # with ~/.zfunc in fpath
nightporter completion fish >~/.config/fish/completions/nightporter.fish
""",
    "config": """
nightporter config check    say everything that is wrong with the file
nightporter config show     print what is in effect, and why
""",
    "credential": """
printf 'protocol=https\\nhost=git.example.com\\n\\n' | nightporter credential git get
""",
    "credentials": """
nightporter credentials set pitchpoint                  ask for user name and password
nightporter credentials set pitchpoint <account.json    read them from standard input
nightporter credentials delete pitchpoint               remove them from the store
""",
    "doctor": """
nightporter doctor                        examine all profiles
nightporter doctor pitchpoint --repair    repair what is safe to repair
nightporter doctor --bundle report.json   write a report without secrets, for a ticket
""",
    "exec-credential": """
nightporter setup kubectl pitchpoint    write the user of the kubeconfig that runs it
""",
    "explain": """
nightporter explain store-sealed
""",
    "init": """
nightporter init                             ask for everything
nightporter init second                      add another profile, or check one that is there
nightporter init pitchpoint --issuer pitchpoint --store local \\
    --credentials prod/pitchpoint --host git.example.com --setup git
nightporter sandbox &                        a vendor to try it with:
nightporter init --base-url http://127.0.0.1:PORT
""",
    "login": """
nightporter login perspio                 through the browser of this machine
nightporter login perspio --no-browser    from a machine without one
""",
    "logout": """
nightporter logout pitchpoint                drop the cached tokens of this machine
nightporter logout pitchpoint --everywhere   end the session for all machines
""",
    "policy": """
nightporter policy pitchpoint --role full
nightporter policy --role read-only --store vault --credentials prod/pitchpoint \\
    --set publish_access_token=prod/pitchpoint/access
""",
    "rotate": """
nightporter rotate                      do what is due, for all profiles
nightporter rotate --dry-run            say what is due
nightporter rotate --access --jobs 32   publish access tokens for read-only consumers
nightporter rotate --jobs 64 --processes 4
""",
    "run": """
nightporter run pitchpoint -- sh -c 'curl -H "Authorization: Bearer $NIGHTPORTER_TOKEN" ...'
""",
    "sandbox": """
nightporter sandbox --port 8080 &
nightporter init --base-url http://127.0.0.1:8080    user name demo, password demo
""",
    "seed": """
nightporter seed vault-ist --check <refresh-token.txt
""",
    "setup": """
nightporter setup kubectl pitchpoint           write it
nightporter setup docker pitchpoint --print    print what would be written
nightporter setup git pitchpoint --undo        take it back
""",
    "status": """
nightporter status
nightporter status pitchpoint -o json
""",
    "timeline": """
nightporter timeline pitchpoint --svg timeline.svg
""",
    "token": """
nightporter token pitchpoint
curl -sK <(nightporter token pitchpoint -o curl) https://api.example.com/
""",
    "uninstall": """
nightporter uninstall --print          print every place that holds something of nightporter
""",
}

HELP_END = """\b
Examples:
  nightporter init                        set up the first profile
  nightporter token pitchpoint            print an access token
  nightporter setup kubectl pitchpoint    let kubectl ask for it
  nightporter status                      show sessions and cached tokens
  nightporter doctor                      find out what is wrong

\b
Environment:
  NIGHTPORTER_CONFIG      path of the configuration file
  NIGHTPORTER_TIMEOUT     seconds that a command may take (30)
  NIGHTPORTER_LOG         audit log: an absolute path, or stderr
  NIGHTPORTER_METRICS     metrics for Prometheus: an absolute path, *.prom
  OTEL_EXPORTER_OTLP_...  metrics for OpenTelemetry's collector
  NIGHTPORTER_CACHE       file, keyring or off
  NIGHTPORTER_CACHE_DIR   directory of the cached access tokens

\b
Exit codes:
  0 done   2 usage or configuration   3 credentials refused
  4 a person must log in   5 secret store   6 token issuer   7 host not allowed

\b
Documentation: `man nightporter`, README.md and plugin/docs of the repository,
`nightporter explain REFERENCE` for the last line of an error."""
COMMAND_END = "Variables and exit codes: nightporter --help, or man nightporter."

# The page of plugin/docs that tells more about each command.
PAGES: Mapping[str, str] = {
    "agent": "agent",
    "completion": "install",
    "config": "configuration",
    "credential": "clients",
    "credentials": "operations",
    "doctor": "operations",
    "exec-credential": "clients",
    "explain": "errors",
    "init": "first-hour",
    "login": "vendors",
    "logout": "install",
    "policy": "operations",
    "rotate": "operations",
    "run": "clients",
    "sandbox": "vendors",
    "seed": "vendors",
    "setup": "clients",
    "status": "operations",
    "timeline": "operations",
    "token": "commands",
    "uninstall": "install",
}


def examples_of(name: str) -> list[str]:
    """Returns the lines of a command's examples; none for a command that needs none."""
    return EXAMPLES.get(name, "").strip().splitlines()


def page_of(name: str) -> str:
    """Returns the page that tells more about a command, from the root of the repository."""
    return f"plugin/docs/{PAGES.get(name, 'commands')}.md"


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Options), str(parameter.name), value)


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later clicks
    """A number of seconds; above 0 where `is_positive`."""

    name = "seconds"

    def __init__(self, *, is_positive: bool = False, largest: float = float("inf")) -> None:
        self._is_positive = is_positive
        self._largest = largest

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the seconds that the text says."""
        seconds: float = click.FLOAT.convert(value, param, ctx)
        if not 0 <= seconds <= self._largest or (self._is_positive and seconds == 0):
            least = "above 0" if self._is_positive else "0 or more"
            self.fail(f"{value} is not a number of seconds, {least}", param, ctx)
        return seconds


class Count(click.IntRange):
    """A whole number; its help is a sentence, and not a range."""

    def _describe_range(self) -> str:
        return ""


class Choice(click.Choice):  # type: ignore[type-arg,unused-ignore]  # generic in later clicks
    """One of several words; a word that is nearly one of them is answered with a suggestion."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the word as it is, or fails with the nearest one."""
        words = tuple(map(str, self.choices))
        if value in words:
            return str(value)
        near = nearest(str(value).strip().casefold(), words)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        return self.fail(f"{str(value)!r} is not one of {', '.join(words)}{advice}", param, ctx)


class Answer(Choice):
    """A choice as people type it: in any case, or a beginning that only one word has."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the choice that the answer begins, in whatever case."""
        word = str(value).strip().casefold()
        found = [choice for choice in map(str, self.choices) if word and choice.startswith(word)]
        if len(found) == 1 or word in found:
            return word if word in found else found[0]
        if found:
            self.fail(f"{str(value)!r} could be {' or '.join(found)}", param, ctx)
        return super().convert(word, param, ctx)


output_option = click.option(
    "-o",
    "--output",
    metavar="FORM",
    type=Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text or json.",
)


def global_options(command: F) -> F:
    """Adds the global options to a command or group, behind its own; the value given last on the
    line wins."""
    own = list(getattr(command, "__click_params__", ()))
    options = (
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_take,
            help="Say on standard error what is done.",
        ),
        click.option(
            "--timeout",
            type=Seconds(is_positive=True, largest=MAX_TIMEOUT_S),
            metavar="SECONDS",
            expose_value=False,
            callback=_take,
            help="How long to try, in all (30).",
        ),
        click.option(
            "--config",
            metavar="FILE",
            expose_value=False,
            callback=_take,
            help="The configuration file to read.",
        ),
    )
    for option in options:
        command = option(command)
    if own:  # click reads the list from its end
        parameters: list[click.Parameter] = command.__click_params__  # type: ignore[attr-defined]
        parameters[:] = [*parameters[len(own) :], *own]
    return command


class _Helped(click.Command):
    """Help in sections: own options, global options, examples."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = [
            (parameter.name in GLOBALS, record)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(ctx)) is not None
        ]
        for title, is_global in (("Options", False), ("Global options", True)):
            rows = [record for kind, record in shown if kind is is_global]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if lines := examples_of(_top_name(ctx)):
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"  {line}\n")
        if self.epilog is None:
            formatter.write_paragraph()
            formatter.write_text(COMMAND_END)
            formatter.write_text(f"Page: {page_of(_top_name(ctx))} of the repository.")
        super().format_epilog(ctx, formatter)


def _top_name(context: click.Context) -> str:
    """The command below `nightporter` that a context belongs to."""
    while context.parent is not None and context.parent.parent is not None:
        context = context.parent
    return context.info_name or ""


class Command(_Helped):
    """One of our commands."""


class Group(_Helped, click.Group):
    """A group whose commands all take the global options."""

    command_class = Command

    def command(  # type: ignore[override]  # the form without parentheses is not used here
        self, *args: Any, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], click.Command]:
        """Adds a command that takes the global options too."""
        decorate = super().command(*args, **kwargs)
        return lambda function: decorate(global_options(function))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def with_choices(question: str, choices: Sequence[str]) -> str:
    """Returns a question with its choices: in its line where they fit, else in lines above it."""
    if not choices:
        return question
    listed = ", ".join(choices)
    if sum(map(len, choices)) < SHORT:
        return f"{question} ({listed})"
    return f"{click.wrap_text(listed, 78, '  ', '  ')}\n{question}"
