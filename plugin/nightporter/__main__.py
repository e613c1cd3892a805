"""Where the command begins: the ordinary forms of the commands that programs run at once, all else
through click.

A process that lives for one answer collects no garbage and tears nothing down: with the network
libraries loaded that is a tenth of its time (`scripts/bench cold`).
"""

from __future__ import annotations

import os
import sys
import time

from nightporter.machine import client_input
from nightporter.machine import reply as reply_files
from nightporter.machine.room import with_room

PR_SET_DUMPABLE = 4  # prctl(2)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


WAITS_S = {"bazel": 8.0}  # Bazel gives up after 10 s
CARGO_HELLO = '{"v": [1]}'  # as protocols.cargo has it, whose import costs as much as a bare start


def main(arguments: list[str] | None = None, *, is_spelled: bool = False) -> NoReturn:
    """Runs the command line (sys.argv without `arguments`) and exits by the contract's table.
    `is_spelled`: the launcher has read the client's message, and hands it on as numbers."""
    arguments = [*reply_files.with_helper_first(sys.argv[1:] if arguments is None else arguments)]
    _harden()
    is_for_others = bool(os.environ.get("KUBERNETES_EXEC_INFO")) and not _is_for_kubectl(arguments)
    if is_for_others and reply_files.verbatim_from(arguments) is None:
        _write(
            "nightporter: kubectl runs `exec-credential PROFILE` and nothing else\n"
            "  what to do: Correct the args of the kubeconfig's exec stanza, or unset"
            " KUBERNETES_EXEC_INFO.\n  reference: configuration\n",
            to=2,
        )
        os._exit(2)
    if reply_files.converses(arguments):
        _converse(arguments)
    given = None if is_for_others else _answer_at_once(arguments, is_spelled)
    _forbid_dumps()
    if given is not None:
        import io

        sys.stdin = io.TextIOWrapper(
            io.BytesIO(given), encoding="utf-8"
        )  # for what reads it from here on
    with_room(lambda: _run(arguments))


def _answer_at_once(arguments: list[str], is_spelled: bool) -> bytes | None:
    """Answers from a reply file, and exits; else returns the client's message, None without one."""
    try:
        given = _read(arguments, is_spelled) if reply_files.takes_input(arguments) else None
        reply = reply_files.answer(reply_files.Ask(arguments, os.environ, given), time.time())
    except client_input.LateInputError:
        _end_late(arguments[1])
    except KeyboardInterrupt:
        _write("nightporter: interrupted\n", to=2)
        os._exit(130)
    if reply is not None and _write(f"{reply}\n"):
        os._exit(0)
    return given


def _converse(arguments: list[str]) -> None:
    """Answers line by line from reply files, and exits when the client ends; returns where a line
    has none, with what is left as standard input."""
    if not _write(f"{CARGO_HELLO}\n"):
        return
    lines = client_input.read_lines(
        0,
        max_bytes=reply_files.MAX_INPUT,
        wait_s=client_input.wait_of(arguments, os.environ),
    )
    try:
        for line in lines:
            reply = reply_files.answer(reply_files.Ask(arguments, os.environ, line), time.time())
            if reply is None:
                sys.stdin = client_input.Conversation(line, lines)
                return
            if not _write(f"{reply}\n"):
                os._exit(1)
    except (OSError, client_input.LateInputError):
        pass  # the end of the conversation
    os._exit(0)


def _run(arguments: list[str]) -> NoReturn:
    """Runs the command: plain forms and helpers without click, and without a collector."""
    import gc

    gc.disable()
    from nightporter.cli import (  # deferred: `main` answers most asks alone
        fast,
        terminal,
    )

    parsed = fast.parse_plain(arguments)
    ours = arguments[: reply_files.verbatim_from(arguments)]  # None: all of them
    asks_for_help = bool(set(ours) & {"-h", "--help"})
    is_helper = arguments[:1] == ["credential"] and len(arguments) > 1 and not asks_for_help
    if parsed is None and not is_helper:
        from nightporter.cli import app  # deferred: click, which the ordinary forms do without

        gc.enable()  # a job over a thousand profiles, an agent
        sys.exit(terminal.exit_code_of(lambda: app.run(arguments)))
    from nightporter.net import lean  # deferred: click's commands may need all of a library

    lean.import_less()
    if parsed is not None:
        code = terminal.exit_code_of(lambda: fast.answer(*parsed))
    else:
        from nightporter.cli import helpers  # deferred: the two plain commands need none of them

        code = helpers.run_credential(arguments[1:])
    _end(code)


def _end(code: int) -> NoReturn:
    """Exits without a teardown; a stream may be closed by the caller, or not be there at all."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(code)


def _is_for_kubectl(arguments: list[str]) -> bool:
    """Whether the command is the one that kubectl may run; global options may stand before it."""
    at = reply_files.first_plain(arguments)
    return at is not None and arguments[at] == "exec-credential"


def _harden() -> None:
    """No core dump of a process that holds secrets, and none of its TLS keys in a file."""
    os.environ.pop("SSLKEYLOGFILE", None)
    os.environ.pop("NIGHTPORTER_CORE_LIMIT", None)  # never believed from outside
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    if limits[0] != 0:
        os.environ["NIGHTPORTER_CORE_LIMIT"] = f"{limits[0]}:{limits[1]}"
        resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))


def _forbid_dumps() -> None:
    """On Linux nobody but root may look into this process from here on: no core dump by a handler
    of the system's, no debugger of the same user. The program that `run` starts is free of it.

    Not by ctypes, whose import takes as long as a bare start.
    """
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]  # None: what is loaded already
        _ctypes.call_function(function, (PR_SET_DUMPABLE, 0, 0, 0, 0))
    except (ImportError, AttributeError, OSError, TypeError):
        return  # not Linux, or another Python


def _read(arguments: list[str], is_spelled: bool) -> bytes:
    """The client's message, or beyond what any protocol takes; nothing where it can't be read to
    its end.

    Raises: LateInputError.
    """
    is_git = arguments[1] == "git"
    try:
        if is_spelled:
            found = client_input.read_spelled(0)
        else:
            wait_s = WAITS_S.get(arguments[1], client_input.WAIT_S)
            found = client_input.read_message(
                0,
                max_bytes=reply_files.MAX_INPUT,
                wait_s=client_input.wait_of(arguments, os.environ, wait_s),
                ends_at_blank=is_git,
            )
    except OSError:
        return b""  # half an ask may name another host
    return client_input.cut_at_blank(found) if is_git else found


def _end_late(protocol: str) -> NoReturn:
    """Ends as the protocol has it: docker's errors are on standard output, git reads no exit
    code."""
    to = 1 if protocol == "docker" else 2
    _write("nightporter: the client did not end its request in time\n", to=to)
    os._exit(int(protocol != "git"))


def _write(text: str, to: int = 1) -> bool:
    """Whether it went out; else the ordinary way has the words for what is wrong."""
    content = os.fsencode(text)
    try:
        written = os.write(to, content)
    except OSError:
        return False
    if 0 < written < len(content):
        os._exit(1)  # half of it is out: the ordinary way would write it once more
    return written == len(content)


if __name__ == "__main__":
    main()
