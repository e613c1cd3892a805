"""What is due when, shards, and a month of the job by a stepped clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.client.broker import Broker
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.expiry import format_rfc3339, pitchpoint_refresh_expiry
from nightporter.core.model import Identity, Profile, Secret, SessionRecord
from nightporter.issuers import VENDORS
from nightporter.operations.rotate import Due, _ends_soon, due, of_shard, parse_shard
from nightporter.session.port import Stored, Version
from nightporter.stores import STORES

NOW = 1_784_037_600
NEW_YORK = ZoneInfo("America/New_York")


def profile(issuer: str, more: str = "") -> Profile:
    text = f'[profiles.p]\nissuer = "{issuer}"\ncredentials = "c"\n{more}\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def record(*, expires_at: int | None, issued_at: int = NOW, token: bool = True) -> SessionRecord:
    return SessionRecord(
        identity=Identity(issuer="x", token_endpoint="y"),
        refresh_token=Secret("r") if token else None,
        expires_at=expires_at,
        issued_at=issued_at,
    )


@pytest.mark.parametrize(
    ("left_h", "gains", "wanted"),
    [
        (24, True, Due.SIGN_IN),
        (24.9, True, Due.SIGN_IN),
        (25, True, Due.NOTHING),
        (40, True, Due.NOTHING),
        (24, False, Due.NOTHING),
    ],
)
def test_a_password_signs_in_below_renew_when_left_where_it_gains_time(
    left_h: float, gains: bool, wanted: Due
) -> None:
    ends = NOW + int(left_h * 3600)
    until = ends + 86_400 if gains else ends
    assert (
        due(profile("pitchpoint"), record(expires_at=ends), now=NOW, sign_in_lasts_until=until)
        is wanted
    )


@pytest.mark.parametrize("held", [None, record(expires_at=None, token=False)])
def test_a_password_without_a_session_signs_in(held: SessionRecord | None) -> None:
    assert due(profile("pitchpoint"), held, now=NOW, sign_in_lasts_until=None) is Due.SIGN_IN


def test_vault_ist_refreshes_once_each_run() -> None:
    assert (
        due(profile("vault-ist"), record(expires_at=None), now=NOW, sign_in_lasts_until=None)
        is Due.REFRESH
    )


@pytest.mark.parametrize(
    ("age_h", "wanted"), [(23, Due.NOTHING), (24, Due.NOTHING), (25, Due.REFRESH)]
)
@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
def test_code_and_device_grants_refresh_after_a_day(grant: str, age_h: int, wanted: Due) -> None:
    held = record(expires_at=None, issued_at=NOW - age_h * 3600)
    which = profile("entra", f'tenant = "t"\ngrant = "{grant}"')
    assert due(which, held, now=NOW, sign_in_lasts_until=None) is wanted


def test_client_credentials_have_no_session_to_keep() -> None:
    which = profile("perspio", 'grant = "client_credentials"')
    assert due(which, None, now=NOW, sign_in_lasts_until=None) is Due.NOTHING


def runs(first: datetime, days: int) -> list[int]:
    """04:10 and 16:10 New York, both changes of the clocks included."""
    found = []
    for day in range(days):
        date = (first + timedelta(days=day)).date()
        for hour in (4, 16):
            found.append(
                int(
                    datetime(date.year, date.month, date.day, hour, 10, tzinfo=NEW_YORK).timestamp()
                )
            )
    return found


@pytest.mark.parametrize("month", [(2026, 3, 1), (2026, 7, 1), (2026, 10, 15)])
@pytest.mark.parametrize("missed", [None, *range(2, 60)])
def test_31_days_of_the_job(month: tuple[int, int, int], missed: int | None) -> None:
    """One sign-in a day, and never within 7 hours of the end after any single missed run."""
    which, held, sign_ins, closest = profile("pitchpoint"), None, [], 10**9
    for number, now in enumerate(runs(datetime(*month, tzinfo=UTC), 31)):
        if held is not None and held.expires_at is not None:
            closest = min(closest, held.expires_at - now)
        if number == missed:
            continue
        until = pitchpoint_refresh_expiry(now)
        if due(which, held, now=now, sign_in_lasts_until=until) is Due.SIGN_IN:
            held = record(expires_at=until, issued_at=now)
            sign_ins.append(datetime.fromtimestamp(now, NEW_YORK).date())
    assert closest > 7 * 3600
    assert len(sign_ins) == len(set(sign_ins))
    assert len(sign_ins) >= 30


@pytest.mark.parametrize("month", [(2026, 3, 1), (2026, 7, 1), (2026, 10, 15)])
def test_31_days_of_an_hourly_job(month: tuple[int, int, int]) -> None:
    """For a cron that knows no time zones: still one sign-in a day, and never within 22 hours of
    the end."""
    which, held, sign_ins = profile("pitchpoint"), None, []
    for now in range(int(datetime(*month, 0, 10, tzinfo=UTC).timestamp()), 10**12, 3600)[: 31 * 24]:
        assert held is None or held.expires_at is None or held.expires_at - now > 22 * 3600
        until = pitchpoint_refresh_expiry(now)
        if due(which, held, now=now, sign_in_lasts_until=until) is Due.SIGN_IN:
            held = record(expires_at=until, issued_at=now)
            sign_ins.append(datetime.fromtimestamp(now, NEW_YORK).date())
    assert len(sign_ins) == len(set(sign_ins))
    assert len(sign_ins) >= 30


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=50), st.integers(1, 12))
def test_shards_cover_every_profile_once(names: list[str], count: int) -> None:
    shards = [of_shard(names, index, count) for index in range(count)]
    assert sorted(name for shard in shards for name in shard) == sorted(names)


def test_shards_from_the_line_and_from_the_engine() -> None:
    assert parse_shard("3/10", None) == (3, 10)
    assert parse_shard("10", "4") == (4, 10)
    assert parse_shard("/10", "4") == (4, 10)
    for text, index in (
        ("10/10", None),
        ("x/3", None),
        ("3", None),
        ("-1/3", None),
        ("0/0", None),
        ("\u00b2/3", None),
        ("1/" + "9" * 5000, None),
        ("", "1"),
    ):
        with pytest.raises(ConfigError):
            parse_shard(text, index)


def publishing(left_s: int | None, exchanged_h: int = 1) -> Broker:
    """A broker whose store holds a published token with so much left."""
    found = profile("pitchpoint", 'publish_access_token = "a"')
    value: dict[str, Any] = {
        "schema": 1,
        "issuer": found.issuer,
        "token_endpoint": found.token_endpoint,
        "access_token": "A1",
        "token_type": "Bearer",
        "expires_at": format_rfc3339(NOW + (left_s or 0)),
        "exchanged_at": format_rfc3339(NOW - exchanged_h * 3600),
        "generation": 1,
    }
    stored = Stored(None if left_s is None else value, Version("1", 1), now=float(NOW))
    session = SimpleNamespace(read_path=lambda _path, _deadline: stored)
    return cast(Broker, SimpleNamespace(session=session, profile=found))


@pytest.mark.parametrize(
    ("left_s", "is_due"), [(29 * 60, True), (30 * 60, True), (30 * 60 + 1, False), (None, True)]
)
def test_what_ends_within_half_an_hour_is_published_again(left_s: int | None, is_due: bool) -> None:
    """With an hourly job a reader would else be left without."""
    assert _ends_soon(publishing(left_s), 0.0) is is_due


@pytest.mark.parametrize(("exchanged_h", "is_due"), [(22, False), (23, False), (24, True)])
def test_a_published_token_is_replaced_before_readers_stop_believing_it(
    exchanged_h: int, is_due: bool
) -> None:
    """None is believed for longer than a day after its exchange."""
    broker = publishing(3600 if exchanged_h < 24 else -1, exchanged_h)
    assert _ends_soon(broker, 0.0) is is_due
