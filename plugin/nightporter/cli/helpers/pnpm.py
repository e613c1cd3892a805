"""pnpm's tokenHelper at the edge: what is printed is the whole header value. pnpm allows no
arguments: see `setup`."""

from __future__ import annotations

from nightporter.cli.helpers.call import open_call, write_output
from nightporter.cli.terminal import Options, say
from nightporter.protocols import plain


def serve(arguments: list[str], options: Options) -> int:
    """`[PROFILE]`. The user's own npmrc says for which registry this runs.

    Raises: NightporterError.
    """
    if len(arguments) > 1:
        say("usage: nightporter credential pnpm [PROFILE]")
        return 2
    with open_call("pnpm", options) as call:
        broker = call.broker_of(arguments[0] if arguments else None)
        token = call.token(broker)
        write_output(reply := plain.render(token, "authorization", broker.profile))
        call.leave_reply(broker, token, reply, None)
    return 0
