"""A sandbox vendor, and a hand on its world."""

from __future__ import annotations

from dataclasses import dataclass

from nightporter.simulator.world import World


@dataclass
class Vendor:
    address: str
    world: World

    def fail(self, *faults: dict[str, object]) -> None:
        self.world.faults.extend(dict(fault) for fault in faults)

    def count(self, call: str) -> int:
        return self.world.counts[call]
