"""Writes what the documents say of errors from the code: plugin/docs/errors.md, and the README's
table."""

from __future__ import annotations

import re
from pathlib import Path

from nightporter.core.references import render_exits, render_page

ROOT = Path(__file__).resolve().parent.parent


def with_exits(readme: str) -> str:
    """The README with its table of exit codes as the code has it."""
    begin, end = "<!-- generated: exits -->\n", "<!-- end -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{render_exits()}{end}", readme, flags=re.S)


if __name__ == "__main__":
    (ROOT / "plugin/docs/errors.md").write_text(render_page())
    (ROOT / "README.md").write_text(with_exits((ROOT / "README.md").read_text()))
