"""Lambda's Runtime API on loopback, and a function run by AWS's own runtime client against it.

The service kills a process that has used up its time; so does this one.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IDENTIFIER = "01234567-89ab-4def-8123-456789abcdef"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:np"


@dataclass
class Outcome:
    """`kind`: response, error, init/error, or timeout."""

    kind: str
    body: Any
    took_s: float


class RuntimeApi(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asks: queue.Queue[tuple[str, bytes, float] | None] = queue.Queue()
        self.done: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.count = 0
        self.extension_events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.extensions: list[str] = []  # the names of those that have registered
        self.extension_errors: list[tuple[str, dict[str, Any]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function's process that is ended while it waits for the next ask is no error."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/2020-01-01/extension/event/next":
            assert self.headers["Lambda-Extension-Identifier"] == IDENTIFIER
            event = self.server.extension_events.get()
            self.reply(200, json.dumps(event).encode(), {})
            return
        ask = self.server.asks.get()
        if ask is None:
            return
        request_id, body, deadline = ask
        headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-0-0",
        }
        self.reply(200, body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if "/extension/" in self.path:
            self.extension_call(json.loads(body))
            return
        self.server.done.put((self.path.split("/runtime/")[1], body))
        self.reply(202, b"{}", {})

    def extension_call(self, document: dict[str, Any]) -> None:
        """Extensions API: a registration, or that the extension can't go on."""
        if self.path == "/2020-01-01/extension/register":
            assert document["events"] == ["INVOKE", "SHUTDOWN"]
            self.server.extensions.append(self.headers["Lambda-Extension-Name"])
            self.reply(200, b"{}", {"Lambda-Extension-Identifier": IDENTIFIER})
            return
        kind = self.headers["Lambda-Extension-Function-Error-Type"]
        self.server.extension_errors.append((kind, document))
        self.reply(202, b"{}", {})

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@dataclass
class Environment:
    """One execution environment: a process that serves invocations one after the other."""

    api: RuntimeApi
    process: subprocess.Popen[bytes]
    log: Path

    def invoke(self, event: Any, *, timeout_s: float = 30.0) -> Outcome:
        """One invocation, to its response, its error, or the end of its time."""
        self.api.count += 1
        began = time.monotonic()
        ends = time.time() + timeout_s
        if self.api.extensions:
            self.api.extension_events.put(
                {"eventType": "INVOKE", "deadlineMs": int(ends * 1000), "requestId": "r"}
            )
        self.api.asks.put((f"request-{self.api.count}", json.dumps(event).encode(), ends))
        try:
            path, body = self.api.done.get(timeout=timeout_s)
        except queue.Empty:
            self.process.kill()
            self.process.wait()
            return Outcome("timeout", None, time.monotonic() - began)
        kind = (
            "/".join(path.split("/")[-2:]) if path.startswith("init") else path.rpartition("/")[2]
        )
        return Outcome(kind, json.loads(body), time.monotonic() - began)

    def said(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def open_function(
    python: Path,
    directory: Path,
    layer: Path,
    source: str | None,
    variables: Mapping[str, str],
    handler: str = "app.handler",
) -> Iterator[Environment]:
    """A function in an environment of its own, the layer unpacked where `/opt` would be.

    `source`: of its one module `app`; None where the directory holds it already.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if source is not None:
        (directory / "app.py").write_text(source)
    version = python.parent.parent.name.removeprefix("lambda-")
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": "/nowhere",
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": str(directory),
        "AWS_LAMBDA_FUNCTION_NAME": "np",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{version}",
        "PYTHONPATH": f"{directory}:{layer}/python",
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    api = RuntimeApi()
    environment["AWS_LAMBDA_RUNTIME_API"] = api.address
    thread = threading.Thread(target=api.serve_forever, daemon=True)
    thread.start()
    log = directory / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [python, "-m", "awslambdaric", handler],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Environment(api, process, log)
    finally:
        process.kill()
        process.wait()
        for _ in range(4):
            api.asks.put(None)
        api.shutdown()
        api.server_close()
        thread.join()
