"""Any interleaving of two brokers and one store, with old reads, crashes, lost answers and clock
steps.

Never: a send without a claim, two exchanges of one refresh token within one claim, an expired
access token served, the newest refresh token lost or overwritten, a generation repeated.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nightporter.core.model import Ask
from property.model import Model

numbers = st.integers(0, 1)
ages = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
fates = st.sampled_from(["done"] * 6 + ["not-done", "done-unheard"])


class TwoBrokers(RuleBasedStateMachine):
    vendor = "rotates"

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(self.vendor)

    def turn(self, number: int, fate: str, age: int, forced: bool) -> None:
        """One turn of a broker; one that has nothing to do asks anew."""
        actor, model = self.model.actors[number], self.model
        if actor.is_done:
            model.start(
                actor, lambda deadline: Ask(deadline=deadline, min_ttl_s=60, is_forced=forced)
            )
        model.fate, model.age = fate, age
        model.go_on(actor)

    @rule(turns=st.lists(st.tuples(numbers, fates, ages, st.booleans()), min_size=1, max_size=25))
    def go_on(self, turns: list[tuple[int, str, int, bool]]) -> None:
        for turn in turns:
            self.turn(*turn)

    @rule(number=numbers, turns=st.integers(1, 12))
    def one_runs_alone(self, number: int, turns: int) -> None:
        for _ in range(turns):
            self.turn(number, "done", 0, True)

    @rule(number=numbers)
    def crash(self, number: int) -> None:
        actor = self.model.actors[number]
        if not actor.is_done:
            self.model.crash(actor)

    @rule(is_down=st.booleans())
    def cut_the_store_off(self, is_down: bool) -> None:
        self.model.is_store_down = is_down

    @rule(seconds=st.sampled_from([1, 5, 16, 600, 3500]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(number=numbers, offset=st.sampled_from([-30, -5, 0, 5, 30]))
    def step_a_clock(self, number: int, offset: int) -> None:
        self.model.actors[number].offset_s = offset

    @invariant()
    def nothing_forbidden(self) -> None:
        assert self.model.problems == []

    def teardown(self) -> None:
        self.model.is_store_down, self.model.fate, self.model.age = False, "done", 0
        for actor in self.model.actors:
            for _ in range(400):
                if not actor.is_done:
                    self.model.go_on(actor)
        assert all(actor.is_done for actor in self.model.actors)
        self.model.check_nothing_lost()
        assert self.model.problems == []


class TwoBrokersReused(TwoBrokers):
    vendor = "reused"


@pytest.mark.parametrize("machine", [TwoBrokers, TwoBrokersReused], ids=["rotates", "reused"])
def test_two_brokers(machine: type[TwoBrokers]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine, settings=settings(max_examples=120, stateful_step_count=25, deadline=None)
    )


@pytest.mark.long
@pytest.mark.parametrize("machine", [TwoBrokers, TwoBrokersReused], ids=["rotates", "reused"])
def test_two_brokers_at_length(machine: type[TwoBrokers]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine, settings=settings(max_examples=1200, stateful_step_count=40, deadline=None)
    )


def test_an_old_read_loses_no_kept_result() -> None:
    """The write over an old read is refused, and the refresh token that was replaced must not be
    sent instead."""
    state = TwoBrokers()
    state.one_runs_alone(number=0, turns=3)
    state.cut_the_store_off(is_down=True)
    state.one_runs_alone(number=0, turns=1)
    state.time_passes(seconds=16)
    state.go_on(turns=[(0, "done", 0, False), (0, "done", 0, False)])
    state.cut_the_store_off(is_down=False)
    state.go_on(turns=[(0, "done", 0, False), (0, "done", 1, False)])
    state.teardown()
