"""The scheduled job on more than one core: profiles are divided over processes as they are over
shards, and every report comes back to the one that prints them.

Claims in the store keep sessions safe, no matter who rotates them; the division is for speed alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from nightporter.client.broker import Broker
from nightporter.core.errors import NightporterError, from_members, to_members
from nightporter.core.values import fields
from nightporter.machine.children import Tell, can_fork, run_in_children, usable_cores
from nightporter.operations.rotate import Report

LEAST_PROFILES = 16  # for which one process more is worth its start
# Rotates these profiles, so many at a time, until it is told to stop.
Rotate = Callable[[Sequence[Broker], int, Callable[[], bool]], Iterator[Report]]


def processes_for(asked: int | None, *, profiles: int, jobs: int) -> int:
    """Returns how many processes to use: as many as asked for, else as there are cores, and no
    more than have something to do."""
    if not can_fork():
        return 1
    wanted = asked or min(usable_cores(), profiles // LEAST_PROFILES)
    return max(1, min(wanted, jobs, profiles))


def rotate_divided(
    brokers: Sequence[Broker],
    rotate: Rotate,
    *,
    processes: int,
    jobs: int,
    should_stop: Callable[[], bool],
) -> Iterator[Report]:
    """Rotates the profiles in so many processes, `jobs` at a time in all of them together, and
    yields each one's report when it is done.

    A process that dies fails the profiles that it hasn't reported, and no others.
    """
    if processes < 2:
        yield from rotate(brokers, jobs, should_stop)
        return
    parts = [brokers[number::processes] for number in range(processes)]

    def work(number: int) -> Callable[[Tell], None]:
        share = jobs // processes + (number < jobs % processes)
        return lambda tell: _rotate_part(parts[number], share, rotate, should_stop, tell)

    missing = [dict.fromkeys(broker.profile.name for broker in part) for part in parts]
    works = [work(number) for number in range(processes)]
    for number, line in run_in_children(works, should_stop):
        if line is None:
            yield from map(_lost, missing[number])
            continue
        report = _parse(line)
        missing[number].pop(report.profile, None)
        yield report


def _rotate_part(
    brokers: Sequence[Broker],
    jobs: int,
    rotate: Rotate,
    should_stop: Callable[[], bool],
    tell: Tell,
) -> None:
    """In a child: begins nothing new once nobody listens."""
    unheard: list[Report] = []
    for report in rotate(brokers, jobs, lambda: should_stop() or bool(unheard)):
        if not tell(_render(report)):
            unheard.append(report)


def _render(report: Report) -> str:
    members = {field.name: getattr(report, field.name) for field in fields(report)}
    return json.dumps({**members, "error": report.error and to_members(report.error)})


def _parse(line: str) -> Report:
    members = json.loads(line)
    error = members.pop("error")
    return Report(**members, error=from_members(error) if error else None)


def _lost(profile: str) -> Report:
    error = NightporterError("the process that rotated it ended before it was done")
    return Report(profile=profile, did="failed", duration_s=0.0, error=error)
