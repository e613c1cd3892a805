"""Situations that share a reference with others, or that need a part of their own (an AWS profile,
TLS, another user's files, a cluster, a function): what is printed is done as it is printed.

Stand-ins where the real one can't be had: a strict one of Secrets Manager, moto for STS, one of the
portal of IAM Identity Center. OpenBao, TLS, kubectl and the permissions of files are real.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import boto3
import pytest
import trustme

from lab.servers.raft import open_cluster
from lab.servers.sso_portal import CONFIG, Portal, open_portal
from lab.servers.strict_aws import StrictAws, Version, open_strict_aws
from lab.servers.vault_front import front
from lab.support import AWS_VARIABLES, BIN, Home, as_a_user, pitchpoint_config
from lab.worlds.remedies import MEMBERS, PATH, Bench
from lab.worlds.vendor import Vendor

GOOD = json.dumps(MEMBERS)
KEYS = "aws_access_key_id = {}\naws_secret_access_key = x\n"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"


@pytest.fixture
def bench(empty_home: Home, vendor: Vendor, request: pytest.FixtureRequest) -> Bench:
    return Bench(empty_home, vendor, lambda: request.getfixturevalue("openbao"))


# Secrets Manager.


@pytest.fixture
def aws(bench: Bench) -> Iterator[StrictAws]:
    """A stand-in that holds the credentials; no AWS identity in the environment."""
    found = StrictAws()
    with open_strict_aws(found) as address:
        bench.notes["aws"] = address
        bench.home.environment |= {
            "AWS_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        found.do_create_secret({"Name": PATH, "SecretString": GOOD, "ClientRequestToken": "0" * 32})
        yield found


def aws_file(bench: Bench, name: str, text: str) -> None:
    file = bench.home.path / ".aws" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)


def test_a_session_with_the_mfa_code_is_named(bench: Bench, aws: StrictAws, moto: str) -> None:
    """moto plays STS: its session stands for what `aws sts get-session-token` prints."""
    serial = "arn:aws:iam::123456789012:mfa/anna"
    role = (
        f"role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\nmfa_serial = {serial}"
    )
    aws_file(bench, "config", f"[profile work]\n{role}\n[profile base]\nregion = eu-west-1\n")
    aws_file(bench, "credentials", f"[base]\n{KEYS.format('AKIABASE')}")
    bench.secrets_manager(bench.notes["aws"], profile="work")
    (command,) = bench.fails("store-denied", "token")
    assert command.startswith("aws sts get-session-token --serial-number ")
    sts = boto3.client(
        "sts",
        endpoint_url=moto,
        region_name="eu-west-1",
        aws_access_key_id="AKIABASE",
        aws_secret_access_key="x",
    )
    given = sts.get_session_token(SerialNumber=serial, TokenCode="123456")["Credentials"]
    keys = f"{KEYS.format(given['AccessKeyId'])}aws_session_token = {given['SessionToken']}\n"
    aws_file(bench, "credentials", f"[with-code]\n{keys}")
    assert "Name a `profile` in the store" in bench.todo("store-denied")
    bench.edit('profile = "work"', 'profile = "with-code"')
    bench.works("token")


def test_a_dead_sso_session_is_begun_again(bench: Bench, aws: StrictAws) -> None:
    """`aws` on PATH does what `aws sso login` does, and nothing else."""
    with open_portal() as portal:
        bench.home.environment["AWS_ENDPOINT_URL_SSO"] = portal.address
        aws_file(bench, "config", CONFIG)
        portal.log_in(bench.home.path, "ended", life_s=-60.0)
        bench.secrets_manager(bench.notes["aws"], profile="work")
        (command,) = bench.fails("store-denied", "token")
        assert command == "aws sso login --profile work"
        install_aws(bench, portal)
        bench.typed(command)
        bench.works("token")


def install_aws(bench: Bench, portal: Portal) -> None:
    """A command `aws` that logs in at the portal, as `work` alone."""
    portal.log_in(bench.home.path / "later", "living")
    program = bench.home.path / "bin/aws"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "sso login --profile work" ] && cp -R "$HOME/later/.aws" "$HOME"\n'
    )
    program.chmod(0o755)


def test_without_aws_credentials_a_profile_is_named(bench: Bench, aws: StrictAws) -> None:
    """Keys stand in a profile that nobody has named."""
    aws_file(bench, "credentials", f"[porter]\n{KEYS.format('AKIAPORTER')}")
    bench.secrets_manager(bench.notes["aws"])
    bench.fails("store-denied", "token")
    assert "Set AWS_PROFILE" in bench.todo("store-denied")
    bench.home.environment["AWS_PROFILE"] = "porter"
    bench.works("token")


def test_a_profile_that_is_not_there_is_corrected(bench: Bench, aws: StrictAws) -> None:
    """The list that the remedy names is `aws configure list-profiles`: the test reads the file."""
    aws_file(bench, "credentials", f"[porter]\n{KEYS.format('AKIAPORTER')}")
    bench.secrets_manager(bench.notes["aws"], profile="poter")
    (command,) = bench.fails("configuration", "token")
    assert command == "aws configure list-profiles"
    bench.edit('profile = "poter"', 'profile = "porter"')
    bench.works("token")


def test_the_use_of_a_kms_key_is_granted(bench: Bench, aws: StrictAws) -> None:
    """The reader names the key and prints the policy; who administers AWS attaches it."""
    bench.home.environment |= AWS_VARIABLES
    aws.secrets[PATH].kms_key_id = KEY
    aws.denied_keys.add(KEY)
    bench.secrets_manager(bench.notes["aws"])
    (command,) = bench.fails("store-denied", "token")
    assert "Name the key as `kms_key_id`" in bench.todo("store-denied")
    bench.edit("endpoint_url =", f'kms_key_id = "{KEY}"\nendpoint_url =')
    attached = json.loads(bench.typed(command))
    granted = {
        action
        for statement in attached["Statement"]
        for action in statement["Action"]
        if KEY in statement["Resource"]
    }
    if {"kms:Decrypt", "kms:GenerateDataKey"} <= granted:
        aws.denied_keys.clear()
    bench.works("token")


def test_the_versions_of_a_day_are_used_up(bench: Bench, aws: StrictAws) -> None:
    """The time that is to be waited for passes: the record's count is of yesterday then."""
    bench.home.environment |= AWS_VARIABLES
    bench.secrets_manager(bench.notes["aws"])
    bench.edit("credentials =", "share_access_token = true\ncredentials =")  # each refresh writes
    bench.works("token")
    record = aws.secrets[f"{PATH}/refresh-token"]
    counted(record.versions, count=100.0, age_s=0)
    (command,) = bench.fails("write-budget", "token", "--force-refresh")
    assert bench.todo("write-budget").startswith("Wait")
    assert command == "nightporter status"
    bench.typed(command)
    counted(record.versions, count=100.0, age_s=86_400)
    bench.works("token", "--force-refresh")


def counted(versions: dict[str, Version], count: float, age_s: float) -> None:
    """The current version says that so many writes were counted then."""
    current = next(item for item in versions.values() if "AWSCURRENT" in item.labels)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_s))
    current.text = json.dumps({**json.loads(current.text), "writes": {"count": count, "at": at}})


# Vault.


def server_context(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def ca(bench: Bench) -> trustme.CA:
    found = trustme.CA()
    found.cert_pem.write_to_path(bench.home.path / "ca.pem")
    return found


def test_a_client_certificate_is_set(bench: Bench, ca: trustme.CA) -> None:
    """A listener before a real OpenBao that lets nobody in without one."""
    context = server_context(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    bench.vault()
    with front(bench.open_bao(), tls=context) as address:
        bench.edit(bench.open_bao().address, address)
        bench.home.environment["VAULT_CACERT"] = str(bench.home.path / "ca.pem")
        bench.fails("store-unreachable", "token", "--timeout", "5")
        assert "client certificate" in bench.said
        keys = re.findall(r"`(client_\w+)`", bench.todo("store-unreachable"))
        assert keys == ["client_cert", "client_key"]
        leaf = ca.issue_cert("porter.example")
        files = [bench.home.path / "porter.pem", bench.home.path / "porter.key"]
        leaf.cert_chain_pems[0].write_to_path(files[0])
        leaf.private_key_pem.write_to_path(files[1])
        lines = "".join(f'{key} = "{file}"\n' for key, file in zip(keys, files, strict=True))
        bench.edit("address =", f"{lines}address =")
        bench.works("token")


def test_the_ca_of_a_company_is_named(bench: Bench, ca: trustme.CA) -> None:
    """By the variable that is printed."""
    bench.vault()
    with front(bench.open_bao(), tls=server_context(ca)) as address:
        bench.edit(bench.open_bao().address, address)
        bench.fails("store-unreachable", "token", "--timeout", "5")
        assert "`ca_cert` or VAULT_CACERT" in bench.todo("store-unreachable")
        bench.home.environment["VAULT_CACERT"] = str(bench.home.path / "ca.pem")
        bench.works("token")


def test_a_server_without_tls_is_asked_without_it(bench: Bench) -> None:
    """`https://` to `bao server -dev`, the commonest slip."""
    bench.vault()
    bench.edit('address = "http://', 'address = "https://')
    bench.fails("store-unreachable", "token", "--timeout", "5")
    assert "http://" in bench.todo("store-unreachable")
    bench.edit('address = "https://', 'address = "http://')
    bench.works("token")


def test_a_new_secret_id_is_written(bench: Bench) -> None:
    """Its administrator fills in the name of the role, which only Vault knows."""
    bao, mount = bench.open_bao(), bench.vault()
    policy = f'path "{mount}/*" {{ capabilities = ["create", "read", "update", "patch", "list"] }}'
    bao.call("PUT", "sys/policies/acl/porters", {"policy": policy})
    approle = f"approle-{mount}"
    bao.call("POST", f"sys/auth/{approle}", {"type": "approle"})
    role = f"auth/{approle}/role/porter"
    bao.call("POST", role, {"token_policies": ["porters"]})
    role_id = bao.call("GET", f"{role}/role-id")["data"]["role_id"]
    file = bench.home.path / "secret-id"
    file.write_text("destroyed")
    file.chmod(0o600)
    bench.edit(
        "[profiles",
        f'auth = {{ method = "approle", mount = "{approle}", role_id = "{role_id}",'
        f' secret_id_file = "{file}" }}\n[profiles',
    )
    del bench.home.environment["VAULT_TOKEN"]
    write, read = bench.fails("store-denied", "token")
    assert bench.typed(read.replace("NAME", "porter")).count(role_id) == 1
    bench.typed(write.replace("NAME", "porter"))
    bench.works("token")


def test_the_limit_of_a_mount_is_lifted(bench: Bench) -> None:
    """`token` and doctor print the same command, and its administrator types it."""
    mount = bench.vault()
    bench.open_bao().call("POST", f"{mount}/config", {"delete_version_after": "10s"})
    (command,) = bench.fails("store-deletes-early", "token")
    assert bench.fails("store-deletes-early", "doctor") == [command]
    bench.typed(command)
    bench.works("token")
    bench.is_gone("store-deletes-early")


def test_the_limit_of_a_key_is_lifted(bench: Bench) -> None:
    """Of a reader who may not see the mount's configuration: one of the two commands helps."""
    mount = bench.vault()
    bench.works("token")
    record = f"{PATH}/refresh-token"
    bao = bench.open_bao()
    bao.call("POST", f"{mount}/metadata/{record}", {"delete_version_after": "30s"})
    bao.put(mount, record, bao.call("GET", f"{mount}/data/{record}")["data"]["data"])
    reader = bench.typed("nightporter policy pitchpoint --role full")
    bench.home.environment["VAULT_TOKEN"] = bao.token_with(reader)
    key, of_mount = bench.fails("store-deletes-early", "doctor")
    assert of_mount.startswith(f"vault write {mount}/config ")
    bench.typed(key)
    bench.home.environment["VAULT_TOKEN"] = bao.token
    bench.works("token", "--force-refresh")
    bench.is_gone("store-deletes-early")


@pytest.mark.long
def test_a_cluster_without_a_majority_is_waited_for(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two of three nodes are gone; they come back, as the remedy says, and are unsealed."""
    with open_cluster(tmp_path_factory.mktemp("raft")) as cluster:
        mount = cluster.mount()
        leader = cluster.leader()
        leader.call("POST", f"{mount}/data/{PATH}", {"data": MEMBERS}, cluster.token)
        stores = f'[stores.s]\ntype = "vault"\naddress = "{leader.address}"\nmount = "{mount}"'
        bench.home.configure(pitchpoint_config(bench.vendor.address, stores=stores))
        bench.home.environment["VAULT_TOKEN"] = cluster.token
        others = [node for node in cluster.nodes if node is not leader]
        for node in others:
            node.kill()
        for _ in range(60):  # the leader steps down after some seconds
            if "reference: store-electing" in bench.ask("token", "--timeout", "3").err:
                break
        assert "a majority of the nodes" in bench.todo("store-electing").replace("\n", " ")
        for node in others:
            cluster.restart(node)
        bench.works("token", "--timeout", "90")


# Files of another user.


def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")


def test_the_store_of_another_user_is_made_ours(bench: Bench) -> None:
    """After a run by sudo, say. Doctor says the same as the command (it printed a policy)."""
    root_only()
    bench.local()
    bench.home.before = as_a_user()
    for file in (bench.home.data, *bench.home.data.iterdir()):
        os.chown(file, 12345, 12345)
    bench.home.data.chmod(0o700)
    (command,) = bench.fails("store-denied", "token")
    assert bench.fails("store-denied", "doctor") == [command]
    bench.typed(command)
    bench.works("token")
    bench.is_gone("store-denied")


@pytest.mark.parametrize("which", ["", ".."])
def test_the_configuration_of_another_user_is_made_ours(which: str, bench: Bench) -> None:
    """The file or its directory; its content was looked at."""
    root_only()
    bench.local()
    bench.home.before = as_a_user()
    owned = bench.home.config_file.parent if which else bench.home.config_file
    os.chown(owned, 12345, 12345)
    (command,) = bench.fails("untrusted-file", "token")
    bench.typed(command)
    bench.works("token")


# Clients, sessions and functions.


def test_the_commands_are_put_on_path(bench: Bench) -> None:
    """Each by the line that is printed for it, in a home without `~/.local/bin`."""
    bench.local()
    own = bench.home.path / ".local/bin"
    bench.home.environment["PATH"] = f"{own}:/usr/bin:/bin"
    bench.fails("command-missing", "doctor")
    commands = re.findall(r"Run `(.+? ln -sf .+?)`", bench.said)
    assert len(commands) == 4
    for command in commands:
        bench.typed(command)
    bench.is_gone("command-missing")
    done = bench.type("nightporter token")
    assert done.code == 0, done.err


def test_another_installation_on_path_comes_second(bench: Bench) -> None:
    """What an old pip left before ours."""
    bench.local()
    old = bench.home.path / "old"
    old.mkdir()
    (old / "nightporter").write_text("#!/bin/sh\n")
    (old / "nightporter").chmod(0o755)
    bench.home.environment["PATH"] = f"{old}:{bench.home.environment['PATH']}"
    bench.fails("command-missing", "doctor")
    (first,) = re.findall(r"Put (\S+) before its directory on PATH", bench.said)
    bench.home.environment["PATH"] = f"{first}:{bench.home.environment['PATH']}"
    bench.is_gone("command-missing")


def test_the_base_url_of_a_page_is_corrected(bench: Bench, vendor: Vendor) -> None:
    """`base_url` names a web server, which answers everything with a page."""
    bench.local()
    command = [sys.executable, "-u", "-c", PAGES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pages:
        assert pages.stdout is not None
        address = f"http://127.0.0.1:{pages.stdout.readline().strip()}"
        bench.edit(vendor.address, address)
        bench.fails("issuer-reply", "token")
        assert "`base_url`" in bench.todo("issuer-reply")
        bench.edit(address, vendor.address)
        bench.works("token")
        pages.kill()


PAGES = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Page(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200); self.send_header("Content-Type", "text/html"); self.end_headers()
        self.wfile.write(b"<html><title>Sign in</title></html>")
server = HTTPServer(("127.0.0.1", 0), Page)
print(server.server_address[1])
server.serve_forever()
"""


def test_the_ca_of_kubectl_s_cluster_is_pinned(bench: Bench, ca: trustme.CA) -> None:
    """With the real kubectl, whose context asks for the token."""
    bench.local('hosts = ["127.0.0.1:6443"]\n')
    (bench.home.path / "bin/kubectl").symlink_to(BIN / "kubectl")
    bench.typed("nightporter setup kubectl pitchpoint")
    bench.typed(
        "kubectl config set-cluster k8s --server=https://127.0.0.1:6443"
        f" --certificate-authority={bench.home.path}/ca.pem"
    )
    bench.typed("kubectl config set-context c --cluster=k8s --user=nightporter-pitchpoint")
    (command,) = bench.fails("cluster-not-pinned", "doctor")
    bench.typed(command)
    bench.is_gone("cluster-not-pinned")


def test_a_session_of_another_user_is_begun_again(bench: Bench, vendor: Vendor) -> None:
    """The token that was seeded is bob's, and the profile is for alice."""
    vendor.world.clients = {"demo-client": "demo-secret"}
    bench.home.configure(
        '[profiles.acme]\nissuer = "oauth2"\ngrant = "refresh_token"\nusername = "alice"\n'
        f'token_endpoint = "{vendor.address}/oauth2/token"\ncredentials = "prod/acme"\n'
    )
    client = json.dumps({"client_id": "demo-client", "client_secret": "demo-secret"})
    bench.typed("nightporter credentials set acme", client)
    bench.typed("nightporter seed acme", vendor.world.new_refresh_token())
    answers_as(vendor, "bob")
    bench.works("token", "--force-refresh")
    _, seed = bench.fails("other-user", "doctor")
    bench.typed(seed, vendor.world.new_refresh_token())
    answers_as(vendor, "alice")
    bench.works("token", "--force-refresh")
    bench.is_gone("other-user")


def answers_as(vendor: Vendor, user: str) -> None:
    """The vendor's next answer names this user in its id_token."""
    from base64 import urlsafe_b64encode  # one use

    claims = json.dumps({"sub": user, "preferred_username": user}).encode()
    id_token = f"e30.{urlsafe_b64encode(claims).rstrip(b'=').decode()}.c2ln"
    fresh = {"refresh_token": vendor.world.new_refresh_token(), **vendor.world.issue_access_token()}
    body = {"token_type": "Bearer", **fresh, "id_token": id_token}
    vendor.fail({"kind": "status", "status": 200, "body": body})


def function(bench: Bench, code: str) -> subprocess.CompletedProcess[str]:
    """A Python program in the user's home, as a function's code."""
    return subprocess.run(
        [sys.executable, "-c", code], env=bench.home.environment, capture_output=True, text=True
    )


ROTATE = "import nightporter.aws_lambda as a; a.rotate_handler({}, None)"


def test_each_failed_profile_of_a_function_has_its_reason(bench: Bench) -> None:
    """The handler's log has a line `rotated` for it; what that says is done."""
    bench.local(has_credentials=False)
    done = function(bench, ROTATE)
    assert done.returncode != 0
    lines = [
        json.loads(line)
        for line in done.stdout.splitlines() + done.stderr.splitlines()
        if line.startswith("{")
    ]
    (rotated,) = [line for line in lines if line.get("event") == "rotated"]
    explained = bench.typed(f"nightporter explain {rotated['error']}")
    (command,) = re.findall(r"`(nightporter credentials [^`]+)`", explained)
    bench.typed(command, GOOD)
    assert function(bench, ROTATE).returncode == 0
