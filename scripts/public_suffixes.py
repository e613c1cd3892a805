"""Writes plugin/nightporter/core/public_suffixes.txt from the Public Suffix List.

    python scripts/public_suffixes.py public_suffix_list.dat

The list is at publicsuffix.org, and in the package publicsuffixlist. Suffixes of one label are left
out: a wildcard needs two anyway.
"""

from __future__ import annotations

import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "plugin/nightporter/core/public_suffixes.txt"
HEAD = """\
// This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of
// the MPL was not distributed with this file, You can obtain one at https://mozilla.org/MPL/2.0/.
// Extracted from the Public Suffix List (https://publicsuffix.org/list/) by
// scripts/public_suffixes.py: comments and suffixes of one label are left out, names are in ASCII.
"""


def compact(text: str) -> str:
    """The rules of the list, one a line, in ASCII."""
    rules = [line.split()[0] for line in text.splitlines() if line.strip()]
    kept = {
        rule.encode("idna").decode() if not rule.isascii() else rule
        for rule in rules
        if not rule.startswith("//") and "." in rule
    }
    return HEAD + "".join(f"{rule}\n" for rule in sorted(kept))


if __name__ == "__main__":
    TARGET.write_text(compact(Path(sys.argv[1]).read_text(encoding="utf-8")))
