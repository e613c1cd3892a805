"""What somebody has to be told of a session, read from its record alone, so that a fleet tells it
once. Pure.

`notified` in the record keeps which incidents were told. It is written by compare-and-set: who wins
tells, and the others find it told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightporter.core.errors import with_profile
from nightporter.core.expiry import format_rfc3339
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.limits import ENDING_ATTENDED_S, ENDING_S, MAX_TEXT
from nightporter.core.model import Profile, SessionRecord
from nightporter.core.values import dataclass, replace

MEMBER = "notified"
# The kinds, with the reference that explains each.
KINDS: Mapping[str, str] = {
    "used-elsewhere": "session-used-elsewhere",
    "dead": "session-rejected",
    "refused": "session-refused",
    "ending": "session-old",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """`begun`: kinds to tell. `over`: kinds whose recovery is to be told. `record`: what to write
    before either is told."""

    begun: tuple[str, ...]
    over: tuple[str, ...]
    record: SessionRecord


def open_incidents(
    record: SessionRecord, profile: Profile, *, is_marked: bool, now: float
) -> tuple[str, ...]:
    """Returns the kinds of what is wrong with a session. `is_marked`: its refresh token is given
    up. `now`: Unix seconds, the store's clock."""
    found = []
    if is_marked and record.rejected is not None and record.rejected.is_elsewhere:
        found.append("used-elsewhere")
    elif is_marked or _has_ended_for_good(record, profile, now):
        found.append("dead")
    elif _is_ending(record, profile, now):
        found.append("ending")
    if record.refused is not None:
        found.append("refused")
    return tuple(found)


def _has_ended_for_good(record: SessionRecord, profile: Profile, now: float) -> bool:
    has_ended = record.expires_at is not None and record.expires_at <= now
    return has_ended and not profile.grant.is_unattended


def _is_ending(record: SessionRecord, profile: Profile, now: float) -> bool:
    if record.refresh_token is None or record.expires_at is None:
        return False
    limit_s = ENDING_S if profile.grant.is_unattended else ENDING_ATTENDED_S
    return record.expires_at - now < limit_s


def news_of(record: SessionRecord, found: tuple[str, ...], *, by: str, now: float) -> News | None:
    """Returns what is to be told; None where all is told."""
    told = told_in(record)
    begun = tuple(kind for kind in found if kind not in told)
    over = tuple(kind for kind in told if kind not in found)
    if not begun and not over:
        return None
    entry = {"at": format_rfc3339(now), "by": by}
    kept = {kind: told.get(kind, entry) for kind in found}
    return News(begun=begun, over=over, record=with_told(record, kept))


def told_in(record: SessionRecord) -> dict[str, Mapping[str, Any]]:
    """Returns the kinds that were told, with when and by whom (`at`, `by`: printable text)."""
    value = record.unknown.get(MEMBER)
    if not isinstance(value, Mapping):
        return {}
    return {kind: value[kind] for kind in KINDS if _is_entry(value.get(kind))}


def _is_entry(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    texts = [value.get(name) for name in ("at", "by")]
    return all(
        isinstance(text, str) and text.isascii() and text.isprintable() and len(text) <= MAX_TEXT
        for text in texts
    )


def with_told(record: SessionRecord, told: Mapping[str, Any]) -> SessionRecord:
    """Returns the record that keeps them."""
    rest = {name: item for name, item in record.unknown.items() if name != MEMBER}
    return replace(record, unknown={**rest, MEMBER: dict(told)} if told else rest)


def message(
    kind: str, record: SessionRecord, profile: Profile, *, is_over: bool, host: str, now: float
) -> dict[str, Any]:
    """Returns what is told, as members of a JSON object; no secret is among them."""
    explained = EXPLANATIONS[KINDS[kind]]
    return {
        "event": "recovered" if is_over else kind,
        "incident": kind,
        "profile": profile.name,
        "reference": KINDS[kind],
        "message": f"{profile.name}: over: {kind}" if is_over else explained.meaning,
        "what_to_do": "" if is_over else with_profile(explained.hint, profile.name),
        "generation": record.generation,
        "session_by": record.by,
        "refresh_expires_at": record.expires_at and format_rfc3339(record.expires_at),
        "host": host,
        "time": format_rfc3339(now),
    }
