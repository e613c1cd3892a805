"""A small TLS server on loopback that takes only the right access token, and can play what a client
needs behind it."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


@dataclass
class Call:
    """One request, its body read, chunked or not."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


# JSON, bytes, a Reply, or a function from Call to any of these; a path that ends in /* is a prefix
Answer = Any


@dataclass
class Guarded:
    """`seen` holds method, path and Authorization of every request."""

    address: str
    ca_file: Path
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.address.partition("://")[2]

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def sent_tokens(self) -> list[str]:
        """The tokens that came, in their order, anonymous requests left out."""
        return [token for _, _, header in self.seen if header and (token := token_of(header))]


def token_of(authorization: str) -> str:
    """The token of a Bearer header, or the password of a Basic one, or the bare value."""
    kind, _, value = authorization.partition(" ")
    if kind == "Basic":
        return base64.b64decode(value).decode().partition(":")[2]
    return value if kind == "Bearer" else authorization


def _find(answers: Mapping[str, Answer], path: str) -> Answer:
    if path in answers:
        return answers[path]
    fitting = [key for key in answers if key.endswith("/*") and path.startswith(key[:-1])]
    return answers[max(fitting, key=len)] if fitting else None


def _reply_of(answer: Answer, call: Call) -> Reply:
    if callable(answer):
        answer = answer(call)
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, bytes):
        return Reply(answer)
    if answer is None:
        return Reply(b"{}", status=404, kind="application/json")
    kind = (
        str(answer.get("mediaType", "application/json"))
        if isinstance(answer, dict)
        else "application/json"
    )
    return Reply(json.dumps(answer).encode(), kind=kind)


def _context(ca_file: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_file))
    return context


@contextlib.contextmanager
def open_guarded(
    directory: Path,
    *,
    is_live: Callable[[str], bool],
    answers: Mapping[str, Answer],
    challenges: tuple[str, ...] = ('Basic realm="guarded"',),
    is_plain: bool = False,
) -> Iterator[Guarded]:
    """Serves `answers` under https to whoever brings a token that `is_live` knows. `is_plain`:
    under http."""
    ca_file, scheme = directory / "ca.pem", "http" if is_plain else "https"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            path, _, query = self.path.partition("?")
            authorization = self.headers.get("Authorization", "")
            call = Call(
                self.command,
                path,
                query,
                {k.lower(): v for k, v in self.headers.items()},
                self.body(),
            )
            guarded.seen.append((self.command, self.path, authorization))
            if is_live(token_of(authorization)):
                self.answer(_reply_of(_find(answers, path), call))
            else:
                refusal = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401}
                self.answer(
                    Reply(json.dumps(refusal).encode(), status=401, kind="application/json")
                )

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = serve

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for challenge in challenges if reply.status == 401 else ():
                self.send_header("WWW-Authenticate", challenge)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.kind)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if not is_plain:
        server.socket = _context(ca_file).wrap_socket(server.socket, server_side=True)
    guarded = Guarded(address=f"{scheme}://localhost:{server.server_address[1]}", ca_file=ca_file)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield guarded
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
