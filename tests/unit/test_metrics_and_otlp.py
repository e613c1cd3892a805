"""What each event counts, the text that Prometheus reads, and the request of OpenTelemetry's
protocol, all of one series."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core import metrics, otlp
from nightporter.core.events import Event
from nightporter.core.metrics import METRICS, Series, count, parse, render

NOW = 1_784_037_600.75
END = "2026-07-16T04:00:00Z"  # 1_784_174_400
P = (("profile", "p"),)


def counted(*events: tuple[Event, dict[str, Any]]) -> dict[str, float]:
    """The series without `events_total`, as `name{label values}`."""
    series: Series = {}
    for event, facts in events:
        count(series, event, {"profile": "p", **facts}, now=NOW)
    return {
        f"{name.removeprefix('nightporter_')} {' '.join(value for _, value in labels)}": value
        for (name, labels), value in series.items()
        if name != "nightporter_events_total"
    }


def test_every_event_is_counted_by_name_and_profile() -> None:
    """One that comes again counts up; one without a profile has an empty one."""
    series: Series = {}
    for event in Event:
        for _ in range(3):
            count(series, event, {}, now=NOW)
    found = {labels: n for (name, labels), n in series.items() if name.endswith("events_total")}
    assert found == {(("event", event.value), ("profile", "")): 3.0 for event in Event}


WELL = {"session_dead p": 0.0, "session_used_elsewhere p": 0.0, "sign_in_refused p": 0.0}
ENDS = {"refresh_token_expiry_timestamp_seconds p": 1_784_174_400.0}
EXCHANGED = {"last_exchange_timestamp_seconds p": 1_784_037_600.0}
ROTATED = {
    "last_rotation_timestamp_seconds p": 1_784_037_600.0,
    "rotation_duration_seconds p": 1.5,
}
CASES: list[tuple[Event, dict[str, Any], dict[str, float]]] = [
    (Event.DEAD, {}, {"session_dead p": 1.0}),
    (Event.USED_ELSEWHERE, {}, {"session_used_elsewhere p": 1.0}),
    (Event.REFUSED, {}, {"sign_in_refused p": 1.0}),
    (Event.REFUSED, {"error": "access_denied"}, {"sign_in_refused p": 1.0}),
    (Event.CREDENTIALS_SET, {}, {"sign_in_refused p": 0.0}),
    (Event.SPILLED, {}, {"spill_waiting p": 1.0}),
    (Event.SPILL_CONSUMED, {}, {"spill_waiting p": 0.0}),
    (Event.SPILL_OUTLIVED, {}, {"spill_waiting p": 0.0}),
    (Event.CLOCK_SKEW, {"issuer_is_ahead_s": -7}, {"clock_skew_seconds p": -7.0}),
    (Event.CLOCK_SKEW, {}, {"clock_skew_seconds p": 0.0}),
    (
        Event.ANSWERED,
        {"call": "refresh", "status": 200},
        {"clock_skew_seconds p": 0.0, "exchanges_total refresh p 200": 1.0},
    ),
    (Event.SAVED, {"refresh_expires_at": END}, {**WELL, **EXCHANGED, **ENDS}),
    (Event.SAVED, {"refresh_expires_at": None}, {**WELL, **EXCHANGED}),
    (Event.SEEDED, {"refresh_expires_at": END}, {**WELL, **ENDS}),
    (Event.LOGGED_IN, {"refresh_expires_at": END}, {**WELL, **ENDS}),
    (Event.LOGGED_OUT, {"where": "everywhere"}, {}),
    (Event.FAILED, {"error": "session-refused"}, {"errors_total p session-refused": 1.0}),
    (Event.FAILED, {}, {}),
    (
        Event.ROTATED,
        {"duration_s": 1.5, "refresh_expires_at": END},
        {
            **ROTATED,
            **ENDS,
            "last_successful_rotation_timestamp_seconds p": 1_784_037_600.0,
        },
    ),
    (
        Event.ROTATED,
        {"duration_s": 1.5, "error": "store-away", "refresh_expires_at": END},
        {**ROTATED, "errors_total p store-away": 1.0},
    ),
    (Event.SERVED, {"error": "x"}, {}),
]


@pytest.mark.parametrize(("event", "facts", "series"), CASES)
def test_what_an_event_sets(event: Event, facts: dict[str, Any], series: dict[str, float]) -> None:
    """And nothing else: an alert rests on each of them."""
    assert counted((event, facts)) == series


def test_a_session_again_ends_its_alarms_alone() -> None:
    """A result that waits is another matter."""
    found = counted(
        (Event.DEAD, {}),
        (Event.REFUSED, {}),
        (Event.SPILLED, {}),
        (Event.LOGGED_IN, {}),
    )
    assert found == {**WELL, "spill_waiting p": 1.0}


def test_an_end_that_is_no_longer_stated_is_no_series() -> None:
    """An old one would raise the alarm of a session that ends."""
    stated = (Event.SAVED, {"refresh_expires_at": END})
    key = "refresh_token_expiry_timestamp_seconds p"
    assert counted(stated)[key] == 1_784_174_400
    assert key not in counted(stated, (Event.SAVED, {}))
    assert key not in counted(stated, (Event.LOGGED_OUT, {"where": "everywhere"}))
    assert counted(stated, (Event.LOGGED_OUT, {"where": "here"}))[key] == 1_784_174_400


def test_a_file_has_5000_series_at_most() -> None:
    """What is there goes on being counted; what is new is not."""
    series: Series = {}
    for number in range(5_000):
        count(series, Event.SERVED, {"profile": f"p{number}"}, now=NOW)
    count(series, Event.SERVED, {"profile": "one more"}, now=NOW)
    assert len(series) == 5_000
    count(series, Event.SERVED, {"profile": "p0"}, now=NOW)
    assert series["nightporter_events_total", (("event", "served"), ("profile", "p0"))] == 2


# The text.


def test_the_text_is_prometheus() -> None:
    """Help and type once a metric, in the order of the list, labels escaped."""
    series: Series = {
        ("nightporter_spill_waiting", P): 1.0,
        ("nightporter_events_total", (("event", "served"), ("profile", 'a"b\\c\nd'))): 2.0,
    }
    assert render(series) == (
        "# HELP nightporter_events_total Events of the audit log, by name.\n"
        "# TYPE nightporter_events_total counter\n"
        'nightporter_events_total{event="served",profile="a\\"b\\\\c\\nd"} 2.0\n'
        "# HELP nightporter_spill_waiting 1 while a result that the store did not accept waits on"
        " this host.\n"
        "# TYPE nightporter_spill_waiting gauge\n"
        'nightporter_spill_waiting{profile="p"} 1.0\n'
    )
    assert render({}) == ""


NAMES = st.sampled_from(sorted(METRICS))
VALUES = st.text(
    alphabet=st.characters(exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
LABELS = st.lists(st.tuples(st.sampled_from(["call", "event", "profile"]), VALUES), max_size=3)
SERIES = st.dictionaries(
    st.tuples(NAMES, LABELS.map(tuple)), st.floats(allow_nan=False), max_size=4
)


@given(SERIES)
def test_any_series_reads_back(series: Series) -> None:
    """The next process counts on from the text."""
    assert parse(render(series)) == series


@pytest.mark.parametrize(
    "line",
    [
        'nightporter_other{profile="p"} 1.0',
        'other_events_total{profile="p"} 1.0',
        'nightporter_events_total{profile="p"} one',
        'nightporter_events_total{profile="p} 1.0',
        'nightporter_events_total{profile="p"}1.0',
        "nightporter_events_total 1.0",
        "# HELP nightporter_events_total x",
        "",
    ],
)
def test_a_line_that_is_not_ours_is_left_out(line: str) -> None:
    """Another program's, a later version's, or half of one."""
    ours = 'nightporter_spill_waiting{profile="p"} 1.0'
    assert parse(f"{line}\n{ours}\n") == {("nightporter_spill_waiting", P): 1.0}


def test_every_metric_says_what_it_is() -> None:
    """A counter ends in _total, and nothing else does: Prometheus' own rule."""
    for name, metric in METRICS.items():
        assert metric.kind == ("counter" if name.endswith("_total") else "gauge")
        assert metric.help
    assert metrics.MAX_SERIES == 5_000


# OpenTelemetry's variables.

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OF_METRICS = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
ON = {ENDPOINT: "http://c.example:4318"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        (ON, True),
        ({OF_METRICS: "http://c.example"}, True),
        ({ENDPOINT: ""}, False),
        ({**ON, "OTEL_SDK_DISABLED": " TRUE "}, False),
        ({**ON, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ON, "OTEL_METRICS_EXPORTER": "none"}, False),
        ({**ON, "OTEL_METRICS_EXPORTER": "prometheus, otlp"}, True),
        ({**ON, "OTEL_METRICS_EXPORTER": ""}, True),
    ],
)
def test_when_metrics_are_wanted(environment: dict[str, str], wanted: bool) -> None:
    """An endpoint is the switch; the SDK's own switches turn it off."""
    assert otlp.is_wanted(environment) is wanted
    assert (otlp.read_settings(environment) is not None) is wanted


def settings(**more: str) -> otlp.Settings:
    found = otlp.read_settings({**ON, **{f"OTEL_{name}": value for name, value in more.items()}})
    assert found is not None
    return found


def test_what_the_variables_leave_out_is_the_specification_s() -> None:
    """10 s for a request, a minute between two, no header, any encoding."""
    assert settings() == otlp.Settings(url="http://c.example:4318/v1/metrics")
    assert settings() == otlp.Settings(
        url="http://c.example:4318/v1/metrics",
        headers={},
        timeout_s=10.0,
        interval_s=60.0,
        encoding=None,
        is_packed=False,
        ca_cert=None,
        resource={},
        problem=None,
    )


def test_what_the_variables_say() -> None:
    """Percent-encoded pairs, milliseconds; a variable for metrics goes before the common one."""
    found = settings(
        EXPORTER_OTLP_METRICS_ENDPOINT="https://m.example/x/",
        EXPORTER_OTLP_HEADERS="a=1",
        EXPORTER_OTLP_METRICS_HEADERS=" api-key = a%20b , x=y ",
        EXPORTER_OTLP_TIMEOUT="2500",
        METRIC_EXPORT_INTERVAL="500",
        EXPORTER_OTLP_PROTOCOL="http/json",
        EXPORTER_OTLP_COMPRESSION="gzip",
        EXPORTER_OTLP_CERTIFICATE="/ca.pem",
        RESOURCE_ATTRIBUTES="service.name=a,team=b%2Cc",
        SERVICE_NAME="porter",
    )
    assert found == otlp.Settings(
        url="https://m.example/x/",
        headers={"api-key": "a b", "x": "y"},
        timeout_s=2.5,
        interval_s=0.5,
        encoding="json",
        is_packed=True,
        ca_cert="/ca.pem",
        resource={"service.name": "porter", "team": "b,c"},
    )
    assert settings(EXPORTER_OTLP_PROTOCOL="http/protobuf").encoding == "protobuf"
    assert settings(EXPORTER_OTLP_COMPRESSION="none").is_packed is False
    assert settings(EXPORTER_OTLP_METRICS_TIMEOUT="1000", EXPORTER_OTLP_TIMEOUT="9").timeout_s == 1
    assert "a b" not in repr(found)  # a header may be a key


def test_a_slash_at_the_end_is_not_doubled() -> None:
    """The path for metrics is put behind the common endpoint alone."""
    found = otlp.read_settings({ENDPOINT: "http://c.example/base//"})
    assert found is not None
    assert found.url == "http://c.example/base/v1/metrics"


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "nan", "86400000", "inf"])
def test_a_time_that_is_none_counts_as_unset(value: str) -> None:
    """As the specification advises."""
    assert settings(EXPORTER_OTLP_TIMEOUT=value).timeout_s == 10.0
    assert settings(METRIC_EXPORT_INTERVAL=value).interval_s == 60.0
    assert settings(EXPORTER_OTLP_TIMEOUT="86399999").timeout_s == 86_399.999


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"EXPORTER_OTLP_ENDPOINT": "ftp://c.example"}, "no http or https address"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://"}, "no http or https address"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c.example:x"}, "no http or https address"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c.example/a b"}, "no http or https address"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c.example/\x07"}, "no http or https address"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://[c.example"}, "no http or https address"),
        ({"EXPORTER_OTLP_PROTOCOL": "grpc"}, "not 'grpc'"),
        ({"EXPORTER_OTLP_HEADERS": "a=%0A"}, "no header may hold"),
        ({"EXPORTER_OTLP_HEADERS": "a=%C3%A9"}, "no header may hold"),
        ({"EXPORTER_OTLP_HEADERS": "%C3%A9=a"}, "no header may hold"),
        ({"EXPORTER_OTLP_HEADERS": "a"}, "can't be read"),
        ({"EXPORTER_OTLP_HEADERS": "=a"}, "can't be read"),
        ({"RESOURCE_ATTRIBUTES": "a"}, "can't be read"),
        ({"EXPORTER_OTLP_CLIENT_CERTIFICATE": "/c.pem"}, "not supported"),
    ],
)
def test_what_can_not_be_served_is_said(variables: dict[str, str], words: str) -> None:
    """And nothing is sent: half of a setting would send to the wrong place."""
    problem = settings(**variables).problem
    assert problem is not None
    assert words in problem


def test_a_secret_is_in_no_problem() -> None:
    """A protocol may be a paste of anything; so much of it is shown."""
    assert settings(EXPORTER_OTLP_PROTOCOL="x" * 50).problem == (
        f"only http/protobuf and http/json are spoken here, not {'x' * 20!r}"
    )


# OpenTelemetry's request.


@pytest.mark.parametrize(
    ("name", "title", "unit"),
    [
        ("nightporter_events_total", "nightporter.events", "{event}"),
        ("nightporter_exchanges_total", "nightporter.exchanges", "{exchange}"),
        ("nightporter_clock_skew_seconds", "nightporter.clock_skew", "s"),
        ("nightporter_session_dead", "nightporter.session_dead", ""),
    ],
)
def test_names_lead_back_to_prometheus(name: str, title: str, unit: str) -> None:
    """So that one set of alert rules serves both ways."""
    assert otlp.otel_name(name) == (title, unit)


def test_the_request_is_the_specification_s() -> None:
    """Times are 64 bits, which JSON has as text; a counter is cumulative and monotonic."""
    series: Series = {
        ("nightporter_events_total", (("event", "served"), *P)): 2.0,
        ("nightporter_spill_waiting", P): 1.0,
    }
    found = otlp.request(series, {"service.name": "porter"}, version="1.0", since=1.5, now=2.0009)
    (resource,) = found["resourceMetrics"]
    (scope,) = resource["scopeMetrics"]
    name = {"key": "service.name", "value": {"stringValue": "porter"}}
    assert resource["resource"] == {"attributes": [name]}
    assert scope["scope"] == {"name": "nightporter", "version": "1.0"}
    profile = {"key": "profile", "value": {"stringValue": "p"}}
    event = {"key": "event", "value": {"stringValue": "served"}}
    times = {"startTimeUnixNano": "1500000000", "timeUnixNano": "2000000000"}
    assert scope["metrics"] == [
        {
            "name": "nightporter.events",
            "description": "Events of the audit log, by name.",
            "unit": "{event}",
            "sum": {
                "dataPoints": [{"attributes": [event, profile], **times, "asDouble": 2.0}],
                "aggregationTemporality": 2,
                "isMonotonic": True,
            },
        },
        {
            "name": "nightporter.spill_waiting",
            "description": METRICS["nightporter_spill_waiting"].help,
            "unit": "",
            "gauge": {"dataPoints": [{"attributes": [profile], **times, "asDouble": 1.0}]},
        },
    ]
