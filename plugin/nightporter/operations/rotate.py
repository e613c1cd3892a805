"""The scheduled job: what makes sure that no request by day ever signs in.

What is due is a pure question (`due`); each profile is then done by itself, with its own deadline,
and its failure is its own. The work goes through the same session room and under the same claims as
any consumer's, so the job is safe beside them, and one that was killed half way does only what is
left.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from enum import Enum
from typing import Any

from nightporter.client.broker import Broker
from nightporter.core.checks import is_number
from nightporter.core.errors import ConfigError, NightporterError, StoreDeniedError, StoreError
from nightporter.core.expiry import DAY_S, format_rfc3339
from nightporter.core.limits import PUBLISH_AGAIN_S
from nightporter.core.model import Ask, Config, Profile, Role, SessionRecord, Token
from nightporter.core.record import last_exchange, parse_published
from nightporter.core.values import dataclass, replace
from nightporter.operations.policies import needed_paths
from nightporter.session.transitions import Snapshot

PUBLISH_WHEN_LEFT_S = 30 * 60
REFRESH_AFTER_S = DAY_S


class Due(Enum):
    """What a profile wants now."""

    NOTHING = "nothing"
    SIGN_IN = "sign-in"
    REFRESH = "refresh"


def due(
    profile: Profile, record: SessionRecord | None, *, now: float, sign_in_lasts_until: int | None
) -> Due:
    """What is due for a session, by the vendor's way (contract, section 6).

    `sign_in_lasts_until`: when the refresh token of a sign-in at `now` would die; None where that
    is not known.
    """
    has_token = record is not None and record.refresh_token is not None
    ends = record.expires_at if record else None
    if not profile.grant.has_session:
        return Due.NOTHING  # it has no session to keep
    if profile.grant.sends_password:
        if not has_token:
            return Due.SIGN_IN
        is_ending = ends is not None and ends - now < profile.renew_when_left_s
        gains = ends is None or sign_in_lasts_until is None or sign_in_lasts_until > ends
        if is_ending and gains:
            return Due.SIGN_IN
        is_idle = profile.idle_life_s is not None and _is_idle(profile, record, now)
        return Due.REFRESH if is_idle else Due.NOTHING
    if not has_token or profile.grant.is_seeded:
        return Due.REFRESH  # without a token the refresh says who must log in
    if record is not None and record.sent is not None:
        return Due.REFRESH  # its outcome is unknown, and a grace period may be running
    return Due.REFRESH if _is_idle(profile, record, now) else Due.NOTHING


def _is_idle(profile: Profile, record: SessionRecord | None, now: float) -> bool:
    """Returns whether the last exchange is a day ago, or half of the time after which the session
    dies: without a refresh at all, or because the vendor said so."""
    last = last_exchange(record)
    if record is None or last is None:
        return True
    limits = [REFRESH_AFTER_S]
    if profile.idle_life_s is not None:
        limits.append(profile.idle_life_s // 2)
    if record.expires_at is not None and not profile.grant.sends_password:
        limits.append((record.expires_at - last) // 2)
    return now - last > min(limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done for one profile. `did` is a word of `Due`, `publish`, or what would be done in
    a dry run."""

    profile: str
    did: str
    duration_s: float
    is_dry_run: bool = False
    swept: bool = False
    refresh_expires_at: int | None = None
    access_expires_at: int | None = None
    error: NightporterError | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of the job's output; no secret in it."""
        return {
            "profile": self.profile,
            "did": self.did,
            "dry_run": self.is_dry_run,
            "swept": self.swept,
            "refresh_expires_at": _stamp(self.refresh_expires_at),
            "access_expires_at": _stamp(self.access_expires_at),
            "duration_s": round(self.duration_s, 3),
            "error": self.error.reference if self.error else None,
            "message": self.error.message if self.error else None,
            "exit_code": self.error.exit_code if self.error else 0,
        }


def rotate_all(
    brokers: Sequence[Broker],
    *,
    jobs: int,
    timeout_s: Callable[[], float],
    is_access: bool = False,
    is_dry_run: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Report]:
    """Does every profile, `jobs` at a time, and yields each one's report when it is done.

    `timeout_s` is asked for each profile when its turn comes. Once `should_stop` says so nothing
    new is begun; what has begun is finished, since it may hold an exchange.
    """
    waiting = iter(brokers)
    with ThreadPoolExecutor(
        max_workers=max(1, jobs), thread_name_prefix="nightporter-rotate"
    ) as pool:
        running: set[Future[Report]] = set()
        while True:
            while (
                len(running) < jobs
                and not should_stop()
                and (broker := next(waiting, None)) is not None
            ):
                running.add(
                    pool.submit(
                        rotate_one,
                        broker,
                        timeout_s=timeout_s(),
                        is_access=is_access,
                        is_dry_run=is_dry_run,
                    )
                )
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def rotate_one(
    broker: Broker, *, timeout_s: float, is_access: bool = False, is_dry_run: bool = False
) -> Report:
    """Rotates one profile; never raises."""
    began = time.monotonic()
    report = Report(
        profile=broker.profile.name, did=Due.NOTHING.value, duration_s=0.0, is_dry_run=is_dry_run
    )
    ends: list[
        int
    ] = []  # of the session as it was found: what is left of it when the rotation fails
    try:
        report = _rotated(broker, report, began + timeout_s, is_access, ends)
    except NightporterError as exc:
        report = replace(
            report, did="failed", error=exc, refresh_expires_at=ends[0] if ends else None
        )
    except Exception as exc:  # a defect in one profile must not stop the others
        report = replace(
            report, did="failed", error=NightporterError(f"a defect: {type(exc).__name__}")
        )
    finally:
        if not is_dry_run:
            broker.watch()
        broker.close()  # its connections serve the next profile
    report = replace(report, duration_s=time.monotonic() - began)
    if not is_dry_run:
        facts = report.to_json()
        broker.note("rotated", **{name: facts[name] for name in _NOTED})
    return report


_NOTED = ("did", "swept", "refresh_expires_at", "access_expires_at", "duration_s", "error")


def _rotated(
    broker: Broker, report: Report, deadline: float, is_access: bool, ends: list[int]
) -> Report:
    profile, session = broker.profile, broker.session
    if profile.role is Role.READ_ONLY:
        raise ConfigError(
            f"profile {profile.name!r} has role 'read-only', which can't rotate",
            hint="Run `nightporter rotate` where the profile has another role.",
        )
    if not report.is_dry_run:
        session.settle_pending(deadline)
    view = session.read(deadline)
    now = session.records.now(view)
    is_ours = view.record is not None and view.record.identity.matches(session.identity(None))
    record = view.record if is_ours else None
    if record and record.expires_at is not None:
        ends.append(record.expires_at)
    wanted = due(
        profile,
        record,
        now=now,
        sign_in_lasts_until=session.issuer.refresh_expires_at(profile, int(now)),
    )
    if wanted is Due.SIGN_IN and profile.role is not Role.FULL:
        wanted = Due.NOTHING
    if report.is_dry_run:
        return replace(
            report, did=wanted.value, refresh_expires_at=record.expires_at if record else None
        )
    token: Token | None = None
    if wanted is not Due.NOTHING:
        is_sign_in = wanted is Due.SIGN_IN
        ask = Ask(
            deadline=deadline,
            is_forced=True,
            is_sign_in=is_sign_in,
            is_refused=broker.cache.is_refused,
        )
        token = broker.exchange(ask, view)
        with _publishing(broker, is_asked=is_access):
            session.publish(token, deadline)
        report = replace(report, did=wanted.value)
    elif is_access and profile.publish_access_token:
        with _publishing(broker, is_asked=True):
            token = _published_again(broker, view, deadline)
        report = replace(report, did="publish") if token else report
    after = session.read(deadline) if token else view
    has_ended = _swept(broker, functools.partial(session.sweep, after, deadline))
    if has_ended:
        after = session.read(deadline)
    return replace(
        report,
        swept=_sweep_paths(broker, deadline) or has_ended,
        refresh_expires_at=after.record.expires_at if after.record else None,
        access_expires_at=token.expires_at_s if token else None,
    )


def _published_again(broker: Broker, view: Snapshot, deadline: float) -> Token | None:
    """The token that was published, where the published one ends soon."""
    if not _ends_soon(broker, deadline):
        return None
    ask = Ask(deadline=deadline, min_ttl_s=PUBLISH_WHEN_LEFT_S, is_refused=broker.cache.is_refused)
    token = broker.exchange(ask, view)
    broker.session.publish(token, deadline)
    return token


@contextlib.contextmanager
def _publishing(broker: Broker, *, is_asked: bool) -> Iterator[None]:
    """A role whose policy has no publishing is denied it. Where nobody asked for it, it is left to
    those that may; else the error names them."""
    profile = broker.profile
    try:
        yield
    except StoreDeniedError as exc:
        if profile.publish_access_token in needed_paths(profile)[1]:
            raise
        if is_asked:
            exc.hint = (
                f"The role {profile.role.value} doesn't publish: run `nightporter rotate --access`"
                " on a machine whose profile has the role full."
            )
            raise


def _swept(broker: Broker, sweep: Callable[[], bool]) -> bool:
    """Whether something was swept. What can't be is said, and is no failure of what was done
    before."""
    try:
        return sweep()
    except StoreError as exc:
        broker.session.runtime.emit(
            "sweep-failed", profile=broker.profile.name, error=exc.reference, detail=exc.message
        )
        return False


def _sweep_paths(broker: Broker, deadline: float) -> bool:
    """Whether the store held something that had ended."""
    store, swept = broker.session.store, False
    for path in needed_paths(broker.profile)[1]:
        timeout_s = max(1.0, deadline - time.monotonic())
        swept |= _swept(broker, functools.partial(store.sweep, path, timeout_s=timeout_s))
    return swept


def _ends_soon(broker: Broker, deadline: float) -> bool:
    """Whether the published access token ends within half an hour."""
    session, profile = broker.session, broker.profile
    stored = session.read_path(profile.publish_access_token or "", deadline)
    now = session.runtime.clock() if stored.now is None else stored.now
    found = parse_published(stored.value, profile, now=now)
    if found is None or found.expires_at - now <= PUBLISH_WHEN_LEFT_S:
        return True
    # No published token is believed for longer than a day.
    return found.exchanged_at is not None and now - found.exchanged_at > PUBLISH_AGAIN_S


def rotatable(config: Config) -> list[str]:
    """The profiles that can be rotated here, where none are named."""
    return [name for name, profile in config.profiles.items() if profile.role is not Role.READ_ONLY]


def of_shard(names: Sequence[str], index: int, count: int) -> list[str]:
    """The names that belong to shard `index` of `count`: by hash, so that a new profile moves no
    other."""

    def shard_of(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count

    return [name for name in names if shard_of(name) == index]


def parse_shard(text: str, environment_index: str | None) -> tuple[int, int]:
    """`I/N`, counted from 0; or `N` alone, where the engine's variable (JOB_COMPLETION_INDEX) names
    the index.

    Raises: ConfigError.
    """
    index_text, slash, count_text = text.rpartition("/")
    index_text = index_text if slash and index_text else environment_index or ""
    if not (is_number(index_text) and is_number(count_text)) or int(index_text) >= int(count_text):
        raise ConfigError(
            f"--shard {text!r} is not I/N with I from 0 to N-1",
            hint=(
                "Or give N alone, where JOB_COMPLETION_INDEX or AWS_BATCH_JOB_ARRAY_INDEX names the"
                " index."
            ),
        )
    return int(index_text), int(count_text)


def _stamp(unix_s: int | None) -> str | None:
    return None if unix_s is None else format_rfc3339(unix_s)
