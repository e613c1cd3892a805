"""Every setup that a user can have, broken in turn: what `doctor` says, with which exit code, and
that it never fails itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.support import Home, OpenBao, free_port, pitchpoint_config
from lab.worlds.vendor import Vendor

AWS = '[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "http://127.0.0.1:1"\n'
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "eu-west-1"}
Environment = dict[str, str]


@dataclass
class Broken:
    """`stores`: the table of the store. `said`: what a finding names. `remedy`: what its advice
    names."""

    name: str
    stores: str
    code: int
    said: str
    remedy: str
    environment: Callable[[Path], Environment] = lambda _place: {}
    more: str = ""


def write(place: Path, name: str, text: str) -> str:
    (place / name).write_text(text)
    return str(place / name)


MATRIX = [
    Broken(
        "region",
        AWS.replace("endpoint_url", "# "),
        2,
        "no AWS Region",
        "AWS_REGION",
        lambda _place: {name: value for name, value in KEYS.items() if name != "AWS_REGION"},
    ),
    Broken(
        "mfa",
        AWS + 'profile = "mfa"\n',
        5,
        "MFA code",
        "mfa_serial",
        lambda place: {
            "AWS_REGION": "eu-west-1",
            "AWS_CONFIG_FILE": write(
                place,
                "config",
                "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/r\n"
                "source_profile = b\nmfa_serial = arn:aws:iam::123456789012:mfa/a\n"
                "[profile b]\naws_access_key_id = A\naws_secret_access_key = hunter2\n",
            ),
        },
    ),
    Broken(
        "sso",
        AWS + 'profile = "w"\n',
        5,
        "SSO session",
        "aws sso login --profile w",
        lambda place: {
            "AWS_REGION": "eu-west-1",
            "AWS_CONFIG_FILE": write(
                place,
                "config",
                "[profile w]\nsso_session = c\nsso_account_id = 123456789012\nsso_role_name = r\n"
                "[sso-session c]\nsso_region = eu-west-1\nsso_start_url = https://x.example\n",
            ),
        },
    ),
    Broken(
        "web identity",
        AWS,
        2,
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "Mount",
        lambda _place: {
            "AWS_REGION": "eu-west-1",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
        },
    ),
    Broken(
        "AWS profile",
        AWS,
        2,
        "no AWS profile 'nobody'",
        "list-profiles",
        lambda _place: {**KEYS, "AWS_PROFILE": "nobody"},
    ),
    Broken(
        "Vault address",
        '[stores.s]\ntype = "vault"\n',
        2,
        "no address",
        "VAULT_ADDR",
        lambda _place: {"VAULT_TOKEN": "t"},
    ),
    Broken(
        "Vault token",
        '[stores.s]\ntype = "vault"\naddress = "https://127.0.0.1:1"\n',
        5,
        "no Vault token",
        "vault login",
    ),
    Broken(
        "token file",
        '[stores.s]\ntype = "vault"\naddress = "https://127.0.0.1:1"\n'
        'auth = { method = "token", token_file = "/nowhere/token" }\n',
        2,
        "/nowhere/token",
        "",
    ),
    Broken(
        "CA of the store",
        '[stores.s]\ntype = "vault"\naddress = "https://127.0.0.1:1"\n',
        2,
        "VAULT_CACERT",
        "PEM",
        lambda place: {"VAULT_TOKEN": "t", "VAULT_CACERT": write(place, "ca.pem", "garbage")},
    ),
    Broken(
        "CA of the issuer",
        "",
        2,
        "ca_cert",
        "PEM",
        more='ca_cert = "/etc/hostname"',
    ),
    Broken(
        "SOCKS proxy",
        '[stores.s]\ntype = "vault"\naddress = "https://vault.example"\n',
        2,
        "HTTPS_PROXY",
        "PySocks",
        lambda _place: {"VAULT_TOKEN": "t", "HTTPS_PROXY": "socks5h://127.0.0.1:1"},
    ),
    Broken(
        "client certificate",
        '[stores.s]\ntype = "vault"\naddress = "https://127.0.0.1:1"\n',
        2,
        "VAULT_CLIENT_CERT",
        "",
        lambda _place: {"VAULT_TOKEN": "t", "VAULT_CLIENT_CERT": "/nowhere/client.pem"},
    ),
]


@pytest.mark.parametrize("broken", MATRIX, ids=lambda broken: broken.name)
def test_doctor_finds_it_before_it_happens(
    broken: Broken, empty_home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """The finding, its exit code and its remedy; no defect, no prompt."""
    config = pitchpoint_config(vendor.address, stores=broken.stores, more=broken.more)
    empty_home.configure(config)
    done = empty_home.run("doctor", "-o", "json", **broken.environment(tmp_path))
    assert done.code == broken.code, done.out + done.err
    findings = [item for item in json.loads(done.out) if item["level"] == "error"]
    assert any(
        broken.said in item["what"] and broken.remedy in item["todo"] for item in findings
    ), findings
    assert "defect" not in done.err


def test_config_check_loads_the_ca_files(empty_home: Home, vendor: Vendor) -> None:
    """A broken one is found before an exchange finds it."""
    empty_home.configure(pitchpoint_config(vendor.address, more='ca_cert = "/etc/hostname"'))
    done = empty_home.run("config", "check")
    assert done.code == 2
    assert "ca_cert: /etc/hostname holds no certificates" in done.err


def test_the_remedy_for_a_denied_write_of_credentials_works(
    empty_home: Home, vendor: Vendor, openbao: OpenBao
) -> None:
    """A machine of role full may not write the secret, so "grant the whole policy" was no remedy:
    the policy that is named now is one with which the same command succeeds."""
    mount = openbao.mount()
    openbao.put(mount, "ready", {"yes": "1"})
    stores = f'[stores.s]\ntype = "vault"\naddress = "{openbao.address}"\nmount = "{mount}"\n'
    empty_home.configure(pitchpoint_config(vendor.address, stores=stores))
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})

    def set_with(role: str) -> tuple[int, str]:
        policy = empty_home.run("policy", "pitchpoint", "--role", role).out
        token = openbao.token_with(policy)
        done = empty_home.run("credentials", "set", stdin=members, VAULT_TOKEN=token)
        return done.code, done.err

    code, said = set_with("full")
    assert code == 5
    assert "`nightporter policy pitchpoint --role credentials`" in said
    code, said = set_with("credentials")
    assert code == 0, said


def test_nothing_listens(empty_home: Home, vendor: Vendor) -> None:
    """An address where nobody is: a word of the network, and no certificate."""
    stores = f'[stores.s]\ntype = "vault"\naddress = "http://127.0.0.1:{free_port()}"\n'
    empty_home.configure(pitchpoint_config(vendor.address, stores=stores))
    done = empty_home.run("doctor", VAULT_TOKEN="t")
    assert done.code == 5
    assert "nothing listens there" in done.out
