"""The rules that keep the tests in order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
SERVERS = ("lab.servers", "lab.worlds", "lab.terminals", "lab.clients", "lab.support", "subprocess")


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_nothing_imports_conftest_or_another_test() -> None:
    """What tests share is in `lab`."""
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - {"lab"}
    wrong = [
        (file.name, name)
        for file in TESTS.rglob("*.py")
        for name in imports_of(file)
        if name == "conftest" or name.split(".")[0] in folders
    ]
    assert wrong == []


def test_a_unit_test_starts_no_server_and_no_process() -> None:
    """`unit` is for values in, values out."""
    wrong = [
        (file.name, name)
        for file in (TESTS / "unit").glob("*.py")
        for name in imports_of(file)
        if name.startswith(SERVERS)
    ]
    assert wrong == []
