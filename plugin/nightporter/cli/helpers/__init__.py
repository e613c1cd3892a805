"""The helper protocols at the edge: standard input in, standard output out, exit code; the
protocols' own words.

Each protocol has its own map of success, "not mine" and failure to bytes and exit codes
(protocols.md, section 13). What can't be composed whole is not printed at all: git takes half an
answer, whatever the exit code.
"""

from __future__ import annotations

import importlib
from typing import Any

from nightporter.cli.terminal import Options, exit_code_of, put, take_options
from nightporter.core.errors import CommandLineError, ConfigError
from nightporter.machine.reply import verbatim_from
from nightporter.protocols.google import render_error

PROTOCOLS = (
    "git",
    "docker",
    "cargo",
    "terraform",
    "go",
    "google",
    "bazel",
    "kubelet",
    "pnpm",
    "headers",
    "keyring",
)


def serve(protocol: str, arguments: list[str], options: Options) -> int:
    """Runs one helper command to its exit code.

    Raises: ConfigError for a protocol that is none.
    """
    if protocol not in PROTOCOLS:
        raise CommandLineError(
            f"there is no protocol of that name; there are: {', '.join(PROTOCOLS)}",
            hint="`nightporter setup CLIENT` writes the right one where a client looks for it.",
        )
    room: Any = importlib.import_module(
        f"nightporter.cli.helpers.{protocol}"
    )  # one of a closed list
    code: int = room.serve(arguments, options)
    return code


def run_credential(arguments: list[str]) -> int:
    """`nightporter credential PROTOCOL [ARGUMENT...]`, to its exit code."""

    def command() -> int:
        line = ["credential", *arguments]
        end = verbatim_from(line) or len(line)
        try:
            options, rest = take_options(line[1:end])
            options.line = line
        except ConfigError as exc:
            if "google" not in arguments:
                raise
            put(render_error(exc.reference, exc.message))  # it takes nothing but answers
            return 0
        if not rest:
            raise CommandLineError(f"name the protocol: {', '.join(PROTOCOLS)}")
        return serve(rest[0], [*rest[1:], *line[end:]], options)

    return exit_code_of(command)
