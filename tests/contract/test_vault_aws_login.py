"""Vault's AWS login (`auth = { method = "aws" }`) against a strict stand-in before a real
OpenBao."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.auth
import pytest

from lab.patience import patience
from lab.servers.vault_aws_auth import AwsAuth
from lab.servers.vault_front import front
from lab.support import Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.client.identity import identity_parts
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError, StoreDeniedError
from nightporter.issuers import VENDORS
from nightporter.session.port import ABSENT
from nightporter.stores import STORES
from nightporter.stores.vault import VaultStore

pytestmark = pytest.mark.usefixtures("aws_environment")
T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"
KEYS = {"AKIAFULL": "not-a-real-secret", "AKIAOTHER": "hunter2"}


@pytest.fixture
def auth(openbao: OpenBao) -> AwsAuth:
    mount = openbao.mount()
    openbao.put(mount, "ready", {"yes": "1"})
    policy = f'path "{mount}/*" {{ capabilities = ["create", "read", "update", "patch"] }}'
    roles = {"porter": {"AKIAFULL"}}
    return AwsAuth(openbao, keys=KEYS, roles=roles, policy=policy, kv=mount)


@pytest.fixture
def address(auth: AwsAuth) -> Iterator[str]:
    with front(auth.server, auth) as address:
        yield address


def store_of(auth: AwsAuth, address: str, **keys: str) -> VaultStore:
    options = {"address": address, "mount": auth.kv}
    return VaultStore({**options, "auth": {"method": "aws", "role": "porter", **keys}}, {})


def refused(auth: AwsAuth, address: str, **keys: str) -> StoreDeniedError:
    store = store_of(auth, address, **keys)
    with pytest.raises(StoreDeniedError) as caught:
        store.read(PATH, timeout_s=T)
    store.close()
    return caught.value


def test_one_log_in_serves_all_calls_and_is_revoked(auth: AwsAuth, address: str) -> None:
    store = store_of(auth, address)
    version = store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
    assert store.read(PATH, timeout_s=T).version == version
    store.close()
    assert len(auth.issued) == 1
    assert auth.hosts == ["sts.amazonaws.com"]
    after = VaultStore(
        {"address": address, "mount": auth.kv, "auth": {"method": "token"}},
        {"VAULT_TOKEN": auth.issued[0]},
    )
    with pytest.raises(StoreDeniedError):
        after.read(PATH, timeout_s=T)
    after.close()


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "sts.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_region_has_its_own_endpoint(region: str, host: str, auth: AwsAuth, address: str) -> None:
    """Vault sends the request where it is addressed, so the signature must be of that Region."""
    store = store_of(auth, address, region=region)
    assert store.read(PATH, timeout_s=T).value is None
    store.close()
    assert auth.hosts == [host]


def test_the_server_s_id_is_signed(auth: AwsAuth, address: str) -> None:
    """Without it a request that another Vault has seen could be used here."""
    auth.server_id = "vault.example"
    assert "header_value" in refused(auth, address).hint
    assert "header_value" in refused(auth, address, header_value="other.example").hint
    store = store_of(auth, address, header_value="vault.example")
    assert store.read(PATH, timeout_s=T).value is None
    store.close()


def test_temporary_keys(auth: AwsAuth, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a role have a session token, which is signed too."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hunter2-session")
    auth.session_tokens["AKIAFULL"] = "hunter2-session"
    store = store_of(auth, address)
    assert store.read(PATH, timeout_s=T).value is None
    store.close()


def test_another_mount(auth: AwsAuth, address: str) -> None:
    auth.mount = "aws-prod"
    store = store_of(auth, address, mount="aws-prod")
    assert store.read(PATH, timeout_s=T).value is None
    store.close()
    assert "`mount`" in refused(auth, address).hint


@pytest.mark.parametrize(
    ("keys", "variables", "said"),
    [
        ({"role": "nobody"}, {}, "role"),
        ({}, {"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "hunter2"}, "principal"),
        ({}, {"AWS_SECRET_ACCESS_KEY": "hunter3"}, "get-caller-identity"),
    ],
)
def test_a_refusal_says_what_to_look_at(
    keys: dict[str, str],
    variables: dict[str, str],
    said: str,
    auth: AwsAuth,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And never the key or what was signed."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = refused(auth, address, **keys)
    assert said in error.hint
    assert "hunter" not in error.message + error.hint


def test_a_clock_that_is_off(auth: AwsAuth, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = botocore.auth.SigV4Auth
    usual = signer._modify_request_before_signing

    def late(self: object, request: Any) -> None:
        request.context["timestamp"] = f"2020{request.context['timestamp'][4:]}"
        usual(self, request)

    monkeypatch.setattr(signer, "_modify_request_before_signing", late)
    assert "clock" in refused(auth, address).hint
    assert auth.said == ["Signature expired"]


def test_no_aws_credentials(auth: AwsAuth, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the AWS store: nothing is sent to Vault."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "AWS_PROFILE" in refused(auth, address).hint
    assert auth.hosts == []


def test_a_profile_that_is_not_there(auth: AwsAuth, address: str) -> None:
    store = store_of(auth, address, profile="nobody")
    with pytest.raises(ConfigError, match="no AWS profile 'nobody'"):
        store.read(PATH, timeout_s=T)
    store.close()


def test_without_boto3(auth: AwsAuth, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vault's extra doesn't bring it."""
    monkeypatch.setitem(sys.modules, "nightporter.stores.aws_signing", None)
    monkeypatch.delattr("nightporter.stores.aws_signing", raising=False)
    store = store_of(auth, address)
    with pytest.raises(ConfigError, match="needs boto3") as caught:
        store.read(PATH, timeout_s=T)
    assert "install" in caught.value.hint
    store.close()


def test_another_aws_identity_never_gets_the_cached_token() -> None:
    """Contract 7: AWS's variables and files decide who logs in to Vault."""
    text = (
        '[stores.v]\ntype = "vault"\nauth = { method = "aws", role = "porter" }\n'
        '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n'
    )
    profile = parse_config(text, source="config.toml", vendors=VENDORS, stores=STORES).profiles["p"]
    environments: list[dict[str, str]] = [
        {},
        {"AWS_PROFILE": "a"},
        {"AWS_PROFILE": "b"},
        {"AWS_ACCESS_KEY_ID": "A"},
    ]
    seen = [repr(identity_parts(profile, environment)) for environment in environments]
    assert len(set(seen)) == len(seen)
    assert ".aws/credentials" in seen[0]


def test_the_command(
    auth: AwsAuth, address: str, empty_home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """A token by the command, with keys in ~/.aws/credentials; doctor is content."""
    auth.server.put(
        auth.kv, "prod/pitchpoint", {"username": "svc-acme", "password": "correct-horse"}
    )
    aws = empty_home.path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        "[work]\naws_access_key_id = AKIAFULL\naws_secret_access_key = not-a-real-secret\n"
    )
    stores = (
        f'[stores.s]\ntype = "vault"\naddress = "{address}"\nmount = "{auth.kv}"\n'
        'auth = { method = "aws", role = "porter", profile = "work" }\n'
    )
    empty_home.configure(pitchpoint_config(vendor.address, stores=stores))
    done = empty_home.run("token")
    assert done.code == 0, done.err
    assert empty_home.run("doctor").code == 0
