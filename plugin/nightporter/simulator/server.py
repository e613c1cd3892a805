"""The simulated vendors over HTTP on loopback.

| vendor | paths |
| --- | --- |
| Pitchpoint | its two documented ones |
| vault.ist | `POST /v1/auth/token` |
| Entra, Perspio | `/TENANT/oauth2/v2.0/token`, `authorize`, `devicecode` |
| any other | `/oauth2/token`, `authorize`, `devicecode`, `revoke`;
`/.well-known/openid-configuration` |

`GET /_sandbox/state` shows counts, `POST /_sandbox/world` changes the world (see `World.change`;
`{"seed": true}` answers with a new refresh token), `GET /_sandbox/resource` takes any live access
token and answers 401 else.

Faults: {"kind": K, "call": "sign-in" | "refresh", "times": N} with K one of `status` (with
"status", "body", "headers"), `html`, `huge` (10 MB), `truncated`, `redirect`, `close` (no answer at
all), `lost` (done, but no answer), `hang` ("seconds", then done), `late` (done, answered after
"seconds"), `drip` (a header byte a second), `gzip` and `form` (an answer in another wrapping).
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from nightporter.issuers.pitchpoint import REFRESH_PATH, SIGN_IN_PATH
from nightporter.issuers.vault_ist import REFRESH_PATH as VAULT_IST_PATH
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
        world, parts = self.server.world, urlsplit(self.path)
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY_BYTES))
        asked = dict(parse_qsl(parts.query))
        if parts.path == "/_sandbox/state":
            self.reply(200, world.state())
        elif parts.path == "/_sandbox/resource":
            live = world.is_live(self.headers.get("Authorization", "").removeprefix("Bearer "))
            world.counts["resource"] += 1
            self.reply(200 if live else 401, {"ok": live})
        elif parts.path == "/.well-known/openid-configuration":
            self.reply(200, self.metadata())
        elif parts.path.endswith("/authorize"):
            self.show_consent(asked)
        elif parts.path == "/device":
            found = world.answer_device(asked.get("user_code", ""), is_approved="deny" not in asked)
            self.reply(200 if found else 404, {"ok": found})
        else:
            self.reply(404, {"error": "not_found"})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

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
        yes = f"{back}?{urlencode({'code': self.server.world.authorize(asked), 'state': state})}"
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
        path = urlsplit(self.path).path
        if path.endswith(("/oauth2/token", "/oauth2/v2.0/token", "/devicecode", "/revoke")):
            self.post_form(path, dict(parse_qsl(body.decode("utf-8", "replace"))))
            return
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            self.reply(400, {"error": "invalid_request", "error_description": "not a JSON object"})
        elif path == "/_sandbox/world":
            self.change_world(asked)
        elif path == SIGN_IN_PATH:
            members = (asked.get("username"), asked.get("password"), asked.get("useralias"))
            self.serve("sign-in", lambda world: world.sign_in(*members))
        elif path == REFRESH_PATH:
            self.serve("refresh", lambda world: world.refresh_reused(asked.get("refresh_token")))
        elif path == VAULT_IST_PATH:
            self.serve("refresh", lambda world: self.refresh_vault_ist(world, asked))
        else:
            self.reply(404, {"error": "not_found"})

    def refresh_vault_ist(self, world: World, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not self.headers.get("partnerId") or self.headers.get("grantType") != "refresh_token":
            return 400, {"error": "invalid_request", "error_description": "Missing headers."}
        if not isinstance(asked.get("refreshToken"), str):
            return 400, {"error": "invalid_request", "error_description": "Missing refresh token."}
        return world.refresh(asked["refreshToken"])

    def post_form(self, path: str, asked: dict[str, str]) -> None:
        client = self.client_of(asked)
        if path.endswith("/devicecode"):
            self.reply(*self.server.world.start_device(client[0] if client else "", self.address))
        elif path.endswith("/revoke"):
            token = asked.get("token", "")
            self.server.world.counts["revoke"] += 1
            self.server.world.revoke(
                lambda grant: self.server.world.refresh_tokens.get(token) is grant
            )
            self.reply(200, {})
        else:
            call = "refresh" if asked.get("grant_type") == "refresh_token" else "sign-in"
            self.serve(call, lambda world: world.token_endpoint(asked, client))

    def client_of(self, asked: dict[str, str]) -> tuple[str, str] | None:
        """The client by HTTP Basic (both parts form-encoded, RFC 6749 section 2.3.1) or in the
        body."""
        kind, _, coded = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            with contextlib.suppress(ValueError):
                name, _, secret = base64.b64decode(coded).decode().partition(":")
                return unquote_plus(name), unquote_plus(secret)
        if "client_id" in asked:
            return asked["client_id"], asked.get("client_secret", "")
        return None

    def change_world(self, wishes: dict[str, Any]) -> None:
        if wishes.pop("seed", False):
            self.reply(200, {"refresh_token": self.server.world.new_refresh_token()})
            return
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
        elif fault["kind"] == "late":
            status, members = answer(world)
            time.sleep(float(fault.get("seconds", 1)))
            self.reply(status, members)
        elif fault["kind"] == "lost":
            answer(world)
            self.cut()
        elif fault["kind"] in ("gzip", "form"):
            self.reply_wrapped(fault["kind"], *answer(world))
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
def open_sandbox(world: World, *, port: int = 0) -> Iterator[str]:
    """Serves the world on 127.0.0.1 until the block ends; yields its address."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.world = world
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
