"""What somebody has to be told of a session, what is told already, which events are for whom."""

from __future__ import annotations

from typing import Any

import pytest

from nightporter.core import incidents
from nightporter.core.config import parse_config
from nightporter.core.events import Event
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.model import Identity, Profile, Refusal, Rejected, Secret, SessionRecord
from nightporter.core.values import replace
from nightporter.issuers import VENDORS
from nightporter.stores import STORES

NOW = 1_784_037_600
HOUR = 3600
RECORD = SessionRecord(
    identity=Identity(issuer="x", token_endpoint="y"),
    refresh_token=Secret("R1"),
    generation=4,
    by="there",
)
REFUSED = Refusal(credentials_version="1", until=NOW, count=1, error="e")
ENTRY = {"at": "2026-07-14T14:00:00Z", "by": "here"}


def profile(*, is_unattended: bool) -> Profile:
    text = 'issuer = "pitchpoint"\ncredentials = "c"\n'
    if not is_unattended:
        text = 'issuer = "entra"\ntenant = "t"\nclient = "c"\nrefresh_token = "r"\n'
        text += 'grant = "device_code"\nscopes = ["s"]\n'
    config = parse_config(f"[profiles.p]\n{text}", source="t", vendors=VENDORS, stores=STORES)
    return config.profiles["p"]


ALONE, ATTENDED = profile(is_unattended=True), profile(is_unattended=False)


def found(record: SessionRecord, of: Profile, *, is_marked: bool = False) -> tuple[str, ...]:
    return incidents.open_incidents(record, of, is_marked=is_marked, now=float(NOW))


@pytest.mark.parametrize(
    ("of", "left_s", "kinds"),
    [
        (ALONE, 6 * HOUR, ()),
        (ALONE, 6 * HOUR - 1, ("ending",)),
        (ALONE, 0, ("ending",)),
        (ALONE, -1, ("ending",)),
        (ATTENDED, 25 * HOUR, ()),
        (ATTENDED, 25 * HOUR - 1, ("ending",)),
        (ATTENDED, 1, ("ending",)),
        (ATTENDED, 0, ("dead",)),
        (ATTENDED, -1, ("dead",)),
    ],
)
def test_an_end_is_told_ahead_for_as_long_as_a_remedy_takes(
    of: Profile, left_s: int, kinds: tuple[str, ...]
) -> None:
    """A person gets a day and an hour, a machine that signs in by itself six hours; where it can,
    no end is for good."""
    assert found(replace(RECORD, expires_at=NOW + left_s), of) == kinds


def test_what_has_no_end_or_no_token_does_not_end() -> None:
    """A vendor may state none, and an empty record has ended already."""
    assert found(RECORD, ATTENDED) == ()
    empty = replace(RECORD, refresh_token=None, expires_at=NOW + 1)
    assert found(empty, ATTENDED) == ()


@pytest.mark.parametrize(
    ("is_marked", "is_elsewhere", "kinds"),
    [
        (True, None, ("dead",)),
        (True, False, ("dead",)),
        (True, True, ("used-elsewhere",)),
        (False, True, ()),
        (False, False, ()),
    ],
)
def test_a_token_that_is_given_up_is_dead_or_used_elsewhere(
    is_marked: bool, is_elsewhere: bool | None, kinds: tuple[str, ...]
) -> None:
    """A mark of an older token says nothing of the one that is there."""
    rejected = None
    if is_elsewhere is not None:
        rejected = Rejected(digest="d", error="e", at=NOW, is_elsewhere=is_elsewhere)
    assert found(replace(RECORD, rejected=rejected), ALONE, is_marked=is_marked) == kinds


def test_a_refused_sign_in_is_told_beside_the_rest() -> None:
    """Credentials and session are two things to repair."""
    ending = replace(RECORD, refused=REFUSED, expires_at=NOW + 1)
    assert found(ending, ALONE) == ("ending", "refused")
    assert found(replace(RECORD, refused=REFUSED), ALONE) == ("refused",)


# What is told already.


def test_each_incident_is_told_once_and_so_is_its_end() -> None:
    """Through the record, so that a fleet does so."""
    first = incidents.news_of(RECORD, ("dead", "refused"), by="here", now=NOW)
    assert first is not None
    assert (first.begun, first.over) == (("dead", "refused"), ())
    assert incidents.told_in(first.record) == {"dead": ENTRY, "refused": ENTRY}
    assert incidents.news_of(first.record, ("dead", "refused"), by="there", now=NOW + 9) is None
    second = incidents.news_of(first.record, ("refused", "ending"), by="there", now=NOW + 9)
    assert second is not None
    assert (second.begun, second.over) == (("ending",), ("dead",))
    later = {"at": "2026-07-14T14:00:09Z", "by": "there"}
    assert incidents.told_in(second.record) == {"refused": ENTRY, "ending": later}
    last = incidents.news_of(second.record, (), by="here", now=NOW)
    assert last is not None
    assert (last.begun, last.over) == ((), ("refused", "ending"))
    assert last.record == RECORD


def test_members_of_others_stay_beside_it() -> None:
    """`notified` alone is ours to replace."""
    record = replace(RECORD, unknown={"later": 1, "notified": {"dead": ENTRY, "other": 7}})
    assert incidents.with_told(record, {}).unknown == {"later": 1}
    kept = incidents.with_told(record, {"refused": ENTRY}).unknown
    assert kept == {"later": 1, "notified": {"refused": ENTRY}}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"dead": None},
        {"dead": {}},
        {"dead": {"at": "x"}},
        {"dead": {"at": 1, "by": "x"}},
        {"dead": {"at": "x", "by": None}},
        {"dead": {"at": "x", "by": "\x1b[1m"}},
        {"dead": {"at": "é", "by": "x"}},
        {"dead": {"at": "x", "by": "y" * 81}},
        {"another": ENTRY},
    ],
)
def test_an_entry_that_does_not_fit_was_not_told(value: Any) -> None:
    """It is told again, and what others wrote is not shown."""
    assert incidents.told_in(replace(RECORD, unknown={"notified": value})) == {}


def test_an_entry_of_80_characters_fits() -> None:
    """The bound of every name in a record."""
    entry = {"at": "x", "by": "y" * 80}
    assert incidents.told_in(replace(RECORD, unknown={"notified": {"dead": entry}})) == {
        "dead": entry
    }


@pytest.mark.parametrize("kind", ["used-elsewhere", "dead", "refused", "ending"])
def test_what_is_told(kind: str) -> None:
    """With the reference that explains it, and what to type; when it is over, just that."""
    record = replace(RECORD, expires_at=NOW)
    told = incidents.message(kind, record, ALONE, is_over=False, host="h", now=NOW)
    explained = EXPLANATIONS[told["reference"]]
    assert told == {
        "event": kind,
        "incident": kind,
        "profile": "p",
        "reference": {
            "used-elsewhere": "session-used-elsewhere",
            "dead": "session-rejected",
            "refused": "session-refused",
            "ending": "session-old",
        }[kind],
        "message": explained.meaning,
        "what_to_do": told["what_to_do"],
        "generation": 4,
        "session_by": "there",
        "refresh_expires_at": "2026-07-14T14:00:00Z",
        "host": "h",
        "time": "2026-07-14T14:00:00Z",
    }
    assert "PROFILE" not in told["what_to_do"]
    over = incidents.message(kind, RECORD, ALONE, is_over=True, host="h", now=NOW)
    assert (over["event"], over["message"], over["what_to_do"]) == (
        "recovered",
        f"p: over: {kind}",
        "",
    )
    assert over["refresh_expires_at"] is None


# Events.


def test_events_have_names_and_those_who_read_them() -> None:
    """Single steps are for -v alone; what needs a look is said without it."""
    assert {event for event in Event if not event.is_audited} == {
        *(Event.CLAIM, Event.CLAIM_WON, Event.ISSUER_SAYS, Event.READ),
        *(Event.SAVE, Event.SEND, Event.STEP),
    }
    assert {event for event in Event if event.is_warning} == {
        *(Event.FOREIGN_RECORD, Event.OTHER_USER, Event.PENDING_UNREADABLE),
        *(Event.PUBLISH_FAILED, Event.SCOPE_NARROWED, Event.SPILL_CONSUMED),
        Event.WRITE_BACK_FAILED,
    }
    assert {event for event in Event if event.is_for_people} == {
        Event.OTHER_USER,
        Event.SCOPE_NARROWED,
    }
    for event in Event:
        assert event.value == event.name.lower().replace("_", "-")
        assert Event.parse(event.value) is event
    assert Event.parse("no-such") is None
