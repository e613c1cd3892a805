"""Metrics in a file for Prometheus: of all processes of a host, and the same counts as the audit
log."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hcl2
import pytest

from lab.clients import client
from lab.patience import patience
from lab.support import ROOT, Home
from lab.worlds.vendor import Vendor
from nightporter import aws_lambda
from nightporter.core import metrics
from nightporter.core.errors import (
    ResultPendingError,
    SessionRejectedError,
    UsedElsewhereError,
    WriteBudgetError,
)
from nightporter.core.events import Event
from nightporter.operations import rotate

PLACE = ROOT / "plugin/observability"


@pytest.fixture
def watched(home: Home, tmp_path: Path) -> Home:
    home.environment["NIGHTPORTER_METRICS"] = str(tmp_path / "nightporter.prom")
    home.environment["NIGHTPORTER_LOG"] = str(tmp_path / "audit.jsonl")
    return home


def metrics_of(home: Home) -> metrics.Series:
    return metrics.parse(Path(home.environment["NIGHTPORTER_METRICS"]).read_text())


def events_of(home: Home) -> Counter[str]:
    lines = Path(home.environment["NIGHTPORTER_LOG"]).read_text().splitlines()
    return Counter(json.loads(line)["event"] for line in lines)


def value(home: Home, name: str, **labels: str) -> float | None:
    key = (f"nightporter_{name}", tuple({"profile": "pitchpoint", **labels}.items()))
    return {(n, tuple(sorted(ls))): v for (n, ls), v in metrics_of(home).items()}.get(
        (key[0], tuple(sorted(key[1])))
    )


def test_many_processes_count_into_one_file(watched: Home, vendor: Vendor) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: watched.run("token", "--force-refresh"), range(8)))
    assert [each.code for each in done] == [0] * 8
    assert watched.run("rotate").code == 0
    counted = {
        dict(labels)["event"]: int(number)
        for (name, labels), number in metrics_of(watched).items()
        if name == "nightporter_events_total"
    }
    assert counted == events_of(watched)
    assert counted["served"] == 8
    assert value(watched, "last_rotation_timestamp_seconds") is not None
    ends = value(watched, "refresh_token_expiry_timestamp_seconds")
    assert ends is not None
    file = Path(watched.environment["NIGHTPORTER_METRICS"])
    assert file.stat().st_mode & 0o777 == 0o644
    text, record = file.read_text(), watched.record()
    assert record["refresh_token"] not in text
    assert done[0].out.strip() not in text


def test_a_refused_sign_in_and_its_end(watched: Home, vendor: Vendor) -> None:
    vendor.world.users["svc-acme"] = "another"
    assert watched.run("token").code == 3
    assert value(watched, "sign_in_refused") == 1
    assert value(watched, "errors_total", reference="credentials-refused") == 1
    watched.set_credentials(username="svc-acme", password="another")
    assert value(watched, "sign_in_refused") == 0


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "missing directory"])
def test_a_place_that_can_t_be_written_stops_nobody(watched: Home, kind: str) -> None:
    file = Path(watched.environment["NIGHTPORTER_METRICS"])
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to(watched.path / "elsewhere")
    elif kind == "directory":
        file.mkdir()
    else:
        watched.environment["NIGHTPORTER_METRICS"] = str(file.parent / "none" / "n.prom")
    assert watched.run("token").code == 0
    assert not (watched.path / "elsewhere").exists()


def test_a_relative_place_is_refused(home: Home) -> None:
    assert home.run("token", NIGHTPORTER_METRICS="here.prom").code == 2


def test_a_file_of_nonsense_is_begun_again(watched: Home) -> None:
    file = Path(watched.environment["NIGHTPORTER_METRICS"])
    file.write_bytes(b"\xff{} nightporter_events_total{ x")
    assert watched.run("token").code == 0
    assert value(watched, "events_total", event="served") == 1


def test_labels_are_read_back_as_they_were_written() -> None:
    series: metrics.Series = {}
    metrics.count(series, Event.SERVED, {"profile": 'a"b\\n,c}\n='}, now=0)
    assert metrics.parse(metrics.render(series)) == series


def test_the_rules_and_the_board_use_metrics_that_exist() -> None:
    for file in ("nightporter.rules.yml", "grafana.json"):
        text = (PLACE / file).read_text()
        assert set(re.findall(r"\bnightporter_\w+", text)) <= set(metrics.METRICS)
    board = json.loads((PLACE / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 8


def test_each_alert_has_a_runbook() -> None:
    rules = (PLACE / "nightporter.rules.yml").read_text()
    page = (ROOT / "plugin/docs/runbooks.md").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert [name for name in alerts if f"\n## {name}\n" not in page] == []
    assert set(re.findall(r"runbooks.md#(\w+)", rules)) == {name.lower() for name in alerts}


@pytest.mark.clients
def test_the_rules_ring_when_they_should() -> None:
    for what, file in (("check", "nightporter.rules.yml"), ("test", "nightporter.test.yml")):
        done = subprocess.run(
            [client("promtool"), what, "rules", file],
            cwd=PLACE,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.clients
def test_prometheus_reads_the_file(watched: Home, vendor: Vendor) -> None:
    assert watched.run("token").code == 0
    assert watched.run("rotate").code == 0
    done = subprocess.run(
        [client("promtool"), "check", "metrics"],
        input=Path(watched.environment["NIGHTPORTER_METRICS"]).read_text(),
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.clients
def test_every_name_is_one_as_prometheus_wants_it() -> None:
    """`promtool check metrics` also lints: units, suffixes, help."""
    series: metrics.Series = {(name, (("profile", "p"),)): 1.0 for name in metrics.METRICS}
    for text, code in (
        (metrics.render(series), 0),
        ("# HELP planted_minutes x\n# TYPE planted_minutes counter\nplanted_minutes 1\n", 3),
    ):
        done = subprocess.run(
            [client("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr


# CloudWatch has the same alarms.

SECONDS = {"s": 1, "min": 60, "h": 3600}


def seconds(text: str) -> int | None:
    """`13 h` as seconds; None for an empty cell."""
    if not text:
        return None
    number, unit = text.split()
    return int(number) * SECONDS[unit]


def alarm_table() -> dict[str, list[str]]:
    page = (ROOT / "plugin/docs/runbooks.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| Nightporter")
    ]
    return {row[0]: row[1:] for row in rows}


def alarms() -> dict[str, dict[str, Any]]:
    text = (ROOT / "terraform/modules/aws/alarms.tf").read_text()
    document: dict[str, Any] = hcl2.loads(text)
    (found,) = (local["alarms"] for local in document["locals"] if "alarms" in local)
    return {
        str(name).strip('"'): {
            key: str(value).strip('"') for key, value in members.items() if key[:2] != "__"
        }
        for name, members in found.items()
        if name[:2] != "__"
    }


def test_each_alert_has_its_alarm_and_no_alarm_is_unexplained() -> None:
    rules = re.findall(r"alert: (\w+)", (PLACE / "nightporter.rules.yml").read_text())
    table = alarm_table()
    assert list(table) == rules
    assert set(alarms()) == {row[0] for row in table.values()} | {
        "failed",
        "crashed",
        "undelivered",
    }


@pytest.mark.parametrize("alert", alarm_table())
def test_an_alert_and_its_alarm_have_the_same_limits(alert: str) -> None:
    name, metric, limit, lasting = alarm_table()[alert]
    rules = (PLACE / "nightporter.rules.yml").read_text()
    rule = rules[rules.index(f"alert: {alert}\n") :].partition("- alert")[0]
    alarm = alarms()[name]
    assert alarm["metric"] == metric
    if (found := seconds(limit)) is not None:
        assert float(alarm["threshold"]) == found
        assert re.search(rf"[<>] ({found}|{found // 3600} \* 3600)'", rule), rule
    else:
        assert float(alarm["threshold"]) == 1
    if (found := seconds(lasting)) is not None:
        assert int(alarm["period"]) * int(alarm.get("periods", 1)) == found
        hours = rf"for: {found // 3600}h|> {found // 3600} \* 3600|\[{found // 3600}h\]"
        assert re.search(rf"for: {found // 60}m|{hours}", rule), rule


def test_lambda_counts_what_the_alarms_look_at() -> None:
    """Every metric of an alarm is there, and 1 where the run has found what it is for."""
    wanted = {alarm["metric"] for alarm in alarms().values() if alarm["namespace"] == "nightporter"}
    calm = rotate.Report(profile="p", did="nothing", duration_s=1, refresh_expires_at=9)
    said = aws_lambda.metrics(calm, function="f", now=0)
    emitted = {item["Name"] for item in said["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert wanted - {"Runs"} <= emitted
    incidents = ("SessionUsedElsewhere", "SessionDead", "WriteBudgetUsedUp", "SpillWaiting")
    assert [said[name] for name in incidents] == [0, 0, 0, 0]
    for error, name in (
        (UsedElsewhereError("x"), "SessionUsedElsewhere"),
        (SessionRejectedError("x"), "SessionDead"),
        (WriteBudgetError("x"), "WriteBudgetUsedUp"),
        (ResultPendingError("x"), "SpillWaiting"),
    ):
        report = rotate.Report(profile="p", did="nothing", duration_s=1, error=error)
        said = aws_lambda.metrics(report, function="f", now=0)
        assert [said[each] for each in incidents] == [int(each == name) for each in incidents]
        assert (said["Successes"], said["Failures"]) == (0, 1)


# The board, read by Grafana's own model of a dashboard.

READ_BOARD = """
import json, sys
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

plugins.register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
"""


def lost(given: Any, kept: Any, place: str = "") -> list[str]:
    """Where Grafana's model has not kept what was given."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            found
            for name, value in given.items()
            for found in lost(value, kept.get(name), f"{place}.{name}")
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [found for index, pair in pairs for found in lost(*pair, f"{place}[{index}]")]
    return [] if given == kept else [place]


def read_board(board: Any) -> Any:
    done = subprocess.run(
        [client("python"), "-c", READ_BOARD],
        input=json.dumps(board),
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.clients
def test_grafana_knows_every_member_of_the_board() -> None:
    board = json.loads((PLACE / "grafana.json").read_text())
    assert lost(board, read_board(board)) == []
    board["panels"][0]["titel"] = "planted"
    board["panels"][0]["fieldConfig"]["defaults"]["units"] = "s"
    found = lost(board, read_board(board))
    assert found == [".panels[0].fieldConfig.defaults.units", ".panels[0].titel"]
