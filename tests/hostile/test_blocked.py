"""Descriptors that take nothing, behind every place that we write to: an answer that nobody reads,
a full disk, a FIFO in a file's place, a command that never ends. None costs a rotating session, and
none but the answer itself waits for its reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lab.patience import patience, until, within
from lab.support import BIN, Done, Home
from lab.worlds.vendor import Vendor

FAST_S = 30.0
COMMAND = str(BIN / "nightporter")


@pytest.fixture
def rotating(empty_home: Home, vendor: Vendor) -> Home:
    """A session whose refresh token is replaced at each exchange; its store is beside the home, on
    a disk that has room."""
    empty_home.configure(
        f'[stores.kept]\ntype = "local"\npath = "{empty_home.path}/kept"\n'
        f'[profiles.acme]\nissuer = "entra"\ntenant = "t"\nbase_url = "{vendor.address}"\n'
        'store = "kept"\ncredentials = "prod/acme"\nscopes = "api offline_access"\n'
        'share_access_token = false\nhosts = ["git.example.com"]\n'
    )
    empty_home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    assert empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token()).code == 0
    return empty_home


def goes_on(home: Home, vendor: Vendor) -> bool:
    """Whether the session was saved each time: a lost refresh token would be refused."""
    done = home.run("token", "--force-refresh")
    return done.code == 0 and vendor.count("reuse") == 0


# An answer that nobody reads.


ASKS = {
    "token": (["token", "--force-refresh", "--timeout", "5"], ""),
    "exec-credential": (["exec-credential", "acme"], ""),
    "git": (["credential", "git", "get"], "protocol=https\nhost=git.example.com\n\n"),
    "docker": (["credential", "docker", "get"], "git.example.com"),
}


@pytest.mark.parametrize("ask", ASKS)
def test_an_answer_that_nobody_reads_holds_nobody_else_up(
    rotating: Home, vendor: Vendor, full_pipe: int, ask: str
) -> None:
    """It waits for its reader, as any program does; by then the session is saved, and neither lock
    nor claim is held. SIGTERM ends it at once."""
    words, asked = ASKS[ask]
    process = subprocess.Popen(
        [COMMAND, *words], env=rotating.environment, stdin=subprocess.PIPE, stdout=full_pipe
    )
    assert process.stdin is not None
    process.stdin.write(asked.encode())
    process.stdin.close()
    until(lambda: vendor.count("refresh") > 0)
    with within(FAST_S):
        assert goes_on(rotating, vendor)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=patience(FAST_S)) == -signal.SIGTERM
    assert goes_on(rotating, vendor)


# A full disk.

ON_A_FULL_DISK = (
    'mount -t tmpfs -o size=16k none "$1" && mkdir -m 700 "$1/nightporter" &&'
    ' { cat /dev/zero >"$1/fill" 2>/dev/null; shift; exec "$@"; }'
)


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    """The place of a file system without a free byte, for `run_there`."""
    place = tmp_path / "full"
    place.mkdir()
    probe = ["unshare", "-m", "sh", "-c", ON_A_FULL_DISK, "sh", str(place), "true"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    return place


def run_there(home: Home, place: Path, *words: str, **variables: str) -> Done:
    """Runs the command where `place` is a disk that is full."""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", ON_A_FULL_DISK, "sh", str(place), COMMAND, *words],
        env={**home.environment, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(90),
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def places_in(directory: Path) -> dict[str, dict[str, str]]:
    """By emitter, the variables that lead it into the directory."""
    return {
        "events": {"NIGHTPORTER_LOG": f"{directory}/events.jsonl"},
        "metrics": {"NIGHTPORTER_METRICS": f"{directory}/nightporter.prom"},
        "cache, notes and replies": {"NIGHTPORTER_CACHE_DIR": f"{directory}/nightporter"},
        "kept results": {"XDG_DATA_HOME": str(directory)},
    }


EMITTERS = tuple(places_in(Path("/")))


@pytest.mark.parametrize("emitter", EMITTERS)
def test_a_full_disk_costs_no_session(
    rotating: Home, vendor: Vendor, full_disk: Path, emitter: str
) -> None:
    """What can't be written is left out; the answer comes, and the next exchange is in order."""
    for _ in range(2):
        variables = places_in(full_disk)[emitter]
        done = run_there(rotating, full_disk, "token", "--force-refresh", **variables)
        assert (done.code, bool(done.out)) == (0, True), done.err
    assert goes_on(rotating, vendor)


def test_a_full_disk_of_the_store_loses_no_token(
    rotating: Home, vendor: Vendor, full_disk: Path
) -> None:
    """Nothing is sent where the claim can't be written."""
    rotating.config_file.write_text(
        rotating.config_file.read_text().replace(
            f"{rotating.path}/kept", f"{full_disk}/nightporter"
        )
    )
    done = run_there(rotating, full_disk, "token", "--force-refresh")
    assert done.code in (4, 5), done.err
    assert vendor.count("refresh") == 0


# FIFOs that nobody reads or writes.


def test_a_fifo_in_the_place_of_each_file_holds_nobody_up(rotating: Home, vendor: Vendor) -> None:
    """Every file that a run leaves is a FIFO for the next one: caches, notes, replies, locks,
    events, metrics, what was seen. But for the store itself."""
    places = {
        "NIGHTPORTER_LOG": f"{rotating.path}/events.jsonl",
        "NIGHTPORTER_METRICS": f"{rotating.path}/nightporter.prom",
    }
    for _ in range(2):
        assert rotating.run("token", **places).code == 0
    made = [*rotating.cache.rglob("*"), *rotating.data.rglob("*")]
    files = [*(path for path in made if path.is_file()), *map(Path, places.values())]
    files.append(Path(f"{places['NIGHTPORTER_METRICS']}.lock"))
    kinds = {path.suffix for path in files}
    assert kinds >= {".token", ".reply", ".lock", ".json", ".jsonl", ".prom"}
    for words in (("token",), ("token", "--force-refresh"), ("status",)):
        for path in files:
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        with within(FAST_S):
            done = rotating.run(*words, **places)
        assert done.code == 0, done.err
    for path in files:
        path.unlink(missing_ok=True)
    assert goes_on(rotating, vendor)


# A command that never ends.


def test_a_notify_command_that_never_ends(rotating: Home, vendor: Vendor) -> None:
    """It is told after the save, has ten seconds, and is killed then."""
    mark, program = f"300.{os.getpid()}", shutil.which("sleep")
    text = rotating.config_file.read_text()
    rotating.config_file.write_text(f'[notify]\ncommand = ["{program}", "{mark}"]\n{text}')
    vendor.world.revoke_all()
    with within(FAST_S + 10):
        assert rotating.run("token", "--force-refresh").code == 4
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert f"{program} {mark}" not in running.stdout
