"""Every screen that the documents show is typed into a real terminal, in an empty home, and
compared.

`pytest tests/e2e/test_transcripts.py -m clients --record` writes what came out into the documents
instead.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.support import BIN, ROOT, Home
from lab.terminals.journeys import JOURNEYS, Tally, journey_of, record, row_on_the_page
from lab.terminals.stages import STAGES
from lab.terminals.terminal import PROMPT, Shell, Transcript, differences, transcripts
from lab.terminals.world import World
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "plugin/docs").glob("*.md"))]
PLAYS = sorted({(file, shown.stage) for file in DOCUMENTS for shown in transcripts(file)})
SHOWN_HOME = "/home/anna"
SHORTENED = re.compile(r"(sandbox\.[\w-]{6})[\w-]+")


@pytest.fixture
def world(tmp_path: Path, vendor: Vendor, request: pytest.FixtureRequest) -> World:
    return World(
        directory=tmp_path,
        vendor=vendor,
        openbao=lambda: request.getfixturevalue("openbao"),
        moto=lambda: request.getfixturevalue("moto"),
    )


def play(
    shell: Shell, home: Home, shown: Transcript, vendor: Vendor, tally: Tally | None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each command, what the document shows of it, and what the screen shows."""
    host = socket.gethostname()
    names = {
        f"{vendor.address}/device": "https://login.microsoftonline.com/device",
        str(home.path): SHOWN_HOME,
        str(BIN): f"{SHOWN_HOME}/.local/bin",  # where pipx puts the commands
        str(ROOT): f"{SHOWN_HOME}/nightporter",
        f"by {host} at": "by host-7 at",
        f"by {host},": "by host-7,",
    }
    for command in shown.commands:
        answered = shell.answered
        seen = shell.run(command, shown.secrets)
        if tally is not None:
            tally.add(command.typed, shell.answered - answered, seen)
        for name, instead in names.items():
            seen = [line.replace(name, instead) for line in seen]
        yield (
            command.typed,
            command.shown,
            [SHORTENED.sub(r"\1...", line.rstrip()) for line in seen],
        )


@pytest.mark.parametrize(
    ("file", "stage"), PLAYS, ids=lambda item: item.stem if isinstance(item, Path) else item
)
def test_the_screen_is_what_the_document_shows(
    file: Path, stage: str, world: World, request: pytest.FixtureRequest
) -> None:
    is_recording, problems = request.config.getoption("--record"), []
    journey = journey_of(file, stage)
    tally = None if journey is None else Tally(journey)
    with STAGES[stage](world) as home:
        shell = Shell(home, ROOT if stage == "clone" else home.path)
        try:
            for shown in [item for item in transcripts(file) if item.stage == stage]:
                text = ""
                for typed, lines, seen in play(shell, home, shown, world.vendor, tally):
                    problems += differences(lines, seen)
                    kept = lines if "..." in lines and not differences(lines, seen) else seen
                    text += "".join(
                        f"{line}\n" for line in (PROMPT + typed.replace("\n", "\n> "), *kept)
                    )
                if is_recording:
                    file.write_text(file.read_text().replace(shown.text, text))
        finally:
            shell.close()
    if tally is not None and is_recording:
        record(tally)
    elif tally is not None and tally.row != row_on_the_page(tally.journey):
        problems.append(f"{tally.journey.who} takes another number of steps: {tally.row}")
    assert is_recording or not problems, "\n".join(problems)


def test_every_journey_has_a_transcript() -> None:
    """What is counted is typed."""
    assert {(journey.file, journey.stage) for journey in JOURNEYS} <= set(PLAYS)
