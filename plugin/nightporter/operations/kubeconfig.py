"""What a kubeconfig says of the clusters that a profile's token may go to.

kubectl itself reads the files (there may be several), and tells them as JSON. `setup kubectl` pins
what is found, `doctor` compares. Only the user decides when a kubeconfig is to be trusted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from nightporter.core.model import Profile
from nightporter.core.values import dataclass
from nightporter.protocols.kubernetes import certificate_digests, is_cluster_of

# The files that a kubeconfig names are read into it. Without that: one of them is missing.
VIEWS = (
    ("config", "view", "--raw", "--flatten", "--output=json"),
    ("config", "view", "--raw", "--output=json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What decides where a token goes. `authorities`: SHA-256 (hex) of each CA certificate; empty
    where the system's CAs count."""

    name: str
    server: str
    authorities: tuple[str, ...]
    proxy: str | None
    tls_server_name: str | None
    is_unchecked: bool


def clusters_of(document: Mapping[str, Any], profile: Profile) -> list[Cluster]:
    """Returns the clusters whose server is in the profile's `hosts`."""
    found = [_cluster(item) for item in items(document, "clusters", "cluster")]
    return [item for item in found if is_cluster_of(item.server, profile)]


def used_clusters(document: Mapping[str, Any], profile: Profile) -> list[Cluster]:
    """Returns those for which a context asks nightporter for the profile's token."""
    users = {
        name
        for name, user in items(document, "users", "user")
        if _asks_for(user.get("exec"), profile.name)
    }
    wanted = {
        str(context.get("cluster"))
        for _, context in items(document, "contexts", "context")
        if str(context.get("user")) in users
    }
    return [item for item in clusters_of(document, profile) if item.name in wanted]


def parse(text: str | None) -> Mapping[str, Any]:
    """Returns what `kubectl config view` printed; nothing where that is no JSON object."""
    try:
        document: Any = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def items(
    document: Mapping[str, Any], plural: str, single: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields name and members of each entry (`contexts`, `context`); none for what has another
    shape. A null entry has no members."""
    entries = document.get(plural)
    for item in entries if isinstance(entries, list) else ():
        members = (item.get(single) or {}) if isinstance(item, dict) else None
        if isinstance(members, dict):
            yield str(item.get("name")), members


def _cluster(named: tuple[str, Mapping[str, Any]]) -> Cluster:
    name, cluster = named
    try:
        digests = certificate_digests(str(cluster.get("certificate-authority-data") or ""))
    except ValueError:
        digests = []
    return Cluster(
        name=name,
        server=str(cluster.get("server")),
        authorities=tuple(digests),
        proxy=_text_or_none(cluster.get("proxy-url")),
        tls_server_name=_text_or_none(cluster.get("tls-server-name")),
        is_unchecked=bool(cluster.get("insecure-skip-tls-verify")),
    )


def _text_or_none(value: object) -> str | None:
    return str(value) if value else None


def _asks_for(stanza: object, profile: str) -> bool:
    if not isinstance(stanza, dict):
        return False
    is_ours = os.path.basename(str(stanza.get("command"))) == "nightporter"
    args = stanza.get("args")
    return is_ours and isinstance(args, list) and args[-2:] == ["exec-credential", profile]
