"""Several machines and one store: the same profile in many homes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import boto3

from lab.patience import patience, until
from lab.support import AWS_VARIABLES, ROOT, Done, Home, OpenBao
from lab.worlds.vendor import Vendor
from nightporter.stores.local import LocalStore

STORES = ("local", "vault", "moto")


@dataclass
class Shared:
    """One store: what a configuration says of it, the environment it wants, and an operator's
    view."""

    kind: str
    toml: str
    environment: dict[str, str]
    reader: Any

    def record(self, path: str) -> dict[str, Any]:
        value: dict[str, Any] = self.reader(path)
        return value


class Servers(Protocol):
    def getfixturevalue(self, argname: str) -> Any: ...


@contextlib.contextmanager
def open_shared(kind: str, request: Servers, tmp_path: Path) -> Iterator[Shared]:
    """A store for several machines. `request` is pytest's, or whatever has the servers."""
    if kind == "local":
        place = tmp_path / "shared-store"
        store = LocalStore(str(place))
        toml = f'[stores.shared]\ntype = "local"\npath = "{place}"\n'
        yield Shared(kind, toml, {}, lambda path: store.read(path, timeout_s=5).value)
    elif kind == "vault":
        server: OpenBao = request.getfixturevalue("openbao")
        mount = server.mount()
        server.put(mount, "ready", {"yes": "1"})
        toml = f'[stores.shared]\ntype = "vault"\nmount = "{mount}"\n'
        environment = {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
        yield Shared(
            kind,
            toml,
            environment,
            lambda path: server.call("GET", f"{mount}/data/{path}")["data"]["data"],
        )
    else:
        address = request.getfixturevalue("moto")
        request.getfixturevalue("aws_environment")
        client = boto3.client("secretsmanager", endpoint_url=address)
        prefix = f"t{uuid.uuid4().hex[:8]}/"

        def read(path: str) -> Any:
            reply = client.get_secret_value(SecretId=prefix + path, VersionStage="AWSCURRENT")
            return json.loads(reply["SecretString"])

        toml = (
            '[stores.shared]\ntype = "aws-secrets-manager"\nendpoint_url ='
            f' "{address}"\n#prefix={prefix}\n'
        )
        yield Shared(kind, toml, dict(AWS_VARIABLES), read)


@dataclass
class Fleet:
    """Machines that share one session. `profile_toml` has `{prefix}` where paths begin."""

    shared: Shared
    vendor: Vendor
    root: Path
    profile_toml: str
    homes: list[Home] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return self.shared.toml.partition("#prefix=")[2].strip()

    def machine(self, **environment: str) -> Home:
        home = Home(
            self.root / f"machine-{len(self.homes)}", dict(self.shared.environment) | environment
        )
        home.configure(self.shared.toml + self.profile_toml.replace("{prefix}", self.prefix))
        self.homes.append(home)
        return home

    def record(self) -> dict[str, Any]:
        return self.shared.record("prod/acme/refresh-token")

    def start(
        self, home: Home, *, fault: str = "", force: bool = False, **environment: str
    ) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(ROOT / "tests/lab/worlds/driver.py"),
            "acme",
            *(["--force"] if force else []),
        ]
        return subprocess.Popen(
            command,
            env={**home.environment, "FAULT": fault, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, home: Home, *, fault: str = "", force: bool = False, **environment: str) -> Done:
        return finish(self.start(home, fault=fault, force=force, **environment))

    def is_alive(self) -> bool:
        """Whether the refresh token in the store would still work at the vendor."""
        token = self.record()["refresh_token"]
        return token is not None and self.vendor.world.is_session_alive(token)


def finish(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=patience(120))
    return Done(code=process.returncode, out=out, err=err)


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    def is_stopped() -> bool:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        return state == "T"

    until(is_stopped)


def pitchpoint_profile(address: str, **more: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return (
        '[profiles.acme]\nissuer = "pitchpoint"\ncredentials = "{prefix}prod/acme"\nbase_url ='
        f' "{address}"\n{lines}'
    )


def rotating_profile(address: str, **more: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return (
        '[profiles.acme]\nissuer = "oauth2"\ngrant = "refresh_token"\ncredentials ='
        f' "{{prefix}}prod/acme"\ntoken_endpoint = "{address}/oauth2/token"\nrotation ='
        f' "rotates"\n{lines}'
    )


def set_up(fleet: Fleet, members: Mapping[str, str]) -> Home:
    home = fleet.machine()
    home.set_credentials("acme", **members)
    return home


def signing_in_fleet(shared: Shared, vendor: Vendor, root: Path, **more: Any) -> Fleet:
    """A Pitchpoint session that nobody has started yet."""
    fleet = Fleet(shared, vendor, root, pitchpoint_profile(vendor.address, **more))
    set_up(fleet, {"username": "svc-acme", "password": "correct-horse"})
    return fleet


def rotating_fleet(shared: Shared, vendor: Vendor, root: Path, **more: Any) -> Fleet:
    """A seeded session at an issuer that rotates, and revokes the family when an old token comes
    again."""
    fleet = Fleet(shared, vendor, root, rotating_profile(vendor.address, **more))
    home = set_up(fleet, {"client_id": "demo-client", "client_secret": "demo-secret"})
    done = home.run("seed", "acme", stdin=vendor.world.new_refresh_token())
    assert done.code == 0, done.err
    return fleet
