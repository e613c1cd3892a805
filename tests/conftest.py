from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_timeout
from hypothesis import HealthCheck, settings

from lab.patience import patience
from lab.support import AWS_VARIABLES, Home, OpenBao, open_moto, open_openbao, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter import Porter
from nightporter.session.port import ABSENT
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World
from nightporter.stores.local import LocalStore

# A shell that starts us in the background makes us ignore SIGINT, and every command that a test
# starts after us.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machines are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="Write the transcripts of the documents anew."
    )


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> object:
    """The deadline of a test follows the load; it ends with the stacks of all threads."""
    slower = settings._replace(timeout=patience(settings.timeout))
    return pytest_timeout.pytest_timeout_set_timer(item, slower)


@pytest.hookimpl(optionalhook=True)  # with `-p no:xdist` nobody asks
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Five for two cores: a test waits for processes and clocks for more than half of its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, (cores or 1) * 5 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the tier that takes an hour, one test may take most of it."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The order differs from run to run; with the seed it can be repeated."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None:
        terminalreporter.write_line(
            f"in random order; the same order again: --randomly-seed={seed}"
        )


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    with open_openbao() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with open_moto() as address:
        yield address


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An AWS identity that is nobody's, for clients in this process."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in AWS_VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    """A sandbox of this test's own, in this process, so that the test can change its world."""
    world = World(users={"svc-acme": "correct-horse"})
    with open_sandbox(world) as address:
        yield Vendor(address, world)


@pytest.fixture
def empty_home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def home(empty_home: Home, vendor: Vendor) -> Home:
    """A home with a Pitchpoint profile in the embedded store, credentials included."""
    empty_home.configure(pitchpoint_config(vendor.address))
    empty_home.set_credentials(username="svc-acme", password="correct-horse")
    return empty_home


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65_536))
    except BlockingIOError:
        os.set_blocking(writer, True)  # as a log collector's is
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept in this process's home (cached tokens, states that were seen) is kept in one of
    the test's own, and not in that of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "NIGHTPORTER_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def porter(vendor: Vendor, tmp_path: Path, own_home: None) -> Iterator[Porter]:
    """A program's own Porter: a profile whose credentials are in a store of the program's own."""
    credentials = {"username": "svc-acme", "password": "correct-horse"}
    store = LocalStore(str(tmp_path / "store"))
    store.write("prod/pitchpoint", credentials, ABSENT, None, timeout_s=5)
    stores = f'[stores.here]\ntype = "local"\npath = "{tmp_path / "store"}"\n'
    with Porter(pitchpoint_config(vendor.address, stores=stores)) as porter:
        yield porter
