"""Metrics by OpenTelemetry's protocol: the same counts as the audit log, and nobody waits for a
collector."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience, until, within
from lab.servers.collector import Collector, open_collector, open_silence
from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core import metrics, otlp

SECRET = "key-that-nobody-may-see"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with open_collector() as found:
        yield found


@pytest.fixture
def watched(home: Home, tmp_path: Path, collector: Collector) -> Home:
    home.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.address
    home.environment["OTEL_EXPORTER_OTLP_HEADERS"] = f"api-key={SECRET},x=a%20b"
    home.environment["NIGHTPORTER_LOG"] = str(tmp_path / "audit.jsonl")
    return home


def noted(home: Home) -> dict[tuple[str, ...], int]:
    """How often each event is in the audit log."""
    lines = Path(home.environment["NIGHTPORTER_LOG"]).read_text().splitlines()
    return dict(Counter((json.loads(line)["event"],) for line in lines))


def eventually(found: Callable[[], Any], wanted: Callable[[], Any]) -> None:
    """Waits for what a child sends that has left its command."""
    until(lambda: found() == wanted())


def test_the_collector_sees_what_the_audit_log_has(
    watched: Home, vendor: Vendor, collector: Collector
) -> None:
    """Commands side by side, the scheduled job, and a failure."""
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: watched.run("token", "--force-refresh"), range(8)))
    assert [each.code for each in done] == [0] * 8
    assert watched.run("rotate").code == 0
    vendor.world.users["svc-acme"] = "another"
    vendor.world.revoke_all()
    assert watched.run("token", "--force-refresh").code == 3
    eventually(lambda: collector.totals("nightporter.events", "event"), lambda: noted(watched))
    assert collector.totals("nightporter.events", "event")[("served",)] == 8
    (instance,) = collector.seen
    points = {name: value for (name, _), value in collector.seen[instance].items()}
    assert points["nightporter.sign_in_refused"] == 1
    assert points["nightporter.refresh_token_expiry_timestamp"] > time.time()
    path, headers, message = collector.requests[-1]
    assert (path, headers["api-key"], headers["x"]) == ("/v1/metrics", SECRET, "a b")
    assert headers["content-type"] == "application/x-protobuf"
    (found,) = message.resource_metrics
    (scope,) = found.scope_metrics
    events = next(item for item in scope.metrics if item.name == "nightporter.events")
    assert (events.unit, events.sum.is_monotonic) == ("{event}", True)
    assert events.sum.aggregation_temporality == otlp.CUMULATIVE
    resource = collector.resources[instance]
    assert resource["service.name"] == "nightporter"
    sent = str([message for _, _, message in collector.requests])
    record = watched.record()
    assert not any(value and value in sent for value in (record["refresh_token"], done[0].out))
    assert SECRET not in sent


def test_a_lost_request_loses_no_count(watched: Home, vendor: Vendor, collector: Collector) -> None:
    collector.mood = "fails"
    assert watched.run("token").code == 0
    eventually(lambda: len(collector.requests), lambda: 1)
    collector.mood = "well"
    assert watched.run("token", "--force-refresh").code == 0
    eventually(lambda: collector.totals("nightporter.events", "event"), lambda: noted(watched))


LIBRARY = """
import nightporter, sys
from nightporter.client.porter import Porter
porter = Porter()
for _ in range(3):
    porter.get_token(force_refresh=True)
"""


def in_library(home: Home, source: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@pytest.mark.parametrize("cache", ["file", "off"])
def test_a_library_sends_at_its_end_what_it_counted(
    watched: Home, collector: Collector, cache: str
) -> None:
    """With a file of the host, and by itself where there is no place for one."""
    watched.environment["NIGHTPORTER_CACHE"] = cache
    code, said, _ = in_library(watched, LIBRARY)
    assert (code, said) == (0, "")
    assert collector.totals("nightporter.events", "event") == noted(watched)


FORKS = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside a thread, since 3.12
import os, sys
from nightporter.client.porter import Porter
porter = Porter()
porter.get_token(force_refresh=True)
for _ in range(2):
    if os.fork() == 0:
        porter.get_token(force_refresh=True)
        porter.close()
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("cache", ["file", "off"])
def test_forked_workers_count_once(watched: Home, collector: Collector, cache: str) -> None:
    watched.environment["NIGHTPORTER_CACHE"] = cache
    code, said, _ = in_library(watched, FORKS)
    assert (code, said) == (0, "")
    assert collector.totals("nightporter.events", "event") == noted(watched)
    assert len(collector.seen) == (1 if cache == "file" else 3)


LAMBDA = """
import json, time
from nightporter import aws_lambda, get_token
class Context:
    ends = time.time() + 60
    def get_remaining_time_in_millis(self):
        return int((self.ends - time.time()) * 1000)
aws_lambda.rotate_handler({}, Context())
get_token("pitchpoint", force_refresh=True)
import os
os._exit(0)  # frozen: nothing runs after an invocation
"""


def test_an_invocation_of_lambda_sends_before_it_ends(watched: Home, collector: Collector) -> None:
    """The handler's events and the library's, each environment for itself."""
    watched.environment |= {"AWS_LAMBDA_FUNCTION_NAME": "np", "AWS_LAMBDA_LOG_STREAM_NAME": "s1"}
    code, said, _ = in_library(watched, LAMBDA)
    assert code == 0, said
    assert collector.totals("nightporter.events", "event") == noted(watched)
    assert {resource["faas.name"] for resource in collector.resources.values()} == {"np"}


@pytest.mark.parametrize("mood", ["slow", "drips"])
def test_an_invocation_waits_a_second_at_most_and_then_not_again(home: Home, mood: str) -> None:
    home.environment |= {"AWS_LAMBDA_FUNCTION_NAME": "np"}
    source = LAMBDA.replace(
        "import os\n", "for _ in range(20): get_token(force_refresh=True)\nimport os\n"
    )
    with open_collector(mood) as server:
        home.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.address
        code, said, _ = in_library(home, source)
        assert code == 0, said
        assert len(server.requests) <= 2  # the handler's porter, and the library's


def test_json_needs_no_package(watched: Home, collector: Collector) -> None:
    watched.environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/json"
    watched.environment["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
    assert watched.run("token").code == 0
    eventually(lambda: collector.totals("nightporter.events", "event"), lambda: noted(watched))
    _, headers, _ = collector.requests[-1]
    assert (headers["content-type"], headers["content-encoding"]) == ("application/json", "gzip")


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_METRICS_EXPORTER": "prometheus"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "no-value"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=b%0d%0aHost: evil"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "unix:///run/collector.sock"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://[::1"},
    ],
)
def test_what_the_variables_forbid_is_not_sent(
    watched: Home, collector: Collector, variables: dict[str, str]
) -> None:
    done = watched.run("token", **variables)
    assert (done.code, done.err) == (0, "")
    time.sleep(0.3)
    assert collector.requests == []


def test_names_for_a_service_and_its_own_address(watched: Home, collector: Collector) -> None:
    done = watched.run(
        "token",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{collector.address}/mine",
        OTEL_EXPORTER_OTLP_METRICS_HEADERS="other=1",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=a%2Cb,service.name=x",
        OTEL_SERVICE_NAME="orders",
    )
    assert done.code == 0
    eventually(lambda: len(collector.requests), lambda: 1)
    path, headers, _ = collector.requests[0]
    assert (path, headers["other"], "api-key" in headers) == ("/mine", "1", False)
    (resource,) = collector.resources.values()
    assert resource["service.name"] == "orders"
    assert resource["deployment.environment.name"] == "a,b"


MOODS = ["fails", "slow", "drips", "floods", "garbage", "leads away"]


@pytest.mark.parametrize("mood", [*MOODS, "silent", "dead"])
def test_no_collector_holds_a_command_up(
    home: Home, vendor: Vendor, tmp_path: Path, mood: str
) -> None:
    """The command ends as if there were none, whoever waits for its streams included; and what it
    leaves behind ends in time."""
    home.environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "6000"
    with open_collector(mood if mood in MOODS else "well") as server, open_silence() as silence:
        address = {"silent": silence, "dead": "http://127.0.0.1:9"}.get(mood, server.address)
        home.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
        assert home.run("token").code == 0
        with within(5.5):
            done = home.run("token", "--force-refresh")
        assert (done.code, done.err) == (0, "")
        assert vendor.world.is_live(done.out.strip())
        until(lambda: not home.processes())
        assert not any(path == "/elsewhere" for path, _, _ in server.requests)


@pytest.mark.parametrize("mood", ["slow", "drips", "silent"])
def test_no_collector_holds_a_program_up(home: Home, mood: str) -> None:
    """At its end a program waits two seconds at most, whatever the time limit of a request is."""
    home.environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60000"
    with open_collector(mood if mood in MOODS else "well") as server, open_silence() as silence:
        home.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = (
            silence if mood == "silent" else server.address
        )
        code, said, took_s = in_library(home, LIBRARY)
    assert (code, said) == (0, "")
    assert took_s < patience(25)


def test_a_place_that_belongs_to_somebody_else_costs_only_the_counts(
    watched: Home, collector: Collector
) -> None:
    watched.cache.mkdir(parents=True, mode=0o700, exist_ok=True)
    (watched.cache / "metrics.prom").symlink_to(watched.path / "elsewhere")
    done = watched.run("token")
    assert (done.code, done.err) == (0, "")
    assert not (watched.path / "elsewhere").exists()


def test_headers_are_in_no_log(watched: Home, collector: Collector, tmp_path: Path) -> None:
    """Nor in the audit log, the file of counts, or what a library logs at its lowest level."""
    code, said, _ = in_library(watched, "import logging; logging.basicConfig(level=1)\n" + LIBRARY)
    assert code == 0
    done = watched.run("-v", "token", "--force-refresh")
    shown = watched.run("doctor").out + watched.run("config", "show").out
    files = "".join(
        file.read_text(errors="replace")
        for place in (watched.path, tmp_path)
        for file in place.rglob("*")
        if file.is_file() and not file.name.endswith(".toml")
    )
    assert SECRET not in said + done.err + shown + files
    assert collector.requests


def test_without_the_variables_nothing_of_it_is_loaded(home: Home) -> None:
    source = LIBRARY + (
        "assert not [n for n in sys.modules if 'otlp' in n or 'exporter' in n or 'opentel' in n]"
    )
    code, said, _ = in_library(home, source)
    assert (code, said) == (0, "")


# Names.


@pytest.mark.parametrize("name", metrics.METRICS)
def test_prometheus_makes_of_each_name_the_one_of_the_file(name: str) -> None:
    """By the rules of "OTLP metric points to Prometheus": so one set of alerts serves both."""
    title, unit = otlp.otel_name(name)
    made = title.replace(".", "_") + ("_seconds" if unit == "s" else "")
    made += "_total" if metrics.METRICS[name].kind == "counter" else ""
    assert made == name
    assert unit in ("", "s") or (unit.startswith("{") and unit.endswith("}"))


def test_settings_hide_their_headers() -> None:
    settings = otlp.read_settings(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c", "OTEL_EXPORTER_OTLP_HEADERS": f"k={SECRET}"}
    )
    assert settings is not None
    assert SECRET not in repr(settings)
    assert settings.url == "https://c/v1/metrics"
