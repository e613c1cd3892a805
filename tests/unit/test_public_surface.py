"""What version 1 promises (plugin/docs/stability.md), against what was recorded: a change of a name
is deliberate, since it is recorded (`python tests/unit/test_public_surface.py`)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import nightporter
from nightporter.cli.app import cli
from nightporter.core import config, errors, metrics, record
from nightporter.core.config import parse_config
from nightporter.core.events import Event
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.model import Profile, Secret, SessionRecord, Token
from nightporter.core.values import replace
from nightporter.issuers import VENDORS
from nightporter.machine.helper_failures import HelperFailure
from nightporter.operations import doctor, rotate
from nightporter.operations.findings import Finding
from nightporter.operations.rotate import Report
from nightporter.operations.status import Status, to_json
from nightporter.protocols import plain
from nightporter.session import telling
from nightporter.session.transitions import marked_record
from nightporter.stores import STORES

RECORDED = Path(__file__).with_name("public_surface.json")
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugin/nightporter"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "plugin/docs").glob("*.md"))]
STAMP = "2026-07-14T14:00:00Z"
SESSION = {
    "schema": 1,
    "issuer": "pitchpoint",
    "token_endpoint": "https://api.pointservices.com",
    "username": "svc-acme",
    "refresh_token": "r",
    "issued_at": STAMP,
    "expires_at": STAMP,
    "generation": 4,
    "access_token": "a",
    "access_token_expires_at": STAMP,
    "claim": {"holder": "h/1/1", "until": STAMP, "nonce": "n", "machine": "m", "life": 16},
    "refused": {"credentials_version": "7", "until": STAMP, "count": 1, "error": "e"},
    "busy": {"call": "refresh", "until": STAMP},
    "by": "h",
    "history": [
        {"digest": "d", "parent": None, "generation": 4, "at": STAMP, "by": "h", "how": "seed"}
    ],
}


def options(command: click.Command) -> list[str]:
    named = [p for p in command.params if isinstance(p, click.Option)]
    return sorted(word for option in named for word in (*option.opts, *option.secondary_opts))


def commands(group: click.Group, before: str = "") -> dict[str, list[str]]:
    """Each command, by its whole name, with its options."""
    found = {}
    for name, command in group.commands.items():
        if command.hidden:
            continue
        found[before + name] = options(command)
        if isinstance(command, click.Group):
            found.update(commands(command, f"{before}{name} "))
    return found


def shape(value: object) -> Any:
    """Names and types of JSON members; a list is that of its first item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def a_token() -> Token:
    return Token(Secret("a"), token_type="Bearer", expires_at_s=1, obtained_at_s=0, generation=4)


def a_profile() -> Profile:
    text = '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def a_session() -> SessionRecord:
    """With everything that a record may hold."""
    found = record.parse_session(SESSION)
    assert isinstance(found, SessionRecord)
    marked = marked_record(found, error="invalid_grant", now=0)
    return replace(marked, claim=found.claim)


def outputs() -> dict[str, Any]:
    """The JSON that each command prints, filled as far as it can be."""
    failure = HelperFailure(protocol="git", profile="p", at=0, reference="r", message="m")
    status = Status(
        profile="p",
        issuer="i",
        store="s",
        path="r",
        cached=a_token(),
        record=a_session(),
        problem="m",
        reference="r",
        spilled_at=0,
        idle_ends_at=0,
        failures=(failure,),
    )
    report = Report(profile="p", did="nothing", duration_s=1.0, access_expires_at=0)
    finding = Finding(level="ok", reference="ok", what="w")
    return {
        "status": shape(to_json(status)),
        "token": shape(json.loads(plain.render(a_token(), "json", a_profile()))),
        "rotate": shape(report.to_json()),
        "doctor": shape(json.loads(doctor.to_json([finding]))),
        "session record": sorted(record.render_session(a_session())),
    }


def facts_of_events() -> dict[str, list[str]]:
    """Each audited event with the members that any room gives it, beside those of every line."""
    found: dict[str, set[str]] = {event.value: set() for event in Event if event.is_audited}
    for file in PACKAGE.rglob("*.py"):
        for event, names in emitted(ast.parse(file.read_text())):
            if event in found:
                found[event] |= names
    found["rotated"] |= set(rotate._NOTED)
    return {event: sorted(names) for event, names in sorted(found.items())}


def emitted(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0]
        if name in ("emit", "note", "_emit") and isinstance(first, ast.Constant):
            names = {item.arg for item in node.keywords if item.arg}
            spread = [ast.unparse(item.value) for item in node.keywords if item.arg is None]
            if any(text.startswith("telling.lineage(") for text in spread):
                names |= telling.lineage(a_session()).keys()
            yield str(first.value), names


def variables() -> list[str]:
    """The variables of ours that the code reads and a page names."""
    name = re.compile(r"\bNIGHTPORTER_[A-Z_]*[A-Z]\b")
    read = {word for file in PACKAGE.rglob("*.py") for word in name.findall(file.read_text())}
    told = {word for file in DOCUMENTS for word in name.findall(file.read_text())}
    return sorted(read & told)


def surface() -> dict[str, Any]:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    own = [item for item in classes if issubclass(item, errors.NightporterError)]
    return {
        "library": sorted(nightporter.__all__),
        "global options": options(cli),
        "commands": commands(cli),
        "profile keys": sorted({*config._PROFILE_KEYS, *config._OPTION_KEYS}),
        "store keys": {name: sorted(store.keys) for name, store in STORES.items()},
        "exit codes": {item.reference: item.exit_code for item in own},
        "references": sorted(EXPLANATIONS),
        "record schema": record.SCHEMA,
        "outputs": outputs(),
        "events": facts_of_events(),
        "metrics": {name: found.kind for name, found in metrics.METRICS.items()},
        "variables": variables(),
    }


def test_the_public_surface_is_as_recorded() -> None:
    """A name that goes is a major version; a new one is recorded with the change that brings it."""
    assert json.loads(json.dumps(surface())) == json.loads(RECORDED.read_text())


def test_each_part_of_the_surface_was_found() -> None:
    """What is derived from the code is not derived from nothing."""
    found = surface()
    assert {"NIGHTPORTER_CONFIG", "NIGHTPORTER_CACHE", "NIGHTPORTER_LOG"} <= set(found["variables"])
    assert found["outputs"]["status"]["session"]["claim"] == {"holder": "str", "until": "str"}
    assert found["outputs"]["status"]["session"]["given_up"]["error"] == "str"
    assert found["outputs"]["token"]["expires_at"] == "str"
    assert {"generation", "token"} <= set(found["events"]["saved"])
    assert "did" in found["events"]["rotated"]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(surface(), indent=1, sort_keys=True) + "\n")
