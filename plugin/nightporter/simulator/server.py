"""The simulated vendors over HTTP on loopback.

Pitchpoint's two paths; `GET /_sandbox/state` (counts), `POST /_sandbox/world` (see `World.change`), and
`GET /_sandbox/resource`, which takes any live access token and answers 401 else.

Faults: {"kind": K, "call": "sign-in" | "refresh", "times": N} with K one of
`status` (with "status", "body", "headers"), `html`, `huge` (10 MB), `truncated`, `redirect`, `close`
(no answer at all), `lost` (done, but no answer), `hang` ("seconds", then done), `drip` (a header byte a second).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nightporter.issuers.pitchpoint import REFRESH_PATH, SIGN_IN_PATH
from nightporter.simulator.world import World

MAX_BODY_BYTES = 1 << 20


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # a storm of a thousand consumers must not be refused by the backlog
    world: World


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        world = self.server.world
        if self.path == "/_sandbox/state":
            self.reply(200, world.state())
        elif self.path == "/_sandbox/resource":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            live = world.is_live(token)
            world.counts["resource"] += 1
            self.reply(200 if live else 401, {"ok": live})
        else:
            self.reply(404, {"error": "not_found"})

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES))
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            self.reply(400, {"error": "invalid_request", "error_description": "not a JSON object"})
        elif self.path == "/_sandbox/world":
            self.change_world(asked)
        elif self.path == SIGN_IN_PATH:
            members = (asked.get("username"), asked.get("password"), asked.get("useralias"))
            self.serve("sign-in", lambda world: world.sign_in(*members))
        elif self.path == REFRESH_PATH:
            self.serve("refresh", lambda world: world.refresh(asked.get("refresh_token")))
        else:
            self.reply(404, {"error": "not_found"})

    def change_world(self, wishes: dict[str, Any]) -> None:
        try:
            self.server.world.change(wishes)
        except (ValueError, TypeError) as exc:
            self.reply(400, {"error": str(exc)})
        else:
            self.reply(200, self.server.world.state())

    def serve(self, call: str, answer: Callable[[World], tuple[int, dict[str, Any]]]) -> None:
        world = self.server.world
        with world.lock:
            world.counts[call] += 1
        if world.latency_s:
            time.sleep(world.latency_s)
        fault = world.next_fault(call)
        if fault is None:
            self.reply(*answer(world))
        elif fault["kind"] == "hang":
            time.sleep(float(fault.get("seconds", 1)))
            self.reply(*answer(world))
        elif fault["kind"] == "lost":
            answer(world)
            self.cut()
        else:
            self.fail(fault)

    def fail(self, fault: dict[str, Any]) -> None:
        kind = fault["kind"]
        if kind == "status":
            self.reply(int(fault["status"]), fault.get("body", {}), fault.get("headers", {}))
        elif kind == "html":
            self.send(int(fault.get("status", 200)), b"<html><body>Please log in</body></html>", "text/html", {})
        elif kind == "huge":
            self.send(200, b'{"access_token": "' + b"x" * 10_000_000 + b'"}', "application/json", {})
        elif kind == "truncated":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"acc')
            self.cut()
        elif kind == "redirect":
            self.send(307, b"", "text/plain", {"Location": str(fault.get("to", "/elsewhere"))})
        elif kind == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60:
                self.wfile.write(bytes([byte]))
                time.sleep(1)
            self.cut()
        else:
            self.cut()

    def cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def reply(self, status: int, members: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(members).encode(), "application/json", headers or {})

    def send(self, status: int, body: bytes, content_type: str, headers: dict[str, str]) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(int(self.server.world.now()))

    def log_message(self, *_args: Any) -> None:
        """Nothing: request lines are dull here, and bodies hold passwords."""


@contextlib.contextmanager
def open_sandbox(world: World, *, port: int = 0) -> Iterator[str]:
    """Serves the world on 127.0.0.1 until the block ends; yields its address."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.world = world
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
