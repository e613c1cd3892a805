"""Borders of the stores and of this machine's files that single faults have shown to be held by
nothing."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import hvac.api.auth_methods.token
import hvac.exceptions
import pytest
from botocore.credentials import Credentials

from lab.patience import patience
from nightporter.core.errors import (
    ConfigError,
    StoreDeniedError,
    StoreUnreachableError,
    VersionConflictError,
)
from nightporter.machine import files
from nightporter.machine.access_cache import Directory, is_reply
from nightporter.machine.files import close_directory
from nightporter.machine.journal import KEPT_LINEAGES, FileJournal
from nightporter.session.port import ABSENT, Version
from nightporter.stores import STORES, aws, aws_errors, aws_identity, aws_signing, local, vault
from nightporter.stores.bounded import CallTimeoutError
from nightporter.stores.local import LocalStore
from nightporter.stores.vault import VaultStore
from nightporter.stores.vault_login import Login

T = 2.5


# Vault.


class Repairing(VaultStore):
    """One that has written, and whose TTL was off."""

    def __init__(self, again: Any) -> None:
        self.said: list[str] = []
        environment = {"VAULT_ADDR": "https://v.example"}
        super().__init__({}, environment, clock=lambda: 0.0, notify=self.said.append)
        self.again = again

    def _set_ttl(self, *_args: Any, **_more: Any) -> bool:
        return True

    def _put(self, *_args: Any, **_more: Any) -> Any:
        if isinstance(self.again, Exception):
            raise self.again
        return self.again


def written(ends: int | None, number: int) -> vault._Written:
    return vault._Written(number=number, created_time="", created_at=0, deleted_at=ends)


@pytest.mark.parametrize(("ends", "is_said"), [(1000, False), (400, True), (None, True)])
def test_a_time_to_live_that_stays_off_is_said(ends: int | None, is_said: bool) -> None:
    """The record's own expiry holds, so it is no error."""
    store = Repairing(written(ends, 8))
    assert store._repair_ttl("p", {}, written(400, 7), 1000, T) == Version("8", 8)
    assert bool(store.said) is is_said
    assert all("secret/p: Vault's own deletion time is off" in said for said in store.said)


def test_who_goes_on_from_our_write_sets_its_time() -> None:
    store = Repairing(VersionConflictError("another"))
    assert store._repair_ttl("p", {}, written(400, 7), 1000, T) == Version("7", 7)
    assert store.said == []


def test_a_token_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each denial afterwards is a policy's."""
    asked: list[int] = []
    fates: list[Exception | None] = [hvac.exceptions.Forbidden(errors=["bad token"]), None, None]

    def look_up(_self: object) -> Any:
        asked.append(1)
        if (fate := fates.pop(0)) is not None:
            raise fate

    monkeypatch.setattr(hvac.api.auth_methods.token.Token, "lookup_self", look_up)
    store = VaultStore({}, {"VAULT_ADDR": "https://v.example"}, clock=lambda: 0.0)
    store._check_token()
    assert asked == []  # nobody has asked anything yet
    monkeypatch.setattr(store, "_client", object())
    with pytest.raises(StoreDeniedError, match="knows no such token"):
        store._check_token()
    store._check_token()
    store._check_token()
    assert len(asked) == 2


def denied(*errors: str) -> hvac.exceptions.Forbidden:
    found = list(errors) or ["permission denied"]
    return hvac.exceptions.Forbidden(errors=found, json={"errors": found})


@pytest.mark.parametrize("had_client", [False, True])
def test_a_denied_request_asks_whether_the_token_is_known(
    monkeypatch: pytest.MonkeyPatch, had_client: bool
) -> None:
    """A fresh login is tried first where there was an older one; each time the token is looked up,
    since no policy helps where Vault does not know it."""
    store = VaultStore({}, {"VAULT_ADDR": "https://v.example"}, clock=lambda: 0.0)
    steps: list[str] = []
    monkeypatch.setattr(store, "_client", object() if had_client else None)
    monkeypatch.setattr(store, "_open", lambda: steps.append("open"))
    monkeypatch.setattr(store, "_check_token", lambda: steps.append("look up"))
    monkeypatch.setattr(store, "_renew_login", lambda: steps.append("log in"))

    def ask(_client: Any) -> Any:
        raise denied()

    with pytest.raises(hvac.exceptions.Forbidden):
        store._ask(ask)
    again = ["log in", "open"] if had_client else []
    assert steps == ["open", *again, "look up"]


def test_a_client_that_a_late_call_holds_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two threads would speak over one connection."""
    store = VaultStore({}, {"VAULT_ADDR": "https://v.example"}, clock=lambda: 0.0)
    go_on = threading.Event()
    monkeypatch.setattr(store, "_client", object())
    monkeypatch.setattr(store, "_refresh_connection", lambda: None)
    monkeypatch.setattr(store, "_ask", lambda _ask: go_on.wait(600))
    try:
        with pytest.raises(StoreUnreachableError):
            store._call(lambda _client: None, "read on p", 0.2)
    finally:
        go_on.set()
    assert store._client is None


def test_a_remedy_names_the_mount_and_the_file() -> None:
    login = Login({"method": "approle", "mount": "mine", "secret_id_file": "/etc/sid"}, {})
    assert "auth/mine/role/NAME/secret-id >/etc/sid`" in login.remedy
    assert "secret-id >FILE`" in Login({"method": "approle"}, {}).remedy


@pytest.mark.parametrize("environment", [{}, {"S": ""}])
def test_a_variable_that_is_not_set_is_named(environment: dict[str, str]) -> None:
    login = Login({"method": "approle", "secret_id_env": "S"}, environment)
    with pytest.raises(
        ConfigError, match=r"the variable S, named by auth\.secret_id_env"
    ) as caught:
        login._variable("secret_id_env")
    assert "Set S where this runs" in caught.value.hint


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nightporter.stores.aws_signing", None)
    monkeypatch.delattr("nightporter.stores.aws_signing")
    with pytest.raises(ConfigError, match="needs boto3") as caught:
        Login({"method": "aws", "role": "r"}, {})._sign_caller_identity()
    assert "boto3" in caught.value.hint


# AWS.


def session(**more: Any) -> Any:
    return SimpleNamespace(
        get_credentials=lambda: Credentials("AKIA", "secret"),
        get_partition_for_region=lambda _region: "aws",
        **more,
    )


@pytest.mark.parametrize(
    ("region", "host", "scope"),
    [
        (None, "sts.amazonaws.com", "us-east-1"),
        ("eu-west-1", "sts.eu-west-1.amazonaws.com", "eu-west-1"),
    ],
)
def test_a_signed_request_is_for_its_region(
    monkeypatch: pytest.MonkeyPatch, region: str | None, host: str, scope: str
) -> None:
    """Vault sends it on as it is: form, host and signature have to fit."""
    opened: list[Any] = []

    def open_session(options: Any, _environment: Any) -> Any:
        opened.append(options)
        return session()

    monkeypatch.setattr(aws_signing, "open_session", open_session)
    signed = aws_signing.sign_caller_identity(
        {}, profile=None, region=region, headers={"X-Vault-AWS-IAM-Server-ID": "v"}
    )
    assert opened == [{"region": scope}]
    assert (signed.method, signed.url) == ("POST", f"https://{host}/")
    assert signed.headers["Content-Type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert signed.headers["Host"] == host
    words = signed.headers["Authorization"]
    assert f"/{scope}/sts/aws4_request" in words
    assert "SignedHeaders=content-type;host;x-amz-date;x-vault-aws-iam-server-id," in words


def test_nobody_is_asked_for_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has a credential_process our standard input; another botocore may know neither."""
    providers = {
        "assume-role": SimpleNamespace(_prompter=input),
        "custom-process": SimpleNamespace(_popen=None),
    }

    class Resolver:
        def get_provider(self, name: str) -> Any:
            return providers[name]

    found: Any = SimpleNamespace(get_component=lambda _name: Resolver())
    aws._silence_prompts(found)
    assert providers["assume-role"]._prompter is aws._refuse_to_prompt
    assert providers["custom-process"]._popen.keywords == {"stdin": -3}
    strange: Any = SimpleNamespace()
    providers["assume-role"] = providers["custom-process"] = strange
    aws._silence_prompts(found)
    assert vars(strange) == {}


def test_a_bundle_that_is_not_named_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_environment: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(aws, "ca_bundle_error", fails)
    assert aws.open_session({"region": "eu-west-1"}, {})


@pytest.mark.parametrize("is_slow_to_open", [True, False])
def test_a_call_that_is_late_says_whether_it_was_made(is_slow_to_open: bool) -> None:
    """What AWS was not asked costs no try."""
    go_on = threading.Event()

    class Slow(aws.Connection):
        def _open(self) -> Any:
            if is_slow_to_open:
                go_on.wait(600)
            return None

    limit_s = 0.2 if is_slow_to_open else patience(1.0)
    try:
        with pytest.raises(CallTimeoutError) as caught:
            Slow({}, {}).ask("r", "p", lambda _client: go_on.wait(600), timeout_s=limit_s)
    finally:
        go_on.set()
    assert caught.value.is_unasked is is_slow_to_open


@pytest.mark.parametrize("code", ["UnknownOperationException", "UnknownOperation", "InvalidAction"])
def test_another_service_at_the_endpoint_is_named(code: str) -> None:
    exc = botocore.exceptions.ClientError({"Error": {"Code": code}}, "GetSecretValue")
    setup = aws_errors.Setup(options={}, environment={})
    found = aws_errors.error_of(exc, right="r", path="p", setup=setup)
    assert f"is another service ({code})" in found.message
    assert not found.retryable


@pytest.mark.parametrize(
    ("operation", "login"),
    [
        ("CreateOAuth2Token", "`aws login --profile"),
        ("CreateToken", "`aws sso login --profile"),
        ("GetRoleCredentials", "`aws sso login --profile"),
    ],
)
def test_a_session_of_aws_that_gives_nothing_is_begun_again(operation: str, login: str) -> None:
    exc = botocore.exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, operation)
    setup = aws_errors.Setup(options={}, environment={})
    found = aws_errors.error_of(exc, right="r", path="p", setup=setup)
    assert login in found.hint


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    ],
)
def test_a_file_is_named_by_its_variable(variable: str) -> None:
    setup = aws_errors.Setup(options={}, environment={variable: "/f"})
    assert setup.source_of_file("/f") == variable
    assert setup.source_of_file("/other") == "the AWS profile 'default'"


def test_what_picks_an_identity_of_aws() -> None:
    """The variables of the SDKs' chain that hold no secret."""
    assert (
        *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) == aws_identity.VARIABLES


@pytest.mark.parametrize(
    ("kind", "keys", "methods"),
    [
        ("local", "path seal", {}),
        (
            "vault",
            "address namespace ca_cert client_cert client_key mount",
            {
                "token": "token_file mount",
                "approle": "role_id secret_id_file secret_id_env mount",
                "userpass": "username password_env mount",
                "kubernetes": "role jwt_file mount",
                "jwt": "role jwt_file mount",
                "aws": "role region header_value profile mount",
                "none": "",
            },
        ),
    ],
)
def test_the_keys_of_a_store(kind: str, keys: str, methods: dict[str, str]) -> None:
    found = STORES[kind]
    assert set(found.keys) == set(keys.split())
    assert {name: set(method.keys) for name, method in found.auth_methods.items()} == {
        name: set(words.split()) for name, words in methods.items()
    }


# This machine's files.


def test_who_may_not_write_is_told_a_command_to_type(tmp_path: Path) -> None:
    """For the directory, with all that is in it, whatever its name is."""
    directory = tmp_path / "my store"
    directory.mkdir()
    command = f"sudo chown -R {os.getuid()} {shlex.quote(str(directory))}"
    assert local._owning_command(str(directory)) == command
    assert local._owning_command(str(directory / "p.json")) == command


@pytest.mark.parametrize(
    ("owner", "is_used"), [("ours", True), ("root's", True), ("another's", False)]
)
def test_a_link_to_a_store_is_followed_where_nobody_else_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, is_used: bool
) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir(mode=0o700)
    link.symlink_to(place)
    us = 54_321
    of_link = {"ours": us, "root's": 0, "another's": 11}[owner]

    def owned(look: Any, user: int) -> Any:
        def looked(path: Any, **more: Any) -> os.stat_result:
            found = list(look(path, **more))
            if path == str(link):
                found[4] = user
            return os.stat_result(found)

        return looked

    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: us)
        patched.setattr(os, "stat", owned(os.stat, us))  # follows it
        patched.setattr(os, "lstat", owned(os.lstat, of_link))
        found = close_directory(str(link))
    assert found is is_used


def test_a_file_that_appears_between_two_looks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has just written it: it is no file of somebody else's."""
    store = LocalStore(str(tmp_path / "store"))
    store.write("p", {"n": 1}, ABSENT, None, timeout_s=T)
    read, looks = files.read_private, [None]

    def late(path: str, **more: Any) -> bytes | None:
        return looks.pop() if looks else read(path, **more)

    monkeypatch.setattr(local, "read_private", late)
    assert store.read("p", timeout_s=T).value == {"n": 1}


def test_who_only_reads_needs_no_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_args: False)
    assert store.missing_rights(["p"], [], timeout_s=T) == []
    with pytest.raises(StoreDeniedError):
        store.missing_rights([], ["p"], timeout_s=T)


def test_replies_are_dropped_and_nothing_else(tmp_path: Path) -> None:
    """Tokens and notes stay."""
    place = Directory((str(tmp_path / "cache"),))
    names = ("+p.0123456789abcdef.reply", "p.token", "other")
    for name in names:
        place.keep(name, b"x")
    replies = [name for name in names if is_reply(name)]
    assert replies
    place.drop_replies()
    assert [place.load(name) for name in names] == [
        None if name in replies else b"x" for name in names
    ]


def test_so_many_lineages_of_a_record_are_remembered(tmp_path: Path) -> None:
    """And not one less."""
    journal = FileJournal(str(tmp_path / "spill"), "p")
    for number in range(KEPT_LINEAGES + 1):
        journal.note(f"lineage-{number}", 1)
    seen = [journal.highest(f"lineage-{number}") for number in range(KEPT_LINEAGES + 1)]
    assert seen == [0] + [1] * KEPT_LINEAGES
