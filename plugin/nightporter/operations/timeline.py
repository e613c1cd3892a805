"""The past and coming moments of a profile, as lines in a terminal and as a picture (SVG). Pure;
holds no secret."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from html import escape
from zoneinfo import ZoneInfo

from nightporter.core.expiry import format_rfc3339
from nightporter.core.model import Profile, SessionRecord, Token
from nightporter.core.record import idle_end
from nightporter.core.values import dataclass
from nightporter.operations.status import relative

MIDNIGHTS = 14  # shown at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """`kind`: past, coming, now or midnight."""

    at: int
    what: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The moments of a profile in order. `zone`: where the vendor's midnights are, else UTC."""

    name: str
    moments: list[Moment]
    zone: tzinfo
    now: float

    def label(self, at: int) -> str:
        """Returns a moment as people read it."""
        return f"{datetime.fromtimestamp(at, UTC).astimezone(self.zone):%d %b %H:%M %Z}"


def timeline(
    profile: Profile,
    record: SessionRecord | None,
    cached: Token | None,
    now: float,
    lasts_until: Callable[[int], int | None],
) -> Timeline:
    """Returns what has been and what is to come, in order; for a vendor whose refresh tokens end at
    midnight, the midnights between the first and the last moment too.

    `lasts_until`: when a refresh token of a sign-in at that time would end.
    """
    found: list[tuple[int, str]] = []
    if record is not None:
        if record.issued_at is not None:
            found.append(
                (
                    record.issued_at,
                    f"session of generation {record.generation}, by {record.by or 'unknown'}",
                )
            )
        if record.expires_at is not None:
            found.append(_renewal(profile, record.expires_at, lasts_until))
            found.append((record.expires_at, "the refresh token ends"))
        if (idle := idle_end(record, profile)) is not None:
            found.append((idle, "the session dies here, unless it is refreshed before"))
        if record.access_token_expires_at is not None:
            found.append((record.access_token_expires_at, "the shared access token ends"))
        if record.refused is not None:
            found.append(
                (record.refused.until, f"a sign-in may be tried again ({record.refused.error})")
            )
        if record.claim is not None:
            found.append((record.claim.until, f"the claim of {record.claim.holder} ends"))
    if cached is not None:
        if cached.exchanged_at_s:
            found.append((int(cached.exchanged_at_s), "the access token here was exchanged"))
        found.append(
            (cached.expires_at_s - profile.min_ttl_s, "the access token here is handed out no more")
        )
        found.append((cached.expires_at_s, "the access token here ends"))
    listed = [
        Moment(at=at, what=what, kind="past" if at <= now else "coming") for at, what in found
    ]
    listed.append(Moment(at=int(now), what="now", kind="now"))
    zone_name = profile.options.get("refresh_token_midnight")
    if zone_name:
        listed += _midnights(listed, zone_name)
    return Timeline(
        name=profile.name,
        moments=sorted(listed, key=lambda moment: (moment.at, moment.kind)),
        zone=ZoneInfo(zone_name) if zone_name else UTC,
        now=now,
    )


def _midnights(listed: list[Moment], zone_name: str) -> list[Moment]:
    first, last = min(moment.at for moment in listed), max(moment.at for moment in listed)
    zone, city = ZoneInfo(zone_name), zone_name.rpartition("/")[2].replace("_", " ")
    day = datetime.fromtimestamp(first, zone).date()
    days = [day + timedelta(days=number) for number in range(1, MIDNIGHTS + 1)]
    found = [int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) for day in days]
    return [
        Moment(at=at, what=f"midnight in {city}", kind="midnight") for at in found if at <= last
    ]


def _renewal(
    profile: Profile, ends: int, lasts_until: Callable[[int], int | None]
) -> tuple[int, str]:
    """From when on `rotate` does something: when little enough is left, and a sign-in gains
    time."""
    due = ends - profile.renew_when_left_s
    if not profile.grant.sends_password:
        return due, "renewal is due"

    def gains(at: int) -> bool:
        until = lasts_until(at)
        return until is None or until > ends

    waits = bisect.bisect_left(range(due, ends), True, key=gains)
    return due + waits, "`rotate` signs in from here on"


def to_text(shown: Timeline) -> str:
    """One line a moment, at most 80 columns wide for names of ordinary length."""
    marks = {"past": "*", "coming": "o", "now": ">", "midnight": "-"}
    lines = [shown.name]
    for moment in shown.moments:
        when = "" if moment.kind == "now" else relative(moment.at - shown.now)
        lines.append(f"  {marks[moment.kind]} {shown.label(moment.at)}  {when:<12} {moment.what}")
    return "\n".join(lines)


def to_svg(shown: Timeline) -> str:
    """A line from the first moment to the last, with a mark and a label for each."""
    width, left, line = 860, 24, 24
    listed = shown.moments
    first, last = listed[0].at, max(listed[-1].at, listed[0].at + 1)
    height = 74 + line * len(listed)
    colours = {"past": "#4a5568", "coming": "#2b6cb0", "now": "#c53030", "midnight": "#a0aec0"}

    def x_of(at: int) -> float:
        return left + (width - 2 * left) * (at - first) / (last - first)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="22" font-weight="bold" fill="#222">{escape(shown.name)}</text>',
        (
            f'<line x1="{left}" y1="46" x2="{width - left}" y2="46" stroke="#cbd5e0"'
            ' stroke-width="6"/>'
        ),
    ]
    labels: list[str] = []
    for number, moment in enumerate(listed):
        x, y, colour = x_of(moment.at), 76 + line * number, colours[moment.kind]
        when = "" if moment.kind == "now" else f" ({relative(moment.at - shown.now)})"
        label = f"{shown.label(moment.at)}  {moment.what}{when}"
        radius = 3 if moment.kind == "midnight" else 6
        is_right = x > width / 2
        anchor, text_x = ("end", x - 10) if is_right else ("start", x + 10)
        parts.append(
            f'<line x1="{x:.1f}" y1="46" x2="{x:.1f}" y2="{y - 4}" stroke="{colour}"'
            ' stroke-opacity="0.35"/>'
        )
        parts.append(f'<circle cx="{x:.1f}" cy="46" r="{radius}" fill="{colour}"/>')
        labels.append(  # with a halo, since lines of later moments run behind it
            f'<text x="{text_x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}"'
            ' stroke="#ffffff" stroke-width="4"'
            f' paint-order="stroke">{escape(label)}'
            f"<title>{format_rfc3339(moment.at)}</title></text>"
        )
    return "\n".join([*parts, *labels, "</svg>"]) + "\n"
