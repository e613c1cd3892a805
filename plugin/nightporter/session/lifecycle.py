"""What to do next about a session: one pure table, which the engine drives.

House rules of the table:

- Nobody signs in, sends a refresh token that may rotate, or (with sharing on) refreshes, without a
  won claim.
- A read is a hint: only after a won compare-and-set (`Claimed.OURS`) is what we hold known to be
  the newest. "There is no session" is believed after a second look.
- A claim that is too old to send under, or was written for something else, is no claim; it is
  written again, never stretched.
- What is refused stays refused until the credentials change or the back-off has passed; what was
  tried without a known outcome is not tried without end; a person is asked only when nothing can be
  done without one.

Rows are read from the top; the first that fits holds. A column that a row does not name may be
anything.

One exchange, as an example. A machine without a token reads the record: ALIVE, FREE, exclusive, so
it CLAIMs with what it is about to send in the same write. The write wins: ALIVE, OURS, so it
REFRESHes, and the result goes over the claim. A second machine that reads in between sees ALIVE,
BUSY and WAITs; its next read finds a shared token, which it SERVEs.
"""

from __future__ import annotations

from enum import Enum

from nightporter.core.limits import BACK_OFF_FIRST_S, BACK_OFF_MAX_S
from nightporter.core.values import dataclass


class Holding(Enum):
    """What the session record is to us."""

    ABSENT = "no record, or one whose refresh token has ended"
    FOREIGN = "a record that is not ours to use"
    NEWER = "a record of a newer nightporter"
    EMPTY = "our record, without a refresh token"
    REJECTED = "our record, whose refresh token the issuer has refused"
    DOUBTED = "our record, whose refresh token was refused once, and which is all there is"
    CONDEMNED = "our record, whose refresh token was refused twice and is not marked yet"
    REPLACING = "our record, alive, but a fresh sign-in is wanted"
    ALIVE = "our record with a refresh token to try"

    @property
    def is_usable(self) -> bool:
        """Whether the refresh token in it may still be sent; else it is a sign-in that is due."""
        return self in (Holding.ALIVE, Holding.DOUBTED)


class Claimed(Enum):
    """Whose the right to exchange is."""

    FREE = "nobody's"
    OURS = "ours, for what is to be sent, and young enough to send under"
    OURS_SPENT = "ours, but not to send under"
    BUSY = "a living holder's"
    LAPSED = "run out, or its holder is dead"


class Bar(Enum):
    """What blocks a call to the issuer."""

    NOTHING = "nothing"
    REFUSED = "the issuer has refused it"
    UNSETTLED = "it was tried, and nobody knows what came of it"
    BUSY = "the issuer asked to be left alone for a while"


class Step(Enum):
    """What to do next."""

    SERVE = "serve the shared access token"
    REFRESH = "send the refresh token"
    SIGN_IN = "send the credentials"
    CLAIM = "write a claim"
    TAKE_OVER = "write a claim over one that has lapsed"
    WAIT = "wait for the holder, then look again"
    LOOK_AGAIN = "look once more before it is believed"
    MARK = "mark the refresh token as refused"
    REFUSE = "say that it was refused, and until when"
    BACK_OFF = "say until when the issuer is left alone"
    ASK_PERSON = "say that a person must log in"
    UPGRADE = "say that a newer nightporter wrote the record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that the table looks at."""

    holding: Holding
    claimed: Claimed
    refresh_bar: Bar
    sign_in_bar: Bar
    is_shared_fresh: bool  # the record holds an access token that is good for this ask
    is_exclusive: bool  # even a refresh needs a claim
    is_unattended: bool  # we could sign in without a person
    is_sure: bool  # what we hold was looked at twice, or under our own claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rule. None in a column: it may be anything."""

    name: str
    step: Step
    holding: frozenset[Holding] | None = None
    claimed: frozenset[Claimed] | None = None
    refresh_bar: frozenset[Bar] | None = None
    sign_in_bar: frozenset[Bar] | None = None
    is_shared_fresh: bool | None = None
    is_exclusive: bool | None = None
    is_unattended: bool | None = None
    is_sure: bool | None = None

    def fits(self, situation: Situation) -> bool:
        """Returns whether the row applies."""
        return all(
            (
                _allows(self.holding, situation.holding),
                _allows(self.claimed, situation.claimed),
                _allows(self.refresh_bar, situation.refresh_bar),
                _allows(self.sign_in_bar, situation.sign_in_bar),
                self.is_shared_fresh in (None, situation.is_shared_fresh),
                self.is_exclusive in (None, situation.is_exclusive),
                self.is_unattended in (None, situation.is_unattended),
                self.is_sure in (None, situation.is_sure),
            )
        )


def _allows(column: frozenset[Enum] | None, value: Enum) -> bool:
    return column is None or value in column


_ALIVE = frozenset({Holding.ALIVE})
_USABLE = frozenset(holding for holding in Holding if holding.is_usable)
_CONDEMNED = frozenset({Holding.CONDEMNED})
_NEWER = frozenset({Holding.NEWER})
_OURS = frozenset({Claimed.OURS})
_BUSY = frozenset({Claimed.BUSY})
_LAPSED = frozenset({Claimed.LAPSED})
_MINE = frozenset({Claimed.OURS, Claimed.OURS_SPENT})
_WRITABLE = frozenset({Claimed.FREE, Claimed.OURS_SPENT})
_REFUSED = frozenset({Bar.REFUSED})
_LATER = frozenset({Bar.UNSETTLED, Bar.BUSY})

TABLE: tuple[Row, ...] = (
    Row(name="a shared token is good", is_shared_fresh=True, step=Step.SERVE),
    Row(name="a newer nightporter's record", holding=_NEWER, step=Step.UPGRADE),
    Row(name="the client is refused", holding=_USABLE, refresh_bar=_REFUSED, step=Step.REFUSE),
    Row(name="the issuer is busy", holding=_USABLE, refresh_bar=_LATER, step=Step.BACK_OFF),
    Row(name="refresh freely", holding=_ALIVE, is_exclusive=False, step=Step.REFRESH),
    Row(name="refresh under our claim", holding=_USABLE, claimed=_OURS, step=Step.REFRESH),
    Row(name="another is refreshing", holding=_USABLE, claimed=_BUSY, step=Step.WAIT),
    Row(name="claim to refresh", holding=_USABLE, claimed=_WRITABLE, step=Step.CLAIM),
    Row(name="its holder is gone", holding=_USABLE, claimed=_LAPSED, step=Step.TAKE_OVER),
    Row(name="mark it under our claim", holding=_CONDEMNED, claimed=_MINE, step=Step.MARK),
    # From here on there is no refresh token to use: sign in, or say why not.
    Row(name="another is signing in", claimed=_BUSY, step=Step.WAIT),
    Row(name="look twice", is_unattended=False, is_sure=False, step=Step.LOOK_AGAIN),
    Row(name="only a person can", is_unattended=False, step=Step.ASK_PERSON),
    Row(name="sign in under our claim", claimed=_OURS, step=Step.SIGN_IN),
    Row(name="the sign-in is refused", sign_in_bar=_REFUSED, step=Step.REFUSE),
    Row(name="sign-ins are left alone", sign_in_bar=_LATER, step=Step.BACK_OFF),
    Row(name="claim to sign in", claimed=_WRITABLE, step=Step.CLAIM),
    Row(name="the signer is gone", claimed=_LAPSED, step=Step.TAKE_OVER),
)


def next_row(situation: Situation) -> Row:
    """Returns the first row that fits. The table is total (tests walk every situation)."""
    return next(row for row in TABLE if row.fits(situation))


def next_step(situation: Situation) -> Step:
    """Returns the step of the first row that fits."""
    return next_row(situation).step


def back_off_s(count: int) -> int:
    """Returns how long nobody tries again after the `count`th refusal in a row of one set of
    credentials, in seconds."""
    return int(min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** max(0, min(count, 20) - 1)))
