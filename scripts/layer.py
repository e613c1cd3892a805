"""Builds the Lambda layer: `python/` with nightporter and what it needs at run time, for any Python
from 3.11 on.

Same input, same bytes: the wheels are unpacked as they are (pip would add files with paths of this
machine), names are sorted, times and modes fixed, and nothing is compressed, since zlib's
successors write other bytes for the same input. boto3 stays out: the runtime has it. Bytecode lies
beside the modules for each Python that is named, since Lambda can write none: without it a cold
start compiles two hundred modules. Beside the zip lies a bill of materials (CycloneDX 1.6).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import inspect
import json
import marshal
import os
import re
import subprocess
import sys
import tempfile
import uuid
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from locked import locked

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "certifi",
    "charset-normalizer",
    "idna",
    "platformdirs",
    "requests",
    "tzdata",
    "urllib3",
]
ZIPAPP = [
    *PACKAGES,
    "click",
    "tomlkit",
    "hvac",
]  # boto3 reads its tables from a directory, so it can't run from a file
VARIANTS = {"layer": PACKAGES, "layer-vault": [*PACKAGES, "hvac"]}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
SERIALS = uuid.UUID("0d9a3f6e-0c1e-5b1f-9a58-6f1f0e9a355c")
COMPILED = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".exe", ".a", ".o")
MAGIC = (
    b"\x7fELF",
    b"MZ",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\xfe\xed\xfa\xcf",
    b"!<arch>",
)
LICENSES = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
}


def pip(*arguments: str) -> None:
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "SOURCE_DATE_EPOCH": "315532800",
    }
    subprocess.run(
        [sys.executable, "-m", "pip", "-qq", *arguments], check=True, env=environment, cwd=ROOT
    )


def fetch_wheels(names: list[str], directory: Path) -> list[Path]:
    """The locked wheels that hold no compiled code (pip refuses others here), and our own."""
    requirements = directory / "requirements.txt"
    requirements.write_text(locked(ROOT / "scripts/requirements.lock", names))
    pure = (
        "--platform",
        "any",
        "--implementation",
        "py",
        "--abi",
        "none",
        "--python-version",
        "3.11",
    )
    pip(
        *("download", "--no-deps", "--require-hashes", "--only-binary=:all:", *pure),
        *("--dest", str(directory), "--requirement", str(requirements)),
    )
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(ROOT))
    return sorted(directory.glob("*.whl"))


def read_files(wheels: list[Path]) -> dict[str, bytes]:
    """Name in the layer to content.

    Raises: SystemExit for compiled code, or two wheels with one name.
    """
    found: dict[str, bytes] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name.endswith(COMPILED) or content.startswith(MAGIC):
                    sys.exit(f"build-layer: {wheel.name} holds compiled code: {name}")
                if name.endswith("/"):
                    continue
                if f"python/{name}" in found:
                    sys.exit(f"build-layer: two wheels hold {name}")
                found[f"python/{name}"] = content
    return found


def write_zip(files: dict[str, bytes], path: Path, programs: frozenset[str] = frozenset()) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            mode = 0o100755 if name in programs else 0o100644
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, files[name])


EXAMPLE = ROOT / "terraform/examples/aws/orders.py"
FUNCTION = """\"\"\"What Lambda calls; everything else is in the layer.\"\"\"

from nightporter.aws_lambda import rotate_handler, secret_rotation_handler

__all__ = ["rotate_handler", "secret_rotation_handler"]
"""


def bill_of_materials(wheels: list[Path], digest: str) -> dict[str, Any]:
    """CycloneDX 1.6. Its serial number follows from the layer's hash, so that it is reproducible
    too."""
    components = [_component(wheel) for wheel in wheels]
    own = next(item for item in components if item["name"] == "nightporter")
    others = [item for item in components if item is not own]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SERIALS, digest)}",
        "version": 1,
        "metadata": {"component": {**own, "type": "application"}},
        "components": others,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": [item["bom-ref"] for item in others]}
        ],
    }


def _component(wheel: Path) -> dict[str, Any]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    package = metadata["Name"].lower().replace("_", "-")
    purl = f"pkg:pypi/{package}@{metadata['Version']}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": package,
        "version": metadata["Version"],
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    if expression := metadata["License-Expression"]:
        found["licenses"] = [{"expression": expression}]
    elif text := metadata["License"]:
        found["licenses"] = [{"license": {"name": text.splitlines()[0]}}]
    else:
        named = [
            item.rpartition(":: ")[2]
            for item in metadata.get_all("Classifier", [])
            if item.startswith("License")
        ]
        if named:
            found["licenses"] = [
                {
                    "license": (
                        {"id": LICENSES[named[0]]} if named[0] in LICENSES else {"name": named[0]}
                    )
                }
            ]
    return found


IMAGE = re.compile(r"requirements\.lock ([a-z0-9\\\s-]+?) >")


def image_packages() -> list[str]:
    """What the Containerfile installs."""
    text = (ROOT / "plugin/packaging/Containerfile").read_text()
    named = IMAGE.search(text)
    assert named is not None, "the Containerfile names no packages"
    return named[1].replace("\\", " ").split()


def build_bills(target: Path) -> None:
    """Bills of materials of what is installed by the lock file: the wheel with all that it may
    need at run time, and the image (its base is the build's own choice, by digest)."""
    with tempfile.TemporaryDirectory() as directory:
        wheels = fetch_wheels(image_packages(), Path(directory))
        for name in ("wheel", "image"):
            digest = hashlib.sha256(
                b"".join(hashlib.sha256(wheel.read_bytes()).digest() for wheel in wheels)
                + name.encode()
            ).hexdigest()
            bill = json.dumps(bill_of_materials(wheels, digest), indent=2, sort_keys=True) + "\n"
            (target / f"nightporter-{name}.cdx.json").write_text(bill)
            print(target / f"nightporter-{name}.cdx.json")


def build(variant: str, target: Path, pythons: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        wheels = fetch_wheels(VARIANTS[variant], Path(directory))
        files = read_files(wheels)
        for python in pythons:
            files |= bytecode_by(python, files)
        archive = target / f"nightporter-{variant}.zip"
        write_zip(files, archive)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        bill = json.dumps(bill_of_materials(wheels, digest), indent=2, sort_keys=True) + "\n"
    archive.with_suffix(".cdx.json").write_text(bill)
    print(
        f"{archive}  {archive.stat().st_size / 1e6:.1f} MB  {len(files)} files, no machine"
        f" code  sha256 {digest}"
    )
    for wheel in wheels:
        print(f"  {wheel.name}")


EXTENSION = [
    *PACKAGES,
    "hvac",
    "boto3",
    "botocore",
    "jmespath",
    "python-dateutil",
    "s3transfer",
    "six",
]
SERVICES = ("secretsmanager", "sts", "sso", "sso-oidc")  # what is needed of botocore's tables
LEFT_OUT = (
    "/test/",
    "/tests/",
    "/idlelib/",
    "/tkinter/",
    "/ensurepip/",
    "/site-packages/",
    "/__pycache__/",
)


def build_extension(target: Path, interpreter: Path | None) -> None:
    """The layer for functions in other languages: `extensions/nightporter`, which Lambda starts
    beside the function, the packages with boto3 (no runtime but Python's has it), and the given
    Python, since those runtimes have none. A layer of its own: Python's functions start nothing."""
    archive, programs = target / "nightporter-extension.zip", {"extensions/nightporter"}
    with tempfile.TemporaryDirectory() as directory:
        wheels = fetch_wheels(EXTENSION, Path(directory))
        packages = read_files(wheels)
        digest = hashlib.sha256(repr(sorted(packages.items())).encode()).hexdigest()
        bill = json.dumps(bill_of_materials(wheels, digest), indent=2, sort_keys=True) + "\n"
    archive.with_suffix(".cdx.json").write_text(bill)
    files = {
        f"nightporter/{name}": content
        for name, content in packages.items()
        if not is_idle_table(name)
    }
    files["extensions/nightporter"] = (ROOT / "plugin/packaging/lambda-extension").read_bytes()
    for name, path in interpreter_files(interpreter) if interpreter else ():
        files[f"nightporter/runtime/{name}"] = path.read_bytes()
        if os.access(path, os.X_OK):
            programs.add(f"nightporter/runtime/{name}")
    write_zip(files, archive, frozenset(programs))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    print(f"{archive}  {archive.stat().st_size / 1e6:.1f} MB  {len(files)} files  sha256 {digest}")


def is_idle_table(name: str) -> bool:
    """Whether it is one of botocore's tables, of a service that is never asked."""
    parts = name.split("/")
    is_table = parts[1:3] == ["botocore", "data"] and len(parts) > 4
    return is_table and parts[3] not in SERVICES


def interpreter_files(prefix: Path) -> list[tuple[str, Path]]:
    """A relocatable Python (`bin/python3`, `lib`), without what no extension needs: by its name in
    the layer. Links are followed, since a layer's zip has none.

    Raises: SystemExit where there is no Python.
    """
    if not (prefix / "bin/python3").exists():
        sys.exit(f"build-layer: {prefix} holds no bin/python3")
    found = [("bin/python3", (prefix / "bin/python3").resolve())]
    for path in sorted((prefix / "lib").rglob("*")):
        name = str(path.relative_to(prefix))
        is_left_out = any(part in f"/{name}" for part in LEFT_OUT) or "/config-" in name
        if path.is_file() and not is_left_out and not name.endswith((".a", ".pyc")):
            found.append((name, path.resolve()))
    return found


def bytecode(files: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the compiled modules, whose source is not looked at again (PEP 552)."""
    head = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
    found = {}
    for name, source in files.items():
        if name.endswith(".py"):
            # Read back once: what is shared in memory by chance would show in the bytes.
            code = marshal.loads(marshal.dumps(compile(source, name, "exec", dont_inherit=True)))
            found[f"{name}c"] = head + importlib.util.source_hash(source) + marshal.dumps(code)
    return found


COMPILE = """
root = pathlib.Path(sys.argv[1])
files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.py")}
for name, content in bytecode(files).items():
    place = pathlib.Path(importlib.util.cache_from_source(str(root / name[:-1])))
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
"""


def bytecode_by(python: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Returns what another Python makes of the modules, by the names where it looks for it."""
    head = "import importlib.util, marshal, pathlib, sys\n"
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for name, content in files.items():
            if name.endswith(".py"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
        script = head + inspect.getsource(bytecode) + COMPILE
        subprocess.run([python, "-I", "-c", script, directory], check=True)
        made = sorted(root.rglob("*.pyc"))
        return {str(path.relative_to(root)): path.read_bytes() for path in made}


MAIN = "from nightporter.__main__ import main\n\nmain()\n"


def build_zipapp(target: Path) -> None:
    """One file for Vault and the embedded store, for any Python from 3.11 on. It has no door:
    Python starts first. Bytecode of the Python that builds it is beside each module: others compile
    at each start, since nothing is ever written beside the file."""
    with tempfile.TemporaryDirectory() as directory:
        wheels = fetch_wheels(ZIPAPP, Path(directory))
        files = read_files(wheels)
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        bill = json.dumps(bill_of_materials(wheels, digest), indent=2, sort_keys=True) + "\n"
    (target / "nightporter.cdx.json").write_text(bill)
    inside = {name.removeprefix("python/"): content for name, content in files.items()}
    archive = target / "nightporter.pyz.tmp"
    write_zip({**inside, **bytecode(inside), "__main__.py": MAIN.encode()}, archive)
    program = target / "nightporter.pyz"
    program.write_bytes(b"#!/usr/bin/env python3\n" + archive.read_bytes())
    program.chmod(0o755)
    archive.unlink()
    print(
        f"{program}  {program.stat().st_size / 1e6:.1f} MB  sha256"
        f" {hashlib.sha256(program.read_bytes()).hexdigest()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/build-layer", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--target", type=Path, default=ROOT / "dist", help="where the files go (dist)"
    )
    parser.add_argument("--variant", choices=sorted(VARIANTS), help="only this one (both)")
    parser.add_argument(
        "--zipapp", action="store_true", help="the single-file program instead (nightporter.pyz)"
    )
    parser.add_argument(
        "--bills", action="store_true", help="the bills of materials of wheel and image instead"
    )
    parser.add_argument(
        "--extension",
        action="store_true",
        help="the layer for functions in other languages instead (nightporter-extension.zip)",
    )
    parser.add_argument(
        "--interpreter",
        type=Path,
        metavar="DIR",
        help="with --extension: a relocatable Python for the function's processor to put into it",
    )
    parser.add_argument(
        "--python",
        type=Path,
        action="append",
        metavar="PROGRAM",
        help="put the bytecode of this Python into the layer; repeatable (the one that builds)",
    )
    asked = parser.parse_args()
    asked.target.mkdir(parents=True, exist_ok=True)
    if asked.bills:
        build_bills(asked.target)
        return
    if asked.extension:
        build_extension(asked.target, asked.interpreter)
        return
    if asked.zipapp:
        build_zipapp(asked.target)
        return
    for variant in [asked.variant] if asked.variant else VARIANTS:
        build(variant, asked.target, asked.python or [Path(sys.executable)])
    write_zip({"function.py": FUNCTION.encode()}, asked.target / "nightporter-function.zip")
    print(
        f"{asked.target / 'nightporter-function.zip'}  the function that the Terraform module"
        " deploys"
    )
    example = asked.target / "nightporter-example-orders.zip"
    write_zip({EXAMPLE.name: EXAMPLE.read_bytes()}, example)
    print(f"{example}  the consumer of terraform/examples/aws")


if __name__ == "__main__":
    main()
