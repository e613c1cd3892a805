"""The main job on real input: credentials in a real OpenBao, a real kubectl, and a server that
takes only the token."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.patience import patience
from lab.servers.tls import Guarded, open_guarded
from lab.support import BIN, Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import parse_rfc3339, pitchpoint_refresh_expiry

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.4",
    "gitCommit": "0",
    "goVersion": "go1.23",
}
ANSWERS = {
    "/version": VERSION,
    "/api/v1/namespaces/default": {"kind": "Namespace", "metadata": {"name": "default"}},
}

KUBECTLS = {
    "PyPI's": str(BIN / "kubectl"),
    "the system's": shutil.which("kubectl", path="/usr/local/bin:/usr/bin:/bin"),
}


def kubeconfig(
    server: Guarded, *, api_version: str = "v1", command: str = str(BIN / "nightporter")
) -> str:
    return f"""
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: porter}}}}]
clusters: [{{name: here, cluster: {{server: "{server.address}", certificate-authority: "{server.ca_file}"}}}}]
users:
- name: porter
  user:
    exec:
      apiVersion: client.authentication.k8s.io/{api_version}
      command: {command}
      args: [exec-credential, pitchpoint]
      interactiveMode: Never
      installHint: "pip install nightporter"
"""


@pytest.fixture
def guarded(vendor: Vendor, tmp_path: Path) -> Iterator[Guarded]:
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=ANSWERS) as server:
        yield server


@pytest.fixture
def mount(openbao: OpenBao) -> str:
    mount = openbao.mount()
    openbao.put(mount, "prod/pitchpoint", {"username": "svc-acme", "password": "correct-horse"})
    return mount


@pytest.fixture
def vault_home(empty_home: Home, vendor: Vendor, openbao: OpenBao, mount: str) -> Home:
    stores = f'[stores.vault]\ntype = "vault"\nmount = "{mount}"\n'
    empty_home.configure(pitchpoint_config(vendor.address, stores=stores))
    empty_home.environment |= {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    return empty_home


def run_kubectl(
    kubectl: str | None, home: Home, config: str, *args: str
) -> subprocess.CompletedProcess[str]:
    if kubectl is None or not Path(kubectl).exists():
        pytest.skip("this machine has no such kubectl")
    file = home.path / "kubeconfig"
    file.write_text(config)
    environment = {**home.environment, "KUBECONFIG": str(file)}
    return subprocess.run(
        [kubectl, *args], env=environment, capture_output=True, text=True, timeout=patience(60)
    )


@pytest.mark.parametrize("kubectl", KUBECTLS.values(), ids=KUBECTLS.keys())
def test_the_main_job(
    kubectl: str | None,
    vault_home: Home,
    vendor: Vendor,
    guarded: Guarded,
    openbao: OpenBao,
    mount: str,
) -> None:
    config = kubeconfig(guarded)
    done = run_kubectl(kubectl, vault_home, config, "get", "--raw", "/api/v1/namespaces/default")
    assert done.returncode == 0, done.stderr
    assert '"Namespace"' in done.stdout
    assert "v1.32.4" in run_kubectl(kubectl, vault_home, config, "version").stdout
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)
    metadata = openbao.metadata(mount, "prod/pitchpoint/refresh-token")
    record = openbao.call("GET", f"{mount}/data/prod/pitchpoint/refresh-token")["data"]["data"]
    midnight = pitchpoint_refresh_expiry(parse_rfc3339(record["issued_at"]))
    assert parse_rfc3339(record["expires_at"]) == midnight
    newest = metadata["versions"][str(metadata["current_version"])]
    assert 0 <= parse_rfc3339(newest["deletion_time"]) - midnight <= 5
    assert metadata["max_versions"] == 1


def test_a_kubeconfig_of_the_older_version(vault_home: Home, guarded: Guarded) -> None:
    done = run_kubectl(
        KUBECTLS["PyPI's"],
        vault_home,
        kubeconfig(guarded, api_version="v1beta1"),
        "get",
        "--raw",
        "/version",
    )
    assert done.returncode == 0, done.stderr


def test_kubectl_shows_the_error_as_it_is(
    vault_home: Home, vendor: Vendor, guarded: Guarded
) -> None:
    vendor.world.users = {"svc-acme": "changed"}
    done = run_kubectl(KUBECTLS["PyPI's"], vault_home, kubeconfig(guarded), "get", "namespaces")
    assert done.returncode != 0
    assert "refused the sign-in" in done.stderr
    assert "exit code 3" in done.stderr
    assert vendor.count("sign-in") == 1  # though kubectl ran the plugin several times
    assert guarded.seen == []


def test_a_sealed_vault_and_one_that_denies(
    vault_home: Home, openbao: OpenBao, mount: str, vendor: Vendor
) -> None:
    token = openbao.token_with(f'path "{mount}/data/other" {{ capabilities = ["read"] }}')
    done = vault_home.run("exec-credential", "pitchpoint", VAULT_TOKEN=token)
    assert (done.code, done.out) == (5, "")
    assert f"read on {mount}/data/prod/pitchpoint" in done.err
    done = vault_home.run("exec-credential", "pitchpoint", VAULT_ADDR="http://127.0.0.1:1")
    assert (done.code, done.out) == (5, "")
    assert "can't be reached" in done.err
    assert vendor.count("sign-in") == 0


def test_who_can_not_write_the_claim_sends_nothing(
    vault_home: Home, openbao: OpenBao, mount: str, vendor: Vendor
) -> None:
    token = openbao.token_with(f'path "{mount}/data/*" {{ capabilities = ["read"] }}')
    done = vault_home.run("token", VAULT_TOKEN=token)
    assert done.code == 5
    assert "create and update on" in done.err
    assert vendor.count("sign-in") == 0


def test_a_consumer_needs_read_rights_only(
    vault_home: Home, openbao: OpenBao, mount: str, vendor: Vendor
) -> None:
    """A reused refresh token without sharing needs no claim."""
    assert vault_home.run("token").code == 0
    vault_home.drop_cache()
    token = openbao.token_with(
        f'path "{mount}/data/prod/pitchpoint/refresh-token" {{ capabilities = ["read"] }}'
    )
    done = vault_home.run("token", VAULT_TOKEN=token)
    assert (done.code, done.err) == (0, "")
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 1)


def test_another_vault_identity_never_gets_the_cached_token(
    vault_home: Home, openbao: OpenBao, vendor: Vendor
) -> None:
    first = vault_home.run("token").out
    assert vault_home.run("token").out == first
    other = openbao.token_with('path "*" { capabilities = ["create", "read", "update", "patch"] }')
    assert vault_home.run("token", VAULT_TOKEN=other).out != first
    assert (
        vault_home.run("token", VAULT_ADDR=openbao.address.replace("127.0.0.1", "localhost")).out
        != first
    )


def test_a_changed_token_file_is_another_identity(vault_home: Home, openbao: OpenBao) -> None:
    del vault_home.environment["VAULT_TOKEN"]
    file = vault_home.path / ".vault-token"
    file.write_text(openbao.token)
    first = vault_home.run("token").out
    assert vault_home.run("token").out == first
    file.write_text(
        openbao.token_with('path "*" { capabilities = ["create", "read", "update", "patch"] }')
    )
    assert vault_home.run("token").out != first
