"""Any interleaving of a few processes and one store, with old reads, crashes, lost and late
answers, a store that is away, clock steps and suspended machines: drawn, where the explorer
enumerates.

The processes are on two machines or on one, where a dead one's claim is free at once. With roles
there are a rotator that publishes, a consumer that only refreshes, and a reader.

Never: a send without a claim that is young and in the record, two sends of one refresh token within
one claim whose first outcome is unknown, an access token served or published past its true end, the
only copy of a refresh token erased, the newest one lost or overwritten, a generation repeated, a
permission used that a role doesn't have, a better published token overwritten, a dead process
waited for. `test_explorer.py` and `test_model.py` plant a fault for each.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lab.worlds.model import Model, rotating
from nightporter.core.errors import SignInUnsettledError
from nightporter.core.model import Ask, Role, Token
from nightporter.session import effects

numbers = st.integers(0, 1)
ages = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
fates = st.sampled_from(["done"] * 8 + ["not-done", "done-unheard", "doubled", "paused"])


class TwoHosts(RuleBasedStateMachine):
    kind = "strict"

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(self.kind)

    @initialize(machines=st.sampled_from(["ab", "aa"]))
    def begin(self, machines: str) -> None:
        self.model = Model(self.kind, machines)

    def turn(self, number: int, fate: str, age: int, forced: bool) -> None:
        """One step of a host; one that has nothing to do asks again."""
        host = self.model.hosts[number]
        if host.is_done:
            self.model.start(host, is_forced=forced)
        if host.is_done:
            return
        is_write = isinstance(host.wants, effects.Write)
        self.model.go_on(host, "done" if fate == "doubled" and not is_write else fate, age)

    @rule(turns=st.lists(st.tuples(numbers, fates, ages, st.booleans()), min_size=1, max_size=25))
    def go_on(self, turns: list[tuple[int, str, int, bool]]) -> None:
        for turn in turns:
            self.turn(*turn)

    @rule(number=numbers, turns=st.integers(1, 16))
    def one_runs_alone(self, number: int, turns: int) -> None:
        for _ in range(turns):
            self.turn(number, "done", 0, True)

    @rule(number=numbers)
    def crash(self, number: int) -> None:
        host = self.model.hosts[number]
        if not host.is_done:
            self.model.crash(host)

    @rule(number=numbers)
    def its_command_ends(self, number: int) -> None:
        """The next ask comes from another process; a claim that was left is a dead one's."""
        host = self.model.hosts[number]
        if host.is_done:
            host.end_process()

    @rule(number=numbers, seconds=st.sampled_from([3, 20, 70, 600, 90_000]))
    def suspend(self, number: int, seconds: int) -> None:
        self.model.suspend(self.model.hosts[number].machine, seconds)

    @rule(number=numbers)
    def a_client_is_refused(self, number: int) -> None:
        """The service answers 401 to what this host was given last."""
        host = self.model.hosts[number]
        if isinstance(host.outcome, Token):
            host.refused.add(host.outcome.value)

    @rule(is_down=st.booleans())
    def cut_the_store_off(self, is_down: bool) -> None:
        self.model.is_store_down = is_down

    @rule(seconds=st.sampled_from([1, 5, 16, 600, 3500]))
    def time_passes(self, seconds: int) -> None:
        """While hosts are in the midst of something this is a freeze of all of them."""
        if any(not host.is_done for host in self.model.hosts):
            self.model.may_hurt = True
        self.model.now += seconds

    @rule(number=numbers, offset=st.sampled_from([-36000, -600, -30, -5, 0, 5, 30, 600, 36000]))
    def step_a_clock(self, number: int, offset: int) -> None:
        self.model.hosts[number].machine.offset_s = offset

    @invariant()
    def nothing_forbidden(self) -> None:
        assert self.model.problems == []

    def teardown(self) -> None:
        model = self.model
        model.is_store_down = False
        for host in model.hosts:
            for _ in range(600):
                if not host.is_done:
                    model.go_on(host)
        assert all(host.is_done for host in model.hosts)
        model.check_end()
        assert model.problems == []
        self.check_that_somebody_is_served()

    def check_that_somebody_is_served(self) -> None:
        """When nothing is broken any more, somebody gets a token within a minute or two; after two
        sign-ins without a known outcome within five more."""
        model = self.model
        if model.lost or model.may_hurt or model.vendor.is_revoked:
            return
        host = model.hosts[0]
        host.machine.offset_s = 0
        if isinstance(self.outcome_after(70), SignInUnsettledError):
            self.outcome_after(301)
        assert isinstance(host.outcome, Token) or model.may_hurt, host.outcome

    def outcome_after(self, seconds: float) -> object:
        """Lets time pass, and the first host ask."""
        model, host = self.model, self.model.hosts[0]
        model.now += seconds
        model.start(host, seconds=120)
        for _ in range(600):
            if not host.is_done:
                model.go_on(host)
        return host.outcome


class TwoHostsReused(TwoHosts):
    kind = "reused"


class TwoHostsGrace(TwoHosts):
    kind = "grace"


class TwoHostsUnshared(TwoHosts):
    kind = "unshared"


class Roles(TwoHosts):
    """A rotator that publishes, a consumer beside it or elsewhere, and a reader."""

    @initialize(machines=st.sampled_from(["abc", "aab", "aaa"]))
    def begin(self, machines: str) -> None:
        self.model = Model(self.kind, machines, roles=ROLES)

    @rule(turns=st.integers(1, 10))
    def the_reader_runs(self, turns: int) -> None:
        for _ in range(turns):
            self.turn(2, "done", 0, False)

    @rule(number=st.just(0))
    def rotate(self, number: int) -> None:
        host = self.model.hosts[number]
        if host.is_done:
            self.model.start(host, is_forced=True, flow=rotating)


class RolesStrict(Roles):
    kind = "strict"


class RolesConsumed(Roles):
    kind = "consumed"


ROLES = (Role.FULL, Role.REFRESH_ONLY, Role.READ_ONLY)
MACHINES = [
    TwoHosts,
    TwoHostsReused,
    TwoHostsGrace,
    TwoHostsUnshared,
    RolesStrict,
    RolesConsumed,
]
NAMES = [machine.__name__ for machine in MACHINES]


@pytest.mark.parametrize("machine", MACHINES, ids=NAMES)
def test_two_hosts(machine: type[TwoHosts]) -> None:
    """The invariants, over what hypothesis draws."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=20, deadline=None, phases=(Phase.generate,)
        ),
    )


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, ids=NAMES)
def test_two_hosts_at_length(machine: type[TwoHosts]) -> None:
    """The same, ten times as many examples."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine, settings=settings(max_examples=1200, stateful_step_count=40, deadline=None)
    )


def test_an_old_read_loses_no_kept_result() -> None:
    """The write over an old read is refused, and the refresh token that was replaced must not be
    sent instead."""
    model = Model("strict")
    host = model.hosts[0]
    model.start(host)
    while not isinstance(host.wants, effects.Send):
        model.go_on(host)
    model.go_on(host)
    model.is_store_down = True
    while not host.is_done:
        model.go_on(host)
    assert host.pending
    model.is_store_down = False
    model.start(host)
    for age in (0, 1):
        while not isinstance(host.wants, effects.Read):
            model.go_on(host)
        model.go_on(host, age=age)
    while not host.is_done:
        model.go_on(host)
    assert isinstance(host.outcome, Token)
    assert not host.pending
    model.check_end()
    assert model.problems == []


def test_a_refused_token_is_not_served_from_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """One host's client is refused; the record still holds the token, and that host gets another.
    An engine that doesn't ask what was refused is seen by the model."""

    def problems() -> list[str]:
        model = Model("strict")
        for host in (*model.hosts, model.hosts[1]):
            model.start(host)
            while not host.is_done:
                model.go_on(host)
            assert isinstance(host.outcome, Token)
            model.hosts[1].refused.add(model.hosts[0].outcome.value)  # type: ignore[union-attr]
        return model.problems

    assert problems() == []
    monkeypatch.setattr("lab.worlds.model.Ask", forgetful)
    assert problems() != []


def forgetful(**members: Any) -> Ask:
    """An ask of a host that has forgotten what was refused."""
    return Ask(**{**members, "is_refused": lambda _value: False})


def test_a_successor_on_the_same_machine_is_no_store_set_back() -> None:
    """A process that is stopped right after it won its claim finds, when it goes on, that another
    process of its machine has taken over and noted a newer state: the store was not set back."""
    model = Model("strict", "aa")
    stopped, other = model.hosts
    model.start(stopped, seconds=300)
    while not stopped.claims:
        model.go_on(stopped)
    model.start(other, seconds=300)
    while not other.is_done:
        model.go_on(other)
    assert isinstance(other.outcome, Token)
    while not stopped.is_done:
        model.go_on(stopped)
    assert isinstance(stopped.outcome, Token)
    assert model.problems == []
