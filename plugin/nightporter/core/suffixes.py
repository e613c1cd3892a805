"""Suffixes under which anybody can have a name: no wildcard may stand for them.

The data is the Public Suffix List (`public_suffixes.txt`, which says where it came from) and some
services whose names are handed out too, and which that list doesn't know. Read once, where a
wildcard is in the configuration.
"""

from __future__ import annotations

# Registries, clusters and functions of everybody, at every depth.
SHARED = ("amazonaws.com", "amazonaws.com.cn", "on.aws", "azmk8s.io", "azurecr.io", "pkg.dev")


def is_public_suffix(host: str) -> bool:
    """Returns whether anybody can have a name directly below the host (in ASCII, lower case)."""
    if any(host == shared or host.endswith(f".{shared}") for shared in SHARED):
        return True
    if "." not in host:
        return True
    import pkgutil  # deferred: hardly any configuration has a wildcard

    rules = pkgutil.get_data("nightporter.core", "public_suffixes.txt") or b""
    above = host.partition(".")[2]
    if _has(rules, f"!{host}"):
        return False
    return _has(rules, host) or _has(rules, f"*.{above}") or _has(rules, f"*.{host}")


def _has(rules: bytes, rule: str) -> bool:
    return f"\n{rule}\n".encode() in rules
