"""Remedies are commands for the environment that nightporter runs in, and name no index."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from nightporter.machine import installation
from nightporter.machine.installation import Installation
from nightporter.stores import STORES

PACKAGE = Path(installation.__file__).parent.parent
INDEXED = re.compile(
    r"\b(pip|pipx|uv tool|uv pip) (install( -\S+)*|inject \S+)"
    r" '?nightporter(\[[\w,]+\])?+(?! @)(\W|$)"
)


class Noted:
    """A distribution with what pip noted about its source."""

    def __init__(self, document: Any) -> None:
        self.document = document

    def read_text(self, name: str) -> str | None:
        return None if self.document is None else json.dumps(self.document)


def noted(monkeypatch: pytest.MonkeyPatch, document: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Noted(document))


def test_no_text_of_the_package_installs_nightporter_from_an_index() -> None:
    """There is no release: whoever took the name would be run beside credentials."""
    for file in PACKAGE.rglob("*.py"):
        text = re.sub(r'"\s*\n\s*f?"', "", file.read_text())
        assert not INDEXED.search(text), (file.name, INDEXED.search(text))


def test_the_rule_sees_what_it_forbids() -> None:
    for text in ("pip install nightporter", "pip install 'nightporter[vault]'"):
        assert INDEXED.search(text)
    assert not INDEXED.search("pipx inject nightporter hvac")


INSTALLS = re.compile(r"\b(pip|pipx|uv( tool| pip)?) (install|inject)\b")


def test_each_command_that_installs_is_made_in_one_place() -> None:
    """boto3's own words named pip to users of pipx and uv, whose environments it does not reach."""
    found = [
        file.name
        for file in PACKAGE.rglob("*.py")
        if INSTALLS.search(re.sub(r'"\s*\n\s*f?"', "", file.read_text()))
    ]
    assert found == ["installation.py"]


@pytest.mark.parametrize(
    ("file", "newer", "keyring"),
    [
        ("pipx_metadata.json", "pipx runpip {name} install --upgrade boto3", "pipx inject keyring"),
        ("uv-receipt.toml", "uv pip install --python {python} --upgrade boto3", "keyring --with "),
        ("pyvenv.cfg", "{python} -m pip install --upgrade boto3", "-m pip install keyring"),
    ],
)
def test_a_newer_library_and_the_command_of_keyring(
    file: str, newer: str, keyring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is there, but too old, is not left as it is."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin/python"))
    (tmp_path / file).write_text("{}")
    wanted = newer.format(name=tmp_path.name, python=tmp_path / "bin/python")
    assert wanted in installation.library_hint("boto3", is_upgrade=True)
    assert keyring in installation.keyring_command()


@pytest.mark.parametrize(
    ("file", "kind", "library", "leave"),
    [
        (
            "pipx_metadata.json",
            Installation.PIPX,
            "pipx inject {name} hvac",
            "pipx uninstall {name}",
        ),
        ("uv-receipt.toml", Installation.UV_TOOL, "uv pip install --python", "uv tool uninstall"),
        ("pyvenv.cfg", Installation.PIP, "/bin/python -m pip install hvac", "-m pip uninstall"),
    ],
)
def test_each_environment_has_its_command(
    file: str,
    kind: Installation,
    library: str,
    leave: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What made the environment also changes it; where the tests run, pip need not be there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    (tmp_path / file).write_text("{}")
    assert installation.detect(str(tmp_path)) is kind
    command = installation.install_command("hvac", prefix=str(tmp_path))
    assert library.format(name=tmp_path.name) in command
    gone = installation.uninstall_command(prefix=str(tmp_path))
    assert leave.format(name=tmp_path.name) in gone


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"url": "file:///src/night%20porter", "dir_info": {}}, "/src/night porter[vault]"),
        (
            {"url": "https://git.example/n.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            "nightporter[vault] @ git+https://git.example/n.git",
        ),
        (
            {"url": "file:///w/nightporter-1-py3-none-any.whl"},
            "/w/nightporter-1-py3-none-any.whl[vault]",
        ),
        (None, "./nightporter[vault]"),
        ({}, "./nightporter[vault]"),
    ],
)
def test_what_was_installed_is_named(
    document: Any, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(monkeypatch, document)
    assert shlex.split(installation.requirement(["vault"])) == [wanted]
    hint = installation.client_hint(STORES["vault"])
    assert wanted in shlex.split(hint.partition(": ")[2])
    assert not INDEXED.search(hint)


def test_a_container_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file system can't be written, and what is written is gone with it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert installation.detect() is Installation.CONTAINER
    assert "RUN " in installation.install_hint(STORES["vault"])


def test_lambda_takes_another_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    assert "nightporter-layer-vault.zip" in installation.install_hint(STORES["vault"])


def test_without_pip_uv_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment that uv has made holds no pip."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/uv")
    assert installation.install_command("hvac").startswith("uv pip install --python ")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "-m ensurepip && " in installation.install_command("hvac")
