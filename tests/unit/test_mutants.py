"""The faults that `scripts/mutate` plants: each is one small change, and is named by its own line
wherever that moves."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parent.parent.parent / "scripts/mutants.py"
SOURCE = '''"""A docstring of 3 words."""
KINDS = ("near", "far")

def is_due(age: int, kind: str = "near") -> bool:
    """Another one."""
    if not kind or age >= 5:
        raise ValueError("no such kind")
    note(age)
    return age + 1
'''


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def changes_of(found: list[Any]) -> set[tuple[str, str]]:
    return {(mutant.operator, mutant.change) for mutant in found}


def test_each_kind_of_fault_is_made(mutants: ModuleType) -> None:
    """And none in what is for people."""
    found = mutants.mutants_of("f.py", SOURCE)
    assert changes_of(found) == {
        ("string", "'near' -> 'far'"),
        ("string", "'far' -> 'near'"),
        ("operand", "not kind or age >= 5 -> age >= 5"),
        ("operand", "not kind or age >= 5 -> not kind"),
        ("and/or", "not kind or age >= 5 -> not kind and age >= 5"),
        ("negation", "not kind or age >= 5 -> not (not kind or age >= 5)"),
        ("negation", "not kind -> kind"),
        ("comparison", "age >= 5 -> age < 5"),
        ("boundary", "age >= 5 -> age > 5"),
        ("constant", "5 -> 6"),
        ("constant", "1 -> 2"),
        ("raise", "raise ValueError('no such kind') -> pass"),
        ("call", "note(age) -> pass"),
        ("return", "return age + 1 -> return None"),
        ("arithmetic", "age + 1 -> age - 1"),
    }
    assert {mutant.function for mutant in found} == {"", "is_due"}


def test_a_planted_fault_is_the_only_change(mutants: ModuleType) -> None:
    """Everything else of the source means what it did."""
    sound = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in mutants.mutants_of("f.py", SOURCE):
        faulty = mutants.planted(SOURCE, mutant).splitlines()
        assert len(faulty) == len(sound)
        assert sum(old != new for old, new in zip(sound, faulty, strict=True)) == 1


def test_the_sample_stays_where_lines_move(mutants: ModuleType) -> None:
    """So a fault that is known need not run again, and an equivalent one is found again."""
    moved = SOURCE.replace("def is_due", "OTHER = len\n\n\ndef is_due")
    first, second = (
        mutants.sampled(mutants.mutants_of("f.py", text), seed=7, size=4)
        for text in (SOURCE, moved)
    )
    assert [mutant.key for mutant in first] == [mutant.key for mutant in second]
    assert [mutant.number for mutant in first] != [mutant.number for mutant in second]
    other = mutants.sampled(mutants.mutants_of("f.py", SOURCE), seed=8, size=4)
    assert [mutant.key for mutant in other] != [mutant.key for mutant in first]
