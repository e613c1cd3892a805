"""Real nginx with `auth_request` in front of an API that wants a living token, while the agent is
killed and the token rotates."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.clients import client
from lab.patience import patience
from lab.servers.api import open_api
from lab.support import ROOT, Home, free_port, wait_until_listening
from lab.worlds.vendor import Vendor

LIVES = 4  # of an access token, in the time of a test


class Activated:
    """An agent on a socket that outlives it, as systemd's socket unit has it: a request waits while
    the agent is started again."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.directory = Path(tempfile.mkdtemp(prefix="np-"))  # short: a socket's name is
        self.path = str(self.directory / "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(4096)
        self.start()

    def start(self) -> None:
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'nightporter', 'agent'])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.listener.fileno())],
            env=self.home.environment,
            pass_fds=[self.listener.fileno()],
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=patience(20))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=patience(20))
        self.listener.close()
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def open_nginx(place: Path, agent_path: str, api_port: int) -> Iterator[int]:
    """nginx by the configuration that we ship; yields its port."""
    port = free_port()
    sample = (ROOT / "plugin/packaging/nginx.conf.example").read_text()
    server = sample.replace("/run/nightporter/agent.sock", agent_path)
    server = server.replace("listen 8080", f"listen 127.0.0.1:{port} backlog=4096")
    server = server.replace(
        "proxy_pass https://api.example.com", f"proxy_pass http://127.0.0.1:{api_port}"
    )
    temporary = " ".join(
        f"{kind}_temp_path {place}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"{user} daemon off; pid {place}/pid; error_log {place}/error.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; {temporary}\n{server}\n}}\n"
    )
    process = subprocess.Popen(
        [client("nginx"), "-p", str(place), "-e", f"{place}/error.log", "-c", f"{place}/nginx.conf"]
    )
    try:
        wait_until_listening(process, port, log=place / "error.log")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=patience(20))


@pytest.mark.clients
@pytest.mark.parametrize(
    ("rate", "seconds"), [(50, 12), pytest.param(200, 60, marks=pytest.mark.long)]
)
def test_no_request_has_a_dead_token_while_the_agent_is_killed_and_the_token_rotates(
    home: Home, vendor: Vendor, tmp_path: Path, rate: int, seconds: int
) -> None:
    """The caller's own headers decide nothing, and what waits for the agent is answered."""
    home.config_file.write_text(home.config_file.read_text() + 'hosts = ["api.example.com"]\n')
    home.environment["NIGHTPORTER_LOG"] = str(tmp_path / "audit.jsonl")
    vendor.world.expires_in = max(8, seconds // LIVES)
    load = ROOT / "tests/lab/servers/load.py"
    agent = Activated(home)
    try:
        with open_api(vendor) as api, open_nginx(tmp_path, agent.path, api.server_port) as port:
            asking = subprocess.Popen(
                [sys.executable, str(load), str(port), str(rate), str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2):
                time.sleep(seconds / 4)
                agent.kill()
                agent.start()
                time.sleep(seconds / 12)
                assert home.run("token", "--force-refresh").code == 0
            said = json.loads(asking.communicate(timeout=seconds + 90)[0])
            tokens = api.tokens
    finally:
        agent.close()
    statuses = said["statuses"]
    print(said, len(tokens), "tokens")
    failed = [
        line for line in (tmp_path / "audit.jsonl").read_text().splitlines() if '"failed"' in line
    ]
    assert set(statuses) <= {"200", "500"}, statuses  # 500: a killed agent's open connections
    assert statuses["200"] > 0.8 * rate * seconds, (statuses, failed[-3:])
    assert len(tokens) > 1
