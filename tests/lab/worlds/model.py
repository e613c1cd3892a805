"""A world in one process: hosts that run the engine's own decisions, one store with old reads, one
vendor, stepped clocks.

A host is a flow of the engine. Everything that it wants done is an effect, and the scheduler draws
who goes on and what befalls the effect: so any interleaving of reads, writes, sends, sleeps,
crashes, lost answers, freezes, suspends and clock errors can be drawn, enumerated, shrunk and run
again. `watch` judges, `hosts` has machines and processes, `issuing` the vendor.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.worlds.hosts import Host, Machine, is_dead
from lab.worlds.issuing import Vendor, response_of
from lab.worlds.watch import START, Watch, Written
from nightporter.core.config import parse_config
from nightporter.core.errors import (
    IssuerUnreachableError,
    NightporterError,
    OutcomeUnknownError,
    StoreDeniedError,
    StoreUnreachableError,
    VersionConflictError,
)
from nightporter.core.model import Ask, Profile, Role, Token
from nightporter.core.record import PendingResult, is_expired
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Response
from nightporter.session import effects
from nightporter.session.driver import Runtime
from nightporter.session.effects import Effect, Flow
from nightporter.session.engine import obtaining
from nightporter.session.port import ABSENT, Stored, Version
from nightporter.session.repository import Session
from nightporter.stores import STORES

SLOW_S = 40.0  # how long a slow vendor thinks
TICK_S = 0.05
RECORD = "r"
CREDENTIALS = "c"
PUBLISHED = "p"
PITCHPOINT = 'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nrefresh_token = "r"\n'
CONFIGURATIONS = {
    "reused": PITCHPOINT + "share_access_token = true\n",
    "consumed": PITCHPOINT,  # consumers need no permission to write
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
REUSED = frozenset({"reused", "consumed"})


def profile_of(kind: str, role: Role, *, is_publishing: bool) -> Profile:
    """The profile of one host."""
    text = f'[profiles.p]\n{CONFIGURATIONS[kind]}role = "{role.value}"\n'
    if is_publishing:
        text += f'publish_access_token = "{PUBLISHED}"\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def rotating(session: Session, ask: Ask) -> Flow[Token]:
    """What `rotate --access` does with a profile that is due."""
    token = yield from obtaining(session, ask)
    yield from session.publishing(session.identity(None), token, ask.deadline)
    return token


@dataclass
class Model(Watch):
    """The whole. `fate` befalls the next effect of the host that goes on; `age` is how many
    versions old its next read is.

    `machines`: on which machine each host is, a letter each. `roles`: of each host; all are full
    where none are named, and nothing is published.
    """

    vendor_kind: str
    machines: str = "ab"
    roles: tuple[Role, ...] = ()
    is_seeded: bool = True
    lives: int = 0
    is_store_down: bool = False
    nonces: int = 0
    machine_of: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles = self.roles or (Role.FULL,) * len(self.machines)
        for number, letter in enumerate(sorted(set(self.machines))):
            # Booted at different times: no clock since boot means anything on another machine.
            booted_at = START - 1000.0 - 70_000.0 * number
            self.machine_of[letter] = Machine(letter, lambda: self.now, booted_at)
        self.hosts = [
            Host(
                index,
                self.machine_of[letter],
                profile_of(self.vendor_kind, role, is_publishing=bool(self.roles)),
            )
            for index, (letter, role) in enumerate(zip(self.machines, roles, strict=True))
        ]
        self.profile = self.hosts[0].profile
        is_rotating = self.vendor_kind not in REUSED
        self.vendor = Vendor(grace_s=self.profile.grace_s, is_rotating=is_rotating)
        if self.is_seeded and is_rotating:
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

    # What may happen.

    def start(
        self,
        host: Host,
        *,
        is_forced: bool = False,
        seconds: float = 30.0,
        retry: bool = False,
        flow: Callable[[Session, Ask], Flow[Token]] = obtaining,
    ) -> None:
        """The host asks for a token; nothing is done yet."""
        ask = Ask(
            deadline=host.machine.monotonic() + seconds,
            min_ttl_s=60,
            is_forced=is_forced,
            retry_refused=retry,
            is_refused=host.refused.__contains__,
        )
        host.outcome, host.wakes_at, host.events = None, 0.0, []
        host.has_read_old, host.claims = False, []
        host.is_job = flow is rotating
        host.flow = flow(self.session_of(host), ask)
        self.advance(host, None, None)

    def session_of(self, host: Host) -> Session:
        return Session(
            host.profile,
            store=_Nothing(),  # type: ignore[arg-type]  # every effect is done here
            issuer=issuer_for(host.profile),
            sender=_Nothing(),  # type: ignore[arg-type]
            journal=_Nothing(),  # type: ignore[arg-type]
            runtime=Runtime(
                clock=host.machine.clock,
                monotonic=host.machine.monotonic,
                boot=host.machine.boot,
                uniform=lambda low, high: (low + high) / 2,
                holder=host.name,
                host=host.machine.name,
                machine=host.machine.name,
                is_dead=lambda claim, machine: is_dead(claim, machine, self.hosts),
                emit=lambda event, **facts: self.note_event(host, event, facts.get("row")),
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
        self.check_outcome(host, outcome)

    def crash(self, host: Host) -> None:
        """kill -9: nothing of the host runs after it, and its disk stays."""
        if host.is_in_window:
            self.lost += 1
        host.end_process()

    def suspend(self, machine: Machine, seconds: float) -> None:
        """The lid is closed: its processes don't run and its monotonic clock stands still, while
        the others go on. Who holds an answer then is frozen with it."""
        machine.suspended_s += seconds
        for host in self.hosts:
            if host.machine is machine and not host.is_done:
                host.wakes_at = max(host.wakes_at, self.now) + seconds
                self.may_hurt |= host.is_in_window

    # Effects.

    def perform(self, host: Host, effect: Effect, fate: str, age: int) -> Any:
        match effect:
            case effects.Read():
                return self.read(host, effect.path, fate, age)
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
                return host.machine.seen.get(effect.lineage, 0)
            case effects.Note():
                before = host.machine.seen.get(effect.lineage, 0)
                host.machine.seen[effect.lineage] = max(before, effect.generation)
        return None

    def read(self, host: Host, path: str, fate: str, age: int) -> Stored:
        self.check_permitted(host, path, is_write=False)
        if self.is_store_down or fate in ("not-done", "done-unheard"):
            raise StoreUnreachableError("down")
        date = float(int(self.now))
        if path == CREDENTIALS:
            return Stored(self.credentials(), Version("1", 1), written_at=START, now=date)
        history = self.written(path)
        index = len(history) - age
        if index <= 0:
            return Stored(None, ABSENT, now=date)
        value, written_at = history[index - 1]
        if path == RECORD:
            host.claim_read = value.get("claim")
        version = Version(str(index), index, f"{self.lives}/{written_at}")
        gone = is_expired(value, date)
        return Stored(
            None if gone else value,
            version,
            expired=value if gone else None,
            written_at=written_at,
            now=date,
        )

    def credentials(self) -> dict[str, Any]:
        if self.vendor_kind == "grace":
            return {"client_id": "app", "client_secret": "s"}
        return {"username": "svc", "password": self.password}

    def written(self, path: str) -> Written:
        return self.published if path == PUBLISHED else self.history

    def check_permitted(self, host: Host, path: str, *, is_write: bool) -> None:
        """The policy of each role, as `nightporter policy` prints it.

        Raises: StoreDeniedError.
        """
        if host.role is Role.READ_ONLY:
            is_fine = path == PUBLISHED and not is_write
        elif host.role is Role.REFRESH_ONLY:
            is_secret = path == CREDENTIALS and self.vendor_kind != "grace"
            is_fine = not is_secret and (not is_write or host.may_write_sessions)
            is_fine = is_fine and path != PUBLISHED
        else:
            is_fine = True
        if not is_fine:
            raise StoreDeniedError("not yours", right="write" if is_write else "read")

    def write(self, host: Host, effect: effects.Write, fate: str) -> Version:
        self.check_permitted(host, effect.path, is_write=True)
        history = self.written(effect.path)
        if fate == "not-done" or self.is_store_down:
            raise StoreUnreachableError("cut before")
        token = str(len(history)) if history else ABSENT.token
        if effect.expected.token not in (token, ANY):
            raise VersionConflictError("lost")
        value = json.loads(json.dumps(effect.value))
        if effect.path == PUBLISHED:
            self.check_published(value)
        else:
            self.check_write(host, value)
        history.append((value, self.now))
        if effect.path == RECORD:
            self.note_claim(host, value.get("claim"))
        if fate == "done-unheard":
            raise StoreUnreachableError("cut after")
        if fate == "doubled":
            raise VersionConflictError("the second copy of the write lost")
        number = len(history)
        return Version(str(number), number, f"{self.lives}/{self.now}")

    def note_claim(self, host: Host, claim: dict[str, Any] | None) -> None:
        if claim and claim["holder"] == host.name:
            host.claims.append(claim["nonce"])
        if not claim:
            host.is_in_window = False

    def send(self, host: Host, effect: effects.Send, fate: str) -> Response:
        if effect.may_begin is not None and not effect.may_begin():
            raise IssuerUnreachableError("connected too late")
        if fate == "not-done":
            raise OutcomeUnknownError("lost on the way")
        self.check_send(host, effect.request)
        if fate == "spurious":
            self.settle_send(host, effect.request)
            return response_of(400, {"error": "invalid_grant"})
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
        return response_of(status, members)

    # For searches.

    def fingerprint(self) -> object:
        """What the future depends on."""
        return (
            round(self.now - START, 2),
            len(self.history),
            json.dumps((self.record, self.published[-1:]), sort_keys=True),
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
