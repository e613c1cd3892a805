"""What is known of mutants: scripts/mutation.json, and plugin/docs/mutation.md from it.

scripts/mutate --page       the page anew
scripts/mutate --summary    one line
"""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts/mutation.json"
TABLE = ROOT / "scripts/mutation.toml"
PAGE = ROOT / "plugin/docs/mutation.md"
COUNTED = ("killed", "timeout", "equivalent", "survived")

HEAD = """# Mutation testing

`./scripts/mutate` plants one small fault after the other into a private copy of the package and
looks whether a test fails: comparisons turned or moved to their border, constants off by one,
operands of `and` and `or` dropped, conditions negated, calls, statements, `raise` and results
removed, words swapped. A seed draws the sample; texts for people are left alone. What no test can
tell from the sound code is listed with its reason and doesn't count. Each fault meets the unit,
property and contract tests that reach its function, and no others: what lives here may still be
noticed by a test of the whole command (`--wide`). The script writes this page.
"""


class Outcome(NamedTuple):
    """What became of one mutant, and the first test that failed."""

    outcome: str
    killer: str


@dataclass
class Report:
    """Outcomes by mutant, and the sample of each file."""

    place: Path
    known: dict[str, Outcome]
    files: dict[str, dict[str, Any]]
    table: Mapping[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, place: Path) -> Report:
        """Reads what earlier runs on this machine have found, and what the repository tells."""
        known = json.loads(place.read_text()) if place.exists() else {}
        table = tomllib.loads(TABLE.read_text())
        reasons = {_looks(entry): entry["reason"] for entry in table["equivalent"]}
        outcomes = {key: Outcome(*value) for key, value in known.items()}
        return cls(place, outcomes, load_results(), table, reasons)

    def begin(self, file: str, digest: str, mutants: int, sample: list[str]) -> None:
        self.files[file] = {"digest": digest, "mutants": mutants, "sample": sample}

    def add(self, key: str, outcome: Outcome) -> None:
        self.known[key] = outcome
        self.place.write_text(json.dumps(self.known, indent=0))

    def reason(self, key: str) -> str | None:
        """Returns why a mutant is equivalent; None where nobody says so."""
        return self.reasons.get(key.rpartition(" | ")[0])

    def counted(self, file: str) -> dict[str, Any]:
        """Returns the numbers of a file, with the keys of what lives in place of its sample."""
        facts = dict(self.files[file])
        if "sample" not in facts:
            return facts  # not part of this run
        sample = facts.pop("sample")
        equal = [key for key in sample if self.reason(key)]
        run = [key for key in sample if key in self.known and key not in equal]
        outcomes = [self.known[key].outcome for key in run]
        numbers = {name: outcomes.count(name) for name in ("killed", "timeout")}
        lives = [key for key in run if self.known[key].outcome == "survived"]
        return {**facts, **numbers, "equivalent": len(equal), "survived": lives}


def _looks(entry: Mapping[str, str]) -> str:
    names = ("file", "function", "operator", "line", "change")
    return " | ".join(entry[name] for name in names)


def load_results() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def write_report(report: Report) -> None:
    """Writes the results into the repository, and the page from them."""
    results = {file: report.counted(file) for file in sorted(report.files)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()


def score(files: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Returns how many mutants were noticed, of how many that can be."""
    rows = list(files)
    noticed = sum(row["killed"] + row["timeout"] for row in rows)
    return noticed, noticed + sum(len(row["survived"]) for row in rows)


def percent(noticed: int, of: int) -> str:
    return f"{100 * noticed / of:.1f} %" if of else "-"


def summary() -> str:
    results = load_results()
    noticed, of = score(results.values())
    package = ROOT / "plugin/nightporter"
    moved = [
        file
        for file, row in results.items()
        if not (package / file).exists()
        or hashlib.sha256((package / file).read_bytes()).hexdigest()[:12] != row["digest"]
    ]
    since = f"; {len(moved)} of {len(results)} files have changed since" if moved else ""
    return (
        f"mutation score {percent(noticed, of)}: {noticed} of {of} sampled mutants noticed{since}"
    )


def table_of(results: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    yield "| file | mutants | run | killed | timeout | equivalent | survived | score |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for file, row in [*results.items(), ("all", total(results.values()))]:
        lives = len(row["survived"])
        noticed, of = score([row])
        numbers = (row["killed"], row["timeout"], row["equivalent"], lives)
        cells = (file, row["mutants"], sum(numbers), *numbers, percent(noticed, of))
        yield "| " + " | ".join(map(str, cells)) + " |"


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    numbers = {name: sum(row[name] for row in rows) for name in ("mutants", *COUNTED[:3])}
    return {**numbers, "survived": [key for row in rows for key in row["survived"]]}


def write_page() -> None:
    results, table = load_results(), tomllib.loads(TABLE.read_text())
    lives = [key for row in results.values() for key in row["survived"]]
    lines = [HEAD, "## Score by file", "", *table_of(results), ""]
    lines += ["## What lives", "", *map(_item, lives), ""]
    lines += ["## Planted by hand", "", PLANTED, "", *planted_rows(), ""]
    lines += ["## Equivalent", "", *(f"- {_code(e)}: {e['reason']}" for e in table["equivalent"])]
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


PLANTED = """Each of these breaks one rule of the contract (`scripts/planted.toml`); the tests
beside it notice: `./scripts/mutate --planted`."""


def planted_rows() -> Iterable[str]:
    yield "| rule | where | tests |"
    yield "| --- | --- | --- |"
    for entry in tomllib.loads((ROOT / "scripts/planted.toml").read_text())["planted"]:
        tests = ", ".join(f"`{name.removeprefix('tests/')}`" for name in entry["tests"])
        yield f"| {entry['rule']} | `{entry['file']}` | {tests} |"


def _item(key: str) -> str:
    file, function, operator, *_, change, _nth = key.split(" | ")
    return f"- `{file}` `{function or 'module'}`, {operator}: `{change}`"


def _code(entry: Mapping[str, str]) -> str:
    place = f"`{entry['file']}` `{entry['function'] or 'module'}`"
    return f"{place}, {entry['operator']}: `{entry['change']}`"


if __name__ == "__main__":
    if sys.argv[1:] == ["--summary"]:
        print(summary())
    else:
        write_page()
