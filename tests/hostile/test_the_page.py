"""The security page: every claim that names a test names one that there is."""

from __future__ import annotations

import re

from lab.support import ROOT

PAGE = ROOT / "plugin/docs/security.md"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE.read_text())
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [pair for pair in named if f"def {pair[1]}(" not in files.get(pair[0], "")]
    assert missing == []


def test_every_claim_names_its_test() -> None:
    defended = PAGE.read_text().split("## What is defended")[1].split("## What is not")[0]
    claims = re.split(r"\n- ", defended)[1:]
    assert len(claims) >= 20
    assert [claim[:60] for claim in claims if not NAMED.search(claim)] == []
