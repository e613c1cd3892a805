"""Plants faults into a private copy of this tree and looks which of them the tests notice.

A fault first meets the tests that run in this process and reach its function (a trace of the unit,
property and contract tests says which), quick ones first; what lives then meets the tests that
scripts/mutation.toml names for its room, which run the real command. Each fault has a process of
its own, forked from one in which the libraries are loaded already, and a time limit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import tomllib
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from mutants import Mutant, mutants_of, planted, sampled
from mutation_page import Outcome, Report, write_report

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / os.environ.get(
    "MUTATION_WORK", ".mutation"
)  # the copy, what its tests reach, what is known already
COPY = WORK / "copy"
PACKAGE = "plugin/nightporter"
COPIED = ("plugin", "tests", "scripts", "terraform", "pyproject.toml", "README.md", "CHANGELOG.md")
REACH_S, WIDE_S = 12.0, 300.0  # how much of tests one fault meets at most


# The copy


def make_copy() -> None:
    """Brings the copy up to date: this tree's files, and a Python of its own that finds them."""
    COPY.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.rmtree(COPY / name, ignore_errors=True)
            shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, COPY / name)
    if not (COPY / ".venv/bin/python").exists():
        venv.create(COPY / ".venv", symlinks=True)
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    paths = f"{COPY / 'plugin'}\n{ROOT / '.venv' / library}\n"
    (COPY / ".venv" / library / "copy.pth").write_text(paths)
    for command in (ROOT / ".venv/bin").iterdir():
        if not command.name.startswith(("python", "activate", "Activate")):
            place_command(command, COPY / ".venv/bin" / command.name)


def place_command(command: Path, place: Path) -> None:
    """Links a command of the environment into the copy's; one of ours gets the copy's Python."""
    place.unlink(missing_ok=True)
    launcher = ROOT / PACKAGE / "launchers" / command.name
    if launcher.exists():
        shutil.copy2(launcher, place)
    elif command.name == "nightporter-python":
        own = command.read_text().replace(str(ROOT / ".venv"), str(COPY / ".venv"))
        place.write_text(own)
        place.chmod(0o755)
    else:
        place.symlink_to(command)


@contextlib.contextmanager
def fault_in_place(name: str, plant: Callable[[str], str]) -> Iterator[None]:
    """The fault is in the copy's file meanwhile, and no compiled form of it stays behind."""
    file = COPY / PACKAGE / name
    sound, times = file.read_text(), (file.stat().st_atime, file.stat().st_mtime)
    try:
        file.write_text(plant(sound))
        forget_compiled(file)
        yield
    finally:
        file.write_text(sound)
        os.utime(file, times)
        forget_compiled(file)


def forget_compiled(file: Path) -> None:
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


# Tests in a forked process


@dataclass(eq=False)
class Chosen:
    """A plugin of pytest: only these tests, in this order, and the name of the first that fails."""

    wanted: Mapping[str, float] | None
    killer: str = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.wanted is not None:
            wanted = self.wanted
            kept = [item for item in items if item.nodeid in wanted]
            items[:] = sorted(kept, key=lambda item: wanted[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid


@dataclass(eq=False)
class Reach:
    """A plugin of pytest: which functions of ours each test calls, and how long it takes."""

    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _codes: set[CodeType] = field(default_factory=set)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self._codes.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._codes, started = set(), time.monotonic()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            return (yield)  # type: ignore[return-value]
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            seconds = round(time.monotonic() - started, 3)
            self.tests[item.nodeid] = {"seconds": seconds, "calls": sorted(self._functions())}

    def _functions(self) -> set[str]:
        own = f"{COPY / PACKAGE}/"
        codes = [code for code in self._codes if code.co_filename.startswith(own)]
        return {f"{code.co_filename.removeprefix(own)}:{code.co_qualname}" for code in codes}


def in_a_process(work: Callable[[], Any], *, limit_s: float) -> Any:
    """Returns what `work` returns in a forked process, None where its time was over."""
    result = WORK / "result.json"
    result.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            os.setsid()
            with open(WORK / "output.txt", "w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            result.write_text(json.dumps(work()))
        finally:
            sys.stdout.flush()
            os._exit(0)
    deadline = time.monotonic() + limit_s
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.02)
        if time.monotonic() > deadline:
            end(child)
            return None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests left
    return json.loads(result.read_text()) if result.exists() else [1, "a crash of the process"]


def end(child: int) -> None:
    """Ends a process and its group: first so that pytest can put its servers away."""
    for number, patience_s in ((signal.SIGINT, 5.0), (signal.SIGKILL, 60.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    time.sleep(0.02)
                    continue
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def run_pytest(arguments: list[str], plugin: object) -> int:
    shutil.rmtree(COPY / ".hypothesis", ignore_errors=True)
    fixed = ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    fixed += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # libraries are loaded before
    return int(pytest.main([*fixed, f"--basetemp={WORK / 'tmp'}", *arguments], plugins=[plugin]))


def run_tests(files: list[str], wanted: Mapping[str, float] | None) -> tuple[int, str]:
    chosen = Chosen(wanted)
    code = run_pytest(["-x", "-q", "--no-header", *files], chosen)
    return code, chosen.killer


BROKEN = (3, 4)  # pytest itself failed, or was called wrongly


# What reaches what


def load_reach(patterns: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the trace of the tests in this process; those of a changed file are traced anew."""
    place = WORK / "reach.json"
    known: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    files = sorted({str(f.relative_to(COPY)) for p in patterns for f in COPY.glob(p)})
    digests = {name: digest(COPY / name) for name in files}
    stale = [name for name in files if known.get(name, {}).get("digest") != digests[name]]
    for name in stale:
        print(f"tracing {name} ...", file=sys.stderr)
        reach = Reach()
        traced = in_a_process(lambda: (run_pytest(["-q", name], reach), reach.tests), limit_s=900)  # noqa: B023
        if not traced or traced[0] not in (0, 5):
            sys.exit(f"{name} fails without any fault: see {WORK / 'output.txt'}")
        known[name] = {"digest": digests[name], "tests": traced[1]}
        place.write_text(json.dumps(known))
    return {test: facts for name in files for test, facts in known[name]["tests"].items()}


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def reaching(mutant: Mutant, reach: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the quickest tests that reach a mutant, with their seconds, up to REACH_S of them.

    What is at the top of a module is reached by whatever calls anything in it."""
    name = f"{mutant.file}:{mutant.function}"
    found = [
        (facts["seconds"], test)
        for test, facts in reach.items()
        if any(
            call == name or (not mutant.function and call.startswith(name))
            for call in facts["calls"]
        )
    ]
    wanted, total = {}, 0.0
    for seconds, test in sorted(found):
        total += seconds
        if total < REACH_S:
            wanted[test] = seconds
    return wanted


# The run


@dataclass
class Run:
    """Decides one mutant after the other, and remembers what is known."""

    table: dict[str, Any]
    reach: dict[str, dict[str, Any]]
    is_wide: bool

    def outcome(self, mutant: Mutant) -> Outcome:
        with fault_in_place(mutant.file, lambda sound: planted(sound, mutant)):
            wanted = reaching(mutant, self.reach)
            files = sorted({test.partition("::")[0] for test in wanted})
            near = self.verdict(files, wanted, 30 + 5 * sum(wanted.values())) if wanted else None
            if near and near.outcome != "survived":
                return near
            wide = self.wide_files(mutant.file) if self.is_wide else []
            return self.verdict(wide, None, WIDE_S) if wide else Outcome("survived", "")

    @staticmethod
    def verdict(files: list[str], wanted: Mapping[str, float] | None, limit_s: float) -> Outcome:
        result = in_a_process(lambda: run_tests(files, wanted), limit_s=limit_s)
        if result is None:
            return Outcome("timeout", "")
        if result[0] in BROKEN:
            sys.exit(f"pytest could not run: see {WORK / 'output.txt'}")
        return Outcome("survived" if result[0] in (0, 5) else "killed", result[1])

    def wide_files(self, file: str) -> list[str]:
        """Returns the wider tests of a file: those of the longest prefix that the table has."""
        prefixes = [prefix for prefix in self.table["wider"] if file.startswith(prefix)]
        return self.table["wider"][max(prefixes, key=len)] if prefixes else []


def plant_by_hand(number: int | None) -> int:
    """Plants the faults of scripts/planted.toml (or the one of that number, from 1), and returns
    how many of them no test noticed."""
    lives = 0
    for at, entry in enumerate(
        tomllib.loads((ROOT / "scripts/planted.toml").read_text())["planted"], 1
    ):
        if number not in (None, at):
            continue
        with fault_in_place(entry["file"], lambda sound: replaced(sound, entry)):  # noqa: B023
            outcome = Run.verdict(entry["tests"], None, WIDE_S)
        lives += outcome.outcome == "survived"
        print(f"{outcome.outcome:9} {at:2} {entry['rule']}  {outcome.killer}", flush=True)
    return lives


def replaced(sound: str, entry: Mapping[str, Any]) -> str:
    """Returns the source text with one text of it replaced.

    Raises: SystemExit where the text isn't there exactly once: the code has moved on.
    """
    if sound.count(entry["was"]) != 1:
        sys.exit(f"scripts/planted.toml: {entry['was']!r} is not once in {entry['file']}")
    return sound.replace(entry["was"], entry["becomes"])


def chosen_files(names: list[str], rooms: list[str]) -> list[str]:
    """Returns the source files that are meant, relative to the package."""
    base = ROOT / PACKAGE
    found: list[Path] = []
    for name in names or rooms:
        path = base / name
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return list(dict.fromkeys(str(path.relative_to(base)) for path in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts/mutate")
    parser.add_argument("names", nargs="*", help="Rooms or files of the package.")
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--sample", type=int, default=10, help="At most so many of each file.")
    parser.add_argument("--again", action="store_true", help="Run again what lived.")
    parser.add_argument("--wide", action="store_true", help="What lives meets wider tests too.")
    parser.add_argument("--planted", type=int, nargs="?", const=0, help="The faults by hand.")
    parser.add_argument("--fresh", action="store_true", help="Run again everything.")
    parser.add_argument("--minutes", type=float, default=1e9, help="Begin no mutant after that.")
    options = parser.parse_args()
    if Path(sys.prefix) != COPY / ".venv":
        make_copy()
        python = str(COPY / ".venv/bin/python")
        os.execv(python, [python, str(Path(__file__)), *sys.argv[1:]])
    os.chdir(COPY)
    table = tomllib.loads((ROOT / "scripts/mutation.toml").read_text())
    for library in ("boto3", "botocore.session", "hvac", "hypothesis", "moto", "requests"):
        __import__(library)
    if options.planted is not None:
        sys.exit(1 if plant_by_hand(options.planted or None) else 0)
    run = Run(table, load_reach(table["in_process"]), options.wide)
    report = Report.load(WORK / "known.json")
    started = time.monotonic()
    for file in chosen_files(options.names, table["rooms"]):
        source = ROOT / PACKAGE / file
        mutants = mutants_of(file, source.read_text())
        sample = sampled(mutants, seed=options.seed, size=options.sample)
        report.begin(file, digest(source), len(mutants), [mutant.key for mutant in sample])
        for mutant in sample:
            known = None if options.fresh else report.known.get(mutant.key)
            if known and not (options.again and known.outcome == "survived"):
                continue
            if report.reason(mutant.key) or time.monotonic() - started > 60 * options.minutes:
                continue
            outcome = run.outcome(mutant)
            report.add(mutant.key, outcome)
            print(
                f"{outcome.outcome:9} {mutant.number:4} {mutant.key}  {outcome.killer}", flush=True
            )
    write_report(report)


if __name__ == "__main__":
    main()
