"""What the tests share: real servers on loopback, the real command, small worlds."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import unittest.mock
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.patience import patience
from nightporter import Porter
from nightporter.machine.reply_writer import SETTLED_S
from nightporter.operations import account

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(
    process: subprocess.Popen[bytes], port: int, *, log: Path | None = None
) -> None:
    """Waits until the server takes connections on loopback. Fails with the end of its log where it
    ends before, or takes longer than a minute."""
    deadline = time.monotonic() + patience(60)
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return
        said = log.read_text()[-2000:] if log is not None and log.exists() else ""
        assert process.poll() is None, f"{process.args!r} did not start: {said}"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen: {said}"
        time.sleep(0.05)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that would redirect a client: proxies, CA bundles, cloud
    identities."""
    dirty = (
        *(
            "AWS_",
            "VAULT_",
            "BAO_",
            "NIGHTPORTER_",
            "XDG_",
            "KUBE",
            "SSL_CERT",
            "REQUESTS_CA",
            "CURL_CA",
            "GIT_",
        ),
        *("TF_", "CARGO", "DOCKER_", "NPM_", "npm_", "PIP_", "UV_", "GO", "GOOGLE_", "NODE_"),
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dirty) and not name.lower().endswith("_proxy")
    }
    return {**kept, **more}


@contextlib.contextmanager
def _shown_errors() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as exc:
        exc.add_note(exc.read().decode(errors="replace"))
        exc.close()  # Python 3.14 warns of what its collector must close
        raise


@dataclass
class OpenBao:
    """A real OpenBao server in memory, with an operator's hand on it."""

    address: str
    token: str
    ca_cert: str | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        namespace: str = "",
    ) -> Any:
        """One API request; the JSON answer, {} for none."""
        import ssl

        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "X-Vault-Token": token or self.token,
                **({"X-Vault-Namespace": namespace} if namespace else {}),
            },
        )
        context = ssl.create_default_context(cafile=self.ca_cert) if self.ca_cert else None
        with (
            _shown_errors(),
            urllib.request.urlopen(request, timeout=patience(10), context=context) as reply,
        ):
            content = reply.read()
        return json.loads(content) if content else {}

    def mount(self, version: int = 2, **config: Any) -> str:
        """A KV mount of its own for one test."""
        name = f"kv-{secrets.token_hex(4)}"
        self.call(
            "POST",
            f"sys/mounts/{name}",
            {"type": "kv", "options": {"version": str(version)}, **config},
        )
        return name

    def put(self, mount: str, path: str, value: Mapping[str, Any]) -> None:
        for _ in range(200):  # 400 while a new mount is being upgraded, 500 during an election
            try:
                self.call("POST", f"{mount}/data/{path}", {"data": value})
            except urllib.error.HTTPError as exc:
                if exc.code not in (400, 500):
                    raise
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the mount never became ready")

    def metadata(self, mount: str, path: str) -> Any:
        return self.call("GET", f"{mount}/metadata/{path}")["data"]

    def token_with(self, policy: str) -> str:
        """A token with exactly this policy (and the default one)."""
        name = f"p-{secrets.token_hex(4)}"
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        return str(
            self.call("POST", "auth/token/create", {"policies": [name]})["auth"]["client_token"]
        )


@contextlib.contextmanager
def open_openbao(*, tls: bool = False) -> Iterator[OpenBao]:
    token = f"root-{secrets.token_hex(8)}"
    for _ in range(5):
        port = free_port()
        command = [
            str(BIN / "bao"),
            "server",
            "-dev-tls" if tls else "-dev",
            f"-dev-root-token-id={token}",
            f"-dev-listen-address=127.0.0.1:{port}",
            "-dev-no-store-token",
        ]
        process = subprocess.Popen(
            command,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        ca_cert, said = None, ""
        deadline = time.monotonic() + patience(20)
        while time.monotonic() < deadline and process.poll() is None:
            line = process.stdout.readline()
            said += line
            if "VAULT_CACERT=" in line or "BAO_CACERT=" in line:
                ca_cert = line.split("=", 1)[1].strip().strip("'\"")
            if "Development mode should NOT" in line:
                break
        if process.poll() is None:
            break
    else:
        raise AssertionError(f"OpenBao did not start: {said}")
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    reader.start()
    try:
        scheme = "https" if tls else "http"
        yield OpenBao(address=f"{scheme}://127.0.0.1:{port}", token=token, ca_cert=ca_cert)
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


@contextlib.contextmanager
def open_moto() -> Iterator[str]:
    """moto's server in a process of its own; yields its address."""
    port = free_port()
    command = [sys.executable, str(ROOT / "tests/lab/servers/motoserver.py"), str(port)]
    process = subprocess.Popen(
        command,
        env=clean_environment(MOTO_IAM_LOAD_MANAGED_POLICIES="true"),  # AWS's own policies
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


AWS_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AKIAFULL",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def as_a_user() -> tuple[str, ...]:
    """What is put before a command so that permissions of files hold, as they do for every user:
    root, as whom tests may run, can otherwise write everywhere."""
    if os.geteuid() != 0:
        return ()
    powers = "-dac_override,-dac_read_search,-fowner"
    return ("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}")


def _content(file: Path) -> bytes:
    """What is in a file of /proc; nothing where its process is gone."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@dataclass
class Home:
    """An empty home of its own, in which the real command runs. `before`: words before it, such as
    `as_a_user()`."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.environment = clean_environment(HOME=str(self.path), **self.environment)

    @property
    def config_file(self) -> Path:
        return self.path / ".config/nightporter/config.toml"

    @property
    def cache(self) -> Path:
        return self.path / ".cache/nightporter"

    @property
    def data(self) -> Path:
        return self.path / ".local/share/nightporter"

    def configure(self, text: str) -> None:
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(text)

    def run(self, *args: str, stdin: str | None = None, **variables: str) -> Done:
        """Runs `nightporter` to its end. Without `stdin` its standard input is the null device."""
        done = subprocess.run(
            [*self.before, str(BIN / "nightporter"), *args],
            env={**self.environment, **variables},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=patience(90),
            cwd=self.path,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(self, *args: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / "nightporter"), *args],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set_credentials(self, profile: str = "pitchpoint", **members: str) -> None:
        """What `credentials set` does. In this process where the store is the embedded one: half of
        all tests begin with it, and a process of its own costs a fifth of a second."""
        if "[stores." in self.config_file.read_text():
            done = self.run("credentials", "set", profile, stdin=json.dumps(members))
            assert done.code == 0, done.err
            return
        with (
            unittest.mock.patch.dict(os.environ, self.environment, clear=True),
            Porter(is_library=False) as porter,
        ):
            broker = porter.broker_for(profile)
            account.set_credentials(broker, members, patience(30), lambda _text: None)
        time.sleep(SETTLED_S * 1.5)  # else no reply would be left of what was written just now

    def processes(self) -> list[Path]:
        """The directories in /proc of the living processes that have this home."""
        wanted = f"HOME={self.path}".encode()
        return [
            each
            for each in Path("/proc").glob("[0-9]*")
            if wanted in _content(each / "environ").split(b"\0")
        ]

    def told_to_processes(self) -> str:
        """The arguments and the environment of each process that has this home."""
        files = [each / name for each in self.processes() for name in ("cmdline", "environ")]
        return "\n".join(_content(file).replace(b"\0", b" ").decode() for file in files)

    def drop_cache(self) -> None:
        for file in self.cache.glob("*"):
            file.unlink()

    def cached(self) -> list[Path]:
        return sorted(self.cache.glob("*.token"))

    def record_file(self) -> Path:
        return self.data / "prod%2Fpitchpoint%2Frefresh-token.json"

    def record(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.record_file().read_text())["value"]
        return value

    def set_record(self, **members: Any) -> None:
        document = json.loads(self.record_file().read_text())
        document["version"] += 1
        document["value"].update(members)
        self.record_file().write_text(json.dumps(document))


@dataclass
class Done:
    code: int
    out: str
    err: str


def pitchpoint_config(address: str, *, more: str = "", stores: str = "") -> str:
    return f"""
{stores}
[profiles.pitchpoint]
issuer = "pitchpoint"
credentials = "prod/pitchpoint"
base_url = "{address}"
{more}
"""


def words_left(context: Any) -> list[str]:
    """What a group's context leaves for its command: click 8.1 and 8.2 name it differently."""
    told = vars(context)
    return [*told.get("_protected_args", told.get("protected_args", [])), *context.args]
