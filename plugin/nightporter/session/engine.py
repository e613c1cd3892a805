"""One ask, driven through the table of `lifecycle`: read, learn, decide, claim, send, save.

Nothing is sent without the claim that the table asks for, and nothing is handed out before its
result is written. Decisions are functions of what was read (`sight`, `transitions`); everything
else is an effect. `exchange` is what happens between a claim and a saved result.
"""

from __future__ import annotations

import contextlib

from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerError,
    LoginRequiredError,
    NewerRecordError,
    SecretNotFoundError,
    SessionRejectedError,
    SignInUnsettledError,
    StoreDeniedError,
    StoreError,
    StoreRolledBackError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import (
    SECOND_LOOK_S,
)
from nightporter.core.model import (
    Ask,
    Role,
    SessionRecord,
    Token,
)
from nightporter.core.values import dataclass, field, replace
from nightporter.issuers.oauth import Call
from nightporter.session import effects, telling, transitions
from nightporter.session.effects import Flow
from nightporter.session.exchange import Exchange, remedy
from nightporter.session.lifecycle import (
    Bar,
    Holding,
    Row,
    Step,
    next_row,
)
from nightporter.session.repository import Session, new_lineage
from nightporter.session.transitions import Snapshot


def obtain(session: Session, ask: Ask, seen: Snapshot | None = None) -> Token:
    """Returns a token that is good for the ask, with as few exchanges in the fleet as it takes.
    `seen`: the record as the caller has just read it, which spares the first read.

    Raises: CredentialsRefusedError, LoginRequiredError, StoreError, IssuerError.
    """
    return session.run(obtaining(session, ask, seen))


def obtaining(session: Session, ask: Ask, seen: Snapshot | None = None) -> Flow[Token]:
    """As `obtain`: nothing is done here, but said what is to be done."""
    if session.profile.role is Role.READ_ONLY:
        return (yield from session.awaiting_published(ask))
    yield from session.settling_pending(ask.deadline)
    return (yield from Attempt(session, ask).running(seen))


@dataclass(slots=True)
class Attempt(Exchange):
    """From the first read to a token or an error. `reported`: what was said of foreign records."""

    reported: set[str] = field(default_factory=set)

    def running(self, seen: Snapshot | None = None) -> Flow[Token]:
        """Runs the table until there is a token or an error. `seen` is a read like any other: what
        has changed since shows when the claim is written."""
        try:
            snapshot = seen or (yield from self.reading())
            while True:
                token = None
                yield from self.learning(snapshot)
                if self.sight.news_from is None:
                    self.sight.news_from = snapshot.generation
                row = next_row(self.sight.situation(snapshot))
                self.emit("step", row=row.name, generation=snapshot.generation)
                outcome = yield from self.stepping(row, snapshot)
                if isinstance(outcome, Snapshot):
                    snapshot = outcome
                    continue
                token = outcome
                if self.left_s(token) > 0:
                    return token
                snapshot = yield from self.reading()  # we slept from its issue to its end
        except Exception:
            # Whatever ended us before our claim was used up must not keep the others waiting.
            yield from self.lease.releasing()
            raise

    def stepping(self, row: Row, snapshot: Snapshot) -> Flow[Token | Snapshot]:
        """Does what the table says: a token, or the snapshot to go on from."""
        match row.step:
            case Step.SERVE:
                return (yield from self.serving(snapshot))
            case Step.REFUSE:
                raise self.remembered(snapshot)
            case Step.BACK_OFF:
                raise self.left_alone(snapshot)
            case Step.UPGRADE:
                raise self.newer()
            case Step.ASK_PERSON:
                raise self.person_needed(snapshot)
            case Step.MARK:
                return (yield from self.marking(snapshot))
            case Step.WAIT:
                yield from self.waiting(snapshot)
                return (yield from self.reading())
            case Step.LOOK_AGAIN:
                self.sight.looks += 1
                yield from effects.sleeping(min(SECOND_LOOK_S, max(0.0, self.time_left_s())))
                return (yield from self.reading())
            case Step.CLAIM | Step.TAKE_OVER:
                is_takeover = row.step is Step.TAKE_OVER
                return (yield from self.claiming(snapshot, is_takeover=is_takeover))
            case Step.REFRESH:
                return (yield from self.exchanging(snapshot, Call.REFRESH))
            case Step.SIGN_IN:
                return (yield from self.exchanging(snapshot, Call.SIGN_IN))

    # What must be known before the record can be judged.

    def learning(self, snapshot: Snapshot) -> Flow[None]:
        """Reads the secrets that tell whose session this is, or what a refusal is keyed by."""
        if snapshot.foreign is not None and snapshot.foreign.is_newer:
            return
        if self.profile.signs_in_unattended and self.sight.must_know_credentials(snapshot):
            try:
                found = yield from self.session.loading_credentials(self.deadline)
                self.known.credentials = found
            except (SecretNotFoundError, StoreDeniedError):
                self.known.has_no_credentials = True
        if self.sight.must_know_client(snapshot):
            with contextlib.suppress(SecretNotFoundError, StoreDeniedError):
                self.known.client = yield from self.session.loading_client(self.deadline)
        self.report_foreign(snapshot)

    def report_foreign(self, snapshot: Snapshot) -> None:
        """Says once what is wrong with a record that is not used."""
        reason = None
        if snapshot.foreign is not None:
            reason = snapshot.foreign.reason
        elif snapshot.record is not None and not self.sight.is_own(snapshot):
            reason = "it is another identity's session"
        if reason is not None and reason not in self.reported:
            self.reported.add(reason)
            self.emit("foreign-record", detail=reason)

    # Time.

    def left_s(self, token: Token) -> float:
        """Seconds that are left of a token."""
        runtime = self.session.runtime
        return token.left_s(wall_s=runtime.clock(), boot_s=runtime.boot())

    # Steps.

    def waiting(self, snapshot: Snapshot) -> Flow[None]:
        """Waits a moment for the holder of the claim.

        Raises: ClaimBusyError, or what we ourselves don't know, when the time is over.
        """
        self.sight.waits += 1
        runtime = self.session.runtime
        pause_s = runtime.uniform(0.4, 1.0) * min(1.0, 0.15 * 1.4**self.sight.waits)
        if pause_s >= self.time_left_s():
            if self.sight.lost is not None:
                raise self.sight.lost
            claim = snapshot.claim
            raise ClaimBusyError(
                f"{self.profile.name}: timed out waiting for"
                f" {claim.holder if claim else 'another process'}, which is exchanging the session"
            )
        yield from effects.sleeping(pause_s)

    def claiming(self, snapshot: Snapshot, *, is_takeover: bool) -> Flow[Snapshot]:
        """Writes a claim, with what is about to be sent in the same write."""
        holding = self.sight.holding(snapshot)
        call = Call.REFRESH if holding.is_usable else Call.SIGN_IN
        self.check_time(call)
        # What is missing is found before the claim, and only the answer is waited for under it.
        yield from self.requesting(snapshot, call)
        base = self.base_record(snapshot)
        record = self.counted(base, snapshot, call)
        # Looked up before the claim: what is seen here after it may be a successor's state.
        highest = (yield from effects.highest_seen(record.lineage)) if record.lineage else 0
        try:
            taken = yield from self.lease.taking(
                snapshot,
                record,
                base=base,
                purpose=call,
                deadline=self.deadline,
                is_takeover=is_takeover,
            )
        except StoreDeniedError:
            if holding is not Holding.DOUBTED:
                raise
            self.sight.can_mark = (
                False  # a consumer without write permission can't mark a dead token
            )
            return snapshot
        if taken is not None:
            yield from self.checking_state(taken, call, highest)
            return taken
        yield from effects.sleeping(self.session.runtime.uniform(0.02, 0.15))
        return (yield from self.reading())

    def base_record(self, snapshot: Snapshot) -> SessionRecord:
        """Returns the record that a claim is written into: what is there, or a fresh one that goes
        on counting."""
        record = snapshot.record
        if record is None:
            record = transitions.fresh_record(
                snapshot, self.sight.identity(), by=self.session.runtime.host
            )
        if self.lease.base is not None:  # our claim, under which nothing was sent
            record = transitions.given_back(record, self.lease.base)
        if self.sight.is_own(snapshot):
            record = transitions.tidied(record, now=self.sight.now(snapshot))
        if record.lineage is None and (self.sight.is_own(snapshot) or snapshot.record is None):
            record = replace(record, lineage=new_lineage())
        return record

    def counted(self, base: SessionRecord, snapshot: Snapshot, call: Call) -> SessionRecord:
        """Returns the record that says what is about to be sent."""
        now = self.sight.now(snapshot)
        if call is Call.REFRESH:
            return transitions.with_sent(base, now)
        assert self.known.credentials is not None
        return transitions.with_attempt(base, self.known.credentials.key, now)

    def checking_state(self, taken: Snapshot, call: Call, highest: int) -> Flow[None]:
        """A won claim shows the newest state of the store. Where this machine had seen a newer one
        of the same lineage (`highest`), the store was set back, and a token that may rotate is not
        sent.

        Raises: StoreRolledBackError.
        """
        record = taken.record
        if record is None or record.lineage is None or not self.sight.is_own(taken):
            return
        if record.generation >= highest:
            if record.generation > highest:  # what is known already needs no write
                yield effects.Note(record.lineage, record.generation)
            return
        if call is Call.REFRESH and self.profile.may_rotate:
            raise StoreRolledBackError(
                f"{self.profile.name}: the store holds generation {record.generation} of this"
                f" session, and this machine has seen generation {highest}: the store was set"
                " back, and the old refresh token is not sent",
                hint=(
                    "Restore the newest version of the record, or log in or seed again;"
                    f" `nightporter doctor {self.profile.name} --repair` goes on with what is"
                    " there."
                ),
            )

    # Ends.

    def serving(self, snapshot: Snapshot) -> Flow[Token]:
        """Gives an unused claim back, and hands out the shared access token."""
        record = snapshot.record
        assert record is not None
        assert record.access_token is not None
        assert record.access_token_expires_at is not None
        runtime = self.session.runtime
        left_s = record.access_token_expires_at - self.sight.now(snapshot)
        ends_s = runtime.boot() + left_s  # before anything else: we may be frozen at each effect
        if self.lease.claim is not None and self.lease.claim == snapshot.claim:
            yield from self.lease.releasing()
        if record.lineage is not None:
            yield effects.Note(record.lineage, record.generation)
        self.emit("adopted", generation=record.generation)
        return Token(
            record.access_token,
            token_type=record.token_type,
            expires_at_s=record.access_token_expires_at,
            obtained_at_s=runtime.clock(),
            generation=record.generation,
            ends_s=ends_s,
            life_s=left_s,
            output=self.profile.output_of(record.output),
        )

    def marking(self, snapshot: Snapshot) -> Flow[Snapshot]:
        """Marks a refresh token that the issuer has refused twice, so that nobody sends it again.
        It stays in the record: it is the only copy."""
        assert snapshot.record is not None
        error = self.rejected.error if self.rejected else ""
        marked = transitions.marked_record(
            self.with_words(snapshot, snapshot.record),
            error=error,
            now=self.sight.now(snapshot),
            is_elsewhere=self.sight.is_elsewhere,
        )
        if not (yield from self.lease.writing_back(snapshot, marked)):
            self.sight.can_mark = False
        self.emit("dead", error=error, generation=snapshot.generation)
        raise self.person_needed(snapshot)

    def remembered(self, snapshot: Snapshot) -> CredentialsRefusedError:
        """Returns the error of a refusal that is still in force."""
        refusal = snapshot.refused
        error, until = (refusal.error, refusal.until) if refusal else ("", None)
        told = self.told_before(snapshot)
        if told is not None and told.words:
            self.emit("issuer-says", words=told.words)
        when = f" before {format_rfc3339(until)}" if until else ""
        return CredentialsRefusedError(
            f"{self.profile.name}: the issuer refused these credentials ({error});"
            f" not tried again{when}",
            error=error,
            until=until,
        )

    def left_alone(self, snapshot: Snapshot) -> IssuerError:
        """Returns the error of a call that nobody makes for a while."""
        bar, until = self.sight.refresh_bar(snapshot)
        if not self.sight.holding(snapshot).is_usable:
            bar, until = self.sight.sign_in_bar(snapshot)
        when = format_rfc3339(until)
        if bar is Bar.UNSETTLED:
            if self.sight.lost is not None:
                return self.sight.lost
            return SignInUnsettledError(
                f"{self.profile.name}: two sign-ins ended without a known outcome; no other is"
                f" tried before {when}"
            )
        return IssuerBusyError(
            f"{self.profile.name}: the issuer asked not to be called again before {when}",
            retry_after_s=max(0.0, until - self.sight.now(snapshot)),
        )

    def newer(self) -> StoreError:
        """Returns the error of a record that only a newer version may write."""
        return NewerRecordError(
            f"{self.profile.name}: the record at {self.profile.refresh_token!r} was written by a"
            " newer nightporter"
        )

    def elsewhere(self, snapshot: Snapshot) -> LoginRequiredError | None:
        """Returns the error of a session that somebody else has used, as we or the record know."""
        mark = snapshot.record.rejected if snapshot.record else None
        is_marked = mark is not None and mark.is_elsewhere and self.sight.is_own(snapshot)
        if not (self.sight.is_elsewhere or is_marked):
            return None
        error = self.rejected.error if self.rejected else ""
        return telling.used_elsewhere(
            self.profile,
            snapshot,
            error=error or (mark.error if mark else ""),
            remedy=remedy(self.profile),
        )

    def person_needed(self, snapshot: Snapshot) -> LoginRequiredError:
        """Returns the error that says who must act."""
        name, record = self.profile.name, snapshot.record
        if error := self.elsewhere(snapshot):
            return error
        if self.rejected:
            return SessionRejectedError(
                f"{name}: {self.rejected.message}, and there is no way to sign in unattended",
                error=self.rejected.error,
                hint=remedy(self.profile),
            )
        if record is not None and record.rejected and transitions.is_marked(record):
            return SessionRejectedError(
                f"{name}: the issuer refused the refresh token ({record.rejected.error}), and it is"
                " not sent again",
                error=record.rejected.error,
                hint=remedy(self.profile),
            )
        return LoginRequiredError(
            f"{name}: there is no session to refresh", hint=remedy(self.profile)
        )
