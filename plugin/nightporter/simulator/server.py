"""The simulated vendors over HTTP on loopback.

| vendor | paths |
| --- | --- |
| Pitchpoint | its two documented ones |
| vault.ist | `POST /v1/auth/token` |
| Entra, Perspio | `/TENANT/oauth2/v2.0/token`, `authorize`, `devicecode` |
| any other | `/oauth2/token`, `authorize`, `devicecode`, `revoke`;
`/.well-known/openid-configuration` |
| by a row | `/vendors/NAME` and the paths of the row, in its words, with a world of its own |

`GET /_sandbox/state` shows counts, `POST /_sandbox/world` changes the world (see `World.change`;
`{"seed": true}` answers with a new refresh token), `GET /_sandbox/resource` takes any live access
token and answers 401 else.

Faults: {"kind": K, "call": "sign-in" | "refresh", "times": N} with K one of `busy` (in the vendor's
words), `status` (with "status", "body", "headers"), `html`, `huge` (10 MB), `truncated`,
`redirect`, `close` (no answer at all), `lost` (done, but no answer), `hang` ("seconds", then done),
`late` (done, answered after "seconds"), `drip` (a header byte a second), `gzip` and `form` (an
answer in another wrapping).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from nightporter.core.checks import is_loopback
from nightporter.core.model import Vendor
from nightporter.issuers import VENDORS
from nightporter.simulator import endpoints
from nightporter.simulator.voices import Answer
from nightporter.simulator.world import World, world_of

MAX_BODY_BYTES = 1 << 20


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # a storm of a thousand consumers must not be refused by the backlog
    world: World
    vendors: Mapping[str, Vendor]
    worlds: dict[str, World]

    def world_of(self, name: str) -> World | None:
        """The world of a vendor, made when it is first asked for: with the users, clients and clock
        of the first one, and with what its row says."""
        with self.world.lock:
            if name not in self.worlds and name in self.vendors:
                self.worlds[name] = world_of(self.vendors[name], self.world)
            return self.worlds.get(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    world: World
    prefix: str

    def do_GET(self) -> None:
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES))
        path = self.enter()
        world, asked = self.world, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/_sandbox/state":
            self.reply(200, world.state())
        elif path == "/_sandbox/resource":
            live = world.is_live(self.headers.get("Authorization", "").removeprefix("Bearer "))
            world.counts["resource"] += 1
            self.reply(200 if live else 401, {"ok": live})
        elif path == "/.well-known/openid-configuration":
            self.reply(200, self.metadata())
        elif endpoints.kind_of(world, path) == "authorization_endpoint":
            self.show_consent(asked)
        elif path == "/device":
            found = world.answer_device(asked.get("user_code", ""), is_approved="deny" not in asked)
            self.reply(200 if found else 404, {"ok": found})
        else:
            self.reply(404, {"error": "not_found"})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{self.prefix}"

    def metadata(self) -> dict[str, str]:
        """RFC 8414 section 2."""
        return {
            "issuer": self.address,
            "token_endpoint": f"{self.address}/oauth2/token",
            "authorization_endpoint": f"{self.address}/oauth2/authorize",
            "device_authorization_endpoint": f"{self.address}/oauth2/devicecode",
            "revocation_endpoint": f"{self.address}/oauth2/revoke",
        }

    def show_consent(self, asked: dict[str, str]) -> None:
        """The authorize page: two links, and the first is followed by itself, as a person would."""
        back, state = asked.get("redirect_uri", ""), asked.get("state", "")
        yes = f"{back}?{urlencode({'code': self.world.authorize(asked), 'state': state})}"
        no = f"{back}?{urlencode({'error': 'access_denied', 'state': state})}"
        page = (
            '<html><head><meta http-equiv="refresh" content="1;'
            f' url={escape(yes)}"></head><body><h1>Sandbox</h1><a id="allow"'
            f' href="{escape(yes)}">Allow</a> <a id="deny"'
            f' href="{escape(no)}">Deny</a></body></html>'
        )
        self.send(200, page.encode(), "text/html", {})

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES))
        path = self.enter()
        headers = {name.lower(): value for name, value in self.headers.items()}
        if path == "/_sandbox/world":
            if self.is_of_a_page(headers):
                self.reply(403, {"error": "forbidden"})
                return
            self.change_world(endpoints.object_of(body))
        elif call := endpoints.token_call(self.world, path, headers, body):
            self.serve(*call)
        else:
            self.post_form(endpoints.kind_of(self.world, path), headers, endpoints.form_of(body))

    @staticmethod
    def is_of_a_page(headers: Mapping[str, str]) -> bool:
        """Whether a web page may have asked, by its own address or by a name that leads here
        (99designs/aws-vault#578). Such servers are copied."""
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        return "origin" in headers or not is_loopback(host.strip("[]"))

    def enter(self) -> str:
        """Finds the world that is meant: each vendor has one of its own below /vendors/NAME.
        Returns the path inside it; empty where there is no such vendor."""
        path = urlsplit(self.path).path
        self.world, self.prefix = self.server.world, ""
        if not path.startswith("/vendors/"):
            return path
        name = path.split("/")[2]
        found = self.server.world_of(name)
        if found is None:
            return ""
        self.world, self.prefix = found, f"/vendors/{name}"
        return path.removeprefix(self.prefix)

    def post_form(self, kind: str, headers: Mapping[str, str], asked: dict[str, str]) -> None:
        if kind == "device_authorization_endpoint":
            client = endpoints.client_of(headers, asked)
            self.reply(*self.world.start_device(client[0] if client else "", self.address))
        elif kind == "revocation_endpoint":
            token = asked.get("token", "")
            self.world.counts["revoke"] += 1
            self.world.revoke(lambda grant: self.world.refresh_tokens.get(token) is grant)
            self.reply(200, {})
        else:
            self.reply(404, {"error": "not_found"})

    def change_world(self, wishes: dict[str, Any] | None) -> None:
        if wishes is None:
            self.reply(400, {"error": "not a JSON object"})
            return
        if wishes.pop("seed", False):
            self.reply(200, {"refresh_token": self.world.new_refresh_token()})
            return
        try:
            self.world.change(wishes)
        except (ValueError, TypeError) as exc:
            self.reply(400, {"error": str(exc)})
        else:
            self.reply(200, self.world.state())

    def serve(self, call: str, answer: Callable[[], Answer]) -> None:
        world = self.world
        with world.lock:
            world.counts[call] += 1
        if world.latency_s:
            time.sleep(world.latency_s)
        fault = world.next_fault(call)
        if fault is None:
            self.reply(*answer())
        elif fault["kind"] == "hang":
            time.sleep(float(fault.get("seconds", 1)))
            self.reply(*answer())
        elif fault["kind"] == "late":
            status, members = answer()
            time.sleep(float(fault.get("seconds", 1)))
            self.reply(status, members)
        elif fault["kind"] == "lost":
            answer()
            self.cut()
        elif fault["kind"] in ("gzip", "form"):
            self.reply_wrapped(fault["kind"], *answer())
        elif fault["kind"] == "busy":
            self.reply(*world.voice.busy(), fault.get("headers"))
        else:
            self.fail(fault)

    def fail(self, fault: dict[str, Any]) -> None:
        kind = fault["kind"]
        if kind == "status":
            self.reply(int(fault["status"]), fault.get("body", {}), fault.get("headers", {}))
        elif kind == "html":
            self.send(
                int(fault.get("status", 200)),
                b"<html><body>Please log in</body></html>",
                "text/html",
                {},
            )
        elif kind == "huge":
            self.send(
                200, b'{"access_token": "' + b"x" * 10_000_000 + b'"}', "application/json", {}
            )
        elif kind == "truncated":
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:"
                b' 500\r\n\r\n{"acc'
            )
            self.cut()
        elif kind == "redirect":
            self.send(307, b"", "text/plain", {"Location": str(fault.get("to", "/elsewhere"))})
        elif kind == "drip":
            with contextlib.suppress(OSError):  # who asked has gone, as is meant
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60:
                    self.wfile.write(bytes([byte]))
                    time.sleep(1)
            self.cut()
        else:
            self.cut()

    def reply_wrapped(self, kind: str, status: int, members: dict[str, Any]) -> None:
        if kind == "gzip":
            body = gzip.compress(json.dumps(members).encode())
            self.send(status, body, "application/json", {"Content-Encoding": "gzip"})
        else:
            body = urlencode(members).encode()
            self.send(status, body, "application/x-www-form-urlencoded", {})

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
def open_sandbox(
    world: World, *, port: int = 0, vendors: Mapping[str, Vendor] = VENDORS
) -> Iterator[str]:
    """Serves the world on 127.0.0.1 until the block ends, and below /vendors/NAME a world for each
    of `vendors`; yields its address."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.world, server.vendors, server.worlds = world, vendors, {}
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
