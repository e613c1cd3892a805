"""Handlers and logins in a program that hears everything: Secrets Manager's rotation, a login by
the browser, the extension of Lambda with a collector of metrics."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from lab.browsers import HEAD
from lab.heard import PROGRAM, Heard
from lab.patience import patience, until
from lab.servers.collector import open_collector
from lab.servers.runtime_api import RuntimeApi
from lab.support import AWS_VARIABLES, Home, free_port
from lab.worlds.vendor import Vendor

PASSWORD = "correct-horse"
STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


@pytest.fixture
def heard(empty_home: Home) -> Heard:
    return Heard(empty_home)


def rotation_of(client: Any, path: str) -> tuple[str, str]:
    """As Secrets Manager leaves a secret before it calls the function. The ARN, the version."""
    version = f"{time.monotonic_ns():032d}"
    client.create_secret(Name=path, SecretString='{"schema": 0}')
    with contextlib.suppress(client.exceptions.ResourceNotFoundException):  # of the function
        client.rotate_secret(
            SecretId=path,
            ClientRequestToken=version,
            RotationLambdaARN="arn:aws:lambda:eu-west-1:123456789012:function:np",
            RotationRules={"AutomaticallyAfterDays": 1},
        )
    return client.describe_secret(SecretId=path)["ARN"], version


def test_secrets_manager_s_rotation(
    heard: Heard, vendor: Vendor, moto: str, aws_environment: None
) -> None:
    """All four steps, as a function whose log level is DEBUG runs them: standard error is in
    CloudWatch too."""
    path = f"prod/{time.monotonic_ns()}"
    client = boto3.client("secretsmanager", endpoint_url=moto)
    secret = {"username": "svc-acme", "password": PASSWORD}
    client.create_secret(Name=path, SecretString=json.dumps(secret))
    arn, version = rotation_of(client, f"{path}/refresh-token")
    client.close()
    heard.home.environment |= {
        **AWS_VARIABLES,
        "NIGHTPORTER_CACHE": "off",
        "NIGHTPORTER_CONFIG_TOML": (
            f'[stores.prod]\ntype = "aws-secrets-manager"\nendpoint_url = "{moto}"\n'
            f'[profiles.p]\nissuer = "pitchpoint"\nstore = "prod"\ncredentials = "{path}"\n'
            f'base_url = "{vendor.address}"\n'
        ),
    }
    events = [{"Step": s, "SecretId": arn, "ClientRequestToken": version} for s in STEPS]
    heard.run(*(["rotation", json.dumps(event)] for event in events))
    assert "'did': 'finished'" in heard.text
    heard.text += heard.err
    tokens = [*vendor.world.refresh_tokens, *vendor.world.access_tokens]
    assert len(tokens) >= 3
    heard.holds_none_of(PASSWORD, AWS_VARIABLES["AWS_SECRET_ACCESS_KEY"], *tokens)


ARRIVE = """
page = opener.open(address).read().decode()
target = html.unescape(re.search('id="allow" href="([^"]+)"', page)[1])
open("arrived", "w").write(target)
opener.open(target).read()
"""


def test_a_login_by_the_browser(heard: Heard, vendor: Vendor) -> None:
    """Neither tokens nor what could be exchanged for them: the code and the state, which the local
    server that is redirected to could log."""
    home = heard.home
    home.configure(
        f'[profiles.acme]\nissuer = "entra"\ntenant = "t"\nbase_url = "{vendor.address}"\n'
        'credentials = "prod/acme"\nscopes = "api offline_access"\n'
    )
    home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    browser = home.path / "browser"
    browser.write_text(HEAD + f"import os\nos.chdir({str(home.path)!r})\n" + ARRIVE)
    browser.chmod(0o755)
    home.environment["BROWSER"] = f"{browser} %s"
    heard.run(["login", "acme"], ["get_token", "acme"])
    query = parse_qs(urlsplit((home.path / "arrived").read_text()).query)
    assert vendor.count("refresh") >= 1, heard.err
    heard.holds_none_of(*query["state"])  # standard error has it, in the address to open
    heard.text += heard.err
    tokens = [*vendor.world.refresh_tokens, *vendor.world.access_tokens]
    heard.holds_none_of("demo-secret", *query["code"], *tokens)


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with RuntimeApi() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.extension_events.put({"eventType": "SHUTDOWN"})
        server.shutdown()


def asked(port: int, proof: str) -> int:
    """The status of an answer; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience(20))
    with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", "/v1/token", headers={"X-Nightporter-Token": proof})
        return connection.getresponse().status
    return 0


def test_the_extension_and_its_collector(heard: Heard, vendor: Vendor, api: RuntimeApi) -> None:
    """The function's session token, and the key in the collector's headers."""
    port, proof, key = free_port(), "session-token-of-the-function", "key-of-the-collector"
    heard.home.configure(
        f'[profiles.acme]\nissuer = "oauth2"\ntoken_endpoint = "{vendor.address}/oauth2/token"\n'
        'credentials = "prod/acme"\ngrant = "client_credentials"\n'
    )
    heard.home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    with open_collector() as collector:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(heard.file), json.dumps([["extension"]])],
            env={
                **heard.home.environment,
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "AWS_LAMBDA_FUNCTION_NAME": "orders",
                "AWS_SESSION_TOKEN": proof,
                "NIGHTPORTER_EXTENSION_PORT": str(port),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
                "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={key}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: asked(port, proof))
        ends_ms = int((time.time() + patience(60)) * 1000)
        api.extension_events.put({"eventType": "INVOKE", "deadlineMs": ends_ms})
        until(lambda: asked(port, proof) == 200)
        api.extension_events.put({"eventType": "SHUTDOWN", "shutdownReason": "spindown"})
        out, _ = process.communicate(timeout=patience(30))
        assert collector.requests, out
        assert [headers for _, headers, _ in collector.requests if key in headers.values()]
    heard.text = out + (heard.file.read_text() if Path(heard.file).exists() else "")
    heard.holds_none_of(proof, key, "demo-secret", *vendor.world.access_tokens)
