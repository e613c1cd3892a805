"""One ask, driven through the table of `lifecycle`: read, learn, decide, claim, send, save.

Nothing is sent without the claim that the table asks for, and nothing is handed out before its
result is written. Decisions are functions of what was read; everything else is an effect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerError,
    IssuerReplyError,
    LoginRequiredError,
    NewerRecordError,
    NightporterError,
    OutcomeUnknownError,
    SecretNotFoundError,
    SessionRejectedError,
    SignInUnsettledError,
    StoreDeniedError,
    StoreError,
    StoreRolledBackError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import (
    EXCHANGE_S,
    LISTEN_S,
    RESEND_FIRST_S,
    RETRY_AFTER_MAX_S,
    RETRY_AFTER_S,
    SECOND_LOOK_S,
    SECOND_SEND_S,
    SKEW_S,
)
from nightporter.core.model import (
    Ask,
    Credentials,
    Identity,
    IssuedTokens,
    Profile,
    Role,
    Secret,
    SessionRecord,
    Token,
)
from nightporter.core.told import NOTHING, Told
from nightporter.issuers.oauth import Call, Request, Response
from nightporter.session import effects, telling, transitions
from nightporter.session.driver import Backoff
from nightporter.session.effects import Flow
from nightporter.session.lease import MAX_TRIES, Lease
from nightporter.session.lifecycle import (
    Bar,
    Claimed,
    Holding,
    Row,
    Situation,
    Step,
    next_row,
)
from nightporter.session.repository import KnownCredentials, Session, new_lineage
from nightporter.session.transitions import Snapshot

CLOCK_GRAIN_S = 2.0  # stores tell whole seconds


def obtain(session: Session, ask: Ask) -> Token:
    """Returns a token that is good for the ask, with as few exchanges in the fleet as it takes.

    Raises: CredentialsRefusedError, LoginRequiredError, StoreError, IssuerError.
    """
    return session.run(obtaining(session, ask))


def obtaining(session: Session, ask: Ask) -> Flow[Token]:
    """As `obtain`: nothing is done here, but said what is to be done."""
    if session.profile.role is Role.READ_ONLY:
        return (yield from session.awaiting_published(ask))
    yield from session.settling_pending(ask.deadline)
    return (yield from Attempt(session, ask).running())


def remedy(profile: Profile) -> str:
    """Returns how a session is begun where none can be begun unattended."""
    if profile.role is Role.REFRESH_ONLY and profile.grant.is_unattended:
        return (
            'A machine with role "full" must sign in: run `nightporter rotate'
            f" {profile.name}` there."
        )
    if profile.grant.is_seeded:
        return f"Run `nightporter seed {profile.name}` with a fresh refresh token."
    return f"Run `nightporter login {profile.name}`."


@dataclass(slots=True)
class Heard:
    """What a send has come to. `at_s` (Unix seconds, the best clock that we know) and
    `at_boot_s` (since boot): when it was begun."""

    issued: IssuedTokens
    at_s: int
    at_wall_s: float
    at_boot_s: float


@dataclass(slots=True)
class Known:
    """What was learned of the secrets behind the profile, as far as it was needed."""

    credentials: KnownCredentials | None = None
    client: Credentials | None = None
    has_no_credentials: bool = False


@dataclass(slots=True)
class Attempt:
    """From the first read to a token or an error.

    `rejections`: how often the issuer refused each refresh token in this attempt. `tries`, `waits`:
    exchanges that failed, and looks at another's claim. `news_from`: the generation that was there
    first. `words`: the issuer's about its last refusal. `deadline`: the ask's, or later once the
    attempt goes on in the background.
    """

    session: Session
    ask: Ask
    known: Known = field(default_factory=Known)
    rejected: SessionRejectedError | None = None
    rejections: dict[Secret, int] = field(default_factory=dict)
    news_from: int | None = None
    tries: int = 0
    waits: int = 0
    looks: int = 0
    resends: int = 0
    lost: OutcomeUnknownError | None = None
    words: str = ""
    is_apart: bool = False
    can_mark: bool = True
    reported: set[str] = field(default_factory=set)
    held_back: list[Callable[[], None]] | None = None
    deadline: float = 0.0
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        self.lease = Lease(self.session.records)
        self.deadline = self.ask.deadline

    @property
    def profile(self) -> Profile:
        """The profile that is asked for."""
        return self.session.profile

    # The loop.

    def running(self) -> Flow[Token]:
        """Runs the table until there is a token or an error."""
        try:
            snapshot = yield from self.reading()
            while True:
                token = None
                yield from self.learning(snapshot)
                if self.news_from is None:
                    self.news_from = snapshot.generation
                row = next_row(self.situation(snapshot))
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
                raise self.person_needed()
            case Step.MARK:
                return (yield from self.marking(snapshot))
            case Step.WAIT:
                yield from self.waiting(snapshot)
                return (yield from self.reading())
            case Step.LOOK_AGAIN:
                self.looks += 1
                yield from effects.sleeping(min(SECOND_LOOK_S, max(0.0, self.time_left_s())))
                return (yield from self.reading())
            case Step.CLAIM | Step.TAKE_OVER:
                is_takeover = row.step is Step.TAKE_OVER
                return (yield from self.claiming(snapshot, is_takeover=is_takeover))
            case Step.REFRESH:
                return (yield from self.exchanging(snapshot, Call.REFRESH))
            case Step.SIGN_IN:
                return (yield from self.exchanging(snapshot, Call.SIGN_IN))

    def reading(self) -> Flow[Snapshot]:
        """Looks at the record."""
        snapshot = yield from self.session.records.reading(self.deadline)
        self.lease.recognise(snapshot)
        return snapshot

    # What must be known before the record can be judged.

    def learning(self, snapshot: Snapshot) -> Flow[None]:
        """Reads the secrets that tell whose session this is, or what a refusal is keyed by."""
        if snapshot.foreign is not None and snapshot.foreign.is_newer:
            return
        if self.profile.signs_in_unattended and self.must_know_credentials(snapshot):
            try:
                found = yield from self.session.loading_credentials(self.deadline)
                self.known.credentials = found
            except (SecretNotFoundError, StoreDeniedError):
                self.known.has_no_credentials = True
        if self.must_know_client(snapshot):
            with contextlib.suppress(SecretNotFoundError, StoreDeniedError):
                self.known.client = yield from self.session.loading_client(self.deadline)
        self.report_foreign(snapshot)

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

    def report_foreign(self, snapshot: Snapshot) -> None:
        """Says once what is wrong with a record that is not used."""
        reason = None
        if snapshot.foreign is not None:
            reason = snapshot.foreign.reason
        elif snapshot.record is not None and not self.is_own(snapshot):
            reason = "it is another identity's session"
        if reason is not None and reason not in self.reported:
            self.reported.add(reason)
            self.emit("foreign-record", detail=reason)

    # What we see.

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
            call = Call.REFRESH if holding in (Holding.ALIVE, Holding.DOUBTED) else Call.SIGN_IN
            is_fit = self.lease.is_young() and self.lease.purpose is call
            return Claimed.OURS if is_fit else Claimed.OURS_SPENT
        return Claimed.BUSY if self.session.is_claim_alive(snapshot) else Claimed.LAPSED

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

    def time_left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.session.runtime.monotonic()

    def left_s(self, token: Token) -> float:
        """Seconds that are left of a token."""
        runtime = self.session.runtime
        return token.left_s(wall_s=runtime.clock(), boot_s=runtime.boot())

    # Steps.

    def waiting(self, snapshot: Snapshot) -> Flow[None]:
        """Waits a moment for the holder of the claim.

        Raises: ClaimBusyError, or what we ourselves don't know, when the time is over.
        """
        self.waits += 1
        runtime = self.session.runtime
        pause_s = runtime.uniform(0.4, 1.0) * min(1.0, 0.15 * 1.4**self.waits)
        if pause_s >= self.time_left_s():
            if self.lost is not None:
                raise self.lost
            claim = snapshot.claim
            raise ClaimBusyError(
                f"{self.profile.name}: timed out waiting for"
                f" {claim.holder if claim else 'another process'}, which is exchanging the session"
            )
        yield from effects.sleeping(pause_s)

    def claiming(self, snapshot: Snapshot, *, is_takeover: bool) -> Flow[Snapshot]:
        """Writes a claim, with what is about to be sent in the same write."""
        holding = self.holding(snapshot)
        call = Call.REFRESH if holding in (Holding.ALIVE, Holding.DOUBTED) else Call.SIGN_IN
        self.check_time(call)
        # What is missing is found before the claim, and only the answer is waited for under it.
        yield from self.requesting(snapshot, call)
        base = self.base_record(snapshot)
        record = self.counted(base, snapshot, call)
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
            self.can_mark = False  # a consumer without write permission can't mark a dead token
            return snapshot
        if taken is not None:
            yield from self.checking_state(taken, call)
            return taken
        yield from effects.sleeping(self.session.runtime.uniform(0.02, 0.15))
        return (yield from self.reading())

    def check_time(self, call: Call) -> None:
        """Raises: ClaimBusyError, or what Lambda's clock forbids, when an exchange can't be begun
        any more."""
        is_strict = call is Call.REFRESH and self.profile.is_strict
        self.session.runtime.check_exchange(is_strict)
        if self.time_left_s() <= 0:
            if self.lost is not None:
                raise self.lost
            raise ClaimBusyError(
                f"{self.profile.name}: the time was over before the session could be claimed"
            )

    def base_record(self, snapshot: Snapshot) -> SessionRecord:
        """Returns the record that a claim is written into: what is there, or a fresh one that goes
        on counting."""
        record = snapshot.record
        if record is None:
            record = transitions.fresh_record(
                snapshot, self.identity(), by=self.session.runtime.host
            )
        if self.lease.base is not None:  # our claim, under which nothing was sent
            record = transitions.given_back(record, self.lease.base)
        if self.is_own(snapshot):
            record = transitions.tidied(record, now=self.now(snapshot))
        if record.lineage is None and (self.is_own(snapshot) or snapshot.record is None):
            record = replace(record, lineage=new_lineage())
        return record

    def counted(self, base: SessionRecord, snapshot: Snapshot, call: Call) -> SessionRecord:
        """Returns the record that says what is about to be sent."""
        now = self.now(snapshot)
        if call is Call.REFRESH:
            return transitions.with_sent(base, now)
        assert self.known.credentials is not None
        return transitions.with_attempt(base, self.known.credentials.key, now)

    def checking_state(self, taken: Snapshot, call: Call) -> Flow[None]:
        """A won claim shows the newest state of the store. Where this machine has seen a newer one
        of the same lineage, the store was set back, and a token that may rotate is not sent.

        Raises: StoreRolledBackError.
        """
        record = taken.record
        if record is None or record.lineage is None or not self.is_own(taken):
            return
        highest = yield from effects.highest_seen(record.lineage)
        if record.generation >= highest:
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

    # Requests.

    def requesting(self, snapshot: Snapshot, call: Call) -> Flow[Request]:
        """Makes the request of a call, and reads what it needs.

        Raises: SecretNotFoundError, IssuerError, StoreError.
        """
        if call is Call.SIGN_IN:
            return (yield from self.sign_in_request())
        return (yield from self.refresh_request(snapshot))

    def sign_in_request(self) -> Flow[Request]:
        """Makes the request that sends the credentials."""
        if self.known.credentials is None:
            self.known.credentials = yield from self.session.loading_credentials(self.deadline)
        profile = yield from self.session.addressing(self.deadline)
        credentials = self.known.credentials.credentials
        try:
            return self.session.issuer.sign_in_request(profile, credentials)
        except ValueError as exc:
            raise SecretNotFoundError(
                f"the secret {self.profile.credentials!r} can't be used: {exc}"
            ) from exc

    def refresh_request(self, snapshot: Snapshot) -> Flow[Request]:
        """Makes the request that sends the refresh token."""
        assert snapshot.record is not None
        assert snapshot.record.refresh_token is not None
        issuer = self.session.issuer
        if self.profile.needs_client and self.known.client is None:
            self.known.client = yield from self.session.loading_client(self.deadline)
        profile = yield from self.session.addressing(self.deadline)
        try:
            return issuer.refresh_request(profile, snapshot.record.refresh_token, self.known.client)
        except ValueError as exc:
            path = self.profile.client or self.profile.credentials
            raise SecretNotFoundError(f"the secret {path!r} can't be used: {exc}") from exc

    # Exchanges.

    def exchanging(self, snapshot: Snapshot, call: Call) -> Flow[Token | Snapshot]:
        """Sends and saves. A token, or the snapshot to go on from."""
        is_second = call is Call.REFRESH and self.is_second_send(snapshot)
        needs_claim = call is Call.SIGN_IN or self.profile.is_exclusive or is_second
        request = yield from self.requesting(snapshot, call)
        self.check_time(call)
        if call is Call.REFRESH and self.profile.may_rotate:
            yield from self.going_apart()
        if is_second:
            yield from effects.sleeping(SECOND_SEND_S)
        if needs_claim and not self.lease.is_young():
            return snapshot  # the claim has become too old to send under
        try:
            heard = yield from self.hearing(snapshot, call, request, needs_claim)
            return (yield from self.settling(snapshot, call, heard, needs_claim))
        except SessionRejectedError as exc:
            return (yield from self.after_rejection(snapshot, exc))
        except CredentialsRefusedError as exc:
            raise (yield from self.after_refusal(snapshot, exc, call)) from exc
        except IssuerBusyError as exc:
            return (yield from self.after_busy(snapshot, exc, call))
        except OutcomeUnknownError as exc:
            return (yield from self.after_lost(snapshot, exc, call))
        except IssuerReplyError as exc:
            raise (yield from self.after_useless(snapshot, exc, call)) from exc
        except IssuerError as exc:
            return (yield from self.after_unsent(snapshot, exc))
        finally:
            yield from self.showing()

    def is_second_send(self, snapshot: Snapshot) -> bool:
        """Returns whether the issuer has just refused this very refresh token."""
        return self.holding(snapshot) is Holding.DOUBTED

    def going_apart(self) -> Flow[None]:
        """A refresh token that may rotate, once sent, is listened to until the answer is there:
        from here on nobody's time limit ends the attempt, only who asked stops waiting."""
        if self.is_apart:
            return
        self.is_apart = True
        yield effects.Detach(self.ask.deadline)
        listen_s = LISTEN_S + self.profile.grace_s
        left_s = self.session.runtime.listen_left_s()
        if left_s is not None:
            listen_s = min(listen_s, left_s)
        self.deadline = max(self.deadline, self.session.runtime.monotonic() + listen_s)

    def hearing(
        self, snapshot: Snapshot, call: Call, request: Request, needs_claim: bool
    ) -> Flow[Heard]:
        """Sends the request and reads the answer. From the first byte on signals wait, and nothing
        is reported until the result is saved."""
        runtime = self.session.runtime
        self.emit("send", call=call.value)
        self.held_back = []
        if needs_claim:
            yield effects.Shield(True)
            # Whatever comes of it, the claim may have been used.
            self.lease.is_spent = True
        at_s, at_boot_s = self.best_time_s(snapshot), runtime.boot()
        at_wall_s = runtime.clock()
        may_begin = self.lease.may_begin if needs_claim else None
        try:
            response = yield from effects.sending(request, self.listen_s(call), may_begin)
        except IssuerError as exc:
            if not isinstance(exc, (OutcomeUnknownError, IssuerReplyError)):
                self.lease.is_spent = False  # certainly not sent
            raise
        self.note_answer(call, response)
        try:
            issued = self.session.issuer.parse(response, call)
        except IssuerReplyError as exc:
            if isinstance(exc.refresh_token, Secret) and needs_claim:
                yield from self.rescuing(snapshot, exc.refresh_token, int(at_s))
            self.note_words(snapshot, response)
            raise
        except NightporterError:
            self.note_words(snapshot, response)
            raise
        return Heard(issued=issued, at_s=int(at_s), at_wall_s=at_wall_s, at_boot_s=at_boot_s)

    def listen_s(self, call: Call) -> float:
        """Returns for how long the answer is waited for."""
        if call is Call.REFRESH and self.profile.may_rotate:
            left_s = self.session.runtime.listen_left_s()
            return LISTEN_S if left_s is None else max(0.5, min(LISTEN_S, left_s))
        return min(EXCHANGE_S, max(0.5, self.time_left_s()))

    def note_answer(self, call: Call, response: Response) -> None:
        """Reports the answer, once the result is saved."""
        self.emit("answered", call=call.value, status=response.status)
        if response.skew_s is not None and abs(response.skew_s) > SKEW_S:
            self.emit("clock-skew", issuer_is_ahead_s=round(response.skew_s))

    def note_words(self, snapshot: Snapshot, response: Response) -> None:
        """Keeps the issuer's words about a refusal, made safe: shown under -v and by doctor."""
        found = self.known.credentials.credentials if self.known.credentials else None
        self.words = telling.words_of(response, snapshot.record, (found, self.known.client))
        if self.words:
            self.emit("issuer-says", words=self.words)

    def with_words(self, snapshot: Snapshot, record: SessionRecord) -> SessionRecord:
        """Returns the record that keeps them; another identity's keeps every member."""
        if not self.is_own(snapshot):
            return record
        return replace(record, told=replace(record.told or NOTHING, words=self.words))

    def rescuing(self, snapshot: Snapshot, refresh_token: Secret, at_s: int) -> Flow[None]:
        """Saves the refresh token of an answer whose rest is of no use."""
        assert snapshot.record is not None
        record = transitions.rescued_record(
            snapshot.record,
            refresh_token,
            sent_at=at_s,
            refresh_expires_at=self.session.issuer.refresh_expires_at(self.profile, at_s),
            by=self.session.runtime.host,
        )
        self.emit("save")
        if (yield from self.lease.saving(snapshot, record)):
            self.emit("saved", generation=record.generation)

    def settling(
        self, snapshot: Snapshot, call: Call, heard: Heard, needs_claim: bool
    ) -> Flow[Token | Snapshot]:
        """Saves the result before anything is handed out. A snapshot: we were fenced off."""
        record = self.result_record(snapshot, call, heard)
        if needs_claim:
            self.emit("save")
            is_saved = yield from self.lease.saving(snapshot, record)
            if is_saved:
                self.emit("saved", generation=record.generation)
            yield from self.showing()
            yield effects.Shield(False)
            if not is_saved:
                return (yield from self.reading())
        else:
            is_saved = yield from self.keeping_changed(snapshot, record)
            yield from self.showing()
        if is_saved:
            self.tell(snapshot, record)
        if record.lineage is not None and needs_claim:
            yield effects.Note(record.lineage, record.generation)
        token = self.token_of(heard, record)
        if self.profile.role is Role.FULL:
            yield from self.session.publishing_if_possible(record.identity, token, self.deadline)
        return token

    def result_record(self, snapshot: Snapshot, call: Call, heard: Heard) -> SessionRecord:
        """Returns the record after the exchange."""
        record = self.base_of_result(snapshot)
        record = replace(record, told=self.told_after(snapshot, heard.issued, call))
        expires_at = self.session.issuer.refresh_expires_at(self.profile, heard.at_s)
        if call is Call.REFRESH:
            return transitions.refreshed_record(
                record,
                self.profile,
                heard.issued,
                sent_at=heard.at_s,
                refresh_expires_at=expires_at,
                by=self.session.runtime.host,
            )
        return transitions.signed_in_record(
            record,
            self.profile,
            heard.issued,
            identity=self.identity(),
            key=self.known.credentials.key if self.known.credentials else None,
            lineage=new_lineage(),
            sent_at=heard.at_s,
            refresh_expires_at=expires_at,
            by=self.session.runtime.host,
        )

    def base_of_result(self, snapshot: Snapshot) -> SessionRecord:
        """Returns the record that a result goes on from."""
        if snapshot.record is not None:
            return snapshot.record
        return transitions.fresh_record(snapshot, self.identity(), by=self.session.runtime.host)

    def told_before(self, snapshot: Snapshot) -> Told | None:
        """Returns what our session's record tells."""
        record = snapshot.record
        return record.told if record is not None and self.is_own(snapshot) else None

    def told_after(self, snapshot: Snapshot, issued: IssuedTokens, call: Call) -> Told | None:
        """Returns what there is to tell after the exchange; None where that is nothing."""
        after = telling.told_after(
            self.told_before(snapshot),
            issued,
            call,
            profile=self.profile,
            issuer=self.session.issuer,
            is_heard=self.session.runtime.is_heard,
        )
        return None if after == NOTHING else after

    def tell(self, snapshot: Snapshot, record: SessionRecord) -> None:
        """Says what a saved result tells that is new."""
        telling.tell(self.told_before(snapshot), record.told, self.profile, self.emit)

    def keeping_changed(self, snapshot: Snapshot, record: SessionRecord) -> Flow[bool]:
        """Keeps a reused refresh token that came back changed or with another end, or what there
        is to tell, without a claim: if nobody holds one, nobody was faster, and we may write.
        Whether it is saved."""
        before = snapshot.record
        if before is None or snapshot.claim is not None:
            return False
        kept = (before.refresh_token, before.expires_at, before.told, before.output)
        is_kept = kept == (record.refresh_token, record.expires_at, record.told, record.output)
        if is_kept and not transitions.is_idle_news(before, record, self.profile):
            return False
        with contextlib.suppress(StoreError):
            yield from self.session.records.overwriting(snapshot, record)
            return True
        return False

    def token_of(self, heard: Heard, record: SessionRecord) -> Token:
        """Returns the token of our own exchange: its life counts from the sending."""
        return Token(
            heard.issued.access_token,
            token_type=heard.issued.token_type,
            expires_at_s=heard.at_s + heard.issued.expires_in,
            obtained_at_s=heard.at_wall_s,
            exchanged_at_s=heard.at_wall_s,
            generation=record.generation,
            ends_s=heard.at_boot_s + heard.issued.expires_in,
            life_s=heard.issued.expires_in,
            output=self.profile.output_of(record.output),
        )

    # What went wrong.

    def after_rejection(
        self, snapshot: Snapshot, exc: SessionRejectedError
    ) -> Flow[Token | Snapshot]:
        """The refresh token was refused: look whether there is a newer one; else the table goes on
        without it."""
        yield effects.Shield(False)
        self.rejected = exc
        self.lease.is_spent = False  # its outcome is known
        record = snapshot.record
        if record is not None and record.refresh_token is not None:
            token = record.refresh_token
            self.rejections[token] = self.rejections.get(token, 0) + 1
        self.emit("refresh-rejected", error=exc.error)
        if not exc.is_certain and not self.profile.signs_in_unattended:
            raise IssuerReplyError(
                exc.message, hint="The session is kept; the vendor's code is not a known one."
            ) from exc
        return (yield from self.reading())

    def after_refusal(
        self, snapshot: Snapshot, exc: CredentialsRefusedError, call: Call
    ) -> Flow[CredentialsRefusedError]:
        """Writes the refusal into the record where we hold it, and completes the error with its
        end."""
        self.emit("refused", error=exc.error)
        record = snapshot.record
        self.lease.is_spent = False  # its outcome is known
        if self.lease.claim is None or record is None:
            self.lease.is_left = True  # the attempt stays counted in a record that isn't ours
            yield effects.Shield(False)
            return exc
        if not self.is_own(snapshot):
            yield from self.lease.writing_back(snapshot, transitions.settled(record))
            yield effects.Shield(False)
            return exc
        if "client_assertion_file" in self.profile.options:
            exc.hint = (
                "See that the issuer trusts the assertion in `client_assertion_file` (its issuer,"
                " subject and audience), and that it is fresh. Another one is tried at once."
            )
        key, version = self.refusal_key(call)
        refused = transitions.refused_record(
            self.with_words(snapshot, record),
            key=key,
            version=version,
            error=exc.error,
            now=self.now(snapshot),
        )
        is_written = yield from self.lease.writing_back(snapshot, refused)
        yield effects.Shield(False)
        if not is_written:
            self.lease.is_left = True
        assert refused.refused is not None
        until = refused.refused.until
        return type(exc)(
            f"{self.profile.name}: {exc.message}; not tried again before {format_rfc3339(until)}",
            error=exc.error,
            until=until,
            hint=exc.hint,
        )

    def after_useless(
        self, snapshot: Snapshot, exc: IssuerReplyError, call: Call
    ) -> Flow[NightporterError]:
        """An answer without a token. At a sign-in it is a refusal where a token endpoint gave it;
        where somebody else did (a login page, a redirect), the attempt stays counted."""
        if call is Call.SIGN_IN and exc.is_refusal:
            refusal = CredentialsRefusedError(exc.message, error="no_token", hint=exc.hint)
            return (yield from self.after_refusal(snapshot, refusal, call))
        record = snapshot.record
        if self.lease.claim is not None and record is not None:
            self.lease.is_spent = False  # an answer came: nobody has to wait for another
            told = transitions.settled(self.with_words(snapshot, record))
            yield from self.lease.writing_back(snapshot, told)
        yield effects.Shield(False)
        return self.seed_doubted(snapshot, exc, call)

    def seed_doubted(
        self, snapshot: Snapshot, exc: IssuerReplyError, call: Call
    ) -> IssuerReplyError:
        """A token that has never been exchanged, and that the issuer calls a wrong request, may be
        none of its tokens: vault.ist says `invalid_request` where the request "does not contain a
        valid refresh token"."""
        record = snapshot.record
        is_new = record is not None and record.exchanged_at is None
        if call is not Call.REFRESH or exc.error != "invalid_request" or not is_new:
            return exc
        begin = "log in" if self.profile.grant.needs_person else "seed"
        return IssuerReplyError(
            f"{self.profile.name}: {exc.message}; perhaps what was stored is no refresh token of"
            f" this issuer: {begin} again",
            error=exc.error,
            hint=f"{remedy(self.profile)} If that changes nothing: {exc.hint}",
        )

    def refusal_key(self, call: Call) -> tuple[str | None, str]:
        """Returns what a refusal is keyed by: the credentials' key and version."""
        if self.known.credentials is not None and call is Call.SIGN_IN:
            return self.known.credentials.key, self.known.credentials.credentials.version
        if self.known.client is not None:
            return None, self.known.client.version
        return None, "unknown"

    def after_busy(
        self, snapshot: Snapshot, exc: IssuerBusyError, call: Call
    ) -> Flow[Token | Snapshot]:
        """The issuer said that it did nothing: tried again within the ask's time, else the fleet
        leaves it alone for as long as it asked."""
        yield effects.Shield(False)
        self.lease.is_spent = False
        self.tries += 1
        pause_s = self.pause_s(exc)
        self.emit("exchange-failed", error=exc.reference)
        if self.tries < MAX_TRIES and pause_s < self.ask_left_s():
            yield from effects.sleeping(pause_s)
            return snapshot if self.lease.claim else (yield from self.reading())
        asked_s = RETRY_AFTER_S if exc.retry_after_s is None else exc.retry_after_s
        until = int(self.now(snapshot) + min(max(asked_s, 1.0), RETRY_AFTER_MAX_S))
        yield from self.keeping_busy(snapshot, call, until)
        raise IssuerBusyError(
            f"{self.profile.name}: {exc.message}; not asked again before {format_rfc3339(until)}",
            retry_after_s=float(asked_s),
            hint=exc.hint,
        ) from exc

    def keeping_busy(self, snapshot: Snapshot, call: Call, until: int) -> Flow[None]:
        """Tells the fleet, as far as we may write."""
        record = snapshot.record
        if record is None or not self.is_own(snapshot):
            return
        if self.lease.claim is not None:
            base = self.lease.base or record
            kept = transitions.given_back(record, base)
            yield from self.lease.writing_back(
                snapshot, transitions.busy_record(kept, call.value, until)
            )
        elif snapshot.claim is None:
            with contextlib.suppress(StoreError):
                yield from self.session.records.overwriting(
                    snapshot, transitions.busy_record(record, call.value, until)
                )

    def after_lost(
        self, snapshot: Snapshot, exc: OutcomeUnknownError, call: Call
    ) -> Flow[Token | Snapshot]:
        """The outcome is unknown. A reused token or a sign-in is sent once more, each under a claim
        that counts it; a rotating one within the vendor's grace, again and again; a strict one not
        before the claim has lapsed."""
        yield effects.Shield(False)
        self.lost = exc
        self.tries += 1
        self.emit("exchange-failed", error=exc.reference)
        if call is Call.REFRESH and self.profile.may_rotate:
            return (yield from self.after_lost_rotation(snapshot))
        if self.resends or self.tries >= MAX_TRIES:
            self.lease.is_left = True
            raise exc
        self.resends += 1
        pause_s = self.pause_s(exc)
        if pause_s >= self.time_left_s():
            self.lease.is_left = True
            raise exc
        yield from effects.sleeping(pause_s)
        return (yield from self.reading())

    def after_lost_rotation(self, snapshot: Snapshot) -> Flow[Token | Snapshot]:
        """Raises: the unknown outcome, where nobody may send again yet."""
        assert self.lost is not None
        record = snapshot.record
        assert record is not None
        left_s = transitions.grace_left_s(record, self.profile, now=self.now(snapshot))
        pause_s = RESEND_FIRST_S * 2**self.resends
        self.resends += 1
        if pause_s < left_s:
            yield from effects.sleeping(pause_s)
            return (yield from self.reading())
        # The claim is left to lapse: the next holder sends the token once more, not we in a hurry.
        self.lease.is_left = True
        return (yield from self.looking_for_others())

    def looking_for_others(self) -> Flow[Snapshot]:
        """After an unknown outcome, looks at the record until the deadline of the ask, and
        adopts what another machine wrote."""
        assert self.lost is not None
        runtime = self.session.runtime
        while self.ask.deadline - runtime.monotonic() > 1.0:
            yield from effects.sleeping(runtime.uniform(0.5, 1.0))
            snapshot = yield from self.reading()
            if snapshot.generation > (self.news_from or 0):
                return snapshot
        raise self.lost

    def after_unsent(self, snapshot: Snapshot, exc: IssuerError) -> Flow[Token | Snapshot]:
        """Certainly not sent: tried again within the time."""
        yield effects.Shield(False)
        self.tries += 1
        self.emit("exchange-failed", error=exc.reference)
        pause_s = self.pause_s(exc)
        if not exc.retryable or self.tries >= MAX_TRIES or pause_s >= self.ask_left_s():
            raise exc
        yield from effects.sleeping(pause_s)
        return snapshot if self.lease.claim else (yield from self.reading())

    def pause_s(self, exc: NightporterError) -> float:
        """Returns how long to wait before the next try."""
        return Backoff().pause_s(self.tries, self.session.runtime.uniform, exc.retry_after_s)

    def ask_left_s(self) -> float:
        """Seconds until who asked stops waiting."""
        return self.ask.deadline - self.session.runtime.monotonic()

    # Ends.

    def serving(self, snapshot: Snapshot) -> Flow[Token]:
        """Gives an unused claim back, and hands out the shared access token."""
        record = snapshot.record
        assert record is not None
        assert record.access_token is not None
        assert record.access_token_expires_at is not None
        now = self.now(snapshot)
        runtime = self.session.runtime
        left_s = record.access_token_expires_at - now
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
            ends_s=runtime.boot() + left_s,
            life_s=left_s,
            output=self.profile.output_of(record.output),
        )

    def marking(self, snapshot: Snapshot) -> Flow[Snapshot]:
        """Marks a refresh token that the issuer has refused twice, so that nobody sends it again.
        It stays in the record: it is the only copy."""
        assert snapshot.record is not None
        error = self.rejected.error if self.rejected else ""
        marked = transitions.marked_record(
            self.with_words(snapshot, snapshot.record), error=error, now=self.now(snapshot)
        )
        if not (yield from self.lease.writing_back(snapshot, marked)):
            self.can_mark = False
        raise self.person_needed()

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
        bar, until = self.refresh_bar(snapshot)
        if self.holding(snapshot) not in (Holding.ALIVE, Holding.DOUBTED):
            bar, until = self.sign_in_bar(snapshot)
        when = format_rfc3339(until)
        if bar is Bar.UNSETTLED:
            if self.lost is not None:
                return self.lost
            return SignInUnsettledError(
                f"{self.profile.name}: two sign-ins ended without a known outcome; no other is"
                f" tried before {when}"
            )
        return IssuerBusyError(
            f"{self.profile.name}: the issuer asked not to be called again before {when}",
            retry_after_s=max(0.0, until - self.now(snapshot)),
        )

    def newer(self) -> StoreError:
        """Returns the error of a record that only a newer version may write."""
        return NewerRecordError(
            f"{self.profile.name}: the record at {self.profile.refresh_token!r} was written by a"
            " newer nightporter"
        )

    def person_needed(self) -> LoginRequiredError:
        """Returns the error that says who must act."""
        name = self.profile.name
        if self.rejected:
            return SessionRejectedError(
                f"{name}: {self.rejected.message}, and there is no way to sign in unattended",
                error=self.rejected.error,
                hint=remedy(self.profile),
            )
        return LoginRequiredError(
            f"{name}: there is no session to refresh", hint=remedy(self.profile)
        )

    # Reports.

    def emit(self, event: str, **facts: Any) -> None:
        """Reports an event; between an answer and its save it is held back."""
        if self.held_back is None:
            self.session.records.emit(event, **facts)
            return
        self.held_back.append(lambda: self.session.records.emit(event, **facts))

    def showing(self) -> Flow[None]:
        """Reports what was held back, once nothing can be lost by it any more."""
        yield from ()
        reports, self.held_back = self.held_back or [], None
        for report in reports:
            report()
