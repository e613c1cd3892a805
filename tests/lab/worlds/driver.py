"""Runs one ask with a fault at a chosen moment: what a command does, with a hand on its fuse.

FAULT is EVENT:ACTION; at the first such event, or before a send, after its answer, before a save,
the process is killed, stopped, or sent a signal, or a shell command is run. CLOCK_OFFSET shifts
this process's clock; MACHINE names its host. With LEAP a wait of the session takes that part of its
time alone, and all clocks of this process leap over the rest. Prints the token; exits as the
command would.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

_real_time, _real_monotonic, _real_gettime = time.time, time.monotonic, time.clock_gettime
_offset = float(os.environ.get("CLOCK_OFFSET", "0"))
_part = float(os.environ.get("LEAP", "1"))
_leapt = 0.0
time.time = lambda: _real_time() + _offset + _leapt
time.monotonic = lambda: _real_monotonic() + _leapt
time.clock_gettime = lambda clock: _real_gettime(clock) + _leapt

if "MACHINE" in os.environ:
    socket.gethostname = lambda: os.environ["MACHINE"]

from nightporter import Porter  # noqa: E402 - the clock is set first
from nightporter.core.errors import NightporterError  # noqa: E402
from nightporter.session import driver, effects, repository  # noqa: E402
from nightporter.session.driver import Inline  # noqa: E402

_event, _, _action = os.environ.get("FAULT", "").partition(":")


def emit(event: str, **facts: Any) -> None:
    print(event, *(f"{key}={value}" for key, value in facts.items()), file=sys.stderr, flush=True)
    if event not in ("send", "answered", "save"):  # which are reported when nothing can be lost
        fire(event)


def fire(event: str) -> None:
    global _event
    if event != _event:
        return
    _event = ""
    if _action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif _action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif _action in ("term", "int"):
        os.kill(os.getpid(), signal.SIGTERM if _action == "term" else signal.SIGINT)
    else:
        subprocess.run(_action, shell=True, check=True)


def sleep(seconds: float) -> None:
    global _leapt
    time.sleep(seconds * _part)
    _leapt += seconds * (1 - _part)


class Faulty(driver.Driver):
    """Fires around the effects between claim and result."""

    def _do(self, effect: effects.Effect) -> Any:
        if isinstance(effect, effects.Sleep):
            return sleep(effect.seconds)
        if isinstance(effect, effects.Send):
            fire("send")
        elif isinstance(effect, effects.Write) and not effect.value.get("claim"):
            fire("save")
        answer = super()._do(effect)
        if isinstance(effect, effects.Send):
            fire("answered")
        return answer


vars(repository)["Driver"] = Faulty  # the real one, with a hand on its fuse


def main() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Inline: what is killed here is all there is, as when a machine is.
    with Porter(is_library=False, emit=emit, apart=Inline()) as porter:
        broker = porter.broker_for(sys.argv[1])
        try:
            token = broker.access_token(
                is_forced="--force" in sys.argv, timeout_s=float(os.environ.get("TIMEOUT", "30"))
            )
        except NightporterError as exc:
            print(f"{exc.reference}: {exc}", file=sys.stderr)
            return exc.exit_code
    print(token.value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
