"""What `nightporter status` knows about a profile, and how it is shown. Pure; holds no secret by
construction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nightporter.core.expiry import format_rfc3339
from nightporter.core.model import SessionRecord, Token
from nightporter.core.told import NOTHING, Told
from nightporter.machine.helper_failures import HelperFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One profile. `problem`: why its record can't be read or used; `spilled_at`: a result is kept
    here since then.

    `failures`: failures of helpers that their clients kept to themselves.
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
    failures: tuple[HelperFailure, ...] = ()
    published: Token | None = field(default=None, repr=False)  # what a read-only profile reads


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
                "issued_at": _stamp(record.issued_at),
                "has_refresh_token": record.refresh_token is not None,
                "shared_access_token_expires_at": _stamp(record.access_token_expires_at),
                "generation": record.generation,
                "username": record.identity.username,
                **_told_members(record),
                "by": record.by,
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


COLUMNS = 80
BAR = 12


def to_text(status: Status, now: float, *, is_coloured: bool = False) -> str:
    """A block of lines for people, at most 80 columns for names of ordinary length."""
    paint = _painted if is_coloured else _plain
    title = f"{status.profile}  ({status.issuer}, {status.store}:{status.path})"
    lines = [paint(title, "1")]
    cached = status.cached
    if cached is None:
        lines.append(_row("access token", "none cached here"))
    else:
        lines += _life("access token", cached.obtained_at_s, cached.expires_at_s, now, paint)
    if status.problem:
        lines.append(_row("session", paint(f"{status.problem} [{status.reference}]", "31")))
    elif status.published is not None:
        lines += _life(
            "published", status.published.obtained_at_s, status.published.expires_at_s, now, paint
        )
    elif status.record is None:
        lines.append(_row("session", "none yet"))
    else:
        lines += _session_rows(status.record, now, paint)
    if status.spilled_at is not None:
        lines.append(
            _row(
                "spilled",
                f"a result of {format_rfc3339(status.spilled_at)} waits here for the store",
            )
        )
    for note in status.failures:
        lines.append(
            _row(
                f"{note.protocol} failed",
                f"{relative(note.at - now)}: {note.message} [{note.reference}]",
            )
        )
    return "\n".join(lines)


Paint = Callable[[str, str], str]


def _plain(text: str, _code: str) -> str:
    return text


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _session_rows(record: SessionRecord, now: float, paint: Paint) -> list[str]:
    if record.refresh_token is None:
        rows = [_row("refresh token", "none held")]
    elif record.expires_at is None:
        rows = [_row("refresh token", "no stated end")]
    else:
        rows = _life("refresh token", record.issued_at or now, record.expires_at, now, paint)
    who = f", user {record.identity.username}" if record.identity.username else ""
    since = f" at {format_rfc3339(record.issued_at)}" if record.issued_at else ""
    rows.append(_row("generation", f"{record.generation}, by {record.by or 'unknown'}{since}{who}"))
    rows += _told_rows(record.told or NOTHING, paint)
    if record.access_token_expires_at is not None:
        rows += _life(
            "shared token", record.issued_at or now, record.access_token_expires_at, now, paint
        )
    if record.claim:
        rows.append(
            _row("claimed", f"by {record.claim.holder}, {relative(record.claim.until - now)}")
        )
    if record.refused:
        refused = record.refused
        text = (
            f"{refused.error}, {refused.count} time(s); tried again {relative(refused.until - now)}"
        )
        rows.append(_row("refused", paint(text, "31")))
        rows.append(_row("", _times(refused.until)))
    return rows


def _told_rows(told: Told, paint: Paint) -> list[str]:
    rows = []
    if told.who is not None:
        subject = f" (subject {told.subject})" if told.user and told.subject else ""
        other = paint("; not the profile's username", "31") if told.is_other_user else ""
        rows.append(_row("account", f"{told.who}{subject}{other}"))
    if told.missing:
        rows.append(_row("not granted", paint(f"scope {' '.join(told.missing)}", "33")))
    return rows


def _life(name: str, begun_at: float, ends_at: int, now: float, paint: Paint) -> list[str]:
    """What is left as a bar and in words, and below it the end on three clocks."""
    left = max(0.0, min(1.0, (ends_at - now) / max(1.0, ends_at - begun_at)))
    full = round(left * BAR)
    colour = "31" if left == 0 else "33" if left < 0.2 else "32"
    bar = paint("#" * full + "." * (BAR - full), colour)
    return [_row(name, f"[{bar}] {relative(ends_at - now)}"), _row("", _times(ends_at))]


def _row(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def _times(unix_s: int) -> str:
    """Here, UTC and New York, where a session may end at midnight."""
    from zoneinfo import ZoneInfo

    utc = datetime.fromtimestamp(unix_s, UTC)
    eastern = utc.astimezone(ZoneInfo("America/New_York"))
    return f"{utc.astimezone():%H:%M:%S} here  {format_rfc3339(unix_s)}  {eastern:%d %b %H:%M %Z}"


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
