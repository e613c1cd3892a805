"""Asks OSV (https://osv.dev) for known weaknesses of the versions in scripts/requirements.lock.

    .venv/bin/python scripts/advisories.py [--address URL] [LOCK...]

Needs the network, so CI doesn't run it. Exit 1: there are some, one line each. What is sent are the
names and versions of the lock files, which are public.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
ADDRESS = "https://api.osv.dev/v1/querybatch"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)
BATCH = 500


def pinned(text: str) -> list[tuple[str, str]]:
    """Names and versions of a lock file."""
    return [(match[1], match[2]) for match in PINNED.finditer(text)]


def advisories(packages: Sequence[tuple[str, str]], address: str) -> list[str]:
    """One line for each known weakness: name, version, its id."""
    found = []
    for start in range(0, len(packages), BATCH):
        batch = packages[start : start + BATCH]
        queries = [
            {"package": {"ecosystem": "PyPI", "name": name}, "version": version}
            for name, version in batch
        ]
        request = urllib.request.Request(
            address,
            data=json.dumps({"queries": queries}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            results: list[dict[str, Any]] = json.load(reply)["results"]
        for (name, version), result in zip(batch, results, strict=True):
            found += [f"{name} {version}: {item['id']}" for item in result.get("vulns") or ()]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--address", default=ADDRESS, help="of OSV's batch queries")
    parser.add_argument("locks", nargs="*", type=Path, default=[SCRIPTS / "requirements.lock"])
    asked = parser.parse_args()
    packages = sorted({item for lock in asked.locks for item in pinned(lock.read_text())})
    found = advisories(packages, asked.address)
    for line in found:
        print(line)
    print(f"{len(packages)} packages, {len(found)} advisories", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
