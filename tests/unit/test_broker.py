"""What a broker serves from what this machine holds: in which order, until when, and what it never
serves. The exchange behind it is a list of answers; both clocks can be stepped apart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from nightporter.client.broker import Broker
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerUnreachableError,
    NightporterError,
    SessionRejectedError,
    StoreDeniedError,
    StoreUnreachableError,
)
from nightporter.core.model import Ask, Secret, Token
from nightporter.issuers import VENDORS
from nightporter.machine.access_cache import AccessCache, Memory
from nightporter.session import engine
from nightporter.session.repository import Session
from nightporter.session.transitions import Snapshot
from nightporter.stores import STORES

NOW, BOOT = 1_784_037_600.0, 5_000.0
TEXT = '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n'


@dataclass
class World:
    """Clocks, the memory of a machine, and what the next exchanges answer."""

    wall_s: float = NOW
    boot_s: float = BOOT
    answers: list[NightporterError | float] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    busy_s: float = 0.0  # how long an exchange takes
    meanwhile: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.tokens, self.kept = Memory(), Memory()

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds

    def token(self, life_s: float) -> Token:
        number = len(self.asks)
        return Token(
            Secret(f"token-{number}"),
            token_type="Bearer",
            expires_at_s=int(self.wall_s + life_s),
            obtained_at_s=self.wall_s,
            exchanged_at_s=self.wall_s,
            generation=number,
            ends_s=self.boot_s + life_s,
            life_s=life_s,
        )

    def obtain(self, _session: Session, ask: Ask, _seen: Snapshot | None = None) -> Token:
        self.asks.append(ask)
        self.pass_s(min(self.busy_s, ask.deadline - self.boot_s))
        self.meanwhile()
        answer = self.answers.pop(0)
        if isinstance(answer, NightporterError):
            raise answer
        return self.token(answer)

    def broker(self, *, is_library: bool = False, more: str = "") -> Broker:
        """A process's broker on this machine."""
        config = parse_config(TEXT + more, source="t", vendors=VENDORS, stores=STORES)
        cache = AccessCache(
            "p",
            "k" * 32,
            tokens=self.tokens,
            notes=self.kept,
            clock=lambda: self.wall_s,
            boot_clock=lambda: self.boot_s,
            boot_mark=lambda: "boot-1",
        )
        return Broker(
            config.profiles["p"],
            cache=cache,
            open_session=lambda: cast(Session, _NoSession()),
            is_library=is_library,
            host_fraction=0.0,
            notify=self.notes.append,
            emit=lambda event, **_facts: self.events.append(event),
            clock=lambda: self.wall_s,
            monotonic=lambda: self.boot_s,
            boot=lambda: self.boot_s,
        )


class _NoSession:
    on_late: Callable[[Token], None]

    def close(self) -> None:
        """There is nothing to give back."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(engine, "obtain", found.obtain)
    return found


AWAY = [
    IssuerUnreachableError("away"),
    IssuerBusyError("busy"),
    StoreUnreachableError("away"),
]


def test_no_token_means_one_exchange_and_then_the_cache(world: World) -> None:
    """A second ask of another process is answered by what the first one kept."""
    world.answers = [3600]
    assert world.broker().access_token().value == "token-1"
    assert world.broker().access_token().value == "token-1"
    assert len(world.asks) == 1


@pytest.mark.parametrize(("left_s", "is_an_error"), [(61, False), (59, True)])
def test_less_than_min_ttl_is_an_exchange(world: World, left_s: float, is_an_error: bool) -> None:
    """With more than `min_ttl` (60 s) left a failed renewal costs nothing; with less it is the
    ask's own."""
    world.answers = [3600, CredentialsRefusedError("no")]
    broker = world.broker()
    broker.access_token()
    world.pass_s(3600 - left_s)
    if is_an_error:
        with pytest.raises(CredentialsRefusedError):
            broker.access_token()
    else:
        assert broker.access_token().value == "token-1"


def test_min_ttl_is_capped_at_half_the_life(world: World) -> None:
    """A vendor's short token would otherwise be exchanged at each ask."""
    world.answers = [60]
    broker = world.broker()
    assert broker.access_token(min_ttl_s=3000).value == "token-1"
    world.pass_s(29)
    assert broker.access_token(min_ttl_s=3000).value == "token-1"
    assert len(world.asks) == 1


def test_a_dead_token_is_not_served_while_the_issuer_is_away(world: World) -> None:
    """Five seconds before its end a token is served no more."""
    world.answers = [3600, IssuerUnreachableError("away")]
    broker = world.broker()
    broker.access_token()
    world.pass_s(3595.5)
    with pytest.raises(IssuerUnreachableError):
        broker.access_token()


@pytest.mark.parametrize("error", AWAY, ids=lambda error: error.reference)
def test_a_living_token_is_served_while_issuer_or_store_is_away(
    world: World, error: NightporterError
) -> None:
    """It is said once, and kept in the audit log."""
    world.answers = [3600, error]
    broker = world.broker()
    broker.access_token()
    world.pass_s(3550)
    assert broker.access_token().value == "token-1"
    assert len(world.notes) == 1
    assert world.events == ["served", "stale", "served"]


@pytest.mark.parametrize(
    "error",
    [
        CredentialsRefusedError("no"),
        SessionRejectedError("no"),
        StoreDeniedError("no", right="read"),
    ],
    ids=lambda error: error.reference,
)
def test_a_refusal_is_never_answered_with_an_old_token(
    world: World, error: NightporterError
) -> None:
    """Only what may pass by itself is bridged."""
    world.answers = [3600, error]
    broker = world.broker()
    broker.access_token()
    world.pass_s(3550)
    with pytest.raises(type(error)):
        broker.access_token()


@pytest.mark.parametrize("error", AWAY, ids=lambda error: error.reference)
def test_a_forced_ask_is_never_answered_from_a_cache(world: World, error: NightporterError) -> None:
    """--force-refresh wants a token of an exchange that began after it, or the error."""
    world.answers = [3600, error]
    broker = world.broker()
    broker.access_token()
    world.pass_s(1)
    with pytest.raises(type(error)):
        broker.access_token(is_forced=True)
    assert len(world.asks) == 2


def test_a_refused_token_is_not_served_while_the_issuer_is_away(world: World) -> None:
    """A client has reported it: no stale answer brings it back."""
    world.answers = [3600, IssuerUnreachableError("away")]
    broker, other = world.broker(), world.broker()
    broker.access_token()
    other.access_token()
    broker.refuse("token-1")
    for process in (broker, other):
        world.kept.drop(f"p.{'k' * 32}.failure")
        world.answers = [IssuerUnreachableError("away")]
        with pytest.raises(IssuerUnreachableError):
            process.access_token()


def test_a_token_that_is_refused_during_the_ask_is_not_served(world: World) -> None:
    """Another process reports it while this one waits for an issuer that is away."""
    world.answers = [3600, IssuerUnreachableError("away")]
    broker, other = world.broker(), world.broker()
    broker.access_token()
    world.pass_s(3550)
    world.meanwhile = lambda: other.refuse("token-1")
    with pytest.raises(IssuerUnreachableError):
        broker.access_token()


def test_a_copy_of_a_refused_token_that_comes_back_is_not_served(world: World) -> None:
    """A restored cache file, or another process that kept it late."""
    world.answers = [3600, 3600]
    broker = world.broker()
    token = broker.access_token()
    broker.refuse(token.value)
    broker.cache.keep(token)
    assert world.broker().access_token().value == "token-2"


def test_the_session_is_told_which_tokens_are_refused(world: World) -> None:
    """So that it doesn't hand the shared one of the record out."""
    world.answers = [3600, 3600]
    broker = world.broker()
    broker.access_token()
    broker.refuse("token-1")
    broker.access_token()
    assert world.asks[-1].is_refused("token-1")
    assert not world.asks[-1].is_refused("token-2")


@pytest.mark.parametrize(("age_s", "exchanges"), [(4.9, 1), (5.1, 2)])
def test_a_failure_is_answered_from_memory_for_five_seconds(
    world: World, age_s: float, exchanges: int
) -> None:
    """Clients run a failing helper several times in a row."""
    world.answers = [CredentialsRefusedError("no"), CredentialsRefusedError("no")]
    with pytest.raises(CredentialsRefusedError):
        world.broker().access_token()
    world.pass_s(age_s)
    with pytest.raises(CredentialsRefusedError):
        world.broker().access_token()
    assert len(world.asks) == exchanges


@pytest.mark.parametrize("ask", [{"is_forced": True}, {"retry_refused": True}])
def test_a_person_s_ask_is_not_answered_from_the_memory_of_a_failure(
    world: World, ask: dict[str, Any]
) -> None:
    """Both ask because something has changed."""
    world.answers = [CredentialsRefusedError("no"), 3600]
    with pytest.raises(CredentialsRefusedError):
        world.broker().access_token()
    assert world.broker().access_token(**ask).value == "token-2"


def test_a_command_renews_ahead_once_a_minute_for_two_seconds(world: World) -> None:
    """A vendor that hangs costs one command two seconds, and the others nothing."""
    world.answers = [3600, *[IssuerUnreachableError("away")] * 3]
    world.broker().access_token()
    world.pass_s(3000)
    world.busy_s = 1000
    begun = world.boot_s
    assert world.broker().access_token(timeout_s=30).value == "token-1"
    assert world.boot_s - begun <= 2
    for age_s, asks in ((0, 2), (57, 2), (2, 3)):
        world.pass_s(age_s)
        assert world.broker().access_token().value == "token-1"
        assert len(world.asks) == asks
    assert world.notes == []


def test_a_short_time_limit_covers_the_attempt_to_renew_ahead_too(world: World) -> None:
    """--timeout 1 ends before the two seconds do."""
    world.answers = [3600, IssuerUnreachableError("away")]
    world.broker().access_token()
    world.pass_s(3000)
    world.busy_s = 1000
    begun = world.boot_s
    world.broker().access_token(timeout_s=1)
    assert world.boot_s - begun <= 1


def test_before_the_last_fifth_nothing_is_renewed(world: World) -> None:
    """A token is left alone for four fifths of its life."""
    world.answers = [3600]
    world.broker().access_token()
    world.pass_s(2870)
    world.broker().access_token()
    assert len(world.asks) == 1


def test_the_holder_of_a_living_token_waits_two_seconds_for_a_better_one(world: World) -> None:
    """Its time limit is for the one who has nothing."""
    world.answers = [3600, IssuerUnreachableError("away")]
    broker = world.broker()
    broker.access_token()
    world.pass_s(3550)
    world.busy_s = 1000
    begun = world.boot_s
    assert broker.access_token(timeout_s=30).value == "token-1"
    assert world.boot_s - begun <= 2


def test_who_holds_nothing_or_wants_another_has_the_whole_time(world: World) -> None:
    """Two seconds are for the holder of a living token alone."""
    world.answers = [3600, 3600]
    broker = world.broker()
    for number, is_forced in enumerate((False, True)):
        world.pass_s(1)
        deadline = world.boot_s + 30
        broker.access_token(timeout_s=30, is_forced=is_forced)
        assert world.asks[number].deadline == deadline


def test_a_thread_waits_for_its_turn_until_its_deadline(world: World) -> None:
    """Another thread's exchange may take longer than this one's ask."""
    world.answers = [3600]
    broker, begun, end = world.broker(), threading.Event(), threading.Event()

    def hold_up() -> None:
        begun.set()
        end.wait(30)

    world.meanwhile = hold_up
    other = threading.Thread(target=broker.access_token)
    other.start()
    assert begun.wait(30)
    with pytest.raises(ClaimBusyError, match="another thread"):
        broker.access_token(timeout_s=0.05)
    end.set()
    other.join()


def test_a_library_renews_ahead_in_a_thread(world: World) -> None:
    """The ask itself is answered at once, by the token that it has."""
    world.answers = [3600, 3600]
    broker = world.broker(is_library=True)
    broker.access_token()
    world.pass_s(3000)
    assert broker.access_token().value == "token-1"
    for thread in threading.enumerate():
        if thread.name == "nightporter-renew":
            thread.join()
    assert broker.access_token().value == "token-2"


@pytest.mark.parametrize("step_s", [-600, 600])
def test_a_stepped_wall_clock_causes_no_exchange(world: World, step_s: float) -> None:
    """The age of a cached token is the time since boot."""
    world.answers = [3600]
    world.broker().access_token()
    world.wall_s += step_s
    world.pass_s(1000)
    assert world.broker().access_token().value == "token-1"
    assert len(world.asks) == 1


def test_what_another_process_exchanged_meanwhile_is_adopted(world: World) -> None:
    """Whatever it has left, since the vendor gives no better one."""
    first, second = world.broker(), world.broker()
    world.answers = [40]
    first.access_token(min_ttl_s=300)
    world.pass_s(25)
    world.answers = [40]
    assert second.access_token(min_ttl_s=300).value == "token-2"
    assert first.access_token(min_ttl_s=300).value == "token-2"


def test_a_token_from_before_a_forced_ask_is_no_answer_to_it(world: World) -> None:
    """Only an exchange that began after the ask is."""
    world.answers = [3600, 3600]
    world.broker().access_token()
    world.pass_s(1)
    assert world.broker().access_token(is_forced=True).value == "token-2"


@pytest.mark.parametrize("is_library", [False, True])
def test_a_command_that_is_done_with_a_profile_holds_none_of_its_tokens(
    world: World, monkeypatch: pytest.MonkeyPatch, is_library: bool
) -> None:
    """A job over thousands of profiles would hold as many; a library's next ask wants it."""
    world.answers = [3600]
    broker = world.broker(is_library=is_library)
    broker.access_token()
    broker.close()
    assert (broker.cache.load() is not None) is is_library  # the cache of this world is memory
    monkeypatch.setattr(broker.cache, "load", lambda: None)
    assert (broker.held() is not None) is is_library


def test_a_refused_token_is_let_go_of_and_no_other(world: World) -> None:
    """A client may report one that was renewed meanwhile."""
    world.answers = [3600, 3600]
    broker = world.broker()
    assert broker.access_token().value == "token-1"
    broker.refuse("token-0")
    assert broker.access_token().value == "token-1"
    assert len(world.asks) == 1
    broker.refuse("token-1")
    assert broker.access_token().value == "token-2"


def test_a_refused_token_is_let_go_of_where_nothing_can_be_noted(world: World) -> None:
    """On a full disk, or a read-only one."""

    class Forgetful(Memory):
        def keep(self, name: str, content: bytes) -> None:
            pass

    world.kept = Forgetful()
    world.answers = [3600, 3600]
    broker = world.broker()
    assert broker.access_token().value == "token-1"
    broker.refuse("token-1")
    assert broker.access_token().value == "token-2"


def test_an_exchange_of_the_job_that_fails_says_so(world: World) -> None:
    """With the profile's name in what to do."""
    world.answers = [CredentialsRefusedError("no", hint="Run `nightporter seed PROFILE`.")]
    broker = world.broker()
    with pytest.raises(CredentialsRefusedError) as caught:
        broker.exchange(Ask(deadline=BOOT + 30))
    assert caught.value.hint == "Run `nightporter seed p`."


def test_what_is_forgotten_is_not_served(world: World) -> None:
    world.answers = [3600, 3600]
    broker = world.broker()
    assert broker.access_token().value == "token-1"
    broker.forget()
    assert broker.access_token().value == "token-2"


def test_a_command_that_renews_ahead_hands_out_what_it_got(world: World) -> None:
    """The older one has less left."""
    world.answers = [3600, 3600]
    assert world.broker().access_token().value == "token-1"
    world.pass_s(3500)
    assert world.broker().access_token().value == "token-2"


def test_a_child_of_a_fork_has_threads_of_its_own(world: World) -> None:
    """The parent's renewer does not run there."""
    world.answers = [3600, 3600]
    broker = world.broker(is_library=True)
    broker.access_token()
    broker._renewer = threading.Thread(target=int)
    broker.reset_locks()
    assert broker._renewer is None
    assert broker._session is None
