"""What to do next about a session: one pure table, which the session room drives.

House rules of the table:

- Nobody signs in, sends a refresh token that may rotate, or (with sharing on) refreshes, without a
  won claim.
- A read is a hint: only after a won compare-and-set (`Claimed.OURS`) is what we hold known to be
  the newest.
- A claim that has too little life left to send under is no claim; it is claimed anew, never
  stretched.
- What is refused stays refused until the credentials change or the back-off has passed; a person is
  asked only when nothing can be done without one.

Rows are read from the top; the first that fits holds. A column that a row does not name may be
anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nightporter.core.limits import BACK_OFF_FIRST_S, BACK_OFF_MAX_S


class Holding(Enum):
    """What the session record is to us."""

    ABSENT = "no record, or one whose time has passed"
    FOREIGN = "a record that is not ours to use"
    EMPTY = "our record, without a refresh token"
    REJECTED = "our record, whose refresh token the issuer has just refused"
    REPLACING = "our record, alive, but a fresh sign-in is wanted"
    ALIVE = "our record with a refresh token to try"


class Claimed(Enum):
    """Whose the right to exchange is."""

    FREE = "nobody's"
    OURS = "ours, with enough life left to send"
    OURS_SHORT = "ours, but too short to send under"
    BUSY = "a living holder's"
    LAPSED = "run out, or its holder is dead"


class Refused(Enum):
    """What a remembered refusal stands against."""

    NOTHING = "nothing"
    SIGN_IN = "signing in with these credentials"
    CLIENT = "anything with this client"


class Step(Enum):
    SERVE = "serve the shared access token"
    REFRESH = "send the refresh token"
    SIGN_IN = "send the credentials"
    CLAIM = "write a claim"
    TAKE_OVER = "write a claim over one that has run out"
    WAIT = "wait for the holder, then look again"
    REFUSE = "say that it was refused, and until when"
    ASK_PERSON = "say that a person must log in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    holding: Holding
    claimed: Claimed
    refused: Refused
    is_shared_fresh: bool  # the record holds an access token that is good for this ask
    is_exclusive: bool  # even a refresh needs a claim
    is_unattended: bool  # we could sign in without a person


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    step: Step
    holding: frozenset[Holding] | None = None
    claimed: frozenset[Claimed] | None = None
    refused: frozenset[Refused] | None = None
    is_shared_fresh: bool | None = None
    is_exclusive: bool | None = None
    is_unattended: bool | None = None

    def fits(self, situation: Situation) -> bool:
        return (
            (self.holding is None or situation.holding in self.holding)
            and (self.claimed is None or situation.claimed in self.claimed)
            and (self.refused is None or situation.refused in self.refused)
            and (self.is_shared_fresh is None or situation.is_shared_fresh == self.is_shared_fresh)
            and (self.is_exclusive is None or situation.is_exclusive == self.is_exclusive)
            and (self.is_unattended is None or situation.is_unattended == self.is_unattended)
        )


_ALIVE = frozenset({Holding.ALIVE})
_OURS = frozenset({Claimed.OURS})
_BUSY = frozenset({Claimed.BUSY})
_LAPSED = frozenset({Claimed.LAPSED})
_WRITABLE = frozenset({Claimed.FREE, Claimed.OURS_SHORT})

TABLE: tuple[Row, ...] = (
    Row(name="a shared token is good", is_shared_fresh=True, step=Step.SERVE),
    # A refused client is refused for refreshes too, so this stands above them.
    Row(name="the client is refused", refused=frozenset({Refused.CLIENT}), step=Step.REFUSE),
    Row(name="refresh freely", holding=_ALIVE, is_exclusive=False, step=Step.REFRESH),
    Row(name="refresh under our claim", holding=_ALIVE, claimed=_OURS, step=Step.REFRESH),
    Row(name="another is refreshing", holding=_ALIVE, claimed=_BUSY, step=Step.WAIT),
    Row(name="claim to refresh", holding=_ALIVE, claimed=_WRITABLE, step=Step.CLAIM),
    Row(name="its holder is gone", holding=_ALIVE, claimed=_LAPSED, step=Step.TAKE_OVER),
    # From here on there is no refresh token to use: sign in, or say why not.
    Row(name="another is signing in", claimed=_BUSY, step=Step.WAIT),
    Row(name="only a person can", is_unattended=False, step=Step.ASK_PERSON),
    Row(name="the sign-in is refused", refused=frozenset({Refused.SIGN_IN}), step=Step.REFUSE),
    Row(name="sign in under our claim", claimed=_OURS, step=Step.SIGN_IN),
    Row(name="claim to sign in", claimed=_WRITABLE, step=Step.CLAIM),
    Row(name="the signer is gone", claimed=_LAPSED, step=Step.TAKE_OVER),
)


def next_row(situation: Situation) -> Row:
    """The first row that fits. The table is total (tests walk every situation)."""
    return next(row for row in TABLE if row.fits(situation))


def next_step(situation: Situation) -> Step:
    return next_row(situation).step


def back_off_s(count: int) -> int:
    """How long nobody tries again after the `count`th refusal in a row of one credentials
    version."""
    return int(min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** max(0, min(count, 20) - 1)))


def early_renewal_s(lifetime_s: float, host_fraction: float) -> float:
    """How many seconds before its end a token is renewed ahead: from the last fifth of its life on,
    by host.

    `host_fraction` (0 to 1) spreads hosts over half of that fifth, so that a fleet does not renew
    as one.
    """
    return lifetime_s / 5 * (1 - host_fraction / 2)
