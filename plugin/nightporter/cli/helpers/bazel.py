"""Bazel at the edge: `{}` is "none of ours", a failure goes to standard error with exit 1."""

from __future__ import annotations

from nightporter.cli.helpers.call import open_call, read_input, reported_expiry, write_output
from nightporter.cli.terminal import Options, say, show_error
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import bazel


def serve(arguments: list[str], options: Options) -> int:
    """`get`."""
    if arguments != ["get"]:
        say("usage: nightporter credential bazel get")
        return 2
    content = read_input(bazel.MAX_BYTES)
    try:
        with open_call("bazel", options, bazel.TIMEOUT_S) as call:
            broker = call.broker_for(bazel.parse(content))
            if broker is None:
                write_output(bazel.NONE)
            else:
                token = call.token(broker)
                write_output(bazel.render(token, reported_expiry=reported_expiry(broker, token)))
            return 0
    except BadAskError as exc:
        say(f"the request is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
    return 1
