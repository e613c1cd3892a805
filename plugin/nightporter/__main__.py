"""Where the command begins: the ordinary forms of the commands that programs run at once, all else through click.

A process that lives for one answer collects no garbage and tears nothing down: with the network libraries loaded that
is a tenth of its time (`scripts/bench cold`).
"""

from __future__ import annotations

import os
import sys
import time

from nightporter import door

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line and exits by the contract's table."""
    arguments = sys.argv[1:]
    reply = door.answer(arguments, os.environ, time.time())
    if reply is not None and _write(f"{reply}\n"):
        os._exit(0)
    import contextlib
    import gc

    from nightporter import commands  # deferred: what stands above answers most asks alone

    parsed = commands.parse_plain(arguments)
    is_helper = arguments[:1] == ["credential"] and len(arguments) > 1 and not set(arguments) & {"-h", "--help"}
    if parsed is None and not is_helper:
        from nightporter import cli  # deferred: click, which the ordinary forms do without

        sys.exit(commands.exit_code_of(cli.run))
    gc.disable()
    if parsed is not None:
        code = commands.exit_code_of(lambda: commands.answer(*parsed))
    else:
        from nightporter import helpers  # deferred: the two plain commands need none of them

        code = helpers.run_credential(arguments[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed by the caller, or not there at all
            stream.flush()
    os._exit(code)


def _write(text: str) -> bool:
    """Whether it went out in one piece; else the ordinary way has the words for what is wrong."""
    content = os.fsencode(text)
    try:
        return os.write(1, content) == len(content)
    except OSError:
        return False


if __name__ == "__main__":
    main()
