"""Standard input: the questions that a person answers at a terminal, or what a program
writes."""

from __future__ import annotations

import contextlib
import sys
import webbrowser
from collections.abc import Sequence
from typing import Any

import click

from nightporter.cli.frame import (
    Answer,
    with_choices,
)
from nightporter.cli.terminal import say, say_plainly
from nightporter.core.errors import (
    CommandLineError,
    ConfigError,
)
from nightporter.core.model import Profile
from nightporter.machine.streams import printable
from nightporter.operations import account
from nightporter.operations.login import Person

if sys.platform != "win32":
    import termios


# What the kernel keeps of a line that is being typed (N_TTY of Linux; MAX_CANON of macOS).
LONGEST_LINE = 1023 if sys.platform == "darwin" else 4095


class Terminal:
    """Prompts at a terminal, or reads JSON from standard input."""

    def __init__(self, *, no_browser: bool = False) -> None:
        self.is_there = sys.stdin is not None and sys.stdin.isatty()
        self.person = person(no_browser=no_browser)
        self.say = say

    def ask(self, question: str, *, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """Returns the answer to a question; with `choices` one of them, also by its beginning."""
        return _prompt(
            printable(with_choices(question, choices)),
            default=default,
            show_default=bool(default),
            show_choices=False,
            type=Answer(choices) if choices else None,
        ).strip()

    def read_members(self, profile: Profile) -> dict[str, str]:
        """Returns the members of a credentials secret: asked for one by one, or as JSON from
        standard input."""
        if not self.is_there:
            return account.parse_members(read_stdin())
        found = {}
        for name, is_secret, is_needed in account.members_asked(profile):
            usual = profile.username if name == "username" else None if is_needed else ""
            answer = _prompt(
                name.replace("_", " ").capitalize(),
                hide_input=is_secret,
                default=usual,
                show_default=bool(usual),
            )
            found[name] = answer if is_secret else answer.strip()
        return {name: value for name, value in found.items() if value}

    def read_refresh_token(self) -> str:
        """Returns the refresh token that a person types, hidden, or that standard input brings."""
        return _prompt("Refresh token", hide_input=True) if self.is_there else read_stdin()


def _prompt(question: str, **options: Any) -> str:
    """Returns one line of the terminal, an answer to this question alone.

    Raises: CommandLineError for a line that can't be what was meant; click.Abort.
    """
    _drop_typed_ahead()
    try:
        answer = str(click.prompt(question, err=True, **options))
        size = len(answer.encode())
    except UnicodeError as exc:  # strict, or by the locale with what could not be decoded in it
        if options.get("hide_input"):
            say_plainly("")
        raise CommandLineError(
            "the answer is not UTF-8 text", hint="Set the terminal to UTF-8, and type it again."
        ) from exc
    except click.Abort:
        if not options.get("hide_input"):
            say_plainly("")  # the line of the question is still open
        raise
    if size >= LONGEST_LINE:
        raise CommandLineError(
            f"a terminal passes on only {LONGEST_LINE} bytes of a line, and the answer is as long:"
            " it is probably cut off",
            hint="Give a long secret on standard input, from a file: `< FILE`.",
        )
    if not options.get("hide_input") and not answer.strip().isprintable():
        raise CommandLineError(
            "the answer holds a character that can't be shown, such as that of an arrow key",
            hint="Type it again without that character.",
        )
    return answer


def _drop_typed_ahead() -> None:
    """Discards what was typed before the question was there: the end of a pasted line (or of a
    pasted password) must not answer the next question. ssh and sudo do the same for a secret."""
    if sys.platform == "win32":  # pragma: no cover - not run by our tests
        return
    with contextlib.suppress(termios.error, OSError, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def check_agreed(question: str) -> None:
    """Raises: ConfigError where nobody can be asked, or the answer is no."""
    terminal = Terminal()
    if not terminal.is_there:
        raise ConfigError("nobody is at the terminal to be asked", hint="Add --yes.")
    if terminal.ask(question, default="no", choices=("yes", "no")) == "no":
        raise ConfigError("nothing was removed", hint="Answer yes, or add --yes.")


def person(*, no_browser: bool) -> Person:
    """Returns who answers a login: this terminal, and the browser unless `no_browser`."""
    return Person(
        say=say_plainly,
        open_browser=None if no_browser else webbrowser.open,
        read_line=lambda: sys.stdin.readline(),
    )


def read_stdin() -> str:
    """Returns standard input, up to 64 KiB. Raises: ConfigError where it is no UTF-8 text."""
    try:
        return sys.stdin.read(65_537).removeprefix("\ufeff")  # Windows writes one
    except (UnicodeDecodeError, AttributeError, OSError, ValueError) as exc:
        raise CommandLineError(
            "standard input can't be read as UTF-8 text", hint="Pipe text into it, or a file."
        ) from exc
