"""Writes inputs and outputs of every Terraform module into its README, between two markers; --check
only compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- inputs and outputs: written by scripts/terraform_readmes.py -->", "<!-- end -->"


def blocks(module: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The variables or outputs of a module, by name, in their order."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(module.glob("*.tf")):
        with file.open() as opened:
            for item in hcl2.load(opened).get(kind, []):
                for name, body in item.items():
                    found[name.strip('"')] = body
    return found


def text(value: Any) -> str:
    """An expression as the source has it, on one line, fit for a table."""
    shown = (
        {True: "true", False: "false", None: "null"}.get(value)
        if isinstance(value, (bool, type(None)))
        else None
    )
    shown = str(value) if shown is None else shown
    shown = (
        " ".join(shown.removeprefix("${").removesuffix("}").split())
        if shown.startswith("${")
        else shown
    )
    return shown.replace("|", "\\|")


def tables(module: Path) -> str:
    lines = ["| input | type | default | what it is |", "|---|---|---|---|"]
    for name, body in blocks(module, "variable").items():
        default = f"`{text(body['default'])}`" if "default" in body else "required"
        kind = text(body["type"])
        kind = (
            "object"
            if kind.startswith("object")
            else "map of objects"
            if kind.startswith("map(object")
            else kind
        )
        lines.append(
            f"| `{name}` | {kind} | {default} | {text(body['description']).strip(chr(34))} |"
        )
    lines += ["", "| output | what it is |", "|---|---|"]
    for name, body in blocks(module, "output").items():
        lines.append(f"| `{name}` | {text(body['description']).strip(chr(34))} |")
    return "\n".join(lines)


def rendered(module: Path) -> str:
    """The README as it should be."""
    present = (module / "README.md").read_text()
    head, _, rest = present.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables(module)}\n\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = []
    for module in sorted((ROOT / "terraform/modules").iterdir()):
        readme = module / "README.md"
        if readme.read_text() != rendered(module):
            stale.append(str(readme.relative_to(ROOT)))
            if not is_check:
                readme.write_text(rendered(module))
    if is_check and stale:
        sys.exit(f"terraform_readmes: not as the code has it: {', '.join(stale)}")


if __name__ == "__main__":
    main()
