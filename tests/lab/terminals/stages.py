"""The machines on which the transcripts of the documents are run: an empty home, and the world
around it.

Names of the documents (api.pointservices.com, kube.example.com, ...) lead to real programs and
small servers here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from lab.clients import PLACE, VENV, client, git_backend
from lab.servers.internet import Internet, open_internet
from lab.servers.runtime_api import open_function
from lab.servers.tls import Call, Reply, open_guarded
from lab.support import AWS_VARIABLES, BIN, ROOT, Home, OpenBao
from lab.worlds.vendor import Vendor

CREDENTIALS = {"username": "svc-acme", "password": "correct-horse"}
CONFIG = """
[profiles.pitchpoint]
issuer = "pitchpoint"
credentials = "prod/pitchpoint"
hosts = [{hosts}]
"""
APP = """\
import nightporter
import requests

auth = nightporter.BearerAuth("pitchpoint")

def handler(event, context):
    return requests.get("https://orders.example.com/v1/orders", auth=auth, timeout=10).json()
"""
APP_CONFIG = """\
[stores.aws]
type = "aws-secrets-manager"

[profiles.pitchpoint]
issuer = "pitchpoint"
credentials = "prod/pitchpoint"
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
LAMBDA_PYTHON = PLACE / "lambda-python3.13/bin/python"


@dataclass
class World:
    """What there is to build a stage from. `openbao` and `moto` start their servers when they are
    called."""

    directory: Path
    vendor: Vendor
    openbao: Callable[[], OpenBao]
    moto: Callable[[], str]

    @contextlib.contextmanager
    def guarded(self, answers: Mapping[str, Any], **more: Any) -> Iterator[int]:
        """The port of a server that takes only the vendor's tokens."""
        is_live = self.vendor.world.is_live
        with open_guarded(
            self.directory, is_live=is_live, answers=answers, is_plain=True, **more
        ) as server:
            yield server.port

    @contextlib.contextmanager
    def home(self, places: Mapping[str, int], **variables: str) -> Iterator[tuple[Home, Internet]]:
        """A home whose way out leads to these places, with our commands on PATH as pipx would put
        them there."""
        there = {"api.pointservices.com:443": _port(self.vendor.address), **places}
        with open_internet(self.directory, there) as internet:
            home = Home(self.directory / "home", {**internet.environment, **variables})
            commands = home.path / ".local/bin"
            commands.mkdir(parents=True)
            for program in BIN.glob("*nightporter"):
                (commands / program.name).symlink_to(program)
            for program in (BIN / "kubectl", VENV / "aws", VENV / "http"):
                if program.exists():
                    (commands / program.name).symlink_to(program)
            home.environment["PATH"] = f"{commands}:/usr/local/bin:/usr/bin:/bin"
            home.environment["USER"] = "anna"
            yield home, internet


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def kubectl(world: World) -> Iterator[Home]:
    """A cluster behind kube.example.com:6443, in the kubeconfig, without a user."""
    answers = {
        "/apis/authentication.k8s.io/v1/selfsubjectreviews": {
            "kind": "SelfSubjectReview",
            "apiVersion": "authentication.k8s.io/v1",
            "status": {"userInfo": {"username": "svc-acme", "groups": ["system:authenticated"]}},
        }
    }
    with (
        world.guarded(answers) as port,
        world.home({"kube.example.com:6443": port}) as (home, internet),
    ):
        for words in (
            ("set-cluster", "prod", "--server=https://kube.example.com:6443"),
            ("set", "clusters.prod.certificate-authority", str(internet.ca_file)),
            ("set-context", "prod", "--cluster=prod"),
            ("use-context", "prod"),
        ):
            subprocess.run(
                [BIN / "kubectl", "config", *words],
                env=home.environment,
                check=True,
                capture_output=True,
            )
        yield home


@contextlib.contextmanager
def git(world: World) -> Iterator[Home]:
    """A git server at git.example.com; the profile is there already, its host is not."""
    program = client("git")
    served = world.directory / "served"
    repository = served / "acme/orders.git"
    work = world.directory / "work"
    commit = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.com",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "first",
    )
    for words in (
        ("init", "-q", "--bare", "-b", "main", str(repository)),
        ("init", "-q", "-b", "main", str(work)),
        ("-C", str(work), *commit),
        ("-C", str(work), "push", "-q", str(repository), "main"),
    ):
        subprocess.run([program, *words], check=True, capture_output=True)
    challenges = ('Basic realm="git"', 'Bearer realm="git"')
    with world.guarded({"/*": git_backend(served)}, challenges=challenges) as port:
        with world.home({"git.example.com:443": port}) as (home, _):
            home.environment |= {
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_PAGER": "cat",
            }
            yield home


@contextlib.contextmanager
def _emptied(bao: OpenBao) -> Iterator[None]:
    """The server is shared with the next stage, which finds no session."""
    try:
        yield
    finally:
        bao.call("DELETE", "secret/metadata/prod/pitchpoint/refresh-token")


@contextlib.contextmanager
def vault_admin(world: World) -> Iterator[Home]:
    """An administrator of an empty Vault, at the machine that is to be set up."""
    bao = world.openbao()
    for path in ("sys/auth/approle", "sys/mounts/team"):  # another stage has made them
        bao.call("DELETE", path)
    with world.home({"vault.example.com:8200": _port(bao.address)}) as (home, _):
        (home.path / ".local/bin/vault").symlink_to(BIN / "bao")
        home.environment |= {
            "VAULT_ADDR": "https://vault.example.com:8200",
            "VAULT_TOKEN": bao.token,
        }
        (home.path / "account.json").write_text(json.dumps(CREDENTIALS) + "\n")
        (home.path / "profile").write_text(
            "--store vault --store-set mount=team --credentials prod/pitchpoint"
            " --set publish_access_token=prod/pitchpoint/access\n"
        )
        yield home


@contextlib.contextmanager
def vault_reader(world: World) -> Iterator[Home]:
    """The same administrator, after the scheduled job has run."""
    with vault_admin(world) as home:
        bao = world.openbao()
        bao.call("POST", "sys/mounts/team", {"type": "kv", "options": {"version": "2"}})
        bao.put("team", "prod/pitchpoint", CREDENTIALS)
        bao.call("POST", "sys/auth/approle", {"type": "approle"})
        words = (home.path / "profile").read_text().split()
        done = home.run("init", "--issuer", "pitchpoint", *words)
        assert done.code == 0, done.err
        assert home.run("rotate", "--access").code == 0
        home.config_file.unlink()
        home.drop_cache()
        yield home


@contextlib.contextmanager
def aws(world: World) -> Iterator[Home]:
    """An account of AWS, as far as moto plays it, whose functions run by AWS's own runtime
    client."""
    if not LAMBDA_PYTHON.exists():
        pytest.skip("Lambda's runtime is not installed; ./scripts/clients installs it")
    moto = _port(world.moto())
    amazon = "eu-west-1.amazonaws.com:443"
    with (
        world.guarded({"/v1/orders": {"orders": [4711]}}) as orders,
        contextlib.ExitStack() as stack,
    ):
        running: dict[str, Any] = {}

        def invoke(call: Call) -> Reply:
            environment = home.environment
            if "run" not in running:
                running["run"] = stack.enter_context(_function(world.directory, moto, environment))
            outcome = running["run"].invoke(json.loads(call.body or b"{}"))
            error = {} if outcome.kind == "response" else {"X-Amz-Function-Error": "Unhandled"}
            return Reply(json.dumps(outcome.body).encode(), kind="application/json", headers=error)

        functions = {"/2015-03-31/functions/orders/invocations": invoke, "/*": _forward(moto)}
        with open_guarded(
            world.directory, is_live=lambda _: True, answers=functions, is_plain=True
        ) as front:
            services = {f"{name}.{amazon}": moto for name in ("secretsmanager", "sts")}
            services["iam.amazonaws.com:443"] = moto
            places = {"orders.example.com:443": orders, f"lambda.{amazon}": front.port, **services}
            with world.home(places, **AWS_VARIABLES) as (home, _):
                home.environment["AWS_PAGER"] = ""
                files = {
                    "app.py": APP,
                    "nightporter.toml": APP_CONFIG,
                    "account.json": json.dumps(CREDENTIALS) + "\n",
                    "trust.json": json.dumps(TRUST) + "\n",
                }
                for name, content in files.items():
                    (home.path / name).write_text(content)
                (home.path / "nightporter").symlink_to(ROOT)
                subprocess.run([ROOT / "scripts/build-layer"], check=True, capture_output=True)
                yield home


def _forward(port: int) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        dropped = ("connection", "content-length", "transfer-encoding", "expect")
        headers = {name: value for name, value in call.headers.items() if name not in dropped}
        query = f"?{call.query}" if call.query else ""
        connection.request(call.method, f"{call.path}{query}", body=call.body, headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        return Reply(
            body, status=reply.status, kind=reply.getheader("Content-Type", "application/json")
        )

    return answer


def _amazon(service: str, moto: int) -> Any:
    identity = {
        "aws_access_key_id": "AKIAFULL",
        "aws_secret_access_key": "x",
        "region_name": "eu-west-1",
    }
    return boto3.client(service, endpoint_url=f"http://127.0.0.1:{moto}", **identity)


@contextlib.contextmanager
def _function(directory: Path, moto: int, environment: Mapping[str, str]) -> Iterator[Any]:
    """The function `orders` as it was made: its code, its layer, its variables."""
    found = _amazon("lambda", moto).get_function_configuration(FunctionName="orders")
    variables = found["Environment"]["Variables"]
    (layer_arn,) = (layer["Arn"] for layer in found["Layers"])
    assert layer_arn.endswith("layer:nightporter:1")
    layer, task = directory / "opt", directory / "task"
    with zipfile.ZipFile(ROOT / "dist/nightporter-layer.zip") as archive:
        archive.extractall(layer)
    with zipfile.ZipFile(directory / "home/app.zip") as archive:
        archive.extractall(task)
    kept = {
        name: value
        for name, value in environment.items()
        if name.startswith("AWS_") or "PROXY" in name.upper()
    }
    trusted = {
        name: environment[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
    }
    with open_function(
        LAMBDA_PYTHON, task, layer, None, {**kept, **trusted, **variables}
    ) as running:
        yield running


@contextlib.contextmanager
def laptop(world: World) -> Iterator[Home]:
    """A configured laptop without credentials, and a server that takes the token at
    orders.example.com."""
    with world.guarded({"/v1/orders": {"orders": [4711]}}) as port:
        with world.home({"orders.example.com:443": port}) as (home, _):
            home.configure(CONFIG.format(hosts='"orders.example.com", "reg.example.com"'))
            home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
            yield home


@contextlib.contextmanager
def signed_in(world: World) -> Iterator[Home]:
    """The same with credentials, and docker set up, whose last ask failed, since the password was
    another one then."""
    with laptop(world) as home:
        home.set_credentials(**CREDENTIALS)
        home.run("setup", "docker", "pitchpoint")
        users, world.vendor.world.users = world.vendor.world.users, {}
        helper = home.path / ".local/bin/docker-credential-nightporter"
        subprocess.run(
            [helper, "get"], env=home.environment, input=b"reg.example.com", capture_output=True
        )
        world.vendor.world.users = users
        home.set_credentials(**CREDENTIALS)
        yield home


@contextlib.contextmanager
def two_stores(world: World) -> Iterator[Home]:
    """A laptop that is to move from the embedded store to Vault."""
    bao = world.openbao()
    with world.home({"vault.example.com:8200": _port(bao.address)}, VAULT_TOKEN=bao.token) as (
        home,
        _,
    ):
        home.configure(CONFIG.format(hosts=""))
        home.set_credentials(**CREDENTIALS)
        assert home.run("token").code == 0
        store = '[stores.vault]\ntype = "vault"\naddress = "https://vault.example.com:8200"\n'
        (home.path / "vault.toml").write_text(store + CONFIG.format(hosts=""))
        with _emptied(bao):
            yield home


@contextlib.contextmanager
def secrets_manager(world: World) -> Iterator[Home]:
    """A laptop whose profile is in Secrets Manager. Nothing asks it."""
    with world.home({}) as (home, _):
        home.configure('[stores.prod]\ntype = "aws-secrets-manager"\n' + CONFIG.format(hosts=""))
        yield home


@contextlib.contextmanager
def refused(world: World) -> Iterator[Home]:
    """A laptop with a password that has been changed at the vendor."""
    with laptop(world) as home:
        home.set_credentials(username="svc-acme", password="last-year's")
        yield home


@contextlib.contextmanager
def clone(world: World) -> Iterator[Home]:
    """A clone of this repository, set up; with an ordinary way out."""
    home = Home(world.directory / "home")
    home.environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    subprocess.run([ROOT / "scripts/setup", "--core"], check=True, capture_output=True)
    try:
        yield home
    finally:
        subprocess.run([ROOT / "scripts/demo", "--end"], check=True)


STAGES: Mapping[str, Callable[[World], Any]] = {
    "kubectl": kubectl,
    "git": git,
    "vault-admin": vault_admin,
    "vault-reader": vault_reader,
    "lambda": aws,
    "laptop": laptop,
    "signed-in": signed_in,
    "refused": refused,
    "two-stores": two_stores,
    "secrets-manager": secrets_manager,
    "clone": clone,
}
