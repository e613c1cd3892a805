"""Whatever a user's AWS setup can cause has words, an exit code and a remedy. Each test is named
after the report that it came from."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from lab.patience import patience, within
from lab.servers.strict_aws import AwsError, StrictAws, open_strict_aws
from lab.support import AWS_VARIABLES
from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from nightporter.session.port import ABSENT
from nightporter.stores.aws import Connection
from nightporter.stores.secrets_manager import SecretsManagerStore

pytestmark = pytest.mark.usefixtures("aws_environment")
T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"


class Aws(StrictAws):
    """One that refuses some keys with a code of theirs."""

    refused: dict[str, tuple[str, str]] | None = None

    def call(self, action: str, asked: dict[str, Any], key_id: str) -> dict[str, Any]:
        if key_id in (self.refused or {}):
            code, message = (self.refused or {})[key_id]
            raise AwsError(code, message)
        return super().call(action, asked, key_id)


@pytest.fixture
def aws() -> Aws:
    found = Aws()
    found.refused = {}
    return found


@pytest.fixture
def address(aws: Aws) -> Iterator[str]:
    with open_strict_aws(aws) as address:
        yield address


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own ~/.aws, and nothing of an identity in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def failure(address: str, options: dict[str, str] | None = None, t: float = T) -> NightporterError:
    store = SecretsManagerStore({"endpoint_url": address, **(options or {})}, dict(os.environ))
    try:
        with pytest.raises(NightporterError) as caught:
            store.read(PATH, timeout_s=t)
    finally:
        store.close()
    return caught.value


def key(name: str) -> str:
    return f"[default]\naws_access_key_id = {name}\naws_secret_access_key = hunter2\n"


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"]
)
def test_a_long_process_takes_up_renewed_keys(
    code: str, files: Path, aws: Aws, address: str
) -> None:
    """boto/botocore#704, aws-controllers-k8s/test-infra PR 971: the dead key stayed until the
    restart."""
    (files / "credentials").write_text(key("AKIAOLD"))
    store = SecretsManagerStore({"endpoint_url": address})
    version = store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
    aws.refused = {"AKIAOLD": (code, "")}
    with pytest.raises(StoreDeniedError):  # looked again, and still the dead one
        store.read(PATH, timeout_s=T)
    (files / "credentials").write_text(key("AKIANEW"))
    assert store.read(PATH, timeout_s=T).value == {"n": 1}
    aws.refused = {"AKIANEW": (code, "")}
    (files / "credentials").write_text(key("AKIANEXT"))
    store.write(PATH, {"n": 2}, version, None, timeout_s=T)
    store.close()


def test_a_client_that_is_slow_to_open_is_opened_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with sixty cold starts boto3 needs longer for a client than one call may take:
    each further call waits for the same one, and none of them counts as a try of the store."""
    opened: list[object] = []
    new_client = Connection._new_client

    def slowly(self: Connection) -> object:
        opened.append(self)
        time.sleep(1.0)
        return new_client(self)

    monkeypatch.setattr(Connection, "_new_client", slowly)
    connection = Connection({"endpoint_url": address}, dict(os.environ))
    for _ in range(3):
        with pytest.raises(StoreUnreachableError) as raised:
            connection.ask("right", "path", lambda _client: "asked", timeout_s=0.2)
        assert raised.value.is_unasked
    assert connection.ask("right", "path", lambda _client: "asked", timeout_s=5) == "asked"
    assert len(opened) == 1


@pytest.mark.parametrize("path", ["/nowhere/token", "/etc"])
def test_a_web_identity_token_file_that_is_not_there(
    path: str, files: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto/botocore#2351, ansible/awx#8966: a traceback in botocore."""
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    error = failure(address)
    assert isinstance(error, ConfigError)
    assert path in error.message
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in error.message


def test_a_container_token_file_that_is_not_there(
    files: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EKS Pod Identity without its volume."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere/token")
    error = failure(address)
    assert isinstance(error, ConfigError)
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" in error.message


def test_no_mfa_code_is_asked_for(files: Path, address: str) -> None:
    """kubernetes-sigs/aws-iam-authenticator PR 74, dbcli/athenacli#34: a prompt in the middle of a
    helper. Standard input and terminal belong to the client."""
    (files / "config").write_text(
        "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/ann\n"
        "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = hunter2\n"
    )
    code = (
        "from nightporter.stores.secrets_manager import SecretsManagerStore\n"
        f"store = SecretsManagerStore({{'endpoint_url': {address!r}, 'profile': 'mfa'}})\n"
        "try:\n    store.read('p', timeout_s=8)\n"
        "except Exception as exc:\n    print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="123456\n",
        capture_output=True,
        text=True,
        timeout=patience(30),
        env=dict(os.environ),
    )
    assert done.stdout.startswith("StoreDeniedError")
    assert "MFA code" in done.stdout
    assert done.stderr == ""


def test_an_sso_session_that_has_ended(files: Path, address: str) -> None:
    """boto/boto3#3598, meridianlabs-ai/inspect_flow#602."""
    (files / "config").write_text(
        "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = r\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n"
    )
    error = failure(address, {"profile": "work"})
    assert isinstance(error, StoreDeniedError)
    assert "aws sso login --profile work" in error.hint


def program(directory: Path, text: str) -> Path:
    file = directory / "process"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "echo first >&2; echo 'session expired: run saml2aws login' >&2; exit 1",
            "saml2aws login",
        ),
        ("echo not json", "printed no JSON"),
        ("cat; exit 1", "can't be had"),  # it gets no standard input of ours
    ],
)
def test_a_credential_process_that_fails(text: str, said: str, files: Path, address: str) -> None:
    """saml2aws users, boto/botocore PR 2715: what it said on standard error was lost."""
    file = program(files, text)
    (files / "config").write_text(f"[profile p]\ncredential_process = {file}\n")
    error = failure(address, {"profile": "p"})
    assert isinstance(error, StoreDeniedError)
    assert said in error.message


def test_a_credential_process_that_hangs_costs_no_more_than_the_time_given(
    files: Path, address: str
) -> None:
    """boto3 waits for it without a limit."""
    file = program(files, "exec sleep 4")
    (files / "config").write_text(f"[profile p]\ncredential_process = {file}\n")
    with within(2.5):
        assert isinstance(failure(address, {"profile": "p"}, t=1.0), StoreUnreachableError)


def test_the_time_given_is_obeyed_by_a_silent_endpoint(files: Path) -> None:
    """`--timeout 1` took 13 s, and Bazel kills a helper after 10."""
    (files / "credentials").write_text(key("AKIA"))
    with socket.create_server(("127.0.0.1", 0)) as listener, within(2.5):
        error = failure(f"http://127.0.0.1:{listener.getsockname()[1]}", t=1.0)
    assert isinstance(error, StoreUnreachableError)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestTimeTooSkewed", "The difference between the request time and the current time"),
        ("RequestExpired", ""),
        ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20270101T000000Z is still later"),
    ],
)
def test_a_clock_that_is_off_is_named(
    code: str, message: str, files: Path, aws: Aws, address: str
) -> None:
    """boot2docker/boot2docker#469, boto/botocore#2618: 8 s of retries, and "check the network"."""
    (files / "credentials").write_text(key("AKIAFULL"))
    aws.refused = {"AKIAFULL": (code, message)}
    error = failure(address)
    assert not error.retryable
    assert "clock" in error.message


def test_a_wrong_secret_key_is_not_called_a_clock(files: Path, aws: Aws, address: str) -> None:
    """The same code, with other words."""
    (files / "credentials").write_text(key("AKIAFULL"))
    aws.refused = {"AKIAFULL": ("SignatureDoesNotMatch", "The request signature we calculated")}
    assert "clock" not in failure(address).message


def test_aws_region_counts_before_aws_default_region(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fwdcloudsec/granted#457, 99designs/aws-vault PR 1147: all SDKs but boto3 read AWS_REGION."""
    (files / "credentials").write_text(key("AKIA"))
    for environment, region in (
        ({"AWS_REGION": "eu-west-3"}, "eu-west-3"),
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "us-east-1"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
    ):
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
            if name in environment:
                monkeypatch.setenv(name, environment[name])
        client = SecretsManagerStore({}, environment)._connection._open()
        assert client.meta.region_name == region
        client.close()


@pytest.mark.parametrize(
    ("config", "credentials", "variables"),
    [
        ("this is no file", "", {}),
        ("", "[default]\naws_access_key_id = AKIA\n", {}),
        (
            "[profile a]\nrole_arn = x\nsource_profile = b\n[profile b]\nrole_arn = y\n"
            "source_profile = a\n",
            "",
            {"AWS_PROFILE": "a"},
        ),
        ("", key("AKIA"), {"AWS_RETRY_MODE": "sometimes"}),
        ("", key("AKIA"), {"AWS_REGION": "eu west 1"}),
        ("", key("AKIA"), {"AWS_PROFILE": "nobody"}),
        ("[profile p]\ncredential_process = /nowhere/program\n", "", {"AWS_PROFILE": "p"}),
    ],
)
def test_a_broken_set_up_is_an_error_of_the_configuration(
    config: str,
    credentials: str,
    variables: dict[str, str],
    files: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """99designs/aws-vault: garbage files, partial keys, a role loop, a bad variable: exit 2, no
    class name alone, no empty path."""
    (files / "config").write_text(config)
    (files / "credentials").write_text(credentials)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = failure(address)
    assert isinstance(error, ConfigError), error
    assert not error.message.endswith("for ")


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, EOFError, OSError, UnicodeError])
def test_no_exception_of_a_library_leaves(
    kind: type[Exception], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One translation at the border that has no gaps."""
    store = SecretsManagerStore({"endpoint_url": address})

    def fail(_client: Any) -> None:
        raise kind

    with pytest.raises((StoreError, ConfigError)):
        store._connection.ask("secretsmanager:GetSecretValue", PATH, fail)


def test_a_rotation_token_is_handed_on(aws: Aws, address: str) -> None:
    """PutSecretValue, RotationToken: how a function that assumes a role of another account shows
    that it was called."""
    seen: list[dict[str, Any]] = []
    call = aws.call

    def watch(action: str, asked: dict[str, Any], key_id: str) -> dict[str, Any]:
        seen.append(asked)
        return call(action, asked, key_id)

    aws.call = watch  # type: ignore[method-assign]
    store = SecretsManagerStore({"endpoint_url": address})
    store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
    token = "a" * 64
    store.write_pending(PATH, "b" * 32, {"n": 2}, rotation_token=token)
    assert seen[-1]["RotationToken"] == token
    store.close()


def test_sts_is_asked_by_https_alone(
    files: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers for STS chooses the credentials, and reads the session token of the caller."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example:18497")
    options = {"endpoint_url": address, "role_arn": "arn:aws:iam::123456789012:role/r"}
    with pytest.raises(ConfigError, match="the endpoint of STS must be https"):
        SecretsManagerStore(options, dict(os.environ)).read(PATH, timeout_s=T)


@pytest.mark.parametrize(
    ("variables", "kind", "said"),
    [
        ({"AWS_REGION": "eu-west-9"}, StoreUnreachableError, "its name can't be looked up"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, StoreUnreachableError, "through the proxy"),
        ({"HTTPS_PROXY": "socks5h://127.0.0.1:1"}, ConfigError, "SOCKS"),
    ],
)
def test_a_network_failure_has_words(
    variables: dict[str, str],
    kind: type[NightporterError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was "EndpointConnectionError", and a SOCKS proxy was a network that is away."""

    usual = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return usual(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name, value in {**AWS_VARIABLES, **variables}.items():
        monkeypatch.setenv(name, value)
    store = SecretsManagerStore({}, dict(os.environ))
    with pytest.raises(kind, match=said) as caught:
        store.read(PATH, timeout_s=T)
    assert "Error" not in caught.value.message
    store.close()


@pytest.mark.parametrize("content", [None, "garbage"])
def test_a_ca_bundle_that_can_t_be_loaded(
    content: str | None, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was a network that is away; also where it is replaced under a long process."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    error = failure(address)
    assert isinstance(error, ConfigError)
    assert "AWS_CA_BUNDLE" in error.message


@pytest.mark.parametrize(
    ("variables", "proxies"),
    [
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "11.0.0.0/8"}, "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1"}, "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1", "no_proxy": "10.1.2.3"}, None),
        ({}, None),
    ],
)
def test_proxies_are_those_of_everything_else(
    variables: dict[str, str], proxies: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psf/requests PR 3195 and its kin: an endpoint in one's own network went to the proxy."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    store = SecretsManagerStore({"endpoint_url": "https://10.1.2.3"}, dict(os.environ))
    client = store._connection._open()
    http = client._endpoint.http_session._inner
    chosen = http._proxy_config.proxy_url_for("https://10.1.2.3")
    assert chosen == proxies
    store.close()


def test_a_renewed_ca_bundle_is_taken_up_without_a_restart(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the one that it replaces is trusted no more."""
    right, wrong, bundle = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    right.issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    right.cert_pem.write_to_path(bundle)
    with open_strict_aws(aws, context) as address:
        store = SecretsManagerStore({"endpoint_url": address}, dict(os.environ))
        assert store.read(PATH, timeout_s=T).value is None
        wrong.cert_pem.write_to_path(bundle)
        with pytest.raises(StoreUnreachableError, match="unknown CA"):
            store.read(PATH, timeout_s=T)
        bundle.unlink()
        with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
            store.read(PATH, timeout_s=T)
        right.cert_pem.write_to_path(bundle)
        assert store.read(PATH, timeout_s=T).value is None
        store.close()
