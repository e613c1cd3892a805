"""What other tools ask for their first credential, counted at a terminal as ours is.

The page "The first hour" puts these numbers beside ours. Tools that can't be run here (they need a
service of the internet) are counted from their documents, which the page names.
"""

from __future__ import annotations

import re
from pathlib import Path

import pexpect
import pytest

from lab.clients import client
from lab.support import BIN, OpenBao, clean_environment
from lab.terminals.journeys import PAGE

pytestmark = pytest.mark.clients


def questions(command: list[str], prompt: str, answer: str, home: Path, **more: str) -> int:
    """How many questions the command asks at a terminal, each answered alike, until it ends well.

    `prompt`: what a question ends with, a regular expression.
    """
    environment = {**clean_environment(HOME=str(home)), **more}
    child = pexpect.spawn(command[0], command[1:], env=environment, encoding="utf-8", timeout=60)
    asked = 0
    while child.expect([prompt, pexpect.EOF]) == 0:
        asked += 1
        child.sendline(answer)
    child.close()
    assert child.exitstatus == 0, child.before
    return asked


def on_the_page(tool: str) -> tuple[int, int]:
    """Commands and questions, as the page has them."""
    found = re.search(rf"^\| `{tool}` \| (\d) \| (\d) \|", PAGE.read_text(), re.M)
    assert found, tool
    return int(found[1]), int(found[2])


def test_aws_configure(tmp_path: Path) -> None:
    """Two keys, a Region and a format of output."""
    asked = questions([client("aws"), "configure"], r"\[None\]: ", "x", tmp_path)
    assert on_the_page("aws configure") == (1, asked)


def test_vault_login(tmp_path: Path, openbao: OpenBao) -> None:
    """A token, and before it the address in VAULT_ADDR: two commands."""
    address = {"VAULT_ADDR": openbao.address, "BAO_ADDR": openbao.address}
    asked = questions(
        [str(BIN / "bao"), "login"], r"will be hidden\): ", openbao.token, tmp_path, **address
    )
    assert (tmp_path / ".vault-token").read_text() == openbao.token
    assert on_the_page("vault login") == (2, asked)
