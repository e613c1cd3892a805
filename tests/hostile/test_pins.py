"""`setup kubectl` pins the cluster that the user trusts; what others send afterwards gets nothing.
With the real kubectl."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from lab.patience import patience
from lab.servers.tls import Guarded, open_guarded
from lab.support import BIN, Done, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

KUBECTL = str(BIN / "kubectl")
SERVER = "https://k8s.example.com:6443"
ANSWERS = {"/api/v1/namespaces/default": {"kind": "Namespace", "metadata": {"name": "default"}}}


@pytest.fixture
def ready(home: Home, vendor: Vendor) -> Home:
    more = 'hosts = ["k8s.example.com:6443"]  # kept\n# a remark that is kept'
    home.configure(pitchpoint_config(vendor.address, more=more))
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    return home


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


def digest(ca: Path) -> str:
    lines = [line for line in ca.read_text().splitlines() if line and not line.startswith("-")]
    return hashlib.sha256(base64.b64decode("".join(lines))).hexdigest()


def kubectl(home: Home, *words: str, code: int | None = 0) -> Done:
    done = subprocess.run(
        [KUBECTL, *words],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert code is None or done.returncode == code, done.stderr
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def cluster(home: Home, *words: str, name: str = "k8s", server: str = SERVER) -> None:
    kubectl(home, "config", "set-cluster", name, f"--server={server}", *words)


def pins(home: Home) -> object:
    document = tomllib.loads(home.config_file.read_text())
    return document["profiles"]["pitchpoint"].get("kubernetes")


def set_up(home: Home) -> str:
    done = home.run("setup", "kubectl", "pitchpoint")
    assert done.code == 0, done.err
    return done.err


def answer(home: Home, **members: object) -> int:
    """The exit code for a cluster that somebody's kubeconfig names."""
    spec = {"cluster": {"server": SERVER, **members}}
    info = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "spec": spec})
    return home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=info).code


def data(ca: Path) -> str:
    return base64.b64encode(ca.read_bytes()).decode()


def test_the_ca_is_pinned_and_said(ready: Home, ca: Path) -> None:
    """Named by a file, which kubectl tells as data."""
    cluster(ready, f"--certificate-authority={ca}")
    before = ready.config_file.read_text()
    said = set_up(ready)
    assert f"pinned for k8s: ca_sha256 {digest(ca)}" in said
    assert pins(ready) == {"ca_sha256": [digest(ca)]}
    kept = [line for line in ready.config_file.read_text().splitlines() if "kubernetes" not in line]
    assert kept == before.splitlines()
    other = ca.parent / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert answer(ready, **{"certificate-authority-data": data(ca)}) == 0
    assert answer(ready, **{"certificate-authority-data": data(other)}) == 7
    assert answer(ready) == 7
    text = ready.config_file.read_text()
    set_up(ready)
    assert ready.config_file.read_text() == text


def test_what_decides_is_pinned_whole(ready: Home, ca: Path) -> None:
    cluster(
        ready,
        f"--certificate-authority={ca}",
        "--embed-certs",
        "--proxy-url=http://proxy.example:3128",
        "--tls-server-name=k8s",
    )
    set_up(ready)
    assert pins(ready) == {
        "ca_sha256": [digest(ca)],
        "proxy": ["http://proxy.example:3128"],
        "tls_server_name": ["k8s"],
    }


def test_a_renewed_ca_is_pinned_in_place_of_the_old_one(ready: Home, ca: Path) -> None:
    cluster(ready, f"--certificate-authority={ca}")
    set_up(ready)
    trustme.CA().cert_pem.write_to_path(str(ca))
    set_up(ready)
    assert pins(ready) == {"ca_sha256": [digest(ca)]}


def test_only_clusters_in_hosts_are_pinned(ready: Home, ca: Path) -> None:
    cluster(ready, f"--certificate-authority={ca}", server="https://other.example.com:6443")
    assert "none is pinned" in set_up(ready)
    assert pins(ready) is None


def test_an_unchecked_cluster_is_named_and_pins_nothing(ready: Home) -> None:
    cluster(ready, "--insecure-skip-tls-verify=true", "--proxy-url=http://evil.example:1")
    assert "skips the check of its certificate, so it gets no token" in set_up(ready)
    assert pins(ready) is None


def test_a_cluster_of_a_public_ca_hinders_no_other(ready: Home, ca: Path) -> None:
    """What is pinned is demanded of every cluster of the profile, so it must fit all."""
    cluster(ready, f"--certificate-authority={ca}")
    cluster(ready, name="public", server=SERVER + "/")
    assert "'public' names no CA of its own" in set_up(ready)
    assert pins(ready) is None


def test_a_configuration_that_can_not_be_written_is_told_what_to_add(ready: Home, ca: Path) -> None:
    cluster(ready, f"--certificate-authority={ca}")
    text = ready.config_file.read_text()
    ready.environment["NIGHTPORTER_CONFIG_TOML"] = text
    ready.config_file.unlink()
    said = set_up(ready)
    assert f'kubernetes = {{ca_sha256 = ["{digest(ca)}"]}}' in said.replace("{ ", "{")
    assert not ready.config_file.exists()


def test_print_changes_nothing(ready: Home, ca: Path) -> None:
    cluster(ready, f"--certificate-authority={ca}")
    done = ready.run("setup", "kubectl", "pitchpoint", "--print")
    assert digest(ca) in done.out
    assert pins(ready) is None


def test_doctor_warns_of_a_ca_that_is_not_pinned(ready: Home, ca: Path) -> None:
    set_up(ready)
    cluster(ready, f"--certificate-authority={ca}")
    assert "cluster-not-pinned" not in ready.run("doctor").out  # no context asks for the token yet
    context = ["--cluster=k8s", "--user=nightporter-pitchpoint"]
    kubectl(ready, "config", "set-context", "c", *context)
    said = ready.run("doctor").out
    assert "the CA of kubectl's cluster 'k8s' is not pinned [cluster-not-pinned]" in said
    assert "`nightporter setup kubectl pitchpoint`" in said
    set_up(ready)
    assert "cluster-not-pinned" not in ready.run("doctor").out


# kubectl's own allowlist of credential plugins (kubectl 1.35, KEP-3104).


@pytest.fixture
def guarded(vendor: Vendor, tmp_path: Path) -> Iterator[Guarded]:
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=ANSWERS) as server:
        yield server


def kuberc(home: Home, command: str) -> None:
    text = (
        "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n"
        "credentialPluginPolicy: Allowlist\n"
        f"credentialPluginAllowlist:\n- command: {command}\n"
    )
    (home.path / "kuberc").write_text(text)
    home.environment["KUBERC"] = str(home.path / "kuberc")


def test_under_kubectl_s_allowlist(ready: Home, guarded: Guarded) -> None:
    """Our command alone is allowed, by its absolute path, and the token reaches the cluster."""
    address = guarded.address.removeprefix("https://")
    text = ready.config_file.read_text().replace("k8s.example.com:6443", address)
    ready.config_file.write_text(text)
    cluster(ready, f"--certificate-authority={guarded.ca_file}", server=guarded.address)
    set_up(ready)
    kubectl(ready, "config", "set-context", "c", "--cluster=k8s", "--user=nightporter-pitchpoint")
    kubectl(ready, "config", "use-context", "c")
    get = ("get", "--raw", "/api/v1/namespaces/default")
    kuberc(ready, str(BIN / "nightporter"))
    assert '"Namespace"' in kubectl(ready, *get).out
    kuberc(ready, "/usr/local/bin/another")
    refused = kubectl(ready, *get, code=None)
    assert refused.code != 0
    assert "nightporter" in refused.err
