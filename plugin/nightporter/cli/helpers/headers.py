"""Headers at the edge: `{}` is "not mine", a failure goes to standard error with exit 1."""

from __future__ import annotations

from nightporter.cli.helpers.call import HelperCall, open_call, write_output
from nightporter.cli.terminal import Options, say, show_error
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.machine.places import read_environment
from nightporter.protocols import headers


def serve(arguments: list[str], options: Options) -> int:
    """`[ADDRESS]`."""
    address = headers.address_of(arguments, read_environment())
    if address is None or len(arguments) > 1:
        say(
            "usage: nightporter credential headers ADDRESS (Claude Code names it in"
            f" {headers.URL_VARIABLE})"
        )
        return 2
    try:
        with open_call("headers", options, headers.TIMEOUT_S) as call:
            write_output(_answer(address, call))
            return 0
    except BadAskError as exc:
        say(f"the address is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
    return 1


def _answer(address: str, call: HelperCall) -> str:
    target = call.asked(lambda: headers.parse(address))
    broker = call.broker_for(target) if target else None
    return headers.NONE if broker is None else headers.render(call.token(broker))
