"""Writes what the documents say from the code: plugin/docs/errors.md, the tables of exit codes
(with all references in plugin/docs/commands.md, without them in the README), and the README's table
of vendors from their rows."""

from __future__ import annotations

import re
from pathlib import Path

from nightporter.core.references import render_exits, render_page
from nightporter.issuers import VENDORS
from nightporter.operations.explain_vendors import to_table

ROOT = Path(__file__).resolve().parent.parent


def with_generated(document: str, name: str, table: str) -> str:
    """Returns a document with its generated table of that name replaced."""
    begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{table}{end}", document, flags=re.S)


def without_references(table: str) -> str:
    """Returns the table of exit codes without its last column."""
    rows = [row.rstrip(" |").rpartition(" | ")[0] for row in table.splitlines()]
    return "".join(f"{row} |\n" for row in rows)


if __name__ == "__main__":
    (ROOT / "plugin/docs/errors.md").write_text(render_page())
    exits = render_exits()
    for name, table in (
        ("README.md", without_references(exits)),
        ("plugin/docs/commands.md", exits),
    ):
        (ROOT / name).write_text(with_generated((ROOT / name).read_text(), "exits", table))
    readme = ROOT / "README.md"
    readme.write_text(with_generated(readme.read_text(), "vendors", to_table(VENDORS.values())))
