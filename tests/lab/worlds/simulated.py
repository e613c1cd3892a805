"""A fleet in one process: the real session code over a store in memory, a vendor without a wire and
a clock that is stepped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nightporter.core.config import parse_config
from nightporter.core.errors import OutcomeUnknownError, VersionConflictError
from nightporter.core.model import Profile
from nightporter.core.record import is_expired
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Request, Response
from nightporter.machine.journal import FileJournal
from nightporter.session.driver import Runtime
from nightporter.session.port import ABSENT, KeepExpiry, Sender, Store, Stored, Version
from nightporter.session.repository import Session
from nightporter.simulator import endpoints
from nightporter.simulator.world import World
from nightporter.stores import STORES


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class InMemory:
    """A store with Secrets Manager's quota, whose writes are dated."""

    clock: Clock
    versions_per_day: int | None = 100
    values: dict[str, tuple[Mapping[str, Any], int]] = field(default_factory=dict)
    writes: list[float] = field(default_factory=list)

    def read(self, path: str, *, timeout_s: float) -> Stored:
        value, version = self.values.get(path, (None, 0))
        gone = value is None or is_expired(value, self.clock.now)
        return Stored(
            None if gone else value,
            Version(str(version), version) if version else ABSENT,
            expired=value if gone else None,
            written_at=self.writes[-1] if self.writes else None,
            now=self.clock.now,
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
        _, version = self.values.get(path, (None, 0))
        if expected.token != (str(version) if version else ""):
            raise VersionConflictError("lost")
        self.values[path] = (value, version + 1)
        self.writes.append(self.clock.now)
        return Version(str(version + 1), version + 1)

    def delete(self, path: str, expected: Version, *, timeout_s: float) -> None:
        raise NotImplementedError

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        return False

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Direct:
    """The vendor without a wire."""

    world: World

    def disconnect(self) -> None:
        pass

    def send(
        self, request: Request, *, timeout_s: float, may_begin: Callable[[], bool] | None = None
    ) -> Response:
        asked = json.loads(request.body)
        is_sign_in = "password" in asked
        self.world.counts["sign-in" if is_sign_in else "refresh"] += 1
        status, members = (
            self.world.sign_in(asked["username"], asked["password"])
            if is_sign_in
            else self.world.refresh_reused(asked["refresh_token"])
        )
        return Response(status=status, headers={}, body=json.dumps(members).encode())


def session_of(
    profile: Profile, store: Store, sender: Sender, clock: Clock, room: Path, name: str
) -> Session:
    return Session(
        profile,
        store=store,
        issuer=issuer_for(profile),
        sender=sender,
        journal=FileJournal(str(room / name), "p"),
        runtime=Runtime(
            clock=clock,
            monotonic=clock,
            boot=clock,
            sleep=clock.sleep,
            host=name,
            holder=f"{name}/1/1",
        ),
    )


def profile_of(text: str) -> Profile:
    return parse_config(
        f"[profiles.p]\n{text}", source="t", vendors=VENDORS, stores=STORES
    ).profiles["p"]


@dataclass
class Wireless:
    """A vendor of a row, without a wire: what its server would answer to the very request."""

    world: World
    sent: list[tuple[float, str, str]] = field(default_factory=list)

    def disconnect(self) -> None:
        pass

    def send(
        self, request: Request, *, timeout_s: float, may_begin: Callable[[], bool] | None = None
    ) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = urlsplit(request.url).path
        found = endpoints.token_call(self.world, path, headers, request.body)
        assert found is not None, request.url
        call, answer = found
        self.world.counts[call] += 1
        self.sent.append((self.world.now(), call, request.body.decode()))
        fault = self.world.next_fault(call)
        status, members = self.world.voice.busy() if _is(fault, "busy") else answer()
        if _is(fault, "lost"):
            raise OutcomeUnknownError("lost on its way back")
        return Response(status=status, headers={}, body=json.dumps(members).encode())


def _is(fault: Mapping[str, Any] | None, kind: str) -> bool:
    return fault is not None and fault["kind"] == kind
