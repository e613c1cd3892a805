"""cargo at the edge: a hello, then an answer for each line, and exit 0 whatever the answers
were."""

from __future__ import annotations

from nightporter.cli.helpers.call import (
    HelperCall,
    open_call,
    read_line,
    reported_expiry,
    write_output,
)
from nightporter.cli.terminal import Options, say
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import cargo


def serve(arguments: list[str], options: Options) -> int:
    """The conversation until cargo closes standard input."""
    if arguments not in ([], ["--cargo-plugin"]):
        say(
            "this command is run by cargo, as a credential provider: see `nightporter setup cargo"
            " --help`"
        )
        return 2
    write_output(cargo.HELLO)
    while line := read_line(cargo.MAX_BYTES):
        if line.strip():
            write_output(_reply(line, options))
    return 0


def _reply(line: bytes, options: Options) -> str:
    try:
        with open_call("cargo", options) as call:
            return _answer(cargo.parse(line), call)
    except BadAskError as exc:
        return cargo.render_error("other", f"nightporter refuses the request: {exc}")
    except NightporterError as exc:
        return cargo.render_error("other", f"{exc.message} [{exc.reference}]; {exc.hint}")


def _answer(ask: cargo.CargoAsk, call: HelperCall) -> str:
    broker = call.broker_for(ask.target, only=ask.profile) if ask.target else None
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
    return cargo.render(token, reported_expiry=reported_expiry(broker, token), with_type=with_type)
