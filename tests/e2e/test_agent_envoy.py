"""Real Envoy with `ext_authz` in front of an API that wants a living token, by the configuration
that we ship."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.clients import client
from lab.patience import patience
from lab.servers.api import open_api
from lab.support import ROOT, Home, free_port, wait_until_listening
from lab.worlds.vendor import Vendor


@contextlib.contextmanager
def open_agent(home: Home) -> Iterator[str]:
    """An agent of the home; yields its socket."""
    directory = tempfile.mkdtemp(prefix="np-")  # short: a socket's name is
    process = home.start("agent", "--socket", f"{directory}/s")
    assert process.stderr is not None
    assert "listening" in process.stderr.readline()
    try:
        yield f"{directory}/s"
    finally:
        process.terminate()
        process.communicate(timeout=patience(20))
        shutil.rmtree(directory)


@contextlib.contextmanager
def open_envoy(place: Path, agent_path: str, api_port: int) -> Iterator[int]:
    """Envoy by our example, with the API on loopback and so without TLS; yields its port."""
    port = free_port()
    text = (ROOT / "plugin/packaging/envoy.yaml.example").read_text()
    text = text.replace("/run/nightporter/agent.sock", agent_path)
    text = text.replace("port_value: 8080", f"port_value: {port}")
    text = text.replace(
        "address: api.example.com, port_value: 443", f"address: 127.0.0.1, port_value: {api_port}"
    )
    text = re.sub(r"      transport_socket:\n.*", "", text, flags=re.S)
    (place / "envoy.yaml").write_text(text)
    with (place / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(client("envoy"), "-c", str(place / "envoy.yaml"), "--concurrency", "1"),
                *("--disable-hot-restart", "--log-level", "warning"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_listening(process, port, log=place / "envoy.log")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=patience(20))


def ask(port: int, host: str, method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience(30))
    try:
        body = b"x" * 100_000 if method == "POST" else None
        headers = {"Host": host, "Authorization": "Bearer forged"}
        connection.request(method, "/orders?id=7", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.clients
def test_envoy_adds_the_token_for_the_hosts_of_the_profile_alone(
    home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """Whatever the caller sends as its own; and without an agent nothing passes."""
    home.config_file.write_text(home.config_file.read_text() + 'hosts = ["api.example.com"]\n')
    with open_api(vendor) as api, open_agent(home) as agent_path:
        with open_envoy(tmp_path, agent_path, api.server_port) as port:
            assert ask(port, "api.example.com") == 200
            assert ask(port, "api.example.com", "POST") == 200
            assert ask(port, "evil.example") == 403
            Path(agent_path).unlink()
            assert ask(port, "api.example.com") == 403
        assert "forged" not in api.tokens
        assert len(api.tokens) == 1
    assert vendor.count("sign-in") == 1


@pytest.mark.clients
def test_envoy_takes_the_example_as_it_is(tmp_path: Path) -> None:
    """TLS to the API included."""
    text = (ROOT / "plugin/packaging/envoy.yaml.example").read_text()
    for planted, code in ((text, 0), (text.replace("path_prefix", "path_prefixes"), 1)):
        (tmp_path / "envoy.yaml").write_text(planted)
        done = subprocess.run(
            [client("envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")],
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert done.returncode == code, done.stderr[-2000:]
