"""Our lease on a session: the claim in its record, and the result that is written over it.

Three promises are kept here: a claim is won by compare-and-set or not at all, a result is written
only over one's own claim, and a result that can't be written is kept in a file. Rules and numbers:
contract, section 6.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nightporter.core.errors import (
    NightporterError,
    ResultPendingError,
    StoreDeniedError,
    StoreElectingError,
    StoreError,
    StoreRolledBackError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
    WriteBudgetError,
)
from nightporter.core.expiry import DAY_S, format_rfc3339, parse_rfc3339
from nightporter.core.limits import SEND_WITHIN_S
from nightporter.core.model import Claim, Profile, SessionRecord
from nightporter.core.record import PendingResult, is_readable, render_session
from nightporter.core.values import dataclass, field, replace
from nightporter.issuers.oauth import Call
from nightporter.session import effects, transitions
from nightporter.session.driver import Backoff, Runtime
from nightporter.session.effects import Flow
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.session.transitions import Snapshot

T = TypeVar("T")
STORE_CALL_S = 5.0
MAX_TRIES = 5
ELECTION_PAUSE_S = 1.0  # between looks at a cluster that elects a leader
WRITE_BACK_S = 3.0
ASLEEP_TOO_LONG_S = 12 * 3600
ROLLED_BACK_AFTER_S = 5.0  # several times what a store needs to show a write to every reader
WRITES_PER_EXCHANGE = 2  # the claim and the result
LEAST_CALL_S = 0.5


@dataclass(slots=True, kw_only=True)
class Records:
    """The record of one profile in the store, and the world around it: what reads and writes need.

    `versions_per_day`: as in `Store`. `journal_path`: where pending results are, for people.
    """

    profile: Profile
    runtime: Runtime
    versions_per_day: int | None
    journal_path: str = ""

    def emit(self, event: str, **facts: Any) -> None:
        """Reports an event of this profile."""
        self.runtime.emit(event, profile=self.profile.name, **facts)

    def reading(self, deadline: float) -> Flow[Snapshot]:
        """Reads the record, with retries.

        Raises: StoreError.
        """
        stored = yield from self.reading_path(self.profile.refresh_token, deadline)
        return transitions.snapshot_of(stored, seen_at=self.runtime.boot())

    def reading_path(self, path: str, deadline: float) -> Flow[Stored]:
        """Reads any path of the store, with retries.

        Raises: StoreError.
        """
        self.runtime.emit("read", path=path)
        return (
            yield from self.retrying(lambda timeout_s: effects.reading(path, timeout_s), deadline)
        )

    def overwriting(
        self,
        snapshot: Snapshot,
        record: SessionRecord,
        *,
        timeout_s: float = STORE_CALL_S,
        by_person: bool = False,
        now: float | None = None,
    ) -> Flow[Version]:
        """Writes the record over the one that was seen; the one way by which a refresh token is
        replaced.

        Raises: VersionConflictError, StoreError.
        """
        moment = self.now(snapshot) if now is None else now
        if not transitions.supersedes(record, snapshot.record, now=moment, by_person=by_person):
            raise AssertionError("the only copy of a refresh token would be lost")
        value = render_session(record)
        if not is_readable(value):
            raise StoreValueError(
                f"{self.profile.refresh_token!r}: what is to be written could not be read back"
            )
        return (
            yield from effects.writing(
                self.profile.refresh_token, value, snapshot.version, record.expires_at, timeout_s
            )
        )

    def retrying(
        self,
        call: Callable[[float], Flow[T]],
        deadline: float,
        *,
        is_conflict_retried: bool = False,
    ) -> Flow[T]:
        """Returns the call's answer; what is marked retryable is tried again, with jitter, until
        the deadline (monotonic seconds) or MAX_TRIES; an election until the deadline alone."""
        tries = 0
        while True:
            left_s = deadline - self.runtime.monotonic()
            try:
                return (yield from call(min(STORE_CALL_S, max(LEAST_CALL_S, left_s))))
            except NightporterError as exc:
                is_unasked = isinstance(exc, StoreUnreachableError) and exc.is_unasked
                tries += 0 if is_unasked else 1
                is_electing = isinstance(exc, StoreElectingError)
                backoff = Backoff(max_s=ELECTION_PAUSE_S) if is_electing else Backoff()
                pause_s = backoff.pause_s(tries, self.runtime.uniform, exc.retry_after_s)
                is_conflict = is_conflict_retried and isinstance(exc, VersionConflictError)
                is_late = self.runtime.monotonic() + pause_s >= deadline
                is_enough = tries >= MAX_TRIES and not is_electing
                if not (exc.retryable or is_conflict) or is_enough or is_late:
                    raise
            yield from effects.sleeping(pause_s)

    def now(self, snapshot: Snapshot) -> float:
        """Returns what the store's clock says (Unix seconds), as far as the snapshot tells; else
        our own."""
        if snapshot.now is None:
            return self.runtime.clock()
        return snapshot.now + (self.runtime.boot() - snapshot.seen_at)

    def skew_s(self, snapshot: Snapshot) -> float:
        """Returns by how many seconds the store's clock is ahead of this host's."""
        return self.now(snapshot) - self.runtime.clock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try to write a claim: since when (since boot) it counts, for which call it was written,
    and what was there before it."""

    since: float
    purpose: Call
    base: SessionRecord
    members: Mapping[str, Any] | None


@dataclass(slots=True)
class Lease:
    """The lease of one exchange. `claim` and `snapshot` are None until it is acquired.

    `is_spent`: something was sent under it whose outcome is unknown. `is_left`: it is not released,
    but lapses.
    """

    records: Records
    claim: Claim | None = None
    snapshot: Snapshot | None = None
    is_spent: bool = False
    is_left: bool = False
    _held: Try | None = None
    _tries: dict[str, Try] = field(default_factory=dict)
    _lost: tuple[str, float] | None = None

    # Claiming.

    def age_s(self) -> float:
        """Returns for how long we have held the claim, from before the first try to write it."""
        since = self._held.since if self._held else float("-inf")
        return self.records.runtime.boot() - since

    def may_begin(self) -> bool:
        """Returns whether the first byte may still be sent under the claim."""
        return self.age_s() < SEND_WITHIN_S

    @property
    def purpose(self) -> Call | None:
        """For which call the claim was written, and so what may be sent under it."""
        return self._held.purpose if self._held else None

    @property
    def base(self) -> SessionRecord | None:
        """The record before the claim, which a claim under which nothing was sent goes back to."""
        return self._held.base if self._held and self.claim and not self.is_spent else None

    @property
    def was_sent_before(self) -> bool:
        """Whether the refresh token had been sent before our claim, by anybody, without a known
        outcome."""
        base = self._held.base if self._held else None
        return base is not None and base.sent is not None

    def is_young(self) -> bool:
        """Returns whether something may still be sent under the claim."""
        return self.may_begin() and not self.is_spent

    def recognise(self, snapshot: Snapshot) -> bool:
        """Returns whether the claim in the snapshot is ours, from any of our tries: its
        write's answer may have been lost."""
        if self._lost is not None and self._lost[0] != snapshot.version.token:
            self._lost = None  # a newer version has come into view
        claim = snapshot.claim
        if claim is None or claim.nonce not in self._tries:
            return False
        self.claim, self.snapshot = claim, snapshot
        self._held = self._tries[claim.nonce]
        return True

    def taking(
        self,
        snapshot: Snapshot,
        record: SessionRecord,
        *,
        base: SessionRecord,
        purpose: Call,
        deadline: float,
        is_takeover: bool,
    ) -> Flow[Snapshot | None]:
        """Writes a claim into the record, over what was seen; None when another was first.

        `record`: what is to be written but for the claim; whatever is about to be sent is in it.
        `base`: what it goes back to when nothing was sent.

        Raises: WriteBudgetError, StoreRolledBackError, StoreError.
        """
        claim = self._new_claim(snapshot, purpose)
        members = snapshot.foreign.members if snapshot.foreign else None
        attempt = Try(
            since=self.records.runtime.boot(), purpose=purpose, base=base, members=members
        )
        claimed = replace(record, claim=claim, unknown=self._with_budget(record, snapshot))
        value = transitions.claimed_value(snapshot, claimed)
        self._tries[claim.nonce] = attempt
        self.records.emit("take-over" if is_takeover else "claim")
        version = yield from self._writing_claim(value, claim, snapshot.version, deadline)
        if version is None:
            self._count_lost(snapshot)
            return None
        self.claim, self._held = claim, attempt
        self.is_spent = self.is_left = False
        self.snapshot = transitions.after_claim(snapshot, version, value)
        self.snapshot = replace(self.snapshot, now=snapshot.now, seen_at=snapshot.seen_at)
        self.records.emit("claim-won")
        return self.snapshot

    def _new_claim(self, snapshot: Snapshot, purpose: Call) -> Claim:
        runtime = self.records.runtime
        is_refresh = purpose is Call.REFRESH
        life_s = transitions.claim_life_s(self.records.profile, is_refresh=is_refresh)
        return Claim(
            holder=runtime.holder,
            until=int(self.records.now(snapshot)) + life_s,
            nonce=secrets.token_hex(8),
            machine=runtime.machine,
            life_s=life_s,
        )

    def _count_lost(self, snapshot: Snapshot) -> None:
        """Losing means that a newer version comes into view. Where none ever does, a person moved
        the current one back.

        Raises: StoreRolledBackError.
        """
        self.records.emit("claim-lost")
        now, token = self.records.runtime.monotonic(), snapshot.version.token
        if self._lost is None or self._lost[0] != token or snapshot.version == ABSENT:
            self._lost = (token, now)
        elif now - self._lost[1] > ROLLED_BACK_AFTER_S:
            profile = self.records.profile
            raise StoreRolledBackError(
                f"{profile.name}: {profile.refresh_token!r} has a successor in the store that"
                " never becomes current: somebody moved its current version back"
            )

    def _writing_claim(
        self, value: Mapping[str, Any], claim: Claim, expected: Version, deadline: float
    ) -> Flow[Version | None]:
        """None when another was first. A conflict after a lost answer may be our own success."""
        path = self.records.profile.refresh_token
        is_ambiguous = False

        def write(timeout_s: float) -> Flow[Version]:
            nonlocal is_ambiguous
            try:
                return (
                    yield from effects.writing(
                        path, value, expected, KeepExpiry(claim.life_s), timeout_s
                    )
                )
            except NightporterError as exc:
                is_ambiguous = is_ambiguous or exc.retryable
                raise

        try:
            return (yield from self.records.retrying(write, deadline))
        except VersionConflictError:
            pass  # ours after all where an answer was lost, or the write was doubled on its way
        except StoreDeniedError as exc:
            raise StoreDeniedError(
                f"{self.records.profile.name}: the claim can't be written, so nothing was sent:"
                f" {exc.message}",
                right=exc.right,
                hint=exc.hint,
            ) from exc
        seen = yield from self.records.reading(deadline)
        if seen.claim is not None and seen.claim.nonce == claim.nonce:
            return seen.version
        return None

    def _with_budget(self, record: SessionRecord, snapshot: Snapshot) -> Mapping[str, Any]:
        """Counts this exchange's writes where the store's versions are limited: a bucket that a day
        empties.

        Raises: WriteBudgetError. A result is never refused, only a claim.
        """
        per_day = self.records.versions_per_day
        if per_day is None:
            return record.unknown
        now = self.records.now(snapshot)
        level, at = 0.0, now
        writes = record.unknown.get("writes")
        if isinstance(writes, dict):
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                found_at = float(parse_rfc3339(str(writes.get("at"))))
                level, at = float(writes.get("count", 0)), min(found_at, now)
        level = min(max(level, 0.0), float(per_day))  # what others wrote is not believed for ever
        level = max(0.0, level - (now - at) * per_day / DAY_S) + WRITES_PER_EXCHANGE
        if level > per_day:
            raise WriteBudgetError(
                f"{self.records.profile.name}: {per_day} versions a day are all that the store"
                " keeps, and they are used up"
            )
        return {
            **record.unknown,
            "writes": {"count": round(level, 1), "at": format_rfc3339(now)},
        }

    # Saving.

    def saving(self, snapshot: Snapshot, record: SessionRecord) -> Flow[bool]:
        """Writes the result over our own claim. False when it was fenced off: another has taken
        over.

        Raises: ResultPendingError.
        """
        if self.age_s() > ASLEEP_TOO_LONG_S:
            # After a day a store may have forgotten the version that fences us off (Secrets Manager
            # prunes).
            return self._fenced()
        tries, is_ambiguous = 0, False
        while True:
            try:
                yield from self.records.overwriting(snapshot, record)
                break
            except VersionConflictError:
                if is_ambiguous and (yield from self._is_saved(render_session(record))):
                    break
                return self._fenced()
            except StoreValueError as exc:
                if record.access_token is None:
                    raise (yield from self._pending(record, exc)) from exc
                record = transitions.without_access_token(record)
                continue
            except Exception as exc:  # whatever it is, the result must not be lost with it
                tries, is_ambiguous = tries + 1, True
                pause_s = Backoff(first_s=0.1, max_s=2.0).pause_s(
                    tries, self.records.runtime.uniform
                )
                if not self._may_try_again(exc, pause_s):
                    raise (yield from self._pending(record, exc)) from exc
            yield from effects.sleeping(pause_s)
        self.claim = self.snapshot = None
        return True

    def _may_try_again(self, exc: Exception, pause_s: float) -> bool:
        """The save retries while the claim lives."""
        life_s = self.claim.life_s if self.claim else 0
        is_retryable = isinstance(exc, NightporterError) and exc.retryable
        return is_retryable and self.age_s() + pause_s < life_s

    def _fenced(self) -> bool:
        self.records.emit("fenced")
        self.claim = self.snapshot = None
        return False

    def _is_saved(self, value: Mapping[str, Any]) -> Flow[bool]:
        """A read may be an old one, so a negative answer is looked at again."""
        path = self.records.profile.refresh_token
        for _ in range(3):
            try:
                stored = yield from effects.reading(path, STORE_CALL_S)
            except StoreError:
                return False
            if stored.value == value:
                return True
            yield from effects.sleeping(self.records.runtime.uniform(0.1, 0.3))
        return False

    def _pending(self, record: SessionRecord, exc: Exception) -> Flow[StoreError]:
        """Keeps the result on this machine's disk, and says so."""
        self.is_left = True  # the result belongs over the claim
        why = exc.message if isinstance(exc, NightporterError) else type(exc).__name__
        kept = yield from effects.keeping_pending(
            PendingResult(
                nonce=self.claim.nonce if self.claim else "",
                record=render_session(record),
                at=int(self.records.runtime.clock()),
                is_sign_in=self.purpose is Call.SIGN_IN,
            )
        )
        self.records.emit("spilled" if kept else "spill-failed", detail=why)
        name = self.records.profile.name
        if kept:
            return ResultPendingError(
                f"{name}: exchanged, but the store did not accept the write ({why}); the result is"
                f" kept in {self.records.journal_path}"
            )
        return StoreError(
            f"{name}: exchanged, but neither the store nor the data directory accepted the result:"
            f" {why}",
            hint=(
                "Give this process a writable home or XDG_DATA_HOME; the session may have to be"
                " started again."
            ),
        )

    def writing_back(self, snapshot: Snapshot, record: SessionRecord) -> Flow[bool]:
        """Ends our claim with this record; whether it was written. What fails is left to the
        claim's own end."""
        self.claim = self.snapshot = None

        def write(timeout_s: float) -> Flow[Version]:
            return (yield from self.records.overwriting(snapshot, record, timeout_s=timeout_s))

        deadline = self.records.runtime.monotonic() + WRITE_BACK_S
        try:
            yield from self.records.retrying(write, deadline)
        except StoreError as exc:
            self.records.emit("write-back-failed", error=exc.reference)
            return False
        return True

    def releasing(self) -> Flow[None]:
        """Gives a claim back under which nothing was sent, with the attempt that it counted."""
        snapshot, held = self.snapshot, self._held
        if self.claim is None or snapshot is None or held is None:
            return
        if self.is_left or self.is_spent or snapshot.claim != self.claim:
            return
        if snapshot.record is not None:
            record = transitions.given_back(snapshot.record, held.base)
            yield from self.writing_back(snapshot, record)
            return
        self.claim = self.snapshot = None
        if held.members is None:
            return
        # A record that is not ours to use gets nothing from us but the end of our claim.
        with contextlib.suppress(StoreError):
            yield from effects.writing(
                self.records.profile.refresh_token,
                {**held.members, "claim": None},
                snapshot.version,
                KeepExpiry(),
                WRITE_BACK_S,
            )
