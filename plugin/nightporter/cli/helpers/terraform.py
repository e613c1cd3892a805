"""Terraform at the edge: `{}` is "not mine"; a failure goes to standard error, which Terraform
shows to nobody."""

from __future__ import annotations

from nightporter.cli.helpers.call import HelperCall, open_call, read_input, write_output
from nightporter.cli.terminal import Options, say, show_error
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.protocols import terraform


def serve(arguments: list[str], options: Options) -> int:
    """`get HOST`, `store HOST`, `forget HOST`; other arguments may stand before the verb."""
    verb, host = arguments[-2:] if len(arguments) > 1 else ("", "")
    if verb not in terraform.VERBS:
        say(f"terraform runs this with a verb and a host; verbs are {', '.join(terraform.VERBS)}")
        return 2
    try:
        with open_call("terraform", options) as call:
            return _answer(verb, host, call, options)
    except BadAskError as exc:
        say(f"the host is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
    return 1


def _answer(verb: str, host: str, call: HelperCall, options: Options) -> int:
    target = call.asked(lambda: terraform.parse_host(host))
    broker = call.broker_for(target) if target else None
    if verb == "store":
        read_input(options, terraform.MAX_BYTES)
        say(f"nothing was stored: {terraform.REFUSES_STORE}")
        return 1
    if verb == "forget":
        if broker is not None:
            broker.forget()
    elif broker is None:
        write_output(terraform.NONE)
    else:
        token = call.token(broker)
        write_output(reply := terraform.render(token))
        call.leave_reply(broker, token, reply, None)
    return 0
