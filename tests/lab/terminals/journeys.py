"""From an empty home to the first token, by case: which transcript shows it, and what it costs a
user in commands and questions.

The counting is done while a transcript is typed into its terminal (`test_transcripts.py`), so a
row of the page says what was seen. `--record` writes the rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab.support import ROOT

PAGE = ROOT / "plugin/docs/first-hour.md"
DOCS = ROOT / "plugin/docs"
TOKEN = r"it works: received an access token|\"access_token\": "
LOOKING = ("cat ", "ls ")  # these show the reader a file that is there


@dataclass(frozen=True, kw_only=True)
class Journey:
    """`token`, `use`: what the screen shows when the first token is there, and when a client or a
    program has done something with it (regular expressions; None: the transcript ends before)."""

    who: str
    file: Path
    stage: str
    token: str = TOKEN
    use: str | None = None

    @property
    def link(self) -> str:
        """The page, as the table links to it."""
        if self.file.parent == DOCS:
            return f"[{self.file.stem}]({self.file.name})"
        return f"[README](../../{self.file.name})"


JOURNEYS = (
    Journey(
        who="kubectl, with a password, on a laptop",
        file=ROOT / "README.md",
        stage="kubectl",
        use=r"^Username +svc-acme",
    ),
    Journey(who="git, by options", file=ROOT / "README.md", stage="git", use=r"\A\Z"),
    Journey(
        who="docker, by options",
        file=DOCS / "clients.md",
        stage="docker",
        use=r'"schemaVersion"',
    ),
    Journey(who="a laptop, with a login in the browser", file=DOCS / "vendors.md", stage="browser"),
    Journey(
        who="a machine without a browser (device code)", file=DOCS / "vendors.md", stage="headless"
    ),
    Journey(
        who="a developer with Secrets Manager", file=DOCS / "secrets-manager.md", stage="developer"
    ),
    Journey(
        who="a platform team with an empty Vault: mount, policy, AppRole, scheduled job",
        file=DOCS / "vault.md",
        stage="vault-admin",
    ),
    Journey(
        who="the next machine there, which only reads", file=DOCS / "vault.md", stage="vault-reader"
    ),
    Journey(
        who="a CI job there, without a password",
        file=DOCS / "vault.md",
        stage="vault-ci",
        token=r'"orders"',
        use=r'"orders"',
    ),
    Journey(
        who="an AWS Lambda function, from an empty account",
        file=DOCS / "lambda.md",
        stage="lambda",
        token=r'"orders"',
        use=r'"orders"',
    ),
    Journey(
        who="the scheduled job and a consumer in AWS, by Terraform",
        file=DOCS / "lambda.md",
        stage="deploy",
        token=r'"did": "sign-in"',
        use=r'"orders": ',
    ),
    Journey(
        who="a program that asks the agent, where a profile is there",
        file=DOCS / "agent.md",
        stage="agent",
        use=TOKEN,
    ),
)


@dataclass
class Tally:
    """What has been typed so far; `first_token` and `first_use` are (commands, questions) when
    these came."""

    journey: Journey
    commands: int = 0
    questions: int = 0
    first_token: tuple[int, int] | None = None
    first_use: tuple[int, int] | None = None

    def add(self, typed: str, answered: int, seen: list[str]) -> None:
        """One command, the questions answered in it, and the screen that it left."""
        self.commands += not typed.startswith(LOOKING)
        self.questions += answered
        now, text = (self.commands, self.questions), "\n".join(seen)
        if self.first_token is None and re.search(self.journey.token, text, re.M):
            self.first_token = now
        use = self.journey.use
        if self.first_token and not self.first_use and use and re.search(use, text, re.M):
            self.first_use = now

    @property
    def row(self) -> str:
        """The row of the page; `--record` writes it."""
        assert self.first_token, f"{self.journey.stage}: no token came"
        assert self.first_use or not self.journey.use, f"{self.journey.stage}: no use was made"
        cells = (_steps(self.first_token), _steps(self.first_use))
        return f"| {self.journey.who} | {self.journey.link} | {' | '.join(cells)} |"


def _steps(count: tuple[int, int] | None) -> str:
    """Commands and questions, as the page says them."""
    if count is None:
        return "-"
    words = [f"{count[0]} command{'s' * (count[0] > 1)}"]
    words += [f"{count[1]} question{'s' * (count[1] > 1)}"] if count[1] else []
    return ", ".join(words)


def journey_of(file: Path, stage: str) -> Journey | None:
    return next((item for item in JOURNEYS if (item.file, item.stage) == (file, stage)), None)


def row_on_the_page(journey: Journey) -> str:
    """The row as the page has it; empty where there is none."""
    found = re.search(rf"^\| {re.escape(journey.who)} \|.*$", PAGE.read_text(), re.M)
    return found[0] if found else ""


def record(tally: Tally) -> None:
    """Writes the row into the page, with the others in the order of JOURNEYS."""
    rows = [tally.row if one is tally.journey else row_on_the_page(one) for one in JOURNEYS]
    table = "".join(f"{row}\n" for row in rows if row)
    text = PAGE.read_text()
    head, begin, rest = text.partition("<!-- generated: journeys -->\n")
    title, end = rest[: rest.index("| --- ")], rest[rest.index("<!-- end -->") :]
    PAGE.write_text(f"{head}{begin}{title}{'| --- ' * title.count(' | ')}| --- |\n{table}{end}")
