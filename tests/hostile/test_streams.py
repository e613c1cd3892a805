"""Logs and streams that take nothing: a FIFO, a full pipe, a full disk, a closed descriptor. None
holds a rotating session up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab.clients import client
from lab.patience import patience, within
from lab.support import BIN, Home
from lab.worlds.vendor import Vendor

FAST_S = 15.0


@pytest.fixture
def rotating(empty_home: Home, vendor: Vendor) -> Home:
    """A session whose refresh token is replaced at each exchange, and lost if that isn't saved."""
    empty_home.configure(
        f'[profiles.acme]\nissuer = "entra"\ntenant = "t"\nbase_url = "{vendor.address}"\n'
        'credentials = "prod/acme"\nscopes = "api offline_access"\nshare_access_token = false\n'
    )
    empty_home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    assert empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token()).code == 0
    return empty_home


def fifo(home: Home) -> str:
    os.mkfifo(home.path / "fifo")
    return str(home.path / "fifo")


def foreign(home: Home) -> str:
    file = home.path / "foreign.log"
    file.write_text("theirs\n")
    file.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(file, 2002, 2002)
    return str(file)


def link(home: Home) -> str:
    (home.path / "target").write_text("")
    (home.path / "link").symlink_to(home.path / "target")
    return str(home.path / "link")


LOGS: Mapping[str, Callable[[Home], str]] = {
    "a FIFO that nobody reads": fifo,
    "a full disk": lambda _home: "/dev/full",
    "a terminal of nobody": lambda _home: "/dev/tty",
    "another's file": foreign,
    "a link": link,
    "a directory": lambda home: str(home.path),
    "no directory": lambda home: str(home.path / "no/where"),
}


@pytest.mark.parametrize("case", LOGS)
def test_no_log_costs_the_session(rotating: Home, case: str) -> None:
    log = LOGS[case](rotating)
    for _ in range(2):
        with within(FAST_S):
            done = rotating.run("token", "--force-refresh", NIGHTPORTER_LOG=log)
        assert done.code == 0, done.err
    if case == "another's file" and os.geteuid() == 0:
        assert Path(log).read_text() == "theirs\n"


@pytest.mark.parametrize("options", [("-v",), ()])
@pytest.mark.parametrize("log", ["stderr", "/dev/stderr", None])
def test_a_standard_error_that_nobody_drains(
    rotating: Home, full_pipe: int, options: tuple[str, ...], log: str | None
) -> None:
    more = {"NIGHTPORTER_LOG": log} if log else {}
    done = subprocess.run(
        [BIN / "nightporter", *options, "token", "--force-refresh"],
        env={**rotating.environment, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=full_pipe,
        timeout=patience(60),
    )
    assert done.returncode == 0
    assert rotating.run("token", "--force-refresh").code == 0  # the session goes on


def test_an_error_with_a_full_pipe_ends_too(rotating: Home, full_pipe: int) -> None:
    process = subprocess.Popen(
        [BIN / "nightporter", "token", "nobody"],
        env=rotating.environment,
        stdout=subprocess.DEVNULL,
        stderr=full_pipe,
    )
    assert process.wait(timeout=patience(FAST_S)) == 2


def test_the_end_comes_when_it_is_told(rotating: Home, full_pipe: int) -> None:
    """SIGTERM didn't help against a log that blocked."""
    process = subprocess.Popen(
        [BIN / "nightporter", "-v", "status", "--watch"],
        env={**rotating.environment, "NIGHTPORTER_LOG": "stderr"},
        stdout=full_pipe,
        stderr=full_pipe,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=patience(FAST_S))


@pytest.mark.parametrize("closing", [">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_full_and_closed_streams_lose_no_session(rotating: Home, closing: str) -> None:
    command = f"{BIN / 'nightporter'} -v token --force-refresh {closing}"
    subprocess.run(["sh", "-c", command], env=rotating.environment, timeout=patience(60))
    assert rotating.run("token", "--force-refresh").code == 0


# No secret in an argv, whatever shell runs the front door.

SHELLS = ("dash", "bash", "busybox", "mksh", "ksh93", "zsh", "yash", "posh")


@pytest.mark.clients
@pytest.mark.parametrize("shell", SHELLS)
def test_no_token_in_an_argv_under_any_shell(home: Home, vendor: Vendor, shell: str) -> None:
    """mksh has no printf of its own: a program got the token in its argv."""
    program, strace = client(shell), client("strace")
    token = home.run("token").out.strip()
    assert home.run("token").out.strip() == token
    trace = home.path / "trace"
    command = [program, *(["sh"] if shell == "busybox" else []), str(BIN / "nightporter"), "token"]
    done = subprocess.run(
        [strace, "-f", "-e", "trace=execve", "-s", "9999", "-o", str(trace), *command],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("no strace is allowed here")
    assert done.stdout.strip() == token, done.stderr
    assert "execve(" in trace.read_text()
    assert token not in trace.read_text()
