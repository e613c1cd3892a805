"""How much of the package the quick tier runs: scripts/coverage.json, and plugin/docs/coverage.md
from it.

scripts/coverage --judge      the figures of the last run; fails below the floor
scripts/coverage --record     the figures of the last run, into the repository
scripts/coverage --page       the page anew
scripts/coverage --summary    one line
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".coverage"
RESULTS = ROOT / "scripts/coverage.json"
PAGE = ROOT / "plugin/docs/coverage.md"
PACKAGE = ROOT / "plugin/nightporter"
LAB = "tests/lab"  # the tests' own helpers: shown, not judged
# Just below what is reached: a run differs from the next by the few lines that a race decides.
FLOORS = {"lines": 96.5, "branches": 92.0}

HEAD = """# Coverage

What the quick tier runs of the package, with branches, threads and every process that a test
starts: `./scripts/test coverage`, which fails below {lines} % of lines or {branches} % of branches.
It says what no test runs, and nothing about what the tests notice of the rest: that is
[mutation testing](mutation.md). Nothing is left out but what coverage always leaves out: bodies of
`...` alone and what only a type checker runs. The last row is of the tests' own helpers
(`tests/lab`), of which the other tiers run more. `./scripts/coverage --record` writes this page.

## By file

| file | lines | run | branches | run | lines that never ran |
| --- | --- | --- | --- | --- | --- |
"""


class Figures(NamedTuple):
    """How many lines and branches there are, and how many of them ran."""

    lines: int
    lines_run: int
    branches: int
    branches_run: int

    def percent(self, what: str) -> float:
        """Returns the part of the `lines` or `branches` that ran; 100 where there are none."""
        of, ran = getattr(self, what), getattr(self, f"{what}_run")
        return 100.0 * ran / of if of else 100.0


class File(NamedTuple):
    """What was measured of one file: of which content, and the lines that never ran."""

    digest: str
    figures: Figures
    missing: list[int]


def total(figures: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*figures, strict=True)))


def total_of(found: Mapping[str, File]) -> Figures:
    """Returns the figures of the package alone."""
    return total(file.figures for name, file in found.items() if name != LAB)


def digest_of(name: str) -> str:
    file = PACKAGE / name
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.exists() else ""


def measured() -> dict[str, File]:
    """Reads the last run, by the file's path in the package."""
    command, report = [sys.executable, "-m", "coverage"], DATA / "report.json"
    if any(DATA.glob("data.*")):  # one of each process
        subprocess.run([*command, "combine", "--quiet"], cwd=ROOT, check=True)
        for cut in DATA.glob("data.*"):  # of a process that was killed while it wrote
            cut.unlink()
    subprocess.run([*command, "json", "--quiet", "-o", str(report)], cwd=ROOT, check=True)
    found = files_of(json.loads(report.read_text()))
    if unseen := unseen_of(found):
        sys.exit(f"scripts/coverage: no process imported {', '.join(unseen)}")
    return found


def unseen_of(found: Iterable[str]) -> list[str]:
    """Returns the files of the package that a report doesn't have: it counts what was imported."""
    return sorted({str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py")} - {*found})


def files_of(report: Mapping[str, Any]) -> dict[str, File]:
    """Returns what coverage's own report (`coverage json`) says of each file of the package, and
    of the tests' own helpers together."""
    names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    found, lab = {}, []
    for path, row in sorted(report["files"].items()):
        name = path.partition("plugin/nightporter/")[2]
        figures = Figures(*(row["summary"][key] for key in names))
        if name:
            found[name] = File(digest_of(name), figures, row["missing_lines"])
        else:
            lab.append(figures)
    if lab:
        found[LAB] = File("", total(lab), [])
    return found


def recorded() -> dict[str, File]:
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {name: File(row[0], Figures(*row[1]), row[2]) for name, row in rows.items()}


def record(found: Mapping[str, File]) -> None:
    rows = (f"{json.dumps(name)}: {json.dumps(file)}" for name, file in found.items())
    RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    write_page()


def told(figures: Figures) -> str:
    parts = (f"{figures.percent(what):.1f} % of {what}" for what in FLOORS)
    return f"coverage of the package: {' and '.join(parts)}"


def judge(figures: Figures) -> int:
    """Prints the figures; returns 1 where one is below its floor."""
    floors = ", ".join(f"{what} {floor:g} %" for what, floor in FLOORS.items())
    print(f"{told(figures)} (floor: {floors})")
    return int(any(figures.percent(what) < floor for what, floor in FLOORS.items()))


def summary() -> str:
    """Returns one line about the recorded run."""
    files = recorded()
    if not files:
        return "coverage of the package: not recorded (./scripts/test coverage)"
    moved = sum(digest_of(name) != file.digest for name, file in files.items())
    since = f"; {moved} of {len(files.keys() - {LAB})} files have changed since" if moved else ""
    return told(total_of(files)) + since


def rows_of(found: Mapping[str, File]) -> Iterable[str]:
    rows = {name: file for name, file in found.items() if name != LAB}
    rows["all"] = File("", total_of(found), [])
    if LAB in found:
        rows[LAB] = found[LAB]
    for name, (_, figures, missing) in rows.items():
        lines, branches = (f"{figures.percent(what):.1f} %" for what in ("lines", "branches"))
        cells = (name, figures.lines, lines, figures.branches, branches, spans(missing))
        yield "| " + " | ".join(map(str, cells)) + " |"


def spans(lines: Iterable[int]) -> str:
    """Returns `3, 7-9`."""
    found: list[tuple[int, int]] = []
    for line in lines:
        first = found.pop()[0] if found and found[-1][1] == line - 1 else line
        found.append((first, line))
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)


def write_page() -> None:
    head = HEAD.format(**{what: f"{floor:g}" for what, floor in FLOORS.items()})
    PAGE.write_text(head + "\n".join(rows_of(recorded())) + "\n")


def main(choice: str) -> int:
    if choice == "--summary":
        print(summary())
    elif choice == "--page":
        write_page()
    else:
        found = measured()
        if choice == "--record":
            record(found)
        return judge(total_of(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
