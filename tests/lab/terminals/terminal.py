"""A real terminal: commands typed into it, and the transcripts that the documents show.

A transcript is a block of a document that begins with `<!-- transcript: STAGE -->`. What stands
behind `$` is typed into a shell; at a prompt of a command what the document shows behind that
prompt, and for a secret, which nobody sees, what `types: ...` in the comment says. What comes out
must be what the document shows, but for times and tokens.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pexpect

from lab.patience import patience
from lab.support import BIN, Home

BLOCK = re.compile(
    r"<!-- transcript: (?P<stage>[a-z-]+)(?:; types: (?P<typed>[^>]*?))?"
    r" -->\n```console\n(?P<text>.*?)```",
    re.S,
)
PROMPT, CONTINUED = "$ ", "> "
REAL_PROMPT = "anna@laptop$ "  # which no output ends with
HIDDEN = ("Password: ", "Refresh token: ", "Client secret: ")
SECONDS = 120.0
QUIET_S = 0.25


Answers = list[tuple[str, str | None]]  # what is waited for, and what is then typed, if anything


def at_terminal(
    home: Home, words: list[str], answers: Answers, seconds: float = 60
) -> tuple[int, str]:
    """Runs `nightporter` at a terminal of its own, and types each answer when what it waits for is
    there.

    Its exit code, and all that it has said. What is waited for in vain fails the test.
    """
    environment = {**home.environment, "TERM": "xterm"}
    line = [*home.before, str(BIN / "nightporter"), *words]
    child = pexpect.spawn(
        line[0], line[1:], env=environment, encoding="utf-8", timeout=patience(seconds)
    )
    said = ""
    for awaited, typed in answers:
        found = child.expect_exact([awaited, pexpect.EOF, pexpect.TIMEOUT])
        said += str(child.before)
        assert found == 0, f"{awaited!r} never came: {said}"
        said += awaited
        if typed is not None:
            child.sendline(typed)
    child.expect(pexpect.EOF)
    said += str(child.before)
    child.close()
    return (child.exitstatus if child.exitstatus is not None else -1), said


@dataclass
class Command:
    """One command of a transcript, and the lines that follow it."""

    typed: str
    shown: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    """One block of a document."""

    file: Path
    stage: str
    commands: list[Command]
    secrets: list[str]
    text: str


def transcripts(file: Path) -> list[Transcript]:
    """All of a document."""
    found = []
    for block in BLOCK.finditer(file.read_text()):
        commands: list[Command] = []
        for line in block["text"].splitlines():
            if line.startswith(PROMPT):
                commands.append(Command(line.removeprefix(PROMPT)))
            elif line.startswith(CONTINUED) and not commands[-1].shown:
                commands[-1].typed += f"\n{line.removeprefix(CONTINUED)}"
            else:
                commands[-1].shown.append(line)
        secrets = [word.strip() for word in (block["typed"] or "").split(",") if word.strip()]
        found.append(Transcript(file, block["stage"], commands, secrets, block["text"]))
    return found


class Shell:
    """bash at a terminal, in a home of its own.

    The terminal echoes nothing, since what is typed ahead would be echoed out of order; what was
    typed at a prompt is put where its echo would stand.
    """

    def __init__(self, home: Home, directory: Path) -> None:
        environment = {
            **home.environment,
            "TERM": "dumb",
            "PS1": REAL_PROMPT,
            "PS2": "",
            "LC_ALL": "C.UTF-8",
        }
        self._child = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "--noediting", "-i"],
            env={**environment, "HISTFILE": ""},
            cwd=str(directory),
            encoding="utf-8",
            dimensions=(50, 500),
            echo=False,
        )
        self._child.delaybeforesend = None
        self.answered = 0  # questions so far
        self._child.expect_exact(REAL_PROMPT, timeout=patience(SECONDS))

    def run(self, command: Command, secrets: Sequence[str]) -> list[str]:
        """The lines that the command brought to the screen, what was typed at its prompts among
        them."""
        waiting, remaining = list(secrets), list(command.shown)
        self._child.send(f"{command.typed}\n")
        screen, deadline = "", time.monotonic() + patience(SECONDS)
        while time.monotonic() < deadline:
            try:
                screen += self._child.read_nonblocking(65_536, timeout=QUIET_S).replace(
                    "\r\n", "\n"
                )
                continue
            except (
                pexpect.TIMEOUT
            ):  # nothing more for now: somebody is waited for, or there is more to do
                last = screen.rpartition("\n")[2]
            if command.typed.endswith(" &"):
                if not _has_said(screen):
                    continue
                return screen.replace(REAL_PROMPT, "").splitlines()
            if screen.endswith(REAL_PROMPT):
                return screen.removesuffix(REAL_PROMPT).splitlines()
            answer = _answer_to(last, remaining, waiting)
            if answer is not None:
                self._child.send(f"{answer}\n")
                self.answered += 1
                screen += "" if last in HIDDEN else f"{answer}\n"
        raise AssertionError(f"`{command.typed}` did not end: {screen[-800:]}")

    def close(self) -> None:
        self._child.close(force=True)


def _has_said(screen: str) -> bool:
    """Whether a server in the background has said that it is ready: the prompt is there before."""
    return REAL_PROMPT in screen and screen.endswith("\n")


def _answer_to(last: str, remaining: list[str], secrets: list[str]) -> str | None:
    """What the document shows behind this prompt. None for what is none."""
    shown = [line for line in remaining if line.startswith(last.rstrip())]
    if not last.endswith(": ") or not shown:
        return None
    del remaining[: remaining.index(shown[0]) + 1]
    return secrets.pop(0) if last in HIDDEN else shown[0].removeprefix(last.rstrip()).strip()


# What is different each time.

CHANGING = (
    (r"\bhttp://127\.0\.0\.1:\d+", "<address>"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    (r"\b\d\d:\d\d:\d\d here\b", "<clock> here"),
    (r"\b\d\d? [A-Z][a-z]{2} \d\d:\d\d E[SD]T\b", "<New York>"),
    (r"\b\d+[dhms]( \d+[dhms])*\b", "<duration>"),
    (r"\[[#.]{12}\]", "<bar>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\bcode [0-9A-F]{8}\b", "code <user code>"),
    (r"https://login\.microsoftonline\.com/\S+/authorize\?\S+", "<login>"),
    (r"^\[\d\] \d+$", "<job>"),
    (r"sandbox\.[A-Za-z0-9_-]+(\.\.\.)?", "<token>"),
    (r"\b\d+\.\d+ s\b", "<seconds>"),
    (r'"duration_s": [0-9.]+', '"duration_s": <seconds>'),
)


def plain(line: str) -> str:
    """The line without what is different each time."""
    for pattern, name in CHANGING:
        line = re.sub(pattern, name, line)
    return " ".join(line.split())


def differences(shown: Sequence[str], seen: Sequence[str]) -> list[str]:
    """Where the screen is not what the document shows. A line `...` there stands for any number of
    lines."""
    pattern = "".join(
        ".*\n(?:.*\n)*?" if line == "..." else re.escape(plain(line)) + "\n" for line in shown
    )
    text = "".join(f"{plain(line)}\n" for line in seen)
    if re.fullmatch(pattern, text):
        return []
    return list(
        difflib.unified_diff(
            [plain(line) for line in shown], text.splitlines(), "shown", "seen", lineterm=""
        )
    )
