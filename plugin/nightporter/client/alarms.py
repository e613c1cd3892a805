"""Tells somebody what is wrong with a session, once in a whole fleet: `[notify]` of the
configuration. What is told is decided in `core.incidents`.

A look is one read of the record, after the work is done and saved; only what is new is written
first, by compare-and-set, and then told. Nothing here fails who asked for a token.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nightporter.core import incidents
from nightporter.core.errors import NightporterError, StoreError, VersionConflictError
from nightporter.core.model import Notify, Profile
from nightporter.core.values import replace
from nightporter.machine.trust import check_named_file

if TYPE_CHECKING:
    from nightporter.session.repository import Session

LOOK_S = 3.0
TELL_S = 10.0
TRIES = 3
Tell = Callable[[Mapping[str, Any]], bool]


def watcher(notify: Notify, environment: Mapping[str, str]) -> Callable[[Session], None]:
    """Returns what looks at a session after each exchange, and tells what is new of it."""

    def watch(session: Session) -> None:
        look(session, lambda said: _tell(notify, said, session.profile, environment))

    return watch


def look(session: Session, tell: Tell) -> None:
    """Tells what is new of the session, where we are the first of the fleet to see it."""
    try:
        for _ in range(TRIES):
            if _look_once(session, tell):
                return
    except StoreError as exc:
        session.records.emit("notify-failed", error=exc.reference)


def _look_once(session: Session, tell: Tell) -> bool:
    """Whether nothing is left to tell. Under another's claim nothing is written: its holder's
    result belongs over it."""
    from nightporter.session import transitions  # deferred: a cached answer needs none of it

    view = session.read(session.runtime.monotonic() + LOOK_S)
    record, now = view.record, session.records.now(view)
    if record is None or view.claim is not None:
        return True
    if not record.identity.matches(session.identity(None)):
        return True
    found = incidents.open_incidents(
        record, session.profile, is_marked=transitions.is_marked(record), now=now
    )
    news = incidents.news_of(record, found, by=session.runtime.host, now=now)
    if news is None:
        return True
    try:
        session.overwrite(view, news.record)
    except VersionConflictError:
        return False
    _tell_all(session, news, now, tell)
    return True


def _tell_all(session: Session, news: incidents.News, now: float, tell: Tell) -> None:
    for kinds, is_over in ((news.begun, False), (news.over, True)):
        for kind in kinds:
            said = incidents.message(
                kind,
                news.record,
                session.profile,
                is_over=is_over,
                host=session.runtime.host,
                now=now,
            )
            is_told = tell(said)
            session.records.emit(
                "notified" if is_told else "notify-failed", incident=kind, what=said["event"]
            )


def _tell(
    notify: Notify, said: Mapping[str, Any], profile: Profile, environment: Mapping[str, str]
) -> bool:
    body = json.dumps(said).encode()
    is_told = True
    if notify.command:
        is_told = _run(notify.command, body)
    if notify.webhook:
        is_told = _post(notify.webhook, body, profile, environment) and is_told
    return is_told


def _run(command: tuple[str, ...], body: bytes) -> bool:
    """Runs the command with the message on its standard input."""
    try:
        done = subprocess.run(  # noqa: S603 - the configuration names it, and is trusted
            command,
            input=body,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TELL_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _post(url: str, body: bytes, profile: Profile, environment: Mapping[str, str]) -> bool:
    from nightporter.issuers.oauth import Request  # deferred: only news needs it
    from nightporter.net.http import Transport

    plain = replace(profile, ca_cert=None, proxy=None)  # those are the issuer's
    transport = Transport(plain, environment, check_file=check_named_file)
    headers = {"Content-Type": "application/json"}
    try:
        answer = transport.send(Request(url=url, headers=headers, body=body), timeout_s=TELL_S)
    except NightporterError:
        return False
    finally:
        transport.close()
    return answer.is_success
