"""A program whose root logger takes everything gets no secret from our calls, and keeps the logs of
its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys

import boto3
import pytest

from lab.patience import patience
from lab.support import AWS_VARIABLES, Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor

PASSWORD = "correct-horse"
CREDENTIALS = {"username": "svc-acme", "password": PASSWORD}
PROGRAM = """
import logging, sys
logging.basicConfig(level=1, stream=sys.stderr)
from nightporter import aws_lambda, get_token
from nightporter.core.errors import NightporterError

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

get_token("pitchpoint")
get_token("pitchpoint", force_refresh=True)
aws_lambda.rotate_handler({}, Context())
try:
    get_token("missing")
except NightporterError:
    pass
"""
OWN_CALL = """
import boto3, logging, os, sys
logging.basicConfig(level=1, stream=sys.stderr)
from nightporter import get_token
get_token("pitchpoint")
client = boto3.client("secretsmanager", endpoint_url=os.environ["OWN_ENDPOINT"])
client.get_secret_value(SecretId=os.environ["OWN_SECRET"])
"""
MISSING = """
[profiles.missing]
issuer = "pitchpoint"
credentials = "prod/missing"
base_url = "{address}"
"""


def run(home: Home, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**home.environment, **variables},
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


@pytest.fixture(params=["local", "vault", "aws"])
def world(
    request: pytest.FixtureRequest, empty_home: Home, vendor: Vendor, aws_environment: None
) -> Home:
    """A home whose one store is of this type."""
    home, kind = empty_home, request.param
    store = 'type = "local"'
    if kind == "vault":
        openbao: OpenBao = request.getfixturevalue("openbao")
        mount = openbao.mount()
        openbao.put(mount, "prod/pitchpoint", CREDENTIALS)
        store = f'type = "vault"\naddress = "{openbao.address}"\nmount = "{mount}"'
        home.environment["VAULT_TOKEN"] = openbao.token
    path = "prod/pitchpoint"
    if kind == "aws":
        moto: str = request.getfixturevalue("moto")
        path = f"prod/{secrets.token_hex(4)}"
        client = boto3.client("secretsmanager", endpoint_url=moto)
        client.create_secret(Name=path, SecretString=json.dumps(CREDENTIALS))
        store = f'type = "aws-secrets-manager"\nendpoint_url = "{moto}"'
        home.environment |= {**AWS_VARIABLES, "OWN_ENDPOINT": moto, "OWN_SECRET": path}
    text = pitchpoint_config(vendor.address, stores=f"[stores.s]\n{store}")
    text = text.replace("prod/pitchpoint", path) + MISSING.format(address=vendor.address)
    home.configure(text)
    if kind == "local":
        home.set_credentials(**CREDENTIALS)
    return home


def test_no_secret_is_in_the_logs_of_libraries(world: Home, vendor: Vendor) -> None:
    done = run(world, PROGRAM)
    assert len(vendor.world.refresh_tokens) >= 1, done.stderr
    found = [PASSWORD, *vendor.world.refresh_tokens, *vendor.world.access_tokens]
    found += [value for name, value in world.environment.items() if name == "VAULT_TOKEN"]
    said = done.stdout + done.stderr
    assert [secret for secret in found if secret in said] == []


@pytest.mark.parametrize("world", ["aws"], indirect=True)
def test_the_program_s_own_calls_keep_their_logs(world: Home) -> None:
    done = run(world, OWN_CALL)
    assert done.returncode == 0, done.stderr
    assert "DEBUG:botocore.parsers" in done.stderr
    assert done.stderr.count(PASSWORD) >= 1  # of its own call, after ours
