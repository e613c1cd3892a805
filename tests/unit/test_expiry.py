"""Pitchpoint's "24 hours rounded up to midnight eastern time", by the vendors' page, and time
stamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.expiry import (
    format_rfc3339,
    midnight_at_or_after,
    parse_duration,
    parse_rfc3339,
    pitchpoint_refresh_expiry,
)

NEW_YORK = ZoneInfo("America/New_York")
instants = st.integers(min_value=0, max_value=int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()))


@pytest.mark.parametrize(
    ("sign_in", "expires"),
    [
        ("2026-07-14T10:00:00-04:00", "2026-07-16T04:00:00Z"),
        ("2026-07-14T00:00:00-04:00", "2026-07-15T04:00:00Z"),
        ("2026-07-14T00:00:01-04:00", "2026-07-16T04:00:00Z"),
        ("2026-03-07T23:30:00-05:00", "2026-03-09T04:00:00Z"),
        ("2026-03-08T00:00:00-05:00", "2026-03-09T04:00:00Z"),
        ("2026-03-08T00:15:00-05:00", "2026-03-10T04:00:00Z"),
        ("2026-10-31T23:30:00-04:00", "2026-11-02T05:00:00Z"),
        ("2026-11-01T00:15:00-04:00", "2026-11-02T05:00:00Z"),
        ("2026-11-01T01:30:00-04:00", "2026-11-03T05:00:00Z"),
        ("2026-11-01T01:30:00-05:00", "2026-11-03T05:00:00Z"),
    ],
)
def test_the_vendors_table(sign_in: str, expires: str) -> None:
    assert format_rfc3339(pitchpoint_refresh_expiry(parse_rfc3339(sign_in))) == expires


@given(instants)
def test_it_is_never_later_than_either_reading(issued_at: int) -> None:
    expires_at = pitchpoint_refresh_expiry(issued_at)
    elapsed = midnight_at_or_after(issued_at + 86_400, "America/New_York")
    # The wall-clock reading, worked out another way: step to the next day's same wall time, then to
    # midnight.
    local = datetime.fromtimestamp(issued_at, NEW_YORK)
    days = 1 if (local.hour, local.minute, local.second) == (0, 0, 0) else 2
    wall = datetime.combine(local.date() + timedelta(days=days), datetime.min.time(), NEW_YORK)
    assert expires_at <= elapsed
    assert expires_at <= wall.timestamp()
    assert expires_at in (elapsed, int(wall.timestamp()))


@given(instants)
def test_it_is_always_a_new_york_midnight_between_23_and_49_hours_away(issued_at: int) -> None:
    expires_at = pitchpoint_refresh_expiry(issued_at)
    assert datetime.fromtimestamp(expires_at, NEW_YORK).strftime("%H:%M:%S") == "00:00:00"
    assert 23 * 3600 <= expires_at - issued_at <= 49 * 3600


@given(instants, st.integers(min_value=0, max_value=3 * 86_400))
def test_it_never_decreases(issued_at: int, later_s: int) -> None:
    assert pitchpoint_refresh_expiry(issued_at + later_s) >= pitchpoint_refresh_expiry(issued_at)


@given(instants)
def test_a_time_stamp_survives_its_text(unix_s: int) -> None:
    assert parse_rfc3339(format_rfc3339(unix_s)) == unix_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-07-14",
        "2026-07-14T14:00:00",
        "1784037600",
        "2026-13-14T14:00:00Z",
        "2026-07-14T14:00:00Z\n",
    ],
)
def test_a_stamp_without_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the promise
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("25h", 90_000), ("1h30m", 5400), ("90s", 90), ("2d", 172_800)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "25", "h", "-1h", "1.5h", "1h x", "25 h"])
def test_a_duration_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
