"""An extension of Lambda: tokens over loopback for functions in other languages.

It is the agent's loopback port in the function's execution environment. Who asks proves that it is
the function by AWS_SESSION_TOKEN, as with AWS's own extension for secrets: a request that the
function was tricked into (SSRF) can name an address, and not that header.

An environment is frozen between invocations. So nothing is exchanged before the first one, nor
with less left of one than an exchange needs, and the function waits for its answer.

Source: AWS Lambda developer guide, "Using the Lambda Extensions API".
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nightporter.client.porter import Porter
from nightporter.core.errors import ConfigError, NightporterError
from nightporter.machine.lambda_time import bounded_by
from nightporter.machine.metrics_file import MetricsMemory
from nightporter.operations import agent

NAME = "nightporter"  # of the file in extensions/: the API wants the same
PORT = 2775  # AWS's own extension for secrets has 2773
API = "/2020-01-01/extension"
API_HINT = "Run it as an extension of a Lambda function: the layer puts it where Lambda starts it."
MAX_EVENT = 65_536


class Invocation:
    """The running invocation, as `lambda_time` asks for it. Before the first one nothing is
    left."""

    def __init__(self) -> None:
        self._ends_ms = 0.0

    def begin(self, ends_ms: float) -> None:
        """`ends_ms`: Unix milliseconds."""
        self._ends_ms = ends_ms

    def get_remaining_time_in_millis(self) -> int:
        """The name is that of Lambda's context object."""
        return max(0, int(self._ends_ms - time.time() * 1000))


class ExtensionsApi:
    """The API of the execution environment. `address`: AWS_LAMBDA_RUNTIME_API."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._identifier = ""

    def register(self) -> None:
        """Raises: ConfigError where the API refuses."""
        events = json.dumps({"events": ["INVOKE", "SHUTDOWN"]}).encode()
        headers, _ = self._call("POST", "/register", events, {"Lambda-Extension-Name": NAME})
        self._identifier = headers.get("Lambda-Extension-Identifier", "")

    def next_event(self) -> dict[str, Any]:
        """Waits for the next event, frozen where the environment is.

        Raises: ConfigError.
        """
        _, body = self._call("GET", "/event/next", None, {})
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ConfigError("the Extensions API gave no event", hint=API_HINT)
        return found

    def report_failure(self, error: NightporterError) -> None:
        """Tells Lambda that the extension can't begin: else it waits for the time limit."""
        said = {"errorType": error.reference, "errorMessage": error.message, "stackTrace": []}
        kind = {"Lambda-Extension-Function-Error-Type": f"Extension.{error.reference}"}
        with contextlib.suppress(ConfigError):
            self._call("POST", "/init/error", json.dumps(said).encode(), kind)

    def _call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]:
        """No time limit: between two invocations there may be hours."""
        named = {"Lambda-Extension-Identifier": self._identifier} if self._identifier else {}
        connection = http.client.HTTPConnection(self._address)
        connection.set_debuglevel(0)  # a function's own one is of its class: it prints requests
        try:
            connection.request(method, API + path, body, {**named, **headers})
            answer = connection.getresponse()
            content = answer.read(MAX_EVENT)
            if answer.status >= 300:
                raise ConfigError(
                    f"the Extensions API says {answer.status} to {path}", hint=API_HINT
                )
            return dict(answer.getheaders()), content
        except (OSError, http.client.HTTPException) as exc:
            raise ConfigError(
                f"the Extensions API can't be asked ({type(exc).__name__})", hint=API_HINT
            ) from exc
        finally:
            connection.close()


def run(environment: Mapping[str, str]) -> None:
    """Serves until Lambda shuts the environment down.

    Raises: NightporterError, after Lambda was told.
    """
    api = ExtensionsApi(environment.get("AWS_LAMBDA_RUNTIME_API", ""))
    api.register()
    invocation = Invocation()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(bounded_by(invocation))
            counts = MetricsMemory()
            porter = stack.enter_context(Porter(emit=counts.note, notify=lambda _text: None))
            stack.enter_context(_serving(environment, porter, counts))
            _follow(api, invocation, porter)
    except NightporterError as exc:
        api.report_failure(exc)
        raise


def _follow(api: ExtensionsApi, invocation: Invocation, porter: Porter) -> None:
    """To ask for the next event is to say that this one may end for our part."""
    while True:
        event = api.next_event()
        if event.get("eventType") != "INVOKE":
            return
        invocation.begin(float(event.get("deadlineMs") or 0))
        porter.send_metrics()


@contextlib.contextmanager
def _serving(
    environment: Mapping[str, str], porter: Porter, counts: MetricsMemory
) -> Iterator[None]:
    proof = environment.get("AWS_SESSION_TOKEN")
    if not proof:
        raise ConfigError(
            "AWS_SESSION_TOKEN is missing: nothing could prove who asks", hint=API_HINT
        )
    listener = agent.loopback_socket(port_in(environment))
    server = agent.Server(listener, porter, counts, proof)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def port_in(environment: Mapping[str, str]) -> int:
    """Returns the port of NIGHTPORTER_EXTENSION_PORT, else PORT.

    Raises: ConfigError.
    """
    text = environment.get("NIGHTPORTER_EXTENSION_PORT") or str(PORT)
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ConfigError(
            "NIGHTPORTER_EXTENSION_PORT must be a port, 1 to 65535",
            hint="Set the variable to one, or unset it.",
        )
    return int(text)
