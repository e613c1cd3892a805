"""Leaving: `setup --undo`, and `uninstall --print`, which names every place that holds anything."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.support import BIN, Home
from lab.worlds.vendor import Vendor
from nightporter.cli.setups import CLIENTS

MEMBERS = json.dumps({"username": "svc-acme", "password": "correct-horse"})
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: mine
clusters:
- {name: c, cluster: {server: "https://kube.example.com"}}
contexts:
- {name: mine, context: {cluster: c, user: me}}
- {name: bare, context: {cluster: c}}
- {name: late.example, context: {cluster: c, user: nightporter-pitchpoint}}
users:
- {name: me, user: {token: their-token}}
"""


@pytest.fixture
def lived_in(empty_home: Home, vendor: Vendor) -> Home:
    """A home in which nightporter was used for a while."""
    empty_home.environment["PATH"] = f"{BIN}:{empty_home.environment['PATH']}"
    empty_home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
    flags = ("--issuer", "pitchpoint", "--store", "local", "--base-url", vendor.address)
    for name in ("pitchpoint", "second"):
        hosts = ("--host", f"{name}.example.com")
        done = empty_home.run(
            "init", name, *flags, "--credentials", f"prod/{name}", *hosts, stdin=MEMBERS
        )
        assert done.code == 0, done.err
    return empty_home


def kubectl(home: Home, *words: str) -> str:
    done = subprocess.run(
        ["kubectl", "config", *words], env=home.environment, capture_output=True, text=True
    )
    return done.stdout


def contexts(home: Home) -> dict[str, Any]:
    document = json.loads(kubectl(home, "view", "-o", "json"))
    return {item["name"]: item["context"].get("user") for item in document["contexts"]}


def test_the_undo_of_kubectl_gives_contexts_their_users_back(lived_in: Home) -> None:
    file = lived_in.path / ".kube/config"
    file.parent.mkdir()
    file.write_text(KUBECONFIG)
    assert lived_in.run("setup", "kubectl", "pitchpoint").code == 0
    for context in ("mine", "bare"):
        kubectl(lived_in, "set-context", context, "--user=nightporter-pitchpoint")
    assert lived_in.run("setup", "kubectl", "pitchpoint").code == 0  # notes nothing of ours
    done = lived_in.run("setup", "kubectl", "pitchpoint", "--undo")
    assert done.code == 0, done.err
    assert contexts(lived_in) == {"mine": "me", "bare": "", "late.example": ""}
    assert "context 'mine' has its user 'me' again" in done.err
    assert "kubectl config set-context late.example --user=NAME" in done.err
    assert "set-context bare" not in done.err  # it had none
    assert "nightporter" not in file.read_text()
    assert not list((lived_in.data / "kubectl").iterdir())
    assert "nothing to change" in lived_in.run("setup", "kubectl", "pitchpoint", "--undo").err


def test_the_kubeconfig_says_how_the_command_comes_back(lived_in: Home) -> None:
    """`installHint`, which a kubectl shows that can't find the command (not for an absolute path in
    the versions up to 1.37)."""
    assert lived_in.run("setup", "kubectl", "pitchpoint").code == 0
    view = json.loads(kubectl(lived_in, "view", "--output=json"))
    (user,) = (item["user"] for item in view["users"])
    command = user["exec"]["installHint"].split("it was installed with: ")[1]
    assert any(Path(word).is_dir() for word in shlex.split(command)), command  # the clone


def of_ours(home: Home) -> list[str]:
    """Files that are ours by their name, or name us, or hold a secret."""
    found = []
    for place, _, names in os.walk(home.path):
        for path in (Path(place) / name for name in names):
            content = path.read_bytes() if path.is_file() else b""
            if (
                b"nightporter" in content
                or b"correct-horse" in content
                or "nightporter" in str(path)
            ):
                found.append(str(path))
    return found


def test_what_uninstall_prints_removes_everything(lived_in: Home, vendor: Vendor) -> None:
    set_up = {
        client
        for client in CLIENTS  # some programs may not be here
        for name in ("pitchpoint", "second")
        if lived_in.run("setup", client, name).code == 0
    }
    assert {"git", "docker", "cargo", "terraform", "kubectl", "bazel", "pnpm"} <= set_up
    lived_in.environment["NIGHTPORTER_LOG"] = str(lived_in.path / "porter.log")
    assert lived_in.run("token", "second", "--force-refresh").code == 0
    printed = lived_in.run("uninstall", "--print")
    assert (printed.code, printed.err) == (0, "")
    assert of_ours(lived_in), "a test that finds nothing shows nothing"
    lines = printed.out.splitlines()
    assert "pip uninstall nightporter" in lines[-1]
    ran = subprocess.run(
        ["sh", "-e"],
        input="\n".join(lines[:-1]),
        env=lived_in.environment,
        capture_output=True,
        text=True,
        cwd=lived_in.path,
    )
    assert ran.returncode == 0, ran.stderr
    assert of_ours(lived_in) == []


def test_what_others_use_too_is_a_comment(empty_home: Home) -> None:
    """Credentials and session in a shared store, and a directory of the user's own."""
    shelf = empty_home.path / "shelf"
    empty_home.configure(
        '[stores.v]\ntype = "vault"\naddress = "https://vault.example"\n'
        f'[stores.own]\ntype = "local"\npath = "{shelf}"\n'
        '[profiles.a]\nissuer = "pitchpoint"\nstore = "v"\ncredentials = "prod/a"\n'
        '[profiles.b]\nissuer = "pitchpoint"\nstore = "own"\ncredentials = "prod/b"\n'
    )
    lines = empty_home.run("uninstall", "--print").out.splitlines()
    assert "# nightporter credentials delete a --yes" in lines
    assert "# nightporter logout a --everywhere" in lines
    assert "nightporter credentials delete b --yes" in lines
    assert any(line.startswith(f"# rm -r {shelf}") for line in lines)


def test_without_a_configuration_and_with_a_broken_one(empty_home: Home) -> None:
    assert "uninstall nightporter" in empty_home.run("uninstall", "--print").out
    empty_home.configure("[broken")
    printed = empty_home.run("uninstall", "--print")
    assert printed.code == 0
    assert f"rm -r {empty_home.config_file.parent}" in printed.out
    assert empty_home.run("uninstall").code == 2
    assert empty_home.config_file.exists()
