"""What the model is worth: a fault is planted for each of its rules about dead processes, roles,
published tokens and clocks, and the model finds it; without the fault it finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.worlds import hosts
from lab.worlds.explorer import run_alone
from lab.worlds.hosts import Host
from lab.worlds.model import Model, rotating
from nightporter.core.model import Profile, Role, Token
from nightporter.core.record import render_published
from nightporter.session import effects, engine, lease, repository
from nightporter.session.port import ABSENT

ROLES = (Role.FULL, Role.REFRESH_ONLY, Role.READ_ONLY)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as found:
        yield found


def until(model: Model, host: Host, kind: type[effects.Effect]) -> None:
    """The host goes on until it wants this."""
    while not isinstance(host.wants, kind):
        assert not host.is_done, host.outcome
        model.go_on(host)


# Stories. Each ends with everybody done.


def a_holder_dies_beside_us() -> Model:
    """Two processes of one machine; the first is killed with its claim in the record."""
    model = Model("strict", "aa")
    first, second = model.hosts
    model.start(first)
    until(model, first, effects.Send)
    model.crash(first)
    model.start(second, seconds=5)
    run_alone(model, second)
    assert isinstance(second.outcome, Token) or model.problems
    return model


def a_holder_lives_beside_us() -> Model:
    """The same, and the first goes on."""
    model = Model("strict", "aa")
    first, second = model.hosts
    model.start(first)
    until(model, first, effects.Send)
    model.start(second)
    for _ in range(8):
        if not second.is_done:
            model.go_on(second)
    run_alone(model, first)
    run_alone(model, second)
    return model


def a_holder_is_suspended() -> Model:
    """A machine sleeps between its claim and its send, for longer than the claim lives."""
    model = Model("strict", "ab")
    first, second = model.hosts
    model.start(first, seconds=300)
    until(model, first, effects.Send)
    model.suspend(first.machine, 70)
    model.start(second, seconds=200)
    run_alone(model, second)
    run_alone(model, first)
    return model


def a_machine_sleeps_before_it_serves() -> Model:
    """A shared token is read, and the machine sleeps past its end before it is handed out."""
    model = Model("strict", "ab")
    first, second = model.hosts
    model.start(first)
    run_alone(model, first)
    model.start(second)
    until(model, second, effects.Note)
    model.suspend(second.machine, 700)
    run_alone(model, second)
    assert isinstance(second.outcome, Token)
    return model


def a_machine_sleeps_while_it_waits() -> Model:
    """A process waits for a holder that has died elsewhere, and its machine sleeps meanwhile."""
    model = Model("strict", "ab")
    first, second = model.hosts
    model.start(first)
    until(model, first, effects.Send)
    model.crash(first)
    model.start(second, seconds=100)
    for _ in range(4):
        if not second.is_done:
            model.go_on(second)
    model.suspend(second.machine, 30)
    run_alone(model, second)
    assert isinstance(second.outcome, Token)
    return model


def a_fleet_with_roles(kind: str) -> Model:
    """A rotator, a consumer and a reader, one after the other, twice."""
    model = Model(kind, "abc", roles=ROLES)
    for _ in range(2):
        for host in model.hosts:
            model.start(host, flow=rotating if host.role is Role.FULL else engine.obtaining)
            run_alone(model, host)
        model.now += 700
    return model


def a_consumer_without_a_session() -> Model:
    """Nobody has signed in, and a consumer asks first: it waits for others."""
    model = Model("reused", "ab", roles=(Role.FULL, Role.REFRESH_ONLY))
    _, consumer = model.hosts
    model.start(consumer)
    run_alone(model, consumer)
    assert not isinstance(consumer.outcome, Token) or model.problems
    return model


def two_rotators() -> Model:
    """The first is about to publish when the second has published something newer."""
    model = Model("strict", "ab", roles=(Role.FULL, Role.FULL))
    slow, quick = model.hosts
    model.start(slow, flow=rotating)
    while not is_publishing(slow):
        model.go_on(slow)
    model.now += 60
    model.start(quick, is_forced=True, flow=rotating)
    run_alone(model, quick)
    run_alone(model, slow)
    return model


def is_publishing(host: Host) -> bool:
    return isinstance(host.wants, effects.Read) and host.wants.path == "p"


# Faults.


def nobody_is_known_to_be_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("lab.worlds.model.is_dead", lambda *_args: False)


def everybody_here_is_called_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("lab.worlds.model.is_dead", lambda claim, machine, _: claim.machine == machine)


def a_clock_since_boot_that_sleeps(patch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC in the place of CLOCK_BOOTTIME."""

    def boot(self: hosts.Machine) -> float:
        return self.world() - self.booted_at - self.suspended_s

    patch.setattr(hosts.Machine, "boot", boot)


def an_end_is_counted_from_the_last_moment(patch: pytest.MonkeyPatch) -> None:
    """As the engine once did: from after its last effect."""
    real = engine.Attempt.serving

    def serving(self: engine.Attempt, snapshot: Any) -> Any:
        token = yield from real(self, snapshot)
        token.ends_s = self.session.runtime.boot() + (token.life_s or 0)
        return token

    patch.setattr(engine.Attempt, "serving", serving)


def clocks_since_boot_are_compared(patch: pytest.MonkeyPatch) -> None:
    """A claim's `until` is written by one machine's clock since boot and read by another's."""

    def is_claim_alive(self: repository.Session, snapshot: Any, **_how: Any) -> bool:
        return snapshot.claim is not None and self.runtime.boot() < snapshot.claim.life_s + 1000.0

    patch.setattr(repository.Session, "is_claim_alive", is_claim_alive)


def refreshers_sign_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Profile, "signs_in_unattended", property(lambda profile: profile.grant.is_unattended)
    )


def consumers_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Profile, "is_exclusive", property(lambda _profile: True))
    patch.setattr(hosts.Host, "may_write_sessions", property(lambda host: host.role is Role.FULL))


def readers_help_themselves(patch: pytest.MonkeyPatch) -> None:
    def awaiting_published(self: repository.Session, ask: Any) -> Any:
        return (yield from engine.Attempt(self, ask).running())

    patch.setattr(repository.Session, "awaiting_published", awaiting_published)


def what_is_published_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repository, "parse_published", lambda *_args, **_how: None)


def published_before_it_is_saved(patch: pytest.MonkeyPatch) -> None:
    real = lease.Lease.saving

    def saving(self: lease.Lease, snapshot: Any, record: Any) -> Any:
        value = {"access_token": record.access_token.reveal(), "generation": record.generation}
        value["expires_at"] = "2026-07-14T14:00:10Z"
        yield effects.Write("p", value, ABSENT, None, 5.0)
        return (yield from real(self, snapshot, record))

    patch.setattr(lease.Lease, "saving", saving)


def published_for_an_hour(patch: pytest.MonkeyPatch) -> None:
    def render(*args: Any, expires_at: int, **how: Any) -> dict[str, Any]:
        return render_published(*args, expires_at=expires_at + 3600, **how)

    patch.setattr(repository, "render_published", render)


def strict_fleet() -> Model:
    return a_fleet_with_roles("strict")


def consumed_fleet() -> Model:
    return a_fleet_with_roles("consumed")


FAULTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], Model], str]] = [
    (nobody_is_known_to_be_dead, a_holder_dies_beside_us, "gone was waited for"),
    (everybody_here_is_called_dead, a_holder_lives_beside_us, "in force was written over"),
    (a_clock_since_boot_that_sleeps, a_holder_is_suspended, "sent under a claim"),
    (an_end_is_counted_from_the_last_moment, a_machine_sleeps_before_it_serves, "expired access"),
    (clocks_since_boot_are_compared, a_machine_sleeps_while_it_waits, "in force was written over"),
    (refreshers_sign_in, a_consumer_without_a_session, "permission was asked for"),
    (consumers_claim, consumed_fleet, "permission was asked for"),
    (readers_help_themselves, strict_fleet, "permission was asked for"),
    (what_is_published_is_not_looked_at, two_rotators, "better published token"),
    (published_before_it_is_saved, strict_fleet, "published before it was saved"),
    (published_for_an_hour, strict_fleet, "an end beyond its own"),
]


@pytest.mark.parametrize(
    ("fault", "story", "problem"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS]
)
def test_the_model_finds(
    fault: Callable[[pytest.MonkeyPatch], None],
    story: Callable[[], Model],
    problem: str,
    patch: pytest.MonkeyPatch,
) -> None:
    """Sound without the fault, and with it the rule is named that it breaks."""
    sound = story()
    sound.check_end()
    assert sound.problems == []
    fault(patch)
    assert any(problem in found for found in story().problems)
