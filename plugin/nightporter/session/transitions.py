"""The session record as values: what we see in it, and what becomes of it. Pure.

Nothing here reads a store or a clock, and nothing reports: the engine does. Times are Unix seconds
on the store's clock unless a name says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from nightporter.core.limits import (
    BACK_OFF_MAX_S,
    CLAIM_S,
    LAPSE_MARGIN_S,
    LAST_GENERATION,
    MAX_ACCESS_LIFE_S,
    MAX_UNSETTLED,
    RETRY_AFTER_MAX_S,
    STRICT_CLAIM_S,
    UNSETTLED_BACK_OFF_S,
)
from nightporter.core.lineage import Link, extended, token_digest
from nightporter.core.model import (
    Attempt,
    Busy,
    Claim,
    Identity,
    IssuedTokens,
    Profile,
    Refusal,
    Rejected,
    Rotation,
    Secret,
    Sent,
    SessionRecord,
)
from nightporter.core.record import (
    ForeignRecord,
    PendingResult,
    Remains,
    clipped,
    is_plausible,
    last_exchange,
    parse_session,
    render_attempts,
    render_claim,
    render_session,
)
from nightporter.core.values import dataclass, replace
from nightporter.session.lifecycle import Bar, back_off_s
from nightporter.session.port import Stored, Version

CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client", "USER_DISABLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The record as we last saw or wrote it.

    `age_s`: how long ago the store wrote this version, by its own clock, when it answered; None
    where it doesn't tell. `now`: what its clock said; `seen_at` (since boot): when that was.
    """

    version: Version
    record: SessionRecord | None = None
    foreign: ForeignRecord | None = None
    remains: Remains | None = None
    age_s: float | None = None
    now: float | None = None
    seen_at: float = 0.0

    @property
    def generation(self) -> int:
        """Of what is there; without a record the least that the next one must exceed."""
        if self.record:
            return self.record.generation
        if self.foreign:
            return self.foreign.generation
        return self.highest_generation

    @property
    def highest_generation(self) -> int:
        """What the next record goes on counting from."""
        known = self.record or self.foreign or self.remains
        floor = self.version.floor if self.version.floor <= LAST_GENERATION else 0
        return max(floor, known.generation if known else 0)

    @property
    def claim(self) -> Claim | None:
        """The claim in whatever is there."""
        known = self.record or self.foreign
        return known.claim if known else None

    @property
    def attempts(self) -> Mapping[str, Attempt]:
        """Sign-ins without a known outcome."""
        known = self.record or self.foreign or self.remains
        return known.attempts if known else {}

    @property
    def refused(self) -> Refusal | None:
        """The refusal in whatever is there."""
        known = self.record or self.foreign or self.remains
        return known.refused if known else None

    @property
    def busy(self) -> Busy | None:
        """The issuer's wish to be left alone."""
        known = self.record or self.remains
        return known.busy if known else None

    @property
    def lineage(self) -> str | None:
        """The lineage of whatever is there."""
        known = self.record or self.foreign or self.remains
        return known.lineage if known else None


def snapshot_of(stored: Stored, *, seen_at: float) -> Snapshot:
    """Returns what a read has shown. A record whose refresh token has ended is still the record."""
    age_s = None
    if stored.now is not None and stored.written_at is not None:
        age_s = stored.now - stored.written_at
    seen = Snapshot(version=stored.version, age_s=age_s, now=stored.now, seen_at=seen_at)
    value = stored.expired if stored.value is None else stored.value
    if value is None:
        return replace(seen, remains=stored.remains)
    parsed = parse_session(value)
    if isinstance(parsed, ForeignRecord):
        return replace(seen, foreign=parsed)
    return replace(seen, record=parsed)


# Claims.


def claim_life_s(profile: Profile, *, is_refresh: bool) -> int:
    """Returns how long a claim lives: longer where a second send would end the session."""
    return STRICT_CLAIM_S if is_refresh and profile.is_strict else CLAIM_S


def has_lapsed(
    claim: Claim, age_s: float | None, watched_s: float, *, further_s: float = 0.0
) -> bool:
    """Returns whether another's claim has lapsed.

    `age_s`: of the version that shows it, on the store's clock. Where the store doesn't tell, only
    `watched_s` counts: for how long we have seen it unchanged ourselves. No host's wall clock, and
    not `until`, decides. `further_s`: how much longer it is waited for.
    """
    seen_s = watched_s if age_s is None else max(age_s, watched_s)
    return seen_s >= claim.life_s + LAPSE_MARGIN_S + further_s


def claimed_value(snapshot: Snapshot, record: SessionRecord) -> dict[str, Any]:
    """Returns the members to write for a claim. One in a record that is not ours to use changes
    nothing but the claim and the attempts, and keeps every other member."""
    foreign = snapshot.foreign
    if foreign is None or foreign.members is None:
        return render_session(record)
    members = {**foreign.members, "claim": render_claim(record.claim)}
    if record.attempts or "attempts" in members:
        members["attempts"] = render_attempts(record.attempts)
    return members


def after_claim(snapshot: Snapshot, version: Version, value: Mapping[str, Any]) -> Snapshot:
    """Returns what is there once the claim is written."""
    return snapshot_of(Stored(value, version), seen_at=snapshot.seen_at)


def fresh_record(snapshot: Snapshot, identity: Identity, *, by: str) -> SessionRecord:
    """Returns a record without a session that continues the counts of what was there."""
    return SessionRecord(
        identity=identity,
        generation=snapshot.highest_generation,
        attempts=snapshot.attempts,
        refused=snapshot.refused if snapshot.foreign is None else None,
        busy=snapshot.busy,
        lineage=snapshot.lineage if snapshot.foreign is None else None,
        by=by,
    )


# What blocks a call.


def attempt_key(parts: object) -> str:
    """Returns the name of one set of credentials and of all that goes into a sign-in request with
    them: 16 hexadecimal digits of a digest. `parts`: anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sign_in_bar(
    snapshot: Snapshot, *, key: str, version: str, is_own: bool, now: float
) -> tuple[Bar, int]:
    """Returns what blocks a sign-in with these credentials, and until when. `is_own`: the
    record is of our identity."""
    if until := refused_until(snapshot, key=key, version=version, is_own=is_own, now=now):
        return Bar.REFUSED, until
    if until := unsettled_until(snapshot, key=key, now=now):
        return Bar.UNSETTLED, until
    if until := busy_until(snapshot, "sign-in", now=now):
        return Bar.BUSY, until
    return Bar.NOTHING, 0


def unsettled_until(snapshot: Snapshot, *, key: str, now: float) -> int:
    """Returns until when nobody signs in because nobody knows what came of the last sign-ins with
    these credentials; 0 where that is no matter."""
    attempt = snapshot.attempts.get(key)
    if attempt is None or attempt.count < MAX_UNSETTLED:
        return 0
    until = min(attempt.at, int(now)) + UNSETTLED_BACK_OFF_S
    return until if now < until else 0


def refused_until(snapshot: Snapshot, *, key: str, version: str, is_own: bool, now: float) -> int:
    """Returns until when the remembered refusal forbids signing in with these credentials; 0 where
    it doesn't. A refusal that ends further off than any back-off is senseless."""
    refusal = snapshot.refused
    if refusal is None or not now < refusal.until <= now + BACK_OFF_MAX_S + 3600:
        return 0
    if refusal.key is not None:
        return refusal.until if refusal.key == key else 0
    if not is_own:
        return 0  # version numbers are not unique: it may be about others' credentials
    is_same = refusal.credentials_version in (version, "unknown")
    is_same = is_same or refusal.credentials_version.endswith(f"/{version}")
    return refusal.until if is_same else 0


def client_errors(profile: Profile) -> frozenset[str]:
    """Returns the codes by which the vendor refuses the client, whatever it asks for."""
    row = profile.options
    return CLIENT_ERRORS.union(row.get("refused_errors", ())).difference(row.get("dead_errors", ()))


def refresh_bar(
    snapshot: Snapshot, profile: Profile, *, client_version: str | None, now: float
) -> tuple[Bar, int]:
    """Returns what blocks a refresh, and until when. `client_version`: of the secret that
    the client's credentials are in; None where it is not known."""
    refusal = snapshot.refused
    is_foreign = snapshot.foreign is not None
    if refusal is not None and refusal.error in client_errors(profile) and not is_foreign:
        is_now = now < refusal.until <= now + BACK_OFF_MAX_S + 3600
        known = refusal.credentials_version
        is_same = client_version is None or client_version in (known, known.rpartition("/")[2])
        if is_now and is_same:
            return Bar.REFUSED, refusal.until
    if until := busy_until(snapshot, "refresh", now=now):
        return Bar.BUSY, until
    return Bar.NOTHING, 0


def busy_until(snapshot: Snapshot, call: str, *, now: float) -> int:
    """Returns until when the issuer asked not to be called like this; 0 where it didn't."""
    busy = snapshot.busy
    if busy is None or busy.call != call or not now < busy.until <= now + RETRY_AFTER_MAX_S + 60:
        return 0
    return busy.until


# Transitions.


def with_attempt(record: SessionRecord, key: str, now: float) -> SessionRecord:
    """Returns the record with one more sign-in counted, before it is sent."""
    before = record.attempts.get(key)
    attempt = Attempt(count=before.count + 1 if before else 1, at=int(now))
    return replace(record, attempts={**record.attempts, key: attempt})


def without_attempt(record: SessionRecord, key: str | None) -> SessionRecord:
    """Returns the record without the count of these credentials."""
    kept = {name: found for name, found in record.attempts.items() if name != key}
    return replace(record, attempts=kept)


def with_sent(record: SessionRecord, now: float) -> SessionRecord:
    """Returns the record that says that its refresh token is about to be sent.

    A first send whose outcome is still unknown is what a grace period counts from.
    """
    if record.sent is not None and record.sent.generation == record.generation:
        return record
    return replace(record, sent=Sent(generation=record.generation, at=int(now)))


def settled(record: SessionRecord) -> SessionRecord:
    """Returns the record without claim and without what was about to be sent."""
    return replace(record, claim=None, sent=None)


def given_back(record: SessionRecord, base: SessionRecord) -> SessionRecord:
    """Returns the record without a claim under which nothing was sent, as it was before it."""
    return replace(record, claim=None, sent=base.sent, attempts=base.attempts)


def tidied(record: SessionRecord, *, now: float) -> SessionRecord:
    """Returns the record without what nobody may use any more: a refresh token past its stated end,
    and a shared access token that can't be believed, which would be served for longer than any of
    ours lives."""
    if has_ended(record, now=now):
        record = replace(record, refresh_token=None, expires_at=None, rejected=None, sent=None)
    if record.access_token is None or shared_ends_at(record, now=now) is not None:
        return record
    return without_access_token(record)


def has_ended(record: SessionRecord, *, now: float) -> bool:
    """Returns whether the refresh token is past its stated end."""
    return record.expires_at is not None and record.expires_at <= now


def refused_record(
    record: SessionRecord, *, key: str | None, version: str, error: str, now: float
) -> SessionRecord:
    """Returns the record after the issuer has refused the credentials: nobody tries again before
    the back-off has passed. The refresh token stays; it is the only copy."""
    before = record.refused
    is_same = before is not None and before.credentials_version == version and before.key == key
    count = before.count + 1 if before is not None and is_same else 1
    refusal = Refusal(
        credentials_version=version,
        until=int(now) + back_off_s(count),
        count=count,
        error=error or "unnamed",
        key=key,
    )
    return replace(settled(without_attempt(record, key)), refused=refusal)


def busy_record(record: SessionRecord, call: str, until: int) -> SessionRecord:
    """Returns the record after the issuer has asked to be left alone."""
    return replace(settled(record), busy=Busy(call=call, until=until))


def marked_record(
    record: SessionRecord, *, error: str, now: float, is_elsewhere: bool = False
) -> SessionRecord:
    """Returns the record whose refresh token nobody sends again, unless a person wants it."""
    assert record.refresh_token is not None
    mark = Rejected(
        digest=digest_of(record),
        error=error or "unnamed",
        at=int(now),
        is_elsewhere=is_elsewhere,
    )
    return replace(settled(record), rejected=mark, access_token=None, access_token_expires_at=None)


def digest_of(record: SessionRecord) -> str:
    """Returns 16 hexadecimal digits that name the record's refresh token, salted with lineage and
    generation so that no list of digests helps to guess it."""
    token = record.refresh_token.reveal() if record.refresh_token else ""
    salted = f"{record.lineage}\0{record.generation}\0{token}"
    return hashlib.sha256(salted.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_marked(record: SessionRecord) -> bool:
    """Returns whether the issuer has refused the refresh token that is in the record."""
    return record.rejected is not None and record.rejected.digest == digest_of(record)


def refreshed_record(
    record: SessionRecord,
    profile: Profile,
    issued: IssuedTokens,
    *,
    sent_at: int,
    refresh_end: Callable[[], int | None],
    by: str,
) -> SessionRecord:
    """Returns the record after a refresh. Without another refresh token the old one stays in use
    (RFC 6749 section 6). `refresh_end`: when one issued now dies; asked for only where it counts,
    since time zones take longer to load than all else that is done here."""
    after = _exchanged(record, profile, issued, sent_at=sent_at, by=by)
    client_refusal = record.refused is not None and record.refused.error in client_errors(profile)
    after = replace(after, refused=None if client_refusal else record.refused)
    stated = stated_end(issued, sent_at)
    if stated is not None:
        after = replace(after, expires_at=stated)
    if issued.refresh_token is None or issued.refresh_token == record.refresh_token:
        return after
    after = replace(after, refresh_token=issued.refresh_token)
    after = linked(record, after, "refresh", sent_at)
    if profile.rotation is Rotation.REUSED:
        return after  # by itself a refresh never extends the life of a token that is reused
    return replace(after, issued_at=sent_at, expires_at=stated or refresh_end())


def stated_end(issued: IssuedTokens, sent_at: int) -> int | None:
    """Returns when the refresh token ends by the vendor's own words; None where it says nothing.
    Times: Unix seconds."""
    return None if issued.refresh_life_s is None else sent_at + issued.refresh_life_s


def signed_in_record(
    record: SessionRecord,
    profile: Profile,
    issued: IssuedTokens,
    *,
    identity: Identity,
    key: str | None,
    lineage: str,
    sent_at: int,
    refresh_expires_at: int | None,
    by: str,
) -> SessionRecord:
    """Returns the record after a sign-in: another session, so another lineage."""
    after = _exchanged(without_attempt(record, key), profile, issued, sent_at=sent_at, by=by)
    stated = stated_end(issued, sent_at)
    signed_in = replace(
        after,
        identity=identity,
        lineage=lineage,
        output=dict(issued.output),
        refresh_token=issued.refresh_token,
        issued_at=sent_at,
        expires_at=(stated or refresh_expires_at) if issued.refresh_token else None,
        refused=None,
    )
    return linked(record, signed_in, "sign-in", sent_at)


def linked(before: SessionRecord | None, after: SessionRecord, how: str, at: int) -> SessionRecord:
    """Returns the record with one more link in the history of its refresh tokens. `how`: one of
    `lineage.WAYS`; `at`: Unix seconds."""
    if after.refresh_token is None and how != "logout":
        return after
    held = before.refresh_token if before else None
    parent = token_digest(after.lineage, held.reveal()) if held and how == "refresh" else None
    now_held = after.refresh_token.reveal() if after.refresh_token else None
    link = Link(
        digest=token_digest(after.lineage, now_held),
        parent=parent,
        generation=after.generation,
        at=at,
        by=clipped(after.by),
        how=how,
    )
    return replace(after, history=extended(before.history if before else (), link))


def is_idle_news(before: SessionRecord, after: SessionRecord, profile: Profile) -> bool:
    """Returns whether the time of a refresh is worth a write of its own: where a session dies when
    it is idle, nobody else could tell that it was not."""
    first, last = last_exchange(before), last_exchange(after)
    if profile.idle_life_s is None or first is None or last is None:
        return False
    return last - first > profile.idle_life_s // 8


def _exchanged(
    record: SessionRecord, profile: Profile, issued: IssuedTokens, *, sent_at: int, by: str
) -> SessionRecord:
    is_shared = profile.share_access_token
    # What we write must be believed when it is read back (`is_plausible`).
    life_s = min(issued.expires_in, MAX_ACCESS_LIFE_S)
    return replace(
        settled(record),
        generation=record.generation + 1,
        by=by,
        access_token=issued.access_token if is_shared else None,
        access_token_expires_at=sent_at + life_s if is_shared else None,
        token_type=issued.token_type,
        exchanged_at=sent_at,
        rejected=None,
        busy=None,
        output={**record.output, **issued.output},
    )


def rescued_record(
    record: SessionRecord,
    refresh_token: Secret,
    *,
    sent_at: int,
    refresh_expires_at: int | None,
    by: str,
) -> SessionRecord:
    """Returns the record with the refresh token of an answer that was of no other use: the old one
    may be dead by now."""
    rescued = replace(
        settled(record),
        refresh_token=refresh_token,
        generation=record.generation + 1,
        issued_at=sent_at,
        expires_at=refresh_expires_at,
        exchanged_at=sent_at,
        access_token=None,
        access_token_expires_at=None,
        rejected=None,
        by=by,
    )
    return linked(record, rescued, "refresh", sent_at)


def brought_record(
    snapshot: Snapshot,
    *,
    identity: Identity,
    refresh_token: Secret | None,
    lineage: str | None,
    issued_at: int | None,
    expires_at: int | None,
    by: str,
    how: str,
    at: int,
) -> SessionRecord:
    """Returns the record of a session that a person brings, or ends (`refresh_token` None: the
    lineage stays, so that nobody puts an older state of it back). `how`, `at`: as in `linked`."""
    unknown = snapshot.record.unknown if snapshot.record else {}
    brought = SessionRecord(
        identity=identity,
        refresh_token=refresh_token,
        issued_at=issued_at,
        expires_at=expires_at,
        generation=snapshot.highest_generation + 1,
        lineage=lineage,
        by=by,
        unknown=unknown,
    )
    return linked(snapshot.record, brought, how, at)


def with_access_token(
    record: SessionRecord, issued: IssuedTokens, *, exchanged_at: int
) -> SessionRecord:
    """Returns the record with an access token to share."""
    return replace(
        record,
        access_token=issued.access_token,
        access_token_expires_at=exchanged_at + min(issued.expires_in, MAX_ACCESS_LIFE_S),
        token_type=issued.token_type,
        exchanged_at=exchanged_at,
    )


def without_access_token(record: SessionRecord) -> SessionRecord:
    """Returns the record as it is kept where it is too large for the store with its access
    token."""
    return replace(record, access_token=None, access_token_expires_at=None)


def supersedes(
    new: SessionRecord, old: SessionRecord | None, *, now: float, by_person: bool = False
) -> bool:
    """Returns whether `new` may be written over `old`: the only copy of a refresh token is replaced
    by a newer one, by a person, or after its stated end, and by nothing else."""
    if old is None or old.refresh_token is None or by_person:
        return True
    if new.refresh_token == old.refresh_token:
        return True
    if old.expires_at is not None and old.expires_at <= now:
        return True
    is_session = new.refresh_token is not None or new.lineage != old.lineage
    return is_session and new.generation > old.generation


# Access tokens in the record.


def shared_ends_at(record: SessionRecord, *, now: float) -> int | None:
    """Returns when the shared access token ends, or None where there is none to be believed."""
    ends = record.access_token_expires_at
    if record.access_token is None or ends is None:
        return None
    began = record.exchanged_at
    return ends if is_plausible(record.token_type, began, ends, now=now) else None


def grace_left_s(record: SessionRecord, profile: Profile, *, now: float) -> float:
    """Returns how many seconds of the vendor's grace period are left for a refresh token that was
    sent without a known outcome; 0 where there is none."""
    sent = record.sent
    if sent is None or sent.generation != record.generation or profile.grace_s == 0:
        return 0.0
    return max(0.0, sent.at + profile.grace_s - now)


# Pending results.


def is_outlived(
    kept: SessionRecord, pending: PendingResult, snapshot: Snapshot, *, now: float
) -> bool:
    """Returns whether the record has provably gone on from a result that waits on a disk.

    A sign-in that waits is outlived by any later session: it was never the only copy of one that
    others use.
    """
    if has_ended(kept, now=now):
        return True
    if snapshot.claim is not None and snapshot.claim.nonce == pending.nonce:
        return False
    is_later = snapshot.generation >= kept.generation
    if pending.is_sign_in:
        return is_later and snapshot.record is not None
    return is_later and snapshot.lineage == kept.lineage


def belongs(kept: SessionRecord, pending: PendingResult, snapshot: Snapshot) -> bool:
    """Returns whether a result that waits on a disk goes into this record: over its own claim, over
    an older state of its own session, or where there is nothing. Identities are not compared: they
    change with how a profile is spelled."""
    if snapshot.claim is not None and snapshot.claim.nonce == pending.nonce:
        return True
    if snapshot.record is None and snapshot.foreign is None:
        return pending.is_sign_in or snapshot.lineage in (None, kept.lineage)
    return pending.is_sign_in or snapshot.lineage == kept.lineage
