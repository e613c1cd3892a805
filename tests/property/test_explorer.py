"""Every interleaving of two hosts, within bounds, keeps the invariants; planted faults break them.

The invariants (findings of the attack on the protocol, and plugin/docs/sessions.md): no two sends
of one refresh token within one claim while the first outcome is unknown (I1), nothing older over
something newer (I2), the family is not revoked (I3), the newest token is known to the record or to
a disk (I3'), no two sends of one token overlap (I4), and at most two sign-ins without a known
outcome in five minutes, whatever is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.worlds.explorer import Bounds, Search, replay_trace, run_alone
from lab.worlds.model import ANY, Model
from nightporter.core.errors import NightporterError
from nightporter.core.model import Profile, SessionRecord, Token
from nightporter.core.values import replace
from nightporter.session import effects, exchange, lease, repository, transitions

FAULTS = frozenset(
    {"old", "crash", "not-done", "done-unheard", "doubled", "slow", "paused", "spurious"}
)
KINDS = ["strict", "grace", "reused"]


def world(kind: str, *, offset_s: float = 0.0, password: str = "pw", hosts: int = 2) -> Model:
    """Hosts that have just asked; an absent record where a sign-in begins the session."""
    model = Model(kind, "abc"[:hosts], password=password)
    model.hosts[-1].machine.offset_s = offset_s
    for host in model.hosts:
        model.start(host)
    return model


def search(kind: str, bounds: Bounds, **how: Any) -> Search:
    return Search(lambda: world(kind, **how), bounds)


def check(found: Search) -> None:
    broken = found.find()
    assert broken is None, broken
    assert found.is_complete
    assert found.states > 20


@pytest.mark.parametrize("kind", KINDS)
def test_two_hosts_and_nothing_fails(kind: str) -> None:
    """Any order of two hosts' steps, with up to six switches in the midst."""
    check(search(kind, Bounds(switches=6, max_faults=0, seconds=300)))


@pytest.mark.parametrize("kind", KINDS)
def test_two_hosts_and_one_fault(kind: str) -> None:
    """One crash, lost or late or doubled message, old read or pause, anywhere."""
    check(search(kind, Bounds(switches=2, max_faults=1, faults=FAULTS, seconds=1500)))


@pytest.mark.parametrize("offset_s", [-600, -12, -4, 4, 12, 600])
@pytest.mark.parametrize("kind", ["strict", "grace"])
def test_no_host_s_clock_is_believed(kind: str, offset_s: float) -> None:
    """A wall clock that is off, ahead or behind, changes nothing."""
    bounds = Bounds(switches=2, max_faults=1, faults=frozenset({"slow", "old"}), seconds=300)
    check(search(kind, bounds, offset_s=offset_s))


def test_a_wrong_password_whatever_is_killed() -> None:
    """At most two sign-ins in five minutes, whoever dies or loses an answer when."""
    faults = frozenset({"crash", "not-done", "done-unheard"})
    bounds = Bounds(switches=1, max_faults=2, faults=faults, seconds=300)
    check(search("reused", bounds, password="x"))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_three_hosts_at_length(kind: str) -> None:
    """Three hosts, and one fault."""
    bounds = Bounds(switches=2, max_faults=1, faults=FAULTS, seconds=1500)
    check(search(kind, bounds, hosts=3))


def attempts_of_a_dying_fleet() -> int:
    """Eight asks on two hosts in a row; each dies once its request is under way."""
    model = Model("reused", password="x")
    for index in range(8):
        host = model.hosts[index % 2]
        model.start(host)
        while not host.is_done and type(host.wants).__name__ != "Send":
            model.go_on(host)
        if not host.is_done:
            model.go_on(host, "slow")
            model.crash(host)
        model.now += 20
    return len(model.vendor.sign_ins)


def test_a_sign_in_is_counted_before_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    """A fleet whose processes die before the refusal comes makes two attempts, not eight."""
    assert attempts_of_a_dying_fleet() == 2
    attempt_counted_afterwards(patch)
    assert attempts_of_a_dying_fleet() == 8


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_gets_a_token_within_a_minute(kind: str) -> None:
    """Liveness: whatever befell the first host, the second gets its token, or a word that is the
    one window's."""
    for fate in sorted(FAULTS - {"old"}):
        for at in range(12):
            model = Model(kind)
            first, second = model.hosts
            model.start(first)
            for _ in range(at):
                if not first.is_done:
                    model.go_on(first)
            if first.is_done:
                continue
            if fate == "crash":
                model.crash(first)
            else:
                model.go_on(first, fate)
                model.crash(first)
            model.start(second, seconds=90)
            run_alone(model, second)
            assert model.problems == [], (kind, fate, at)
            is_lost = bool(model.lost) or model.may_hurt or model.vendor.is_revoked
            assert isinstance(second.outcome, Token) or is_lost, (kind, fate, at, second.outcome)


def test_a_lost_answer_is_mended_within_the_grace() -> None:
    """Two answers in a row are lost; the holder sends again, and the session lives."""
    model = Model("grace")
    (host, _) = model.hosts
    model.start(host, seconds=3)
    lost = 0
    while not host.is_done:
        is_send = type(host.wants).__name__ == "Send"
        model.go_on(host, "done-unheard" if is_send and lost < 2 else "done")
        lost += is_send and lost < 2
    assert isinstance(host.outcome, Token)
    model.lost = 0
    model.check_end()
    assert model.problems == []


def test_a_trace_of_a_real_run_can_be_repeated() -> None:
    """The events that `-v` reports are enough to run it again."""
    model = Model("strict")
    for host in model.hosts:
        model.start(host)
    first = ["claim", "claim-won"]
    trace = [(0, event) for event in first] + [(1, "read")]
    trace += [(0, event) for event in ("send", "answered", "saved")] + [(1, "adopted")]
    replay_trace(model, trace)
    assert model.problems == []
    assert isinstance(model.hosts[1].outcome, Token)


# Planted faults.


def no_fence(patch: pytest.MonkeyPatch) -> None:
    real = effects.writing

    def unfenced(path: str, value: Any, expected: Any, expires_at: Any, timeout_s: float) -> Any:
        return real(path, value, expected._replace(token=ANY), expires_at, timeout_s)

    patch.setattr(effects, "writing", unfenced)


def obeyed_until(patch: pytest.MonkeyPatch) -> None:
    def by_wall_clock(session: repository.Session, snapshot: transitions.Snapshot) -> bool:
        claim = snapshot.claim
        return claim is not None and session.runtime.clock() < claim.until

    patch.setattr(repository.Session, "is_claim_alive", by_wall_clock)


def save_before_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Profile, "is_exclusive", property(lambda _profile: False))


def adopt_before_save(patch: pytest.MonkeyPatch) -> None:
    def hurried(
        self: exchange.Exchange, _snapshot: Any, _call: Any, heard: Any, _claim: bool
    ) -> Any:
        yield from ()
        return self.token_of(heard, SessionRecord(identity=self.sight.identity(), generation=9))

    patch.setattr(exchange.Exchange, "settling", hurried)


def attempt_counted_afterwards(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "with_attempt", lambda record, _key, _now: record)


def erased_on_rejection(patch: pytest.MonkeyPatch) -> None:
    real = transitions.marked_record

    def erased(record: SessionRecord, **how: Any) -> SessionRecord:
        return replace(real(record, **how), refresh_token=None)

    patch.setattr(transitions, "marked_record", erased)
    patch.setattr(transitions, "supersedes", lambda *_args, **_how: True)


def resent_at_once(patch: pytest.MonkeyPatch) -> None:
    def hasty(self: exchange.Exchange, snapshot: transitions.Snapshot) -> Any:
        yield from ()
        self.lease.is_spent = False
        return snapshot

    patch.setattr(exchange.Exchange, "after_lost_rotation", hasty)


def no_end_of_the_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease.Lease, "may_begin", lambda _self: True)


def a_short_claim_for_a_strict_vendor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "claim_life_s", lambda _profile, **_how: 16)


def an_answer_cut_by_our_own_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(exchange, "LISTEN_S", 10.0)


def an_old_read_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "has_lapsed", lambda *_args: True)


MUTANTS: list[tuple[Any, str, dict[str, Any], frozenset[str]]] = [
    (no_fence, "strict", {}, frozenset()),
    (obeyed_until, "strict", {"offset_s": 600.0}, frozenset()),
    (save_before_claim, "strict", {}, frozenset()),
    (adopt_before_save, "strict", {}, frozenset()),
    (erased_on_rejection, "strict", {}, frozenset({"spurious"})),
    (resent_at_once, "strict", {}, frozenset({"done-unheard"})),
    (a_short_claim_for_a_strict_vendor, "strict", {}, frozenset({"slow"})),
    (an_answer_cut_by_our_own_limit, "strict", {}, frozenset({"slow"})),
    (an_old_read_believed, "strict", {}, frozenset()),
]


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.mark.parametrize(
    ("mutant", "kind", "how", "faults"), MUTANTS, ids=[mutant[0].__name__ for mutant in MUTANTS]
)
def test_a_planted_fault_is_found(
    mutant: Any, kind: str, how: dict[str, Any], faults: frozenset[str], patch: pytest.MonkeyPatch
) -> None:
    """The explorer refutes each of the obvious ways of getting the protocol wrong."""
    mutant(patch)
    bounds = Bounds(switches=3, max_faults=3, faults=faults, seconds=120)
    broken = search(kind, bounds, **how).find()
    assert broken is not None


def test_a_claim_that_is_too_old_is_not_sent_under(patch: pytest.MonkeyPatch) -> None:
    """Frozen between claim and send for longer than the claim lives, a host must not send."""

    def frozen_between() -> list[str]:
        model = world("strict")
        first, second = model.hosts
        model.start(second, seconds=100)
        while type(first.wants).__name__ != "Send":
            model.go_on(first)
        first.wakes_at = model.now + 70
        run_alone(model, second)
        run_alone(model, first)
        if model.vendor.is_revoked:
            model.problems.append("the family was revoked")
        return model.problems

    assert frozen_between() == []
    no_end_of_the_window(patch)
    assert frozen_between() != []


def test_every_outcome_is_a_token_or_one_of_our_errors() -> None:
    """No exception of Python's leaves the engine, whatever befalls it."""
    model = world("strict")
    for host in model.hosts:
        run_alone(model, host)
        assert isinstance(host.outcome, (Token, NightporterError))
