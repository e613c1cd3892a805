"""Data classes of our own, held to what `dataclasses` does for the same class bodies."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from nightporter.core import values

FORMS: list[dict[str, bool]] = [
    {},
    {"slots": True},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
]


def both(**form: bool) -> tuple[type[Any], type[Any]]:
    """One class body under the decorators of both modules."""
    made = []
    for module in (dataclasses, values):

        @module.dataclass(**form)
        class Point:
            x: int
            y: list[int] = module.field(default_factory=list, repr=False)
            z: str = module.field(default="z", compare=False)

            @property
            def double(self) -> int:
                return self.x * 2

        made.append(Point)
    return made[0], made[1]


@values.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """At the top of the module, where pickle finds it."""

    name: str
    secret: str = values.field(default="s", repr=False)


@values.dataclass(slots=True)
class Base:
    """What another one is made from."""

    first: int


@values.dataclass(slots=True)
class Derived(Base):
    """With a field that no argument sets."""

    second: int = 2
    third: int = values.field(init=False)

    def __post_init__(self) -> None:
        self.third = self.first + self.second


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_instances_show_compare_and_hash_as_in_the_standard_library(form: dict[str, bool]) -> None:
    """The text, equality and the hash (or that there is none) of two like and one other."""
    theirs, ours = both(**form)
    seen = []
    for cls in (theirs, ours):
        one, like, other = cls(x=1), cls(x=1, z="other"), cls(x=1, y=[2])
        try:
            hashed: object = hash(cls(x=1, y=()))
        except TypeError:
            hashed = "no hash"
        shown = repr(one).rsplit(".", 1)[-1]
        seen.append((shown, one == like, one == other, one == 1, one.double, hashed, one.y, one.z))
        assert one.y is not like.y
    assert seen[0] == seen[1]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), {}),
        ((1,), {}),
        ((1, [2], "z"), {}),
        ((1, 2, 3, 4), {}),
        ((1,), {"x": 1}),
        ((), {"q": 1}),
    ],
)
def test_arguments_are_taken_and_refused_as_in_the_standard_library(
    form: dict[str, bool], given: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Missing, positional, too many, doubled and unknown ones."""
    results = []
    for cls in both(**form):
        try:
            made = cls(*given, **named)
            results.append((made.x, made.y, made.z))
        except TypeError:
            results.append(None)  # type: ignore[arg-type]  # refused
    assert results[0] == results[1]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_changes_are_allowed_and_refused_as_in_the_standard_library(form: dict[str, bool]) -> None:
    """Of a field, of what is no field, and of taking one away."""
    results = []
    for cls in both(**form):
        outcome = []
        for name in ("x", "unknown"):
            one = cls(x=1)
            for change in (lambda item, key: setattr(item, key, 5), delattr):
                try:
                    change(one, name)
                    outcome.append("changed")
                except (AttributeError, TypeError):  # TypeError: a slip of the standard library
                    outcome.append("refused")
        results.append(outcome)
    assert results[0] == results[1]


def test_copies_pickles_and_replaced_ones_are_whole() -> None:
    """Also of frozen classes with slots, whose members nothing else can set."""
    kept = Kept(name="n", secret="t")
    for made in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert made == kept
        assert made.secret == "t"
    assert values.replace(kept, name="m") == Kept(name="m", secret="t")
    assert values.asdict(kept) == {"name": "n", "secret": "t"}
    assert [field.name for field in values.fields(kept)] == ["name", "secret"]
    assert "secret" not in repr(kept)


def test_fields_are_inherited_and_the_last_step_is_run() -> None:
    """`__post_init__`, `init=False`, and slots on both levels."""
    derived = Derived(1)
    assert (derived.first, derived.second, derived.third) == (1, 2, 3)
    assert repr(derived) == "Derived(first=1, second=2, third=3)"
    assert values.replace(derived, first=5).third == 7
    assert not hasattr(derived, "__dict__")
    with pytest.raises(TypeError):
        Derived(1, third=3)  # type: ignore[call-arg]  # it takes none
