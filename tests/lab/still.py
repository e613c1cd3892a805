"""A world that stands still: the store is a dictionary, answers of the issuer are a list, and both
clocks are the test's. For rules of one session that no outcome of a whole story shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nightporter.core.config import parse_config
from nightporter.core.errors import NightporterError, StoreDeniedError
from nightporter.core.model import Ask, Identity, Profile, Secret, SessionRecord
from nightporter.core.record import PendingResult, parse_session, render_session
from nightporter.core.values import replace
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Request, Response
from nightporter.session.driver import Runtime
from nightporter.session.exchange import Exchange
from nightporter.session.port import ABSENT, Journal, Sender, Store, Stored, Version
from nightporter.session.repository import Session
from nightporter.session.transitions import Snapshot
from nightporter.stores import STORES

NOW, BOOT = 1_784_037_600, 5_000.0
ROTATING = 'issuer = "vault-ist"\npartner_id = 7\nrefresh_token = "r"\n'
SHARING = 'issuer = "pitchpoint"\ncredentials = "c"\nrefresh_token = "r"\n'
SHARING += 'share_access_token = true\npublish_access_token = "a"\n'
REUSED = SHARING.replace("share_access_token = true\n", "")


def profile(text: str) -> Profile:
    config = parse_config(f"[profiles.p]\n{text}", source="t", vendors=VENDORS, stores=STORES)
    return config.profiles["p"]


@dataclass
class World:
    """A store, results that wait, and clocks that stand still but for what is slept. `answers`: of
    the issuer, one a request; `write_errors`: of the store, before it takes a write again."""

    text: str = SHARING
    values: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    waiting: list[PendingResult] = field(default_factory=list)
    is_denied: bool = False
    highest_seen: int = 0
    answers: list[Response | NightporterError] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)
    slept_s: float = 0.0
    pauses: list[float] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    noted: list[tuple[str, int]] = field(default_factory=list)
    write_errors: list[NightporterError] = field(default_factory=list)
    path: str = "waiting"

    def __post_init__(self) -> None:
        self.profile = profile(self.text)
        self.session = Session(
            self.profile,
            store=cast(Store, self),
            issuer=issuer_for(self.profile),
            sender=cast(Sender, self),
            journal=cast(Journal, self),
            runtime=Runtime(
                clock=lambda: NOW + self.slept_s,
                monotonic=lambda: BOOT + self.slept_s,
                boot=lambda: BOOT + self.slept_s,
                sleep=self.sleep,
                uniform=lambda _low, high: high,
                emit=lambda event, **facts: self.events.append((event, facts)),
                host="h",
                holder="h/1/1",
            ),
        )

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.slept_s += seconds

    def send(self, request: Request, **_more: Any) -> Response:
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, NightporterError):
            raise answer
        return answer

    versions_per_day = None

    def read(self, path: str, *, timeout_s: float) -> Stored:
        value, number = self.values.get(path, (None, 0))
        version = Version(str(number), number) if number else ABSENT
        now = NOW + self.slept_s
        return Stored(value, version, written_at=now, now=now)

    def write(
        self, path: str, value: Mapping[str, Any], expected: Version, _ends: object, **_more: Any
    ) -> Version:
        if self.is_denied:
            raise StoreDeniedError("no", right="write")
        if self.write_errors:
            raise self.write_errors.pop(0)
        number = self.values.get(path, (None, 0))[1] + 1
        self.values[path] = (dict(value), number)
        return Version(str(number), number)

    def sweep(self, _path: str, *, timeout_s: float) -> bool:
        return False

    def drop_previous(self, _path: str, *, timeout_s: float) -> None:
        pass

    def load(self) -> list[PendingResult]:
        return list(self.waiting)

    def highest(self, _lineage: str) -> int:
        return self.highest_seen

    def keep(self, pending: PendingResult) -> bool:
        self.waiting.append(pending)
        return True

    def note(self, lineage: str, generation: int) -> None:
        self.noted.append((lineage, generation))

    def drop(self, name: str) -> None:
        self.waiting = [pending for pending in self.waiting if pending.name != name]

    def record(self, **members: Any) -> SessionRecord:
        identity = Identity(
            issuer=self.profile.issuer, token_endpoint=self.profile.token_endpoint, username=None
        )
        record = SessionRecord(
            identity=identity,
            refresh_token=Secret("R1"),
            access_token=Secret("A1"),
            access_token_expires_at=NOW + 30,
            exchanged_at=NOW - 60,
            generation=4,
            lineage="l",
        )
        return replace(record, **members)

    def put(self, **members: Any) -> None:
        """Puts a record into the store, as if another had written it."""
        self.values["r"] = (render_session(self.record(**members)), 1)

    def kept(self) -> SessionRecord:
        found = parse_session(self.values["r"][0])
        assert isinstance(found, SessionRecord)
        return found

    def seen(self, **members: Any) -> Snapshot:
        return Snapshot(
            version=Version("7", 7), record=self.record(**members), now=float(NOW), seen_at=BOOT
        )

    def exchange(self, **ask: Any) -> Exchange:
        return Exchange(self.session, Ask(deadline=BOOT + 2, **ask))


def world(text: str, *answers: Any, **members: Any) -> World:
    """One with these answers, and a record without an access token; none without `members`."""
    found = World(text, answers=list(answers))
    found.values["c"] = ({"username": "svc", "password": "secret"}, 3)
    if members:
        found.put(access_token=None, access_token_expires_at=None, **members)
    return found


def reply(status: int, **members: Any) -> Response:
    return Response(status=status, headers={}, body=json.dumps(members).encode())


def ask() -> Ask:
    return Ask(deadline=BOOT + 30, min_ttl_s=60)
