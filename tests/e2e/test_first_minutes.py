"""`init`, `status`, `timeline`: what a new user meets, at a real terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import time

from conftest import Vendor
from support import BIN, Home


def at_terminal(home: Home, words: list[str], answers: list[tuple[str, str]], seconds: float = 40) -> tuple[int, str]:
    """Runs a command at a terminal of its own and types each answer when its prompt is there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(str(BIN / "nightporter"), ["nightporter", *words], {**home.environment, "TERM": "xterm"})
    said, deadline, waiting = "", time.monotonic() + seconds, list(answers)
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                piece = os.read(terminal, 4096).decode(errors="replace")
            except OSError:
                break
            if not piece:
                break
            said += piece
        if waiting and waiting[0][0] in said:
            _, typed = waiting.pop(0)
            os.write(terminal, f"{typed}\n".encode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said


def test_init_at_a_terminal_ends_with_a_token(empty_home: Home, vendor: Vendor) -> None:
    answers = [
        ("Who issues", "pitchpoint"),
        ("Where is the secret", "local"),
        ("A name for", "mine"),
        ("Path of the secret", "prod/mine"),
        ("Username", "svc-acme"),
        ("Password", "correct-horse"),
    ]
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address], answers)
    assert code == 0, said
    assert "it works" in said
    assert "correct-horse" not in said
    assert "correct-horse" not in empty_home.config_file.read_text()
    assert empty_home.run("token", "mine").code == 0
    assert "# No secret belongs" in empty_home.config_file.read_text()


def test_init_without_a_person(empty_home: Home, vendor: Vendor) -> None:
    flags = ("--vendor", "pitchpoint", "--store", "local", "--credentials", "prod/x", "--base-url", vendor.address)
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    done = empty_home.run("init", *flags, "--host", "git.example.com", stdin=members)
    assert (done.code, done.out) == (0, ""), done.err
    assert empty_home.run("config", "check").code == 0
    again = empty_home.run("init", *flags, stdin=members)
    assert again.code == 2
    assert "not written over" in again.err


def test_init_says_precisely_what_is_wrong_and_leaves_nothing(empty_home: Home, vendor: Vendor) -> None:
    assert "--vendor is needed" in empty_home.run("init").err
    flags = ("--vendor", "pitchpoint", "--credentials", "x")
    empty_home.environment["VAULT_TOKEN"] = "x"
    away = empty_home.run("init", *flags, "--store", "vault", "--address", "http://127.0.0.1:1", "--timeout", "2")
    assert away.code == 5
    assert "store-unreachable" in away.err
    assert not empty_home.config_file.exists()
    wrong = empty_home.run("init", *flags, "--store", "local", "--base-url", "ftp://x")
    assert wrong.code == 2
    assert not empty_home.config_file.exists()


def test_status_fits_80_columns_and_is_coloured_at_a_terminal_only(home: Home) -> None:
    home.run("token")
    plain = home.run("status").out
    assert "\x1b" not in plain
    assert "[############] in 59m" in plain
    assert all(len(line) <= 80 for line in plain.splitlines())
    code, said = at_terminal(home, ["status"], [])
    assert code == 0
    assert "\x1b[32m" in said
    home.environment["NO_COLOR"] = "1"
    assert "\x1b[3" not in at_terminal(home, ["status"], [])[1]


def test_timeline_as_text_and_picture(home: Home) -> None:
    home.run("token")
    file = home.path / "t.svg"
    out = home.run("timeline", "--svg", str(file)).out
    assert "  > " in out
    assert "the refresh token ends" in out
    assert "midnight in New York" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert file.read_text().startswith("<svg")
    times = re.findall(r"<title>([^<]+)</title>", file.read_text())
    assert times == sorted(times)
