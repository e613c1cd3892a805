"""Runs the engine's own decisions over every interleaving of a few hosts, within bounds.

A run is a list of choices: who goes on, and what befalls its effect. Runs are repeated from their
beginning (a generator can't be copied), depth first; a state that was seen before is not gone on
from. Bounds: how often the scheduler switches away from a host that could go on, and how many
faults befall a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lab.worlds.hosts import Host
from lab.worlds.model import Model
from nightporter.session import effects

MAX_STEPS = 400
# What may befall each kind of effect.
FAULTS: dict[type, tuple[str, ...]] = {
    effects.Read: ("old",),
    effects.Write: ("crash", "not-done", "done-unheard", "doubled", "paused"),
    effects.Send: ("crash", "not-done", "done-unheard", "slow", "paused", "spurious"),
}


@dataclass(frozen=True)
class Choice:
    """One step: which host goes on, and what befalls it."""

    host: int
    fate: str = "done"


@dataclass
class Bounds:
    """How far a search goes. `faults`: kinds that may befall; `max_faults` in one run."""

    switches: int = 2
    max_faults: int = 1
    faults: frozenset[str] = frozenset()
    seconds: float = 20.0


@dataclass
class Search:
    """`begin` makes the world with everybody's first wish; `states` and `runs` count."""

    begin: Callable[[], Model]
    bounds: Bounds
    states: int = 0
    runs: int = 0
    is_complete: bool = True
    seen: dict[object, tuple[int, int]] = field(default_factory=dict)

    def find(self) -> tuple[list[Choice], list[str]] | None:
        """A run that breaks an invariant, and what it breaks; None where there is none."""
        stack: list[tuple[Choice, ...]] = [()]
        began = time.monotonic()
        while stack:
            if time.monotonic() - began > self.bounds.seconds:
                self.is_complete = False
                return None
            choices = stack.pop()
            model, faults, switches, last = self.replay(choices)
            self.runs += 1
            while True:
                if model.problems:
                    return list(choices), model.problems
                options = self.options(model, faults, switches, last)
                if len(choices) >= MAX_STEPS:
                    self.is_complete = False
                    break
                if not options:
                    model.check_end()
                    if model.problems:
                        return list(choices), model.problems
                    break
                if self.is_known(model, faults, switches, last):
                    break
                self.states += 1
                stack += [(*choices, option) for option in reversed(options[1:])]
                choices = (*choices, options[0])
                faults, switches, last = self.step(model, options[0], faults, switches, last)
        return None

    def replay(self, choices: Sequence[Choice]) -> tuple[Model, int, int, int]:
        """The world after these choices."""
        model, faults, switches, last = self.begin(), 0, 0, 0
        for choice in choices:
            faults, switches, last = self.step(model, choice, faults, switches, last)
        return model, faults, switches, last

    def step(
        self, model: Model, choice: Choice, faults: int, switches: int, last: int
    ) -> tuple[int, int, int]:
        """Does one choice; the counts after it."""
        host = model.hosts[choice.host]
        is_switch = choice.host != last and _is_ready(model, model.hosts[last])
        apply(model, host, choice.fate)
        return faults + (choice.fate != "done"), switches + is_switch, choice.host

    def options(self, model: Model, faults: int, switches: int, last: int) -> list[Choice]:
        """What may happen next; the first is the plainest."""
        found: list[Choice] = []
        order = [last, *(index for index in range(len(model.hosts)) if index != last)]
        waking = [index for index in order if not model.hosts[index].is_done]
        ready = [index for index in waking if _is_ready(model, model.hosts[index])]
        if not ready and waking:  # everybody sleeps: the first to wake goes on
            ready = [min(waking, key=lambda index: model.hosts[index].wakes_at)]
        for index in ready:
            is_switch = index != last and last in ready
            if is_switch and switches >= self.bounds.switches:
                continue
            found.append(Choice(index))
            if faults < self.bounds.max_faults:
                found += [Choice(index, fate) for fate in self.fates(model.hosts[index])]
        return found

    def fates(self, host: Host) -> Iterator[str]:
        for fate in FAULTS.get(type(host.wants), ()):
            if fate in self.bounds.faults:
                yield fate

    def is_known(self, model: Model, faults: int, switches: int, last: int) -> bool:
        """Whether the state was seen before with at least as much left to happen."""
        key = (model.fingerprint(), last)
        before = self.seen.get(key)
        if before is not None and before[0] <= faults and before[1] <= switches:
            return True
        self.seen[key] = (faults, switches)
        return False


def _is_ready(model: Model, host: Host) -> bool:
    return not host.is_done and host.wakes_at <= model.now


def apply(model: Model, host: Host, fate: str) -> None:
    """One step of a host, with what befalls it."""
    if fate == "crash":  # before the deed or after it, one host dies and a third of a minute passes
        model.go_on(host) if isinstance(host.wants, effects.Send) else None
        model.crash(host)
    elif fate == "old":
        model.go_on(host, age=1)
    else:
        model.go_on(host, fate)


def run_alone(model: Model, host: Host, *, steps: int = 400) -> None:
    """The host goes on, undisturbed, to its end."""
    for _ in range(steps):
        if host.is_done:
            return
        model.go_on(host)
    model.problems.append(f"{host.name} came to no end")


# Traces of real runs (`-v`, NIGHTPORTER_LOG): who reported what, in order.

MARKS = {"claim": effects.Write, "send": effects.Send}


def replay_trace(model: Model, trace: Sequence[tuple[int, str]]) -> None:
    """Repeats a real run: each host goes on until it reports the event that it reported there.

    `trace`: host and event, in the order of the log.
    """
    for index, event in trace:
        host = model.hosts[index]
        for _ in range(MAX_STEPS):
            if event in host.events:
                host.events.remove(event)
                break
            if host.is_done:
                model.problems.append(f"{host.name} never reported {event}")
                return
            model.go_on(host)
