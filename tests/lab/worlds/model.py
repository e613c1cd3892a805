"""A world in one process: hosts that run the engine's own decisions, one store with old reads, one
vendor, stepped clocks.

A host is a flow of the engine. Everything that it wants done is an effect, and the scheduler draws
who goes on and what befalls the effect: so any interleaving of reads, writes, sends, sleeps,
crashes, lost answers, freezes and clock errors can be drawn, enumerated, shrunk and run again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightporter.core.config import parse_config
from nightporter.core.errors import (
    IssuerUnreachableError,
    NightporterError,
    OutcomeUnknownError,
    StoreRolledBackError,
    StoreUnreachableError,
    VersionConflictError,
)
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.limits import LISTEN_S, MAX_UNSETTLED, UNSETTLED_BACK_OFF_S
from nightporter.core.model import Ask, Profile, Token
from nightporter.core.record import PendingResult, is_expired
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Request, Response
from nightporter.session import effects
from nightporter.session.driver import Runtime
from nightporter.session.effects import Effect, Flow
from nightporter.session.engine import obtaining
from nightporter.session.port import ABSENT, Stored, Version
from nightporter.session.repository import Session
from nightporter.stores import STORES

START = 1_784_037_600.0
SLOW_S = 40.0  # how long a slow vendor thinks
FROZEN_S = 15.0  # a ready host that is not run for longer is frozen
TICK_S = 0.05
RECORD = "r"
CREDENTIALS = "c"
CONFIGURATIONS = {
    "reused": (
        'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nshare_access_token = true\n'
        'refresh_token = "r"\n'
    ),
    "strict": (
        'issuer = "vault-ist"\npartner_id = 7\nrefresh_token = "r"\nshare_access_token = true\n'
    ),
    "unshared": 'issuer = "vault-ist"\npartner_id = 7\nrefresh_token = "r"\n',
    "grace": (
        'issuer = "oauth2"\ntoken_endpoint = "https://as.example/token"\nrefresh_token = "r"\n'
        'grant = "refresh_token"\nrotation = "rotates"\ngrace = "30s"\nshare_access_token = true\n'
        'client = "c"\n'
    ),
}


@dataclass
class Vendor:
    """An issuer that names its tokens R1, R2 ... and revokes the family on reuse."""

    grace_s: float
    is_rotating: bool
    password: str = "pw"
    newest: int = 0
    rotated_at: dict[int, float] = field(default_factory=dict)
    is_revoked: bool = False
    sign_ins: list[float] = field(default_factory=list)

    def answer(self, request: Request, now: float) -> tuple[int, dict[str, Any]]:
        """The vendor's deed and its words."""
        text = request.body.decode()
        asked = json.loads(text) if text.startswith("{") else dict(_form(text))
        if "password" in asked:
            return self.sign_in(asked["password"], now)
        return self.refresh(str(asked.get("refreshToken") or asked.get("refresh_token")), now)

    def sign_in(self, password: str, now: float) -> tuple[int, dict[str, Any]]:
        self.sign_ins.append(now)
        if password != self.password:
            return 403, {"error": "access_denied"}
        self.newest += 1
        self.is_revoked = False
        return self.tokens(now)

    def refresh(self, token: str, now: float) -> tuple[int, dict[str, Any]]:
        number = int(token[1:])
        if self.is_revoked:
            return 400, {"error": "invalid_grant"}
        if not self.is_rotating:
            return self.tokens(now)
        if number in self.rotated_at:
            if now - self.rotated_at[number] > self.grace_s or number + 1 != self.newest:
                self.is_revoked = True
                return 400, {"error": "invalid_grant"}
            return self.tokens(now)
        self.rotated_at[number] = now
        self.newest += 1
        return self.tokens(now)

    def tokens(self, now: float) -> tuple[int, dict[str, Any]]:
        return 200, {
            "access_token": f"A{self.newest}-{int(now)}",
            "token_type": "Bearer",
            "expires_in": 600,
            "refresh_token": f"R{self.newest}",
        }

    def is_alive(self, token: str | None) -> bool:
        """Whether a session can go on from this token."""
        if token is None or self.is_revoked:
            return False
        return not self.is_rotating or int(token[1:]) == self.newest


def _response(status: int, members: Mapping[str, Any]) -> Response:
    return Response(status=status, headers={}, body=json.dumps(members).encode())


def _form(text: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(text)


@dataclass
class Host:
    """One process on a machine of its own: its clock's error, its disk, and where its flow is."""

    name: str
    model: Model
    offset_s: float = 0.0
    flow: Flow[Token] | None = None
    wants: Effect | None = None
    outcome: Token | BaseException | None = None
    wakes_at: float = 0.0
    ready_at: float = 0.0  # since when it could have gone on
    pending: dict[str, PendingResult] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    trail: str = ""
    claims: list[str] = field(default_factory=list)
    is_in_window: bool = False  # it has an answer that is written nowhere
    sending: str | None = None
    delayed: Response | None = None  # an answer that is under way
    has_read_old: bool = False
    events: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # tokens that a client said are refused

    @property
    def is_done(self) -> bool:
        return self.flow is None

    def clock(self) -> float:
        return self.model.now + self.offset_s

    def emit(self, event: str, **_facts: Any) -> None:
        self.events.append(event)


@dataclass
class Model:
    """The whole. `fate` befalls the next effect of the host that goes on; `age` is how many
    versions old its next read is."""

    vendor_kind: str
    hosts_count: int = 2
    password: str = "pw"
    is_seeded: bool = True
    now: float = START
    history: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    lives: int = 0
    problems: list[str] = field(default_factory=list)
    sends: dict[tuple[str, str], str] = field(default_factory=dict)
    lost: int = 0  # results that no save could have kept
    is_store_down: bool = False
    may_hurt: bool = False  # an assumption of the invariants was broken on purpose
    nonces: int = 0

    def __post_init__(self) -> None:
        text = f"[profiles.p]\n{CONFIGURATIONS[self.vendor_kind]}"
        self.profile: Profile = parse_config(
            text, source="t", vendors=VENDORS, stores=STORES
        ).profiles["p"]
        self.vendor = Vendor(grace_s=self.profile.grace_s, is_rotating=self.vendor_kind != "reused")
        self.hosts = [Host(f"{letter}/1/1", self) for letter in "abc"[: self.hosts_count]]
        if self.is_seeded and self.vendor_kind != "reused":
            self.vendor.newest = 1
            self.history.append((self.seeded(), self.now))

    def seeded(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "issuer": self.profile.issuer,
            "token_endpoint": self.profile.token_endpoint,
            "refresh_token": f"R{self.vendor.newest}",
            "generation": 1,
            "lineage": "seeded",
        }

    @property
    def record(self) -> dict[str, Any]:
        return self.history[-1][0] if self.history else {}

    # What may happen.

    def start(
        self, host: Host, *, is_forced: bool = False, seconds: float = 30.0, retry: bool = False
    ) -> None:
        """The host asks for a token; nothing is done yet."""
        ask = Ask(
            deadline=self.now + seconds,
            min_ttl_s=60,
            is_forced=is_forced,
            retry_refused=retry,
            is_refused=host.refused.__contains__,
        )
        host.outcome, host.wakes_at, host.events = None, 0.0, []
        host.has_read_old = False
        host.flow = obtaining(self.session_of(host), ask)
        self.advance(host, None, None)

    def session_of(self, host: Host) -> Session:
        return Session(
            self.profile,
            store=_Nothing(),  # type: ignore[arg-type]  # every effect is done here
            issuer=issuer_for(self.profile),
            sender=_Nothing(),  # type: ignore[arg-type]
            journal=_Nothing(),  # type: ignore[arg-type]
            runtime=Runtime(
                clock=host.clock,
                monotonic=lambda: self.now,
                boot=lambda: self.now,
                uniform=lambda low, high: (low + high) / 2,
                holder=host.name,
                host=host.name,
                emit=host.emit,
            ),
        )

    def go_on(self, host: Host, fate: str = "done", age: int = 0) -> None:
        """Does what the host wants, with what befalls it, and runs it to its next wish."""
        assert host.wants is not None
        self.now = max(self.now, host.wakes_at) + TICK_S
        self.note_freezes()
        host.wakes_at = 0.0
        if fate == "frozen":
            self.may_hurt = True
            host.wakes_at = self.now + 70
            return
        if fate == "paused":
            host.wakes_at = self.now + 3
            return
        if host.delayed is not None:
            delayed, host.delayed = host.delayed, None
            self.advance(host, delayed, None)
            return
        host.has_read_old |= age > 0 and isinstance(host.wants, effects.Read)
        answer, error = None, None
        try:
            answer = self.perform(host, host.wants, fate, age)
        except NightporterError as exc:
            error = exc
        if fate == "slow" and isinstance(answer, Response):
            host.delayed, host.wakes_at = answer, self.now + SLOW_S
            return
        self.advance(host, answer, error)

    def note_freezes(self) -> None:
        """A host that holds an answer, and is not run while others let time pass, is frozen: for
        longer than a claim lives that may cost the session, which is an assumption of I3."""
        for host in self.hosts:
            if host.is_in_window and self.now - max(host.ready_at, host.wakes_at) > FROZEN_S:
                self.may_hurt = True

    def advance(self, host: Host, answer: Any, error: Exception | None) -> None:
        assert host.flow is not None
        host.ready_at = self.now
        host.trail = hashlib.md5(
            f"{host.trail}{type(host.wants).__name__}{answer!r}{error!r}".encode(),
            usedforsecurity=False,
        ).hexdigest()
        before = _CURRENT[0]
        _CURRENT[0] = self
        try:
            host.wants = host.flow.throw(error) if error else host.flow.send(answer)
        except StopIteration as done:
            self.end(host, done.value)
        except NightporterError as exc:
            self.end(host, exc)
        except Exception as exc:
            self.problems.append(f"a defect: {exc!r}")
            self.end(host, exc)
        finally:
            _CURRENT[0] = before
        if isinstance(host.wants, effects.Sleep):
            host.wakes_at = self.now + host.wants.seconds

    def end(self, host: Host, outcome: Token | BaseException) -> None:
        host.flow, host.wants, host.outcome = None, None, outcome
        host.is_in_window = False
        # A store that serves old reads for as long as that looks just like one that was set back.
        if isinstance(outcome, StoreRolledBackError) and not host.has_read_old:
            self.problems.append("the store was called set back, and was not")
        if isinstance(outcome, Token) and (outcome.ends_s or 0) <= self.now:
            self.problems.append("an expired access token was served")
        if isinstance(outcome, Token) and self.vendor_kind != "reused":
            saved = {value.get("refresh_token") for value, _ in self.history}
            if outcome.value.replace("A", "R").partition("-")[0] not in saved:
                self.problems.append("a token was handed out before it was saved")
        if isinstance(outcome, Token) and outcome.value in host.refused:
            self.problems.append("a token that a client reported as refused was served")
        if isinstance(outcome, Token) and not self.profile.share_access_token and self.is_kept():
            self.problems.append("an access token was kept although sharing is off")

    def is_kept(self) -> bool:
        return any(value.get("access_token") for value, _ in self.history)

    def crash(self, host: Host) -> None:
        """kill -9: nothing of the host runs after it, and its disk stays."""
        if host.is_in_window:
            self.lost += 1
        host.flow, host.wants, host.is_in_window, host.sending = None, None, False, None
        host.delayed = None
        host.outcome = None

    # Effects.

    def perform(self, host: Host, effect: Effect, fate: str, age: int) -> Any:
        match effect:
            case effects.Read():
                return self.read(effect.path, fate, age)
            case effects.Write():
                return self.write(host, effect, fate)
            case effects.Send():
                return self.send(host, effect, fate)
            case effects.LoadPending():
                return list(host.pending.values())
            case effects.KeepPending():
                self.nonces += 1
                name = str(self.nonces)
                host.pending[name] = PendingResult(
                    nonce=effect.pending.nonce,
                    record=effect.pending.record,
                    at=effect.pending.at,
                    is_sign_in=effect.pending.is_sign_in,
                    name=name,
                )
                host.is_in_window = False
                return True
            case effects.DropPending():
                host.pending.pop(effect.name, None)
            case effects.Highest():
                return host.seen.get(effect.lineage, 0)
            case effects.Note():
                host.seen[effect.lineage] = max(host.seen.get(effect.lineage, 0), effect.generation)
        return None

    def read(self, path: str, fate: str, age: int) -> Stored:
        if self.is_store_down or fate in ("not-done", "done-unheard"):
            raise StoreUnreachableError("down")
        date = float(int(self.now))
        if path == CREDENTIALS:
            value = {"username": "svc", "password": self.password}
            if self.vendor_kind == "grace":
                value = {"client_id": "app", "client_secret": "s"}
            return Stored(value, Version("1", 1), written_at=START, now=date)
        index = len(self.history) - age
        if index <= 0:
            return Stored(None, ABSENT, now=date)
        value, written_at = self.history[index - 1]
        version = Version(str(index), index, f"{self.lives}/{written_at}")
        gone = is_expired(value, date)
        return Stored(
            None if gone else value,
            version,
            expired=value if gone else None,
            written_at=written_at,
            now=date,
        )

    def write(self, host: Host, effect: effects.Write, fate: str) -> Version:
        if fate == "not-done" or self.is_store_down:
            raise StoreUnreachableError("cut before")
        token = str(len(self.history)) if self.history else ABSENT.token
        if effect.expected.token not in (token, ANY):
            raise VersionConflictError("lost")
        value = json.loads(json.dumps(effect.value))
        self.check_write(host, value)
        self.history.append((value, self.now))
        claim = value.get("claim")
        if claim and claim["holder"] == host.name:
            host.claims.append(claim["nonce"])
        if not claim:
            host.is_in_window = False
        if fate == "done-unheard":
            raise StoreUnreachableError("cut after")
        if fate == "doubled":
            raise VersionConflictError("the second copy of the write lost")
        number = len(self.history)
        return Version(str(number), number, f"{self.lives}/{self.now}")

    def send(self, host: Host, effect: effects.Send, fate: str) -> Response:
        if effect.may_begin is not None and not effect.may_begin():
            raise IssuerUnreachableError("connected too late")
        if fate == "not-done":
            raise OutcomeUnknownError("lost on the way")
        self.check_send(host, effect.request)
        if fate == "spurious":
            self.settle_send(host, effect.request)
            return _response(400, {"error": "invalid_grant"})
        status, members = self.vendor.answer(effect.request, self.now)
        is_result = status == 200
        host.is_in_window = is_result
        is_cut = fate == "slow" and effect.timeout_s < SLOW_S
        if is_cut and is_result and self.vendor.is_rotating:
            self.problems.append("a refresh token that may rotate was not listened to")
        if fate == "done-unheard" or is_cut:
            self.note_lost(host, is_result)
            raise OutcomeUnknownError("lost on the way back")
        self.settle_send(host, effect.request)
        return _response(status, members)

    def note_lost(self, host: Host, is_result: bool) -> None:
        host.is_in_window = False
        if is_result and self.vendor.is_rotating:
            self.lost += 1

    # What must never happen.

    def check_send(self, host: Host, request: Request) -> None:
        if not host.claims:
            self.problems.append("sent without a claim")
            return
        is_sign_in = b"password" in request.body
        if is_sign_in:
            self.check_attempts()
            return
        key = (host.claims[-1], request.body.decode())
        if self.sends.get(key) == "unknown":
            self.problems.append("one refresh token was sent twice within one claim")
        self.sends[key] = "unknown"
        self.check_overlap(host, request)
        self.note_late_result(host, request)

    def settle_send(self, host: Host, request: Request) -> None:
        if host.claims:
            self.sends[(host.claims[-1], request.body.decode())] = "known"

    def check_overlap(self, host: Host, request: Request) -> None:
        """No two hosts have one refresh token under way at the same time."""
        if self.may_hurt or self.vendor.grace_s or not self.vendor.is_rotating:
            return
        text = request.body.decode()
        for other in self.hosts:
            if other is not host and other.is_in_window and other.sending == text:
                self.problems.append("one refresh token was under way twice")
        host.sending = text

    def note_late_result(self, host: Host, request: Request) -> None:
        """A grace is how long a result may be on its way. One that is still in a host's memory or
        on its disk when the grace is over (the store was away) is the one window: the record's
        token is sent once more, and that may end the session."""
        token = request.body.decode().partition("refresh_token=")[2].partition("&")[0]
        rotated_at = (
            self.vendor.rotated_at.get(int(token[1:] or 0)) if self.vendor.grace_s else None
        )
        if rotated_at is None or self.now - rotated_at <= self.vendor.grace_s:
            return
        others = [other for other in self.hosts if other is not host]
        if any(other.is_in_window or other.pending for other in others):
            self.may_hurt = True

    def check_attempts(self) -> None:
        recent = [at for at in self.vendor.sign_ins if self.now - at < UNSETTLED_BACK_OFF_S - 1]
        if self.vendor.password != self.password and len(recent) >= MAX_UNSETTLED:
            self.problems.append("a wrong password was tried more than twice in five minutes")

    def check_write(self, host: Host, value: Mapping[str, Any]) -> None:
        if not self.history:
            return
        before, written_at = self.history[-1]
        self.check_claim(host, before.get("claim"), written_at)
        if value["generation"] < before["generation"]:
            self.problems.append("a generation went back")
        token, newer = before.get("refresh_token"), value.get("refresh_token")
        if newer == token or token is None:
            return
        if newer is None and not _has_ended(before, self.now):
            self.problems.append("the only copy of a refresh token was erased")
        if newer is not None and value["generation"] == before["generation"]:
            self.problems.append("a generation was repeated")
        if self.vendor.is_rotating and self.vendor.is_alive(token) and newer is not None:
            self.problems.append("the newest refresh token was overwritten")

    def check_claim(self, host: Host, claim: Mapping[str, Any] | None, written_at: float) -> None:
        """Nobody writes over a claim that is in force, by the store's clock."""
        if claim is None or claim["holder"] == host.name:
            return
        if self.now - written_at < claim["life"] - 1:
            self.problems.append("a claim in force was written over")
        if self.vendor.is_rotating and self.vendor.grace_s == 0:
            self.check_window(host)

    def check_window(self, host: Host) -> None:
        """A claim ends after whatever can come of what was sent under it."""
        for other in self.hosts:
            if other is host:
                continue
            if other.is_in_window and not self.may_hurt:
                self.problems.append("a claim ended while its answer was under way")
            if other.pending:
                self.may_hurt = True  # the one window: a result waits for its machine

    def check_end(self) -> None:
        """Once everybody is done: the session lives, unless an answer was lost that no save could
        keep."""
        if self.vendor_kind == "reused" or self.lost or self.may_hurt:
            return
        if self.vendor.is_revoked:
            self.problems.append("the family was revoked")
            return
        kept = [self.record.get("refresh_token")]
        kept += [
            pending.record.get("refresh_token")
            for host in self.hosts
            for pending in host.pending.values()
        ]
        if not any(self.vendor.is_alive(token) for token in kept):
            self.problems.append("the newest refresh token was lost")

    # For searches.

    def fingerprint(self) -> object:
        """What the future depends on."""
        return (
            round(self.now - START, 2),
            len(self.history),
            json.dumps(self.record, sort_keys=True),
            (self.vendor.newest, self.vendor.is_revoked, len(self.vendor.sign_ins)),
            tuple(
                (host.trail, host.is_done, round(host.wakes_at, 2), len(host.pending))
                for host in self.hosts
            ),
        )


ANY = "any"
_CURRENT: list[Model | None] = [None]


def _token_hex(count: int) -> str:
    """Names are counted within a model, so that a run can be repeated."""
    model = _CURRENT[0]
    if model is None:
        return _REAL_TOKEN_HEX(count)
    model.nonces += 1
    return f"n{model.nonces}"


_REAL_TOKEN_HEX: Callable[[int], str] = secrets.token_hex
secrets.token_hex = _token_hex  # type: ignore[assignment]  # the real one outside of a model


class _Nothing:
    """Ports of a session whose flows are run here."""

    versions_per_day: int | None = None
    path = "disk"


def _has_ended(value: Mapping[str, Any], now: float) -> bool:
    stamp = value.get("expires_at")
    return stamp is not None and parse_rfc3339(str(stamp)) <= now


def events_of(hosts: Sequence[Host]) -> dict[str, list[str]]:
    """What each host reported."""
    return {host.name: host.events for host in hosts}


__all__ = ["ANY", "LISTEN_S", "START", "Host", "Model", "Vendor", "events_of"]
