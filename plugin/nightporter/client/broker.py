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
from typing import TYPE_CHECKING

from nightporter.core.errors import (
    ClaimBusyError,
    InitPhaseError,
    InvocationEndsError,
    IssuerError,
    NightporterError,
    ResultSpilledError,
)
from nightporter.core.limits import EARLY_ATTEMPT_S, STALE_FLOOR_S
from nightporter.core.model import Ask, Profile, Token
from nightporter.machine.access_cache import AccessCache
from nightporter.session.lifecycle import early_renewal_s

if TYPE_CHECKING:
    from nightporter.session.repository import Session

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self.profile = profile
        self.cache = cache
        self._open_session = open_session
        self._session: Session | None = None
        self._is_library = is_library
        self._host_fraction = host_fraction
        self._notify = notify
        self._clock = clock
        self._held: Token | None = None
        self._held_since = 0.0
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
        began_at, deadline = self._clock(), time.monotonic() + timeout_s
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
            with self._one_at_a_time(deadline):
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
            exc.hint = exc.hint.replace("PROFILE", self.profile.name)
            return self._stale(exc, before, is_forced)

    def exchange(self, ask: Ask) -> Token:
        """What a scheduled job asks for, past the cache but under its locks.

        Raises: any NightporterError.
        """
        with self._one_at_a_time(ask.deadline):
            return self._obtain(ask)

    def warm_left_s(self, token: Token, floor_s: float | None = None) -> float:
        """For how many seconds the token may be served without another look: until it is due for
        renewal."""
        lifetime_s = token.expires_at_s - token.obtained_at_s
        margin_s = max(
            floor_s or 0, self.profile.min_ttl_s, early_renewal_s(lifetime_s, self._host_fraction)
        )
        return token.expires_at_s - self._clock() - margin_s

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
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # Looking.

    def held(self) -> Token | None:
        """What this process or machine holds, whatever is left of it."""
        held = self._held
        if held is not None and (not self._is_sound(held) or self.cache.is_refused(held.value)):
            held = self._held = None
        if held is None:
            held = self.cache.load()
            if held is not None and self.cache.is_refused(held.value):
                held = None
            self._hold(held)
        return held

    def _hold(self, token: Token | None) -> None:
        self._held_since = time.monotonic()
        self._held = token

    def _is_sound(self, token: Token) -> bool:
        """Whether the clocks agree that it may still live: one may be set back, the other stand
        still."""
        age_s = time.monotonic() - self._held_since
        return (
            token.obtained_at_s <= self._clock() + 1
            and age_s < token.expires_at_s - token.obtained_at_s
        )

    def _look(self, floor_s: float) -> Token | None:
        token = self.held()
        return token if token and token.expires_at_s - self._clock() > floor_s else None

    def _look_again(
        self, before: Token | None, floor_s: float, not_before: float | None
    ) -> Token | None:
        """A token that another thread or process exchanged while we waited for our turn, whatever
        it has left.

        `not_before`: only one from an exchange that began after that moment.
        """
        token = self.cache.load()  # another process may have put a newer one there
        if (
            token is None
            or token.expires_at_s <= self._clock()
            or self.cache.is_refused(token.value)
        ):
            return None
        self._hold(token)
        if not_before is not None:
            return token if token.exchanged_at_s >= not_before else None
        is_new = token.exchanged_at_s > 0 and (before is None or token.value != before.value)
        return token if is_new else self._look(floor_s)

    @contextlib.contextmanager
    def _one_at_a_time(self, deadline: float) -> Iterator[None]:
        """One thread of this process and one process of this machine.

        Raises: ClaimBusyError when neither turn came before the deadline.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ClaimBusyError(
                f"{self.profile.name}: another thread was still exchanging the session"
            )
        try:
            with self.cache.lock(deadline) as won:
                if not won:
                    raise ClaimBusyError(
                        f"{self.profile.name}: another process here was still exchanging the"
                        " session"
                    )
                yield
        finally:
            self._lock.release()

    # Obtaining.

    def _ask_session(self, ask: Ask) -> Token:
        from nightporter.session.engine import obtain  # deferred: a cached token needs none of it

        return obtain(self.session, ask)

    def _obtain(self, ask: Ask) -> Token:
        try:
            token = self._ask_session(ask)
        except NightporterError as exc:
            # Not remembered: what the next run can put right (a spilled result, another invocation
            # of Lambda).
            if not isinstance(exc, (ResultSpilledError, InitPhaseError, InvocationEndsError)):
                self.cache.keep_failure(exc)
            raise
        self._keep(token)
        self.cache.clear_failure()
        return token

    def _keep(self, token: Token) -> None:
        self._hold(token)
        self.cache.keep(token)

    def _deadline_with_stale(self, deadline: float, is_forced: bool) -> float:
        """Who holds a token that still lives needn't wait long for a store or an issuer that is
        away."""
        if is_forced or not self._is_servable(self.held()):
            return deadline
        return min(deadline, time.monotonic() + EARLY_ATTEMPT_S)

    def _is_servable(self, token: Token | None) -> bool:
        return token is not None and token.expires_at_s - self._clock() > STALE_FLOOR_S

    def _stale(self, exc: NightporterError, before: Token | None, is_forced: bool) -> Token:
        """A token that still lives, while issuer or store is away; else the error."""
        is_away = exc.retryable or isinstance(exc, IssuerError) or exc.reference in _AWAY
        token = self.held() or before
        if is_forced or not is_away or token is None or not self._is_servable(token):
            raise exc
        if self.cache.is_refused(token.value):
            raise exc
        self._notify(f"{exc.message}; serving the cached token until it ends")
        self._emit(
            "stale",
            profile=self.profile.name,
            error=exc.reference,
            left_s=int(token.expires_at_s - self._clock()),
        )
        return token

    # Renewing ahead.

    def _is_due_early(self, token: Token) -> bool:
        lifetime_s = token.expires_at_s - token.obtained_at_s
        return token.expires_at_s - self._clock() <= early_renewal_s(
            lifetime_s, self._host_fraction
        )

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
        """One attempt; None where there was none, or it failed. Nobody waits for it who holds a
        token."""
        if self.cache.tried_early():
            return None
        now = time.monotonic()
        try:
            with self._one_at_a_time(now):
                self.cache.note_early_try()
                return self._obtain_ahead(token, floor_s, now + timeout_s)
        except NightporterError:
            return None

    def _obtain_ahead(self, token: Token, floor_s: float, deadline: float) -> Token:
        ask = Ask(
            deadline=deadline,
            min_ttl_s=floor_s,
            better_than=token.expires_at_s,
            is_refused=self.cache.is_refused,
        )
        fresh = self._ask_session(ask)
        self._keep(fresh)
        return fresh


_AWAY = frozenset(
    {
        "store-unreachable",
        "store-throttled",
        "store-sealed",
        "claim-busy",
        "write-budget",
        "result-spilled",
    }
)
