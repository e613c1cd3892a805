"""The tests that a fault meets: which of them reach it, and a run of them with the fault in place.

Tests are collected once; a fault in a function replaces the function's code in a fork of that
process. What runs while the package is imported (tables, defaults, decorators) can't be replaced
so: such a fault has a process that imports the package with the fault in it, and collects anew.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from mutants import Mutant, planted_tree
from mutation_copy import COPY, PACKAGE

SERVERS = {"openbao", "moto"}  # fixtures that start a server: their tests come last
FIXED = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--hypothesis-seed=0"]
FIXED += ["--no-header", "-q"]
# Libraries are loaded before; a fork of a process with threads is what a test of forks wants.
FIXED += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
NOT_RUN = (3, 4)  # pytest itself failed, or was called wrongly


def run_pytest(arguments: Sequence[str], plugin: object) -> int:
    return int(pytest.main([*FIXED, *arguments], plugins=[plugin]))


# What reaches what


@dataclass(eq=False)
class Calls:
    """Which functions of ours are called meanwhile, in every thread: `file:qualified name`."""

    codes: set[CodeType] = field(default_factory=set)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    def __enter__(self) -> Calls:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @staticmethod
    def stop() -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def functions(self) -> set[str]:
        own = f"{COPY / PACKAGE}/"
        seen = self.codes.copy()  # threads that a test has left behind still add to it
        codes = [code for code in seen if code.co_filename.startswith(own)]
        return {f"{code.co_filename.removeprefix(own)}:{code.co_qualname}" for code in codes}


def traced(items: Sequence[pytest.Item], failed: Callable[[], str]) -> dict[str, dict[str, Any]]:
    """Runs tests, and returns for each its cost in seconds and which functions it calls.

    One that fails without any fault says nothing about faults: it is told as such.
    """
    found = {}
    for item, after in followed(items):
        wall, busy = time.monotonic(), time.process_time()
        with Calls() as calls:
            run_item(item, after)
        busy = time.process_time() - busy
        waited = time.monotonic() - wall - busy
        cost = busy + waited / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        servers = sorted(SERVERS.intersection(getattr(item, "fixturenames", ())))
        facts = {"seconds": round(cost, 3), "calls": sorted(calls.functions())}
        found[item.nodeid] = {**facts, "servers": servers, "fails": failed() == item.nodeid}
    return found


def followed(
    items: Sequence[pytest.Item],
) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Yields each item with the next one, whose fixtures pytest keeps."""
    yield from zip(items, [*items[1:], None][: len(items)], strict=True)


def run_item(item: pytest.Item, after: pytest.Item | None) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)


# A run in which the tests are collected already


@dataclass(eq=False)
class Collected:
    """A plugin of pytest: collects once, and calls `serve` instead of running what it collected."""

    serve: Callable[[Collected], None]
    calls: Calls  # by importing and collecting
    items: dict[str, pytest.Item] = field(default_factory=dict)
    killer: str = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.calls.stop()
        if session.testsfailed:
            raise session.Interrupted("the tests can't be collected")
        self.items = {item.nodeid: item for item in session.items}
        self.serve(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.killer = report.nodeid

    def failed(self) -> str:
        """Returns the name of the test that failed last."""
        return self.killer

    def run(self, names: Sequence[str]) -> tuple[int, str]:
        """Runs tests until one fails twice, and returns pytest's exit code and that one's name.

        Twice: what fails once is as likely late on a loaded machine."""
        items = [self.items[name] for name in names if name in self.items]
        for item, after in followed(items):
            for _ in range(2):
                self.killer = ""
                run_item(item, after)
                if not self.killer:
                    break
            else:
                return 1, self.killer
        return 0, ""


def swapped_code(source: str, mutant: Mutant, file: Path) -> dict[tuple[str, int], CodeType] | None:
    """Returns the code objects that a fault changes, by qualified name and first line.

    None where the fault changes what runs at import, or the names that a function closes over.
    """
    sound = _codes(compile(source, str(file), "exec"))
    faulty = _codes(compile(planted_tree(source, mutant), str(file), "exec"))
    if sound.keys() != faulty.keys():
        return None
    changed = {name: code for name, code in faulty.items() if _body(code) != _body(sound[name])}
    for (name, _), code in changed.items():
        is_function = bool(code.co_flags & 0x2)  # CO_NEWLOCALS: neither a module nor a class
        if not is_function or code.co_freevars != sound[name, code.co_firstlineno].co_freevars:
            return None
    return faulty if changed else None


def _codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {(code.co_qualname, code.co_firstlineno): code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _codes(constant)
    return found


def _body(code: CodeType) -> tuple[Any, ...]:
    constants = [repr(c) for c in code.co_consts if not isinstance(c, CodeType)]
    return (code.co_code, constants, code.co_names, code.co_varnames, code.co_exceptiontable)


def swap(codes: Mapping[tuple[str, int], CodeType], file: Path) -> None:
    """Puts new code into every living function of a file, and forgets what was computed."""
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename == str(file):
            code = codes.get((thing.__code__.co_qualname, thing.__code__.co_firstlineno))
            if code is not None and code.co_freevars == thing.__code__.co_freevars:
                thing.__code__ = code
        elif isinstance(thing, functools._lru_cache_wrapper) and _is_ours(thing):
            thing.cache_clear()


def _is_ours(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("nightporter")


# A run that imports the fault


@dataclass(eq=False)
class Chosen:
    """A plugin of pytest: only these tests, in this order, and the name of the first that fails."""

    wanted: Sequence[str] | None
    killer: str = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.wanted is not None:
            order = {name: at for at, name in enumerate(self.wanted)}
            kept = [item for item in items if item.nodeid in order]
            items[:] = sorted(kept, key=lambda item: order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid


class Planted(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):  # type: ignore[misc]  # typeshed's two bases differ in a default
    """Finds one module, and gives it code of its own."""

    def __init__(self, file: str, code: CodeType) -> None:
        parts = ["nightporter", *Path(file).with_suffix("").parts]
        self._is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if self._is_package else parts)
        super().__init__(name, str(COPY / PACKAGE / file))
        self._planted = code

    def find_spec(self, name: str, _path: object, _target: object = None) -> Any:
        if name != self.name:
            return None
        places = [str(Path(self.path).parent)] if self._is_package else None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=self, submodule_search_locations=places
        )

    def get_code(self, _name: str) -> CodeType:
        return self._planted


def run_importing(
    file: str, code: CodeType, files: Sequence[str], wanted: Sequence[str] | None
) -> tuple[int, str]:
    """Runs tests of some files in this process, which has not imported the package yet, with a
    module's code replaced. Returns pytest's exit code and the first test that failed."""
    planted = Planted(file, code)
    sys.meta_path.insert(0, planted)
    try:
        importlib.import_module(planted.name)
    except Exception as exc:  # noqa: BLE001 - whatever it is, no test could miss it
        return 1, f"{planted.name} can't be imported: {type(exc).__name__}"
    chosen = Chosen(wanted)
    exit_code = run_pytest(["-x", *files], chosen)
    if exit_code in NOT_RUN and not chosen.killer:  # without the fault they are collected
        return 1, "the tests can't be collected"
    return exit_code, chosen.killer


# Which tests


@dataclass(eq=False)
class Reach:
    """Which tests a fault meets: those that call its function; first those of files that import its
    module by name, among them those of a file with its name, then the cheapest."""

    tests: Mapping[str, Mapping[str, Any]]
    users: Mapping[str, set[str]]  # by name: the functions of the package that use it
    imports: Mapping[str, set[str]]  # by file of tests: the files of the package
    recorded: Set[str]  # files of tests that hold tables and names to what was recorded
    budget_s: float
    _by_call: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for test, facts in self.tests.items():
            for call in facts["calls"]:
                self._by_call.setdefault(call, set()).add(test)
                self._by_call.setdefault(f"{call.partition(':')[0]}:", set()).add(test)

    def of(self, mutant: Mutant) -> list[str]:
        """Returns the tests, up to the budget. A fault at the top of a module is met by those that
        hold tables to what was recorded, those of files that import it, and that call what uses the
        name that it defines, then by those that call anything of the file."""
        own = self._by_call.get(f"{mutant.file}:{mutant.function}", set())
        if not mutant.function or not own:
            for user in self.users.get(mutant.defines, set()):
                own = own | self._by_call.get(user, set())
        if not mutant.function:
            own = own | {test for test in self.tests if self._is_meant(test, mutant.file)}
        rest = set() if mutant.function and own else self._by_call.get(f"{mutant.file}:", set())
        own_first = [*self._sorted(own, mutant.file), *self._sorted(rest - own, mutant.file)]
        return self._affordable(own_first)

    def _sorted(self, tests: set[str], file: str) -> list[str]:
        def cost(test: str) -> tuple[bool, bool, bool, bool, float, str]:
            facts, is_meant = self.tests[test], self._is_meant(test, file)
            is_recorded = test.partition("::")[0] in self.recorded
            is_named = _is_named_after(test, file)
            kind = bool(facts["servers"]), not is_meant, not is_recorded, not is_named
            return *kind, facts["seconds"], test

        return sorted(tests, key=cost)

    def _is_meant(self, test: str, file: str) -> bool:
        place = test.partition("::")[0]
        return file in self.imports[place] or place in self.recorded

    def _affordable(self, tests: list[str]) -> list[str]:
        total = 0.0
        kept: list[str] = []
        for test in tests:
            total += self.tests[test]["seconds"]
            if total > self.budget_s and kept:
                break
            kept.append(test)
        return kept

    def seconds(self, tests: Sequence[str]) -> float:
        return float(sum(self.tests[test]["seconds"] for test in tests))


def _is_named_after(test: str, file: str) -> bool:
    """Whether the file of a test has the name of the module, or of its room: test_errors.py for
    core/errors.py, test_store_borders.py for all of stores."""
    module = Path(file)
    names = (f"test_{module.stem}", f"test_{module.parent.name.removesuffix('s')}_")
    return Path(test.partition("::")[0]).name.startswith(names)


def imports_of(file: Path) -> set[str]:
    """Returns the files of the package that a file imports by name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nightporter"):
            place = "/".join((node.module or "").split(".")[1:])
            found |= {f"{place}.py", f"{place}/__init__.py"}
            found |= {f"{place}/{alias.name}.py" for alias in node.names}
    return found


def users_of_names(package: Path) -> dict[str, set[str]]:
    """Returns for each name in the package's source the functions that use it."""
    found: dict[str, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        relative = file.relative_to(package)
        for (function, _), code in _codes(compile(file.read_text(), str(file), "exec")).items():
            for name in code.co_names:
                found.setdefault(name, set()).add(f"{relative}:{function}")
    return found


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def by_file(items: Mapping[str, pytest.Item]) -> Iterator[tuple[str, list[pytest.Item]]]:
    found: dict[str, list[pytest.Item]] = {}
    for name, item in items.items():
        found.setdefault(name.partition("::")[0], []).append(item)
    yield from found.items()
