"""What is known of mutants: scripts/mutation.json, and plugin/docs/mutation.md from it.

scripts/mutate --page       the page anew
scripts/mutate --summary    one line
"""

from __future__ import annotations

import hashlib
import json
import subprocess
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
PACKAGE = ROOT / "plugin/nightporter"
COUNTED = ("killed", "timeout", "equivalent")

HEAD = """# Mutation testing

`./scripts/mutate` plants one small fault after the other into a private copy of the package and
looks whether a test fails: comparisons turned or moved to their border, constants off by one,
operands of `and` and `or` dropped, conditions negated, calls, statements, `raise` and results
removed, words swapped. A seed draws a sample of each file; texts for people are left alone. What no
test can tell from the sound code is listed with its reason and doesn't count.

The rooms are those that decide about a session (`scripts/mutation.toml`). Each fault meets the
unit, property and contract tests that call its function: first those that import its module, then
cheap ones, up to twenty seconds of them. So what lives here may still be noticed by another test,
the more so as the tests of the whole command are not run. A test that fails without any fault is
left out, and a fault in a function counts as noticed when a test fails twice, since the machine may
be loaded. A fault that makes a loop endless counts as a timeout; one whose trial was merely late is
not counted at all. A mutant that is in two samples counts in both. The script writes this page.

What lives gets a test or a reason, so the samples below say what is held now. The score of a new
seed, before anybody looks at what lived, says how much is held elsewhere: it was 83 % (seed 24),
84 % (99), 87 % (123, 2026), and last 93 % (4711).
"""


class Outcome(NamedTuple):
    """What became of one mutant, and the first test that failed."""

    outcome: str
    killer: str


@dataclass
class Report:
    """Outcomes by mutant, and the samples of each file."""

    place: Path
    known: dict[str, Outcome]
    files: dict[str, dict[str, Any]]
    reasons: dict[str, str]
    samples: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @classmethod
    def load(cls, place: Path) -> Report:
        """Reads what earlier runs on this machine have found, and what the repository tells."""
        reasons = {_looks(entry): entry["reason"] for entry in equivalent()}
        report = cls(place, {}, load_results()["files"], reasons)
        report.reload()
        return report

    def reload(self) -> None:
        known = json.loads(self.place.read_text()) if self.place.exists() else {}
        self.known = {key: Outcome(*value) for key, value in known.items()}

    def begin(self, file: str, digest: str, mutants: int, samples: dict[str, list[str]]) -> None:
        """Takes samples of a file, by seed, in place of those of another text of it."""
        facts = self.files.get(file, {})
        others = facts["samples"] if facts.get("digest") == digest else {}
        self.files[file] = {"digest": digest, "mutants": mutants, "samples": dict(others)}
        self.samples[file] = samples

    def add(self, key: str, outcome: Outcome) -> None:
        """Keeps an outcome, on the disk too: a run that is stopped goes on from there."""
        self.known[key] = outcome
        temporary = self.place.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.known, indent=0))
        temporary.replace(self.place)

    def reason(self, key: str) -> str | None:
        """Returns why a mutant is equivalent; None where nobody says so."""
        return self.reasons.get(key.rpartition(" | ")[0])

    def results(self) -> dict[str, Any]:
        """Returns the numbers of each file and sample, with the keys of what lives."""
        for file, samples in self.samples.items():
            for seed, sample in samples.items():
                self.files[file]["samples"][seed] = self._counted(sample)
        return {"commit": head(), "files": dict(sorted(self.files.items()))}

    def _counted(self, sample: list[str]) -> dict[str, Any]:
        equal = [key for key in sample if self.reason(key)]
        run = [key for key in sample if key in self.known and key not in equal]
        outcomes = [self.known[key].outcome for key in run]
        numbers = {name: outcomes.count(name) for name in ("killed", "timeout")}
        lives = [key for key in run if self.known[key].outcome == "survived"]
        return {**numbers, "equivalent": len(equal), "survived": lives}


def equivalent() -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads(TABLE.read_text())["equivalent"]
    return found


def _looks(entry: Mapping[str, str]) -> str:
    names = ("file", "function", "operator", "line", "change")
    return " | ".join(entry[name] for name in names)


def head() -> str:
    """Returns the commit that the tree is at, with a sign where it has changed since."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "plugin/nightporter", "tests"])
    return commit.stdout.strip() + ("+" if changed.returncode else "")


def load_results() -> dict[str, Any]:
    empty: dict[str, Any] = {"commit": "", "files": {}}
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else empty


def write_report(report: Report) -> None:
    """Writes the results into the repository, and the page from them."""
    RESULTS.write_text(json.dumps(report.results(), indent=1) + "\n")
    write_page()


# Numbers


def merged(samples: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the sum of samples."""
    samples = list(samples)
    numbers = {name: sum(sample[name] for sample in samples) for name in COUNTED}
    lives = [key for sample in samples for key in sample["survived"]]
    return {**numbers, "survived": list(dict.fromkeys(lives)), "lives": len(lives)}


def score(sample: Mapping[str, Any]) -> tuple[int, int]:
    """Returns how many mutants were noticed, of how many that can be."""
    noticed = sample["killed"] + sample["timeout"]
    return noticed, noticed + sample["lives"]


def percent(noticed: int, of: int) -> str:
    return f"{100 * noticed / of:.1f} %" if of else "-"


def by_seed(files: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    seeds = sorted({seed for row in files.values() for seed in row["samples"]}, key=int)
    return {
        seed: merged(row["samples"][seed] for row in files.values() if seed in row["samples"])
        for seed in seeds
    }


def total(files: Mapping[str, Any]) -> dict[str, Any]:
    return merged(sample for row in files.values() for sample in row["samples"].values())


def digests_now() -> dict[str, str]:
    """Returns the digest of each file that can be measured, as it is now."""
    return {
        str(path.relative_to(PACKAGE)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in files_in(PACKAGE, tomllib.loads(TABLE.read_text())["rooms"])
    }


def files_in(package: Path, names: Iterable[str]) -> list[Path]:
    """Returns the source files of rooms, and files that are named themselves."""
    found: list[Path] = []
    for path in (package / name for name in names):
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return list(dict.fromkeys(found))


def summary() -> tuple[str, int]:
    """Returns one line for the end of a run, and 1 where the score is below the floor."""
    results, floor = load_results(), tomllib.loads(TABLE.read_text())["floor"]
    files, now = results["files"], digests_now()
    noticed, of = score(total(files))
    seeds = [f"{percent(*score(row))} by seed {seed}" for seed, row in by_seed(files).items()]
    text = f"mutation score {percent(noticed, of)}: {noticed} of {of} sampled mutants noticed"
    text += f" ({', '.join(seeds)}) at {results['commit']}"
    text += f" in {len(files)} of {len(now)} files"
    moved = [name for name, row in files.items() if row["digest"] != now.get(name)]
    if moved:
        text += f"; {len(moved)} of them have changed since"
    if len(moved) > len(files) / 3:
        text += ": measure again with ./scripts/mutate"
    is_low = noticed < of * floor / 100
    return text + (f"; the floor is {floor} %" if is_low else ""), int(is_low)


# The page


def table_of(files: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    yield "| file | mutants | tried | killed | timeout | equivalent | survived | score |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for file, row in files.items():
        yield _row(file, row["mutants"], merged(row["samples"].values()))
    yield _row("all", sum(row["mutants"] for row in files.values()), total(files))


def _row(name: str, mutants: int, sample: Mapping[str, Any]) -> str:
    numbers = (sample["killed"], sample["timeout"], sample["equivalent"], sample["lives"])
    cells = (name, mutants, sum(numbers), *numbers, percent(*score(sample)))
    return "| " + " | ".join(map(str, cells)) + " |"


def seeds_of(files: Mapping[str, Any]) -> Iterable[str]:
    yield "| seed | tried | killed | timeout | equivalent | survived | score |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for seed, sample in by_seed(files).items():
        numbers = (sample["killed"], sample["timeout"], sample["equivalent"], sample["lives"])
        cells = (seed, sum(numbers), *numbers, percent(*score(sample)))
        yield "| " + " | ".join(map(str, cells)) + " |"


def write_page() -> None:
    results = load_results()
    files = results["files"]
    lines = [HEAD, "## Score by sample", "", f"Measured at {results['commit']}.", ""]
    lines += [*seeds_of(files), "", "## Score by file", "", *table_of(files), ""]
    lines += ["## What lives", "", *map(_item, total(files)["survived"]), ""]
    lines += ["## Planted by hand", "", PLANTED, "", *planted_rows(), ""]
    lines += ["## Equivalent", "", *(f"- {_code(e)}: {e['reason']}" for e in equivalent())]
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
        line, code = summary()
        print(line)
        sys.exit(code)
    else:
        write_page()
