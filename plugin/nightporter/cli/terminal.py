"""The two commands that other programs run all day, and what all commands share: streams, errors,
exit codes.

Without click, whose import costs more than all our own code: `parse_plain` knows the ordinary forms
of `token` and `exec-credential`, and leaves everything else, mistakes included, to `cli`. A
property test holds the two parsers to the same answers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from nightporter.client.broker import DEFAULT_TIMEOUT_S, Broker
from nightporter.client.configuration import config_place
from nightporter.client.porter import Porter
from nightporter.client.replies import Reply, keep_reply
from nightporter.core.errors import CommandLineError, NightporterError
from nightporter.core.events import Event
from nightporter.core.model import Token
from nightporter.core.values import dataclass, field
from nightporter.machine.places import read_environment
from nightporter.machine.reply import Ask
from nightporter.machine.streams import printable, printable_but_styled, write_to_stream

MAX_TIMEOUT_S = 86_400.0
LOG_IN_S = 300.0


@dataclass
class Options:
    """The global options, from anywhere on the line."""

    config: str | None = None
    timeout: float | None = None
    verbose: bool = False
    is_silent: bool = False  # for clients that read standard error as a part of the answer
    # For the front door: the whole command line, and a moment before anything was read.
    line: list[str] = field(default_factory=lambda: sys.argv[1:], compare=False)
    began: float = field(default_factory=time.time, compare=False)

    def timeout_s(self, default_s: float = DEFAULT_TIMEOUT_S) -> float:
        """--timeout, else NIGHTPORTER_TIMEOUT, else what the command or its client allows.

        Raises: ConfigError.
        """
        if self.timeout is not None:
            return min(self.timeout, MAX_TIMEOUT_S)
        text = read_environment().get("NIGHTPORTER_TIMEOUT")
        if text is None:
            return default_s
        return _parse_seconds("NIGHTPORTER_TIMEOUT", text)

    def log_in_s(self) -> float:
        """For a login, where a person types meanwhile: --timeout, else five minutes."""
        return self.timeout if self.timeout is not None else LOG_IN_S


# Streams.


def say(text: str) -> None:
    """A line for people."""
    say_plainly(f"nightporter: {text}")


def say_plainly(text: str) -> None:
    """A line for people, without our name before it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        write_to_stream(sys.stderr, f"{text}\n")


class OutputError(Exception):
    """Standard output is closed, or full."""

    def __init__(self, cause: Exception) -> None:
        kind = type(cause).__name__
        super().__init__(f"the result can't be written to standard output ({kind})")


def put(text: str, *, end: str = "\n", is_styled: bool = False) -> None:
    """The result, made printable and written once and whole; `is_styled` keeps our own styles.

    Raises: BrokenPipeError where the reader has gone away, OutputError for anything else.
    """
    try:
        sys.stdout.write((printable_but_styled if is_styled else printable)(text) + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError) as exc:
        raise OutputError(exc) from exc


def show_event(event: str, **facts: Any) -> None:
    """-v: one line an event. The rooms that emit pass no secrets."""
    details = " ".join(f"{key}={value}" for key, value in facts.items() if value is not None)
    say(f"{event} {details}".rstrip())


def show_warning(event: str, **facts: Any) -> None:
    """Without -v only what somebody should know: a record that isn't ours, a result that waits in a
    file."""
    found = Event.parse(event)
    if found is not None and found.is_warning:
        show_event(event, **facts)


def show_warning_to_client(event: str, **facts: Any) -> None:
    """As `show_warning`, without what is for people alone."""
    found = Event.parse(event)
    if found is not None and not found.is_for_people:
        show_warning(event, **facts)


def show_error(error: NightporterError) -> None:
    """Shows on standard error what happened, what to do, and the reference."""
    say(str(error))
    say_plainly(f"  what to do: {error.hint}\n  reference: {error.reference}")


def exit_code_of(command: Callable[[], object]) -> int:
    """Runs a command to its exit code (contract, section 4). No traceback is shown: a frame may
    hold a secret."""
    try:
        code = command()
    except NightporterError as exc:
        show_error(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        # Python would complain once more while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OutputError as exc:
        say(str(exc))
        return 1
    except Exception as exc:
        import traceback

        place = traceback.extract_tb(exc.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        show_error(NightporterError(f"a defect: {type(exc).__name__} in {where}"))
        return 1
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def open_porter(options: Options, *, is_for_client: bool = False) -> Iterator[Porter]:
    """Opens the porter of a command. `is_for_client`: a program runs it, and some take a line on
    standard error for a failure, so an answer comes without one unless -v asks for it."""
    emit: Callable[..., None] = show_event if options.verbose else show_warning
    notify: Callable[[str], None] = say
    if is_for_client and not options.verbose:
        emit = show_warning_to_client
        notify = lambda _text: None  # noqa: E731 - the audit log has it
    if options.is_silent:
        emit, notify = lambda _event, **_facts: None, lambda _text: None
    is_heard = not (is_for_client or options.is_silent)
    with Porter(
        options.config, is_library=False, emit=emit, notify=notify, is_heard=is_heard
    ) as porter:
        try:
            yield porter
        except NightporterError as exc:
            porter.name_in(exc)
            raise


@dataclass(frozen=True, slots=True)
class Served:
    """What a command has answered: `text` without the line's end. `floor_s`: seconds of life that
    the ask named. `given`: a helper's standard input."""

    text: str
    token: Token
    floor_s: float | None = None
    given: bytes | None = None


def leave_reply(options: Options, broker: Broker, served: Served) -> None:
    """Leaves the answer for the launcher; not with -v, where Python has to speak, nor where the
    line names a file by a relative path: the same words mean another one in another directory."""
    environment = read_environment()
    place = config_place(options.config, environment)
    if options.verbose or not os.path.isabs(options.config or place):
        return
    reply = Reply(
        text=served.text,
        token=served.token,
        floor_s=served.floor_s,
        config_file=place,
        began=options.began,
    )
    keep_reply(reply, broker, Ask(options.line, environment, served.given))


# The global options, where a helper's own command line has them.


def take_options(arguments: list[str]) -> tuple[Options, list[str]]:
    """The global options, anywhere on the line, and the other words.

    Raises: ConfigError.
    """
    options, rest = Options(), []
    words = iter(arguments)
    for word in words:
        name, separator, value = word.partition("=")
        if name in ("--config", "--timeout"):
            _set_option(options, name, value if separator else next(words, ""))
        elif word in ("-v", "--verbose"):
            options.verbose = True
        else:
            rest.append(word)
    return options, rest


def _parse_seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise CommandLineError(
            f"{name} must be a number of seconds above 0", hint="A number such as 30."
        )
    return min(seconds, MAX_TIMEOUT_S)


def _set_option(options: Options, name: str, value: str) -> None:
    if name == "--config" and value:
        options.config = value
        return
    if name == "--config":
        raise CommandLineError("--config needs a file")
    options.timeout = _parse_seconds(name, value)
