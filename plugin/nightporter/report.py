"""What `nightporter status` knows about a profile, and how it is shown. Pure; holds no secret by construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nightporter.expiry import format_rfc3339
from nightporter.mishaps import Mishap
from nightporter.model import SessionRecord, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One profile. `problem`: why its record can't be read or used; `spilled_at`: a result is kept here since then.

    `mishaps`: failures of helpers that their clients kept to themselves.
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
    mishaps: tuple[Mishap, ...] = ()


def to_json(status: Status) -> dict[str, Any]:
    """The members of `status -o json` for one profile. Time stamps are RFC 3339, UTC."""
    record = status.record
    return {
        "profile": status.profile,
        "issuer": status.issuer,
        "store": status.store,
        "path": status.path,
        "access_token": {"expires_at": _stamp(status.cached.expires_at_s)} if status.cached else None,
        "session": record
        and {
            "expires_at": _stamp(record.expires_at),
            "issued_at": _stamp(record.issued_at),
            "has_refresh_token": record.refresh_token is not None,
            "shared_access_token_expires_at": _stamp(record.access_token_expires_at),
            "generation": record.generation,
            "username": record.identity.username,
            "by": record.by,
            "claim": record.claim and {"holder": record.claim.holder, "until": _stamp(record.claim.until)},
            "refused": record.refused
            and {
                "until": _stamp(record.refused.until),
                "count": record.refused.count,
                "error": record.refused.error,
            },
        },
        "spilled_at": _stamp(status.spilled_at),
        "helper_failures": [
            {
                "protocol": note.protocol,
                "at": _stamp(note.at),
                "reference": note.reference,
                "message": note.message,
            }
            for note in status.mishaps
        ],
        "problem": status.problem,
        "reference": status.reference,
    }


def to_text(status: Status, now: float) -> str:
    """A block of lines for people, at most 80 columns for names of ordinary length."""
    lines = [f"{status.profile}  ({status.issuer}, {status.store}:{status.path})"]
    cached = status.cached
    lines.append(_row("access token", _when(cached.expires_at_s, now) if cached else "none cached here"))
    if status.problem:
        lines.append(_row("session", f"{status.problem} [{status.reference}]"))
    elif status.record is None:
        lines.append(_row("session", "none yet"))
    else:
        lines += _session_rows(status.record, now)
    if status.spilled_at is not None:
        lines.append(_row("spilled", f"a result of {format_rfc3339(status.spilled_at)} waits here for the store"))
    for note in status.mishaps:
        lines.append(_row(f"{note.protocol} failed", f"{relative(note.at - now)}: {note.message} [{note.reference}]"))
    return "\n".join(lines)


def _session_rows(record: SessionRecord, now: float) -> list[str]:
    if record.refresh_token is None:
        ends = "none held"
    elif record.expires_at is None:
        ends = "no stated end"
    else:
        ends = _when(record.expires_at, now)
    rows = [_row("refresh token", ends)]
    who = f", user {record.identity.username}" if record.identity.username else ""
    since = f" at {format_rfc3339(record.issued_at)}" if record.issued_at else ""
    rows.append(_row("generation", f"{record.generation}, by {record.by or 'unknown'}{since}{who}"))
    if record.access_token_expires_at is not None:
        rows.append(_row("shared token", _when(record.access_token_expires_at, now)))
    if record.claim:
        rows.append(_row("claimed", f"by {record.claim.holder}, {_when(record.claim.until, now)}"))
    if record.refused:
        refused = record.refused
        rows.append(_row("refused", f"{refused.error}, {refused.count} time(s); {_when(refused.until, now)}"))
    return rows


def _row(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def _when(unix_s: int, now: float) -> str:
    from zoneinfo import ZoneInfo

    eastern = datetime.fromtimestamp(unix_s, UTC).astimezone(ZoneInfo("America/New_York"))
    return f"{relative(unix_s - now)}  {format_rfc3339(unix_s)}  {eastern:%d %b %H:%M %Z}"


def relative(seconds: float) -> str:
    """`in 3h 12m`, `2d 4h ago`."""
    left = int(abs(seconds))
    for unit_s, unit, below_s, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if left >= unit_s:
            text = f"{left // unit_s}{unit} {left % unit_s // below_s}{below}"
            break
    else:
        text = f"{left}s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"


def _stamp(unix_s: int | None) -> str | None:
    return None if unix_s is None else format_rfc3339(unix_s)
