"""cargo at the edge: a hello, then an answer for each line, and exit 0 whatever the answers
were."""

from __future__ import annotations

import sys

from nightporter.cli.helpers.call import (
    HelperCall,
    open_call,
    read_requests,
    reported_expiry,
    write_output,
)
from nightporter.cli.terminal import Options, say
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError, Target
from nightporter.machine.client_input import Conversation
from nightporter.protocols import cargo


def serve(arguments: list[str], options: Options) -> int:
    """The conversation until cargo closes standard input."""
    if arguments not in ([], ["--cargo-plugin"]):
        say(
            "this command is run by cargo, as a credential provider: see `nightporter setup cargo"
            " --help`"
        )
        return 2
    if not isinstance(sys.stdin, Conversation):
        write_output(cargo.HELLO)
    for line in read_requests(options, cargo.MAX_BYTES):
        if line.strip():
            write_output(_reply(line, options))
    return 0


def _reply(line: bytes, options: Options) -> str:
    """cargo asks for every registry, crates.io included, so nothing goes wrong before the registry
    is known to be ours."""
    call: HelperCall | None = None
    try:
        ask = cargo.parse(line)
        if ask.target is None:
            return cargo.render_error("url-not-supported")
        with open_call("cargo", options) as call:
            return _answer(ask, ask.target, call, line)
    except BadAskError as exc:
        return cargo.render_error("other", f"nightporter refuses the request: {exc}")
    except NightporterError as exc:
        if call is None or not call.is_ours:
            return cargo.render_error("url-not-supported")
        return cargo.render_error("other", f"{exc.message} [{exc.reference}]; {exc.hint}")


def _answer(ask: cargo.CargoAsk, target: Target, call: HelperCall, line: bytes) -> str:
    broker = call.broker_for(target)
    if broker is not None and ask.profile_named() not in (None, broker.profile.name):
        broker = None
    if broker is None:
        return cargo.render_error("url-not-supported")
    if ask.kind == "logout":
        was_held = broker.held() is not None
        broker.forget()
        return cargo.render_done("logout") if was_held else cargo.render_error("not-found")
    is_login = ask.kind == "login"
    if not (is_login or ask.kind == "get") or ask.brings_token or not ask.is_known:
        return cargo.render_error("operation-not-supported")
    token = call.token(broker)
    if is_login:
        return cargo.render_done("login")
    with_type = broker.profile.helper_options["cargo_authorization"] == "bearer"
    reply = cargo.render(token, reported_expiry=reported_expiry(broker, token), with_type=with_type)
    call.leave_reply(broker, token, reply, line)
    return reply
