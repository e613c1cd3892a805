"""Sends metrics to a collector by OpenTelemetry's protocol over HTTP (OTLP).

By the rules of our other requests: no redirect, no netrc, TLS verified, an answer of at most
1 MiB, and a bound for everything together. Whatever the collector does, the outcome is a yes or a
no, and nothing of its answer is shown: no library's exception leaves this room.
"""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from nightporter.core.otlp import Settings
from nightporter.core.values import dataclass
from nightporter.issuers.oauth import Request
from nightporter.net.http import CheckFile, Transport

_TYPES = {"json": "application/json", "protobuf": "application/x-protobuf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How the collector is reached. No proxy of its own: the environment's."""

    ca_cert: str | None
    proxy: None = None


def has_protobuf() -> bool:
    """Returns whether the extra `otlp` is installed."""
    try:
        return find_spec("opentelemetry.proto.collector.metrics.v1") is not None
    except (ImportError, ValueError):
        return False


def encoding_of(settings: Settings) -> str | None:
    """Returns json or protobuf: what is asked for, else protobuf (the specification's default)
    where its package is there. None where it is asked for and isn't there."""
    if settings.encoding == "protobuf" and not has_protobuf():
        return None
    return settings.encoding or ("protobuf" if has_protobuf() else "json")


def prepare(settings: Settings) -> None:
    """Imports what `send` will need."""
    if encoding_of(settings) == "protobuf":
        _encoded({}, "protobuf")


def send(
    settings: Settings,
    document: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    check_file: CheckFile,
) -> bool:
    """Returns whether the collector took the request. Within `timeout_s` in all."""
    encoding = encoding_of(settings)
    if encoding is None or settings.problem is not None:
        return False
    headers = {**settings.headers, "Content-Type": _TYPES[encoding]}
    transport = Transport(_Way(ca_cert=settings.ca_cert), environment, check_file=check_file)
    try:
        body = _encoded(document, encoding)
        if settings.is_packed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        asked = Request(url=settings.url, headers=headers, body=body)
        return transport.send(asked, timeout_s=timeout_s).is_success
    except Exception:
        return False
    finally:
        transport.close()


def _encoded(document: Mapping[str, Any], encoding: str) -> bytes:
    if encoding == "json":
        return json.dumps(document).encode()
    # Deferred, and by name: 40 ms that only who sends protobuf pays. Their classes are made at run
    # time, so there is nothing that types could be checked against.
    service = importlib.import_module(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
    )
    json_format = importlib.import_module("google.protobuf.json_format")
    message = json_format.ParseDict(document, service.ExportMetricsServiceRequest())
    found: bytes = message.SerializeToString()
    return found
