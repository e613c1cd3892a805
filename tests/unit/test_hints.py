"""What to do fits where it is said: each place that raises an error is walked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nightporter
from nightporter.core import errors
from nightporter.core.errors import ConfigError, NightporterError, StoreDeniedError
from nightporter.core.explanations import EXPLANATIONS

PACKAGE = Path(nightporter.__file__).parent
# The catalogue's hint speaks of the configuration file: only what reads that file may leave it so.
READERS_OF_THE_FILE = {"core/config.py", "core/findings.py"}
# The settings of a store or an issuer that the file names, where the file alone can be wrong.
NAMES_A_KEY = {"stores/vault.py", "cli/commands/setting_up.py", "operations/login.py"}


def raised(kind: type[NightporterError]) -> Iterator[tuple[str, ast.Call]]:
    """Every place that makes an error of exactly this class."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == kind.__name__:
                yield str(file.relative_to(PACKAGE)), node


def keywords(call: ast.Call) -> set[str | None]:
    return {item.arg for item in call.keywords}


def test_the_hint_about_the_file_is_given_for_the_file_alone() -> None:
    """A missing secret_id file, standard input and an event of Lambda's were told to run
    `config check` (N18 of the first hour)."""
    found = [
        f"{file}:{call.lineno}"
        for file, call in raised(ConfigError)
        if "hint" not in keywords(call) and file not in READERS_OF_THE_FILE | NAMES_A_KEY
    ]
    assert found == []


def test_a_denial_that_is_no_missing_permission_says_what_helps() -> None:
    """ "Grant the right `mount`" and "Grant a token" came of a template."""
    found = [
        f"{file}:{call.lineno}"
        for file, call in raised(StoreDeniedError)
        if not {"hint", "right"} & keywords(call)
    ]
    assert found == []


@pytest.mark.parametrize("reference", EXPLANATIONS)
def test_a_remedy_names_only_what_is_filled_in(reference: str) -> None:
    """PROFILE and ROLE are filled in where they are known; nothing else is left open but what only
    the reader knows."""
    hint = errors.with_profile(EXPLANATIONS[reference].hint, "acme", "full")
    assert "PROFILE" not in hint.replace("AWS_PROFILE", "")
    assert "ROLE" not in hint
