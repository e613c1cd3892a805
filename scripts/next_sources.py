"""`RELEASE DIRECTORY`: writes the system's own Debian sources for another release, with all else in
them as it is.

Used by `scripts/next_debian`.

Suites other than the release, its updates and its security are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ETC = Path("/etc/apt")


def running_release() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    if not found:
        sys.exit("next_sources: this is no Debian release with a name")
    return found[1]


def main(release: str, directory: Path) -> None:
    running = running_release()
    suite = re.compile(rf"(?<!\S){running}(-updates|-security)?(?!\S)")
    written = 0
    for file in [ETC / "sources.list", *sorted((ETC / "sources.list.d").glob("*"))]:
        if not file.is_file() or file.suffix not in (".list", ".sources"):
            continue
        parts = (
            file.read_text().splitlines()
            if file.suffix == ".list"
            else re.split(r"\n\s*\n", file.read_text())
        )
        kept = [
            suite.sub(rf"{release}\1", part)
            for part in parts
            if suite.search(part) and part.lstrip()[:1] != "#"
        ]
        if kept:
            (directory / file.name).write_text(
                ("\n" if file.suffix == ".list" else "\n\n").join(kept) + "\n"
            )
            written += 1
    if not written:
        sys.exit(f"next_sources: apt's configuration names no source of {running}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
