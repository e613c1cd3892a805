"""One ask, driven through the table of `lifecycle`: read, decide, claim, send, save.

Nothing is sent without the claim that the table asks for, and nothing is handed out before its
result is written.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from nightporter.core.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerError,
    IssuerReplyError,
    LoginRequiredError,
    OutcomeUnknownError,
    SecretNotFoundError,
    SessionRejectedError,
    StoreDeniedError,
    StoreError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import BACK_OFF_MAX_S, CLAIM_S, EXCHANGE_S, SEND_WHILE_LEFT_S
from nightporter.core.model import (
    Ask,
    Credentials,
    Identity,
    IssuedTokens,
    Profile,
    Refusal,
    Role,
    Rotation,
    Secret,
    SessionRecord,
    Token,
)
from nightporter.issuers.oauth import Call, Request
from nightporter.session.lease import Hold
from nightporter.session.lifecycle import (
    Claimed,
    Holding,
    Refused,
    Situation,
    Step,
    back_off_s,
    next_row,
)
from nightporter.session.repository import MAX_TRIES, Session, View

SKEW_WORTH_SAYING_S = 5.0  # a claim's own margin
CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client"})


def obtain(session: Session, ask: Ask) -> Token:
    """A token that is good for the ask, with as few exchanges in the fleet as it takes.

    Raises: CredentialsRefusedError, LoginRequiredError, StoreError, IssuerError.
    """
    if session.profile.role is Role.READ_ONLY:
        return session.published(ask)
    session.consume_spill(ask.deadline)
    return _Attempt(session, ask).run()


def remedy(profile: Profile) -> str:
    """How a session is begun where none can be begun unattended."""
    if profile.role is Role.REFRESH_ONLY and profile.grant in ("password", "client_credentials"):
        return (
            f'A machine with role "full" must sign in: run `nightporter rotate {profile.name}`'
            " there."
        )
    if profile.grant == "refresh_token":
        return f"Run `nightporter seed {profile.name}` with a fresh refresh token."
    return f"Run `nightporter login {profile.name}`."


class _Attempt:
    """From the first read to a token or an error."""

    def __init__(self, session: Session, ask: Ask) -> None:
        self.session = session
        self.profile = session.profile
        self.around = session.around
        self.ask = ask
        self.hold = Hold(session)
        self.rejected: SessionRejectedError | None = None
        self.rejected_tokens: set[Secret] = set()
        self.first_generation: int | None = None
        self.credentials: Credentials | None = None
        self.client: Credentials | None = None
        self.watched: tuple[str, float] = ("", 0.0)
        self.tries = 0
        self.waits = 0
        self.resent = False

    # The loop.

    def run(self) -> Token:
        view = self.session.read(self.ask.deadline)
        try:
            while True:
                if self.first_generation is None:
                    self.first_generation = view.generation
                token, view = self.step(view)
                if token and token.expires_at_s > self.around.clock():
                    return token
                if token:  # we slept (a frozen machine) from its issue to its end
                    view = self.session.read(self.ask.deadline)
        except Exception:
            # Whatever ended us before our claim was used up must not keep the others waiting for
            # it.
            if not self.hold.is_left:
                self.hold.release(self.hold.view)
            raise

    def step(self, view: View) -> tuple[Token | None, View]:
        """Does what the table says: a token, or the view to go on from."""
        row = next_row(self.situation(view))
        self.emit("step", row=row.name, generation=view.generation)
        if row.step is Step.SERVE:
            return self.shared_token(view), view
        if row.step is Step.REFUSE:
            raise self.remembered(view)
        if row.step is Step.ASK_PERSON:
            raise self.person_needed(view)
        if row.step is Step.WAIT:
            self.wait(view)
            return None, self.session.read(self.ask.deadline)
        if row.step in (Step.CLAIM, Step.TAKE_OVER):
            return None, self.write_claim(view, is_take_over=row.step is Step.TAKE_OVER)
        return self.exchange(view, Call.REFRESH if row.step is Step.REFRESH else Call.SIGN_IN)

    # What we see.

    def situation(self, view: View) -> Situation:
        holding = self.holding(view)
        return Situation(
            holding=holding,
            claimed=self.claimed(view),
            refused=self.refused(view),
            is_shared_fresh=holding is not Holding.FOREIGN and self.is_shared_fresh(view),
            is_exclusive=self.profile.is_exclusive,
            is_unattended=self.profile.signs_in_unattended,
        )

    def holding(self, view: View) -> Holding:
        if view.foreign:
            self.emit("foreign-record", detail=view.foreign.reason)
            return Holding.FOREIGN
        record = view.record
        if record is None:
            return Holding.ABSENT
        if not record.identity.matches(self.identity_against(record)):
            self.emit("foreign-record", detail="it is another identity's session")
            return Holding.FOREIGN
        if record.refresh_token is None:
            return Holding.EMPTY
        if record.expires_at is not None and record.expires_at <= self.around.clock():
            return Holding.ABSENT
        if record.refresh_token in self.rejected_tokens:
            return Holding.REJECTED
        return Holding.REPLACING if self.ask.is_sign_in else Holding.ALIVE

    def identity_against(self, record: SessionRecord) -> Identity:
        """Our identity, as far as it must be known to judge this record.

        Where the profile names no user, the credentials say who it is; a consumer that may not read
        them can't know, and takes the record's word.
        """
        is_open = self.profile.username is None and record.identity.username is not None
        if is_open and self.credentials is None and self.profile.signs_in_unattended:
            with contextlib.suppress(SecretNotFoundError, StoreDeniedError):
                self.credentials = self.session.load_credentials(self.ask.deadline)
        needs_client = self.session.issuer.needs_client(self.profile)
        if needs_client and record.identity.client_id and self.client is None:
            with contextlib.suppress(SecretNotFoundError, StoreDeniedError):
                self.client = self.session.load_client(self.ask.deadline)
        return self.session.identity(self.credentials or self.client)

    def is_shared_fresh(self, view: View) -> bool:
        record = view.record
        if record is None or record.access_token is None or record.access_token_expires_at is None:
            return False
        if not self.profile.share_access_token or self.ask.is_forced or self.ask.is_sign_in:
            return False
        left_s = record.access_token_expires_at - self.around.clock()
        # What a holder wrote while we waited is adopted, whatever it has left: the next exchange
        # would bring no more.
        is_news = (
            self.waits > 0
            and self.first_generation is not None
            and record.generation > self.first_generation
        )
        is_enough = left_s > self.ask.min_ttl_s or (is_news and left_s > 0)
        is_better = record.access_token_expires_at > self.ask.better_than
        return is_enough and is_better and not self.ask.is_refused(record.access_token.reveal())

    def claimed(self, view: View) -> Claimed:
        claim = view.claim
        if claim is None:
            return Claimed.FREE
        if self.hold.claim and claim.nonce == self.hold.claim.nonce:
            is_enough = self.hold.left_s(claim) > SEND_WHILE_LEFT_S and not self.hold.is_spent
            return Claimed.OURS if is_enough else Claimed.OURS_SHORT
        if self.watched[0] != claim.nonce + claim.holder:
            self.watched = (claim.nonce + claim.holder, self.around.monotonic())
        # A holder whose clock runs far ahead would keep its claim for ever: no claim outlives our
        # own watch of it.
        has_run_out = (
            self.around.clock() >= claim.until
            or self.around.monotonic() - self.watched[1] > CLAIM_S + 1
        )
        if has_run_out or self.around.is_dead(claim, self.around.machine):
            return Claimed.LAPSED
        return Claimed.BUSY

    def refused(self, view: View) -> Refused:
        """What the remembered refusal forbids: nothing, once the credentials have changed or its
        time has passed."""
        refusal = view.record.refused if view.record else None
        now = self.around.clock()
        # An end further off than any back-off of ours was written by a clock that runs ahead.
        is_over = refusal is None or not now < refusal.until <= now + BACK_OFF_MAX_S + 3600
        if refusal is None or is_over or self.ask.retry_refused:
            return Refused.NOTHING
        kind = Refused.CLIENT if refusal.error in CLIENT_ERRORS else Refused.SIGN_IN
        if kind is Refused.SIGN_IN and not self.profile.signs_in_unattended:
            return Refused.NOTHING
        if self.has_credentials:
            try:
                version = self.present_version()
            except SecretNotFoundError:
                return kind
            if version != refusal.credentials_version and not refusal.credentials_version.endswith(
                f"/{version}"
            ):
                return Refused.NOTHING
        return kind

    @property
    def has_credentials(self) -> bool:
        """Whether there is a secret whose version a refusal can be keyed by."""
        return self.profile.signs_in_unattended or self.session.issuer.needs_client(self.profile)

    def present_version(self) -> str:
        if self.profile.signs_in_unattended:
            self.credentials = self.credentials or self.session.load_credentials(self.ask.deadline)
            return self.credentials.version
        self.client = self.client or self.session.load_client(self.ask.deadline)
        return self.client.version

    # Steps.

    def wait(self, view: View) -> None:
        self.waits += 1
        pause_s = self.around.uniform(0.4, 1.0) * min(1.0, 0.15 * 1.4**self.waits)
        if self.around.monotonic() + pause_s >= self.ask.deadline:
            claim = view.claim
            raise ClaimBusyError(
                f"{self.profile.name}: {claim.holder if claim else 'another'} was still exchanging"
                f" the session (its claim ends {format_rfc3339(claim.until) if claim else 'soon'})"
            )
        self.around.sleep(pause_s)

    def write_claim(self, view: View, *, is_take_over: bool) -> View:
        self.around.check_exchange()
        if self.around.monotonic() >= self.ask.deadline:
            raise ClaimBusyError(
                f"{self.profile.name}: the time was over before the session could be claimed"
            )
        # What is missing is found before the claim, and nothing but the answer is waited for under
        # it.
        if self.holding(view) is Holding.ALIVE:
            self.refresh_request(view)
        else:
            self.sign_in_request()
        record = self.base_record(view)
        taken = self.hold.take(record, view, self.ask.deadline, is_take_over=is_take_over)
        if taken is not None:
            return taken
        self.around.sleep(self.around.uniform(0.02, 0.15))
        return self.session.read(self.ask.deadline)

    def base_record(self, view: View) -> SessionRecord:
        """The record that a claim is written into: what is there, or a fresh one that goes on
        counting."""
        holding = self.holding(view)
        if view.record and holding not in (Holding.FOREIGN, Holding.ABSENT):
            return view.record
        unknown = view.record.unknown if view.record and holding is Holding.ABSENT else {}
        refused = view.record.refused if view.record and holding is Holding.ABSENT else None
        return SessionRecord(
            identity=self.session.identity(self.credentials),
            generation=view.highest_generation,
            unknown=unknown,
            refused=refused,
            by=self.around.host,
        )

    def sign_in_request(self) -> Request:
        self.credentials = self.credentials or self.session.load_credentials(self.ask.deadline)
        try:
            return self.session.issuer.sign_in_request(self.addressed(), self.credentials)
        except ValueError as exc:
            raise SecretNotFoundError(
                f"the secret {self.profile.credentials!r} can't be used: {exc}"
            ) from exc

    def addressed(self) -> Profile:
        return self.session.addressed(self.ask.deadline)

    # Exchanges.

    def exchange(self, view: View, call: Call) -> tuple[Token | None, View]:
        """Sends and saves. A token, or the view to go on from."""
        needs_claim = call is Call.SIGN_IN or self.profile.is_exclusive
        request = self.sign_in_request() if call is Call.SIGN_IN else self.refresh_request(view)
        if needs_claim and self.claimed(view) is not Claimed.OURS:
            return (
                None,
                view,
            )  # building the request took so long that the claim is too short to send under
        self.around.check_exchange()
        if self.around.monotonic() >= self.ask.deadline:
            raise ClaimBusyError(
                f"{self.profile.name}: the time was over before anything could be sent"
            )
        try:
            with self.around.hold_signals() if needs_claim else contextlib.nullcontext():
                token, identity = self.send_and_save(view, call, request, needs_claim)
        except SessionRejectedError as exc:
            return None, self.after_rejection(view, exc)
        except CredentialsRefusedError as exc:
            raise self.after_refusal(view, exc) from exc
        except IssuerError as exc:
            return None, self.after_failure(view, exc, call)
        if token is None:
            return None, self.session.read(self.ask.deadline)
        if self.profile.role is Role.FULL:
            self.session.publish_if_possible(identity, token, self.ask.deadline)
        return token, view

    def send_and_save(
        self, view: View, call: Call, request: Request, needs_claim: bool
    ) -> tuple[Token | None, Identity]:
        """The stretch that no signal may cut: from the first byte sent to the result written. None:
        fenced off."""
        sent_at = self.around.clock()
        try:
            issued = self.send(request, call)
        except IssuerReplyError as exc:
            if isinstance(exc.refresh_token, Secret) and needs_claim:
                self.hold.save(view, self.renewed(view, exc.refresh_token, sent_at))
            raise
        record = self.new_record(view, call, issued, sent_at)
        if needs_claim:
            if not self.hold.save(view, record):
                return None, record.identity
        elif (
            record.refresh_token != (view.record.refresh_token if view.record else None)
            and view.claim is None
        ):
            # A reused token that came back changed, without a claim: kept if nobody was faster, and
            # if we may write.
            with contextlib.suppress(StoreError):
                self.session.overwrite(view, record)
        token = Token(
            issued.access_token,
            token_type=issued.token_type,
            expires_at_s=int(sent_at) + issued.expires_in,
            obtained_at_s=sent_at,
            exchanged_at_s=sent_at,
            generation=record.generation,
        )
        return token, record.identity

    def refresh_request(self, view: View) -> Request:
        assert view.record is not None
        assert view.record.refresh_token is not None
        if self.session.issuer.needs_client(self.profile):
            self.client = self.client or self.session.load_client(self.ask.deadline)
        try:
            return self.session.issuer.refresh_request(
                self.addressed(), view.record.refresh_token, self.client
            )
        except ValueError as exc:
            path = self.profile.client or self.profile.credentials
            raise SecretNotFoundError(f"the secret {path!r} can't be used: {exc}") from exc

    def send(self, request: Request, call: Call) -> IssuedTokens:
        timeout_s = EXCHANGE_S
        if call is Call.SIGN_IN or self.profile.is_resend_safe:
            timeout_s = min(EXCHANGE_S, max(0.5, self.ask.deadline - self.around.monotonic()))
        # else not cut short by --timeout: a rotated token would be lost with the answer.
        self.emit("send", call=call.value)
        response = self.session.sender.send(request, timeout_s=timeout_s)
        self.emit("answered", call=call.value, status=response.status)
        if response.skew_s is not None and abs(response.skew_s) > SKEW_WORTH_SAYING_S:
            self.emit("clock-skew", issuer_is_ahead_s=round(response.skew_s))
        return self.session.issuer.parse(response, call)

    def new_record(
        self, view: View, call: Call, issued: IssuedTokens, sent_at: float
    ) -> SessionRecord:
        assert view.record is not None
        record = replace(
            view.record,
            generation=view.record.generation + 1,
            claim=None,
            by=self.around.host,
            access_token=issued.access_token if self.profile.share_access_token else None,
            access_token_expires_at=(
                int(sent_at) + issued.expires_in if self.profile.share_access_token else None
            ),
            token_type=issued.token_type,
        )
        issued_at = int(sent_at)
        if call is Call.SIGN_IN:
            expires_at = self.session.issuer.refresh_expires_at(self.profile, issued_at)
            return replace(
                record,
                identity=self.session.identity(self.credentials),
                refresh_token=issued.refresh_token,
                issued_at=issued_at,
                expires_at=expires_at if issued.refresh_token else None,
                refused=None,
            )
        if issued.refresh_token is None or issued.refresh_token == record.refresh_token:
            return record
        record = replace(record, refresh_token=issued.refresh_token)
        if self.profile.rotation is Rotation.REUSED:
            return record  # a refresh never extends the life of a token that is reused (Pitchpoint)
        return replace(
            record,
            issued_at=issued_at,
            expires_at=self.session.issuer.refresh_expires_at(self.profile, issued_at),
        )

    def renewed(self, view: View, refresh_token: Secret, sent_at: float) -> SessionRecord:
        """Our record with the refresh token of an answer that was no use otherwise: the old one may
        be dead by now."""
        assert view.record is not None
        issued_at = int(sent_at)
        return replace(
            view.record,
            refresh_token=refresh_token,
            generation=view.record.generation + 1,
            claim=None,
            issued_at=issued_at,
            expires_at=self.session.issuer.refresh_expires_at(self.profile, issued_at),
            by=self.around.host,
        )

    # What went wrong.

    def after_rejection(self, view: View, exc: SessionRejectedError) -> View:
        """The refresh token was refused: look whether there is a newer one; else the table goes on
        without it."""
        self.rejected = exc
        if view.record and view.record.refresh_token:
            self.rejected_tokens.add(view.record.refresh_token)
        self.emit("refresh-rejected", error=exc.error)
        if not exc.is_certain and not self.profile.signs_in_unattended:
            raise IssuerReplyError(
                exc.message, hint="The session is kept; the vendor's code is not a known one."
            ) from exc
        return (
            view
            if self.claimed(view) in (Claimed.OURS, Claimed.OURS_SHORT)
            else self.session.read(self.ask.deadline)
        )

    def after_refusal(self, view: View, exc: CredentialsRefusedError) -> CredentialsRefusedError:
        """Writes the refusal into the record where we hold it, and completes the error with its
        end."""
        self.emit("refused", error=exc.error)
        if self.hold.claim is None or view.record is None:
            return exc
        before = view.record.refused
        version = self.present_version() if self.has_credentials else "unknown"
        count = before.count + 1 if before and before.credentials_version == version else 1
        until = int(self.around.clock()) + back_off_s(count)
        refusal = Refusal(
            credentials_version=version, until=until, count=count, error=exc.error or "unnamed"
        )
        is_alive = self.holding(view) in (Holding.ALIVE, Holding.REPLACING)
        record = replace(
            view.record,
            claim=None,
            refused=refusal,
            refresh_token=view.record.refresh_token if is_alive else None,
            expires_at=view.record.expires_at if is_alive else None,
        )
        self.hold.write_back(view, record)
        return type(exc)(
            f"{self.profile.name}: {exc.message}; not tried again before {format_rfc3339(until)}",
            error=exc.error,
            until=until,
            hint=exc.hint,
        )

    def after_failure(self, view: View, exc: IssuerError, call: Call) -> View:
        """Known not to be done: try again within the time. Outcome unknown: only where a second
        send does no harm."""
        self.tries += 1
        is_unknown = isinstance(exc, OutcomeUnknownError)
        may_resend = call is Call.SIGN_IN or self.profile.is_resend_safe
        again = exc.retryable if not is_unknown else may_resend and not self.resent
        pause_s = self.session.pause_s(exc, self.tries)
        is_late = self.around.monotonic() + pause_s >= self.ask.deadline
        self.emit("exchange-failed", error=exc.reference)
        if not again or is_late or self.tries >= MAX_TRIES:
            if is_unknown and not may_resend:
                # The claim is left to run out: the next holder sends the token once more, not we in
                # a hurry.
                self.hold.is_left = True
            raise exc
        if is_unknown:
            self.resent = self.hold.is_spent = True
        self.around.sleep(pause_s)
        return view if self.hold.claim else self.session.read(self.ask.deadline)

    # Ends.

    def shared_token(self, view: View) -> Token:
        record = view.record
        assert record is not None
        assert record.access_token is not None
        assert record.access_token_expires_at is not None
        self.hold.release(view)
        self.emit("adopted", generation=record.generation)
        return Token(
            record.access_token,
            token_type=record.token_type,
            expires_at_s=record.access_token_expires_at,
            obtained_at_s=self.around.clock(),
            generation=record.generation,
        )

    def remembered(self, view: View) -> CredentialsRefusedError:
        refusal = view.record.refused if view.record else None
        error, until = (refusal.error, refusal.until) if refusal else ("", None)
        when = f" before {format_rfc3339(until)}" if until else ""
        return CredentialsRefusedError(
            f"{self.profile.name}: the issuer refused these credentials ({error}); not tried"
            f" again{when}",
            error=error,
            until=until,
        )

    def person_needed(self, view: View) -> LoginRequiredError:
        """Empties a record whose token is known to be dead, so that nobody else sends it, and says
        who must act."""
        if self.rejected and view.record and self.hold.claim:
            self.hold.write_back(
                view,
                replace(
                    view.record,
                    claim=None,
                    refresh_token=None,
                    expires_at=None,
                    access_token=None,
                    access_token_expires_at=None,
                    generation=view.record.generation + 1,
                ),
            )
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

    def emit(self, event: str, **facts: Any) -> None:
        self.around.emit(event, profile=self.profile.name, **facts)
