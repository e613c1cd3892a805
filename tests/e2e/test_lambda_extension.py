"""The extension of Lambda, against a local Runtime and Extensions API: tokens over loopback for
functions in other languages."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.clients import client
from lab.pages import block
from lab.patience import patience, until
from lab.servers.runtime_api import Environment, RuntimeApi
from lab.support import ROOT, Home, free_port
from lab.worlds.vendor import Vendor

SESSION_TOKEN = "session-token-of-the-function"
FROM_SOURCE = (
    *(sys.executable, "-c"),
    "from nightporter.aws_lambda import run_extension; run_extension()",
)


@dataclass
class Extension:
    """A started extension and what Lambda's side saw of it."""

    api: RuntimeApi
    process: subprocess.Popen[str]
    port: int

    def invoke(self, left_s: float = 60) -> None:
        """Begins an invocation, as far as the extension hears of it."""
        ends_ms = int((time.time() + left_s) * 1000)
        self.api.extension_events.put({"eventType": "INVOKE", "deadlineMs": ends_ms})
        while not self.api.extension_events.empty():
            time.sleep(0.01)
        time.sleep(0.1)

    def ask(self, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience(20))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("GET", "/v1/token?profile=pitchpoint", headers=named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def end(self) -> tuple[int, str]:
        """Shuts down: the exit code, and what was printed."""
        self.api.extension_events.put({"eventType": "SHUTDOWN", "shutdownReason": "spindown"})
        out, _ = self.process.communicate(timeout=patience(20))
        return self.process.returncode, out


def variables(home: Home, api: RuntimeApi, port: int) -> dict[str, str]:
    return {
        **home.environment,
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "NIGHTPORTER_EXTENSION_PORT": str(port),
    }


def start(home: Home, api: RuntimeApi, *command: str, **more: str) -> Extension:
    port = free_port()
    process = subprocess.Popen(
        command or FROM_SOURCE,
        env={**variables(home, api, port), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Extension(api, process, port)


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    server = RuntimeApi()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    for _ in range(4):
        server.asks.put(None)
        server.extension_events.put({"eventType": "SHUTDOWN"})
    server.shutdown()
    server.server_close()


def answers(extension: Extension) -> bool:
    with contextlib.suppress(OSError):
        extension.ask()
        return True
    return False


@pytest.fixture
def extension(home: Home, api: RuntimeApi) -> Iterator[Extension]:
    found = start(home, api)
    until(lambda: answers(found), 20)
    yield found
    if found.process.poll() is None:
        found.process.kill()
    found.process.communicate(timeout=patience(20))


def test_the_function_gets_its_token_and_nobody_else(extension: Extension, vendor: Vendor) -> None:
    """A request that the function was tricked into has no such header."""
    assert extension.api.extensions == ["nightporter"]
    extension.invoke()
    proof = {"X_Nightporter_Token": SESSION_TOKEN}
    assert extension.ask()[0] == 401
    assert extension.ask(X_Nightporter_Token="wrong")[0] == 401
    assert extension.ask(**proof, Host="evil.example")[0] == 403
    status, body = extension.ask(**proof)
    token = json.loads(body)["access_token"]
    assert (status, vendor.world.is_live(token)) == (200, True)
    code, said = extension.end()
    assert (code, said) == (0, "")
    assert extension.api.extension_errors == []


def test_nothing_is_exchanged_without_time_for_it(extension: Extension, vendor: Vendor) -> None:
    """Neither before the first invocation nor at the end of one: the environment would be frozen
    with the exchange."""
    proof = {"X_Nightporter_Token": SESSION_TOKEN}
    assert extension.ask(**proof)[0] == 503
    extension.invoke(left_s=5)
    assert extension.ask(**proof)[0] == 503
    assert vendor.count("sign-in") == 0
    extension.invoke()
    assert extension.ask(**proof)[0] == 200
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    "more",
    [
        {"NIGHTPORTER_CONFIG_TOML": "[profiles.x]\n"},
        {"AWS_SESSION_TOKEN": ""},
        {"NIGHTPORTER_EXTENSION_PORT": "0"},
    ],
)
def test_one_that_can_t_begin_says_so(home: Home, api: RuntimeApi, more: dict[str, str]) -> None:
    found = start(home, api, **more)
    out, _ = found.process.communicate(timeout=patience(20))
    assert found.process.returncode == 2
    assert json.loads(out)["error"] == "configuration"
    (kind, document) = api.extension_errors[0]
    assert (kind, document["errorType"]) == ("Extension.configuration", "configuration")


NODE = """
const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

async function handler(event) {
  BLOCK
  return { status: answer.status, access_token };
}

for (;;) {
  const next = await fetch(`${api}/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const result = await handler(await next.json());
  await fetch(`${api}/${id}/response`, { method: "POST", body: JSON.stringify(result) });
}
"""


@pytest.mark.clients
def test_a_function_in_node_beside_the_built_layer(
    home: Home, vendor: Vendor, api: RuntimeApi, tmp_path: Path
) -> None:
    """The layer is unpacked as Lambda does, with a Python of its own, and none is on the PATH."""
    node = client("node")
    build = [
        sys.executable,
        str(ROOT / "scripts/layer.py"),
        "--extension",
        "--target",
        str(tmp_path),
    ]
    subprocess.run(
        [*build, "--interpreter", sys.base_prefix],
        check=True,
        capture_output=True,
        timeout=patience(400),
    )
    opt = tmp_path / "opt"
    with zipfile.ZipFile(tmp_path / "nightporter-extension.zip") as archive:
        assert sum(item.file_size for item in archive.infolist()) < 200e6
        archive.extractall(opt)
        for item in archive.infolist():
            (opt / item.filename).chmod(item.external_attr >> 16 & 0o777)
    assert not (opt / "python").exists()  # Python's functions would pay for it
    extension = start(home, api, str(opt / "extensions/nightporter"), PATH="/nowhere")
    shown = block("plugin/docs/lambda.md", "node").replace(":2775/", f":{extension.port}/")
    (tmp_path / "bootstrap.mjs").write_text(NODE.replace("BLOCK", shown))
    with (tmp_path / "log").open("wb") as log:
        function = subprocess.Popen(
            [node, str(tmp_path / "bootstrap.mjs")],
            env=variables(home, api, extension.port),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: api.extensions or extension.process.poll() is not None)
        environment = Environment(api, function, tmp_path / "log")
        first = environment.invoke({})
        assert first.body.get("status") == 200, (first, environment.said())
        assert vendor.world.is_live(first.body["access_token"])
        assert environment.invoke({}).body["access_token"] == first.body["access_token"]
        assert vendor.count("sign-in") == 1
        assert extension.end() == (0, "")
    finally:
        function.kill()
        function.wait()
        if extension.process.poll() is None:
            extension.process.kill()
            extension.process.communicate()


def test_a_runtime_without_python_is_told_what_to_do(tmp_path: Path) -> None:
    if Path("/usr/bin/python3").exists() or Path("/var/lang/bin/python3").exists():
        pytest.skip("this system has a Python where the launcher looks")
    launcher = ROOT / "plugin/packaging/lambda-extension"
    done = subprocess.run([launcher], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, "--interpreter" in done.stderr) == (2, True)
