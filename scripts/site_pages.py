"""Gathers README, pages and decisions for `scripts/site`, with the links between them rewritten.

The pages are read where they are, on a disk or in a repository's own view; the site is made from
the same files. A link to a page leads to that page; a link to something that is no page (a module,
a script) becomes its text; a link that leads nowhere is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Start": ("first-hour", "install", "vault", "lambda", "secrets-manager", "local"),
    "Operate": ("operations", "runbooks", "terraform/index", "Errors <errors>"),
    "Integrate": ("clients", "agent", "vendors", "adding"),
    "Understand": ("sessions", "security", "architecture", "glossary", "decisions/index"),
    "Refer": (
        "commands",
        "configuration",
        "speed",
        "measurements",
        "mutation",
        "coverage",
        "pains",
        "changelog",
    ),
    "Take part": ("contributing", "Reporting a weakness <reporting>"),
}
OTHERS = "Refer"  # where a page goes that no group names
CONF = """\
project = "nightporter"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "nightporter"
html_static_path = []
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]
"""
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def pages() -> dict[Path, str]:
    """Returns each source, and the name of its page."""
    found = {ROOT / "README.md": "index", ROOT / "CHANGELOG.md": "changelog"}
    found |= {file: file.stem for file in sorted((ROOT / "plugin/docs").glob("*.md"))}
    for file in sorted((ROOT / "plugin/decisions").glob("*.md")):
        found[file] = f"decisions/{'index' if file.stem == 'README' else file.stem}"
    found[ROOT / "terraform/README.md"] = "terraform/index"
    for file in sorted((ROOT / "terraform/modules").glob("*/README.md")):
        found[file] = f"terraform/{file.parent.name}"
    found[ROOT / ".github/CONTRIBUTING.md"] = "contributing"
    found[ROOT / ".github/SECURITY.md"] = "reporting"
    return found


def rewritten(source: Path, named: Mapping[Path, str]) -> str:
    """Returns a page's text with its links as the site has them.

    Raises: SystemExit for a link that leads nowhere.
    """

    def link(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if "://" in target or not target or found["mark"]:
            return found[0]
        path = Path(os.path.normpath(source.parent / target))
        page = named.get(path) or named.get(path / "README.md")
        if page is None and not path.exists():
            sys.exit(f"site: {source.relative_to(ROOT)}: {found['target']} leads nowhere")
        if page is None:
            return found["text"]
        relative = os.path.relpath(f"{page}.md", os.path.dirname(named[source]) or ".")
        return f"[{found['text']}]({relative}{'#' if anchor else ''}{anchor})"

    blocks = re.split(r"(```.*?```)", source.read_text(), flags=re.S)
    return "".join(block if block.startswith("```") else LINK.sub(link, block) for block in blocks)


def navigation(named: Mapping[Path, str]) -> Iterator[str]:
    """Yields the tables of contents, by what a reader wants to do."""
    listed = {re.sub(r".*<(.*)>", r"\1", name) for group in GROUPS.values() for name in group}
    top = [name for name in named.values() if "/" not in name or name.endswith("/index")]
    rest = [name for name in top if name not in listed and name != "index"]
    for caption, names in GROUPS.items():
        inside = [*names, *(rest if caption == OTHERS else [])]
        yield _toctree(caption, inside)


def _toctree(caption: str, names: list[str]) -> str:
    title = f":caption: {caption}\n" if caption else ""
    return f"```{{toctree}}\n:hidden:\n{title}\n" + "\n".join(names) + "\n```\n"


def gather(target: Path) -> None:
    """Writes the pages, the pictures and Sphinx's configuration."""
    named = pages()
    for source, name in named.items():
        text = rewritten(source, named)
        folder = os.path.dirname(name)
        if name == "index":
            text += "\n" + "\n".join(navigation(named))
        elif name.endswith("/index"):
            inside = [other for other in named.values() if os.path.dirname(other) == folder]
            own = [os.path.basename(other) for other in inside if other != name]
            text += "\n" + _toctree("", own)
        file = target / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    shutil.copytree(ROOT / "plugin/docs/pictures", target / "pictures", dirs_exist_ok=True)
    (target / "conf.py").write_text(CONF)


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
