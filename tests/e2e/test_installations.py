"""Ways to install: what an installation says is missing is brought by what it says, typed as it is
printed; and what it prints for leaving removes it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.clients import client
from lab.clones import NEWER, clone_of_two
from lab.support import ROOT, Home, OpenBao
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients


@dataclass
class Installed:
    """A nightporter in a home of its own. `command`: how it is called."""

    home: Home
    command: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *words], env=self.home.environment, capture_output=True, text=True
        )

    def type(self, line: str) -> None:
        done = subprocess.run(
            ["sh", "-c", line], env=self.home.environment, capture_output=True, text=True, input="y"
        )
        assert done.returncode == 0, (line, done.stderr)


def by_pipx(home: Home) -> Path:
    home.environment["PIPX_HOME"] = str(home.path / "pipx")
    home.environment["PIPX_BIN_DIR"] = str(home.path / "bin")
    home.environment["PIPX_MAN_DIR"] = str(home.path / "man")
    _run(home, client("pipx"), "install", "--python", sys.executable, str(ROOT))
    assert (home.path / "man/man1/nightporter.1").exists()
    return home.path / "bin/nightporter"


def by_uv(home: Home) -> Path:
    home.environment["UV_TOOL_DIR"] = str(home.path / "tools")
    home.environment["UV_TOOL_BIN_DIR"] = str(home.path / "bin")
    _run(home, client("uv"), "tool", "install", "--python", sys.executable, str(ROOT))
    return home.path / "bin/nightporter"


def by_pip(home: Home) -> Path:
    place = home.path / "venv"
    _run(home, sys.executable, "-m", "venv", str(place))
    _run(home, str(place / "bin/python"), "-m", "pip", "install", "-qq", str(ROOT))
    return place / "bin/nightporter"


def by_uv_without_pip(home: Home) -> Path:
    place = home.path / "venv"
    _run(home, client("uv"), "venv", "--python", sys.executable, str(place))
    _run(home, client("uv"), "pip", "install", "--python", str(place / "bin/python"), str(ROOT))
    return place / "bin/nightporter"


def _run(home: Home, *words: str) -> None:
    done = subprocess.run(words, env=home.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# How this machine reaches its package index: the installers need it, nightporter doesn't.
OF_INSTALLERS = ("PIP_", "UV_", "SSL_CERT", "REQUESTS_CA", "HTTPS_PROXY", "NO_PROXY", "no_proxy")
PAGE, README = ROOT / "plugin/docs/install.md", ROOT / "README.md"


def row_of(way: str) -> list[str]:
    """The commands of a row of the page: install, upgrade, remove."""
    (row,) = re.findall(rf"^\| {way}\b[^|]*\|(.*)\|$", PAGE.read_text(), re.M)
    return [cell.strip().strip("`") for cell in row.split("|")]


@pytest.mark.parametrize("way", ["pipx", "uv", "pip"])
def test_the_ways_of_the_table(way: str, tmp_path: Path) -> None:
    """Each row of the page is typed in a clone: it installs, takes up what is new, and leaves no
    command behind. The README has the same rows."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(OF_INSTALLERS)}
    home = Home(tmp_path / "home", {**kept, "PIPX_HOME": f"{tmp_path}/pipx"})
    commands = home.path / ".local/bin"
    if way == "pip":
        _run(home, sys.executable, "-m", "venv", str(home.path / "venv"))
        commands = home.path / "venv/bin"
    python = Path(sys.executable).parent
    tools = Path(client("pipx")).parent
    home.environment["PATH"] = f"{commands}:{tools}:{python}:{home.environment['PATH']}"
    upstream = clone_of_two(tmp_path / "upstream")
    _run(home, "git", "clone", "-q", str(upstream), str(home.path / "clone"))
    _run(home, "git", "-C", str(home.path / "clone"), "reset", "-q", "--hard", "HEAD~1")
    install, upgrade, remove = row_of(way)
    assert all(f"`{command}`" in README.read_text() for command in (install, upgrade, remove))

    def typed(command: str) -> None:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=home.path / "clone",
            env=home.environment,
            capture_output=True,
            text=True,
            input="y\n",
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def is_new() -> bool:
        (module,) = home.path.parent.rglob("site-packages/nightporter/aws_lambda.py")
        return NEWER in module.read_text()

    typed(install)
    assert not is_new()
    typed(upgrade)
    assert is_new()
    typed(f"{commands}/nightporter --version")
    typed(remove)
    assert not (commands / "nightporter").exists()


WAYS = [by_pipx, by_uv, by_pip, by_uv_without_pip]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_missing_is_brought_by_what_the_error_says(
    way: Callable[[Home], Path], tmp_path: Path, vendor: Vendor, openbao: OpenBao
) -> None:
    kept = {name: value for name, value in os.environ.items() if name.startswith(OF_INSTALLERS)}
    home = Home(tmp_path / "home", {**kept, "VAULT_ADDR": openbao.address})
    home.environment["VAULT_TOKEN"] = openbao.token
    tools = Path(client("pipx")).parent
    home.environment["PATH"] = f"{home.path}/bin:{home.environment['PATH']}:{tools}"
    installed = Installed(home, way(home))
    mount = openbao.mount()
    openbao.put(mount, "prod/x", {"username": "svc-acme", "password": "correct-horse"})
    words = (
        *("init", "p", "--issuer", "pitchpoint", "--base-url", vendor.address),
        *("--store", "vault", "--store-set", f"mount={mount}", "--credentials", "prod/x"),
    )
    failed = installed.run(*words)
    assert failed.returncode == 2
    assert "which is not installed" in failed.stderr
    installed.type(failed.stderr.split("`")[1])
    done = installed.run(*words)
    assert done.returncode == 0, done.stderr
    *_, last = installed.run("uninstall", "--print").stdout.splitlines()
    assert shlex.split(last)
    installed.type(last)
    assert not installed.command.exists()
