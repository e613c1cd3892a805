"""Accounts of AWS, as far as moto plays them, whose functions are run by AWS's own runtime client:
made by hand with the AWS CLI, and made by the real Terraform."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from lab.clients import PLACE, client
from lab.clones import clone_of_two
from lab.servers.runtime_api import Environment, open_function
from lab.servers.tls import Call, Reply, open_guarded, token_of
from lab.support import AWS_VARIABLES, ROOT, Home
from lab.terminals.world import CREDENTIALS, World, port_of

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
TRUSTED = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
LAMBDA_PYTHON = PLACE / "lambda-python3.13/bin/python"


@dataclass
class Functions:
    """Functions of an account as they were made: their code, their layer, their variables. Each
    runs from its first invocation on, and again after it was changed.

    `dist`: where the zips are from which they were made; what runs is found by its digest, as AWS
    tells it.
    """

    directory: Path
    dist: Path
    moto: int
    outside: Mapping[str, str]  # what a function's network is here
    stack: contextlib.ExitStack
    running: dict[tuple[str, ...], Environment] = field(default_factory=dict)

    def answer(self, call: Call) -> Reply:
        """The invocation of Lambda's API."""
        name = call.path.split("/")[3]
        outcome = self._environment(name).invoke(json.loads(call.body or b"{}"))
        error = {} if outcome.kind == "response" else {"X-Amz-Function-Error": "Unhandled"}
        return Reply(json.dumps(outcome.body).encode(), kind="application/json", headers=error)

    def _environment(self, name: str) -> Environment:
        with contextlib.closing(ask("lambda", self.moto, self.outside["AWS_REGION"])) as aws:
            found = aws.get_function_configuration(FunctionName=name)
            (arn,) = (layer["Arn"] for layer in found["Layers"])
            layer_name, _, version = arn.rpartition(":")
            made = aws.get_layer_version(LayerName=layer_name, VersionNumber=int(version))
        layer = made["Content"]["CodeSha256"]
        key = (name, found["CodeSha256"], layer)
        if key not in self.running:
            place = self.directory / f"functions/{len(self.running)}"
            for digest, part in ((found["CodeSha256"], "task"), (layer, "opt")):
                with zipfile.ZipFile(self._zip(digest)) as archive:
                    archive.extractall(place / part)
            variables = {
                **self.outside,
                **found["Environment"]["Variables"],
                "AWS_LAMBDA_FUNCTION_NAME": name,
            }
            opened = open_function(
                LAMBDA_PYTHON, place / "task", place / "opt", None, variables, found["Handler"]
            )
            self.running[key] = self.stack.enter_context(opened)
        return self.running[key]

    def _zip(self, digest: str) -> Path:
        for file in self.dist.glob("*.zip"):
            if base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode() == digest:
                return file
        raise AssertionError(f"nothing in {self.dist} is what the function was made of")


@contextlib.contextmanager
def _account(
    world: World, region: str, dist: Path, places: Mapping[str, int]
) -> Iterator[tuple[Home, Functions]]:
    """A home with an identity of an account, whose functions can be invoked."""
    if not LAMBDA_PYTHON.exists():
        pytest.skip("Lambda's runtime is not installed; ./scripts/clients installs it")
    moto = port_of(world.moto())
    with contextlib.ExitStack() as stack:
        functions = Functions(world.directory, dist, moto, {}, stack)

        def invoke(call: Call) -> Reply:
            is_invocation = call.path.endswith("/invocations")
            return functions.answer(call) if is_invocation else forward(moto)(call)

        front = stack.enter_context(
            open_guarded(
                world.directory,
                is_live=lambda _: True,
                answers={"/*": invoke},
                is_plain=True,
            )
        )
        services = {
            f"{name}.{region}.amazonaws.com:443": moto for name in ("secretsmanager", "sts")
        }
        there = {
            "iam.amazonaws.com:443": moto,
            f"lambda.{region}.amazonaws.com:443": front.port,
            **services,
            **places,
        }
        identity = {**AWS_VARIABLES, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
        with world.home(there, **identity) as (home, _):
            home.environment["AWS_PAGER"] = ""
            functions.outside = {
                name: value
                for name, value in home.environment.items()
                if name.startswith("AWS_") or "PROXY" in name.upper() or name in TRUSTED
            }
            yield home, functions


@contextlib.contextmanager
def by_hand(world: World) -> Iterator[Home]:
    """An empty account, and a machine with the AWS CLI and the built layer."""
    with (
        world.guarded({"/v1/orders": {"orders": [4711]}}) as orders,
        _account(
            world, "eu-west-1", world.directory / "dist", {"orders.example.com:443": orders}
        ) as (home, functions),
    ):
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
        functions.dist.mkdir()
        (functions.dist / "nightporter-layer.zip").symlink_to(ROOT / "dist/nightporter-layer.zip")
        (functions.dist / "app.zip").symlink_to(home.path / "app.zip")
        yield home


@contextlib.contextmanager
def by_terraform(world: World) -> Iterator[Home]:
    """A clone of two revisions in an empty account of AWS. Terraform's provider is a stand-in that
    knows the real schemas and makes things at moto."""
    client("terraform")
    clone, region = world.directory / "home/nightporter", "us-east-1"
    clone_of_two(clone)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    vendor = port_of(world.vendor.address)

    def orders(call: Call) -> Reply:
        is_live = world.vendor.world.is_live(token_of(call.headers.get("authorization", "")))
        return Reply(b'{"orders": [4711]}' if is_live else b"{}", status=200 if is_live else 401)

    answers = {"/v1/orders": orders, "/*": forward(vendor)}
    with (
        open_guarded(
            world.directory, is_live=lambda _: True, answers=answers, is_plain=True
        ) as api,
        _account(world, region, clone / "dist", {"api.pointservices.com:443": api.port}) as (
            home,
            _,
        ),
        _providers(clone, world.moto()) as provided,
    ):
        wheels = _wheels(world.directory)
        home.environment |= {**provided, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        home.environment["TF_CLI_ARGS"] = "-no-color"
        yield home


def _wheels(directory: Path) -> Path:
    """What the layer is built from: a home of these tests has no way to an index."""
    place = directory / "wheels"
    place.mkdir()
    code = "import layer, sys; layer.fetch_wheels(layer.PACKAGES, layer.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(place)]
    subprocess.run(command, cwd=ROOT / "scripts", check=True, capture_output=True)
    return place


@contextlib.contextmanager
def _providers(clone: Path, moto: str) -> Iterator[Mapping[str, str]]:
    """What Terraform must find in its environment to use the stand-in of its AWS provider."""
    place = clone / "terraform/examples/aws"
    command = [
        client("python"),
        str(ROOT / "tests/lab/servers/offline_providers.py"),
        str(PLACE / "providers"),
        str(place),
        str(clone / "terraform/modules/aws"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "MOTO_ADDRESS": moto}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        found: dict[str, str] = json.loads(process.stdout.readline())
        del found["TF_DATA_DIR"]  # the example's own directory
        yield found
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


def forward(port: int) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        dropped = ("connection", "content-length", "transfer-encoding", "expect")
        headers = {name: value for name, value in call.headers.items() if name not in dropped}
        query = f"?{call.query}" if call.query else ""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        ) as connection:
            connection.request(call.method, f"{call.path}{query}", body=call.body, headers=headers)
            reply = connection.getresponse()
            body, kind = reply.read(), reply.getheader("Content-Type", "application/json")
        return Reply(body, status=reply.status, kind=kind)

    return answer


def ask(service: str, moto: int, region: str) -> Any:
    """A client of the account, past every name and certificate."""
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{moto}",
        aws_access_key_id="AKIAFULL",
        aws_secret_access_key="x",
        region_name=region,
    )
