from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World
from support import Home, OpenBao, open_openbao, pitchpoint_config

# The machines are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    with open_openbao() as server:
        yield server


@dataclass
class Vendor:
    address: str
    world: World

    def fail(self, *faults: dict[str, object]) -> None:
        self.world.faults.extend(dict(fault) for fault in faults)

    def count(self, call: str) -> int:
        return self.world.counts[call]


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
