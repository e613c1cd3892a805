"""What the process itself would let out: core dumps, its environment."""

from __future__ import annotations

import subprocess

from lab.support import BIN, Home


def under(home: Home, limit: str, script: str, **variables: str) -> str:
    """What a command of `run` says under a limit of core dumps."""
    words = f"ulimit -c {limit}; exec {BIN / 'nightporter'} run pitchpoint -- sh -c '{script}'"
    done = subprocess.run(
        ["sh", "-c", words],
        env={**home.environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_run_gives_its_command_the_old_limit(home: Home) -> None:
    assert under(home, "1000", "ulimit -c; ulimit -Hc").split() == ["1000", "1000"]
    assert under(home, "0", "ulimit -c") == "0"


def test_the_limit_is_taken_from_the_system_alone(home: Home) -> None:
    assert under(home, "0", "ulimit -c", NIGHTPORTER_CORE_LIMIT="7:7") == "0"
    script = "echo ${NIGHTPORTER_CORE_LIMIT-none}"
    assert under(home, "1000", script, NIGHTPORTER_CORE_LIMIT="7:7") == "none"
