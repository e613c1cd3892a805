"""One exchange with the issuer: the request, the answer, the save, and what each way of failing
means for the record and for the ask.

Between the answer and its save nothing happens but the save; signals wait, and reports are held
back.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerError,
    IssuerReplyError,
    NightporterError,
    OutcomeUnknownError,
    SecretNotFoundError,
    SessionRejectedError,
    StoreError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import (
    EXCHANGE_S,
    LISTEN_S,
    RESEND_FIRST_S,
    RETRY_AFTER_MAX_S,
    RETRY_AFTER_S,
    SECOND_SEND_S,
    SKEW_S,
)
from nightporter.core.model import (
    Ask,
    IssuedTokens,
    Profile,
    Role,
    Secret,
    SessionRecord,
    Token,
)
from nightporter.core.told import NOTHING, Told
from nightporter.core.values import dataclass, field, replace
from nightporter.issuers.oauth import Call, Request, Response
from nightporter.session import effects, telling, transitions
from nightporter.session.driver import Backoff
from nightporter.session.effects import Flow
from nightporter.session.lease import MAX_TRIES, Lease
from nightporter.session.lifecycle import (
    Holding,
)
from nightporter.session.repository import Session, new_lineage
from nightporter.session.sight import Known, Sight
from nightporter.session.transitions import Snapshot


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
class Exchange:
    """What is sent for one ask, and what comes of it.

    `tries`: exchanges that failed. `resends`: of a request whose outcome is unknown. `rejected`:
    the last refusal of a refresh token; `words`: the issuer's about it. `deadline` (monotonic
    seconds): the ask's, or later once the attempt goes on in the background.
    """

    session: Session
    ask: Ask
    rejected: SessionRejectedError | None = None
    tries: int = 0
    resends: int = 0
    words: str = ""
    is_apart: bool = False
    held_back: list[Callable[[], None]] | None = None
    deadline: float = 0.0
    lease: Lease = field(init=False)
    sight: Sight = field(init=False)

    def __post_init__(self) -> None:
        self.lease = Lease(self.session.records)
        self.sight = Sight(self.session, self.ask, self.lease)
        self.deadline = self.ask.deadline

    @property
    def profile(self) -> Profile:
        """The profile that is asked for."""
        return self.session.profile

    @property
    def known(self) -> Known:
        """What was learned of the secrets behind the profile."""
        return self.sight.known

    def reading(self) -> Flow[Snapshot]:
        """Looks at the record."""
        snapshot = yield from self.session.records.reading(self.deadline)
        self.lease.recognise(snapshot)
        return snapshot

    def check_time(self, call: Call) -> None:
        """Raises: ClaimBusyError, or what Lambda's clock forbids, when an exchange can't be begun
        any more."""
        is_strict = call is Call.REFRESH and self.profile.is_strict
        self.session.runtime.check_exchange(is_strict)
        if self.time_left_s() <= 0:
            if self.sight.lost is not None:
                raise self.sight.lost
            raise ClaimBusyError(
                f"{self.profile.name}: the time was over before the session could be claimed"
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
            raise self.unusable(self.profile.credentials, exc) from exc

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
            raise self.unusable(path, exc) from exc

    def unusable(self, path: str | None, exc: ValueError) -> SecretNotFoundError:
        """Returns the error of a secret that lacks what a request needs; of the profile where it
        names no secret."""
        what = f"profile {self.profile.name!r}" if path is None else f"the secret {path!r}"
        return SecretNotFoundError(f"{what} can't be used: {exc}")

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
        return self.sight.holding(snapshot) is Holding.DOUBTED

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
        at_s, at_boot_s = self.sight.best_time_s(snapshot), runtime.boot()
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
        self.sight.says_used = self.sight.says_used or telling.says_used(response)
        if self.words:
            self.emit("issuer-says", words=self.words)

    def with_words(self, snapshot: Snapshot, record: SessionRecord) -> SessionRecord:
        """Returns the record that keeps them; another identity's keeps every member."""
        if not self.sight.is_own(snapshot):
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
            self.emit("saved", **telling.lineage(record))

    def settling(
        self, snapshot: Snapshot, call: Call, heard: Heard, needs_claim: bool
    ) -> Flow[Token | Snapshot]:
        """Saves the result before anything is handed out. A snapshot: we were fenced off."""
        record = self.result_record(snapshot, call, heard)
        if needs_claim:
            self.emit("save")
            is_saved = yield from self.lease.saving(snapshot, record)
            if is_saved:
                self.emit("saved", **telling.lineage(record))
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
        end = functools.partial(self.session.issuer.refresh_expires_at, self.profile, heard.at_s)
        if call is Call.REFRESH:
            return transitions.refreshed_record(
                record,
                self.profile,
                heard.issued,
                sent_at=heard.at_s,
                refresh_end=end,
                by=self.session.runtime.host,
            )
        return transitions.signed_in_record(
            record,
            self.profile,
            heard.issued,
            identity=self.sight.identity(),
            key=self.known.credentials.key if self.known.credentials else None,
            lineage=new_lineage(),
            sent_at=heard.at_s,
            refresh_expires_at=end(),
            by=self.session.runtime.host,
        )

    def base_of_result(self, snapshot: Snapshot) -> SessionRecord:
        """Returns the record that a result goes on from."""
        if snapshot.record is not None:
            return snapshot.record
        return transitions.fresh_record(
            snapshot, self.sight.identity(), by=self.session.runtime.host
        )

    def told_before(self, snapshot: Snapshot) -> Told | None:
        """Returns what our session's record tells."""
        record = snapshot.record
        return record.told if record is not None and self.sight.is_own(snapshot) else None

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
        Returns whether what there is to tell is saved."""
        before = snapshot.record
        if before is None or snapshot.claim is not None:
            return False
        if self.profile.role is not Role.FULL:
            # A consumer needs no permission to write, and doesn't try to for people's sake.
            record = replace(record, told=before.told)
        kept = (before.refresh_token, before.expires_at, before.told, before.output)
        is_kept = kept == (record.refresh_token, record.expires_at, record.told, record.output)
        if is_kept and not transitions.is_idle_news(before, record, self.profile):
            return False
        with contextlib.suppress(StoreError):
            yield from self.session.records.overwriting(snapshot, record)
            return self.profile.role is Role.FULL
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
            self.sight.rejections[token] = self.sight.rejections.get(token, 0) + 1
        self.emit("refresh-rejected", error=exc.error)
        self.note_other_user_of(snapshot)
        if not exc.is_certain and not self.profile.signs_in_unattended:
            raise IssuerReplyError(
                exc.message, hint="The session is kept; the vendor's code is not a known one."
            ) from exc
        return (yield from self.reading())

    def note_other_user_of(self, snapshot: Snapshot) -> None:
        """A token that came a second time, and that none of us had sent before, was sent by
        somebody else."""
        sight = self.sight
        is_known = sight.is_elsewhere or sight.lost is not None or self.lease.was_sent_before
        if is_known or not sight.says_used or not self.profile.may_rotate:
            return
        sight.is_elsewhere = True
        self.emit("used-elsewhere", **telling.held_by(snapshot.record))

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
        if not self.sight.is_own(snapshot):
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
            now=self.sight.now(snapshot),
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
            return (
                self.known.credentials.key,
                self.known.credentials.credentials.version,
            )
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
        until = int(self.sight.now(snapshot) + min(max(asked_s, 1.0), RETRY_AFTER_MAX_S))
        yield from self.keeping_busy(snapshot, call, until)
        raise IssuerBusyError(
            f"{self.profile.name}: {exc.message}; not asked again before {format_rfc3339(until)}",
            retry_after_s=float(asked_s),
            hint=exc.hint,
        ) from exc

    def keeping_busy(self, snapshot: Snapshot, call: Call, until: int) -> Flow[None]:
        """Tells the fleet, as far as we may write."""
        record = snapshot.record
        if record is None or not self.sight.is_own(snapshot):
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
        self.sight.lost = exc
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
        assert self.sight.lost is not None
        record = snapshot.record
        assert record is not None
        left_s = transitions.grace_left_s(record, self.profile, now=self.sight.now(snapshot))
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
        assert self.sight.lost is not None
        runtime = self.session.runtime
        while self.ask.deadline - runtime.monotonic() > 1.0:
            yield from effects.sleeping(runtime.uniform(0.5, 1.0))
            snapshot = yield from self.reading()
            if snapshot.generation > (self.sight.news_from or 0):
                return snapshot
        raise self.sight.lost

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

    # Time.

    def pause_s(self, exc: NightporterError) -> float:
        """Returns how long to wait before the next try."""
        return Backoff().pause_s(self.tries, self.session.runtime.uniform, exc.retry_after_s)

    def ask_left_s(self) -> float:
        """Seconds until who asked stops waiting."""
        return self.ask.deadline - self.session.runtime.monotonic()

    def time_left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.session.runtime.monotonic()

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
