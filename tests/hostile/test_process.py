"""What the process itself would let out: core dumps, its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.patience import patience, until
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.machine import files
from nightporter.machine.files import close_directory, replace_private


def under(home: Home, limit: str, script: str, **variables: str) -> str:
    """What a command of `run` says under a limit of core dumps."""
    words = f"ulimit -c {limit}; exec {BIN / 'nightporter'} run pitchpoint -- sh -c '{script}'"
    done = subprocess.run(
        ["sh", "-c", words],
        env={**home.environment, **variables},
        capture_output=True,
        text=True,
        timeout=patience(60),
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_nobody_may_look_into_the_process() -> None:
    script = (
        "from nightporter.__main__ import _forbid_dumps; import ctypes;"
        " get = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0);"
        " before = get(); _forbid_dumps(); print(before, get())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0"], done.stderr


INSIDE = """
import ctypes, os, resource
from nightporter import __main__
from nightporter.cli import fast
def look(*_args):
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print(dumpable, resource.getrlimit(resource.RLIMIT_CORE)[0], os.environ.get("SSLKEYLOGFILE"))
fast.answer = look
__main__.main(["token"])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_the_command_is_closed_before_it_holds_a_secret(home: Home, tmp_path: Path) -> None:
    """All three at the place where a token is obtained: each would hide that another is missing."""
    words = f"ulimit -c 1000; exec {sys.executable} -c '{INSIDE}'"
    environment = {**home.environment, "SSLKEYLOGFILE": str(tmp_path / "keys")}
    done = subprocess.run(["sh", "-c", words], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0", "None"], done.stderr


def test_the_command_that_is_run_may_be_looked_into(home: Home) -> None:
    script = f'{sys.executable} -c "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"'
    assert under(home, "0", script) == "1"


def test_an_abort_during_a_sign_in_leaves_no_core(
    home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """SIGQUIT (Ctrl-\\) wrote 31 MB with the password in them."""
    words = f"ulimit -c unlimited; exec {BIN / 'nightporter'} token"
    environment = {**home.environment, "PYTHONFAULTHANDLER": ""}
    vendor.fail({"kind": "late", "seconds": 8, "call": "sign-in"})
    process = subprocess.Popen(["sh", "-c", words], env=environment, cwd=tmp_path)
    until(lambda: vendor.count("sign-in"))  # so it holds the password
    process.send_signal(signal.SIGABRT)
    process.wait(timeout=patience(30))
    assert [path for path in tmp_path.iterdir() if path.name.startswith("core")] == []


WRITER = """
import os, sys, signal
from nightporter.machine import files
def die(*_args): os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = die
files.replace_private(sys.argv[1], b"refresh-token")
"""


def left_overs(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.endswith(".tmp")]


def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path: Path) -> None:
    """`kill -9` between write and rename: the refresh token stayed in the store's directory."""
    for name in ("one.json", "two.json"):
        subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / name)])
    assert b"refresh-token" in left_overs(tmp_path)[0].read_bytes()
    replace_private(str(tmp_path / "other.json"), b"x")
    assert left_overs(tmp_path) == []


def test_what_another_is_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, descriptor = files._open_temporary(str(tmp_path / "other.json"))
    replace_private(str(tmp_path / "other.json"), b"x")
    assert os.path.exists(path)
    os.close(descriptor)
    replace_private(str(tmp_path / "other.json"), b"y")
    assert not os.path.exists(path)


def test_a_large_directory_is_swept_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job over thousands of profiles listed all of their files at each write, and yet what a
    killed process has left goes."""
    for number in range(files.MANY_FILES + 1):
        (tmp_path / f"{number}.json").touch()
    looks: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> Iterator[os.DirEntry[str]]:
        looks.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    for _ in range(5):
        replace_private(str(tmp_path / "1.json"), b"x")
    assert 1 <= len(looks) <= 2
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "2.json")])
    time.sleep(files.SWEEP_S)
    replace_private(str(tmp_path / "1.json"), b"x")
    assert left_overs(tmp_path) == []


def test_a_directory_that_is_no_longer_large_is_swept_at_each_write(tmp_path: Path) -> None:
    """Else what a killed process has left would outlive the next write."""
    names = [tmp_path / f"{number}.json" for number in range(files.MANY_FILES + 1)]
    for name in names:
        name.touch()
    replace_private(str(names[0]), b"x")
    for name in names[1:]:
        name.unlink()
    time.sleep(files.SWEEP_S)
    replace_private(str(names[0]), b"y")  # sees that it is small
    (tmp_path / ".1.f.tmp").touch()
    replace_private(str(names[0]), b"z")
    assert left_overs(tmp_path) == []


def test_a_look_through_a_large_directory_takes_no_memory_for_it(tmp_path: Path) -> None:
    """A job over 10,000 profiles held all names of the store's directory in each of its threads."""
    names = [f"{number:0100d}.json" for number in range(3000)]
    for name in names:
        (tmp_path / name).touch()
    whole = sum(map(sys.getsizeof, names))
    tracemalloc.start()
    try:
        replace_private(str(tmp_path / names[0]), b"x")
        assert tracemalloc.get_traced_memory()[1] < whole / 4
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_store_behind_somebody_else_s_link(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    """They would choose which directory of ours the password is written into."""
    mine, link = tmp_path / "mine", tmp_path / "link"
    mine.mkdir(mode=0o755)
    link.symlink_to(mine)
    assert close_directory(str(link))
    os.chown(link, 2002, 2002, follow_symlinks=False)
    mine.chmod(0o755)
    assert not close_directory(str(link))
    assert mine.stat().st_mode & 0o777 == 0o755
    stores = f'[stores.s]\ntype = "local"\npath = "{link}"\n'
    home.configure(pitchpoint_config(vendor.address, stores=stores))
    members = '{"username": "u", "password": "p"}'
    done = home.run("credentials", "set", "pitchpoint", stdin=members)
    assert done.code == 5
    assert list(mine.iterdir()) == []
