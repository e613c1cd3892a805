"""What is shipped: wheel, sdist and zipapp, built as they are, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lab.support import ROOT, Home
from nightporter import __version__

pytestmark = pytest.mark.clients
HELPERS = tuple(f"{client}-credential-nightporter" for client in ("git", "docker", "cargo"))


def built(kind: str, target: Path) -> Path:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    (found,) = target.glob("nightporter-*")
    return found


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_same_input_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    one, two = built(kind, tmp_path / "one"), built(kind, tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()


def test_what_the_wheel_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(built("wheel", tmp_path)) as wheel:
        names = wheel.namelist()
        points = wheel.read(f"nightporter-{__version__}.dist-info/entry_points.txt").decode()
        for command in ("nightporter", *HELPERS):
            launcher = wheel.getinfo(f"nightporter-{__version__}.data/scripts/{command}")
            assert launcher.external_attr >> 16 & 0o111
    assert "nightporter/py.typed" in names
    assert "nightporter/aws_lambda.py" in names
    assert any(name.endswith("bash-completion/completions/nightporter") for name in names)
    assert any(name.endswith("share/man/man1/nightporter.1") for name in names)
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]
    assert "[keyring.backends]" in points


def test_what_the_sdist_holds(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "plugin/nightporter/__main__.py",
        "scripts/test",
    } <= names
    assert not [name for name in names if name.startswith((".venv", ".clients", "dist"))]


def test_the_single_file_works(home: Home, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "scripts/layer.py"),
        "--zipapp",
        "--target",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    program = tmp_path / "nightporter.pyz"
    first = program.read_bytes()
    subprocess.run(command, check=True, capture_output=True)
    assert program.read_bytes() == first
    bare = [sys.executable, "-I", "-S", str(program)]
    done = subprocess.run([*bare, "token"], env=home.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([*bare, "status"], env=home.environment, capture_output=True, text=True)
    assert "refresh token" in shown.stdout
    code = f"import sys; sys.path.insert(0, {str(program)!r}); import nightporter.stores.vault"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_the_single_file_compiles_nothing_at_its_start(tmp_path: Path) -> None:
    """295 modules were compiled at each start: three times the CPU of what is installed."""
    command = [sys.executable, str(ROOT / "scripts/layer.py"), "--zipapp", "--target"]
    subprocess.run([*command, str(tmp_path)], check=True, capture_output=True)
    program = tmp_path / "nightporter.pyz"
    code = (
        "import sys, zipimport\n"
        "def refuse(source, name, *rest, **more): raise AssertionError(name)\n"
        "zipimport._compile_source = refuse\n"
        f"sys.path.insert(0, {str(program)!r})\n"
        "import nightporter.cli.app, nightporter.stores.vault\n"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_bills_of_materials(tmp_path: Path) -> None:
    """Of the wheel, the image and the single file (the layer's is tested with it)."""
    for option in ("--bills", "--zipapp"):
        command = [sys.executable, str(ROOT / "scripts/layer.py"), option, "--target"]
        subprocess.run([*command, str(tmp_path)], check=True, capture_output=True)
    for name in ("nightporter-wheel", "nightporter-image", "nightporter"):
        bill = json.loads((tmp_path / f"{name}.cdx.json").read_text())
        assert bill["metadata"]["component"]["name"] == "nightporter"
        there = {item["name"]: item for item in bill["components"]}
        assert {"requests", "hvac", "click"} <= set(there)
        assert all(item["hashes"][0]["alg"] == "SHA-256" for item in there.values())
    assert "boto3" in (tmp_path / "nightporter-image.cdx.json").read_text()


def test_the_base_image_is_named_by_who_builds_it() -> None:
    """By digest: a default could only be a tag, which can be moved. A tag ends the build."""
    text = (ROOT / "plugin/packaging/Containerfile").read_text()
    assert set(re.findall(r"^ARG PYTHON(.*)$", text, re.M)) == {""}
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${PYTHON}"}
    (check,) = re.findall(r"^RUN (case .* esac) ", text, re.M)
    for name, code in (("python:3.13-slim", 1), (f"x/python@sha256:{'0' * 64}", 0), ("", 1)):
        done = subprocess.run(["sh", "-c", check], env={"PYTHON": name}, capture_output=True)
        assert done.returncode == code


def test_the_steps_of_the_container_file(home: Home, tmp_path: Path) -> None:
    """What it copies and runs, run here; the engine and the base image are all that is missing."""
    text = (ROOT / "plugin/packaging/Containerfile").read_text()
    sources = [
        word
        for line in re.findall(r"^COPY (scripts/.*|dist/.*) /src/$", text, re.M)
        for word in line.split()
    ]
    (tmp_path / "src").mkdir()
    built("wheel", tmp_path / "dist")
    for source in sources:
        for file in (tmp_path if source.startswith("dist/") else ROOT).glob(source):
            shutil.copy(file, tmp_path / "src")
    (steps,) = re.findall(r"^RUN (.*?)(?<!\\)$", text, re.M | re.S)
    steps = steps.replace("/opt/", f"{tmp_path}/opt/").replace("/src/", f"{tmp_path}/src/")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHON": f"python@sha256:{'0' * 64}",
    }
    subprocess.run(["sh", "-ec", steps], check=True, env=environment, capture_output=True)
    program = tmp_path / "opt/nightporter/bin/nightporter"
    done = subprocess.run([program, "token"], env=home.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import boto3, hvac, nightporter.stores.vault, nightporter.stores.secrets_manager"
    subprocess.run([program.with_name("python"), "-c", code], check=True)
