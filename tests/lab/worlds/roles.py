"""A profile in a store that keeps to policies: a real OpenBao, and the strict stand-in of Secrets
Manager. What `nightporter policy` prints is granted, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import AWS_VARIABLES, Home, OpenBao, pitchpoint_config

PATHS = "prod/pitchpoint"
PUBLISH = f'publish_access_token = "{PATHS}/access"\n'
MORE = f'{PUBLISH}role = "full"\n'


def policy(home: Home, role: str) -> str:
    done = home.run("policy", "pitchpoint", "--role", role)
    assert done.code == 0, done.err
    return done.out


def with_role(home: Home, role: str) -> None:
    home.configure(home.config_file.read_text().replace('role = "full"', f'role = "{role}"'))


class OnVault:
    def __init__(self, home: Home, openbao: OpenBao, mount: str) -> None:
        self.home, self.openbao, self.mount = home, openbao, mount
        self.options = ("--store", "vault", "--store-set", f"mount={mount}")

    def grant(self, role: str) -> str:
        return self.openbao.token_with(policy(self.home, role))

    def variables(self, key: str) -> dict[str, str]:
        return {"VAULT_TOKEN": key} if key else {}

    def run(self, *args: str, key: str = "") -> tuple[int, str]:
        done = self.home.run(*args, **self.variables(key))
        return done.code, done.out + done.err


class OnAws:
    def __init__(self, home: Home, aws: StrictAws, address: str) -> None:
        self.home, self.aws, self.address = home, aws, address
        self.options = ("--store", "aws-secrets-manager", "--store-set", f"endpoint_url={address}")

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

    def variables(self, key: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": key} if key else {}

    def run(self, *args: str, key: str = "") -> tuple[int, str]:
        done = self.home.run(*args, **self.variables(key))
        return done.code, done.out + done.err


Place = OnVault | OnAws
STORES = ("vault", "strict-aws")


def on_vault(home: Home, openbao: OpenBao, address: str) -> OnVault:
    """A mount of its own, with the credentials in it. `address`: the vendor's."""
    mount = openbao.mount()
    openbao.put(mount, PATHS, {"username": "svc-acme", "password": "correct-horse"})
    stores = f'[stores.s]\ntype = "vault"\nmount = "{mount}"'
    home.configure(pitchpoint_config(address, stores=stores, more=MORE))
    home.environment |= {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    return OnVault(home, openbao, mount)


@contextmanager
def on_aws(home: Home, vendor: str) -> Iterator[OnAws]:
    """A stand-in of its own, with the credentials in it. `vendor`: its address."""
    aws = StrictAws()
    with open_strict_aws(aws) as address:
        stores = f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"'
        home.configure(pitchpoint_config(vendor, stores=stores, more=MORE))
        home.environment |= AWS_VARIABLES
        home.set_credentials(username="svc-acme", password="correct-horse")
        yield OnAws(home, aws, address)
