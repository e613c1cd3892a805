"""Each role works with exactly the policy that `nightporter policy` prints, and with nothing
more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import AWS_VARIABLES, Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor

PATHS = "prod/pitchpoint"
PUBLISH = f'publish_access_token = "{PATHS}/access"\n'


def policy(home: Home, role: str) -> str:
    done = home.run("policy", "pitchpoint", "--role", role)
    assert done.code == 0, done.err
    return done.out


def with_role(home: Home, role: str) -> None:
    home.configure(home.config_file.read_text().replace('role = "full"', f'role = "{role}"'))


class OnVault:
    def __init__(self, home: Home, openbao: OpenBao, mount: str) -> None:
        self.home, self.openbao, self.mount = home, openbao, mount

    def grant(self, role: str) -> str:
        return self.openbao.token_with(policy(self.home, role))

    def run(self, *args: str, key: str = "") -> tuple[int, str]:
        done = self.home.run(*args, **({"VAULT_TOKEN": key} if key else {}))
        return done.code, done.out + done.err


class OnAws:
    def __init__(self, home: Home, aws: StrictAws) -> None:
        self.home, self.aws = home, aws

    def grant(self, role: str) -> str:
        document = json.loads(policy(self.home, role))
        allowed = {
            (
                action.removeprefix("secretsmanager:"),
                re.escape(arn.partition(":secret:")[2].removesuffix("-??????")),
            )
            for statement in document["Statement"]
            for action in statement["Action"]
            for arn in statement["Resource"]
        }
        key = f"AKIA{role.upper().replace('-', '')}"
        self.aws.policies[key] = allowed
        return key

    def run(self, *args: str, key: str = "") -> tuple[int, str]:
        done = self.home.run(*args, **({"AWS_ACCESS_KEY_ID": key} if key else {}))
        return done.code, done.out + done.err


Place = OnVault | OnAws


@pytest.fixture(params=["vault", "strict-aws"])
def place(
    request: pytest.FixtureRequest, empty_home: Home, vendor: Vendor, openbao: OpenBao
) -> Iterator[Place]:
    more = PUBLISH + 'role = "full"\n'
    if request.param == "vault":
        mount = openbao.mount()
        openbao.put(mount, PATHS, {"username": "svc-acme", "password": "correct-horse"})
        empty_home.configure(
            pitchpoint_config(
                vendor.address, stores=f'[stores.s]\ntype = "vault"\nmount = "{mount}"', more=more
            )
        )
        empty_home.environment |= {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
        yield OnVault(empty_home, openbao, mount)
        return
    aws = StrictAws()
    with open_strict_aws(aws) as address:
        stores = f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"'
        empty_home.configure(pitchpoint_config(vendor.address, stores=stores, more=more))
        empty_home.environment |= AWS_VARIABLES
        empty_home.set_credentials(username="svc-acme", password="correct-horse")
        yield OnAws(empty_home, aws)


def test_full(place: Place, vendor: Vendor) -> None:
    key = place.grant("full")
    for args in (
        ("token",),
        ("rotate", "--access"),
        ("rotate",),
        ("logout", "pitchpoint", "--everywhere"),
        ("token",),
    ):
        code, said = place.run(*args, key=key)
        assert code == 0, (args, said)
        assert "denied" not in said
        assert "is missing" not in said


def test_refresh_only_never_reads_the_password(place: Place, vendor: Vendor) -> None:
    key = place.grant("refresh-only")
    assert place.run("token", key=key)[0] == 5  # as full it would have to read the credentials
    assert place.run("rotate")[0] == 0
    with_role(place.home, "refresh-only")
    place.home.drop_cache()
    code, said = place.run("token", key=key)
    assert code == 0, said
    assert vendor.count("refresh") == 1
    place.run("logout", "pitchpoint", "--everywhere")
    code, said = place.run("token", key=key)
    assert code == 4
    assert "nightporter rotate pitchpoint" in said


def test_read_only_reads_one_secret(place: Place, vendor: Vendor) -> None:
    key = place.grant("read-only")
    assert place.run("rotate")[0] == 0
    with_role(place.home, "read-only")
    place.home.drop_cache()
    code, said = place.run("token", key=key)
    assert code == 0, said
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)


def test_a_refresh_only_of_a_reused_token_gets_no_right_to_write(place: Place) -> None:
    text = policy(place.home, "refresh-only")
    assert "update" not in text
    assert "Put" not in text
    assert "update" in policy(place.home, "full") + "" or "Put" in policy(place.home, "full")


def test_the_embedded_store_has_no_policy(home: Home) -> None:
    done = home.run("policy", "--role", "full")
    assert (done.code, done.out) == (2, "")
