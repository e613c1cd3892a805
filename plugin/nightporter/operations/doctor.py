"""`nightporter doctor`: what can be found out without spending anything.

Nothing is exchanged here: stores are read, rights are asked for, the issuer gets one GET. Each
finding has a level, a reference, what is so and what to do; the exit code is the lowest class among
the errors. `--repair` does what is safe: modes, left-over files, a result that waits for its store,
a label that a person moved back.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Iterator, Mapping

from nightporter import __version__
from nightporter.client.configuration import load_config
from nightporter.client.porter import Porter
from nightporter.core.errors import (
    NightporterError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.values import asdict
from nightporter.operations.doctor_clients import (
    cluster_findings,
    command_findings,
    mishap_findings,
    variable_findings,
)
from nightporter.operations.doctor_places import place_findings
from nightporter.operations.doctor_profile import ProfileDoctor
from nightporter.operations.doctor_watching import watching_findings
from nightporter.operations.findings import (
    Finding,
    configuration_findings,
    failure,
    ok,
    warning,
)
from nightporter.operations.show_config import render_effective
from nightporter.operations.status import Paint, unstyled
from nightporter.stores import STORES


class Doctor:
    """One examination of this machine and of some profiles."""

    def __init__(
        self, config: str | None, environment: Mapping[str, str], *, is_repair: bool
    ) -> None:
        self._config = config
        self._environment = environment
        self._is_repair = is_repair

    def examine(self, names: tuple[str, ...]) -> Iterator[Finding]:
        """Every finding, in the order in which they are found."""
        yield ok(
            f"nightporter {__version__}, Python {platform.python_version()},"
            f" {platform.platform(terse=True)}"
        )
        yield from place_findings(self._environment, is_repair=self._is_repair)
        yield from command_findings(self._environment)
        try:
            config = load_config(self._config, self._environment)
        except NightporterError as exc:
            problems = getattr(exc, "problems", ())
            yield failure(exc)
            for problem in problems:
                what, todo = str(problem), "Correct it, and look again: nightporter config check"
                yield Finding(
                    level="error",
                    reference=exc.reference,
                    what=what,
                    todo=todo,
                    exit_code=exc.exit_code,
                )
            return
        yield ok(
            f"{config.source}: {len(config.profiles)} profile(s), {len(config.stores)} store(s)"
        )
        for finding in configuration_findings(config, self._environment):
            if not names or finding.profile in (None, *names):
                yield finding
        yield from cluster_findings(config, names, self._environment)
        yield from variable_findings(config, self._environment)
        yield from watching_findings(config, self._environment)
        yield from mishap_findings(names, self._environment)
        notes: list[str] = []
        with Porter(self._config, is_library=False, notify=notes.append) as porter:
            for name in names or tuple(config.profiles):
                yield from self._profile(porter, name)
                yield from (warning("store-note", note, name) for note in dict.fromkeys(notes))
                notes.clear()

    def _profile(self, porter: Porter, name: str) -> Iterator[Finding]:
        try:
            broker = porter.broker_for(name)
        except NightporterError as exc:
            yield failure(exc, name)
            return
        yield from ProfileDoctor(broker, is_repair=self._is_repair).findings()


def exit_code(findings: list[Finding]) -> int:
    """The lowest class among the errors; 0 without any."""
    return min((finding.exit_code for finding in findings if finding.level == "error"), default=0)


def summary(findings: list[Finding]) -> str:
    """Returns the last line for people: how much there is to do."""
    levels = [finding.level for finding in findings]
    return f"{levels.count('error')} error(s), {levels.count('warning')} warning(s)"


def to_json(findings: list[Finding]) -> str:
    """Returns the findings as a JSON array of objects."""
    members = [
        {key: value for key, value in asdict(item).items() if key != "exit_code"}
        for item in findings
    ]
    return json.dumps(members, indent=2)


def to_text(findings: list[Finding], *, paint: Paint = unstyled) -> str:
    """For people: one line a finding, what to do below it."""
    lines = []
    for item in findings:
        mark = paint(item.level, item.level)
        pad = " " * (8 - len(item.level))
        owner = f"{item.profile}: " if item.profile else ""
        reference = "" if item.level == "ok" else f" [{item.reference}]"
        lines.append(f"{mark}{pad}{owner}{item.what}{reference}")
        if item.todo and item.level != "ok":
            lines.append(f"        what to do: {item.todo}")
    return "\n".join(lines)


_FREE = re.compile(r"^(\s*(?:extra_parameters|authorization_parameters|auth)\b[^=]*=).*")


def _shareable(line: str) -> str:
    """Without values that may be secrets after all: parameters of the user's own, and how the store
    is logged in to."""
    return _FREE.sub(r"\1 (left out)", line)


def bundle(findings: list[Finding], config: str | None, environment: Mapping[str, str]) -> str:
    """A report for a ticket: findings, the effective configuration (which holds no secret), names
    of variables."""
    try:
        effective = render_effective(load_config(config, environment), {}, STORES)
    except NightporterError as exc:
        effective = f"(not readable: {exc.reference})"
    names = sorted(
        name
        for name in environment
        if name.startswith(("NIGHTPORTER_", "AWS_", "VAULT_", "BAO_", "XDG_"))
    )
    document = {
        "made_at": format_rfc3339(int(time.time())),
        "findings": json.loads(to_json(findings)),
        "configuration": [_shareable(line) for line in effective.splitlines()],
        "variables": names,
    }
    return json.dumps(document, indent=2) + "\n"
