"""Writes plugin/man/nightporter.1 and the completion scripts from the tree of commands."""

from __future__ import annotations

from pathlib import Path

from click.shell_completion import get_completion_class

from nightporter import __version__
from nightporter.cli.app import cli
from nightporter.cli.manual import render

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    (ROOT / "plugin/man").mkdir(exist_ok=True)
    (ROOT / "plugin/man/nightporter.1").write_text(render(cli, __version__))
    for shell in ("bash", "zsh", "fish"):
        found = get_completion_class(shell)
        assert found is not None
        source = found(cli, {}, "nightporter", "_NIGHTPORTER_COMPLETE").source()
        (ROOT / f"plugin/completions/nightporter.{shell}").write_text(f"{source}\n")
