"""Where the command begins: the ordinary forms of the commands that programs run at once, all else through click."""

from __future__ import annotations

import sys
from typing import NoReturn

from nightporter import commands


def main() -> NoReturn:
    """Runs the command line and exits by the contract's table."""
    sys.exit(commands.exit_code_of(run))


def run() -> int | None:
    parsed = commands.parse_plain(sys.argv[1:])
    if parsed is None:
        from nightporter import cli  # deferred: click, which the ordinary forms do without

        return cli.run()
    options, ask = parsed
    if isinstance(ask, commands.TokenAsk):
        commands.token(options, ask)
    else:
        commands.exec_credential(options, ask)
    return None


if __name__ == "__main__":
    main()
