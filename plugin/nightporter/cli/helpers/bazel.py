"""Bazel at the edge: `{}` is "not mine", a failure goes to standard error with exit 1."""

from __future__ import annotations

from nightporter.cli.helpers.call import (
    HelperCall,
    open_call,
    read_input,
    reported_expiry,
    write_output,
)
from nightporter.cli.terminal import Options, say, show_error
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import bazel


def serve(arguments: list[str], options: Options) -> int:
    """`get`."""
    if arguments != ["get"]:
        say("usage: nightporter credential bazel get")
        return 2
    call: HelperCall | None = None
    try:
        content = read_input(options, bazel.MAX_BYTES, wait_s=bazel.TIMEOUT_S)
        with open_call("bazel", options, bazel.TIMEOUT_S) as call:
            write_output(_answer(content, call))
            return 0
    except BadAskError as exc:
        say(f"the request is refused: {exc}")
    except NightporterError as exc:
        if call is None or not call.is_ours:  # without a scope it is asked for every download
            write_output(bazel.NONE)
            return 0
        show_error(exc)
    return 1


def _answer(content: bytes, call: HelperCall) -> str:
    target = call.asked(lambda: bazel.parse(content))
    broker = call.broker_for(target) if target else None
    if broker is None:
        return bazel.NONE
    token = call.token(broker)
    reply = bazel.render(token, reported_expiry=reported_expiry(broker, token))
    call.leave_reply(broker, token, reply, content)
    return reply
