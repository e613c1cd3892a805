"""Kubeconfigs that somebody sent: each is held back from the token, and one's own still works."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

SERVER = "https://api.cluster.example:6443"
DER = b"not a certificate, but bytes of one"
PEM = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(DER) + b"-----END CERTIFICATE-----\n"
CA_DATA = base64.b64encode(PEM).decode()
PIN = hashlib.sha256(DER).hexdigest()


def asked(home: Home, cluster: Any, **environment: str) -> tuple[int, str, str]:
    spec = {} if cluster is None else {"cluster": cluster}
    info = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "spec": spec})
    done = home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=info, **environment)
    return done.code, done.out, done.err


def configure(home: Home, vendor: Vendor, *more: str) -> None:
    lines = "\n".join(('hosts = ["api.cluster.example:6443"]', *more))
    home.configure(pitchpoint_config(vendor.address, more=lines))


@pytest.mark.parametrize(
    "cluster",
    [
        None,
        {},
        {"server": None},
        {"server": 7},
        {"server": [SERVER]},
        {"server": "https://evil.example:6443"},
        {"server": SERVER, "insecure-skip-tls-verify": True},
        {"server": SERVER, "insecure-skip-tls-verify": "true"},
        {"server": SERVER, "proxy-url": "http://127.0.0.1:3128"},
        {"server": SERVER, "proxy-url": "http://127.0.0.1:3128", "insecure-skip-tls-verify": True},
    ],
    ids=str,
)
def test_a_hostile_kubeconfig_gets_nothing(home: Home, vendor: Vendor, cluster: Any) -> None:
    """No cluster told, another one, a skipped check, a proxy: exit 7, and not a byte."""
    configure(home, vendor)
    code, out, err = asked(home, cluster)
    assert (code, out) == (7, ""), err
    assert "gives this cluster no token" in err
    assert "127.0.0.1" not in err


@pytest.mark.parametrize(
    "cluster",
    [
        {"server": SERVER},
        {"server": SERVER, "insecure-skip-tls-verify": False, "proxy-url": ""},
        {"server": SERVER, "certificate-authority-data": CA_DATA, "config": None},
        {"server": SERVER, "tls-server-name": "other.example"},
    ],
    ids=str,
)
def test_one_s_own_kubeconfig_is_answered(home: Home, vendor: Vendor, cluster: Any) -> None:
    configure(home, vendor)
    code, out, err = asked(home, cluster)
    assert code == 0, err
    assert '"token"' in out


@pytest.mark.parametrize(
    ("pins", "cluster", "code"),
    [
        ('ca_sha256 = "PIN"', {"certificate-authority-data": CA_DATA}, 0),
        ('ca_sha256 = ["PIN"]', {"certificate-authority-data": CA_DATA}, 0),
        ('ca_sha256 = "PIN"', {}, 7),
        (f'ca_sha256 = "{"0" * 64}"', {"certificate-authority-data": CA_DATA}, 7),
        ('ca_sha256 = "PIN"', {"certificate-authority-data": "rubbish"}, 7),
        ('proxy = "http://proxy.example:3128"', {"proxy-url": "http://proxy.example:3128"}, 0),
        ('proxy = "http://proxy.example:3128"', {"proxy-url": "http://evil.example:3128"}, 7),
        ('proxy = "http://proxy.example:3128"', {}, 0),
        ('tls_server_name = "k8s"', {"tls-server-name": "k8s"}, 0),
        ('tls_server_name = "k8s"', {"tls-server-name": "evil"}, 7),
        ('tls_server_name = "k8s"', {}, 7),
    ],
)
def test_what_is_pinned_must_fit(
    home: Home, vendor: Vendor, pins: str, cluster: dict[str, Any], code: int
) -> None:
    configure(home, vendor, f"kubernetes = {{ {pins.replace('PIN', PIN)} }}")
    found, out, err = asked(home, {"server": SERVER, **cluster})
    assert found == code, err
    assert bool(out) is (code == 0)


RANCHER = "https://rancher.example.com/k8s/clusters"


def test_a_path_tells_clusters_behind_one_host_apart(home: Home, vendor: Vendor) -> None:
    """Rancher serves every cluster at one host (jenkinsci/kubernetes-cli-plugin#71)."""
    hosts = 'hosts = ["rancher.example.com/k8s/clusters/c-abc"]'
    home.configure(pitchpoint_config(vendor.address, more=hosts))
    for path in ("c-abc", "c-abc/", "c-abc/below"):
        assert asked(home, {"server": f"{RANCHER}/{path}"})[0] == 0
    for path in ("c-other", "c-abcd", "c-abc/../c-other", "c-abc%2f..", "", "c-abc?x", "x/c-abc"):
        assert asked(home, {"server": f"{RANCHER}/{path}"})[0] == 7, path


@pytest.mark.parametrize(
    "info",
    [
        '{"apiVersion": null, "kind": null, "spec": {"interactive": true}}',
        '{"apiVersion": "", "spec": null}',
        '{"spec": {"cluster": null}}',
        "null",
        "  \n",
        "{}",
        "\ufeff{}",
    ],
)
def test_members_that_are_null_are_members_not_told(home: Home, info: str) -> None:
    """Other clients than kubectl send them (kube-rs/kube#1318)."""
    done = home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=info)
    assert done.code == 0, done.err
    assert json.loads(done.out)["apiVersion"] == "client.authentication.k8s.io/v1"


def test_a_null_exec_info_is_still_kubectl_s(home: Home, vendor: Vendor) -> None:
    configure(home, vendor)
    for info in ("null", " "):
        done = home.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=info)
        assert (done.code, done.out) == (7, "")


def test_an_unknown_cluster_can_be_allowed(home: Home, vendor: Vendor) -> None:
    """For old kubeconfigs; a person or a script is asked nothing."""
    configure(home, vendor, "allow_unknown_cluster = true")
    assert asked(home, None)[0] == 0
    assert asked(home, {"server": "https://evil.example:6443"})[0] == 7
    configure(home, vendor)
    assert home.run("exec-credential", "pitchpoint").code == 0


@pytest.mark.parametrize(
    "words", [("token",), ("token", "pitchpoint"), ("run", "pitchpoint", "--", "env"), ("status",)]
)
def test_kubectl_runs_nothing_else(home: Home, vendor: Vendor, words: tuple[str, ...]) -> None:
    configure(home, vendor)
    home.run("token")
    done = home.run(*words, KUBERNETES_EXEC_INFO="{}")
    assert (done.code, done.out) == (2, "")
    assert "exec-credential" in done.err


@pytest.mark.parametrize("value", ['{ ca_sha256 = "xx" }', "{ ca = 1 }", "true", "{ proxy = 1 }"])
def test_pins_are_checked(home: Home, vendor: Vendor, value: str) -> None:
    configure(home, vendor, f"kubernetes = {value}")
    done = home.run("config", "check")
    assert done.code == 2
    assert "kubernetes" in done.err


@pytest.mark.parametrize("program", ["nightporter", "git-credential-nightporter"])
def test_nothing_of_the_working_directory_is_run(home: Home, tmp_path: Path, program: str) -> None:
    """Under a PYTHONPATH whose empty entry is the working directory, as many people have it."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("nightporter.py", "json.py", "idna.py", "sitecustomize.py"):
        (checkout / name).write_text("open('ran', 'w')\n")
    words = ["token", "-v"] if program == "nightporter" else ["get"]
    subprocess.run(
        [BIN / program, *words],
        cwd=checkout,
        env={**home.environment, "PYTHONPATH": ":", "PYTHONHOME": ""},
        input="",
        capture_output=True,
        text=True,
    )
    assert not (checkout / "ran").exists()
