"""What doctor says of the programs around us: our commands, kubectl, docker, the environment."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nightporter.client.identity import open_helper_failures
from nightporter.core.model import Config
from nightporter.machine.installation import path_hint
from nightporter.operations import kubeconfig
from nightporter.operations.findings import Finding, ok, warning
from nightporter.operations.status import relative
from nightporter.stores import STORES

COMMANDS = (
    "nightporter",
    "git-credential-nightporter",
    "docker-credential-nightporter",
    "cargo-credential-nightporter",
)
KUBECTL_S = 10.0


def command_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields for our own commands, and for those that a client's configuration names, whether they
    are found on PATH."""
    here = os.path.dirname(sys.executable)
    for name in COMMANDS:
        found = shutil.which(name, path=environment.get("PATH"))
        if found is None:
            yield warning("command-missing", f"{name} is not on PATH", todo=path_hint(name))
        elif os.path.dirname(os.path.realpath(found)) != os.path.realpath(here):
            yield warning(
                "command-missing",
                f"{name} on PATH is {found}, of another installation than this one",
                todo=f"Put {shlex.quote(here)} before its directory on PATH, or remove the other.",
            )
    yield from _docker(environment)


def _docker(environment: Mapping[str, str]) -> Iterator[Finding]:
    """What `setup` writes for docker names a command that must be there: docker wouldn't say
    so."""
    home = os.path.expanduser("~")
    directory = environment.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
    try:
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            document: Any = json.load(file)
        helpers = document.get("credHelpers") or {}
    except (OSError, ValueError, AttributeError):
        return
    hosts = (
        [host for host, name in helpers.items() if name == "nightporter"]
        if isinstance(helpers, dict)
        else []
    )
    if not hosts:
        return
    if shutil.which("docker-credential-nightporter", path=environment.get("PATH")):
        yield ok(f"docker asks nightporter for {', '.join(hosts)}")
    else:
        yield warning(
            "command-missing",
            f"docker asks docker-credential-nightporter for {', '.join(hosts)}",
            todo=path_hint("docker-credential-nightporter"),
        )


def cluster_findings(
    config: Config, names: tuple[str, ...], environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Yields what kubectl's own configuration could be exchanged for: a CA that is not pinned."""
    chosen = (config.profiles.get(name) for name in names or config.profiles)
    wanted = [profile for profile in chosen if profile is not None and profile.hosts]
    document = kubeconfig.parse(_kubectl_view(environment)) if wanted else {}
    for profile in wanted:
        pinned = profile.helper_options["kubernetes"].get("ca_sha256")
        for cluster in kubeconfig.used_clusters(document, profile):
            if cluster.authorities and not pinned:
                what = f"the CA of kubectl's cluster {cluster.name!r} is not pinned"
                yield warning("cluster-not-pinned", what, profile.name)


def variable_findings(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields which variables are set, and which are not read: names, for a value may be secret."""
    stores = {profile.store.name: profile.store for profile in config.profiles.values()}
    kinds = sorted({store.type for store in stores.values()})
    names = [
        name
        for store in stores.values()
        for name in (
            *STORES[store.type].identity_of(store.options),
            *STORES[store.type].secret_variables,
        )
    ]
    own = [name for name in sorted(environment) if name.startswith("NIGHTPORTER_")]
    proxies = [name for name in sorted(environment) if name.lower().endswith("_proxy")]
    found = [name for name in [*own, *dict.fromkeys(names), *proxies] if environment.get(name)]
    if found:
        yield ok(f"set in the environment: {', '.join(found)}")
    unread = [name for kind in kinds for name in STORES[kind].unread_variables]
    if ignored := [name for name in dict.fromkeys(unread) if environment.get(name)]:
        yield warning(
            "store-note",
            f"{', '.join(ignored)} is not read here, though the store's own client reads it",
            todo="plugin/docs/configuration.md names what is read; CA files: `ca_cert`.",
        )


def mishap_findings(names: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields with what helpers have failed lately: their clients showed it to nobody."""
    now = time.time()
    for note in open_helper_failures(environment).load(now):
        if not names or note.profile in (None, *names):
            what = f"{note.protocol}, {relative(note.at - now)}: {note.message} [{note.reference}]"
            yield warning("helper-failed", what, note.profile)


def _kubectl_view(environment: Mapping[str, str]) -> str | None:
    """Returns the kubeconfig as kubectl reads it; None where there is no kubectl, or it fails."""
    client = shutil.which("kubectl", path=environment.get("PATH"))
    for view in kubeconfig.VIEWS if client else ():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(  # noqa: S603 - the user's own kubectl
                [str(client), *view],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=KUBECTL_S,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout.decode(errors="replace")
    return None
