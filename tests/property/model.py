"""A world in one process: brokers in threads that take turns, one store with old reads, one vendor,
stepped clocks.

Every call to the outside is a turn: the scheduler draws who goes on, and what befalls them. So any
interleaving of reads, writes, sends, sleeps, crashes, lost answers and clock steps can be drawn,
shrunk and run again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nightporter.core.config import parse_config
from nightporter.core.errors import (
    NightporterError,
    OutcomeUnknownError,
    StoreUnreachableError,
    VersionConflictError,
)
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.limits import CLAIM_S, EXCHANGE_S
from nightporter.core.model import Ask, Profile, Token
from nightporter.core.record import Spilled, is_expired
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Request, Response
from nightporter.session.engine import obtain
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.session.repository import Session, Surroundings
from nightporter.simulator.world import World
from nightporter.stores import STORES

START = 1_784_037_600.0


class Crashed(BaseException):
    """kill -9: nothing of ours runs after it."""


@dataclass
class Actor:
    """One process: its own clock error, its own disk, and the claim that it last won."""

    name: str
    model: Model
    offset_s: float = 0.0
    claim: str = ""
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None
    outcome: Token | BaseException | None = None
    is_done: bool = True
    must_crash: bool = False
    wakes_at: float = 0.0
    latest: float = (
        0.0  # what its clock has shown at most in this ask: it may be stepped back after a decision
    )
    spilled: Spilled | None = None
    seen: dict[str, float] = field(default_factory=dict)  # since when it knows which claim
    is_in_window: bool = False  # sent, and what comes of it is not written yet

    def clock(self) -> float:
        self.latest = max(self.latest, self.model.now + self.offset_s)
        return self.model.now + self.offset_s

    def pause(self) -> None:
        """Gives the turn back, and waits for the next one."""
        self.model.returned.release()
        self.turn.acquire()
        if self.must_crash:
            raise Crashed

    def sleep(self, seconds: float) -> None:
        self.wakes_at = self.model.now + seconds
        self.pause()

    def emit(self, event: str, **_facts: Any) -> None:
        if event in ("saved", "fenced", "spilled"):
            self.is_in_window = False

    # The spill's interface, on this actor's own disk.

    path = "disk"

    def keep(self, spilled: Spilled) -> bool:
        self.spilled = spilled
        return True

    def load(self) -> Spilled | None:
        return self.spilled

    def drop(self) -> None:
        self.spilled = None


@dataclass
class Store:
    """One path with compare-and-set, whose reads may be old. `history` holds every value that it
    ever had."""

    model: Model
    actor: Actor
    versions_per_day: int | None = None

    def read(self, path: str, *, timeout_s: float) -> Stored:
        self.actor.pause()
        history = self.model.history
        if self.model.is_store_down:
            raise StoreUnreachableError("down")
        age = min(self.model.take_age(), len(history))
        version = len(history) - age
        value = history[version - 1] if version else None
        claim = value.get("claim") if value else None
        if claim:
            self.actor.seen.setdefault(claim["nonce"], self.model.now)
        gone = value is None or is_expired(value, self.actor.clock())
        return Stored(
            None if gone else value, Version(str(version), version) if version else ABSENT
        )

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        self.actor.pause()
        fate = self.model.take_fate()
        if fate == "not-done" or self.model.is_store_down:
            raise StoreUnreachableError("cut before")
        if expected.token != (str(len(self.model.history)) if self.model.history else ABSENT.token):
            raise VersionConflictError("lost")
        self.model.check_write(self.actor, value)
        self.model.history.append(dict(value))
        claim = value.get("claim")
        if claim and claim["holder"] == self.actor.name:
            self.actor.claim = claim["nonce"]
        if fate == "done-unheard":
            raise StoreUnreachableError("cut after")
        version = len(self.model.history)
        return Version(str(version), version)

    def delete(self, path: str, expected: Version, *, timeout_s: float) -> None:
        raise NotImplementedError

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass
class Sender:
    """The vendor, in the same process; answers may be lost before or after the deed."""

    model: Model
    actor: Actor

    def send(self, request: Request, *, timeout_s: float) -> Response:
        self.model.note_send(self.actor, request)
        began, self.actor.is_in_window = self.model.now, True
        self.actor.pause()
        fate = self.model.take_fate()
        if (
            fate == "not-done" or self.model.now - began > EXCHANGE_S
        ):  # it opens no connection when its time is over
            self.actor.is_in_window = False
            raise OutcomeUnknownError("lost on the way")
        status, members = self.model.answer(request)
        self.actor.is_in_window = status == 200
        self.actor.pause()
        if fate == "done-unheard":
            if status == 200:
                self.model.lose_one()
            raise OutcomeUnknownError("lost on the way back")
        return Response(status=status, headers={}, body=json.dumps(members).encode())


@dataclass
class Model:
    """The whole. `age` and `fate` befall the next call of the actor that goes on."""

    vendor: str
    now: float = START
    history: list[dict[str, Any]] = field(default_factory=list)
    sends: list[tuple[str, str]] = field(default_factory=list)
    returned: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    age: int = 0
    fate: str = "done"
    is_store_down: bool = False
    lost: int = 0  # results that no save could have kept
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(users={"svc": "pw"}, clock=lambda: self.now, grace_s=0)
        text = (
            '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\nusername ='
            ' "svc"\nshare_access_token = true\n'
            if self.vendor == "reused"
            else (
                '[profiles.p]\nissuer = "vault-ist"\npartner_id = 7\nrefresh_token ='
                ' "r"\nshare_access_token = true\n'
            )
        )
        self.world.rotation = "rotates"
        config = parse_config(text, source="t", vendors=VENDORS, stores=STORES)
        self.profile: Profile = config.profiles["p"]
        self.actors = [Actor(f"host-{number}/1/1", self) for number in range(2)]
        if self.vendor == "rotates":
            self.history.append(self.seeded())

    def seeded(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "issuer": "vault-ist",
            "token_endpoint": self.profile.token_endpoint,
            "refresh_token": self.world.new_refresh_token(),
            "generation": 1,
        }

    def take_age(self) -> int:
        age, self.age = self.age, 0
        return age

    def take_fate(self) -> str:
        fate, self.fate = self.fate, "done"
        return fate

    # What may happen.

    def start(self, actor: Actor, ask: Callable[[float], Ask]) -> None:
        session = Session(
            self.profile,
            store=_WithCredentials(self, actor),
            issuer=issuer_for(self.profile),
            sender=Sender(self, actor),
            spill=actor,  # the actor's own disk
            around=Surroundings(
                clock=actor.clock,
                monotonic=lambda: self.now,
                sleep=actor.sleep,
                uniform=lambda low, high: (low + high) / 2,
                holder=actor.name,
                machine=None,
                is_dead=lambda _claim, _machine: False,
                emit=actor.emit,
            ),
        )

        def run() -> None:
            actor.turn.acquire()
            try:
                if actor.must_crash:
                    raise Crashed
                actor.outcome = obtain(session, ask(self.now + 30))
            except (NightporterError, Crashed) as exc:
                actor.outcome = exc
            except BaseException as exc:
                actor.outcome = exc
                self.problems.append(f"a defect: {exc!r}")
            actor.is_done = True
            self.returned.release()

        actor.is_done, actor.outcome, actor.must_crash, actor.wakes_at, actor.latest = (
            False,
            None,
            False,
            0.0,
            0.0,
        )
        actor.thread = threading.Thread(target=run, daemon=True)
        actor.thread.start()

    def go_on(self, actor: Actor) -> None:
        """One turn of the actor; the clock first moves to when it wanted to wake."""
        self.now = max(self.now, actor.wakes_at) + 0.05
        actor.turn.release()
        self.returned.acquire()
        if actor.is_done:
            self.check_end(actor)

    def crash(self, actor: Actor) -> None:
        if actor.is_in_window:
            self.lose_one()
            actor.is_in_window = False
        actor.must_crash = True
        self.go_on(actor)

    def lose_one(self) -> None:
        self.lost += 1

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        asked = json.loads(request.body)
        if "password" in asked:
            return self.world.sign_in(asked["username"], asked["password"])
        if self.vendor == "reused":
            return self.world.refresh_reused(asked["refresh_token"])
        return self.world.refresh(asked["refreshToken"])

    # What must never happen.

    def note_send(self, actor: Actor, request: Request) -> None:
        key = (actor.claim, request.body.decode())
        if not actor.claim:
            self.problems.append("sent without a claim")
        if key in self.sends:
            self.problems.append("one refresh token was exchanged twice within one claim")
        self.sends.append(key)

    def check_write(self, actor: Actor, value: Mapping[str, Any]) -> None:
        if not self.history:
            return
        before = self.history[-1]
        self.check_claim(actor, before.get("claim"))
        if value["generation"] < before["generation"]:
            self.problems.append("a generation went back")
        changed = value.get("refresh_token") != before.get("refresh_token") and value.get(
            "refresh_token"
        )
        if changed and value["generation"] in {
            old["generation"] for old in self.history if old.get("refresh_token")
        }:
            self.problems.append("a generation was repeated")
        token = before.get("refresh_token")
        if changed and token and self.vendor == "rotates" and self.world.is_session_alive(token):
            self.problems.append("the newest refresh token was overwritten")

    def check_claim(self, actor: Actor, claim: Mapping[str, str] | None) -> None:
        """Nobody writes over a claim that lives; and what a holder has in hand when its own has run
        out is lost."""
        if claim is None or claim["holder"] == actor.name:
            return
        seen_since = actor.seen.get(claim["nonce"], self.now)
        if actor.latest < parse_rfc3339(claim["until"]) and self.now - seen_since <= CLAIM_S:
            self.problems.append("a living claim was written over")
        if any(other.is_in_window or other.spilled for other in self.actors if other is not actor):
            # the claimed token goes out once more, and a strict vendor revokes the family
            self.lose_one()

    def check_end(self, actor: Actor) -> None:
        if isinstance(actor.outcome, Token) and actor.outcome.expires_at_s <= actor.clock():
            self.problems.append("an expired access token was served")

    def check_nothing_lost(self) -> None:
        """The newest refresh token is in the store or on a disk, unless an answer was lost that no
        save could keep."""
        if self.lost or self.vendor != "rotates" or not all(actor.is_done for actor in self.actors):
            return
        kept = [self.history[-1].get("refresh_token")]
        kept += [
            actor.spilled.record.get("refresh_token") for actor in self.actors if actor.spilled
        ]
        if not any(token and self.world.is_session_alive(token) for token in kept):
            self.problems.append("the newest refresh token was lost")


class _WithCredentials(Store):
    """The credentials secret lies beside the record, and never changes."""

    def read(self, path: str, *, timeout_s: float) -> Stored:
        if path == "c":
            return Stored({"username": "svc", "password": "pw"}, Version("1", 1))
        return super().read(path, timeout_s=timeout_s)
