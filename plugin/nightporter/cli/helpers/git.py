"""git at the edge: silence is "ask the next one", and the exit code is ignored."""

from __future__ import annotations

import contextlib
import time

from nightporter.cli.helpers.call import (
    HelperCall,
    open_call,
    read_input,
    reported_expiry,
    write_output,
)
from nightporter.cli.terminal import Options, say, show_error
from nightporter.client.broker import Broker
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import git


def serve(arguments: list[str], options: Options) -> int:
    """get, store, erase, capability; any other operation is a silent success."""
    operation = arguments[0] if arguments else ""
    if operation == "capability":
        write_output(git.CAPABILITIES)
    elif operation in ("get", "erase"):
        _answer(operation, options)
    elif operation == "store":  # a generator keeps nothing of what it receives
        with contextlib.suppress(BadAskError):
            read_input(options, git.MAX_BYTES, ends_at_blank=True)
    return 0


def _answer(operation: str, options: Options) -> None:
    call: HelperCall | None = None
    try:
        content = read_input(options, git.MAX_BYTES, ends_at_blank=True)
        with open_call("git", options) as call:
            ask = call.asked(lambda: git.parse(content))
            if ask is None or ask.target is None:
                return
            broker = call.broker_for(ask.target)
            if broker is None or not call.is_for(broker, ask.username):
                return
            if operation == "erase":
                _erase(broker, ask)
            else:
                _reply(call, broker, ask, content)
    except BadAskError as exc:
        say(f"the request of git is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
        quits = (
            call is not None
            and call.is_ours
            and (not call.profile or call.profile.helper_options["git_quit"])
        )
        if operation == "get" and quits:
            write_output(git.QUIT)  # the host is ours: no password prompt for a token


def _erase(broker: Broker, ask: git.GitAsk) -> None:
    """Drops the access token that was refused, and never the session: a 401 may be a missing
    permission."""
    held = broker.held()
    if held is not None and ask.refused in (None, held.value):
        broker.refuse(held.value)


def _reply(call: HelperCall, broker: Broker, ask: git.GitAsk, content: bytes) -> None:
    began = time.monotonic()
    if (
        ask.tried is not None
        and (held := broker.held()) is not None
        and git.mark_of(held) == ask.tried
    ):
        broker.refuse(held.value)
    token = call.token(broker)
    is_new = broker.was_exchanged_within(token, time.monotonic() - began)
    may_retry = ask.tried is None and not is_new
    username = broker.profile.helper_username
    reply = git.render(
        token,
        ask,
        username=username,
        reported_expiry=reported_expiry(broker, token),
        may_retry=may_retry,
    )
    write_output(reply)
    if may_retry:
        call.leave_reply(broker, token, reply, content)
