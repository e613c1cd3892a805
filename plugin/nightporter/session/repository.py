"""One session as it is kept: its record, the credentials behind it, what a person brings, what is
published.

The engine obtains tokens, the lease claims the record and writes over the claim; here is everything
else that is done with a session, and the front of all of it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from nightporter.core.errors import (
    NothingPublishedError,
    SecretNotFoundError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    VersionConflictError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import CLAIM_S
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
from nightporter.core.record import (
    ForeignRecord,
    PendingResult,
    Published,
    Unreadable,
    clipped,
    parse_credentials,
    parse_published,
    parse_session,
    render_published,
)
from nightporter.core.told import Told
from nightporter.core.values import dataclass, replace
from nightporter.issuers import Issuer
from nightporter.issuers.oauth import Call, Request, Response, get_request
from nightporter.session import effects, telling, transitions
from nightporter.session.driver import Driver, Runtime
from nightporter.session.effects import Flow
from nightporter.session.lease import Records
from nightporter.session.port import Journal, Sender, Store, Stored, Version
from nightporter.session.proofs import with_proof
from nightporter.session.transitions import Snapshot

T = TypeVar("T")
PUBLISHED_READ_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCredentials:
    """Credentials, and the key by which sign-ins with them are counted."""

    credentials: Credentials
    key: str


class Session:
    """The session of one profile: flows to run, and the ports that they need.

    Not thread-safe; callers serialize (the broker does). `on_close` gives store and sender back.
    `on_late` gets a token that came when nobody waited for it any more.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        store: Store,
        issuer: Issuer,
        sender: Sender,
        journal: Journal,
        runtime: Runtime,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.profile = profile
        self.store = store
        self.issuer = issuer
        self.sender = sender
        self.journal = journal
        self.runtime = runtime
        self.records = Records(
            profile=profile,
            runtime=runtime,
            versions_per_day=store.versions_per_day,
            journal_path=journal.path,
        )
        self.on_late: Callable[[Token], None] = lambda _token: None
        self._driver = Driver(
            store=store,
            sender=sender,
            journal=journal,
            runtime=runtime,
            on_late=lambda token: self.on_late(token),
        )
        self._on_close = on_close
        self._addressed: Profile | None = None
        self.watched: dict[str, float] = {}

    def run(self, flow: Flow[T]) -> T:
        """Drives a flow to its end; returns and raises what it does."""
        return self._driver.run(flow)

    def close(self) -> None:
        """Gives store and sender back to where they came from."""
        self._on_close()

    # The record.

    def read(self, deadline: float) -> Snapshot:
        """Returns the record as it is now. `deadline`: monotonic seconds, here and below.

        Raises: StoreError.
        """
        return self.run(self.records.reading(deadline))

    def read_path(self, path: str, deadline: float) -> Stored:
        """Returns what is at any path of the store, with retries.

        Raises: StoreError.
        """
        return self.run(self.records.reading_path(path, deadline))

    def overwrite(
        self, snapshot: Snapshot, record: SessionRecord, *, by_person: bool = False
    ) -> Version:
        """Writes the record over the one that was seen.

        Raises: VersionConflictError, StoreError.
        """
        return self.run(self.records.overwriting(snapshot, record, by_person=by_person))

    def with_retries(
        self, call: Callable[[float], T], deadline: float, *, is_conflict_retried: bool = False
    ) -> T:
        """Returns the call's answer; what is marked retryable is tried again until the deadline.
        The call gets its own time limit in seconds."""

        def flow(timeout_s: float) -> Flow[T]:
            yield from ()
            return call(timeout_s)

        return self.run(
            self.records.retrying(flow, deadline, is_conflict_retried=is_conflict_retried)
        )

    def identity(self, credentials: Credentials | None) -> Identity:
        """Returns whose session this profile's is, as far as it is known."""
        known = credentials or Credentials(version="")
        return Identity(
            issuer=self.profile.issuer,
            token_endpoint=self.profile.token_endpoint,
            username=self.profile.username or known.username,
            useralias=known.useralias,
            client_id=known.client_id,
        )

    # Addresses.

    def addressed(self, deadline: float) -> Profile:
        """Returns the profile with its issuer's addresses.

        Raises: IssuerError.
        """
        return self.run(self.addressing(deadline))

    def addressing(self, deadline: float) -> Flow[Profile]:
        """Discovers the issuer's addresses once, where the profile names the issuer alone."""
        if self._addressed is None:
            request = self.issuer.discovery_request(self.profile)
            if request is None:
                self._addressed = self.profile
            else:
                response = yield from self._asking(request, deadline)
                self._addressed = self.issuer.with_discovery(self.profile, response)
        return self._addressed

    def _asking(self, request: Request, deadline: float) -> Flow[Response]:
        def ask(timeout_s: float) -> Flow[Response]:
            return (yield from effects.sending(request, timeout_s, None))

        return (yield from self.records.retrying(ask, deadline))

    def probe(self, deadline: float) -> tuple[str, Response]:
        """One GET of the token endpoint, which spends nothing: its URL, and whatever it answers.

        Raises: IssuerError.
        """
        address = self.addressed(deadline).token_endpoint or self.profile.base_url
        left_s = deadline - self.runtime.monotonic()
        return address, self.sender.send(get_request(address), timeout_s=max(0.5, left_s))

    # Credentials.

    def load_credentials(self, deadline: float) -> Credentials:
        """Returns username and password (and the client's id and secret), with the version that
        refusals are keyed by.

        Raises: SecretNotFoundError, StoreError.
        """
        return self.run(self.loading_credentials(deadline)).credentials

    def load_client(self, deadline: float) -> Credentials:
        """Returns client_id and client_secret alone, so that a process that only refreshes needn't
        read the password.

        Raises: SecretNotFoundError, StoreError.
        """
        return self.run(self.loading_client(deadline))

    def loading_credentials(self, deadline: float) -> Flow[KnownCredentials]:
        """As `load_credentials`, with the key of its sign-ins."""
        path, client_path = self.profile.credentials, self.profile.client
        if path is None and not self._needs_no_secret():
            raise SecretNotFoundError(f"profile {self.profile.name!r} names no `credentials`")
        if path is None:
            found = self._proving(Credentials(version=""))
            return KnownCredentials(credentials=found, key=self._attempt_key(found, None, None))
        stored = yield from self._reading_secret(path, deadline)
        client = None
        if client_path:
            client = yield from self._reading_secret(client_path, deadline)
        version = stored.version.token + (f"/{client.version.token}" if client else "")
        found = self._parsed(stored.value, version, client.value if client else None, path)
        found = self._proving(found, stored)
        return KnownCredentials(credentials=found, key=self._attempt_key(found, stored, client))

    def loading_client(self, deadline: float) -> Flow[Credentials]:
        """As `load_client`."""
        is_unread = self.profile.credentials is None or self.profile.role is Role.REFRESH_ONLY
        if self.profile.client is None and is_unread and "client_id" in self.profile.options:
            return self._proving(Credentials(version=""))
        if self.profile.client is None:
            if self.profile.role is Role.REFRESH_ONLY:
                raise SecretNotFoundError(
                    f"profile {self.profile.name!r} names no `client`, and role 'refresh-only'"
                    " reads no credentials"
                )
            return (yield from self.loading_credentials(deadline)).credentials
        stored = yield from self._reading_secret(self.profile.client, deadline)
        found = self._parsed({}, stored.version.token, stored.value, self.profile.client)
        return self._proving(found, stored)

    def _needs_no_secret(self) -> bool:
        """Whether the profile itself names its client, so that a secret may be missing."""
        return "client_id" in self.profile.options and not self.profile.grant.sends_password

    def _proving(self, found: Credentials, stored: Stored | None = None) -> Credentials:
        store_now = stored.now if stored is not None else None
        return with_proof(found, self.profile, self.runtime, store_now=store_now)

    def _reading_secret(self, path: str, deadline: float) -> Flow[Stored]:
        stored = yield from self.records.reading_path(path, deadline)
        if stored.value is None and not self._needs_no_secret():
            raise SecretNotFoundError(
                f"there is no secret at {path!r} in store {self.profile.store.name!r}"
            )
        return stored

    def _parsed(
        self,
        value: Mapping[str, Any] | Unreadable | None,
        version: str,
        client: Mapping[str, Any] | Unreadable | None,
        path: str,
    ) -> Credentials:
        try:
            return parse_credentials(value or {}, version, self.profile.fields, client)
        except ValueError as exc:
            raise SecretNotFoundError(f"the secret {path!r} can't be used: {exc}") from exc

    def _attempt_key(self, found: Credentials, stored: Stored | None, client: Stored | None) -> str:
        """Another key once the secret or the parts of the profile that go into the request have
        changed: then a sign-in is tried at once. Version numbers may come again, so the time of the
        version's creation counts too, or a digest of what it holds."""
        profile = self.profile
        request_parts = (
            *(profile.issuer, profile.base_url, profile.token_endpoint, profile.grant.value),
            *(dict(profile.fields), dict(profile.options), profile.username),
        )
        return transitions.attempt_key(
            (profile.credentials, _life_of(stored), _life_of(client), found.version, request_parts)
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

        Another's claim included: a person has decided. Refusals, marks and pending results are
        forgotten with it.

        Raises: StoreError.
        """
        # What a person brought is not lost to a blip.
        deadline = max(deadline, self.runtime.monotonic() + CLAIM_S)
        told = self._told_at_log_in(issued)

        def record_over(snapshot: Snapshot) -> SessionRecord:
            record = transitions.brought_record(
                snapshot,
                identity=self.identity(client),
                refresh_token=refresh_token,
                lineage=new_lineage(),
                issued_at=issued_at,
                expires_at=self._end_of(issued, issued_at),
                by=self.runtime.host,
                how="seed" if issued is None else "login",
                at=issued_at,
            )
            record = replace(record, told=told, output=dict(issued.output) if issued else {})
            if issued is None or not self.profile.share_access_token:
                return record
            return transitions.with_access_token(record, issued, exchanged_at=issued_at)

        record = self.run(self._bringing(record_over, deadline))
        self._forget_pending()
        self.records.emit("seeded" if issued is None else "logged-in", **telling.lineage(record))
        telling.tell(None, told, self.profile, self.records.emit)
        return record

    def _told_at_log_in(self, issued: IssuedTokens | None) -> Told | None:
        if issued is None:
            return None
        return telling.told_after(
            None,
            issued,
            Call.LOG_IN,
            profile=self.profile,
            issuer=self.issuer,
            is_heard=self.runtime.is_heard,
        )

    def _end_of(self, issued: IssuedTokens | None, issued_at: int) -> int | None:
        """When a refresh token ends, by the vendor's reply, else by its row (Unix seconds)."""
        stated = None if issued is None else transitions.stated_end(issued, issued_at)
        return stated or self.issuer.refresh_expires_at(self.profile, issued_at)

    def end(self, deadline: float) -> None:
        """Empties the record for all machines: lineage and generation stay, so that a result that
        waits somewhere is not put back.

        Raises: StoreError.
        """

        def record_over(snapshot: Snapshot) -> SessionRecord:
            return transitions.brought_record(
                snapshot,
                identity=self.identity(None),
                refresh_token=None,
                lineage=snapshot.lineage,
                issued_at=None,
                expires_at=None,
                by=self.runtime.host,
                how="logout",
                at=int(self.records.now(snapshot)),
            )

        snapshot = self.read(deadline)
        if snapshot.record is None and snapshot.foreign is None and snapshot.remains is None:
            return
        self.run(self._bringing(record_over, deadline))
        self.store.drop_previous(
            self.profile.refresh_token,
            timeout_s=max(0.5, deadline - self.runtime.monotonic()),
        )
        self._forget_pending()
        self.records.emit("logged-out", where="everywhere")

    def _bringing(
        self, record_over: Callable[[Snapshot], SessionRecord], deadline: float
    ) -> Flow[SessionRecord]:
        def write(timeout_s: float) -> Flow[SessionRecord]:
            snapshot = yield from self.records.reading(deadline)
            record = record_over(snapshot)
            yield from self.records.overwriting(
                snapshot, record, timeout_s=timeout_s, by_person=True
            )
            return record

        record = yield from self.records.retrying(write, deadline, is_conflict_retried=True)
        if record.lineage:
            yield effects.Note(record.lineage, record.generation)
        return record

    def _forget_pending(self) -> None:
        """A person has decided about the session: results that wait for it are settled."""
        for pending in self.journal.load():
            self.journal.drop(pending.name)

    def sweep(self, snapshot: Snapshot, deadline: float) -> bool:
        """Takes a refresh token past its stated end out of the record that was just read; whether
        there was one.

        Raises: StoreError.
        """
        record = snapshot.record
        if record is None or record.refresh_token is None or self.is_claim_alive(snapshot):
            return False
        now = self.records.now(snapshot)
        if not transitions.has_ended(record, now=now):
            return False
        with contextlib.suppress(VersionConflictError):  # somebody has just gone on with it
            self.overwrite(snapshot, transitions.tidied(record, now=now))
            self.store.drop_previous(
                self.profile.refresh_token,
                timeout_s=max(0.5, deadline - self.runtime.monotonic()),
            )
        return True

    # Published tokens.

    def published(self, ask: Ask, *, again_s: float = PUBLISHED_READ_S) -> Token:
        """Returns the token that `rotate --access` published; read again for so many seconds, since
        stores serve old reads.

        Raises: NothingPublishedError, StoreError.
        """
        return self.run(self.awaiting_published(ask, again_s))

    def awaiting_published(self, ask: Ask, again_s: float = PUBLISHED_READ_S) -> Flow[Token]:
        """As `published`."""
        path = self.profile.publish_access_token or ""
        runtime = self.runtime
        give_up = min(ask.deadline, runtime.monotonic() + again_s)
        while True:
            stored = yield from self.records.reading_path(path, ask.deadline)
            now = runtime.clock() if stored.now is None else stored.now
            found = parse_published(stored.value, self.profile, now=now)
            if found and self._is_good(found, ask, now):
                return self._token_of(found, now)
            pause_s = runtime.uniform(0.2, 1.0)
            if runtime.monotonic() + pause_s >= give_up:
                raise NothingPublishedError(
                    f"no live access token is published at {path!r}:"
                    f" {_last_published(stored, found)}"
                )
            yield from effects.sleeping(pause_s)

    def _is_good(self, found: Published, ask: Ask, now: float) -> bool:
        is_enough = found.expires_at - now > ask.min_ttl_s
        return is_enough and not ask.is_refused(found.secret.reveal())

    def _token_of(self, found: Published, now: float) -> Token:
        return Token(
            found.secret,
            token_type="Bearer",
            expires_at_s=found.expires_at,
            obtained_at_s=self.runtime.clock(),
            generation=found.generation,
            ends_s=self.runtime.boot() + (found.expires_at - now),
            life_s=found.expires_at - now,
            output=self.profile.output_of(found.output),
        )

    def publish(self, token: Token, deadline: float) -> None:
        """Writes the token for read-only consumers, unless a better one is there.

        Raises: StoreError.
        """
        self.run(self.publishing(self.identity(None), token, deadline))

    def publishing(self, identity: Identity, token: Token, deadline: float) -> Flow[None]:
        """As `publish`."""
        path = self.profile.publish_access_token
        if path is None:
            return

        def write(timeout_s: float) -> Flow[None]:
            stored = yield from effects.reading(path, timeout_s)
            value = self._to_publish(stored, identity, token)
            if value is None:
                return
            with contextlib.suppress(VersionConflictError):  # another has just published
                yield from effects.writing(
                    path, value, stored.version, token.expires_at_s, timeout_s
                )
                self.records.emit("published")

        yield from self.records.retrying(write, deadline)

    def _to_publish(
        self, stored: Stored, identity: Identity, token: Token
    ) -> dict[str, Any] | None:
        """None where what is there is at least as good."""
        now = self.runtime.clock() if stored.now is None else stored.now
        left_s = token.left_s(wall_s=self.runtime.clock(), boot_s=self.runtime.boot())
        ends_at = int(now + left_s)
        there = parse_published(stored.value, self.profile, now=now)
        if there and there.expires_at >= ends_at - 1 and there.generation >= token.generation:
            return None
        lived_s = self.runtime.clock() - (token.exchanged_at_s or token.obtained_at_s)
        exchanged_at = int(now - max(0.0, lived_s))
        return {
            **render_published(identity, token, exchanged_at=exchanged_at, expires_at=ends_at),
            "by": self.runtime.host,
            "published_at": format_rfc3339(now),
        }

    def publishing_if_possible(
        self, identity: Identity, token: Token, deadline: float
    ) -> Flow[None]:
        """As `publishing`; what fails is only reported, since the session itself is safe and a job
        will publish again."""
        try:
            least = self.runtime.monotonic() + 0.5
            yield from self.publishing(identity, token, max(deadline, least))
        except StoreError as exc:
            self.records.emit("publish-failed", error=exc.reference, detail=exc.message)

    # Pending results.

    def settle_pending(self, deadline: float) -> None:
        """Puts results that the store did not accept where they belong, or drops them where the
        record has gone on.

        Raises: StoreBusyError when the time is over before that is settled; StoreError.
        """
        self.run(self.settling_pending(deadline))

    def settling_pending(self, deadline: float) -> Flow[None]:
        """As `settle_pending`. Nothing may be sent before: the record still holds the token that
        the result has replaced."""
        for pending in (yield from effects.loading_pending()):
            kept = parse_session(pending.record)
            if isinstance(kept, ForeignRecord):
                self.records.emit("pending-unreadable", detail=kept.reason)
                continue
            yield from self._settling(pending, kept, deadline)

    def _settling(self, pending: PendingResult, kept: SessionRecord, deadline: float) -> Flow[None]:
        while True:
            verdict = yield from self._settling_once(pending, kept, deadline)
            if verdict is not Verdict.LATER:
                break
            pause_s = self.runtime.uniform(0.2, 0.6)
            if self.runtime.monotonic() + pause_s >= deadline:
                raise StoreBusyError(
                    f"{self.profile.name}: a result in {self.journal.path} waits for the store,"
                    " where another process holds the claim",
                    hint="It is put back as soon as that claim ends: try again in a minute.",
                )
            yield from effects.sleeping(pause_s)
        if verdict is Verdict.ELSEWHERE:
            return
        yield effects.DropPending(pending.name)
        self.records.emit("spill-consumed" if verdict is Verdict.WANTED else "spill-outlived")

    def _settling_once(
        self, pending: PendingResult, kept: SessionRecord, deadline: float
    ) -> Flow[Verdict]:
        snapshot = yield from self.records.reading(deadline)
        verdict = self._judge_pending(pending, kept, snapshot)
        if verdict is not Verdict.WANTED:
            return verdict
        try:
            yield from self.records.overwriting(snapshot, kept)
        except VersionConflictError:  # somebody is at it, or the read was an old one
            return Verdict.LATER
        except StoreDeniedError:
            # Another role on this machine has left it. A role that may not write can't claim
            # either, so nothing is sent that needs the result to be there first.
            return Verdict.ELSEWHERE
        return verdict

    def _judge_pending(
        self, pending: PendingResult, kept: SessionRecord, snapshot: Snapshot
    ) -> Verdict:
        now = self.records.now(snapshot)
        if transitions.is_outlived(kept, pending, snapshot, now=now):
            return Verdict.OUTLIVED
        if not transitions.belongs(kept, pending, snapshot):
            return Verdict.ELSEWHERE
        claim = snapshot.claim
        if claim is None or claim.nonce == pending.nonce or not self.is_claim_alive(snapshot):
            return Verdict.WANTED
        return Verdict.LATER

    # Claims of others.

    def is_claim_alive(self, snapshot: Snapshot, *, further_s: float = 0.0) -> bool:
        """Returns whether somebody else's claim is in force: the one place where that is judged.
        `further_s`: for so many seconds after its end it is still waited for."""
        claim = snapshot.claim
        if claim is None:
            return False
        if self.runtime.is_dead(claim, self.runtime.machine):
            return False
        name = f"{snapshot.version.token}/{claim.nonce}"
        first_seen = self.watched.setdefault(name, snapshot.seen_at)
        return not transitions.has_lapsed(
            claim, snapshot.age_s, snapshot.seen_at - first_seen, further_s=further_s
        )


def new_lineage() -> str:
    """Returns a name for a session that has just begun."""
    return secrets.token_hex(8)


def _life_of(stored: Stored | None) -> object:
    """What tells one life of a secret's version from another with the same number."""
    return stored.version.proof if stored else None


def _last_published(stored: Stored, found: Published | None) -> str:
    """When, and by whom: what a person needs to find the job that should have."""
    if not isinstance(stored.value, Mapping):
        return "there is none, or it has ended"
    by, at = (clipped(str(stored.value.get(key) or "")) for key in ("by", "published_at"))
    ended = ", which can't be used"
    if found:
        ended = f", ended at {format_rfc3339(found.expires_at)}"
    return (
        f"the last one was published at {at or 'an unknown time'} by {by or 'an unknown host'}"
        f"{ended}"
    )


class Verdict(Enum):
    """What becomes of a result that the store did not accept."""

    WANTED = "it goes into the store"
    LATER = "another holds the claim now: look again when it is over"
    OUTLIVED = "the session has gone on without it"
    ELSEWHERE = "it belongs to another session: it is left where it is"
