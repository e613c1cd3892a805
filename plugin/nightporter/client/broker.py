"""From one profile to one token: memory, cache, one thread, one process, then the session.

Look, lock, look again, and only then the store and the issuer. The broker decides nothing about
sessions (`lifecycle` does, `attempt` drives it); it decides what is served from what this machine
already holds, renews ahead of time, and serves a token that still lives while issuer or store is
away.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nightporter.core.errors import (
    ClaimBusyError,
    ExchangeContinuesError,
    InitPhaseError,
    InvocationEndsError,
    IssuerError,
    NightporterError,
    ResultPendingError,
    with_profile,
)
from nightporter.core.limits import (
    EARLY_ATTEMPT_S,
    LOCK_S,
    STALE_FLOOR_S,
    early_renewal_s,
)
from nightporter.core.model import Ask, Profile, Role, Token
from nightporter.machine import process
from nightporter.machine.access_cache import AccessCache

if TYPE_CHECKING:
    from nightporter.session.repository import Session
    from nightporter.session.transitions import Snapshot

DEFAULT_TIMEOUT_S = 30.0
EARLY_THREAD_S = 12.0  # a library's attempt to renew ahead, which the end of the program waits for


class Broker:
    """All that one process asks of one profile. Safe for threads.

    `is_library`: renew ahead in a thread; a command makes one short attempt instead. `open_session`
    is called when the session is first needed, since stores and network libraries are slow to
    import.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        cache: AccessCache,
        open_session: Callable[[], Session],
        is_library: bool,
        host_fraction: float,
        notify: Callable[[str], None],
        emit: Callable[..., None] = lambda _event, **_facts: None,
        watch: Callable[[Session], None] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], float] = process.boot_time,
    ) -> None:
        self._emit = emit
        self._watch = watch
        self.profile = profile
        self.cache = cache
        self._open_session = open_session
        self._session: Session | None = None
        self._is_library = is_library
        self._host_fraction = host_fraction
        self._notify = notify
        self._clock = clock
        self._monotonic = monotonic
        self._boot = boot
        self._held: Token | None = None
        self._renewer: threading.Thread | None = None
        self.reset_locks()

    def reset_locks(self) -> None:
        """After a fork: the child has no thread that would ever free the parent's locks, and no
        socket of its own."""
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._renewer = None
        self._session = None

    @property
    def session(self) -> Session:
        """The session, opened at first use."""
        with self._opening:
            if self._session is None:
                self._session = self._open_session()
            return self._session

    def access_token(
        self,
        *,
        min_ttl_s: float | None = None,
        is_forced: bool = False,
        retry_refused: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Token:
        """A token with more than `min_ttl_s` left, or one fresh from the issuer, whatever it has
        left.

        `is_forced`: from an exchange that began after this call did.

        Raises: any NightporterError.
        """
        try:
            token = self._access_token(
                min_ttl_s=min_ttl_s,
                is_forced=is_forced,
                retry_refused=retry_refused,
                timeout_s=timeout_s,
            )
        except NightporterError as exc:
            self.note("failed", error=exc.reference)
            raise
        self.note("served", generation=token.generation, left_s=int(self.left_s(token)))
        return token

    def note(self, event: str, **facts: Any) -> None:
        """Reports an event of this profile."""
        self._emit(event, profile=self.profile.name, **facts)

    def _access_token(
        self,
        *,
        min_ttl_s: float | None,
        is_forced: bool,
        retry_refused: bool,
        timeout_s: float,
    ) -> Token:
        """As `access_token`."""
        began_at, deadline = self._clock(), self._monotonic() + timeout_s
        floor_s = self.profile.min_ttl_s if min_ttl_s is None else min_ttl_s
        if not is_forced and (token := self._look(floor_s)):
            return (
                self._renewed_ahead(token, floor_s, timeout_s)
                if self._is_due_early(token)
                else token
            )
        if is_forced or retry_refused:
            self.cache.clear_failure()
        before = self.held()
        deadline = self._deadline_with_stale(deadline, is_forced)
        try:
            with self._one_at_a_time(deadline, self._monotonic() + LOCK_S):
                if token := self._look_again(before, floor_s, began_at if is_forced else None):
                    return token
                if failure := self.cache.failure():
                    raise failure
                return self._obtain(
                    Ask(
                        deadline=deadline,
                        min_ttl_s=floor_s,
                        is_forced=is_forced,
                        retry_refused=retry_refused,
                        is_refused=self.cache.is_refused,
                    )
                )
        except NightporterError as exc:
            self.name_in(exc)
            return self._stale(exc, before, is_forced)

    def exchange(self, ask: Ask, seen: Snapshot | None = None) -> Token:
        """What a scheduled job asks for, past the cache but under its locks. `seen`: the record as
        it was just read.

        Raises: any NightporterError.
        """
        try:
            with self._one_at_a_time(ask.deadline, self._monotonic() + LOCK_S):
                return self._obtain(ask, seen)
        except NightporterError as exc:
            self.name_in(exc)
            raise

    def name_in(self, error: NightporterError) -> None:
        """Lets the remedy of an error name this profile and its role, so that it can be typed."""
        error.hint = with_profile(error.hint, self.profile.name, self.profile.role.value)

    def warm_left_s(self, token: Token, floor_s: float | None = None) -> float:
        """For how many seconds the token may be served without another look: until it is due for
        renewal."""
        early_s = early_renewal_s(token.life_s, self._host_fraction)
        floor_s = self._capped(max(floor_s or 0, self.profile.min_ttl_s), token)
        return self.left_s(token) - max(floor_s, early_s)

    def left_s(self, token: Token) -> float:
        """Returns how many seconds are left of a token, by the clock since boot where it is
        known."""
        return token.left_s(wall_s=self._clock(), boot_s=self._boot())

    def was_exchanged_within(self, token: Token, seconds: float) -> bool:
        """Returns whether this machine exchanged the token so few seconds ago, by the clock since
        boot where it is known."""
        return token.exchanged_at_s > 0 and 0.0 <= token.life_s - self.left_s(token) <= seconds

    def refuse(self, value: str) -> None:
        """A client reports this token as refused: no copy of it is served again on this machine."""
        self.cache.refuse(value)
        held = self._held
        if held is not None and held.value == value:
            self._held = None

    def forget(self) -> None:
        """Drops what is held here."""
        self._held = None
        self.cache.forget()

    def close(self) -> None:
        """Gives the connections back. The broker can be used again. A job over thousands of
        profiles keeps none of their tokens; a library's next ask wants it."""
        session, self._session = self._session, None
        if not self._is_library:
            self._held = None
            self.cache.release()
        if session is not None:
            session.close()

    # Looking.

    def held(self) -> Token | None:
        """Returns what this process or machine holds, whatever is left of it."""
        held = self._held
        if held is not None and self.cache.is_refused(held.value):
            held = self._held = None
        if held is None:
            held = self.cache.load()
            if held is not None and self.cache.is_refused(held.value):
                held = None
            self._held = held
        return held

    def _look(self, floor_s: float) -> Token | None:
        token = self.held()
        if token is None or self.left_s(token) <= self._capped(floor_s, token):
            return None
        return token

    def _capped(self, floor_s: float, token: Token) -> float:
        """No margin takes more than half of a token's life."""
        return min(floor_s, token.life_s / 2)

    def _look_again(
        self, before: Token | None, floor_s: float, not_before: float | None
    ) -> Token | None:
        """Returns a token that another thread or process exchanged while we waited for our turn,
        whatever it has left.

        `not_before`: only one from an exchange that began after that moment.
        """
        token = self.cache.load()  # another process may have put a newer one there
        if token is None or self.left_s(token) <= 0 or self.cache.is_refused(token.value):
            return None
        self._held = token
        if not_before is not None:
            return token if token.exchanged_at_s >= not_before else None
        is_new = token.exchanged_at_s > 0 and (before is None or token.value != before.value)
        return token if is_new else self._look(floor_s)

    @contextlib.contextmanager
    def _one_at_a_time(self, deadline: float, lock_deadline: float) -> Iterator[None]:
        """One thread of this process, and one process of this machine as long as that is worth
        waiting for (`lock_deadline`): the claim in the record is what protects the session.

        Raises: ClaimBusyError when the turn didn't come before the deadline.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - self._monotonic())):
            raise ClaimBusyError(
                f"{self.profile.name}: another thread was still exchanging the session"
            )
        try:
            with self.cache.lock(min(deadline, lock_deadline)) as won:
                if not won and self._monotonic() >= deadline:
                    raise ClaimBusyError(
                        f"{self.profile.name}: another process here was still exchanging the"
                        " session"
                    )
                yield
        finally:
            self._lock.release()

    # Obtaining.

    def _ask_session(self, ask: Ask, seen: Snapshot | None = None) -> Token:
        from nightporter.session.engine import obtain  # deferred: a cached token needs none of it

        session = self.session
        session.on_late = self._keep
        try:
            return obtain(session, ask, seen)
        except ExchangeContinuesError:
            self._session = None  # the exchange goes on with it; the next ask opens another
            raise

    def _obtain(self, ask: Ask, seen: Snapshot | None = None) -> Token:
        try:
            token = self._ask_session(ask, seen)
        except NightporterError as exc:
            if not isinstance(exc, _SOON_OVER):
                self.cache.keep_failure(exc)
                self.watch()
            raise
        self._keep(token)
        self.cache.clear_failure()
        self.watch()
        return token

    def watch(self) -> None:
        """Looks whether somebody has to be told of the session, where `[notify]` says whom."""
        if self._watch is None or self.profile.role is Role.READ_ONLY:
            return
        with contextlib.suppress(NightporterError):  # the caller has an answer of its own
            self._watch(self.session)

    def _keep(self, token: Token) -> None:
        self._held = token
        self.cache.keep(token)

    def _deadline_with_stale(self, deadline: float, is_forced: bool) -> float:
        """Who holds a token that still lives needn't wait long for a store or an issuer that is
        away."""
        if is_forced or not self._is_servable(self.held()):
            return deadline
        return min(deadline, self._monotonic() + EARLY_ATTEMPT_S)

    def _is_servable(self, token: Token | None) -> bool:
        return token is not None and self.left_s(token) > STALE_FLOOR_S

    def _stale(self, exc: NightporterError, before: Token | None, is_forced: bool) -> Token:
        """A token that still lives, while issuer or store is away; else the error."""
        is_away = exc.retryable or isinstance(exc, IssuerError) or exc.reference in _AWAY
        token = self.held() or before
        if is_forced or not is_away or token is None or not self._is_servable(token):
            raise exc
        if self.cache.is_refused(token.value):
            raise exc
        self._notify(f"{exc.message}; serving the cached token until it ends")
        self.note("stale", error=exc.reference, left_s=int(self.left_s(token)))
        return token

    # Renewing ahead.

    def _is_due_early(self, token: Token) -> bool:
        return self.left_s(token) <= early_renewal_s(token.life_s, self._host_fraction)

    def _renewed_ahead(self, token: Token, floor_s: float, timeout_s: float) -> Token:
        if not self._is_library:
            return self._renew(token, floor_s, min(EARLY_ATTEMPT_S, timeout_s)) or token
        if self._renewer is None or not self._renewer.is_alive():
            # Not a daemon: the interpreter must not end between an exchange and its save.
            self._renewer = threading.Thread(
                target=self._renew, args=(token, floor_s, EARLY_THREAD_S), name="nightporter-renew"
            )
            with contextlib.suppress(
                RuntimeError
            ):  # the interpreter is ending: nobody will need a newer one
                self._renewer.start()
        return token

    def _renew(self, token: Token, floor_s: float, timeout_s: float) -> Token | None:
        """Tries once to renew ahead of expiry; None if skipped or failed. Nobody waits who holds a
        token."""
        if self.cache.tried_early():
            return None
        now = self._monotonic()
        try:
            with self._one_at_a_time(now, now):
                self.cache.note_early_try()
                return self._obtain_ahead(token, floor_s, now + timeout_s)
        except NightporterError:
            return None

    def _obtain_ahead(self, token: Token, floor_s: float, deadline: float) -> Token:
        ask = Ask(
            deadline=deadline,
            min_ttl_s=floor_s,
            better_than_ends_s=self._boot() + self.left_s(token),
            is_refused=self.cache.is_refused,
        )
        fresh = self._ask_session(ask)
        self._keep(fresh)
        self.watch()
        return fresh


# Not remembered: what the next run can put right.
_SOON_OVER = (ResultPendingError, InitPhaseError, InvocationEndsError, ExchangeContinuesError)
_AWAY = frozenset(
    {
        "store",  # a full disk, a file system without locks: the token is none the worse for it
        "store-unreachable",
        "store-electing",
        "store-throttled",
        "store-sealed",
        "claim-busy",
        "write-budget",
        "result-spilled",
    }
)
