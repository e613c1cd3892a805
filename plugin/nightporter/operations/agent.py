"""`nightporter agent`: tokens over HTTP for programs that can't run a helper.

A Unix socket, whose peers the kernel names, and when asked for a loopback port, where the contents
of a 0600 file are the proof. The agent holds nothing that the store doesn't have: killed at any
moment it costs nothing, and two agents on two hosts still make one exchange.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import os
import secrets
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, ThreadingMixIn
from typing import Any

from nightporter.client.porter import Porter
from nightporter.core import metrics
from nightporter.core.config import choose_profile
from nightporter.core.errors import ConfigError, NightporterError, UnknownProfileError
from nightporter.machine.files import make_directories, read_private, replace_private
from nightporter.machine.metrics_file import MetricsMemory
from nightporter.protocols import agent as protocol
from nightporter.protocols import plain
from nightporter.protocols.agent import Ask, RefusedError

ASK_S = 10.0  # for a whole request to come, and for a token to be had
MAX_ASKS = 128  # at a time; what comes on top waits in the socket's queue
MAX_ASKS_OF_PEER = 96  # of other users: they leave room for the agent's own
MAX_HEAD = 16_384  # bytes of a request; what comes behind its head is not read
BACKLOG = 512
FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1  # macOS: sys/un.h


class Server(ThreadingMixIn, BaseServer):
    """Answers on one listening socket. `proof`: what a loopback ask has to show; None for a Unix
    socket."""

    daemon_threads = True

    def __init__(
        self, listener: socket.socket, porter: Porter, counts: MetricsMemory, proof: str | None
    ) -> None:
        super().__init__(listener.getsockname(), Handler)
        self.socket = listener
        self.porter = porter
        self.counts = counts
        self.proof = proof
        self._room = threading.BoundedSemaphore(MAX_ASKS)
        self._room_of_peers = threading.BoundedSemaphore(MAX_ASKS_OF_PEER)

    def fileno(self) -> int:
        """What the loop of the server waits for."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """One connection."""
        connection, address = self.socket.accept()
        connection.settimeout(ASK_S)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, once there is room: at the latest when the slowest request is cut off. Where
        other users take more than their share, theirs are closed."""
        if not self._room.acquire(timeout=2 * ASK_S):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self._room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Gives its room back, whatever comes of it."""
        try:
            if self._is_of_peer(request):
                self._process_of_peer(request, client_address)
            else:
                super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def _is_of_peer(self, request: socket.socket) -> bool:
        """Whether another user asks at the Unix socket."""
        return self.proof is None and peer_uid(request) not in (0, os.geteuid())

    def _process_of_peer(self, request: Any, client_address: Any) -> None:
        if not self._room_of_peers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room_of_peers.release()

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: the client has gone away."""

    def server_close(self) -> None:
        """Closes the listening socket."""
        self.socket.close()


class Handler(BaseHTTPRequestHandler):
    """One ask a connection; no body is read."""

    server: Server
    server_version, sys_version = "nightporter", ""

    def setup(self) -> None:
        """Reads the head of the request as a whole, so that it is bounded in bytes and in time, and
        nothing behind it can be taken for another request."""
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(read_head(self.connection)))

    def answer(self) -> None:
        """Answers whatever the method is."""
        try:
            ask = protocol.parse_ask(
                self.command,
                self.path,
                protocol.single_headers(self.headers.items()),
                is_unix=self.server.proof is None,
            )
            self._answer(ask)
        except RefusedError as exc:
            self._put(exc.status, {"error": "refused", "message": exc.reason})
        except UnknownProfileError as exc:
            self._put(404, {"error": exc.reference, "message": "there is no such profile"})
        except NightporterError as exc:
            said = {"error": exc.reference, "message": exc.message, "hint": exc.hint}
            self._put(503, said, {"Retry-After": "5"})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def _answer(self, ask: Ask) -> None:
        if ask.kind == "health":
            self._put(200, {"status": "ok"})
            return
        self._check_proof()
        if ask.kind == "metrics":
            self._send(
                200,
                metrics.render(self.server.counts.read()[0]).encode(),
                "text/plain; version=0.0.4",
                {},
            )
            return
        profile = choose_profile(self.server.porter.config, ask.profile)
        uid = None if self.server.proof else peer_uid(self.connection)
        protocol.check_peer(uid, _name_of(uid), os.geteuid(), profile)
        protocol.check_host(ask, profile)
        token = self.server.porter.get_token(profile.name, min_ttl=ask.min_ttl_s, timeout=ASK_S)
        if ask.kind == "header":
            header = {"Authorization": plain.render(token, "authorization", profile)}
            self._send(200, b"", "text/plain", header)
        else:
            self._send(200, plain.render(token, "json", profile).encode(), "application/json", {})

    def _check_proof(self) -> None:
        proof, given = self.server.proof, self.headers.get(protocol.TOKEN_HEADER, "")
        if proof is not None and not hmac.compare_digest(given.encode(), proof.encode()):
            raise RefusedError(401, f"{protocol.TOKEN_HEADER} is not what the token file holds")

    def _put(
        self, status: int, document: dict[str, str], headers: dict[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(document).encode(), "application/json", headers or {})

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.close_connection = True
        self.send_response(status)
        all_headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
            **headers,
        }
        for name, value in all_headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        """A Unix peer has no address."""
        return "peer"

    def log_message(self, *_args: Any) -> None:
        """Nothing: the audit log has what was handed out."""


def read_head(connection: socket.socket) -> bytes:
    """Returns the request up to the empty line, and what came with it; nothing where that is over
    MAX_HEAD or not there after ASK_S."""
    deadline, head = time.monotonic() + ASK_S, b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or len(head) >= MAX_HEAD:
            return b""
        connection.settimeout(left_s)
        try:
            piece = connection.recv(MAX_HEAD - len(head))
        except OSError:
            return b""
        if not piece:
            return b""
        head += piece
    connection.settimeout(ASK_S)
    return head


def peer_uid(connection: socket.socket) -> int:
    """Returns whose process is at the other end of a Unix socket, by the kernel's word."""
    if sys.platform == "darwin":  # pragma: no cover - not run by our tests
        found = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        return int(struct.unpack_from("II", found)[1])
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[1])


def _name_of(uid: int | None) -> str | None:
    if uid is None:
        return None
    try:
        import pwd  # deferred: not on Windows

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return None


# Where it listens.


def inherited_socket() -> socket.socket | None:
    """Returns the socket that systemd hands over; None where there is none (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not os.environ.get("LISTEN_FDS"):
        return None
    return socket.socket(fileno=FIRST_DESCRIPTOR)


def unix_socket(path: str, *, is_for_others: bool) -> socket.socket:
    """Opens a socket at the path, in place of one that nobody listens at any more.
    `is_for_others`: other users may connect, and are then judged by their uid.

    Raises: ConfigError.
    """
    make_directories(os.path.dirname(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        before = os.umask(0o111 if is_for_others else 0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"the socket {path} can't be made: {exc.strerror or exc}",
            hint="Name another place with --socket, in a directory of your own.",
        ) from exc
    return listener


def _remove_dead(path: str) -> None:
    """Raises: ConfigError where an agent is listening, or something else is in the place."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise ConfigError(
            f"{path} is no socket, and is left as it is",
            hint="Remove the file yourself, or name another place with --socket.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise ConfigError(
        f"an agent is listening at {path} already",
        hint="Use that one, end it, or name another place with --socket.",
    )


def loopback_socket(port: int) -> socket.socket:
    """Opens the port on 127.0.0.1; 0 for a free one.

    Raises: ConfigError.
    """
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except (OSError, OverflowError) as exc:
        raise ConfigError(
            f"port {port} can't be opened ({type(exc).__name__})",
            hint="Name another with --port; 0 takes a free one.",
        ) from exc


def proof_in(path: str) -> str:
    """Returns what the token file holds; a fresh one is made where there is none.

    Raises: ConfigError where others can read it.
    """
    try:
        if not os.path.lexists(path):
            make_directories(os.path.dirname(path))
            replace_private(path, f"{secrets.token_urlsafe(32)}\n".encode())
        found = (read_private(path) or b"").decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{path} can't be read or made ({type(exc).__name__})",
            hint="Name a file in a directory of your own with --token-file.",
        ) from exc
    if len(found) < 16:
        raise ConfigError(
            f"{path} has to be a file of your own, mode 0600, with at least 16 characters",
            hint="Remove it: the agent then makes one.",
        )
    return found


def serve(servers: list[Server], wait: Callable[[], object]) -> None:
    """Serves until `wait` comes back."""
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        wait()
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
