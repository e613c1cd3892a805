"""A collector of OpenTelemetry's metrics on loopback, which reads what it gets with the
specification's own protobuf classes; and ones that are slow, dead or hostile."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Point = tuple[str, tuple[tuple[str, str], ...]]  # the metric's name, the attributes


class Collector(ThreadingHTTPServer):
    """`mood`: what it does with a request. `seen`: the last value of each point, by instance."""

    daemon_threads = True

    def __init__(self, mood: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mood = mood
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.seen: dict[str, dict[Point, float]] = {}
        self.resources: dict[str, dict[str, str]] = {}
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def totals(self, name: str, *labels: str) -> dict[tuple[str, ...], int]:
        """The sums over all instances of a metric, by the named attributes."""
        found: dict[tuple[str, ...], int] = {}
        with self.lock:
            for points in self.seen.values():
                for (of, attributes), value in points.items():
                    if of == name:
                        key = tuple(dict(attributes)[label] for label in labels)
                        found[key] = found.get(key, 0) + int(value)
        return found

    def keep(self, message: Any) -> None:
        """Takes a request in: cumulative values replace those of the same instance."""
        for of_resource in message.resource_metrics:
            resource = _pairs(of_resource.resource.attributes)
            instance = resource["service.instance.id"]
            self.resources[instance] = resource
            points = self.seen.setdefault(instance, {})
            for scope in of_resource.scope_metrics:
                for metric in scope.metrics:
                    kind = getattr(metric, metric.WhichOneof("data"))
                    for point in kind.data_points:
                        assert point.start_time_unix_nano <= point.time_unix_nano
                        attributes = tuple(sorted(_pairs(point.attributes).items()))
                        points[metric.name, attributes] = point.as_double


def _pairs(attributes: Any) -> dict[str, str]:
    return {item.key: item.value.string_value for item in attributes}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = self._parsed(body)
        with self.server.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.requests.append((self.path, headers, message))
            if self.server.mood == "well":
                self.server.keep(message)
        self._answer()

    def _parsed(self, body: bytes) -> Any:
        service: Any = importlib.import_module(
            "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
        )
        message = service.ExportMetricsServiceRequest()
        if self.headers["Content-Type"] == "application/json":
            json_format: Any = importlib.import_module("google.protobuf.json_format")
            return json_format.Parse(body, message)
        message.ParseFromString(body)
        return message

    def _answer(self) -> None:
        mood = self.server.mood
        if mood == "slow":
            time.sleep(60)
        if mood == "drips":
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for number in range(600):
                    self.wfile.write(f"X-{number}: y\r\n".encode())
                    time.sleep(0.1)
            return
        if mood == "floods":
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                for _ in range(10_000):
                    self.wfile.write(b"x" * 10_000)
            return
        if mood == "garbage":
            self.wfile.write(b"\x00\xff not http\r\n\r\n")
            return
        self.send_response({"well": 200, "fails": 500, "leads away": 307}[mood])
        if mood == "leads away":
            self.send_header("Location", f"{self.server.address}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def open_collector(mood: str = "well") -> Iterator[Collector]:
    """A collector that answers until the block ends."""
    server = Collector(mood)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def open_silence() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
