"""The picture of the packages says what the import contract says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "plugin/docs/architecture.md"


def test_the_picture_is_the_contract() -> None:
    """Floor by floor, from the top."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in contract["contracts"] if c["type"] == "layers")
    floors = [{name.strip() for name in re.split(r"[|:]", layer)} for layer in layers]
    (picture,) = re.findall(r"```\n(__main__.*?)```", PAGE.read_text(), re.S)
    lines = [line for line in picture.splitlines() if line and not line.startswith("─")]
    drawn = [set(re.split(r"\s{2,}", line[:44].strip())) for line in lines]
    assert drawn == floors


def test_every_package_is_in_the_picture() -> None:
    """A package that is added gets its place."""
    packages = ROOT / "plugin/nightporter"
    text = PAGE.read_text()
    names = [path.name for path in packages.iterdir() if (path / "__init__.py").exists()]
    assert [name for name in names if name not in text] == []
