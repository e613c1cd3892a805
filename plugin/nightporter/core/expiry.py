"""Time as arithmetic: when a refresh token dies, and RFC 3339 text. No clock is read here.

Pitchpoint's "24 hours rounded up to midnight eastern time" follows the vendor's page on obtaining
an access token, with both of its readings; the earlier one holds, since to err early costs one
sign-in and to err late an outage.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DAY_S = 86_400
MAX_UNIX_S = 253_402_300_799  # the end of the year 9999, which is as far as the format goes
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


def format_rfc3339(unix_s: float) -> str:
    """UTC, whole seconds, `Z`: the one form that every client parses (Bazel takes no fraction)."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> int:
    """Unix seconds of an RFC 3339 time stamp, a fraction dropped.

    Raises: ValueError for anything else, a stamp without a zone included.
    """
    found = _RFC3339.match(text)
    if not found:
        raise ValueError("not an RFC 3339 time stamp")
    day, time, _fraction, zone = found.groups()
    unix_s = int(
        datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}").timestamp()
    )
    if not 0 <= unix_s <= MAX_UNIX_S:
        raise ValueError("not a time stamp of this era")
    return unix_s


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo  # deferred: 4 ms that a cached answer does not need

    return ZoneInfo(name)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def midnight_at_or_after(unix_s: int, zone_name: str) -> int:
    """The first instant at or after `unix_s` at which the zone reads 00:00."""
    zone = _zone(zone_name)
    today = datetime.fromtimestamp(unix_s, zone).date()
    midnight = _midnight(today, zone)
    return midnight if midnight >= unix_s else _midnight(today + timedelta(days=1), zone)


def rounded_up_to_midnight(issued_at: int, life_s: int, zone_name: str) -> int:
    """`life_s` after `issued_at`, rounded up to a midnight of the zone; the earlier of elapsed and
    wall-clock reading.

    They lie a whole day apart for two hours a year, around the changes of the clocks (vendors'
    table, Pitchpoint).
    """
    zone = _zone(zone_name)
    elapsed = midnight_at_or_after(issued_at + life_s, zone_name)
    wall = datetime.fromtimestamp(issued_at, zone).replace(tzinfo=None) + timedelta(seconds=life_s)
    wall_day = wall.date() if wall.time() == wall.min.time() else wall.date() + timedelta(days=1)
    return min(elapsed, _midnight(wall_day, zone))


def pitchpoint_refresh_expiry(issued_at: int) -> int:
    """When a Pitchpoint refresh token from a sign-in at `issued_at` (whole seconds, rounded down)
    dies."""
    return rounded_up_to_midnight(issued_at, DAY_S, "America/New_York")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
_DURATION = re.compile(r"([0-9]{1,12}[smhd])+")


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `25h`, `1h30m`, `2d`.

    Raises: ValueError for anything else.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError("not a duration such as 90s, 25h or 1h30m")
    parts = re.findall(r"([0-9]+)([smhd])", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
