"""What doctor says of who watches: where metrics go, and who is told of an incident."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from nightporter.core import otlp
from nightporter.core.model import Config
from nightporter.machine.installation import library_hint
from nightporter.net.otlp import encoding_of
from nightporter.operations.findings import Finding, ok, warning


def watching_findings(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields how metrics are sent, or why they are not, and who is told. Nothing is sent here."""
    settings = otlp.read_settings(environment)
    if settings is not None:
        yield _metrics(settings)
    if config.notify is not None:
        ways = {"a command": config.notify.command, "a webhook": config.notify.webhook}
        yield ok(f"incidents are told by {' and '.join(way for way in ways if ways[way])}")


def _metrics(settings: otlp.Settings) -> Finding:
    encoding = encoding_of(settings)
    if settings.problem is not None:
        return warning("metrics-not-sent", f"no metrics are sent: {settings.problem}")
    if encoding is None:
        return warning(
            "metrics-not-sent",
            "no metrics are sent: http/protobuf needs the package opentelemetry-proto, which is not"
            " installed",
            todo=(
                f"{library_hint('opentelemetry-proto')} Or set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
                " to http/json, which needs nothing."
            ),
        )
    parts = urlsplit(settings.url)  # its query and its user may hold a secret
    return ok(f"metrics go to {parts.scheme}://{parts.hostname}{parts.path} as {encoding}")
