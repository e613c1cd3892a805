"""Which entries of `hosts` a client can never ask for, by what its protocol is able to say.

`setup` of the client leaves them out, or refuses where there are no others; `config check` and
doctor tell them for the clients that are set up on this machine. Files are only looked at: whether
our name is in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping

from nightporter.core.hosts import Rule, parse_rule
from nightporter.core.model import Profile
from nightporter.core.values import dataclass
from nightporter.machine.places import data_directory
from nightporter.protocols import docker

Environment = Mapping[str, str]
# `CredentialHelperProvider` of Bazel compares hosts alone: no port, no path, no scheme.
BAZEL_SCOPE = re.compile(r"(\*|[-a-zA-Z0-9]+)(\.[-a-zA-Z0-9]+)+")


@dataclass(frozen=True, kw_only=True)
class Asks:
    """What a client can ask for. `file`: where its setup is written."""

    can: Callable[[Rule], bool]
    why: str
    file: Callable[[Environment], str]


def bazel_scope(rule: Rule) -> str:
    """Returns a rule as Bazel's `--credential_helper` names it."""
    return f"*.{rule.target.host}" if rule.is_wildcard else rule.target.host


def _is_https(rule: Rule) -> bool:
    return rule.target.scheme == "https"


def _home(*parts: str) -> str:
    return os.path.join(os.path.expanduser("~"), *parts)


def _docker_file(names: Environment) -> str:
    return os.path.join(names.get("DOCKER_CONFIG") or _home(".docker"), "config.json")


CLIENTS: Mapping[str, Asks] = {
    "docker": Asks(
        can=docker.can_ask_for,
        why="docker knows no patterns, paths or plain http",
        file=_docker_file,
    ),
    "terraform": Asks(
        can=lambda rule: not rule.target.path and _is_https(rule),
        why="Terraform tells neither path nor scheme",
        file=lambda names: names.get("TF_CLI_CONFIG_FILE") or _home(".terraformrc"),
    ),
    "go": Asks(
        can=_is_https,
        why="Go asks for https alone",
        file=lambda names: names.get("GOENV") or _home(".config", "go", "env"),
    ),
    "bazel": Asks(
        can=lambda rule: bool(BAZEL_SCOPE.fullmatch(bazel_scope(rule))),
        why="Bazel's scopes are names with a dot",
        file=lambda _names: _home(".bazelrc"),
    ),
    "kubelet": Asks(
        can=_is_https,
        why="the kubelet tells no scheme",
        file=lambda _names: os.path.join(data_directory(), "kubelet", "config.yaml"),
    ),
}


def never_asked(profile: Profile, environment: Environment) -> Iterator[tuple[str, str, str]]:
    """Yields client, entry and reason, for the clients that are set up here."""
    for client, asks in CLIENTS.items():
        unasked = [entry for entry in profile.hosts if not asks.can(parse_rule(entry))]
        if unasked and _is_set_up(asks.file(environment)):
            yield from ((client, entry, asks.why) for entry in unasked)


def _is_set_up(file: str) -> bool:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return "nightporter" in opened.read()
    except OSError:
        return False
