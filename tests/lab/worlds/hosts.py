"""The model's machines and the processes on them: nothing is shared between two machines, clocks
least of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nightporter.core.model import Claim, Profile, Role, Token
from nightporter.core.record import PendingResult
from nightporter.issuers.oauth import Response
from nightporter.session.effects import Effect, Flow

FROZEN_S = 15.0  # a ready host that is not run for longer is frozen


@dataclass
class Machine:
    """A disk, and three clocks: the wall's (`offset_s` is its error), one since boot, and a
    monotonic one that stands still while the machine is suspended."""

    name: str
    world: Callable[[], float]
    booted_at: float
    offset_s: float = 0.0
    suspended_s: float = 0.0
    pending: dict[str, PendingResult] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def clock(self) -> float:
        return self.world() + self.offset_s

    def boot(self) -> float:
        return self.world() - self.booted_at

    def monotonic(self) -> float:
        return self.boot() - self.suspended_s


@dataclass
class Host:
    """One process of a machine, and where its flow is. `life` counts the processes that had its
    place: a crash, or the end of a command, makes way for the next one."""

    index: int
    machine: Machine
    profile: Profile
    life: int = 1
    flow: Flow[Token] | None = None
    wants: Effect | None = None
    outcome: Token | BaseException | None = None
    wakes_at: float = 0.0
    ready_at: float = 0.0  # since when it could have gone on
    trail: str = ""
    claims: list[str] = field(default_factory=list)
    is_in_window: bool = False  # it has an answer that is written nowhere
    sending: str | None = None
    delayed: Response | None = None  # an answer that is under way
    has_read_old: bool = False
    is_job: bool = False  # it rotates: nobody is handed its token
    claim_read: dict[str, Any] | None = None  # in the record, when it was last read
    events: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # tokens that a client said are refused

    @property
    def name(self) -> str:
        """Of the holder of a claim: machine, process, and since when it runs."""
        return f"{self.machine.name}/{self.index + 1}/{self.life}"

    @property
    def pending(self) -> dict[str, PendingResult]:
        return self.machine.pending

    @property
    def role(self) -> Role:
        return self.profile.role

    @property
    def is_done(self) -> bool:
        return self.flow is None

    @property
    def may_write_sessions(self) -> bool:
        """What the store's policy allows; a consumer of a reused token needs to read alone."""
        return self.role is Role.FULL or self.profile.is_exclusive

    def end_process(self) -> None:
        """The process is gone; the next one in its place knows what is on the disk."""
        self.life += 1
        self.flow, self.wants, self.is_in_window, self.sending = None, None, False, None
        self.delayed, self.outcome = None, None
        self.claims = []


def is_dead(claim: Claim, machine: str | None, hosts: list[Host]) -> bool:
    """As a kernel tells it: of processes of the same machine alone."""
    if machine is None or claim.machine != machine:
        return False
    return claim.holder not in {host.name for host in hosts}
