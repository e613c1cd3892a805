"""Pins kubectl's clusters in the profile: what the kubeconfig says at the moment at which the user
runs `setup kubectl`, and so trusts it.

From then on a kubeconfig that somebody sent gets no token: neither for a CA of its own nor by way
of a proxy (contract, section 8).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from nightporter.cli.setups.merge import split_mark
from nightporter.cli.setups.plan import Machine, Request, Write
from nightporter.core.errors import ConfigError
from nightporter.operations import kubeconfig
from nightporter.operations.kubeconfig import Cluster


def pin_clusters(request: Request, client: str) -> tuple[tuple[Write, ...], tuple[str, ...]]:
    """Returns the configuration with the pins, if that changes anything, and what to say of it.

    Raises: ConfigError.
    """
    document = _view(request.machine, client)
    clusters = kubeconfig.clusters_of(document, request.profile)
    if not clusters:
        return (), (
            "no cluster of the kubeconfig is in `hosts` yet, so none is pinned: repeat this when"
            " it is there",
        )
    pins = _pins(clusters)
    notes = _notes(clusters, pins)
    if pins == request.profile.helper_options["kubernetes"] or not pins:
        return (), notes
    if not _is_writable(request.source):
        line = f"kubernetes = {_inline(pins)}"
        advice = f"add it to [profiles.{request.profile.name}] yourself: {line}"
        return (), (*notes, f"{request.source} can't be written here; {advice}")
    text = request.machine.read(request.source)
    content = with_pins(text, request.profile.name, pins, source=request.source)
    gist = f"[profiles.{request.profile.name}]\nkubernetes = {_inline(pins)}"
    return (Write(path=request.source, content=content, gist=gist),), notes


def _view(machine: Machine, client: str) -> Mapping[str, Any]:
    answers = (machine.ask(client, *view) for view in kubeconfig.VIEWS)
    return kubeconfig.parse(next(filter(None, answers), None))


def _pins(clusters: Sequence[Cluster]) -> dict[str, list[str]]:
    """What holds for every cluster: a pinned CA or name is demanded of each of them."""
    checked = [cluster for cluster in clusters if not cluster.is_unchecked]
    pins: dict[str, list[str]] = {}
    if checked and all(cluster.authorities for cluster in checked):
        pins["ca_sha256"] = sorted({item for each in checked for item in each.authorities})
    if proxies := {cluster.proxy for cluster in checked if cluster.proxy}:
        pins["proxy"] = sorted(proxies)
    names = [cluster.tls_server_name for cluster in checked]
    if names and all(names):
        pins["tls_server_name"] = sorted({name for name in names if name})
    return pins


def _notes(clusters: Sequence[Cluster], pins: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    said = []
    for cluster in clusters:
        if cluster.is_unchecked:
            said.append(
                f"cluster {cluster.name!r} skips the check of its certificate, so it gets no token"
            )
        elif not cluster.authorities:
            said.append(f"cluster {cluster.name!r} names no CA of its own, so its CA isn't pinned")
    names = ", ".join(cluster.name for cluster in clusters if not cluster.is_unchecked)
    said += [f"pinned for {names}: {key} {', '.join(values)}" for key, values in pins.items()]
    return tuple(said)


def _is_writable(source: str) -> bool:
    file = os.path.realpath(source)
    return os.path.isfile(file) and os.access(os.path.dirname(file), os.W_OK)


def _inline(pins: Mapping[str, Sequence[str]]) -> str:
    return str(_table(pins).as_string())


def _table(pins: Mapping[str, Sequence[str]]) -> Any:
    import tomlkit  # deferred: no other setup writes our own configuration

    table = tomlkit.inline_table()
    for key, values in pins.items():
        table.append(key, list(values))
    return table


def with_pins(text: str, profile: str, pins: Mapping[str, Sequence[str]], *, source: str) -> str:
    """Returns the configuration with the profile's `kubernetes` set, and everything else as it was.

    Raises: ConfigError where the file leaves no place for it.
    """
    import tomlkit  # deferred, as above
    from tomlkit.exceptions import TOMLKitError

    mark, content = split_mark(text)
    try:
        document: Any = tomlkit.parse(content)
        document["profiles"][profile]["kubernetes"] = _table(pins)
        changed = tomlkit.dumps(document)
        wanted = tomllib.loads(content)
        wanted["profiles"][profile]["kubernetes"] = {key: list(pins[key]) for key in pins}
        is_kept = tomllib.loads(changed) == wanted
    except (TOMLKitError, ValueError, KeyError, TypeError, AttributeError):
        is_kept = False
    if not is_kept:
        raise ConfigError(
            f"{source} leaves no place for `kubernetes` in [profiles.{profile}]",
            hint=f"Add it yourself: kubernetes = {_inline(pins)}",
        )
    return mark + changed
