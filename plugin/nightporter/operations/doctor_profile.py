"""What doctor says of a profile: rights, credentials, the session's record, the issuer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from nightporter.client.broker import Broker
from nightporter.core.errors import (
    CredentialsRefusedError,
    LoginRequiredError,
    NightporterError,
    SessionRejectedError,
    StoreLifeError,
    with_profile,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import STRICT_CLAIM_S
from nightporter.core.model import Ask, Profile, Role, SessionRecord
from nightporter.core.record import idle_end, parse_published
from nightporter.core.told import NOTHING
from nightporter.core.values import replace
from nightporter.operations.findings import Finding, failure, fault, ok, warning
from nightporter.operations.policies import needed_paths
from nightporter.operations.status import LOOK_S, relative
from nightporter.session import transitions
from nightporter.session.exchange import remedy
from nightporter.session.repository import new_lineage
from nightporter.session.telling import narrowed, other_user
from nightporter.session.transitions import Snapshot
from nightporter.stores.capabilities import Expiring, Inspected, Labelled, Located

SKEW_S = 5
SHORT_S = 6 * 3600  # what is left of a session that ends soon
LONG_WARNING_S = 14 * 86_400  # ... where a person must begin another, at most
CALL_S = 10.0
CLIENT = "the client is named in the profile, and needs no secret"


class ProfileDoctor:
    """One examination of one profile: its store, its credentials, its session, its issuer.
    `is_repair`: does what is safe, as `Doctor` has it."""

    def __init__(self, broker: Broker, *, is_repair: bool) -> None:
        self._profile = broker.profile
        self._session = broker.session
        self._is_repair = is_repair

    def findings(self) -> Iterator[Finding]:
        """Yields each finding with what to do in this profile's words."""
        name, role = self._profile.name, self._profile.role.value
        for finding in itertools.chain(self._guarded(), self._issuer()):
            yield replace(finding, todo=with_profile(finding.todo, name, role))

    def _guarded(self) -> Iterator[Finding]:
        try:
            yield from self._examine()
        except NightporterError as exc:
            yield failure(exc, self._profile.name)

    def _examine(self) -> Iterator[Finding]:
        deadline = time.monotonic() + CALL_S
        missing = list(self._missing_rights())
        yield from missing
        if missing:
            return
        yield from self._reachable()
        yield from self._account(deadline)
        if self._profile.role is Role.READ_ONLY:
            self._session.published(Ask(deadline=deadline), again_s=LOOK_S)
            place = self._profile.publish_access_token
            yield ok(f"an access token is published at {place!r}", self._profile.name)
            return
        yield from self._labels()
        yield from self._published(deadline)
        yield from self._spilled(deadline)
        snapshot = self._session.read(deadline)
        yield from self._life()
        if snapshot.now is not None:
            whom = f"the store {self._profile.store.name!r}"
            yield from _skewed(snapshot.now - time.time(), whom, self._profile.name)
        yield from self._found(snapshot)

    def _published(self, deadline: float) -> Iterator[Finding]:
        """Whether what readers are to be given is a token that they would take."""
        path = self._profile.publish_access_token
        if path is None or self._profile.role is not Role.FULL:
            return
        value = self._session.read_path(path, deadline).value
        if value is not None and parse_published(value, self._profile, now=time.time()) is None:
            yield _implausible(f"published at {path!r}", self._profile.name)

    def _missing_rights(self) -> Iterator[Finding]:
        profile, store = self._profile, self._session.store
        if not isinstance(store, Inspected):
            return
        reads, writes = needed_paths(profile)
        printer = f"nightporter policy {profile.name} --role {profile.role.value}"
        for right in store.missing_rights(reads, writes, timeout_s=CALL_S):
            yield Finding(
                level="error",
                reference="store-denied",
                what=f"missing permission: {right}",
                todo=f"`{printer}` prints what is needed.",
                profile=profile.name,
                exit_code=5,
            )

    def _reachable(self) -> Iterator[Finding]:
        profile, store = self._profile, self._session.store
        if isinstance(store, Located):
            yield ok(f"the store is {store.whereabouts()}", profile.name)
        yield ok(
            f"store {profile.store.name!r} is reachable, with all permissions of role"
            f" {profile.role.value}",
            profile.name,
        )

    def _account(self, deadline: float) -> Iterator[Finding]:
        """Whether what signs in, or authenticates the client, can be read."""
        profile = self._profile
        if profile.signs_in_unattended and profile.credentials:
            self._session.load_credentials(deadline)
            named = "client_id" in profile.options
            what = CLIENT if named else f"the credentials are at {profile.credentials!r}"
            yield ok(what, profile.name)
        elif profile.role is Role.FULL and profile.needs_client:
            self._session.load_client(deadline)
            place = profile.client or profile.credentials
            yield ok(f"the client's secret is at {place!r}" if place else CLIENT, profile.name)

    def _found(self, snapshot: Snapshot) -> Iterator[Finding]:
        profile = self._profile
        if snapshot.foreign is not None:
            yield warning(
                "record-newer" if snapshot.foreign.is_newer else "foreign-record",
                f"{profile.refresh_token!r}: {snapshot.foreign.reason}",
                profile.name,
            )
        elif snapshot.record is None:
            yield from self._no_session()
        else:
            yield from self._record(snapshot, snapshot.record)
            yield from self._lineage(snapshot, snapshot.record)

    def _life(self) -> Iterator[Finding]:
        """Whether the store deletes by itself what a session needs."""
        profile = self._profile
        if not isinstance(self._session.store, Expiring) or not profile.refresh_token:
            return
        found = self._session.store.life_limit(profile.refresh_token, timeout_s=CALL_S)
        if found is not None and found.seconds < STRICT_CLAIM_S:
            error = StoreLifeError(
                f"{found.source} lets the store delete what is written after {found.seconds} s, and"
                f" a claim must live for up to {STRICT_CLAIM_S}",
                hint=found.todo,
            )
            yield failure(error, profile.name)

    def _no_session(self) -> Iterator[Finding]:
        profile = self._profile
        if profile.signs_in_unattended:
            yield ok("no session yet: the first token signs in", profile.name)
        else:
            error = LoginRequiredError(
                "no session yet, and none can be begun without a person", hint=remedy(profile)
            )
            yield failure(error, profile.name)

    def _lineage(self, snapshot: Snapshot, record: SessionRecord) -> Iterator[Finding]:
        """Whether this machine has seen a newer state of the session than the store holds."""
        profile = self._profile
        if record.lineage is None:
            return
        highest = self._session.journal.highest(record.lineage)
        if record.generation >= highest:
            return
        if self._is_repair and not self._session.is_claim_alive(snapshot):
            renamed = replace(record, lineage=new_lineage(), claim=None, sent=None)
            self._session.overwrite(snapshot, renamed, by_person=True)
            yield ok("repaired: the session goes on from what the store holds", profile.name)
            return
        yield fault(
            "store-rolled-back",
            f"the store holds generation {record.generation} of the session, and this machine"
            f" has seen generation {highest}: the store was set back",
            profile.name,
            exit_code=5,
        )

    def _record(self, snapshot: Snapshot, record: SessionRecord) -> Iterator[Finding]:
        profile, name = self._profile, self._profile.name
        now = self._session.records.now(snapshot)
        if not record.identity.matches(self._session.identity(None)):
            yield warning(
                "foreign-record", f"{profile.refresh_token!r} is another identity's session", name
            )
            return
        if record.refresh_token is not None:
            yield _left(profile, record, now)
        elif record.refused is None or record.refused.until <= now:  # that has a line of its own
            yield from self._no_session()
        idle, life_s = idle_end(record, profile), profile.idle_life_s
        if idle is not None and life_s is not None and idle - now < life_s / 5:
            what = f"the session dies {relative(idle - now)}, if nobody refreshes it"
            yield warning("session-idle", what, name)
        if record.claim and self._session.is_claim_alive(snapshot):
            yield warning("session-claimed", f"claimed by {record.claim.holder}", name)
        if record.access_token and transitions.shared_ends_at(record, now=now) is None:
            yield _implausible(f"shared at {profile.refresh_token!r}", name)
        yield from self._waits(record, now)
        yield from self._told(record)
        yield from self._budget(record)

    def _waits(self, record: SessionRecord, now: float) -> Iterator[Finding]:
        """Until when the issuer isn't asked."""
        name = self._profile.name
        if record.refused and record.refused.until > now:
            until = format_rfc3339(record.refused.until)
            error = CredentialsRefusedError(
                f"refused {record.refused.count} time(s) ({record.refused.error}), not tried again"
                f" before {until}{_said_by_issuer(record)}"
            )
            yield fault("session-refused", error.message, name, exit_code=error.exit_code)
        if record.busy and record.busy.until > now:
            until = format_rfc3339(record.busy.until)
            what = f"the issuer asked not to be called again ({record.busy.call}) before {until}"
            yield warning("issuer-busy", what, name)

    def _told(self, record: SessionRecord) -> Iterator[Finding]:
        """What the issuer's replies told."""
        profile = self._profile
        told = record.told or NOTHING
        if told.words and not record.refused and not record.rejected:
            what = f"the last exchange brought no token{_said_by_issuer(record)}"
            yield warning("issuer-reply", what, profile.name)
        if transitions.is_marked(record) and record.rejected:
            error = SessionRejectedError(
                f"the issuer refused the refresh token ({record.rejected.error}), and it is not"
                f" sent again{_said_by_issuer(record)}",
                hint=remedy(profile),
            )
            yield failure(error, profile.name)
        if told.missing:
            yield warning("scope-narrowed", narrowed(told), profile.name)
        if told.is_other_user:
            yield warning("other-user", other_user(told, profile), profile.name)

    def _budget(self, record: SessionRecord) -> Iterator[Finding]:
        per_day, writes = self._session.store.versions_per_day, record.unknown.get("writes")
        if (
            per_day is None
            or not isinstance(writes, dict)
            or not isinstance(writes.get("count"), (int, float))
            or not 0 <= writes["count"] < 1 << 53
        ):
            return
        name = self._profile.name
        what = f"{writes['count']:.0f} of {per_day} versions of the last day are used"
        yield (
            warning("write-budget", what, name) if writes["count"] > per_day / 2 else ok(what, name)
        )

    def _labels(self) -> Iterator[Finding]:
        profile = self._profile
        store = self._session.store
        if not isinstance(store, Labelled):
            return
        reads, writes = needed_paths(profile)
        for path in (profile.refresh_token, profile.publish_access_token):
            if path not in (*reads, *writes):  # the role may not look at it
                continue
            found = store.newer_than_current(path)
            if found is None:
                continue
            current, newest = found
            if self._is_repair:
                store.move_current(path, newest, current)
                yield ok(
                    f"repaired: AWSCURRENT of {path!r} is at its newest version again", profile.name
                )
            else:
                what = f"AWSCURRENT of {path!r} was moved back by hand, so nothing can be written"
                yield fault("store-rolled-back", what, profile.name, exit_code=5)

    def _spilled(self, deadline: float) -> Iterator[Finding]:
        profile = self._profile
        if not self._session.journal.load():
            return
        if self._is_repair:
            self._session.settle_pending(deadline)
        if not self._session.journal.load():
            yield ok("repaired: the result that waited for its store is there now", profile.name)
        else:
            yield warning(
                "result-spilled", "a pending result waits here for its store", profile.name
            )

    def _issuer(self) -> Iterator[Finding]:
        profile = self._profile
        if profile.role is Role.READ_ONLY:
            return
        try:
            address, reply = self._session.probe(time.monotonic() + CALL_S)
        except NightporterError as exc:
            yield failure(exc, profile.name)
            return
        way = "TLS chain and proxy are fine" if address.startswith("https:") else "plain http"
        yield ok(f"the issuer answers at {address} ({way})", profile.name)
        if reply.skew_s is not None:
            yield from _skewed(reply.skew_s, "the issuer", profile.name)


def _implausible(where: str, profile: str) -> Finding:
    what = f"the access token {where} is implausible, and nobody is given it"
    return warning("implausible-token", what, profile)


def _skewed(skew_s: float, whom: str, profile: str) -> Iterator[Finding]:
    """`skew_s`: by how many seconds the other clock is ahead of this machine's."""
    if abs(skew_s) > SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        yield warning("clock-skew", f"this machine is {abs(skew_s):.0f} s {side} {whom}", profile)


def _left(profile: Profile, record: SessionRecord, now: float) -> Finding:
    """Who has begun the session, and for how long it lasts."""
    if record.expires_at is None:
        ends, is_short = "has no stated end", False
    else:
        ends = f"ends {relative(record.expires_at - now)}"
        is_short = record.expires_at - now < _short_s(profile, record)
    if is_short:
        return warning("session-old", f"the refresh token {ends}", profile.name)
    by = record.by or "unknown"
    return ok(f"session of generation {record.generation}, by {by}; it {ends}", profile.name)


def _short_s(profile: Profile, record: SessionRecord) -> float:
    """Returns with how many seconds left a session is said to end soon. Where only a person can
    begin another, that is a fifth of its life, so that somebody is there in time."""
    if profile.signs_in_unattended or record.expires_at is None or record.issued_at is None:
        return SHORT_S
    return max(SHORT_S, min(LONG_WARNING_S, (record.expires_at - record.issued_at) / 5))


def _said_by_issuer(record: SessionRecord) -> str:
    """The issuer's own words about its last refusal, as the record keeps them."""
    return f'; the issuer says: "{record.told.words}"' if record.told and record.told.words else ""
