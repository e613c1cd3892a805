"""What a stage is built from: servers on loopback under the names that the documents show, and a
home from which they are reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.clients import VENV
from lab.servers.internet import Internet, open_internet
from lab.servers.tls import open_guarded
from lab.support import BIN, Home, OpenBao
from lab.worlds.vendor import Vendor

CREDENTIALS = {"username": "svc-acme", "password": "correct-horse"}
CONFIG = """
[profiles.pitchpoint]
issuer = "pitchpoint"
credentials = "prod/pitchpoint"
hosts = [{hosts}]
"""


@dataclass
class World:
    """What there is to build a stage from. `openbao` and `moto` start their servers when they are
    called."""

    directory: Path
    vendor: Vendor
    openbao: Callable[[], OpenBao]
    moto: Callable[[], str]

    @contextlib.contextmanager
    def guarded(self, answers: Mapping[str, Any], **more: Any) -> Iterator[int]:
        """The port of a server that takes only the vendor's tokens."""
        is_live = self.vendor.world.is_live
        with open_guarded(
            self.directory, is_live=is_live, answers=answers, is_plain=True, **more
        ) as server:
            yield server.port

    @contextlib.contextmanager
    def home(self, places: Mapping[str, int], **variables: str) -> Iterator[tuple[Home, Internet]]:
        """A home whose way out leads to these places, with our commands on PATH as pipx would put
        them there."""
        there = {"api.pointservices.com:443": port_of(self.vendor.address), **places}
        with open_internet(self.directory, there) as internet:
            home = Home(self.directory / "home", {**internet.environment, **variables})
            commands = home.path / ".local/bin"
            commands.mkdir(parents=True)
            for program in BIN.glob("*nightporter"):
                (commands / program.name).symlink_to(program)
            for program in (BIN / "kubectl", VENV / "aws", VENV / "http"):
                if program.exists():
                    (commands / program.name).symlink_to(program)
            home.environment["PATH"] = f"{commands}:/usr/local/bin:/usr/bin:/bin"
            home.environment["USER"] = "anna"
            yield home, internet


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
