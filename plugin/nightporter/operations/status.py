"""What `nightporter status` knows about a profile, and how it is shown. Holds no secret by
construction; only `status_of` reads anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from nightporter.client.broker import Broker
from nightporter.core.errors import NightporterError
from nightporter.core.expiry import format_rfc3339
from nightporter.core.incidents import told_in
from nightporter.core.model import Ask, Profile, Refusal, Role, SessionRecord, Token
from nightporter.core.record import idle_end
from nightporter.core.told import NOTHING, Told
from nightporter.core.values import dataclass, field, replace
from nightporter.machine.helper_failures import HelperFailure
from nightporter.session.transitions import Snapshot, is_marked, shared_ends_at

LOOK_S = 1.0  # a published token that isn't there yet is looked for again


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One profile. `problem`: why its record can't be read or used; `spilled_at`: a result is kept
    here since then. `idle_ends_at`: when the session dies if nobody refreshes it, as far as the
    vendor's row knows.

    `failures`: failures of helpers that their clients kept to themselves. `zone`: the time zone at
    whose midnight the vendor's refresh tokens end. `exit_code`: of `problem`.
    """

    profile: str
    issuer: str
    store: str
    path: str
    cached: Token | None = field(repr=False)
    record: SessionRecord | None = field(repr=False)
    problem: str | None = None
    reference: str | None = None
    spilled_at: int | None = None
    idle_ends_at: int | None = None
    failures: tuple[HelperFailure, ...] = ()
    published: Token | None = field(default=None, repr=False)  # what a read-only profile reads
    zone: str | None = None
    exit_code: int = 0


def status_of(broker: Broker, failures: Sequence[HelperFailure], *, timeout_s: float) -> Status:
    """Returns what this machine and the store know of a profile; an error is part of it."""
    profile = broker.profile
    is_reader = profile.role is Role.READ_ONLY
    path = profile.publish_access_token if is_reader else profile.refresh_token
    status = Status(
        profile=profile.name,
        issuer=profile.issuer,
        store=profile.store.name,
        path=path or "",
        cached=broker.held(),
        record=None,
        failures=tuple(note for note in failures if note.profile == profile.name),
        zone=profile.options.get("refresh_token_midnight"),
    )
    try:
        session = broker.session
        pending = session.journal.load()
        if pending:
            status = replace(status, spilled_at=pending[0].at)
        deadline = session.runtime.monotonic() + timeout_s
        if is_reader:
            published = session.published(Ask(deadline=deadline), again_s=LOOK_S)
            return replace(status, published=published)
        return _with_snapshot(status, session.read(deadline), profile)
    except NightporterError as exc:
        return replace(
            status, problem=exc.message, reference=exc.reference, exit_code=exc.exit_code
        )


def _with_snapshot(status: Status, snapshot: Snapshot, profile: Profile) -> Status:
    idle_ends_at = idle_end(snapshot.record, profile)
    status = replace(status, record=snapshot.record, idle_ends_at=idle_ends_at)
    if not snapshot.foreign:
        return status
    return replace(
        status, problem=f"not usable: {snapshot.foreign.reason}", reference="foreign-record"
    )


def to_json(status: Status) -> dict[str, Any]:
    """The members of `status -o json` for one profile. Time stamps are RFC 3339, UTC."""
    record = status.record
    return {
        "profile": status.profile,
        "issuer": status.issuer,
        "store": status.store,
        "path": status.path,
        "access_token": (
            {"expires_at": _stamp(status.cached.expires_at_s)} if status.cached else None
        ),
        "session": (
            record
            and {
                "expires_at": _stamp(record.expires_at),
                "idle_ends_at": _stamp(status.idle_ends_at),
                "issued_at": _stamp(record.issued_at),
                "has_refresh_token": record.refresh_token is not None,
                "shared_access_token_expires_at": _stamp(record.access_token_expires_at),
                "generation": record.generation,
                "username": record.identity.username,
                **_told_members(record),
                "by": record.by,
                **_watched_members(record),
                "claim": (
                    record.claim
                    and {"holder": record.claim.holder, "until": _stamp(record.claim.until)}
                ),
                "refused": (
                    record.refused
                    and {
                        "until": _stamp(record.refused.until),
                        "count": record.refused.count,
                        "error": record.refused.error,
                    }
                ),
                "busy": (
                    record.busy and {"call": record.busy.call, "until": _stamp(record.busy.until)}
                ),
            }
        ),
        "spilled_at": _stamp(status.spilled_at),
        "helper_failures": [
            {
                "protocol": note.protocol,
                "at": _stamp(note.at),
                "reference": note.reference,
                "message": note.message,
            }
            for note in status.failures
        ],
        "problem": status.problem,
        "reference": status.reference,
    }


def _told_members(record: SessionRecord) -> dict[str, Any]:
    """What the issuer's replies told: whose session it is, and what was not granted."""
    told = record.told or NOTHING
    return {
        "user": told.user,
        "subject": told.subject,
        "is_other_user": told.is_other_user,
        "missing_scopes": list(told.missing),
    }


def _watched_members(record: SessionRecord) -> dict[str, Any]:
    """Where the refresh token comes from, whether it was given up, and what was told of it."""
    rejected = record.rejected if is_marked(record) else None
    return {
        "history": [
            {"how": link.how, "by": link.by, "at": _stamp(link.at), "generation": link.generation}
            for link in record.history
        ],
        "given_up": rejected
        and {
            "at": _stamp(rejected.at),
            "error": rejected.error,
            "used_elsewhere": rejected.is_elsewhere,
        },
        "told": {
            kind: {"at": entry["at"], "by": entry["by"]} for kind, entry in told_in(record).items()
        },
    }


COLUMNS = 80
BAR = 12
SHORT = 0.2  # of a life
Paint = Callable[[str, str], str]  # a text and its style (title, ok, warning, error) to a text


def unstyled(text: str, _style: str) -> str:
    """Returns the text as it is: no terminal, no styles."""
    return text


def to_text(status: Status, now: float, *, paint: Paint = unstyled) -> str:
    """A block of lines for people, at most 80 columns for names of ordinary length."""
    page = _Page(now=now, zone=status.zone, paint=paint)
    title = f"{status.profile}  ({status.issuer}, {status.store}:{status.path})"
    lines = [
        paint(title, "title"),
        *page.token("access token", status.cached),
        *page.session(status),
    ]
    if status.spilled_at is not None:
        kept = f"a result of {format_rfc3339(status.spilled_at)} waits here for the store"
        lines.append(_row("pending", kept))
    for note in status.failures:
        said = f"{relative(note.at - now)}: {note.message} [{note.reference}]"
        lines.append(_row(f"{note.protocol} failed", said))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """What all rows of a block need: the time, the vendor's zone, the styles."""

    now: float
    zone: str | None
    paint: Paint

    def token(self, name: str, token: Token | None) -> list[str]:
        if token is None:
            return [_row(name, "none cached here")]
        return self.life(name, token.obtained_at_s, token.expires_at_s)

    def session(self, status: Status) -> list[str]:
        if status.problem:
            problem = self.paint(f"{status.problem} [{status.reference}]", "error")
            return [_row("session", problem)]
        if status.published is not None:
            return self.token("published", status.published)
        if status.record is None:
            return [_row("session", "none yet")]
        return [*self.record(status.record), *self.idle(status.idle_ends_at)]

    def idle(self, ends_at: int | None) -> list[str]:
        if ends_at is None:
            return []
        return [_row("idle", f"dies {relative(ends_at - self.now)}, if not refreshed")]

    def shared_token(self, record: SessionRecord) -> list[str]:
        if record.access_token is None:
            return []
        ends = shared_ends_at(record, now=self.now)
        if ends is None:
            return [_row("shared token", "implausible, and given to nobody")]
        return self.life("shared token", record.issued_at or self.now, ends)

    def record(self, record: SessionRecord) -> list[str]:
        rows = [
            *self.refresh_token(record),
            _row("generation", f"{record.generation}, {_origin(record)}"),
            *self.told(record.told or NOTHING),
        ]
        rows += self.shared_token(record)
        rows += self.watched(record)
        if record.claim:
            until = relative(record.claim.until - self.now)
            rows.append(_row("claimed", f"by {record.claim.holder}, {until}"))
        if record.refused:
            rows += self.refused(record.refused)
        if record.busy and record.busy.until > self.now:
            rows.append(_row("throttled", f"{record.busy.call}, asked again not before then"))
            rows.append(_row("", times(record.busy.until, self.zone)))
        return rows

    def watched(self, record: SessionRecord) -> list[str]:
        """Only what is wrong, and that somebody was told."""
        rows = []
        if is_marked(record) and record.rejected is not None:
            what = "used elsewhere" if record.rejected.is_elsewhere else record.rejected.error
            since = relative(record.rejected.at - self.now)
            rows.append(_row("given up", self.paint(f"{what}, {since}", "error")))
            rows += [
                _row("", f"{link.how} of {link.by or 'unknown'}, {format_rfc3339(link.at)}")
                for link in record.history[-1:]
            ]
        for kind, entry in told_in(record).items():
            rows.append(_row("told", f"{kind}, by {entry['by']} at {entry['at']}"))
        return rows

    def refresh_token(self, record: SessionRecord) -> list[str]:
        if record.refresh_token is None:
            return [_row("refresh token", "none held")]
        if record.expires_at is None:
            return [_row("refresh token", "no stated end")]
        return self.life("refresh token", record.issued_at or self.now, record.expires_at)

    def refused(self, refused: Refusal) -> list[str]:
        until = relative(refused.until - self.now)
        text = f"{refused.error}, {refused.count} time(s); tried again {until}"
        return [
            _row("refused", self.paint(text, "error")),
            _row("", times(refused.until, self.zone)),
        ]

    def told(self, told: Told) -> list[str]:
        rows = []
        if told.who is not None:
            subject = f" (subject {told.subject})" if told.user and told.subject else ""
            account = f"{told.who}{subject}"
            if told.is_other_user:
                account += self.paint("; not the profile's username", "error")
            rows.append(_row("account", account))
        if told.missing:
            missing = self.paint(f"scope {' '.join(told.missing)}", "warning")
            rows.append(_row("not granted", missing))
        return rows

    def life(self, name: str, begun_at: float, ends_at: int) -> list[str]:
        """What is left as a bar and in words, and below it the end on several clocks."""
        left = max(0.0, min(1.0, (ends_at - self.now) / max(1.0, ends_at - begun_at)))
        full = round(left * BAR)
        bar = self.paint("#" * full + "." * (BAR - full), _health(left))
        return [
            _row(name, f"[{bar}] {relative(ends_at - self.now)}"),
            _row("", times(ends_at, self.zone)),
        ]


def _origin(record: SessionRecord) -> str:
    since = f" at {format_rfc3339(record.issued_at)}" if record.issued_at is not None else ""
    user = record.identity.username
    return f"by {record.by or 'unknown'}{since}{f', user {user}' if user else ''}"


def _health(left: float) -> str:
    """Returns the style of a life of which this fraction is left."""
    if left == 0:
        return "error"
    return "warning" if left < SHORT else "ok"


def _row(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def times(unix_s: int, zone: str | None) -> str:
    """Returns a moment here, in UTC, and in the zone at whose midnight the session may end."""
    utc = datetime.fromtimestamp(unix_s, UTC)
    text = f"{utc.astimezone():%H:%M:%S} here  {format_rfc3339(unix_s)}"
    return f"{text}  {utc.astimezone(ZoneInfo(zone)):%d %b %H:%M %Z}" if zone else text


def relative(seconds: float) -> str:
    """`in 3h 12m`, `2d 4h ago`."""
    left = int(abs(seconds))
    for unit_s, unit, below_s, below in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if left >= unit_s:
            text = f"{left // unit_s}{unit} {left % unit_s // below_s}{below}"
            break
    else:
        text = f"{left}s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"


def _stamp(unix_s: int | None) -> str | None:
    return None if unix_s is None else format_rfc3339(unix_s)
