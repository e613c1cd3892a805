"""What can happen to a session, one name an event. Pure.

The engine, the broker and the scheduled job emit events; the audit log (NIGHTPORTER_LOG) and the
terminal choose among them by the two properties. An `Event` is a `str`: its value is what the log
and `-v` print.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Event(StrEnum):
    """The name of an event. `parse` takes the value of one."""

    ADOPTED = "adopted"
    ANSWERED = "answered"
    CLAIM = "claim"
    CLAIM_LOST = "claim-lost"
    CLAIM_WON = "claim-won"
    CLOCK_SKEW = "clock-skew"
    CREDENTIALS_DELETED = "credentials-deleted"
    CREDENTIALS_SET = "credentials-set"
    DEAD = "dead"
    EXCHANGE_FAILED = "exchange-failed"
    FAILED = "failed"
    FENCED = "fenced"
    FOREIGN_RECORD = "foreign-record"
    ISSUER_SAYS = "issuer-says"
    LOGGED_IN = "logged-in"
    LOGGED_OUT = "logged-out"
    NOTIFIED = "notified"
    NOTIFY_FAILED = "notify-failed"
    OTHER_USER = "other-user"
    PENDING_UNREADABLE = "pending-unreadable"
    PUBLISHED = "published"
    PUBLISH_FAILED = "publish-failed"
    READ = "read"
    REFRESH_REJECTED = "refresh-rejected"
    REFUSED = "refused"
    ROTATED = "rotated"
    SAVE = "save"
    SAVED = "saved"
    SCOPE_NARROWED = "scope-narrowed"
    SEEDED = "seeded"
    SEND = "send"
    SERVED = "served"
    SPILLED = "spilled"
    SPILL_CONSUMED = "spill-consumed"
    SPILL_FAILED = "spill-failed"
    SPILL_OUTLIVED = "spill-outlived"
    STALE = "stale"
    STEP = "step"
    SWEEP_FAILED = "sweep-failed"
    TAKE_OVER = "take-over"
    USED_ELSEWHERE = "used-elsewhere"
    WRITE_BACK_FAILED = "write-back-failed"

    @property
    def is_audited(self) -> bool:
        """Whether the audit log keeps it: all but the single steps, which only `-v` shows."""
        return self not in _STEPS

    @property
    def is_warning(self) -> bool:
        """Whether a person is told without `-v`: something in the store or on this machine needs
        a look."""
        return self in _WARNINGS

    @property
    def is_for_people(self) -> bool:
        """Whether a program that runs us for its own user must not show it: no helper says it,
        and status does."""
        return self in _FOR_PEOPLE

    @classmethod
    def parse(cls, name: str) -> Event | None:
        """Returns the event of that name, or None."""
        return _BY_NAME.get(name)


_BY_NAME = {event.value: event for event in Event}
_FOR_PEOPLE = frozenset({Event.OTHER_USER, Event.SCOPE_NARROWED})
_STEPS = frozenset(
    {
        Event.CLAIM,
        Event.CLAIM_WON,
        Event.ISSUER_SAYS,
        Event.READ,
        Event.SAVE,
        Event.SEND,
        Event.STEP,
    }
)
_WARNINGS = frozenset(
    {
        Event.FOREIGN_RECORD,
        Event.OTHER_USER,
        Event.PENDING_UNREADABLE,
        Event.PUBLISH_FAILED,
        Event.SCOPE_NARROWED,
        Event.SPILL_CONSUMED,
        Event.WRITE_BACK_FAILED,
    }
)
