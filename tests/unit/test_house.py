"""The rules that keep the house in order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from nightporter.issuers import VENDORS

TESTS = Path(__file__).resolve().parent.parent
PACKAGE = TESTS.parent / "plugin/nightporter"
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


def literals_of(file: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_no_vendor_is_named_outside_its_row() -> None:
    """Whatever is true of a vendor is data that its row has."""
    rooms = [path for path in PACKAGE.iterdir() if path.name not in ("issuers", "simulator")]
    files = [file for room in rooms for file in (room.rglob("*.py") if room.is_dir() else [room])]
    # A user name at git hosts, and a client of ours.
    names = set(VENDORS) - {"oauth2", "google"}
    named = {file.name: literals_of(file) & names for file in files if file.suffix == ".py"}
    assert {name: found for name, found in named.items() if found} == {}


def test_grants_are_asked_what_they_are() -> None:
    """Outside the model and the wire formats no grant is a word."""
    words = {"authorization_code", "client_credentials", "device_code"}
    kept = {"model.py", "login.py", "world.py"}
    wrong = [
        file.name
        for file in PACKAGE.rglob("*.py")
        if file.name not in kept and file.parent.name != "issuers" and literals_of(file) & words
    ]
    assert wrong == []


def test_an_option_that_is_0_counts() -> None:
    """`options.get(...) or ...` takes 0 and false for absent (`partner_id = 0` once was lost)."""
    wrong = [
        (file.name, node.lineno)
        for room in ("core", "issuers", "session", "operations", "client")
        for file in (PACKAGE / room).glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.BoolOp) and any(map(is_option, node.values[:-1]))
    ]
    assert wrong == []


def is_option(node: ast.expr) -> bool:
    """Whether an expression is `NAME.options.get(...)`."""
    function = node.func if isinstance(node, ast.Call) else None
    if not isinstance(function, ast.Attribute) or function.attr != "get":
        return False
    return isinstance(function.value, ast.Attribute) and function.value.attr == "options"


DIALECT = re.compile(
    r"\b(mends?|mended|anew|outright|whoever|mishaps?|all the same|is none of|of ours"
    r"|stands (in|at|beside)|befalls|log[-]ins?|log[-]outs?|time[-]outs?|set[-]ups?)\b"
)


def test_the_field_s_words_are_used() -> None:
    """Messages, docstrings and pages use standard terms; the glossary has ours."""
    plugin = PACKAGE.parent
    pages = [TESTS.parent / "README.md", *(plugin / "docs").glob("*.md")]
    code = [*PACKAGE.rglob("*.py"), *(PACKAGE / "launchers").iterdir()]
    wrong = [
        (file.name, number, found[0])
        for file in [*pages, *code]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (found := DIALECT.search(line)) and f'"{found[0]}"' not in line
    ]
    assert wrong == []


def test_what_is_public_says_what_it_does() -> None:
    """Every public class and function has a docstring; a method may have its port's."""
    found = [
        (file, owner, node)
        for file in PACKAGE.rglob("*.py")
        for owner, node in public(ast.parse(file.read_text()))
    ]
    ports = {node.name for _file, owner, node in found if owner and ast.get_docstring(node)}
    silent = [
        f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}"
        for file, owner, node in found
        if not ast.get_docstring(node) and not (owner and node.name in ports)
    ]
    assert silent == []


Described = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(
    tree: ast.AST, owner: ast.ClassDef | None = None
) -> Iterator[tuple[ast.ClassDef | None, Described]]:
    """Yields what a module offers, with the class that it is in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Described) and not node.name.startswith("_"):
            yield owner, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, node)


def test_rooms_have_their_data_classes_from_values() -> None:
    """`dataclasses.replace` takes none of ours, and its import costs a cold start (0022)."""
    wrong = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if file.name != "values.py" and "dataclasses" in imports_of(file)
    ]
    assert wrong == []
