"""OpenTelemetry's protocol (OTLP): where its standard variables send metrics, and the request in
its JSON form. Pure.

Sources: "OpenTelemetry Protocol Exporter" and "SDK environment variables" of OpenTelemetry's
specification; opentelemetry-proto, collector/metrics/v1. Names follow its conventions for metrics;
by its rules for Prometheus they become the names of `core.metrics`, so one set of alert rules
serves both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from nightporter.core.metrics import METRICS, Labels, Series
from nightporter.core.values import dataclass, field

TIMEOUT_S = 10.0  # the specification's default
INTERVAL_S = 60.0
CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
SWITCHES = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`headers`: may hold a secret, and are shown nowhere. `encoding`: json, protobuf, or None
    where the variables leave it open. `resource`: attributes that the variables name. `problem`:
    why nothing is sent, for people; None where all is well."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = TIMEOUT_S
    interval_s: float = INTERVAL_S
    encoding: str | None = None
    is_packed: bool = False
    ca_cert: str | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Returns whether the variables send metrics anywhere."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_METRICS_EXPORTER") or "otlp"
    if "otlp" not in [name.strip() for name in exporters.split(",")]:
        return False
    return any(environment.get(name) for name in SWITCHES)


def read_settings(environment: Mapping[str, str]) -> Settings | None:
    """Returns what the variables say; None where no metrics are wanted. An empty variable counts as
    unset, as the specification has it."""
    if not is_wanted(environment):
        return None
    url = environment.get(SWITCHES[0]) or f"{environment[SWITCHES[1]].rstrip('/')}/v1/metrics"
    try:
        headers = _pairs(_named(environment, "HEADERS"))
        resource = _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    except ValueError:
        return Settings(
            url=url, problem="OTEL_EXPORTER_OTLP_HEADERS or OTEL_RESOURCE_ATTRIBUTES can't be read"
        )
    if name := environment.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    protocol = _named(environment, "PROTOCOL")
    return Settings(
        url=url,
        headers=headers,
        timeout_s=_milliseconds(_named(environment, "TIMEOUT"), TIMEOUT_S),
        interval_s=_milliseconds(environment.get("OTEL_METRIC_EXPORT_INTERVAL", ""), INTERVAL_S),
        encoding=_ENCODINGS.get(protocol),
        is_packed=_named(environment, "COMPRESSION") == "gzip",
        ca_cert=_named(environment, "CERTIFICATE") or None,
        resource=resource,
        problem=_problem(url, headers, protocol, environment),
    )


_ENCODINGS = {"http/json": "json", "http/protobuf": "protobuf"}


def _named(environment: Mapping[str, str], name: str) -> str:
    """A variable for metrics goes before the one for all signals."""
    for prefix in ("OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"):
        if value := environment.get(prefix + name, "").strip():
            return value
    return ""


def _problem(
    url: str, headers: Mapping[str, str], protocol: str, environment: Mapping[str, str]
) -> str | None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        return "the endpoint is no http or https address"
    if protocol and protocol not in _ENCODINGS:
        return f"only http/protobuf and http/json are spoken here, not {protocol[:20]!r}"
    if not all(
        name.isascii() and value.isascii() and (name + value).isprintable()
        for name, value in headers.items()
    ):
        return "a header holds characters that no header may hold"
    if _named(environment, "CLIENT_CERTIFICATE"):
        return "client certificates are not supported here"
    return None


def _pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, both percent-encoded (W3C Baggage).

    Raises: ValueError.
    """
    found = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise ValueError
        found[unquote(name.strip())] = unquote(value.strip())
    return found


def _milliseconds(text: str, default_s: float) -> float:
    """Seconds. What is no number above 0 counts as unset, as the specification advises."""
    try:
        found = float(text) / 1000
    except ValueError:
        return default_s
    return found if 0 < found < 86_400 else default_s


# The request.


def otel_name(name: str) -> tuple[str, str]:
    """Returns OpenTelemetry's name and unit of a metric. Its rules for Prometheus lead back: dots
    become underscores, `s` becomes `_seconds`, a counter ends in `_total`, and what is in braces is
    dropped."""
    rest = name.removeprefix("nightporter_")
    if METRICS[name].kind == "counter":
        what = rest.removesuffix("_total")
        return f"nightporter.{what}", f"{{{what.removesuffix('s')}}}"
    unit = "s" if rest.endswith("_seconds") else ""
    return f"nightporter.{rest.removesuffix('_seconds')}", unit


def request(
    series: Series, resource: Mapping[str, str], *, version: str, since: float, now: float
) -> dict[str, Any]:
    """Returns an ExportMetricsServiceRequest in its JSON form. `since`: from when on is counted;
    `now`: both in Unix seconds."""
    metrics = [
        found for name in METRICS if (found := _metric(name, series, _nano(since), _nano(now)))
    ]
    scope = {"scope": {"name": "nightporter", "version": version}, "metrics": metrics}
    attributes = {"attributes": _attributes(tuple(resource.items()))}
    return {"resourceMetrics": [{"resource": attributes, "scopeMetrics": [scope]}]}


def _metric(name: str, series: Series, since: str, now: str) -> dict[str, Any] | None:
    points = [
        {
            "attributes": _attributes(labels),
            "startTimeUnixNano": since,
            "timeUnixNano": now,
            "asDouble": value,
        }
        for (of, labels), value in sorted(series.items())
        if of == name
    ]
    if not points:
        return None
    title, unit = otel_name(name)
    head = {"name": title, "description": METRICS[name].help, "unit": unit}
    if METRICS[name].kind == "gauge":
        return {**head, "gauge": {"dataPoints": points}}
    how = {"aggregationTemporality": CUMULATIVE, "isMonotonic": True}
    return {**head, "sum": {"dataPoints": points, **how}}


def _attributes(pairs: Labels) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in pairs]


def _nano(seconds: float) -> str:
    """Whole milliseconds, as text: JSON's form of 64 bits."""
    return str(int(seconds * 1000) * 1_000_000)
