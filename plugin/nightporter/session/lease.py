"""Our hold on a session: the claim in its record, and the result that is written over it.

Three promises are kept here: a claim is won by compare-and-set or not at all, a result is written
only over one's own claim, and a result that can't be written is kept in a file. Rules and numbers:
contract, section 6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nightporter.core.errors import (
    NightporterError,
    ResultSpilledError,
    StoreDeniedError,
    StoreError,
    StoreRolledBackError,
    VersionConflictError,
    WriteBudgetError,
)
from nightporter.core.expiry import DAY_S, format_rfc3339, parse_rfc3339
from nightporter.core.limits import CLAIM_S
from nightporter.core.model import Claim, SessionRecord
from nightporter.core.record import Spilled, render_session
from nightporter.session.port import KEEP_EXPIRY, Version
from nightporter.session.repository import STORE_CALL_S, Session, View

WRITE_BACK_S = 3.0
ASLEEP_TOO_LONG_S = 12 * 3600
ROLLED_BACK_AFTER_S = 5.0  # several times what a store needs to show a write to every reader
WRITES_PER_EXCHANGE = 2  # the claim and the result


class Hold:
    """Of one attempt. `claim` and `view`: the claim that is ours and the record that it stands in;
    None without one.

    `is_spent`: something was sent under it whose outcome is unknown. `is_left`: it is to run out by
    itself.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._profile = session.profile
        self._around = session.around
        self.claim: Claim | None = None
        self.view: View | None = None
        self.is_spent = False
        self.is_left = False
        self._since = 0.0
        self._lost: tuple[str, float] = ("", 0.0)

    # Claiming.

    def left_s(self, claim: Claim) -> float:
        """What is left of our claim, by the shorter of both clocks."""
        return min(
            claim.until - self._around.clock(), CLAIM_S - (self._around.monotonic() - self._since)
        )

    def take(
        self, record: SessionRecord, view: View, deadline: float, *, is_take_over: bool
    ) -> View | None:
        """Writes a claim into the record, over what was seen; None when another was first.

        Raises: WriteBudgetError, StoreRolledBackError, StoreError.
        """
        record = replace(record, claim=self._around.new_claim(), unknown=self._with_budget(record))
        self._emit("take-over" if is_take_over else "claim")
        began = self._around.monotonic()
        version = self._write_claim(record, view.version, deadline)
        if version is None:
            self._count_lost(view)
            return None
        self.claim, self._since, self.is_spent = record.claim, began, False
        self._emit("claim-won")
        self.view = View(version=version, record=record)
        return self.view

    def _count_lost(self, view: View) -> None:
        """Losing means that a newer version comes into view. Where none ever does, a person moved
        the current one back.

        Raises: StoreRolledBackError.
        """
        self._emit("claim-lost")
        if self._lost[0] != view.version.token:
            self._lost = (view.version.token, self._around.monotonic())
        elif self._around.monotonic() - self._lost[1] > ROLLED_BACK_AFTER_S:
            raise StoreRolledBackError(
                f"{self._profile.name}: {self._profile.refresh_token!r} has a successor in the"
                " store that never becomes current: somebody moved its current version back"
            )

    def _write_claim(
        self, record: SessionRecord, expected: Version, deadline: float
    ) -> Version | None:
        """None when another was first. A conflict after a lost answer may be our own success."""
        value, claim, is_ambiguous = render_session(record), record.claim, False

        def write(timeout_s: float) -> Version:
            nonlocal is_ambiguous
            try:
                return self._session.store.write(
                    self._profile.refresh_token, value, expected, KEEP_EXPIRY, timeout_s=timeout_s
                )
            except NightporterError as exc:
                is_ambiguous = is_ambiguous or exc.retryable
                raise

        try:
            return self._session.with_retries(write, deadline)
        except VersionConflictError:
            if not is_ambiguous:
                return None
        except StoreDeniedError as exc:
            raise StoreDeniedError(
                f"{self._profile.name}: the claim can't be written, so nothing was sent:"
                f" {exc.message}",
                right=exc.right,
            ) from exc
        seen = self._session.read(deadline)
        is_ours = claim is not None and seen.claim is not None and seen.claim.nonce == claim.nonce
        return seen.version if is_ours else None

    def _with_budget(self, record: SessionRecord) -> Mapping[str, Any]:
        """Counts this exchange's writes where the store's versions are limited: a bucket that a day
        empties.

        Raises: WriteBudgetError. A result is never refused, only a claim.
        """
        per_day = self._session.store.versions_per_day
        if per_day is None:
            return record.unknown
        now = self._around.clock()
        level, at = 0.0, now
        writes = record.unknown.get("writes")
        if isinstance(writes, dict):
            with contextlib.suppress(ValueError, TypeError):
                level, at = (
                    float(writes.get("count", 0)),
                    float(parse_rfc3339(str(writes.get("at")))),
                )
        level = max(0.0, level - max(0.0, now - at) * per_day / DAY_S) + WRITES_PER_EXCHANGE
        if level > per_day:
            raise WriteBudgetError(
                f"{self._profile.name}: {per_day} versions a day are all that the store keeps, and"
                " they are used up"
            )
        return {**record.unknown, "writes": {"count": round(level, 1), "at": format_rfc3339(now)}}

    # Saving.

    def save(self, view: View, record: SessionRecord) -> bool:
        """Writes the result over our own claim. False when it was fenced off: another has taken
        over.

        Raises: ResultSpilledError.
        """
        value = render_session(record)
        is_ambiguous, pause_s = False, 0.1
        if self.claim and self._around.clock() - self.claim.until > ASLEEP_TOO_LONG_S:
            # After a day a store may have forgotten the version that fences us off (Secrets Manager
            # prunes).
            self._emit("fenced")
            self.claim = self.view = None
            return False
        while True:
            try:
                self._emit("save")
                self._session.overwrite(view, record)
                break
            except VersionConflictError:
                if is_ambiguous and self._is_saved(value):
                    break
                self._emit("fenced")
                self.claim = self.view = None
                return False
            except Exception as exc:  # whatever it is, the result must not be lost with it
                is_ambiguous = True
                is_over = self._around.monotonic() + pause_s - self._since >= CLAIM_S
                if is_over or not (isinstance(exc, NightporterError) and exc.retryable):
                    raise self._spilled(value, exc) from exc
                self._around.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
        self.claim = self.view = None
        self._emit("saved", generation=record.generation)
        return True

    def _is_saved(self, value: Mapping[str, Any]) -> bool:
        try:
            return (
                self._session.store.read(self._profile.refresh_token, timeout_s=STORE_CALL_S).value
                == value
            )
        except StoreError:
            return False

    def _spilled(self, value: Mapping[str, Any], exc: Exception) -> StoreError:
        self.is_left = True  # the result belongs over it
        why = exc.message if isinstance(exc, NightporterError) else type(exc).__name__
        nonce = self.claim.nonce if self.claim else ""
        kept = self._session.spill.keep(
            Spilled(nonce=nonce, record=value, at=int(self._around.clock()))
        )
        self._emit("spilled" if kept else "spill-failed", detail=why)
        if kept:
            return ResultSpilledError(
                f"{self._profile.name}: exchanged, but the store took no result ({why});"
                f" it is kept in {self._session.spill.path}"
            )
        return StoreError(
            f"{self._profile.name}: exchanged, but neither the store nor the data directory took"
            f" the result: {why}",
            hint=(
                "Give this process a writable home or XDG_DATA_HOME; the session may have to be"
                " started anew."
            ),
        )

    def write_back(self, view: View, record: SessionRecord) -> None:
        """Ends our claim with this record. What fails is left to the claim's own end."""
        self.claim = self.view = None

        def write(timeout_s: float) -> Version:
            return self._session.overwrite(view, record, timeout_s=timeout_s)

        try:
            self._session.with_retries(write, self._around.monotonic() + WRITE_BACK_S)
        except StoreError as exc:
            self._emit("write-back-failed", error=exc.reference)

    def release(self, view: View | None) -> None:
        """Gives an unused claim back, if this view shows it."""
        if (
            view is not None
            and view.record is not None
            and self.claim is not None
            and view.claim == self.claim
        ):
            self.write_back(view, replace(view.record, claim=None))

    def _emit(self, event: str, **facts: Any) -> None:
        self._around.emit(event, profile=self._profile.name, **facts)
