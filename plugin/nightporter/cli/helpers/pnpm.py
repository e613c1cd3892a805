"""pnpm's tokenHelper at the edge: what is printed is the whole header value. pnpm allows no
arguments: see `setup`."""

from __future__ import annotations

from nightporter.cli.helpers.desk import open_desk, write_output
from nightporter.cli.terminal import Options, say
from nightporter.protocols import plain


def serve(arguments: list[str], options: Options) -> int:
    """`[PROFILE]`. The user's own npmrc says for which registry this runs.

    Raises: NightporterError.
    """
    if len(arguments) > 1:
        say("usage: nightporter credential pnpm [PROFILE]")
        return 2
    with open_desk("pnpm", options) as desk:
        broker = desk.broker_of(arguments[0] if arguments else None)
        write_output(plain.render(desk.token(broker), "authorization", broker.profile))
    return 0
