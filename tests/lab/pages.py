"""What the pages show: their blocks, and the commands in their prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.support import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "plugin/docs").glob("*.md")),
    ROOT / "terraform/README.md",
    *sorted((ROOT / "terraform/modules").glob("*/README.md")),
    *sorted((ROOT / ".github").glob("*.md")),
]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block. `mark`: the comment above it, empty where there is none."""

    page: Path
    mark: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text()):
            yield Block(page, found["mark"] or "", found["language"], found["text"])


def block(name: str, mark: str) -> str:
    """The text of the one block of a page with this comment above it."""
    (found,) = [
        item for item in blocks() if item.page == ROOT / name and item.mark == f"checked: {mark}"
    ]
    return found.text


def spans(page: Path) -> set[str]:
    """What the page's prose and tables have between backticks."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return {" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)}
