"""What one attempt sees: the situation that the table asks for, as functions of a snapshot and of
what was learned before. Nothing here has an effect."""

from __future__ import annotations

from nightporter.core.errors import (
    OutcomeUnknownError,
)
from nightporter.core.limits import CLAIM_S, SKEW_S
from nightporter.core.model import (
    Ask,
    Credentials,
    Identity,
    Profile,
    Secret,
)
from nightporter.core.values import dataclass, field
from nightporter.issuers.oauth import Call
from nightporter.session import transitions
from nightporter.session.lease import Lease
from nightporter.session.lifecycle import (
    Bar,
    Claimed,
    Holding,
    Situation,
)
from nightporter.session.repository import KnownCredentials, Session
from nightporter.session.transitions import Snapshot

CLOCK_GRAIN_S = 2.0  # stores tell whole seconds


@dataclass(slots=True)
class Known:
    """What was learned of the secrets behind the profile, as far as it was needed."""

    credentials: KnownCredentials | None = None
    client: Credentials | None = None
    has_no_credentials: bool = False


@dataclass(slots=True)
class Sight:
    """What an attempt knows beside the snapshot.

    `rejections`: how often the issuer refused each refresh token in this attempt. `news_from`: the
    generation that was there first. `waits`, `looks`: looks at another's claim, and at a missing
    session. `lost`: an exchange whose outcome is unknown. `can_mark`: whether a dead refresh token
    can be marked in the record. `says_used`: the issuer said that the refresh token was used
    before; `is_elsewhere`: and not by us.
    """

    session: Session
    ask: Ask
    lease: Lease
    known: Known = field(default_factory=Known)
    rejections: dict[Secret, int] = field(default_factory=dict)
    news_from: int | None = None
    waits: int = 0
    looks: int = 0
    lost: OutcomeUnknownError | None = None
    can_mark: bool = True
    says_used: bool = False
    is_elsewhere: bool = False

    @property
    def profile(self) -> Profile:
        """The profile that is asked for."""
        return self.session.profile

    def must_know_credentials(self, snapshot: Snapshot) -> bool:
        """Returns whether the credentials decide what this record is to us: where the profile
        names no user they say who it is, and what blocks a sign-in is keyed by them."""
        if self.known.credentials is not None or self.known.has_no_credentials:
            return False
        record = snapshot.record
        is_named = record is not None and record.identity.username is not None
        if is_named and self.profile.username is None:
            return True
        return snapshot.refused is not None or bool(snapshot.attempts)

    def must_know_client(self, snapshot: Snapshot) -> bool:
        """Returns whether the client's id decides whose session this is."""
        record = snapshot.record
        if record is None or self.known.client is not None:
            return False
        if not self.profile.needs_client:
            return False
        return record.identity.client_id is not None or record.refused is not None

    def situation(self, snapshot: Snapshot) -> Situation:
        """Returns all that the table looks at."""
        holding = self.holding(snapshot)
        claimed = self.claimed(snapshot, holding)
        return Situation(
            holding=holding,
            claimed=claimed,
            refresh_bar=self.refresh_bar(snapshot)[0],
            sign_in_bar=self.sign_in_bar(snapshot)[0],
            is_shared_fresh=self.is_own(snapshot) and self.is_shared_fresh(snapshot),
            is_exclusive=self.profile.is_exclusive,
            is_unattended=self.profile.signs_in_unattended,
            is_sure=self.looks > 0 or claimed is Claimed.OURS,
        )

    def holding(self, snapshot: Snapshot) -> Holding:
        """Returns what the record is to us."""
        if snapshot.foreign is not None:
            return Holding.NEWER if snapshot.foreign.is_newer else Holding.FOREIGN
        record = snapshot.record
        if record is None:
            return Holding.ABSENT
        if not self.is_own(snapshot):
            return Holding.FOREIGN
        if record.refresh_token is None:
            return Holding.EMPTY
        if transitions.has_ended(record, now=self.now(snapshot)):
            return Holding.ABSENT
        if transitions.is_marked(record) and not self.ask.retry_refused:
            return Holding.REJECTED
        if count := self.rejections.get(record.refresh_token, 0):
            return self.holding_rejected(count)
        return Holding.REPLACING if self.ask.is_sign_in else Holding.ALIVE

    def holding_rejected(self, count: int) -> Holding:
        """The only copy of a refresh token is not given up on one word: it is sent twice."""
        if self.profile.signs_in_unattended:
            return Holding.REJECTED
        if not self.can_mark:
            return Holding.REJECTED
        return Holding.DOUBTED if count == 1 else Holding.CONDEMNED

    def is_own(self, snapshot: Snapshot) -> bool:
        """Returns whether the record is of our identity, as far as that must be known.

        A consumer that may not read the credentials can't know whose they are, and takes the
        record's word.
        """
        record = snapshot.record
        return record is not None and record.identity.matches(self.identity())

    def identity(self) -> Identity:
        """Returns whose session ours is."""
        known = self.known.credentials.credentials if self.known.credentials else None
        return self.session.identity(known or self.known.client)

    def is_shared_fresh(self, snapshot: Snapshot) -> bool:
        """Returns whether the record holds an access token that is good for this ask."""
        record = snapshot.record
        if record is None or not self.profile.share_access_token:
            return False
        if self.ask.is_sign_in:
            return False
        now = self.now(snapshot)
        ends_at = transitions.shared_ends_at(record, now=now)
        if ends_at is None or record.access_token is None:
            return False
        # What a holder wrote while we waited is adopted, whatever it has left: the next exchange
        # would bring no more.
        is_news = self.news_from is not None and record.generation > self.news_from
        is_news = is_news and (self.waits > 0 or self.lost is not None)
        # An exchange that began before the ask did is no answer to a forced one.
        if self.ask.is_forced and not (is_news and self.lost is not None):
            return False
        left_s = ends_at - now
        is_enough = left_s > self.ask.min_ttl_s or (is_news and left_s > 0)
        is_better = self.is_better(ends_at, now)
        return is_enough and is_better and not self.ask.is_refused(record.access_token.reveal())

    def is_better(self, ends_at: int, now: float) -> bool:
        """Returns whether a token that ends then outlives the one that the asker holds."""
        held_ends_s = self.ask.better_than_ends_s
        if held_ends_s is None:
            return True
        held_s = held_ends_s - self.session.runtime.boot()
        return ends_at - now > held_s + CLOCK_GRAIN_S  # else it may be the very same token

    def claimed(self, snapshot: Snapshot, holding: Holding) -> Claimed:
        """Returns whose the right to exchange is."""
        if snapshot.claim is None:
            return Claimed.FREE
        if self.lease.recognise(snapshot):
            call = Call.REFRESH if holding.is_usable else Call.SIGN_IN
            is_fit = self.lease.is_young() and self.lease.purpose is call
            return Claimed.OURS if is_fit else Claimed.OURS_SPENT
        # Where nobody may sign in for five minutes anyway, a slow holder is waited for: it still
        # saves over a claim that nobody takes over.
        is_barred = not holding.is_usable and self.sign_in_bar(snapshot)[0] is Bar.UNSETTLED
        further_s = CLAIM_S if is_barred else 0.0
        is_alive = self.session.is_claim_alive(snapshot, further_s=further_s)
        return Claimed.BUSY if is_alive else Claimed.LAPSED

    def sign_in_bar(self, snapshot: Snapshot) -> tuple[Bar, int]:
        """Returns what blocks a sign-in, and until when."""
        if self.ask.retry_refused:
            return Bar.NOTHING, 0
        now = self.now(snapshot)
        if self.known.credentials is None:
            until = transitions.busy_until(snapshot, Call.SIGN_IN.value, now=now)
            return (Bar.BUSY, until) if until else (Bar.NOTHING, 0)
        return transitions.sign_in_bar(
            snapshot,
            key=self.known.credentials.key,
            version=self.known.credentials.credentials.version,
            is_own=self.is_own(snapshot),
            now=now,
        )

    def refresh_bar(self, snapshot: Snapshot) -> tuple[Bar, int]:
        """Returns what blocks a refresh, and until when."""
        if self.ask.retry_refused or not self.is_own(snapshot):
            return Bar.NOTHING, 0
        known = self.known.client
        if known is None and self.known.credentials is not None:
            known = self.known.credentials.credentials
        version = known.version if known else None
        return transitions.refresh_bar(
            snapshot, self.profile, client_version=version, now=self.now(snapshot)
        )

    # Time.

    def now(self, snapshot: Snapshot) -> float:
        """Unix seconds on the store's clock."""
        return self.session.records.now(snapshot)

    def best_time_s(self, snapshot: Snapshot) -> float:
        """Unix seconds on our clock, or on the store's where ours is visibly wrong."""
        skew_s = self.session.records.skew_s(snapshot)
        return self.session.runtime.clock() + (skew_s if abs(skew_s) > SKEW_S else 0.0)
