"""Writes what the documents say of errors from the code: plugin/docs/errors.md, and the tables of
exit codes: with all references in plugin/docs/commands.md, without them in the README."""

from __future__ import annotations

import re
from pathlib import Path

from nightporter.core.references import render_exits, render_page

ROOT = Path(__file__).resolve().parent.parent


def with_exits(document: str, table: str) -> str:
    """Returns a document with its table of exit codes replaced."""
    begin, end = "<!-- generated: exits -->\n", "<!-- end -->"
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
        (ROOT / name).write_text(with_exits((ROOT / name).read_text(), table))
