"""`LOCK NAME...`: prints the blocks of a lock file for the named packages, each with its hashes.

For tools that want some of what is locked: `pip install --require-hashes` refuses a file that only
constrains.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def locked(lock: Path, names: list[str]) -> str:
    """The blocks in the order of the file. Of a package with several (for several Pythons) all are
    taken."""
    blocks = re.split(r"\n(?=[a-z])", lock.read_text().strip())
    wanted = [block for block in blocks if re.split(r"[=\[]", block, maxsplit=1)[0] in names]
    missing = set(names) - {re.split(r"[=\[]", block, maxsplit=1)[0] for block in wanted}
    if missing:
        sys.exit(f"locked: {lock} has no {', '.join(sorted(missing))}")
    return "\n".join(wanted) + "\n"


if __name__ == "__main__":
    sys.stdout.write(locked(Path(sys.argv[1]), sys.argv[2:]))
