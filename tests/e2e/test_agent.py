"""`nightporter agent`: tokens over HTTP, by a Unix socket and a loopback port, for nginx too."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.patience import patience
from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.operations import agent as operation

AUTH = {"X-Nightporter-Host": "api.example.com"}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=patience(15))
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(patience(15))
        self.sock.connect(self._path)


class Agent:
    """A running agent of a home."""

    def __init__(self, home: Home, *words: str) -> None:
        self.home = home
        self.directory = Path(tempfile.mkdtemp(prefix="np-"))  # short: a socket's name is
        self.directory.chmod(0o755)
        self.path = str(self.directory / "agent.sock")
        self.words = words
        self.start()

    def start(self) -> None:
        self.process = self.home.start("agent", "--socket", self.path, *self.words)
        assert self.process.stderr is not None
        lines = 1 + ("--port" in self.words)
        self.said = "".join(self.process.stderr.readline() for _ in range(lines))
        assert "listening" in self.said, self.said + self.process.stderr.read()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=patience(20))
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def ask(self, address: str, **headers: str) -> tuple[int, dict[str, str], str]:
        return ask(UnixConnection(self.path), address, headers)

    def ask_port(self, address: str, **headers: str) -> tuple[int, dict[str, str], str]:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said)
        assert found
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=patience(15))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(connection, address, named)


def ask(
    connection: http.client.HTTPConnection, address: str, headers: dict[str, str]
) -> tuple[int, dict[str, str], str]:
    try:
        connection.request("GET", address, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


@contextlib.contextmanager
def running(home: Home, *words: str) -> Iterator[Agent]:
    agent = Agent(home, *words)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.end()
        shutil.rmtree(agent.directory, ignore_errors=True)


@pytest.fixture
def agent_home(home: Home) -> Home:
    home.config_file.write_text(home.config_file.read_text() + 'hosts = ["api.example.com"]\n')
    return home


def test_a_token_as_json_and_as_a_header(agent_home: Home, vendor: Vendor) -> None:
    with running(agent_home) as agent:
        status, headers, body = agent.ask("/v1/token?profile=pitchpoint")
        found = json.loads(body)
        assert (status, found["profile"]) == (200, "pitchpoint")
        assert vendor.world.is_live(found["access_token"])
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        status, headers, body = agent.ask("/v1/auth/pitchpoint", **AUTH)
        assert (status, body) == (200, "")
        assert headers["Authorization"] == f"Bearer {found['access_token']}"
        assert agent.ask("/v1/envoy/pitchpoint/any/path", Host="api.example.com")[0] == 200
        assert agent.ask("/healthz")[0] == 200
        text = agent.ask("/metrics")[2]
        assert 'nightporter_events_total{event="saved",profile="pitchpoint"} 1' in text
        assert found["access_token"] not in text
        assert agent.end() == 0
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("/v1/auth/pitchpoint", {}, 403),
        ("/v1/auth/pitchpoint", {"X-Nightporter-Host": "evil.example"}, 403),
        ("/v1/auth/pitchpoint", {"X-Nightporter-Host": "api.example.com@evil.example"}, 403),
        ("/v1/envoy/pitchpoint/", {"Host": "evil.example"}, 403),
        ("/v1/token?profile=none", {}, 404),
        ("/v1/token?profile=pitchpoint", {"Origin": "https://evil.example"}, 403),
        ("/v1/token?profile=pitchpoint", {"Sec-Fetch-Mode": "no-cors"}, 403),
        ("/v1/token?profile=pitchpoint", {"Sec-Fetch-Site": "same-origin"}, 403),
        (
            "/v1/token?profile=pitchpoint",
            {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"},
            403,
        ),
        ("/v1/token?min_ttl=nan", {}, 400),
        ("/v1/token?min_ttl=x", {}, 400),
        ("/v1/nothing", {}, 404),
        ("/v1/token?" + "x" * 5000, {}, 400),
    ],
)
def test_what_is_not_answered(
    agent_home: Home, address: str, headers: dict[str, str], status: int
) -> None:
    with running(agent_home) as agent:
        found = agent.ask(address, **headers)
        assert (found[0], "access_token" in found[2]) == (status, False)
        assert "Authorization" not in found[1]


def test_the_port_wants_the_token_file_and_no_other_name(agent_home: Home) -> None:
    file = agent_home.path / "agent.token"
    words = ("--port", "0", "--token-file", str(file))
    with running(agent_home, *words) as agent:
        assert file.stat().st_mode & 0o777 == 0o600
        proof = file.read_text().strip()
        address = "/v1/token?profile=pitchpoint"
        assert agent.ask_port(address)[0] == 401
        assert agent.ask_port(address, X_Nightporter_Token="wrong")[0] == 401
        assert agent.ask_port(address, X_Nightporter_Token=proof)[0] == 200
        assert agent.ask_port(address, X_Nightporter_Token=proof, Host="evil.example")[0] == 403
        assert agent.ask_port("/metrics")[0] == 401
    file.chmod(0o644)
    assert agent_home.run("agent", "--socket", f"{agent_home.path}/s", *words).code == 2
    assert agent_home.run("agent", "--port", "0").code == 2


ASK_AS = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b"GET /v1/token?profile=pitchpoint HTTP/1.0\\r\\n\\r\\n")
print(s.recv(100).split()[1].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("rule", "answer"), [("", ""), ('["daemon"]', "403"), ('["65534"]', "200")]
)
def test_another_user_gets_what_the_profile_says(agent_home: Home, rule: str, answer: str) -> None:
    if rule:
        text = agent_home.config_file.read_text()
        agent_home.config_file.write_text(f"{text}agent_users = {rule}\n")
    with running(agent_home) as agent:
        done = subprocess.run(
            [sys.executable, "-I", "-c", ASK_AS, agent.path], capture_output=True, text=True
        )
        assert done.stdout.strip() == answer
        assert bool(rule) or "PermissionError" in done.stderr


def test_a_second_agent_leaves_the_first_alone_and_a_killed_one_costs_nothing(
    agent_home: Home, vendor: Vendor
) -> None:
    with running(agent_home) as agent:
        assert agent_home.run("agent", "--socket", agent.path).code == 2
        assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
        for _ in range(2):
            agent.end(signal.SIGKILL)
            agent.start()
            assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
    assert vendor.count("sign-in") == 1


def test_a_half_request_and_many_at_a_time_hold_nobody_up(agent_home: Home) -> None:
    with running(agent_home) as agent:
        idle = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for each in idle:
            each.connect(agent.path)
            each.sendall(b"GET /v1/tok")
        assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
        for each in idle:
            each.close()


def test_systemd_hands_the_socket_over(agent_home: Home, tmp_path: Path) -> None:
    """As sd_listen_fds(3) has it: descriptor 3, LISTEN_FDS and LISTEN_PID."""
    path = tempfile.mkdtemp(prefix="np-")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}/s")
    listener.listen()
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.executable, [sys.executable, '-m', 'nightporter', 'agent'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(listener.fileno())],
        env=agent_home.environment,
        pass_fds=[listener.fileno()],
    )
    try:
        status, _, _ = ask(UnixConnection(f"{path}/s"), "/v1/token?profile=pitchpoint", {})
        assert status == 200
    finally:
        process.terminate()
        assert process.wait(timeout=patience(20)) == 0
        listener.close()
        shutil.rmtree(path)


def raw(agent: Agent, content: bytes) -> bytes:
    """What the agent answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(agent.path)
        with contextlib.suppress(OSError):  # it may have closed before all was sent
            connection.sendall(content)
        found = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65_536):
                found += piece
        return found


ASKED = b"GET /v1/token?profile=pitchpoint HTTP/1.1\r\nHost: localhost\r\n"


def test_what_comes_behind_a_request_is_no_other_request(agent_home: Home) -> None:
    """Whatever length or coding the first one claims (RFC 9112, section 11.2)."""
    with running(agent_home) as agent:
        for header in (b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"):
            answer = raw(agent, ASKED + header + b"\r\n" + b"0\r\n\r\n" + ASKED + b"\r\n")
            assert answer.count(b"HTTP/1.") == 1
            assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Nightporter-Host: api.example.com\r\nX-Nightporter-Host: evil.example\r\n",
        b"X-Nightporter-Host: api.example.com\r\n evil.example\r\n",
        b"Host: api.example.com\r\nX-Nightporter-Host: api.example.com\r\n",
    ],
)
def test_a_header_that_two_programs_read_in_two_ways_is_refused(
    agent_home: Home, lines: bytes
) -> None:
    with running(agent_home) as agent:
        head = b"GET /v1/auth/pitchpoint HTTP/1.1\r\nHost: localhost\r\n"
        answer = raw(agent, head + lines + b"\r\n")
        assert answer.startswith(b"HTTP/1.0 400"), answer
        assert b"Authorization" not in answer


def test_a_request_is_bounded_in_bytes_and_in_time(
    agent_home: Home,
) -> None:
    """A head without an end is closed, and one that drips in is cut off as a whole."""
    with running(agent_home) as agent:
        assert raw(agent, ASKED + b"X: y\r\n" * 10_000) == b""
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(agent.path)
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 25:
                    slow.sendall(b"G")
                    time.sleep(0.5)
        assert 9 < time.monotonic() - began < 20


def test_more_than_are_answered_at_a_time_wait_and_are_answered(agent_home: Home) -> None:
    with running(agent_home) as agent:
        assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
        held = [socket.socket(socket.AF_UNIX) for _ in range(140)]
        for each in held:
            each.connect(agent.path)
        assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
        for each in held:
            each.close()


def test_no_token_is_in_what_the_agent_writes(agent_home: Home, vendor: Vendor) -> None:
    """Standard error, the audit log, its metrics."""
    log = agent_home.path / "audit.jsonl"
    agent_home.environment["NIGHTPORTER_LOG"] = str(log)
    with running(agent_home, "-v") as agent:
        agent.ask("/v1/token?profile=pitchpoint")
        agent.ask("/v1/auth/pitchpoint", **AUTH)
        vendor.world.revoke_all()
        said = agent.ask("/metrics")[2] + log.read_text()
        agent.process.send_signal(signal.SIGTERM)
        said += agent.process.communicate(timeout=patience(20))[1]
        agent.start()
    assert '"event": "served"' in said
    assert not any(token in said for token in vendor.world.access_tokens)


def test_the_kernel_of_macos_names_the_peer() -> None:
    """`struct xucred` (sys/ucred.h): its version, then the uid; there is no macOS in our tests."""
    asked: list[tuple[int, int, int]] = []

    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            asked.append((level, option, size))
            return struct.pack("IIh16I", 0, 501, 1, 20, *[0] * 15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert operation.peer_uid(Connection()) == 501  # type: ignore[arg-type]  # a fake
    assert asked == [(0, 1, 76)]


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_is_a_port(agent_home: Home, port: str) -> None:
    done = agent_home.run("agent", "--port", port, "--token-file", f"{agent_home.path}/t")
    assert (done.code, "--port" in done.err) == (2, True)


def test_two_agents_on_two_hosts_make_one_refresh(tmp_path: Path, vendor: Vendor) -> None:
    """Each has a home of its own; the store is all that they share."""
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    for home in homes:
        home.configure(
            f'[stores.shared]\ntype = "local"\npath = "{tmp_path}/store"\n'
            '[profiles.acme]\nissuer = "oauth2"\ngrant = "authorization_code"\nstore = "shared"\n'
            f'base_url = "{vendor.address}"\ntoken_endpoint = "{vendor.address}/oauth2/token"\n'
            'credentials = "prod/acme"\nrotation = "rotates"\nshare_access_token = true\n'
        )
    homes[0].set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    token = vendor.world.new_refresh_token()
    assert homes[0].run("seed", "acme", stdin=token).code == 0
    vendor.world.latency_s = 0.3
    with running(homes[0]) as first, running(homes[1]) as second, ThreadPoolExecutor(8) as pool:
        agents = [first, second] * 4
        found = list(pool.map(lambda agent: agent.ask("/v1/token?profile=acme"), agents))
    assert [status for status, _, _ in found] == [200] * 8
    assert len({json.loads(body)["access_token"] for _, _, body in found}) == 1
    assert vendor.count("refresh") == 1


def test_killed_at_any_moment_an_agent_costs_nothing(agent_home: Home, vendor: Vendor) -> None:
    """Before, during and after an exchange: the next agent goes on with the same session."""
    with running(agent_home) as agent:
        assert agent.ask("/v1/token?profile=pitchpoint")[0] == 200
        vendor.world.expires_in, vendor.world.latency_s = 1, 0.3
        for delay_s in (0.0, 0.02, 0.1, 0.2, 0.3, 0.35, 0.5):
            agent_home.drop_cache()
            agent.end(signal.SIGKILL)
            agent.start()
            asking = threading.Thread(target=ask_anyhow, args=(agent,))
            asking.start()
            time.sleep(delay_s)
            agent.end(signal.SIGKILL)
            asking.join()
            agent.start()
            status, _, body = agent.ask("/v1/token?profile=pitchpoint")
            assert status == 200, (delay_s, body)
            assert json.loads(body)["access_token"] in vendor.world.access_tokens
    assert vendor.count("sign-in") == 1


def ask_anyhow(agent: Agent) -> None:
    """Asks an agent that may be killed meanwhile."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        agent.ask("/v1/token?profile=pitchpoint")


ENVOY_CHECK = (
    b"GET /v1/envoy/pitchpoint/orders?id=7 HTTP/1.1\r\nhost: %b\r\ncontent-length: 0\r\n"
    b"authorization: Bearer forged\r\nx-envoy-internal: true\r\n"
    b"x-envoy-expected-rq-timeout-ms: 1000\r\nx-forwarded-for: 10.0.0.1\r\n\r\n"
)


@pytest.mark.parametrize(
    ("host", "status"),
    [(b"api.example.com", 200), (b"api.example.com:443", 200), (b"evil.example", 403)],
)
def test_envoy_s_check_is_answered_as_its_documentation_has_it(
    agent_home: Home, vendor: Vendor, host: bytes, status: int
) -> None:
    """`ext_authz` over HTTP: the request's method, path behind `path_prefix` and host; 200 lets it
    pass with `authorization` (`allowed_upstream_headers`), all else denies. A real Envoy is in
    test_agent_envoy.py."""
    with running(agent_home) as agent:
        head, _, body = raw(agent, ENVOY_CHECK % host).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert int(lines[0].split()[1]) == status
    found = [line for line in lines if line.startswith("Authorization: ")]
    if status == 200:
        (line,) = found
        assert vendor.world.is_live(line.removeprefix("Authorization: Bearer "))
        assert body == b""
    else:
        assert found == []
