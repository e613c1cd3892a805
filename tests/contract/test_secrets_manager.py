"""Secrets Manager's own ways: labels, tombstones, ARNs, deletion windows, KMS, throttling, late
visibility."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from lab.patience import patience
from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import free_port
from nightporter.core.errors import (
    ConfigError,
    StoreBusyError,
    StoreDeniedError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.record import Unreadable
from nightporter.session.port import ABSENT
from nightporter.stores.secrets_manager import SecretsManagerStore, derived_id

pytestmark = pytest.mark.usefixtures("aws_environment")
T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"


@pytest.fixture
def aws() -> StrictAws:
    return StrictAws()


@pytest.fixture
def address(aws: StrictAws) -> Iterator[str]:
    with open_strict_aws(aws) as address:
        yield address


@pytest.fixture
def store(address: str) -> Iterator[SecretsManagerStore]:
    store = SecretsManagerStore({"endpoint_url": address})
    yield store
    store.close()


def raw_client(address: str) -> Any:
    return boto3.client("secretsmanager", endpoint_url=address)


def write(store: SecretsManagerStore, value: dict[str, Any], expected: Any = ABSENT) -> Any:
    return store.write(PATH, value, expected, None, timeout_s=T)


def test_the_id_of_a_write_is_derived_from_its_parent(store: SecretsManagerStore) -> None:
    first = write(store, {"n": 1})
    assert first.token == derived_id(PATH)
    assert write(store, {"n": 2}, first).token == derived_id(first.token)
    assert uuid.UUID(first.token).version == 5


def test_the_same_bytes_again_are_the_same_success(store: SecretsManagerStore) -> None:
    """After a timeout one repeats the call: an earlier success of one's own comes back as
    success."""
    first = write(store, {"n": 1})
    second = write(store, {"n": 2}, first)
    assert write(store, {"n": 2}, first) == second
    with pytest.raises(VersionConflictError):
        write(store, {"n": 3}, first)


def test_a_writer_that_slept_through_two_generations_is_fenced(store: SecretsManagerStore) -> None:
    first = write(store, {"n": 1})
    second = write(store, {"n": 2}, first)
    write(store, {"n": 3}, second)
    with pytest.raises(VersionConflictError):
        write(store, {"n": "late"}, first)
    assert store.read(PATH, timeout_s=T).value == {"n": 3}


def test_a_secret_without_a_value(store: SecretsManagerStore, aws: StrictAws) -> None:
    """Terraform makes such."""
    aws.do_create_secret({"Name": PATH})
    seen = store.read(PATH, timeout_s=T)
    assert seen.value is None
    assert seen.version != ABSENT
    write(store, {"n": 1}, seen.version)
    with pytest.raises(VersionConflictError):
        write(store, {"n": 2}, seen.version)
    assert store.read(PATH, timeout_s=T).value == {"n": 1}


def test_a_deletion_is_a_tombstone_without_a_previous_value(
    store: SecretsManagerStore, address: str
) -> None:
    version = write(store, {"refresh_token": "r", "generation": 4})
    store.delete(PATH, version, timeout_s=T)
    gone = store.read(PATH, timeout_s=T)
    assert (gone.value, gone.version.floor) == (None, 4)
    client = raw_client(address)
    stored = json.loads(
        client.get_secret_value(SecretId=PATH, VersionStage="AWSCURRENT")["SecretString"]
    )
    assert stored["refresh_token"] is None
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_secret_value(SecretId=PATH, VersionStage="AWSPREVIOUS")


def test_one_that_is_marked_for_deletion(store: SecretsManagerStore, address: str) -> None:
    write(store, {"n": 1})
    raw_client(address).delete_secret(SecretId=PATH)
    for call in (lambda: store.read(PATH, timeout_s=T), lambda: write(store, {"n": 2})):
        with pytest.raises(StoreValueError, match="marked for deletion") as marked:
            call()
        assert "restore-secret" in marked.value.hint


def test_an_arn_as_a_path(store: SecretsManagerStore, address: str) -> None:
    write(store, {"username": "u"})
    arn = f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{PATH}-AbCdEf"
    assert store.read(arn, timeout_s=T).value == {"username": "u"}


def test_an_arn_on_moto(moto: str) -> None:
    name = f"arn/{uuid.uuid4()}"
    arn = raw_client(moto).create_secret(Name=name, SecretString='{"username": "u"}')["ARN"]
    assert SecretsManagerStore({"endpoint_url": moto}).read(arn, timeout_s=T).value == {
        "username": "u"
    }


def test_a_value_that_is_no_object(store: SecretsManagerStore, address: str) -> None:
    raw_client(address).create_secret(Name=PATH, SecretString="just a password")
    seen = store.read(PATH, timeout_s=T)
    assert isinstance(seen.value, Unreadable)
    assert "just a password" not in seen.value.reason
    write(store, {"n": 1}, seen.version)


def test_kms_rights_are_named(store: SecretsManagerStore, aws: StrictAws) -> None:
    """The message names what is missing on the key, the hint what to type."""
    write(store, {"n": 1})
    aws.secrets[PATH].kms_key_id = "alias/locked"
    aws.denied_keys.add("alias/locked")
    with pytest.raises(StoreDeniedError, match="KMS") as denied:
        store.read(PATH, timeout_s=T)
    assert "kms:Decrypt" in denied.value.message
    assert "kms_key_id" in denied.value.hint


def test_a_missing_right_is_named(store: SecretsManagerStore, aws: StrictAws) -> None:
    aws.policies["AKIAFULL"] = {("GetSecretValue", ".*")}
    assert store.read(PATH, timeout_s=T).value is None
    with pytest.raises(StoreDeniedError) as denied:
        write(store, {"n": 1})
    assert denied.value.right == f"secretsmanager:CreateSecret on {PATH}"


def test_the_kms_key_of_a_new_secret(address: str, aws: StrictAws) -> None:
    store = SecretsManagerStore({"endpoint_url": address, "kms_key_id": "alias/ours"})
    write(store, {"n": 1})
    assert aws.secrets[PATH].kms_key_id == "alias/ours"


def test_throttled(store: SecretsManagerStore, aws: StrictAws) -> None:
    first = write(store, {"n": 1})
    aws.writes_per_second = 0
    with pytest.raises(StoreBusyError) as busy:
        write(store, {"n": 2}, first)
    assert busy.value.retryable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalServiceError", StoreUnreachableError),
        ("ExpiredTokenException", StoreDeniedError),
        ("UnrecognizedClientException", StoreDeniedError),
        ("LimitExceededException", StoreValueError),
        ("EncryptionFailure", StoreDeniedError),
        ("SomethingNew", StoreUnreachableError),
    ],
)
def test_other_answers(
    store: SecretsManagerStore, aws: StrictAws, code: str, kind: type[Exception]
) -> None:
    aws.faults.append(code)
    with pytest.raises(kind):
        write(store, {"n": 1})


def test_away() -> None:
    store = SecretsManagerStore({"endpoint_url": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(StoreUnreachableError):
        store.read(PATH, timeout_s=T)


def test_no_region_and_no_credentials(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreDeniedError, match="credentials"):
        SecretsManagerStore({"endpoint_url": address}).read(PATH, timeout_s=T)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigError, match="no AWS Region"):
        SecretsManagerStore({}).read(PATH, timeout_s=T)
    with pytest.raises(ConfigError, match="no AWS profile 'nobody'"):
        SecretsManagerStore({"profile": "nobody"}).read(PATH, timeout_s=T)


def test_plain_http_from_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws.example")
    with pytest.raises(ConfigError, match="https"):
        SecretsManagerStore({}).read(PATH, timeout_s=T)


def test_a_role_is_assumed(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    store = SecretsManagerStore({"role_arn": "arn:aws:iam::123456789012:role/porter"})
    name = f"role/{uuid.uuid4()}"
    store.write(name, {"n": 1}, ABSENT, None, timeout_s=T)
    assert store.read(name, timeout_s=T).value == {"n": 1}
    assert store._connection._client._request_signer._credentials.access_key != "AKIAFULL"


def test_pruned_versions_do_not_let_an_old_writer_in_within_a_day(
    store: SecretsManagerStore, aws: StrictAws
) -> None:
    """Versions beyond 100 are pruned, but never one under 24 hours old: a claim lives 15
    seconds."""
    first = write(store, {"n": 0})
    version = first
    for number in range(1, 110):
        version = write(store, {"n": number}, version)
    with pytest.raises(VersionConflictError):
        write(store, {"n": "late"}, first)


def test_an_expired_value_keeps_its_generation_as_the_floor(store: SecretsManagerStore) -> None:
    write(store, {"generation": 41, "expires_at": format_rfc3339(time.time() - 1)})
    seen = store.read(PATH, timeout_s=T)
    assert (seen.value, seen.version.floor) == (None, 41)


def test_a_sweep_takes_the_former_session_out_of_sight(
    store: SecretsManagerStore, address: str
) -> None:
    first = write(store, {"refresh_token": "old", "generation": 1})
    write(store, {"refresh_token": "new", "generation": 2}, first)
    client = raw_client(address)
    assert (
        "old" in client.get_secret_value(SecretId=PATH, VersionStage="AWSPREVIOUS")["SecretString"]
    )
    assert store.sweep(PATH, timeout_s=T)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_secret_value(SecretId=PATH, VersionStage="AWSPREVIOUS")
    assert store.read(PATH, timeout_s=T).value == {"refresh_token": "new", "generation": 2}
    assert not store.sweep(PATH, timeout_s=T)


def test_a_secret_of_a_person_is_deleted_with_a_recovery_window(moto: str) -> None:
    """`credentials delete` tells how to bring it back; a secret that isn't there is no error."""
    name = f"account-{uuid.uuid4().hex}"
    raw_client(moto).create_secret(Name=name, SecretString='{"username": "u"}')
    store = SecretsManagerStore({"endpoint_url": moto})
    assert "restore-secret" in store.remove(name, timeout_s=T)
    assert "DeletedDate" in raw_client(moto).describe_secret(SecretId=name)
    assert store.remove("never-there", timeout_s=T) == ""
    store.close()
