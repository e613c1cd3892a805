"""A storm: many cold processes at once, each with a home, a temporary directory and a mount
namespace of its own.

Only the store can coordinate them. Two holders are killed in between, just after they won their
claims.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

from lab.support import BIN, Done
from lab.worlds.fleet import Fleet, finish

TIMEOUT_S = "180"


@dataclass
class Outcome:
    """`seconds` until the last consumer had its answer."""

    done: list[Done]
    seconds: float

    def count(self, code: int) -> int:
        return sum(done.code == code for done in self.done)


def may_unshare() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def run_storm(fleet: Fleet, consumers: int, *, kills: int = 1, at_once: int = 60) -> Outcome:
    """Starts `kills` holders that die with their claim, then the consumers, at most `at_once` at a
    time.

    One killed holder is one sign-in without a known outcome; after two the fleet would wait for
    five minutes.
    """
    for _ in range(kills):
        assert fleet.run(fleet.machine(), fault="claim-won:kill", TIMEOUT=TIMEOUT_S).code < 0
    apart = may_unshare()
    waiting = [fleet.machine() for _ in range(consumers)]
    began = time.monotonic()
    running: list[subprocess.Popen[str]] = []
    done: list[Done] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            home = waiting.pop()
            (home.path / "tmp").mkdir()
            command = [str(BIN / "nightporter"), "-v", "--timeout", TIMEOUT_S, "token", "acme"]
            if apart:
                script = (
                    'mount --bind "$HOME/tmp" /var/tmp && mount -t tmpfs none /dev/shm && exec "$@"'
                )
                command = ["unshare", "-m", "sh", "-c", script, "sh", *command]
            running.append(
                subprocess.Popen(
                    command,
                    env={**home.environment, "TMPDIR": str(home.path / "tmp")},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        done.append(finish(running.pop(0)))
    return Outcome(done, time.monotonic() - began)
