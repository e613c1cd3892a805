"""What doctor advises is done as it is said, with the rights of who reads it: then doctor is
content and a token comes. Real OpenBao, a strict stand-in of Secrets Manager."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import click.testing
import pytest

from lab.servers.strict_aws import AwsError, StrictAws, open_strict_aws
from lab.support import BIN, OpenBao, clean_environment, open_openbao, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter import Porter
from nightporter.cli import app
from nightporter.machine.places import read_environment
from nightporter.operations.doctor import Doctor
from nightporter.operations.findings import Finding

PATH = "prod/pitchpoint"
MEMBERS = {"username": "svc-acme", "password": "correct-horse"}


class Patient:
    """A user with a home and an environment of their own, in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path, vendor: Vendor) -> None:
        self.patch, self.home, self.vendor = patch, home, vendor
        kept = clean_environment(HOME=str(home), NIGHTPORTER_CACHE="off")
        for name in set(os.environ) - set(kept):
            patch.delenv(name)
        self.set(**kept)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.patch.setenv(name, value)

    def configure(self, stores: str, more: str = "") -> None:
        text = pitchpoint_config(self.vendor.address, stores=stores, more=more)
        self.set(NIGHTPORTER_CONFIG_TOML=text)

    def findings(self, level: str = "error") -> list[Finding]:
        found = Doctor(None, read_environment(), is_repair=False).examine(())
        return [item for item in found if item.level == level]

    def remedy(self, reference: str) -> str:
        """What the one error says that is to be done."""
        errors = self.findings()
        assert [item.reference for item in errors] == [reference], errors
        return errors[0].todo

    def type(self, line: str) -> str:
        """Runs one of our commands that a remedy names."""
        done = click.testing.CliRunner().invoke(app.cli, line.split()[1:])
        assert done.exit_code == 0, done.output
        return done.stdout

    def is_well(self) -> None:
        assert self.findings() == []
        with Porter() as porter:
            assert porter.get_token().value


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: Vendor) -> Patient:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Patient(monkeypatch, home, vendor)


@pytest.fixture
def mount(openbao: OpenBao) -> str:
    name = openbao.mount()
    openbao.put(name, PATH, MEMBERS)
    return name


def bao(server: OpenBao, line: str) -> None:
    """Runs a command of Vault's that a remedy names, as an operator."""
    environment = clean_environment(VAULT_ADDR=server.address, VAULT_TOKEN=server.token)
    command = [str(BIN / "bao"), *line.split()[1:]]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def vault(server: OpenBao, mount: str) -> str:
    return f'[stores.s]\ntype = "vault"\naddress = "{server.address}"\nmount = "{mount}"\n'


def test_a_vault_token_that_has_run_out(patient: Patient, openbao: OpenBao, mount: str) -> None:
    patient.configure(vault(openbao, mount))
    patient.set(VAULT_TOKEN="hvs.dead")
    assert "vault login" in patient.remedy("store-denied")
    patient.patch.delenv("VAULT_TOKEN")
    (patient.home / ".vault-token").write_text(openbao.token)  # which is what it does
    patient.is_well()


@pytest.mark.parametrize("role", ["full", "refresh-only", "read-only"])
def test_rights_that_are_missing(role: str, patient: Patient, openbao: OpenBao, mount: str) -> None:
    """The reader has no right at all, and `policy` needs none."""
    more = f'publish_access_token = "{PATH}/access"\n'
    patient.configure(vault(openbao, mount), more)
    patient.set(VAULT_TOKEN=openbao.token)
    patient.type("nightporter rotate --access pitchpoint")
    patient.configure(vault(openbao, mount), more + f'role = "{role}"\n')
    patient.set(VAULT_TOKEN=openbao.token_with('path "nothing" { capabilities = ["read"] }'))
    todo = {item.todo for item in patient.findings()}
    assert len(todo) == 1, todo
    (command,) = re.findall("`(nightporter policy .*)`", todo.pop())
    patient.set(VAULT_TOKEN=openbao.token_with(patient.type(command)))
    patient.is_well()


def test_a_mount_of_version_1(patient: Patient, openbao: OpenBao) -> None:
    mount = openbao.mount(version=1)
    openbao.call("POST", f"{mount}/{PATH}", MEMBERS)
    patient.configure(vault(openbao, mount))
    patient.set(VAULT_TOKEN=openbao.token)
    (command,) = re.findall("`(vault .*?)`", patient.remedy("store-value"))
    bao(openbao, command)
    openbao.put(mount, "ready", {"yes": "1"})
    patient.is_well()


def test_a_mount_that_deletes_early(patient: Patient, openbao: OpenBao, mount: str) -> None:
    """Said by who may read the mount's configuration before anything is written, by others after
    the first write."""
    openbao.call("POST", f"{mount}/config", {"delete_version_after": "10s"})
    patient.configure(vault(openbao, mount))
    patient.set(VAULT_TOKEN=openbao.token)
    assert "delete_version_after" in patient.remedy("store-deletes-early")
    policy = patient.type("nightporter policy pitchpoint --role full")
    patient.set(VAULT_TOKEN=openbao.token_with(policy))
    assert patient.findings() == []
    openbao.put(mount, f"{PATH}/refresh-token", {"schema": 1})
    assert "delete_version_after" in patient.remedy("store-deletes-early")
    bao(openbao, f"vault write {mount}/config delete_version_after=0s")
    with Porter() as porter:
        assert porter.get_token().value
    assert patient.findings() == []


def test_a_wrong_mount(patient: Patient, openbao: OpenBao, mount: str) -> None:
    patient.configure(vault(openbao, "nowhere"))
    patient.set(VAULT_TOKEN=openbao.token)
    assert "`mount`" in patient.remedy("store-denied")
    patient.configure(vault(openbao, mount))
    patient.is_well()


def test_a_path_with_data_in_it_is_a_note(patient: Patient, openbao: OpenBao, mount: str) -> None:
    """The store says it once, and doctor repeats it."""
    patient.configure(vault(openbao, mount))
    text = os.environ["NIGHTPORTER_CONFIG_TOML"].replace(f'"{PATH}"', f'"data/{PATH}"')
    patient.set(VAULT_TOKEN=openbao.token, NIGHTPORTER_CONFIG_TOML=text)
    assert any("without data/" in item.what for item in patient.findings("warning"))


def test_it_says_which_store_it_is_and_what_it_does_not_read(
    patient: Patient, openbao: OpenBao, mount: str
) -> None:
    """Two people with two variables set see the difference."""
    patient.configure(vault(openbao, mount))
    patient.set(VAULT_TOKEN=openbao.token, VAULT_SKIP_VERIFY="1")
    places = [item.what for item in patient.findings("ok")]
    assert f"the store is {openbao.address}, mount {mount!r}, token of VAULT_TOKEN" in places
    assert any("VAULT_SKIP_VERIFY" in item.what for item in patient.findings("warning"))
    assert openbao.token not in repr(patient.findings("ok"))


def test_a_ca_that_is_not_known_and_an_address_without_tls(
    patient: Patient, openbao: OpenBao, mount: str
) -> None:
    with open_openbao(tls=True) as server:
        server.put("secret", PATH, MEMBERS)
        patient.configure(vault(server, "secret"))
        patient.set(VAULT_TOKEN=server.token)
        assert "VAULT_CACERT" in patient.remedy("store-unreachable")
        patient.set(VAULT_CACERT=str(server.ca_cert))
        patient.is_well()
        patient.patch.delenv("VAULT_CACERT")
    patient.configure(vault(openbao, mount).replace("http:", "https:"))
    patient.set(VAULT_TOKEN=openbao.token)
    assert "Correct the address" in patient.remedy("store-unreachable")
    patient.configure(vault(openbao, mount))
    patient.is_well()


def test_a_clock_that_differs_from_the_store_s(
    patient: Patient, openbao: OpenBao, mount: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the store's own replies, also where the issuer's can't be had."""
    patient.configure(vault(openbao, mount))
    patient.set(VAULT_TOKEN=openbao.token)
    patient.is_well()
    monkeypatch.setattr("nightporter.operations.doctor_profile.time.time", lambda: 1_000_000_000.0)
    skews = [item.what for item in patient.findings("warning") if item.reference == "clock-skew"]
    assert any("behind the store 's'" in what for what in skews), skews


class Aws(StrictAws):
    """One that refuses some keys."""

    code = ""
    message = ""

    def call(self, action: str, asked: dict[str, object], key_id: str) -> dict[str, object]:
        if self.code and key_id == "AKIAOLD":
            raise AwsError(self.code, self.message)
        return super().call(action, asked, key_id)


@pytest.fixture
def aws(patient: Patient) -> Iterator[Aws]:
    found = Aws()
    with open_strict_aws(found) as address:
        found.do_create_secret(
            {"Name": PATH, "SecretString": json.dumps(MEMBERS), "ClientRequestToken": "c" * 32}
        )
        patient.configure(f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"\n')
        patient.set(
            AWS_ACCESS_KEY_ID="AKIANEW",
            AWS_SECRET_ACCESS_KEY="hunter2",
            AWS_REGION="eu-west-1",
            AWS_EC2_METADATA_DISABLED="true",
            AWS_ENDPOINT_URL_SECRETS_MANAGER=address,
        )
        yield found


def test_no_region(patient: Patient, aws: Aws) -> None:
    patient.patch.delenv("AWS_REGION")
    assert "AWS_REGION" in patient.remedy("configuration")
    patient.set(AWS_REGION="eu-west-1")
    patient.is_well()
    places = [item.what for item in patient.findings("ok")]
    assert any("in eu-west-1" in what and "credentials by env" in what for what in places), places


def test_no_credentials_and_no_such_profile(patient: Patient, aws: Aws) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patient.patch.delenv(name)
    assert "AWS_PROFILE" in patient.remedy("store-denied")
    patient.set(AWS_PROFILE="work")
    assert "aws configure list-profiles" in patient.remedy("configuration")
    (patient.home / ".aws").mkdir()
    (patient.home / ".aws/credentials").write_text(
        "[work]\naws_access_key_id = AKIANEW\naws_secret_access_key = hunter2\n"
    )
    patient.is_well()


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("ExpiredTokenException", "", "aws sts get-caller-identity"),
        ("UnrecognizedClientException", "", "Renew the keys"),
        ("RequestTimeTooSkewed", "", "Set this machine's clock"),
        ("InvalidSignatureException", "Signature expired: x is now earlier", "clock"),
        (
            "AccessDeniedException",
            "not authorized with an explicit deny in a service control policy",
            "service control policy",
        ),
    ],
)
def test_keys_and_a_clock_that_aws_refuses(
    code: str, message: str, said: str, patient: Patient, aws: Aws
) -> None:
    aws.code, aws.message = code, message
    patient.set(AWS_ACCESS_KEY_ID="AKIAOLD")
    assert any(said in item.todo for item in patient.findings())
    patient.set(AWS_ACCESS_KEY_ID="AKIANEW")
    patient.is_well()


def test_actions_that_are_missing(patient: Patient, aws: Aws) -> None:
    aws.policies["AKIAPOOR"] = set()
    patient.set(AWS_ACCESS_KEY_ID="AKIAPOOR")
    todo = {item.todo for item in patient.findings()}
    (command,) = {found for text in todo for found in re.findall("`(nightporter .*?)`", text)}
    statements = json.loads(patient.type(command))["Statement"]
    aws.policies["AKIAPOOR"] = {
        (action.partition(":")[2], re.escape(arn.partition(":secret:")[2].removesuffix("-??????")))
        for statement in statements
        for action in statement["Action"]
        for arn in statement["Resource"]
    }
    patient.is_well()


def test_a_secret_that_is_marked_for_deletion(patient: Patient, aws: Aws) -> None:
    aws.do_delete_secret({"SecretId": PATH})
    (command,) = re.findall("`aws secretsmanager (.*?)`", patient.remedy("store-value"))
    action, option, path = command.split()
    assert (action, option) == ("restore-secret", "--secret-id")
    boto3.client("secretsmanager", region_name="eu-west-1").restore_secret(SecretId=path)
    patient.is_well()


def test_a_local_store_on_a_file_system_without_locks(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS home without a lock manager, found before anything is written there."""
    usual, nfs = fcntl.flock, tmp_path / "nfs"
    nfs.mkdir(mode=0o700)

    def flock(descriptor: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(nfs)):
            raise OSError(37, "No locks available")
        usual(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    patient.configure(f'[stores.s]\ntype = "local"\npath = "{nfs}"\n')
    assert "`path` of the store" in patient.remedy("store")
    patient.configure(f'[stores.s]\ntype = "local"\npath = "{tmp_path / "disk"}"\n')
    done = click.testing.CliRunner().invoke(
        app.cli, ["credentials", "set", "pitchpoint"], input=json.dumps(MEMBERS)
    )
    assert done.exit_code == 0, done.output
    patient.is_well()
