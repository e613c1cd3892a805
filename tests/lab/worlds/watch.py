"""What must never happen in the model's world, seen by one who knows the true time, every
machine's memory and what the vendor did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.worlds.hosts import FROZEN_S, Host
from lab.worlds.issuing import Vendor
from nightporter.core.errors import StoreDeniedError, StoreRolledBackError
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.limits import MAX_UNSETTLED, SEND_WITHIN_S, UNSETTLED_BACK_OFF_S
from nightporter.core.model import Role, Token
from nightporter.issuers.oauth import Request

GRAIN_S = 2.0  # stores and records tell whole seconds
WAITING_ROWS = frozenset({"another is refreshing", "another is signing in"})
START = 1_784_037_600.0
Written = list[tuple[dict[str, Any], float]]  # values, and when each was written


@dataclass(kw_only=True)
class Watch:
    """The invariants. `lost`: results that no save could have kept. `may_hurt`: an assumption of
    the invariants was broken on purpose."""

    now: float = START
    vendor: Vendor = field(init=False)
    hosts: list[Host] = field(init=False)
    history: Written = field(default_factory=list)
    published: Written = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sends: dict[tuple[str, str], str] = field(default_factory=dict)
    lost: int = 0
    may_hurt: bool = False

    @property
    def record(self) -> dict[str, Any]:
        return self.history[-1][0] if self.history else {}

    def note_freezes(self) -> None:
        """A host that holds an answer, and is not run while others let time pass, is frozen: for
        longer than a claim lives that may cost the session, which is an assumption of I3. Where the
        store was away for most of that life, the rest of it is what a freeze may not outlast."""
        for host in self.hosts:
            idle_s = self.now - max(host.ready_at, host.wakes_at)
            is_frozen = idle_s > FROZEN_S or (idle_s > 1.0 and self.has_lapsed())
            if host.is_in_window and is_frozen:
                self.may_hurt = True

    def has_lapsed(self) -> bool:
        """Whether the claim in the record, if there is one, is over."""
        claim = self.record.get("claim")
        return claim is not None and self.now - self.history[-1][1] >= claim["life"]

    def note_lost(self, host: Host, is_result: bool) -> None:
        host.is_in_window = False
        if is_result and self.vendor.is_rotating:
            self.lost += 1

    def note_event(self, host: Host, event: str, row: object) -> None:
        """Nobody waits for a process that its machine knows to be gone."""
        host.events.append(event)
        claim = host.claim_read
        if row in WAITING_ROWS and claim is not None and self.is_gone(claim, host):
            self.problems.append("a process that is gone was waited for")

    # What is handed out.

    def check_outcome(self, host: Host, outcome: Token | BaseException) -> None:
        """Whatever ends an ask."""
        # A store that serves old reads for as long as that looks just like one that was set back.
        if isinstance(outcome, StoreRolledBackError) and not host.has_read_old:
            self.problems.append("the store was called set back, and was not")
        if isinstance(outcome, StoreDeniedError):
            self.problems.append("a permission was asked for that nobody should need")
        if isinstance(outcome, Token) and not host.is_job:
            self.check_token(host, outcome)

    def check_token(self, host: Host, token: Token) -> None:
        """By the vendor's own memory, not by what the token's bearer believes."""
        if self.vendor.ends[token.value] + GRAIN_S <= self.now:
            self.problems.append("an expired access token was served")
        if (token.ends_s or 0) <= host.machine.boot():
            self.problems.append("a token was served that its host believes expired")
        if self.vendor.is_rotating and not self.is_saved(token.value):
            self.problems.append("a token was handed out before it was saved")
        if token.value in host.refused:
            self.problems.append("a token that a client reported as refused was served")
        if not host.profile.share_access_token and self.is_kept():
            self.problems.append("an access token was kept although sharing is off")

    def is_saved(self, access_token: str) -> bool:
        """Whether the refresh token that came with it was in the record at any time."""
        saved = {value.get("refresh_token") for value, _ in self.history}
        return access_token.replace("A", "R").partition("-")[0] in saved

    def is_kept(self) -> bool:
        return any(value.get("access_token") for value, _ in self.history)

    # What is sent.

    def check_send(self, host: Host, request: Request) -> None:
        if host.role is Role.READ_ONLY:
            self.problems.append("a reader called the issuer")
        is_sign_in = b"password" in request.body
        if is_sign_in and host.role is not Role.FULL:
            self.problems.append("a refresher signed in")
        if not is_sign_in and not host.profile.is_exclusive:
            return
        if not host.claims:
            self.problems.append("sent without a claim")
            return
        self.check_claim_in_force(host)
        if is_sign_in:
            self.check_attempts()
            return
        key = (host.claims[-1], request.body.decode())
        if self.sends.get(key) == "unknown":
            self.problems.append("one refresh token was sent twice within one claim")
        self.sends[key] = "unknown"
        self.check_overlap(host, request)
        self.note_late_result(host, request)

    def check_claim_in_force(self, host: Host) -> None:
        """What is sent under a claim is sent while it is young and in the record: measured by the
        true time, whatever the host's clocks say."""
        value, written_at = self.history[-1]
        if (value.get("claim") or {}).get("nonce") != host.claims[-1]:
            self.problems.append("sent under a claim that is in the record no more")
        elif self.now - written_at > SEND_WITHIN_S:
            self.problems.append("sent under a claim that is too old")

    def settle_send(self, host: Host, request: Request) -> None:
        if host.claims:
            self.sends[(host.claims[-1], request.body.decode())] = "known"

    def check_overlap(self, host: Host, request: Request) -> None:
        """No two hosts have one refresh token under way at the same time."""
        if self.may_hurt or self.vendor.grace_s or not self.vendor.is_rotating:
            return
        text = request.body.decode()
        for other in self.hosts:
            if other is not host and other.is_in_window and other.sending == text:
                self.problems.append("one refresh token was under way twice")
        host.sending = text

    def note_late_result(self, host: Host, request: Request) -> None:
        """A grace is how long a result may be on its way. One that is still in a host's memory or
        on its disk when the grace is over (the store was away) is the one window: the record's
        token is sent once more, and that may end the session."""
        token = request.body.decode().partition("refresh_token=")[2].partition("&")[0]
        rotated_at = (
            self.vendor.rotated_at.get(int(token[1:] or 0)) if self.vendor.grace_s else None
        )
        if rotated_at is None or self.now - rotated_at <= self.vendor.grace_s:
            return
        others = [other for other in self.hosts if other is not host]
        if any(other.is_in_window or other.pending for other in others):
            self.may_hurt = True

    def check_attempts(self) -> None:
        recent = [at for at in self.vendor.sign_ins if self.now - at < UNSETTLED_BACK_OFF_S - 1]
        if self.vendor.password != self.password and len(recent) >= MAX_UNSETTLED:
            self.problems.append("a wrong password was tried more than twice in five minutes")

    password: str = "pw"  # that the credentials hold

    # What is written.

    def check_write(self, host: Host, value: Mapping[str, Any]) -> None:
        if not self.history:
            return
        before, written_at = self.history[-1]
        self.check_claim(host, before.get("claim"), written_at)
        if value["generation"] < before["generation"]:
            self.problems.append("a generation went back")
        token, newer = before.get("refresh_token"), value.get("refresh_token")
        if newer == token or token is None:
            return
        if newer is None and not has_ended(before, self.now):
            self.problems.append("the only copy of a refresh token was erased")
        if newer is not None and value["generation"] == before["generation"]:
            self.problems.append("a generation was repeated")
        if self.vendor.is_rotating and self.vendor.is_alive(token) and newer is not None:
            self.problems.append("the newest refresh token was overwritten")

    def check_claim(self, host: Host, claim: Mapping[str, Any] | None, written_at: float) -> None:
        """Nobody writes over a claim that is in force, by the store's clock; one of a process that
        is gone is free for those of its machine, at once."""
        if claim is None or claim["holder"] == host.name or self.is_gone(claim, host):
            return
        if self.now - written_at < claim["life"] - 1:
            self.problems.append("a claim in force was written over")
        if self.vendor.is_rotating and self.vendor.grace_s == 0:
            self.check_window(host)

    def is_gone(self, claim: Mapping[str, Any], host: Host) -> bool:
        """Whether the claim's holder was a process of the host's machine, and is no more."""
        is_here = claim["machine"] == host.machine.name
        return is_here and claim["holder"] not in {other.name for other in self.hosts}

    def check_window(self, host: Host) -> None:
        """A claim ends after whatever can come of what was sent under it."""
        for other in self.hosts:
            if other is host:
                continue
            if other.is_in_window and not self.may_hurt:
                self.problems.append("a claim ended while its answer was under way")
            if other.pending:
                self.may_hurt = True  # the one window: a result waits for its machine

    def check_published(self, value: Mapping[str, Any]) -> None:
        """A token is published once its session is safe, with its true end, and never over a better
        one."""
        token = value["access_token"]
        if self.vendor.is_rotating and not self.is_saved(token):
            self.problems.append("a token was published before it was saved")
        if end_of(value) > self.vendor.ends[token] + GRAIN_S:
            self.problems.append("a token was published with an end beyond its own")
        if not self.published:
            return
        before, _ = self.published[-1]
        is_older = value["generation"] < before["generation"]
        if is_older and end_of(value) <= end_of(before):
            self.problems.append("a better published token was overwritten")

    # When it is over.

    def check_end(self) -> None:
        """Once everybody is done: the session lives, unless an answer was lost that no save could
        keep."""
        if not self.vendor.is_rotating or self.lost or self.may_hurt:
            return
        if self.vendor.is_revoked:
            self.problems.append("the family was revoked")
            return
        kept = [self.record.get("refresh_token")]
        kept += [
            pending.record.get("refresh_token")
            for host in self.hosts
            for pending in host.pending.values()
        ]
        if not any(self.vendor.is_alive(token) for token in kept):
            self.problems.append("the newest refresh token was lost")


def end_of(value: Mapping[str, Any]) -> float:
    return parse_rfc3339(str(value["expires_at"]))


def has_ended(value: Mapping[str, Any], now: float) -> bool:
    return value.get("expires_at") is not None and end_of(value) <= now
