"""Work that must be completed once it has begun: after a refresh token that may rotate has been
sent, its answer is waited for.

A command does it in a child of its own, which has left the process group and closed the streams, so
that neither a signal to the command nor its end is felt there; a library in a thread that the
interpreter waits for at its end. Who asked stops waiting at the deadline, and is told that the
exchange goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from nightporter.core import errors
from nightporter.core.errors import (
    ExchangeContinuesError,
    NightporterError,
)
from nightporter.core.model import Secret, Token
from nightporter.machine.files import write_all
from nightporter.machine.process import note_signals

Emit = Callable[..., None]
Work = Callable[[], Token]
OnLate = Callable[[Token], None]
MAX_LINE = 1 << 20


def _goes_on() -> ExchangeContinuesError:
    return ExchangeContinuesError("the exchange with the issuer goes on; its result will be saved")


class InThread:
    """For a library: in a thread that is no daemon."""

    is_elsewhere = False

    def __call__(self, work: Work, deadline: float, on_late: OnLate) -> Token:
        """Returns what `work` returns, or raises what it raises.

        Raises: ExchangeContinuesError at the deadline (monotonic seconds); the work goes on.
        """
        answers: queue.SimpleQueue[Token | BaseException] = queue.SimpleQueue()
        is_late = threading.Event()

        def run() -> None:
            try:
                token = work()
            except BaseException as exc:  # handed over, whatever it is
                answers.put(exc)
                return
            answers.put(token)
            if is_late.is_set():
                on_late(token)

        worker = threading.Thread(target=run, name="nightporter-exchange")
        try:
            worker.start()
        except RuntimeError:  # the interpreter is ending, and starts no thread
            return work()
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            is_late.set()
            raise _goes_on() from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class InChild:
    """For a command: in a forked child. Events of the child are reported by `emit`, here while
    somebody waits, and there (the audit log alone is left of its streams) afterwards. `at_end`:
    what the child does last, where it has outlived the command."""

    is_elsewhere = True

    def __init__(self, emit: Emit, at_end: Callable[[], None] = lambda: None) -> None:
        self._emit = emit
        self._at_end = at_end
        self._report: int | None = None  # in the child: where the parent listens

    def emit(self, event: str, **facts: Any) -> None:
        """Reports an event, from whichever process it is in."""
        if self._report is not None:
            line = json.dumps({"event": event, "facts": facts}, default=str)
            try:
                _write(self._report, line)
                return
            except OSError:
                self._report = None  # nobody waits any more
        self._emit(event, **facts)

    def __call__(self, work: Work, deadline: float, on_late: OnLate) -> Token:
        """As `InThread`; SIGTERM and SIGHUP end the waiting like the deadline."""
        if not hasattr(os, "fork") or threading.active_count() > 1 or self._report is not None:
            return InThread()(work, deadline, on_late)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()  # else the child would write it once more
        listening, reporting = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(listening)
            self._work(work, reporting, on_late)
        os.close(reporting)
        try:
            return self._await(listening, child, deadline)
        finally:
            os.close(listening)

    def _work(self, work: Work, reporting: int, on_late: OnLate) -> None:
        """The child's whole life."""
        code = 1
        try:
            leave_command()
            self._report = reporting
            answer = _answer_of(work)
            try:
                _write(reporting, json.dumps(answer))
            except OSError:  # nobody waits any more
                if "error" not in answer:
                    on_late(_token_in(answer))
                self._at_end()
            code = 0
        finally:
            os._exit(code)

    def _await(self, listening: int, child: int, deadline: float) -> Token:
        pending = b""
        with note_signals() as arrived:
            while not arrived and (left_s := deadline - time.monotonic()) > 0:
                ready, _, _ = select.select([listening], [], [], min(left_s, 0.2))
                if not ready:
                    continue
                piece = os.read(listening, 65_536)
                if not piece:
                    break
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    document = json.loads(line)
                    if "event" in document:
                        self._emit(document["event"], **document["facts"])
                        continue
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(child, 0)
                    return _token_in(document)
        if signal.SIGINT in arrived:
            raise KeyboardInterrupt
        raise _goes_on()


def leave_command() -> None:
    """In a child: leaves the process group, the terminal and the streams of the command."""
    os.setsid()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def _write(descriptor: int, line: str) -> None:
    write_all(descriptor, f"{line}\n".encode())


def _answer_of(work: Work) -> dict[str, Any]:
    """The outcome, as it goes through the pipe; it is never anywhere else."""
    try:
        token = work()
    except NightporterError as exc:
        return {"error": errors.to_members(exc)}
    except Exception as exc:  # a defect is told by its class alone
        return {"error": errors.to_members(NightporterError(f"a defect: {type(exc).__name__}"))}
    return {
        "access_token": token.value,
        "token_type": token.token_type,
        "expires_at": token.expires_at_s,
        "obtained_at": token.obtained_at_s,
        "exchanged_at": token.exchanged_at_s,
        "generation": token.generation,
        "ends": token.ends_s,
        "life": token.life_s,
        "output": dict(token.output),
    }


def _token_in(document: dict[str, Any]) -> Token:
    if "error" in document:
        raise errors.from_members(document["error"])
    return Token(
        Secret(document["access_token"]),
        token_type=document["token_type"],
        expires_at_s=document["expires_at"],
        obtained_at_s=document["obtained_at"],
        exchanged_at_s=document["exchanged_at"],
        generation=document["generation"],
        ends_s=document["ends"],
        life_s=document["life"],
        output=document["output"],
    )
