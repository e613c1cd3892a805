"""Every exception of boto3 and every error code that AWS documents has a meaning of its own: none
leaves as a defect, and a person is told what to do."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import string
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3.exceptions
import botocore
import botocore.exceptions
import botocore.parsers
import pytest
from botocore.loaders import Loader

from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
)
from nightporter.session.port import ABSENT, Version
from nightporter.stores.aws_errors import NotFoundError, Setup, error_of
from nightporter.stores.secrets_manager import SecretsManagerStore

SETUP = Setup(options={}, environment={"AWS_PROFILE": "work"})
RIGHT = "secretsmanager:GetSecretValue"
PATH = "prod/pitchpoint/refresh-token"


def classes() -> list[type[Exception]]:
    found = [
        kind
        for module in (botocore.exceptions, boto3.exceptions)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]
    return [*dict.fromkeys(found), botocore.parsers.ResponseParserError]


def example(kind: type[Exception]) -> Exception:
    """An instance with something in each place of its text."""
    if issubclass(kind, botocore.exceptions.ClientError):
        return kind({"Error": {"Code": "Odd", "Message": ""}}, "GetSecretValue")
    names = [name for _, name, _, _ in string.Formatter().parse(getattr(kind, "fmt", "")) if name]
    members = {name.split(".")[0]: "something" for name in names}
    sets: tuple[dict[str, Any], ...] = (members, {}, {"last_response": {}})
    for count in range(4):
        for given in sets:
            with contextlib.suppress(TypeError):
                return kind(*["text"] * count, **given)
    raise AssertionError(kind)


# What is left has to do with other services, or with calls that we never make.
ELSEWHERE = re.compile(
    "S3|Dynamo|DynanmoDB|Outpost|Stub|Waiter|Warning|Paginat|Pageable|Crt|Resource|Expression|"
    "Retries|Range|UnknownKey|APIVersion|NoVersionFound|AwsChunked|Capacity|"
    "BotoCoreError$|Boto3Error$|ClientError$|EventStreamError$"
)


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_exception_of_boto3_is_translated(kind: type[Exception]) -> None:
    """By class: a setup, credentials or the network; what is retried is the network's alone."""
    error = error_of(example(kind), right=RIGHT, path=PATH, setup=SETUP)
    assert error.exit_code in (2, 5)
    assert error.message
    assert error.hint
    is_known = not ELSEWHERE.search(kind.__name__)
    if is_known:
        assert type(error) in (ConfigError, StoreDeniedError, StoreUnreachableError), error
    if error.retryable and is_known:
        network = (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError)
        words = ("Checksum", "Stream", "Parser", "Incomplete")
        assert issubclass(kind, network) or any(word in kind.__name__ for word in words)


@pytest.mark.parametrize(
    ("name", "members", "remedy"),
    [
        ("LoginRefreshRequired", {}, "aws login --profile work"),
        ("LoginTokenLoadError", {"error_msg": ""}, "aws login --profile work"),
        ("SSOTokenLoadError", {"error_msg": ""}, "aws sso login --profile work"),
        ("UnauthorizedSSOTokenError", {}, "aws sso login --profile work"),
        ("CredentialRetrievalError", {"provider": "container-role", "error_msg": ""}, "EKS"),
        ("CredentialRetrievalError", {"provider": "custom-process", "error_msg": ""}, "by hand"),
        ("CredentialRetrievalError", {"provider": "sso", "error_msg": ""}, "aws sso login"),
        ("CredentialRetrievalError", {"provider": "Ec2", "error_msg": ""}, "get-caller-identity"),
        ("NoCredentialsError", {}, "AWS_PROFILE"),
        ("MissingDependencyException", {"msg": "needs botocore[crt]"}, "botocore[crt]"),
        ("UnknownRegionError", {"region_name": "", "error_msg": ""}, "AWS_REGION"),
        ("DataNotFoundError", {"data_path": ""}, "--upgrade boto3"),
        ("ParamValidationError", {"report": ""}, "path of the secret"),
    ],
)
def test_the_remedy_is_that_of_the_case(name: str, members: dict[str, str], remedy: str) -> None:
    """A credential_process was named to who has none."""
    kind = getattr(botocore.exceptions, name, None)
    if kind is None:
        pytest.skip(f"botocore {botocore.__version__} has no {name}")
    error = error_of(kind(**members), right=RIGHT, path=PATH, setup=SETUP)
    assert remedy in error.hint
    assert getattr(error, "right", "") == ""  # else doctor would answer with a policy


def codes() -> list[tuple[str, str]]:
    """Every error code of the services that are asked, with an operation of each."""
    services = {
        "secretsmanager": "GetSecretValue",
        "sts": "AssumeRole",
        "sso": "GetRoleCredentials",
        "sso-oidc": "CreateToken",
        "signin": "CreateOAuth2Token",
    }
    common = (
        *("AccessDeniedException", "ExpiredTokenException", "IncompleteSignature"),
        *("InternalFailure", "MalformedHttpRequestException", "NotAuthorized", "OptInRequired"),
        *("RequestAbortedException", "RequestEntityTooLargeException", "RequestExpired"),
        *("RequestTimeoutException", "ServiceUnavailable", "ThrottlingException"),
        *("UnrecognizedClientException", "UnknownOperationException", "ValidationError"),
    )
    found = [("GetSecretValue", code) for code in common]
    known = Loader().list_available_services("service-2")  # an old botocore knows no `signin`
    for service, operation in services.items():
        if service not in known:
            continue
        shapes = Loader().load_service_model(service, "service-2")["shapes"]
        for name, shape in shapes.items():
            if shape.get("exception"):
                found.append((operation, (shape.get("error") or {}).get("code") or name))
    return found


@pytest.mark.parametrize(("operation", "code"), codes())
def test_every_documented_error_code_is_decided(operation: str, code: str) -> None:
    """None is left to what an unknown code gets, but that of a service that isn't this one."""
    response = {"Error": {"Code": code, "Message": ""}}
    error = error_of(
        botocore.exceptions.ClientError(response, operation), right=RIGHT, path=PATH, setup=SETUP
    )
    assert error.exit_code == 5
    assert (type(error) is StoreError) == (code == "UnknownOperationException")
    passing = ("Internal", "Unavailable", "Aborted", "Timeout", "IDPCommunication", "NotFound")
    is_passing = isinstance(error, StoreBusyError) or any(word in code for word in passing)
    if operation not in ("GetRoleCredentials", "CreateToken", "CreateOAuth2Token"):
        assert error.retryable == is_passing, error


@pytest.mark.parametrize(
    ("operation", "code", "message", "said"),
    [
        ("AssumeRole", "AccessDenied", "", "sts:AssumeRole"),
        ("AssumeRoleWithWebIdentity", "AccessDenied", "", "trust policy"),
        ("AssumeRoleWithWebIdentity", "ExpiredTokenException", "", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ("AssumeRoleWithWebIdentity", "InvalidIdentityToken", "", "audience"),
        ("GetRoleCredentials", "ForbiddenException", "No access", "aws sso login"),
        ("GetSecretValue", "ExpiredTokenException", "", "get-caller-identity"),
        (
            "GetSecretValue",
            "AccessDeniedException",
            "is not authorized with an explicit deny in a service control policy",
            "service control policy forbids",
        ),
        (
            "GetSecretValue",
            "AccessDeniedException",
            "is not authorized with an explicit deny in a VPC endpoint policy",
            "VPC endpoint policy forbids",
        ),
        ("GetSecretValue", "AccessDeniedException", "no identity-based policy", RIGHT),
    ],
)
def test_a_refusal_names_who_can_lift_it(
    operation: str, code: str, message: str, said: str
) -> None:
    """A grant doesn't help against an explicit deny, nor a policy of secrets against STS."""
    exc = botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)
    error = error_of(exc, right=RIGHT, path=PATH, setup=SETUP)
    assert isinstance(error, StoreDeniedError)
    assert said in f"{error.message} {error.hint}"


@pytest.fixture
def page() -> Iterator[tuple[str, dict[str, Any]]]:
    """An endpoint that is no Secrets Manager: `told` is what it answers."""
    told: dict[str, Any] = {"status": 200, "body": b"<html>sign in to the guest network</html>"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(told["status"])
            self.send_header("Content-Type", told.get("type", "text/html"))
            self.send_header("Content-Length", str(len(told["body"])))
            self.end_headers()
            self.wfile.write(told["body"])

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", told
        server.shutdown()
        thread.join()


BODIES = [
    b"<html>no</html>",
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b'{"VersionId": 7, "SecretString": 7}',
    b"[" * 5000,
]
PAGES = [(200, body) for body in BODIES] + [
    (status, b"<html>no</html>") for status in (301, 400, 403, 404, 407, 413, 429, 500, 502, 503)
]


@pytest.mark.usefixtures("aws_environment")
@pytest.mark.parametrize(("status", "body"), PAGES, ids=range(len(PAGES)))
def test_an_endpoint_that_is_no_secrets_manager(
    status: int, body: bytes, page: tuple[str, dict[str, Any]]
) -> None:
    """A captive portal, a WAF, another service: words and an exit code for each call, never a
    defect, and above all no write that counts as done."""
    address, told = page
    told.update(status=status, body=body)
    store = SecretsManagerStore({"endpoint_url": address})
    calls = (
        lambda: store.read(PATH, timeout_s=5),
        lambda: store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=5),
        lambda: store.write(PATH, {"n": 1}, Version("a" * 32), None, timeout_s=5),
    )
    for call in calls:
        with pytest.raises(NightporterError) as caught:
            call()
        assert caught.value.exit_code in (2, 5)
        assert not isinstance(caught.value, (NotFoundError, StoreValueError))
    store.close()


@pytest.mark.usefixtures("aws_environment")
def test_a_byte_order_mark_is_skipped_in_every_version(page: tuple[str, dict[str, Any]]) -> None:
    """A pending version, too, may have been written by a person on Windows."""
    address, told = page
    body = {"Name": "n", "VersionId": "v" * 32, "SecretString": '\ufeff{"password": "p"}'}
    told.update(type="application/x-amz-json-1.1", body=json.dumps(body).encode())
    store = SecretsManagerStore({"endpoint_url": address})
    assert store.read(PATH, timeout_s=5).value == {"password": "p"}
    assert store.read_version(PATH, "v" * 32) == {"password": "p"}
    store.close()
