"""The kubelet at the edge: an empty `auth` is "not mine", a failure goes to standard error with
exit 1."""

from __future__ import annotations

import time

from nightporter.cli.helpers.call import (
    HelperCall,
    open_call,
    read_input,
    reported_expiry,
    rule_for,
    write_output,
)
from nightporter.cli.terminal import Options, say, show_error
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import kubelet


def serve(arguments: list[str], options: Options) -> int:
    """`[PROFILE]`: with a name, only that profile's hosts are answered for."""
    try:
        content = read_input(options, kubelet.MAX_BYTES)
        with open_call("kubelet", options) as call:
            write_output(_answer(content, arguments[0] if arguments else None, call))
            return 0
    except BadAskError as exc:
        say(f"the request is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
    return 1


def _answer(content: bytes, name: str | None, call: HelperCall) -> str:
    ask = call.asked(lambda: kubelet.parse(content))
    broker = call.broker_for(ask.target, only=name) if ask else None
    if broker is None or ask is None:
        return kubelet.render_none()
    token = call.token(broker)
    path = rule_for(broker.profile, ask.target).target.path or ()
    return kubelet.render(
        token,
        key="/".join((ask.registry, *path)),
        username=broker.profile.helper_username,
        left_s=int(reported_expiry(broker, token) - time.time()),
    )
