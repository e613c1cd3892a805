"""Writes plugin/docs/errors.md from the code's own list of references."""

from __future__ import annotations

from pathlib import Path

from nightporter.explanations import render_page

if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "plugin/docs/errors.md").write_text(render_page())
