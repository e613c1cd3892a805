"""`scripts/mutate` itself: a fault takes the place of a function's code, what runs at import does
not, and a trial in a process of its own ends as it ended."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# A fork of a process with threads, which pytest-xdist's are, is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
SOURCE = """LIMIT = 5

def is_over(age: int, limit: int = LIMIT) -> bool:
    return age > limit

class Box:
    size = 3

    def room(self, used: int) -> int:
        return self.size - used

def outer(base: int):
    def inner(more: int) -> int:
        return base + more
    return inner
"""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith("mutation_")]:
        del sys.modules[name]


def test_what_a_fault_changes_while_the_package_is_there(scripts: Any, tmp_path: Path) -> None:
    """The code of a function; a default, a constant, a member of a class are set at import."""
    mutants, tests = scripts("mutants"), scripts("mutation_tests")
    found = {
        (mutant.function, mutant.change): tests.swapped_code(SOURCE, mutant, tmp_path / "m.py")
        for mutant in mutants.mutants_of("m.py", SOURCE)
    }
    swapped = {change for (_, change), codes in found.items() if codes is not None}
    assert swapped == {
        "age > limit -> age <= limit",
        "age > limit -> age >= limit",
        "return age > limit -> return None",
        "self.size - used -> self.size + used",
        "return self.size - used -> return None",
        "base + more -> base - more",
        "return inner -> return None",
    }
    assert found["outer.<locals>.inner", "return base + more -> return None"] is None
    assert found["", "5 -> 6"] is found["", "3 -> 4"] is None


def test_a_fault_takes_the_place_of_what_is_there(scripts: Any, tmp_path: Path) -> None:
    """Also of a function that others hold already, and of one that was made before."""
    mutants, tests = scripts("mutants"), scripts("mutation_tests")
    file = tmp_path / "m.py"
    module = ModuleType("m")
    exec(compile(SOURCE, str(file), "exec"), module.__dict__)
    held = (module.is_over, module.Box().room, module.outer(1))
    assert (held[0](5), held[1](1), held[2](2)) == (False, 2, 3)
    for change in (
        "age > limit -> age >= limit",
        "self.size - used -> self.size + used",
        "base + more -> base - more",
    ):
        (mutant,) = (one for one in mutants.mutants_of("m.py", SOURCE) if one.change == change)
        tests.swap(tests.swapped_code(SOURCE, mutant, file), file)
        faulty = (held[0](5), held[1](1), held[2](2))
        assert faulty != (False, 2, 3)
        exec(compile(SOURCE, str(file), "exec"), module.__dict__)
        held = (module.is_over, module.Box().room, module.outer(1))


def test_a_trial_ends_as_it_ended(scripts: Any, tmp_path: Path) -> None:
    """With what it returned; what failed by itself says nothing of a fault, and what used up its
    processor time, or was killed, has not come to an end."""
    trials = scripts("mutation_trials")

    def spin() -> None:
        os.kill(os.getpid(), signal.SIGXCPU)

    works = {
        "well": lambda: (1, "a test"),
        "broken": lambda: 1 // 0,
        "spins": spin,
        "leaves": lambda: os._exit(0),
    }
    found = {
        trial.name: result
        for trial, result in trials.run_trials(
            [trials.Trial(name, work, 1.0) for name, work in works.items()],
            parallel=2,
            work=tmp_path,
        )
    }
    assert json.dumps(found["well"].value) == '[1, "a test"]'
    assert found["broken"].value == found["leaves"].value == trials.BROKEN
    assert found["spins"] == trials.Result(trials.MISSED, "SIGXCPU")


def test_trials_that_are_left_are_ended(scripts: Any, tmp_path: Path) -> None:
    """So that a run that is stopped leaves no process behind."""
    trials = scripts("mutation_trials")
    note = tmp_path / "pid"

    def sleep() -> None:
        note.write_text(str(os.getpid()))
        time.sleep(60)

    running = trials.run_trials(
        [trials.Trial("quick", lambda: 7, 1.0), trials.Trial("slow", sleep, 1.0)],
        parallel=2,
        work=tmp_path / "work",
    )
    assert next(running)[1].value == 7
    deadline = time.monotonic() + 20
    while not note.exists() or not note.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
