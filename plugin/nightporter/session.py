"""One session, driven through its life: read, decide, claim, send, save.

`lifecycle` decides; this room reads and writes the store, sends to the issuer, and keeps three promises: nothing is
sent without the claim that the table asks for, a result is written only over one's own claim and before anything is
handed out, and a result that can't be written is kept in a file. Rules and numbers: contract, section 6.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from nightporter import process
from nightporter.errors import (
    ClaimBusyError,
    CredentialsRefusedError,
    IssuerError,
    IssuerReplyError,
    LoginRequiredError,
    NightporterError,
    NothingPublishedError,
    OutcomeUnknownError,
    ResultSpilledError,
    SecretNotFoundError,
    SessionRejectedError,
    StoreDeniedError,
    StoreError,
    StoreRolledBackError,
    VersionConflictError,
    WriteBudgetError,
)
from nightporter.expiry import DAY_S, format_rfc3339, parse_rfc3339
from nightporter.issuers import Issuer
from nightporter.lifecycle import (
    BACK_OFF_MAX_S,
    CLAIM_S,
    EXCHANGE_S,
    SEND_WHILE_LEFT_S,
    Claimed,
    Holding,
    Refused,
    Situation,
    Step,
    back_off_s,
    next_row,
)
from nightporter.model import (
    Ask,
    Claim,
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
from nightporter.oauth import Call, Request, Response, get_request
from nightporter.record import (
    ForeignRecord,
    Unreadable,
    parse_credentials,
    parse_published,
    parse_session,
    render_published,
    render_session,
)
from nightporter.spill import Spill, Spilled
from nightporter.stores import KEEP_EXPIRY, Store, Stored, Version

Emit = Callable[..., None]
T = TypeVar("T")
STORE_CALL_S = 5.0
WRITE_BACK_S = 3.0
MAX_TRIES = 5
SKEW_WORTH_SAYING_S = 5.0  # a claim's own margin
ASLEEP_TOO_LONG_S = 12 * 3600
ROLLED_BACK_AFTER_S = 5.0  # several times what a store needs to show a write to every reader
CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client"})
WRITES_PER_EXCHANGE = 2  # the claim and the result


class Sender(Protocol):
    def send(self, request: Request, *, timeout_s: float) -> Response:
        """Raises: IssuerUnreachableError, OutcomeUnknownError, IssuerReplyError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The world outside, so that a test or a simulation can be one."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    holder: str = ""
    machine: str | None = None
    is_dead: Callable[[Claim, str | None], bool] = process.is_dead
    emit: Emit = lambda _event, **_facts: None
    check_exchange: Callable[[], None] = lambda: None  # raises where nothing may be begun (Lambda)

    def new_claim(self) -> Claim:
        """A claim of this process, from now on."""
        return Claim(
            holder=self.holder,
            until=int(self.clock()) + CLAIM_S,
            nonce=secrets.token_hex(8),
            machine=self.machine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The record as we last saw or wrote it."""

    version: Version
    record: SessionRecord | None = None
    foreign: ForeignRecord | None = None

    @property
    def claim(self) -> Claim | None:
        return self.record.claim if self.record else self.foreign.claim if self.foreign else None


class Session:
    """The session of one profile. Not for two threads at a time; the broker sees to that."""

    def __init__(
        self,
        profile: Profile,
        *,
        store: Store,
        issuer: Issuer,
        sender: Sender,
        spill: Spill,
        around: Surroundings,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.profile = profile
        self.store = store
        self.issuer = issuer
        self.sender = sender
        self.spill = spill
        self.around = around
        self._on_close = on_close
        self._addressed: Profile | None = None

    def close(self) -> None:
        """Gives store and sender back to where they came from."""
        self._on_close()

    def obtain(self, ask: Ask) -> Token:
        """A token that is good for the ask, with as few exchanges in the fleet as it takes.

        Raises: CredentialsRefusedError, LoginRequiredError, StoreError, IssuerError.
        """
        if self.profile.role is Role.READ_ONLY:
            return self._published(ask)
        self.consume_spill(ask.deadline)
        return _Attempt(self, ask).run()

    def read(self, deadline: float) -> View:
        """The record as it stands now.

        Raises: StoreError.
        """
        stored = self.read_path(self.profile.refresh_token, deadline)
        if stored.value is None:
            return View(version=stored.version)
        parsed = parse_session(stored.value)
        if isinstance(parsed, ForeignRecord):
            return View(version=stored.version, foreign=parsed)
        return View(version=stored.version, record=parsed)

    def overwrite(self, view: View, record: SessionRecord) -> None:
        """Writes the record over the one that was seen.

        Raises: VersionConflictError, StoreError.
        """
        self.store.write(
            self.profile.refresh_token, render_session(record), view.version, record.expires_at, timeout_s=STORE_CALL_S
        )

    def read_path(self, path: str, deadline: float) -> Stored:
        """What stands at any path of the store, with retries.

        Raises: StoreError.
        """
        self.around.emit("read", path=path)
        return self.with_retries(lambda timeout_s: self.store.read(path, timeout_s=timeout_s), deadline)

    def with_retries(self, call: Callable[[float], T], deadline: float, *, is_conflict_retried: bool = False) -> T:
        """The call's answer; what is marked retryable is tried again, with jitter, until the deadline or MAX_TRIES."""
        tries = 0
        while True:
            left = deadline - self.around.monotonic()
            try:
                return call(min(STORE_CALL_S, max(0.5, left)))
            except NightporterError as exc:
                tries += 1
                pause_s = self.pause_s(exc, tries)
                again = exc.retryable or (is_conflict_retried and isinstance(exc, VersionConflictError))
                if not again or tries >= MAX_TRIES or self.around.monotonic() + pause_s >= deadline:
                    raise
                self.around.sleep(pause_s)

    def pause_s(self, exc: NightporterError, tries: int) -> float:
        """How long to wait before the next try: what the other side asked for, and never nothing."""
        backed_off = min(4.0, 0.25 * 2.0 ** (tries - 1)) * self.around.uniform(0.5, 1.0)
        return max(exc.retry_after_s or 0.0, backed_off)

    # Addresses.

    def addressed(self, deadline: float) -> Profile:
        """The profile with its issuer's addresses, which are discovered once where it names the issuer alone.

        Raises: IssuerError.
        """
        if self._addressed is None:
            self._addressed = self.profile
            request = self.issuer.discovery_request(self.profile)
            if request is not None:
                self._addressed = None
                self._addressed = self._discovered(request, deadline)
        return self._addressed

    def probe(self, deadline: float) -> tuple[str, Response]:
        """One GET of the token endpoint, which spends nothing: its address, and whatever it answers.

        Raises: IssuerError.
        """
        address = self.addressed(deadline).token_endpoint or self.profile.base_url
        left = deadline - self.around.monotonic()
        return address, self.sender.send(get_request(address), timeout_s=max(0.5, left))

    def _discovered(self, request: Request, deadline: float) -> Profile:
        def ask(timeout_s: float) -> Response:
            return self.sender.send(request, timeout_s=timeout_s)

        return self.issuer.with_discovery(self.profile, self.with_retries(ask, deadline))

    # Credentials.

    def load_credentials(self, deadline: float) -> Credentials:
        """Username and password (and the client's id and secret), with the version that refusals are keyed by.

        Raises: SecretNotFoundError, StoreError.
        """
        path, client_path = self.profile.credentials, self.profile.client
        if path is None:
            raise SecretNotFoundError(f"profile {self.profile.name!r} names no `credentials`")
        stored = self.read_path(path, deadline)
        if stored.value is None:
            raise SecretNotFoundError(f"there is no secret at {path!r} in store {self.profile.store.name!r}")
        client = self.read_path(client_path, deadline) if client_path else None
        if client and client.value is None:
            raise SecretNotFoundError(f"there is no secret at {client_path!r} in store {self.profile.store.name!r}")
        version = stored.version.token + (f"/{client.version.token}" if client else "")
        return self._parsed(stored.value, version, client.value if client else None, path)

    def load_client(self, deadline: float) -> Credentials:
        """client_id and client_secret alone, so that who refreshes needn't read the password."""
        if self.profile.client is None:
            if self.profile.role is Role.REFRESH_ONLY:
                raise SecretNotFoundError(
                    f"profile {self.profile.name!r} names no `client`, and role 'refresh-only' reads no credentials"
                )
            return self.load_credentials(deadline)
        stored = self.read_path(self.profile.client, deadline)
        if stored.value is None:
            raise SecretNotFoundError(
                f"there is no secret at {self.profile.client!r} in store {self.profile.store.name!r}"
            )
        return self._parsed({}, stored.version.token, stored.value, self.profile.client)

    def _parsed(
        self,
        value: Mapping[str, Any] | Unreadable,
        version: str,
        client: Mapping[str, Any] | Unreadable | None,
        path: str,
    ) -> Credentials:
        try:
            return parse_credentials(value, version, self.profile.fields, client)
        except ValueError as exc:
            raise SecretNotFoundError(f"the secret {path!r} can't be used: {exc}") from exc

    def identity(self, credentials: Credentials | None) -> Identity:
        """Whose session this profile's is, as far as it is known."""
        known = credentials or Credentials(version="")
        return Identity(
            issuer=self.profile.issuer,
            token_endpoint=self.profile.token_endpoint,
            username=self.profile.username or known.username,
            useralias=known.useralias,
            client_id=known.client_id,
        )

    # What a person brings.

    def store_login(
        self,
        refresh_token: Secret,
        *,
        issued_at: int,
        client: Credentials | None,
        issued: IssuedTokens | None,
        deadline: float,
    ) -> SessionRecord:
        """Writes a session that a person logged in for or seeded, over whatever is there.

        Another's claim included: a person has decided. A refusal is forgotten with it.

        Raises: StoreError.
        """
        deadline = max(deadline, self.around.monotonic() + CLAIM_S)  # what a person brought is not lost to a blip

        def write(timeout_s: float) -> SessionRecord:
            view = self.read(deadline)
            record = self._login_record(view, refresh_token, issued_at, client, issued)
            self.store.write(
                self.profile.refresh_token, render_session(record), view.version, record.expires_at, timeout_s=timeout_s
            )
            return record

        record = self.with_retries(write, deadline, is_conflict_retried=True)
        self.spill.drop()
        return record

    def _login_record(
        self,
        view: View,
        refresh_token: Secret,
        issued_at: int,
        client: Credentials | None,
        issued: IssuedTokens | None,
    ) -> SessionRecord:
        known = view.record or view.foreign
        shared = issued if self.profile.share_access_token else None
        return SessionRecord(
            identity=self.identity(client),
            refresh_token=refresh_token,
            issued_at=issued_at,
            expires_at=self.issuer.refresh_expires_at(self.profile, issued_at),
            generation=max(view.version.floor, known.generation if known else 0) + 1,
            access_token=shared.access_token if shared else None,
            access_token_expires_at=issued_at + shared.expires_in if shared else None,
            by=process.host_name(),
            unknown=view.record.unknown if view.record else {},
        )

    # Published tokens.

    def _published(self, ask: Ask) -> Token:
        """The token that `rotate --access` published; re-read for 5 s, since stores serve old reads."""
        path = self.profile.publish_access_token or ""
        give_up = min(ask.deadline, self.around.monotonic() + 5)
        while True:
            stored = self.read_path(path, ask.deadline)
            now = self.around.clock()
            token = parse_published(stored.value, self.profile, now=now)
            if token and token.expires_at_s - now > ask.min_ttl_s and not ask.is_refused(token.value):
                return token
            pause_s = self.around.uniform(0.2, 1.0)
            if self.around.monotonic() + pause_s >= give_up:
                raise NothingPublishedError(
                    f"no live access token is published at {path!r}: {_last_published(stored, token)}"
                )
            self.around.sleep(pause_s)

    def publish(self, identity: Identity, token: Token, deadline: float) -> None:
        """Writes the token for read-only consumers, unless a better one is there.

        Raises: StoreError.
        """
        path = self.profile.publish_access_token
        if path is None:
            return

        def write(timeout_s: float) -> None:
            stored = self.store.read(path, timeout_s=timeout_s)
            there = parse_published(stored.value, self.profile, now=self.around.clock())
            if there and there.expires_at_s >= token.expires_at_s and there.generation >= token.generation:
                return
            value = {
                **render_published(identity, token),
                "by": process.host_name(),
                "published_at": format_rfc3339(self.around.clock()),
            }
            with contextlib.suppress(VersionConflictError):  # another has just published
                self.store.write(path, value, stored.version, token.expires_at_s, timeout_s=timeout_s)
                self.around.emit("published", profile=self.profile.name)

        self.with_retries(write, deadline)

    def publish_if_possible(self, identity: Identity, token: Token, deadline: float) -> None:
        """As `publish`; what fails is only said, since the session itself is safe and a job will publish again."""
        try:
            self.publish(identity, token, max(deadline, self.around.monotonic() + 0.5))
        except StoreError as exc:
            self.around.emit("publish-failed", profile=self.profile.name, error=exc.reference, detail=exc.message)

    # The spill.

    def consume_spill(self, deadline: float) -> None:
        """Puts a result that could not be saved over the claim that it belongs to, or drops it where it is outlived."""
        spilled = self.spill.load()
        if spilled is None:
            return
        kept = parse_session(spilled.record)
        if isinstance(kept, ForeignRecord) or not kept.identity.matches(self.identity(None)):
            self.spill.drop()
            return
        view = self.read(deadline)
        verdict = self._judge_spilled(kept, spilled.nonce, view)
        if verdict is _Verdict.LATER:
            return
        if verdict is _Verdict.WANTED:
            try:
                self.store.write(
                    self.profile.refresh_token,
                    render_session(kept),
                    view.version,
                    kept.expires_at,
                    timeout_s=STORE_CALL_S,
                )
            except VersionConflictError:
                return  # somebody is at it; the next run looks again
        self.around.emit(
            "spill-consumed" if verdict is _Verdict.WANTED else "spill-outlived", profile=self.profile.name
        )
        self.spill.drop()

    def _judge_spilled(self, kept: SessionRecord, nonce: str, view: View) -> _Verdict:
        """Over its own claim, or over a record that has gone no further; never over a newer one."""
        if kept.expires_at is not None and kept.expires_at <= self.around.clock():
            return _Verdict.OUTLIVED
        there = view.record.generation if view.record else view.foreign.generation if view.foreign else 0
        if view.foreign is not None or there >= kept.generation:
            return _Verdict.OUTLIVED
        claim = view.claim
        if claim is None or claim.nonce == nonce or claim.until <= self.around.clock():
            return _Verdict.WANTED
        return _Verdict.LATER


def _last_published(stored: Stored, token: Token | None) -> str:
    """When, and by whom: what a person needs to find the job that should have."""
    if not isinstance(stored.value, Mapping):
        return "there is none, or it has ended"
    by, at = stored.value.get("by"), stored.value.get("published_at")
    ended = f", ended at {format_rfc3339(token.expires_at_s)}" if token else ", which can't be used"
    return f"the last one was published at {at or 'an unknown time'} by {by or 'an unknown host'}{ended}"


class _Verdict(Enum):
    """What becomes of a kept result."""

    WANTED = "it goes into the store"
    LATER = "another holds the claim now: look again when it is over"
    OUTLIVED = "the session has gone on without it"


class _Attempt:
    """One ask, from the first read to a token or an error."""

    def __init__(self, session: Session, ask: Ask) -> None:
        self.session = session
        self.profile = session.profile
        self.around = session.around
        self.ask = ask
        self.claim: Claim | None = None
        self.claim_view: View | None = None
        self.claimed_at = 0.0
        self.is_claim_spent = False  # something was sent under it whose outcome is unknown
        self.rejected: SessionRejectedError | None = None
        self.rejected_tokens: set[Secret] = set()
        self.first_generation: int | None = None
        self.is_claim_left = False
        self.credentials: Credentials | None = None
        self.client: Credentials | None = None
        self.watched: tuple[str, float] = ("", 0.0)
        self.lost: tuple[str, float] = ("", 0.0)
        self.tries = 0
        self.waits = 0
        self.resent = False

    # The loop.

    def run(self) -> Token:
        view = self.session.read(self.ask.deadline)
        try:
            while True:
                if self.first_generation is None:
                    self.first_generation = self.generation(view)
                token, view = self.step(view)
                if token and token.expires_at_s > self.around.clock():
                    return token
                if token:  # we slept (a frozen machine) from its issue to its end
                    view = self.session.read(self.ask.deadline)
        except Exception:
            # Whatever ended us before our claim was used up must not keep the others waiting for it.
            if self.claim_view and not self.is_claim_left:
                self.release(self.claim_view)
            raise

    def step(self, view: View) -> tuple[Token | None, View]:
        """Does what the table says: a token, or the view to go on from."""
        row = next_row(self.situation(view))
        self.emit("step", row=row.name, generation=self.generation(view))
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

    @staticmethod
    def generation(view: View) -> int:
        return (
            view.record.generation if view.record else view.foreign.generation if view.foreign else view.version.floor
        )

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

        Where the profile names no user, the credentials say who it is; a consumer that may not read them can't know,
        and takes the record's word.
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
        # What a holder wrote while we waited is adopted, whatever it has left: the next exchange would bring no more.
        is_news = self.waits > 0 and self.first_generation is not None and record.generation > self.first_generation
        is_enough = left_s > self.ask.min_ttl_s or (is_news and left_s > 0)
        is_better = record.access_token_expires_at > self.ask.better_than
        return is_enough and is_better and not self.ask.is_refused(record.access_token.reveal())

    def claimed(self, view: View) -> Claimed:
        claim = view.claim
        if claim is None:
            return Claimed.FREE
        if self.claim and claim.nonce == self.claim.nonce:
            left = min(claim.until - self.around.clock(), CLAIM_S - (self.around.monotonic() - self.claimed_at))
            is_enough = left > SEND_WHILE_LEFT_S and not self.is_claim_spent
            return Claimed.OURS if is_enough else Claimed.OURS_SHORT
        if self.watched[0] != claim.nonce + claim.holder:
            self.watched = (claim.nonce + claim.holder, self.around.monotonic())
        # A holder whose clock runs far ahead would keep its claim for ever: no claim outlives our own watch of it.
        has_run_out = self.around.clock() >= claim.until or self.around.monotonic() - self.watched[1] > CLAIM_S + 1
        if has_run_out or self.around.is_dead(claim, self.around.machine):
            return Claimed.LAPSED
        return Claimed.BUSY

    def refused(self, view: View) -> Refused:
        """What the remembered refusal forbids: nothing, once the credentials have changed or its time has passed."""
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
            if version != refusal.credentials_version and not refusal.credentials_version.endswith(f"/{version}"):
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
                f"{self.profile.name}: {claim.holder if claim else 'another'} was still exchanging the session"
                f" (its claim ends {format_rfc3339(claim.until) if claim else 'soon'})"
            )
        self.around.sleep(pause_s)

    def write_claim(self, view: View, *, is_take_over: bool) -> View:
        self.around.check_exchange()
        if self.around.monotonic() >= self.ask.deadline:
            raise ClaimBusyError(f"{self.profile.name}: the time was over before the session could be claimed")
        # What is missing is found before the claim, and nothing but the answer is waited for under it.
        if self.holding(view) is Holding.ALIVE:
            self.refresh_request(view)
        else:
            self.sign_in_request()
        record = self.base_record(view)
        record = replace(record, claim=self.around.new_claim(), unknown=self.with_budget(record))
        value = render_session(record)
        self.emit("take-over" if is_take_over else "claim")
        claimed_at = self.around.monotonic()
        version = self.write_own(value, view.version, record.claim)
        if version is None:
            self.count_lost_claim(view)
            self.around.sleep(self.around.uniform(0.02, 0.15))
            return self.session.read(self.ask.deadline)
        self.claim, self.claimed_at, self.is_claim_spent = record.claim, claimed_at, False
        self.emit("claim-won")
        self.claim_view = View(version=version, record=record)
        return self.claim_view

    def count_lost_claim(self, view: View) -> None:
        """Losing means that a newer version comes into view. Where none ever does, a person moved the current one back.

        Raises: StoreRolledBackError.
        """
        self.emit("claim-lost")
        if self.lost[0] != view.version.token:
            self.lost = (view.version.token, self.around.monotonic())
        elif self.around.monotonic() - self.lost[1] > ROLLED_BACK_AFTER_S:
            raise StoreRolledBackError(
                f"{self.profile.name}: {self.profile.refresh_token!r} has a successor in the store that never becomes"
                " current: somebody moved its current version back"
            )

    def write_own(self, value: Mapping[str, Any], expected: Version, claim: Claim | None) -> Version | None:
        """Writes the claim; None when another was first. A conflict after a lost answer may be our own success."""
        is_ambiguous = False

        def write(timeout_s: float) -> Version:
            nonlocal is_ambiguous
            try:
                return self.session.store.write(
                    self.profile.refresh_token, value, expected, KEEP_EXPIRY, timeout_s=timeout_s
                )
            except NightporterError as exc:
                is_ambiguous = is_ambiguous or exc.retryable
                raise

        try:
            return self.session.with_retries(write, self.ask.deadline)
        except VersionConflictError:
            if not is_ambiguous:
                return None
        except StoreDeniedError as exc:
            raise StoreDeniedError(
                f"{self.profile.name}: the claim can't be written, so nothing was sent: {exc.message}", right=exc.right
            ) from exc
        seen = self.session.read(self.ask.deadline)
        is_ours = claim is not None and seen.claim is not None and seen.claim.nonce == claim.nonce
        return seen.version if is_ours else None

    def base_record(self, view: View) -> SessionRecord:
        """The record that a claim is written into: what is there, or a fresh one that goes on counting."""
        holding = self.holding(view)
        if view.record and holding not in (Holding.FOREIGN, Holding.ABSENT):
            return view.record
        generation = max(
            view.version.floor,
            view.record.generation if view.record else 0,
            view.foreign.generation if view.foreign else 0,
        )
        unknown = view.record.unknown if view.record and holding is Holding.ABSENT else {}
        refused = view.record.refused if view.record and holding is Holding.ABSENT else None
        return SessionRecord(
            identity=self.session.identity(self.credentials),
            generation=generation,
            unknown=unknown,
            refused=refused,
            by=process.host_name(),
        )

    def with_budget(self, record: SessionRecord) -> Mapping[str, Any]:
        """Counts this exchange's writes where the store's versions are limited: a bucket that a day empties.

        Raises: WriteBudgetError. A result is never refused, only a claim.
        """
        per_day = self.session.store.versions_per_day
        if per_day is None:
            return record.unknown
        now = self.around.clock()
        level, at = 0.0, now
        writes = record.unknown.get("writes")
        if isinstance(writes, dict):
            with contextlib.suppress(ValueError, TypeError):
                level, at = float(writes.get("count", 0)), float(parse_rfc3339(str(writes.get("at"))))
        level = max(0.0, level - max(0.0, now - at) * per_day / DAY_S) + WRITES_PER_EXCHANGE
        if level > per_day:
            raise WriteBudgetError(
                f"{self.profile.name}: {per_day} versions a day are all that the store keeps, and they are used up"
            )
        return {**record.unknown, "writes": {"count": round(level, 1), "at": format_rfc3339(now)}}

    def sign_in_request(self) -> Request:
        self.credentials = self.credentials or self.session.load_credentials(self.ask.deadline)
        try:
            return self.session.issuer.sign_in_request(self.addressed(), self.credentials)
        except ValueError as exc:
            raise SecretNotFoundError(f"the secret {self.profile.credentials!r} can't be used: {exc}") from exc

    def addressed(self) -> Profile:
        return self.session.addressed(self.ask.deadline)

    # Exchanges.

    def exchange(self, view: View, call: Call) -> tuple[Token | None, View]:
        """Sends and saves. A token, or the view to go on from."""
        needs_claim = call is Call.SIGN_IN or self.profile.is_exclusive
        request = self.sign_in_request() if call is Call.SIGN_IN else self.refresh_request(view)
        if needs_claim and self.claimed(view) is not Claimed.OURS:
            return None, view  # building the request took so long that the claim is too short to send under
        self.around.check_exchange()
        if self.around.monotonic() >= self.ask.deadline:
            raise ClaimBusyError(f"{self.profile.name}: the time was over before anything could be sent")
        try:
            with process.hold_signals() if needs_claim else contextlib.nullcontext():
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
        """The stretch that no signal may cut: from the first byte sent to the result written. None: fenced off."""
        sent_at = self.around.clock()
        try:
            issued = self.send(request, call)
        except IssuerReplyError as exc:
            if isinstance(exc.refresh_token, Secret) and needs_claim:
                self.save(view, self.renewed(view, exc.refresh_token, sent_at))
            raise
        record = self.new_record(view, call, issued, sent_at)
        if needs_claim:
            if not self.save(view, record):
                return None, record.identity
        elif record.refresh_token != (view.record.refresh_token if view.record else None) and view.claim is None:
            self.keep_changed(view, record)
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
            return self.session.issuer.refresh_request(self.addressed(), view.record.refresh_token, self.client)
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

    def new_record(self, view: View, call: Call, issued: IssuedTokens, sent_at: float) -> SessionRecord:
        assert view.record is not None
        record = replace(
            view.record,
            generation=view.record.generation + 1,
            claim=None,
            by=process.host_name(),
            access_token=issued.access_token if self.profile.share_access_token else None,
            access_token_expires_at=int(sent_at) + issued.expires_in if self.profile.share_access_token else None,
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
        """Our record with the refresh token of an answer that was no use otherwise: the old one may be dead by now."""
        assert view.record is not None
        issued_at = int(sent_at)
        return replace(
            view.record,
            refresh_token=refresh_token,
            generation=view.record.generation + 1,
            claim=None,
            issued_at=issued_at,
            expires_at=self.session.issuer.refresh_expires_at(self.profile, issued_at),
            by=process.host_name(),
        )

    def after_rejection(self, view: View, exc: SessionRejectedError) -> View:
        """The refresh token was refused: look whether there is a newer one; else the table goes on without it."""
        self.rejected = exc
        if view.record and view.record.refresh_token:
            self.rejected_tokens.add(view.record.refresh_token)
        self.emit("refresh-rejected", error=exc.error)
        if not exc.is_certain and not self.profile.signs_in_unattended:
            raise IssuerReplyError(
                exc.message, hint="The session is kept; the vendor's code is not a known one."
            ) from exc
        return (
            view if self.claimed(view) in (Claimed.OURS, Claimed.OURS_SHORT) else self.session.read(self.ask.deadline)
        )

    def after_refusal(self, view: View, exc: CredentialsRefusedError) -> CredentialsRefusedError:
        """Writes the refusal into the record where we hold it, and completes the error with its end."""
        self.emit("refused", error=exc.error)
        if self.claim is None or view.record is None:
            return exc
        before = view.record.refused
        version = self.present_version() if self.has_credentials else "unknown"
        count = before.count + 1 if before and before.credentials_version == version else 1
        until = int(self.around.clock()) + back_off_s(count)
        refusal = Refusal(credentials_version=version, until=until, count=count, error=exc.error or "unnamed")
        is_alive = self.holding(view) in (Holding.ALIVE, Holding.REPLACING)
        record = replace(
            view.record,
            claim=None,
            refused=refusal,
            refresh_token=view.record.refresh_token if is_alive else None,
            expires_at=view.record.expires_at if is_alive else None,
        )
        self.write_back(view, record)
        return type(exc)(
            f"{self.profile.name}: {exc.message}; not tried again before {format_rfc3339(until)}",
            error=exc.error,
            until=until,
            hint=exc.hint,
        )

    def after_failure(self, view: View, exc: IssuerError, call: Call) -> View:
        """Known not to be done: try again within the time. Outcome unknown: only where a second send does no harm."""
        self.tries += 1
        is_unknown = isinstance(exc, OutcomeUnknownError)
        may_resend = call is Call.SIGN_IN or self.profile.is_resend_safe
        again = exc.retryable if not is_unknown else may_resend and not self.resent
        pause_s = self.session.pause_s(exc, self.tries)
        is_late = self.around.monotonic() + pause_s >= self.ask.deadline
        self.emit("exchange-failed", error=exc.reference)
        if not again or is_late or self.tries >= MAX_TRIES:
            if is_unknown and not may_resend:
                # The claim is left to run out: the next holder sends the token once more, not we in a hurry.
                self.is_claim_left = True
            raise exc
        if is_unknown:
            self.resent = self.is_claim_spent = True
        self.around.sleep(pause_s)
        return view if self.claim else self.session.read(self.ask.deadline)

    # Saving.

    def save(self, view: View, record: SessionRecord) -> bool:
        """Writes the result over our own claim. False when it was fenced off: another has taken over.

        Raises: ResultSpilledError.
        """
        value = render_session(record)
        is_ambiguous, pause_s = False, 0.1
        if self.claim and self.around.clock() - self.claim.until > ASLEEP_TOO_LONG_S:
            # After a day a store may have forgotten the version that fences us off (Secrets Manager prunes).
            self.emit("fenced")
            self.claim = self.claim_view = None
            return False
        while True:
            try:
                self.emit("save")
                self.session.store.write(
                    self.profile.refresh_token, value, view.version, record.expires_at, timeout_s=STORE_CALL_S
                )
                break
            except VersionConflictError:
                if is_ambiguous and self.is_saved(value):
                    break
                self.emit("fenced")
                self.claim = self.claim_view = None
                return False
            except Exception as exc:  # whatever it is, the result must not be lost with it
                is_ambiguous = True
                is_over = self.around.monotonic() + pause_s - self.claimed_at >= CLAIM_S
                if is_over or not (isinstance(exc, NightporterError) and exc.retryable):
                    raise self.spilled(value, exc) from exc
                self.around.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
        self.claim = self.claim_view = None
        self.emit("saved", generation=record.generation)
        return True

    def is_saved(self, value: Mapping[str, Any]) -> bool:
        try:
            return self.session.store.read(self.profile.refresh_token, timeout_s=STORE_CALL_S).value == value
        except StoreError:
            return False

    def spilled(self, value: Mapping[str, Any], exc: Exception) -> StoreError:
        self.is_claim_left = True  # the result belongs over it
        why = exc.message if isinstance(exc, NightporterError) else type(exc).__name__
        nonce = self.claim.nonce if self.claim else ""
        kept = self.session.spill.keep(Spilled(nonce=nonce, record=value, at=int(self.around.clock())))
        self.emit("spilled" if kept else "spill-failed", detail=why)
        if kept:
            return ResultSpilledError(
                f"{self.profile.name}: exchanged, but the store took no result ({why});"
                f" it is kept in {self.session.spill.path}"
            )
        return StoreError(
            f"{self.profile.name}: exchanged, but neither the store nor the data directory took the result: {why}",
            hint="Give this process a writable home or XDG_DATA_HOME; the session may have to be started anew.",
        )

    def keep_changed(self, view: View, record: SessionRecord) -> None:
        """A reused token that came back changed, without a claim: kept if nobody was faster, and if we may write."""
        with contextlib.suppress(StoreError):
            self.session.store.write(
                self.profile.refresh_token,
                render_session(record),
                view.version,
                record.expires_at,
                timeout_s=STORE_CALL_S,
            )

    def write_back(self, view: View, record: SessionRecord) -> None:
        """Ends our claim with this record. What fails is left to the claim's own end."""
        self.claim = self.claim_view = None

        def write(timeout_s: float) -> Version:
            return self.session.store.write(
                self.profile.refresh_token, render_session(record), view.version, record.expires_at, timeout_s=timeout_s
            )

        try:
            self.session.with_retries(write, self.around.monotonic() + WRITE_BACK_S)
        except StoreError as exc:
            self.emit("write-back-failed", error=exc.reference)

    def release(self, view: View) -> None:
        if self.claim is not None and view.record is not None and view.claim == self.claim:
            self.write_back(view, replace(view.record, claim=None))

    # Ends.

    def shared_token(self, view: View) -> Token:
        record = view.record
        assert record is not None
        assert record.access_token is not None
        assert record.access_token_expires_at is not None
        self.release(view)
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
            f"{self.profile.name}: the issuer refused these credentials ({error}); not tried again{when}",
            error=error,
            until=until,
        )

    def person_needed(self, view: View) -> LoginRequiredError:
        """Empties a record whose token is known to be dead, so that nobody else sends it, and says who must act."""
        if self.rejected and view.record and self.claim:
            self.write_back(
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
                hint=self.remedy(),
            )
        return LoginRequiredError(f"{name}: there is no session to refresh", hint=self.remedy())

    def remedy(self) -> str:
        name = self.profile.name
        if self.profile.role is Role.REFRESH_ONLY and self.profile.grant in ("password", "client_credentials"):
            return f'A machine with role "full" must sign in: run `nightporter rotate {name}` there.'
        if self.profile.grant == "refresh_token":
            return f"Run `nightporter seed {name}` with a fresh refresh token."
        return f"Run `nightporter login {name}`."

    def emit(self, event: str, **facts: Any) -> None:
        self.around.emit(event, profile=self.profile.name, **facts)
