"""The parts of the client of Secrets Manager that no reply of AWS shows: what is read of an answer,
where it may be sent, and when another client is opened."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from botocore import exceptions

from nightporter.core.errors import (
    ConfigError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from nightporter.stores import aws, aws_signing
from nightporter.stores.aws import Connection
from nightporter.stores.aws_errors import NAME

T = 2.0


class Raw:
    """An answer in chunks, which fails at the end where it is told to."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error, self.is_closed = chunks, error, False

    def stream(self, size: int, *, decode_content: bool) -> Any:
        assert (size, decode_content) == (16_384, False)
        yield from self.chunks
        if self.error:
            raise self.error

    def close(self) -> None:
        self.is_closed = True


def sent(raw: Raw) -> Any:
    asked = SimpleNamespace(url="https://a.example", stream_output=False)
    inner = SimpleNamespace(send=lambda _request: SimpleNamespace(raw=raw, _content=None))
    reply = aws._BoundedHttp(inner).send(asked)
    assert asked.stream_output is True
    return reply._content


def test_which_services_there_are_is_told_without_a_look_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of botocore's data and of a user's own (AWS_DATA_PATH); one that isn't there is refused as
    botocore does, with the names of all."""
    own = tmp_path / "inhouse" / "2020-01-01"
    own.mkdir(parents=True)
    (own / "service-2.json").write_text('{"metadata": {}}')
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    listed: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    loader = aws.open_session({}, {}).get_component("data_loader")
    assert loader.load_service_model("secretsmanager", "service-2")["operations"]
    assert loader.load_service_model("inhouse", "service-2") == {"metadata": {}}
    assert len(listed) < 10
    with pytest.raises(exceptions.UnknownServiceError, match=r"'none'\..*inhouse"):
        loader.load_service_model("none", "service-2")
    with pytest.raises(exceptions.UnknownServiceError):
        loader.load_service_model("inhouse", "endpoint-rule-set-1")


def test_an_answer_is_read_to_1_mib() -> None:
    """Whatever its head says, in chunks and still packed."""
    assert sent(Raw(b'{"a"', b": 1}")) == b'{"a": 1}'
    assert len(sent(Raw(b"x" * 1_048_576))) == 1_048_576
    raw = Raw(b"x" * 1_048_576, b"y")
    with pytest.raises(StoreError, match="sent more than 1048576 bytes"):
        sent(raw)
    assert raw.is_closed


def test_bytes_that_are_no_text_are_no_answer_of_aws() -> None:
    """A proxy has packed them, perhaps."""
    with pytest.raises(StoreError, match="bytes that are no text") as caught:
        sent(Raw(b"\x1f\x8b\xff"))
    assert "`endpoint_url`" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (urllib3.exceptions.ReadTimeoutError(None, None, "slow"), exceptions.ReadTimeoutError),  # type: ignore[arg-type]
        (urllib3.exceptions.ProtocolError("broken"), exceptions.HTTPClientError),
    ],
)
def test_an_answer_that_breaks_off_is_botocore_s_error(
    error: Exception, kind: type[Exception]
) -> None:
    """So that it is told as any other."""
    with pytest.raises(kind):
        sent(Raw(b"x", error=error))


@pytest.mark.parametrize(
    ("url", "is_let"),
    [
        ("https://secretsmanager.eu-west-1.amazonaws.com", True),
        ("http://127.0.0.1:5000", True),
        ("http://[::1]:5000", True),
        ("http://localhost:5000", True),
        ("http://a.example", False),
        ("ftp://127.0.0.2.example", False),
    ],
)
def test_plain_http_is_for_loopback_alone(url: str, is_let: bool) -> None:
    """Whatever named the endpoint."""
    client = SimpleNamespace(meta=SimpleNamespace(endpoint_url=url))
    if is_let:
        aws._check_https(client, "it")
        return
    with pytest.raises(ConfigError, match="the endpoint of it must be https"):
        aws._check_https(client, "it")


# The connection.


class Client:
    """One that is closed or not."""

    def __init__(self) -> None:
        self.closed = 0
        self.meta = SimpleNamespace(
            region_name="eu-west-1", endpoint_url="https://s.eu-west-1.amazonaws.com:443"
        )

    def close(self) -> None:
        self.closed += 1


class Opened(Connection):
    """A connection whose clients are counted."""

    def __init__(self, options: Any = None, environment: Any = None) -> None:
        super().__init__(options or {}, environment or {})
        self.clients: list[Client] = []

    def _open(self) -> Any:
        if self._client is None:
            self._client = Client()
            self.clients.append(self._client)
        return self._client


def stale() -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetSecretValue")


def test_credentials_that_have_run_out_are_read_again_once() -> None:
    """A long process takes up what was renewed; a first client had nothing to renew."""
    connection = Opened()
    assert connection.ask("r", "p", lambda _client: 7, timeout_s=T) == 7
    answers: list[Any] = [stale(), 8]

    def call(_client: Client) -> Any:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert connection.ask("r", "p", call, timeout_s=T) == 8
    assert [client.closed for client in connection.clients] == [1, 0]
    answers = [stale(), stale(), 9]
    with pytest.raises(StoreError):
        connection.ask("r", "p", call, timeout_s=T)
    assert answers == [9]
    answers = [stale(), 9]
    with pytest.raises(StoreError):
        Opened().ask("r", "p", call, timeout_s=T)
    assert answers == [9]


def test_what_is_no_matter_of_credentials_is_not_tried_again() -> None:
    """The ways to fail have words of ours; none of a library leaves."""
    connection = Opened()
    connection.ask("r", "p", lambda _client: 7, timeout_s=T)
    calls: list[int] = []

    def denied(_client: Client) -> Any:
        calls.append(1)
        raise exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "X")

    with pytest.raises(StoreDeniedError) as caught:
        connection.ask("secretsmanager:GetSecretValue", "p", denied, timeout_s=T)
    assert caught.value.right == "secretsmanager:GetSecretValue on p"
    assert len(calls) == 1
    own = StoreUnreachableError("ours")

    def ours(_client: Client) -> Any:
        raise own

    with pytest.raises(StoreUnreachableError) as kept:
        connection.ask("r", "p", ours, timeout_s=T)
    assert kept.value is own


def test_a_replaced_ca_file_opens_another_client(tmp_path: Path) -> None:
    """urllib3 would go on trusting the old one; an unchanged file opens none."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("one")
    connection = Opened(environment={"AWS_CA_BUNDLE": str(bundle)})
    for _ in range(2):
        connection.ask("r", "p", lambda _client: 7, timeout_s=T)
    assert len(connection.clients) == 1
    bundle.unlink()
    (tmp_path / "new.pem").write_text("another")
    (tmp_path / "new.pem").rename(bundle)
    for _ in range(2):
        connection.ask("r", "p", lambda _client: 7, timeout_s=T)
    assert [client.closed for client in connection.clients] == [1, 0]


def test_where_it_is_and_as_whom(tmp_path: Path) -> None:
    """Once there is a client; it can be closed and disconnected without one."""
    connection = Opened()
    connection.close()
    connection.disconnect()
    assert connection.whereabouts() == NAME
    connection.ask("r", "p", lambda _client: 7, timeout_s=T)
    assert connection.whereabouts() == (
        f"{NAME} in eu-west-1, s.eu-west-1.amazonaws.com:443, credentials by boto3's chain"
    )
    connection.disconnect()
    connection.close()
    assert connection.clients[0].closed == 2
    role = Opened({"role_arn": "arn:aws:iam::1:role/r"})
    role.ask("r", "p", lambda _client: 7, timeout_s=T)
    assert role.whereabouts().endswith("role arn:aws:iam::1:role/r")


# A request that another service sends.


def test_who_can_not_sign_names_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what AWS calls it; an error of ours stays what it is."""

    def session(error: Exception) -> Any:
        def fails() -> None:
            raise error

        return lambda _options, _environment: SimpleNamespace(get_credentials=fails)

    def sign() -> Any:
        return aws_signing.sign_caller_identity({}, profile=None, region=None, headers={})

    denied = exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "X")
    monkeypatch.setattr(aws_signing, "open_session", session(denied))
    with pytest.raises(StoreDeniedError) as caught:
        sign()
    assert caught.value.right.startswith("sts:GetCallerIdentity on")
    own = ConfigError("ours")
    monkeypatch.setattr(aws_signing, "open_session", session(own))
    with pytest.raises(ConfigError) as kept:
        sign()
    assert kept.value is own
    nobody = SimpleNamespace(get_credentials=lambda: None)
    monkeypatch.setattr(aws_signing, "open_session", lambda _options, _environment: nobody)
    with pytest.raises((StoreError, ConfigError), match="credentials"):
        sign()


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", None, "sts.amazonaws.com"),
        ("aws", "eu-west-1", "sts.eu-west-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
    ],
)
def test_where_a_region_s_sts_is(partition: str, region: str | None, host: str) -> None:
    """The global endpoint without a Region; China has a suffix of its own."""
    assert aws_signing._host(partition, region) == host
    assert aws_signing.BODY == "Action=GetCallerIdentity&Version=2011-06-15"
