"""One session as it is kept: its record, the credentials behind it, what a person brings, what is
published.

Who obtains a token is `attempt`, who claims the record and writes over the claim is `hold`.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from nightporter.core.errors import (
    NightporterError,
    NothingPublishedError,
    SecretNotFoundError,
    StoreBusyError,
    StoreError,
    VersionConflictError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import CLAIM_S
from nightporter.core.model import (
    Ask,
    Claim,
    Credentials,
    Identity,
    IssuedTokens,
    Profile,
    Role,
    Secret,
    SessionRecord,
    Token,
)
from nightporter.core.record import (
    ForeignRecord,
    Unreadable,
    parse_credentials,
    parse_published,
    parse_session,
    render_published,
    render_session,
)
from nightporter.issuers import Issuer
from nightporter.issuers.oauth import Request, Response, get_request
from nightporter.session.port import Journal, Store, Stored, Version

Emit = Callable[..., None]
T = TypeVar("T")
STORE_CALL_S = 5.0
MAX_TRIES = 5


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
    host: str = ""
    machine: str | None = None
    is_dead: Callable[[Claim, str | None], bool] = lambda _claim, _machine: False
    hold_signals: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
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
    def generation(self) -> int:
        """Of what stands there; without a record the least that the next one must exceed."""
        if self.record:
            return self.record.generation
        return self.foreign.generation if self.foreign else self.version.floor

    @property
    def highest_generation(self) -> int:
        """What the next record goes on counting from."""
        return max(self.version.floor, self.generation)

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
        spill: Journal,
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

    def overwrite(
        self, view: View, record: SessionRecord, *, timeout_s: float = STORE_CALL_S
    ) -> Version:
        """Writes the record over the one that was seen.

        Raises: VersionConflictError, StoreError.
        """
        value = render_session(record)
        return self.store.write(
            self.profile.refresh_token, value, view.version, record.expires_at, timeout_s=timeout_s
        )

    def read_path(self, path: str, deadline: float) -> Stored:
        """What stands at any path of the store, with retries.

        Raises: StoreError.
        """
        self.around.emit("read", path=path)
        return self.with_retries(
            lambda timeout_s: self.store.read(path, timeout_s=timeout_s), deadline
        )

    def with_retries(
        self, call: Callable[[float], T], deadline: float, *, is_conflict_retried: bool = False
    ) -> T:
        """The call's answer; what is marked retryable is tried again, with jitter, until the
        deadline or MAX_TRIES."""
        tries = 0
        while True:
            left = deadline - self.around.monotonic()
            try:
                return call(min(STORE_CALL_S, max(0.5, left)))
            except NightporterError as exc:
                tries += 1
                pause_s = self.pause_s(exc, tries)
                again = exc.retryable or (
                    is_conflict_retried and isinstance(exc, VersionConflictError)
                )
                if not again or tries >= MAX_TRIES or self.around.monotonic() + pause_s >= deadline:
                    raise
                self.around.sleep(pause_s)

    def pause_s(self, exc: NightporterError, tries: int) -> float:
        """How long to wait before the next try: what the other side asked for, and never
        nothing."""
        backed_off = min(4.0, 0.25 * 2.0 ** (tries - 1)) * self.around.uniform(0.5, 1.0)
        return max(exc.retry_after_s or 0.0, backed_off)

    # Addresses.

    def addressed(self, deadline: float) -> Profile:
        """The profile with its issuer's addresses, which are discovered once where it names the
        issuer alone.

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
        """One GET of the token endpoint, which spends nothing: its address, and whatever it
        answers.

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
        """Username and password (and the client's id and secret), with the version that refusals
        are keyed by.

        Raises: SecretNotFoundError, StoreError.
        """
        path, client_path = self.profile.credentials, self.profile.client
        if path is None:
            raise SecretNotFoundError(f"profile {self.profile.name!r} names no `credentials`")
        stored = self.read_path(path, deadline)
        if stored.value is None:
            raise SecretNotFoundError(
                f"there is no secret at {path!r} in store {self.profile.store.name!r}"
            )
        client = self.read_path(client_path, deadline) if client_path else None
        if client and client.value is None:
            raise SecretNotFoundError(
                f"there is no secret at {client_path!r} in store {self.profile.store.name!r}"
            )
        version = stored.version.token + (f"/{client.version.token}" if client else "")
        return self._parsed(stored.value, version, client.value if client else None, path)

    def load_client(self, deadline: float) -> Credentials:
        """client_id and client_secret alone, so that who refreshes needn't read the password."""
        if self.profile.client is None:
            if self.profile.role is Role.REFRESH_ONLY:
                raise SecretNotFoundError(
                    f"profile {self.profile.name!r} names no `client`, and role 'refresh-only'"
                    " reads no credentials"
                )
            return self.load_credentials(deadline)
        stored = self.read_path(self.profile.client, deadline)
        if stored.value is None:
            raise SecretNotFoundError(
                f"there is no secret at {self.profile.client!r} in store"
                f" {self.profile.store.name!r}"
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
        deadline = max(
            deadline, self.around.monotonic() + CLAIM_S
        )  # what a person brought is not lost to a blip

        def write(timeout_s: float) -> SessionRecord:
            view = self.read(deadline)
            record = self._login_record(view, refresh_token, issued_at, client, issued)
            self.overwrite(view, record, timeout_s=timeout_s)
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
        shared = issued if self.profile.share_access_token else None
        return SessionRecord(
            identity=self.identity(client),
            refresh_token=refresh_token,
            issued_at=issued_at,
            expires_at=self.issuer.refresh_expires_at(self.profile, issued_at),
            generation=view.highest_generation + 1,
            access_token=shared.access_token if shared else None,
            access_token_expires_at=issued_at + shared.expires_in if shared else None,
            by=self.around.host,
            unknown=view.record.unknown if view.record else {},
        )

    # Published tokens.

    def published(self, ask: Ask) -> Token:
        """The token that `rotate --access` published; re-read for 5 s, since stores serve old
        reads."""
        path = self.profile.publish_access_token or ""
        give_up = min(ask.deadline, self.around.monotonic() + 5)
        while True:
            stored = self.read_path(path, ask.deadline)
            now = self.around.clock()
            token = parse_published(stored.value, self.profile, now=now)
            if (
                token
                and token.expires_at_s - now > ask.min_ttl_s
                and not ask.is_refused(token.value)
            ):
                return token
            pause_s = self.around.uniform(0.2, 1.0)
            if self.around.monotonic() + pause_s >= give_up:
                raise NothingPublishedError(
                    f"no live access token is published at {path!r}:"
                    f" {_last_published(stored, token)}"
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
            if (
                there
                and there.expires_at_s >= token.expires_at_s
                and there.generation >= token.generation
            ):
                return
            value = {
                **render_published(identity, token),
                "by": self.around.host,
                "published_at": format_rfc3339(self.around.clock()),
            }
            with contextlib.suppress(VersionConflictError):  # another has just published
                self.store.write(
                    path, value, stored.version, token.expires_at_s, timeout_s=timeout_s
                )
                self.around.emit("published", profile=self.profile.name)

        self.with_retries(write, deadline)

    def publish_if_possible(self, identity: Identity, token: Token, deadline: float) -> None:
        """As `publish`; what fails is only said, since the session itself is safe and a job will
        publish again."""
        try:
            self.publish(identity, token, max(deadline, self.around.monotonic() + 0.5))
        except StoreError as exc:
            self.around.emit(
                "publish-failed", profile=self.profile.name, error=exc.reference, detail=exc.message
            )

    # The spill.

    def consume_spill(self, deadline: float) -> None:
        """Puts a result that could not be saved over the claim that it belongs to, or drops it
        where it is outlived.

        Nothing may be sent before that is settled: the record still holds the token that the result
        has replaced.

        Raises: StoreBusyError when the time is over before it is; StoreError.
        """
        spilled = self.spill.load()
        if spilled is None:
            return
        kept = parse_session(spilled.record)
        if isinstance(kept, ForeignRecord) or not kept.identity.matches(self.identity(None)):
            self.spill.drop()
            return
        while (verdict := self._settle_spilled(kept, spilled.nonce, deadline)) is _Verdict.LATER:
            pause_s = self.around.uniform(0.2, 0.6)
            if self.around.monotonic() + pause_s >= deadline:
                raise StoreBusyError(
                    f"{self.profile.name}: a result waits in {self.spill.path} for the store, where"
                    " another is at work"
                )
            self.around.sleep(pause_s)
        self.around.emit(
            "spill-consumed" if verdict is _Verdict.WANTED else "spill-outlived",
            profile=self.profile.name,
        )
        self.spill.drop()

    def _settle_spilled(self, kept: SessionRecord, nonce: str, deadline: float) -> _Verdict:
        view = self.read(deadline)
        verdict = self._judge_spilled(kept, nonce, view)
        if verdict is _Verdict.WANTED:
            try:
                self.overwrite(view, kept)
            except VersionConflictError:  # somebody is at it, or the read was an old one
                return _Verdict.LATER
        return verdict

    def _judge_spilled(self, kept: SessionRecord, nonce: str, view: View) -> _Verdict:
        """Over its own claim, or over a record that has gone no further; never over a newer one."""
        if kept.expires_at is not None and kept.expires_at <= self.around.clock():
            return _Verdict.OUTLIVED
        there = (
            view.record.generation
            if view.record
            else view.foreign.generation
            if view.foreign
            else 0
        )
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
    return (
        f"the last one was published at {at or 'an unknown time'} by"
        f" {by or 'an unknown host'}{ended}"
    )


class _Verdict(Enum):
    """What becomes of a kept result."""

    WANTED = "it goes into the store"
    LATER = "another holds the claim now: look again when it is over"
    OUTLIVED = "the session has gone on without it"
