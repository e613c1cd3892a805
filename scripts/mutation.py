"""Plants faults into a private copy of this tree and looks which of them the tests notice.

Each fault meets the tests that call its function (a trace of the tests in scripts/mutation.toml
says which), cheap ones first, until one fails. Every fault has a process of its own, forked from
one that has done what is common to all, and what is known is on the disk at once: a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from mutants import Mutant, mutants_of, planted_tree, sampled
from mutation_copy import COPY, PACKAGE, ROOT, WORK, make_copy
from mutation_page import Outcome, Report, files_in, write_report
from mutation_tests import (
    Calls,
    Collected,
    Reach,
    by_file,
    digest,
    imports_of,
    run_importing,
    run_pytest,
    swap,
    swapped_code,
    traced,
    users_of_names,
)
from mutation_trials import BROKEN, LATE, MISSED, Result, Trial, run_trials

TERMINAL = os.dup(1)
BUDGET_S = 20.0  # the cost of the tests that one fault meets at most
FILES = 8  # that a process collects which has imported nothing yet
START_S = 15.0  # to import the package and to collect some files
LIBRARIES = ("boto3", "botocore.session", "hvac", "hypothesis", "moto", "requests")


@dataclass(eq=False)
class Run:
    """The mutants of a run that are not known yet, and how each is decided."""

    report: Report
    table: Mapping[str, Any]
    parallel: int
    ends: float
    sources: dict[str, str] = field(default_factory=dict)
    pending: list[Mutant] = field(default_factory=list)
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, file: str, seeds: Sequence[int], size: int, *, again: bool, fresh: bool) -> None:
        """Adds what is to be tried of a file."""
        source = COPY / PACKAGE / file
        self.sources[file] = source.read_text()
        mutants = mutants_of(file, self.sources[file])
        samples = {seed: sampled(mutants, seed=seed, size=size) for seed in seeds}
        keys = {str(seed): [one.key for one in sample] for seed, sample in samples.items()}
        self.report.begin(file, digest(source), len(mutants), keys)
        for mutant in {one.key: one for sample in samples.values() for one in sample}.values():
            known = self.report.known.get(mutant.key)
            is_open = fresh or known is None or (again and known.outcome == "survived")
            if is_open and not self.report.reason(mutant.key):
                self.report.known.pop(mutant.key, None)
                self.pending.append(mutant)

    def decide(self) -> None:
        """Decides what is pending: first what a process can do that has collected the tests."""
        work = Trial("all", self.collect, 1e6)
        for _, result in run_trials([work], parallel=1, work=WORK / "collected"):
            if result.value != 0:
                sys.exit(f"the tests don't run: see {WORK}/collected/slot-0/output.txt")
        self.report.reload()
        self.tests = sound(json.loads((WORK / "reach.json").read_text())["tests"])
        self.try_all(self.importing(), "imports")

    def collect(self) -> int:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
        left_out = [f"--deselect={name}" for name in self.table["without"]]
        with Calls() as calls:
            return run_pytest([*left_out, *self.test_files()], Collected(self.serve, calls))

    def test_files(self) -> list[str]:
        found = {file for pattern in self.table["tests"] for file in COPY.glob(pattern)}
        return sorted(str(file.relative_to(COPY)) for file in found)

    def serve(self, collected: Collected) -> None:
        self.tests = load_reach(collected, self.parallel)
        self.try_all(self.swapping(collected), "swaps")

    def swapping(self, collected: Collected) -> Iterator[Trial]:
        """Yields trials of the faults that can be put into functions that are there already."""
        reach = self.reach()
        imported = collected.calls.functions()
        for mutant in self.pending:
            file = COPY / PACKAGE / mutant.file
            codes = swapped_code(self.sources[mutant.file], mutant, file)
            if codes is None or f"{mutant.file}:{mutant.function}" in imported:
                continue
            wanted = reach.of(mutant)

            def work(codes=codes, file=file, wanted=wanted) -> tuple[int, str]:  # type: ignore[no-untyped-def]
                swap(codes, file)
                return collected.run(wanted)

            yield Trial(mutant.key, work, reach.seconds(wanted))

    def importing(self) -> Iterator[Trial]:
        """Yields trials of the others: the package is imported with the fault in it."""
        reach = self.reach()
        for mutant in self.pending:
            if mutant.key in self.report.known:
                continue
            tree = planted_tree(self.sources[mutant.file], mutant)
            code = compile(tree, str(COPY / PACKAGE / mutant.file), "exec")
            wanted = reach.of(mutant)
            yield importing_trial(mutant, code, wanted, reach.seconds(wanted))

    def reach(self) -> Reach:
        files = {test.partition("::")[0] for test in self.tests}
        imports = {name: imports_of(COPY / name) for name in files}
        recorded = frozenset(self.table["recorded"])
        return Reach(self.tests, users_of_names(COPY / PACKAGE), imports, recorded, BUDGET_S)

    def try_all(self, trials: Iterator[Trial], place: str) -> None:
        def in_time() -> Iterator[Trial]:
            for trial in trials:
                if time.monotonic() > self.ends:
                    return
                yield trial

        for trial, result in run_trials(in_time(), parallel=self.parallel, work=WORK / place):
            if result.value == BROKEN:
                show(f"broken    {trial.name}  {result.reason}")
                continue
            if result == LATE:  # a lock that waits for ever, or a machine that is too busy to say
                show(f"late      {trial.name}")
                continue
            outcome = outcome_of(result)
            self.report.add(trial.name, outcome)
            show(f"{outcome.outcome:9} {trial.name}  {outcome.killer}")


def importing_trial(mutant: Mutant, code: CodeType, wanted: Sequence[str], cost_s: float) -> Trial:
    """Returns the trial of a fault that is imported, with tests of a few files, since each of them
    is imported too."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in wanted))[:FILES]

    def work() -> tuple[int, str]:
        return run_importing(mutant.file, code, files, wanted) if files else (0, "")

    return Trial(mutant.key, work, START_S + cost_s)


def outcome_of(result: Result) -> Outcome:
    if result.value == MISSED:
        return Outcome("timeout", result.reason)
    exit_code, killer = result.value
    return Outcome("survived" if exit_code in (0, 5) else "killed", killer)


def show(line: str) -> None:
    """Prints a line where this program was started, also from a process whose output is a file."""
    os.write(TERMINAL, f"{line}\n".encode())


def load_reach(collected: Collected, parallel: int) -> dict[str, dict[str, Any]]:
    """Returns what each collected test calls; tests of changed files are traced again."""
    place = WORK / "reach.json"
    known = json.loads(place.read_text()) if place.exists() else {"digests": {}, "tests": {}}
    trials = []
    for name, items in by_file(collected.items):
        if known["digests"].get(name) != digest(COPY / name):
            trials.append(Trial(name, lambda items=items: traced(items, collected.failed), 600.0))  # type: ignore[misc]
            known["tests"] = {
                test: facts
                for test, facts in known["tests"].items()
                if test.partition("::")[0] != name
            }
    for trial, result in run_trials(trials, parallel=parallel, work=WORK / "traces"):
        show(f"traced    {trial.name}")
        if result.value in (MISSED, BROKEN):
            show(f"missed    {trial.name}: {result.reason}")
            continue
        known["tests"] |= result.value
        known["digests"][trial.name] = digest(COPY / trial.name)
        place.write_text(json.dumps(known))
    known["tests"] = {
        test: facts for test, facts in known["tests"].items() if test in collected.items
    }
    place.write_text(json.dumps(known))
    for test in (test for test, facts in known["tests"].items() if facts.get("fails")):
        show(f"left out  {test}: fails without any fault")
    return sound(known["tests"])


def sound(tests: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the tests that pass where no fault is: the others tell nothing of one."""
    return {test: facts for test, facts in tests.items() if not facts.get("fails")}


# Faults chosen by hand


def plant_by_hand(number: int | None, parallel: int) -> int:
    """Plants the faults of scripts/planted.toml (or the one of that number, from 1), and returns
    how many of them no test noticed."""
    table = tomllib.loads((ROOT / "scripts/planted.toml").read_text())["planted"]
    chosen = [(at, entry) for at, entry in enumerate(table, 1) if number in (None, at)]
    trials = [
        Trial(f"{at:2} {entry['rule']}", lambda entry=entry: by_hand(entry), 300.0)  # type: ignore[misc]
        for at, entry in chosen
    ]
    lives = 0
    for trial, result in run_trials(trials, parallel=parallel, work=WORK / "planted"):
        if result.value == BROKEN:
            sys.exit(f"{trial.name}: {result.reason}")
        outcome = outcome_of(result)
        lives += outcome.outcome == "survived"
        print(f"{outcome.outcome:9} {trial.name}  {outcome.killer}", flush=True)
    print(f"{len(trials) - lives} of {len(trials)} planted faults are noticed")
    return lives


def by_hand(entry: Mapping[str, Any]) -> tuple[int, str]:
    file = COPY / PACKAGE / entry["file"]
    code = compile(replaced(file.read_text(), entry), str(file), "exec")
    return run_importing(entry["file"], code, entry["tests"], None)


def replaced(sound: str, entry: Mapping[str, Any]) -> str:
    """Returns the source text with one text of it replaced.

    Raises: SystemExit where the text isn't there exactly once: the code has moved on.
    """
    if sound.count(entry["was"]) != 1:
        sys.exit(f"scripts/planted.toml: {entry['was']!r} is not once in {entry['file']}")
    return sound.replace(entry["was"], entry["becomes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts/mutate")
    parser.add_argument("names", nargs="*", help="Rooms or files of the package.")
    parser.add_argument("--seed", type=int, nargs="+", default=[24, 7], help="A sample each.")
    parser.add_argument("--sample", type=int, default=3, help="At most so many of each file.")
    parser.add_argument("--again", action="store_true", help="Try again what lived.")
    parser.add_argument("--fresh", action="store_true", help="Try again everything.")
    parser.add_argument("--planted", type=int, nargs="?", const=0, help="The faults by hand.")
    parser.add_argument("--minutes", type=float, default=1e9, help="Begin no mutant after that.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="At a time.")
    options = parser.parse_args()
    if Path(sys.prefix) != COPY / ".venv":
        python = str(make_copy())
        os.execv(python, [python, str(Path(__file__)), *sys.argv[1:]])
    os.chdir(COPY)
    for library in LIBRARIES:
        __import__(library)
    if options.planted is not None:
        sys.exit(1 if plant_by_hand(options.planted or None, options.jobs) else 0)
    table = tomllib.loads((ROOT / "scripts/mutation.toml").read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    report = Report.load(WORK / "known.json")
    run = Run(report, table, options.jobs, time.monotonic() + 60 * options.minutes)
    for path in files_in(COPY / PACKAGE, options.names or table["rooms"]):
        file = str(path.relative_to(COPY / PACKAGE))
        run.take(file, options.seed, options.sample, again=options.again, fresh=options.fresh)
    if run.pending:
        run.decide()
    write_report(report)


if __name__ == "__main__":
    main()
