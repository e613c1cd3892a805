"""Real clients in the places where reports say that helpers fail: odd realms and paths, written-out
ports, registries of others, cron's environment, clusters behind one host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.clients import client, git_backend, git_environment, real_tool, run
from lab.patience import patience
from lab.servers.tls import Answer, Call, Guarded, Reply, open_guarded
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients

REALMS = ('Basic realm="Zugriff f\xfcr alle"', "Basic\trealm=x", 'Bearer realm="a\x85b"')


def configure(home: Home, vendor: Vendor, hosts: str, client_name: str) -> None:
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{hosts}"]'))
    done = home.run("setup", client_name, "pitchpoint")
    assert done.code == 0, done.err
    home.environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"  # what was set up holds under cron


# git.


@pytest.fixture
def served(vendor: Vendor, tmp_path: Path) -> Iterator[Guarded]:
    root = tmp_path / "served"
    for name in ("r.git", "team/a%2Fb.git", "team/v1%2e2.git"):
        subprocess.run(["git", "init", "-q", "--bare", str(root / name)], check=True)
    backend = git_backend(root)
    with open_guarded(
        tmp_path, is_live=vendor.world.is_live, answers={"/*": backend}, challenges=REALMS
    ) as guarded:
        yield guarded


@pytest.mark.parametrize("name", ["git", "git-new"])
def test_git_with_odd_realms_and_paths_under_cron(
    name: str, home: Home, vendor: Vendor, served: Guarded
) -> None:
    """git hands the server's challenges on since 2.41, and the path with `useHttpPath`."""
    git = client(name)
    home.environment |= {
        **git_environment(git),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": str(served.ca_file),
    }
    configure(home, vendor, served.host, "git")
    run(home, git, "ls-remote", f"{served.address}/r.git")
    run(home, git, "config", "--global", "credential.useHttpPath", "true")
    for path in ("r.git", "team/a%252Fb.git", "team/v1%252e2.git"):
        done = run(home, git, "ls-remote", f"{served.address}/{path}", code=None)
        assert "could not read" not in done.err, path
    assert {vendor.world.is_live(token) for token in served.sent_tokens()} == {True}
    assert vendor.count("sign-in") == 1


def test_git_says_that_another_user_is_named(home: Home, vendor: Vendor, served: Guarded) -> None:
    git = client("git")
    home.environment |= {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": str(served.ca_file),
    }
    configure(home, vendor, served.host, "git")
    run(home, git, "ls-remote", f"https://alice@{served.host}/r.git", code=128)
    assert "other-user-name" in home.run("status", "pitchpoint").out
    run(home, git, "ls-remote", f"https://oauth2@{served.host}/r.git")
    assert "other-user-name" not in home.run("status", "pitchpoint").out


# cargo.

CRATE = {"name": "toycrate", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}


@pytest.mark.parametrize("text", ["theirs", None, "[profiles.pitchpoint\n"])
def test_cargo_at_a_registry_of_others(
    home: Home, vendor: Vendor, tmp_path: Path, text: str | None
) -> None:
    """Whose token cargo's own provider holds: with our configuration, without one, with a broken
    one (rust-lang/cargo#12499, #13558)."""
    cargo = real_tool("cargo")

    def config(_call: Call) -> Answer:
        return {"dl": f"{server.address}/dl", "api": server.address, "auth-required": True}

    answers = {
        "/index/config.json": config,
        "/index/to/yc/toycrate": json.dumps({**CRATE, "cksum": "0" * 64}).encode(),
    }
    with open_guarded(tmp_path, is_live=lambda token: token == "theirs", answers=answers) as server:
        home.environment |= {
            "CARGO_HOME": str(home.path / "cargo"),
            "CARGO_HTTP_CAINFO": str(server.ca_file),
            "RUSTC": real_tool("rustc"),
        }
        configure(home, vendor, "cargo.example.com", "cargo")
        if text is None:
            home.config_file.unlink()
        elif text != "theirs":
            home.configure(text)
        package = home.path / "package"
        (package / "src").mkdir(parents=True)
        (package / "src/lib.rs").write_text("")
        (package / ".cargo").mkdir()
        (package / ".cargo/config.toml").write_text(
            f'[registries.toy]\nindex = "sparse+{server.address}/index/"\n'
        )
        (package / "Cargo.toml").write_text(
            '[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n'
            'toycrate = { version = "1", registry = "toy" }\n'
        )
        (home.path / "cargo/credentials.toml").write_text('[registries.toy]\ntoken = "theirs"\n')
        run(home, cargo, "generate-lockfile", cwd=package)
        assert "toycrate" in (package / "Cargo.lock").read_text()
        (home.path / "token").write_text("theirs\n")
        command = f"{cargo} login --registry toy -- --key-subject foo <{home.path}/token"
        done = run(home, "sh", "-c", command, cwd=package, code=None)
        assert "nightporter" not in done.text
        assert vendor.count("sign-in") == 0


# docker and buildah.


def manifest() -> bytes:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2}
    digest = {"digest": f"sha256:{'0' * 64}"}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {**config, **digest}, "layers": []}
    ).encode()


def test_docker_looks_up_the_port_as_it_is_written(
    home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """`localhost:443/x` is the key `localhost:443` (docker/cli#987). Nothing listens there: what
    docker asks the helper is seen."""
    docker = client("docker")
    home.environment["DOCKER_CONFIG"] = str(home.path / ".docker")
    configure(home, vendor, "localhost:443", "docker")
    asked = home.path / "asked"
    stub = home.path / "bin/docker-credential-nightporter"
    stub.parent.mkdir()
    stub.write_text(
        f'#!/bin/sh\ntee -a {asked} | {BIN}/docker-credential-nightporter "$@" | tee -a {asked}\n'
    )
    stub.chmod(0o755)
    home.environment["PATH"] = f"{stub.parent}:{home.environment['PATH']}"
    run(home, docker, "logout", "localhost:443", code=None)
    (home.path / "password").write_text("x")
    run(home, docker, "pull", "localhost:443/x/y", code=None)
    run(home, docker, "manifest", "inspect", "localhost:443/x/y", code=None)
    assert "localhost:443" in asked.read_text()
    key = json.loads((home.path / ".docker/config.json").read_text())["credHelpers"]
    assert list(key) == ["localhost:443"]
    served = home.run("credential", "docker", "get", stdin="localhost:443")
    assert vendor.world.is_live(json.loads(served.out)["Secret"])


def test_buildah_inspects_a_manifest_by_the_helper(
    home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """podman, buildah and skopeo share containers/image, which reads docker's `credHelpers`."""
    buildah = client("buildah")
    reply = Reply(manifest(), kind="application/vnd.docker.distribution.manifest.v2+json")
    answers = {"/v2/": {}, "/v2/x/y/manifests/latest": reply}
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=answers) as server:
        configure(home, vendor, server.host, "docker")
        home.environment |= {
            "PATH": f"{BIN}:{home.environment['PATH']}",
            "REGISTRY_AUTH_FILE": str(home.path / ".docker/config.json"),
            "SSL_CERT_FILE": str(server.ca_file),
        }
        shown = run(home, buildah, "login", "--get-login", server.host)
        assert shown.out.strip() == "oauth2"
        assert vendor.count("sign-in") == 1


# kubectl.

VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "gitCommit": "0"}


def test_kubectl_under_cron_at_one_of_rancher_s_clusters(
    home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    kubectl = client("kubectl")
    answers = {f"/k8s/clusters/{name}/version": VERSION for name in ("c-abc", "c-other")}
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=answers) as server:
        for name in ("c-abc", "c-other"):
            run(
                home,
                *(kubectl, "config", "set-cluster", name),
                f"--server={server.address}/k8s/clusters/{name}",
                f"--certificate-authority={server.ca_file}",
            )
            user = "--user=nightporter-pitchpoint"
            run(home, kubectl, "config", "set-context", name, f"--cluster={name}", user)
        run(home, kubectl, "config", "use-context", "c-abc")
        configure(home, vendor, f"{server.host}/k8s/clusters/c-abc", "kubectl")
        environment = {"HOME": str(home.path), "PATH": "/usr/bin:/bin"}
        command = [kubectl, "version"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=patience(60)
        )
        assert "v1.32.4" in done.stdout, done.stderr
        refused = subprocess.run(
            [*command, "--context", "c-other"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert refused.returncode != 0
        assert "gives this cluster no token" in refused.stderr
        assert all(vendor.world.is_live(token) for token in server.sent_tokens())
