"""A proxy before a real Vault or OpenBao whose clock is a simulated one.

The server's own clock can't be set. So what it says of time (`Date`, `created_time`,
`deletion_time`) is shifted on its way back, each time stamp by as much as the simulated clock was
ahead when it was made.
"""

from __future__ import annotations

import contextlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

STAMP = re.compile(rb'"(created_time|deletion_time|updated_time)":"(\d[^"]+)"')
DROPPED = frozenset({"date", "content-length", "transfer-encoding", "connection"})


@dataclass
class TimeMachine:
    """`pieces`: from which real moment on the simulated clock was ahead by how many seconds."""

    upstream: str
    clock: Callable[[], float]
    pieces: list[tuple[float, float]] = field(default_factory=list)

    def note(self) -> None:
        """Looks how far the simulated clock is ahead now."""
        offset_s = self.clock() - time.time()
        if not self.pieces or abs(self.pieces[-1][1] - offset_s) > 0.5:
            self.pieces.append((time.time(), offset_s))

    def shifted(self, text: str) -> str:
        """Returns an RFC 3339 time stamp of the server on the simulated clock."""
        whole, fraction = re.fullmatch(r"([^.Z]+)(\.\d+)?Z", text).groups()  # type: ignore[union-attr]
        at = datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(fraction or 0)
        offset_s = next(
            (offset for since, offset in reversed(self.pieces) if since <= at + 0.001),
            self.pieces[0][1],
        )
        return datetime.fromtimestamp(at + offset_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def body(self, content: bytes) -> bytes:
        """Returns a reply's body with its time stamps shifted."""
        return STAMP.sub(
            lambda found: b'"%s":"%s"' % (found[1], self.shifted(found[2].decode()).encode()),
            content,
        )


@contextlib.contextmanager
def open_time_machine(upstream: str, clock: Callable[[], float]) -> Iterator[str]:
    """Yields the address of the proxy."""
    machine = TimeMachine(upstream, clock)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            machine.note()
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            request = urllib.request.Request(
                f"{upstream}{self.path}",
                method=self.command,
                data=self.rfile.read(length) or None,
                headers=headers,
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    self.answer(reply.status, dict(reply.headers), reply.read())
            except urllib.error.HTTPError as exc:
                with exc:
                    self.answer(exc.code, dict(exc.headers), exc.read())
            except OSError:
                self.close_connection = True  # as the server's own connection does

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            content = machine.body(content)
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in DROPPED:
                    self.send_header(name, value)
            self.send_header("Date", formatdate(machine.clock(), usegmt=True))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_PATCH = do_any

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
