"""kubectl's ExecCredential (client.authentication.k8s.io).

Follows the Kubernetes documents "client-go credential plugins" and "Client Authentication (v1,
v1beta1)". The ask is the variable KUBERNETES_EXEC_INFO, every member of which may be missing: other
clients than kubectl are sloppy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.expiry import format_rfc3339
from nightporter.core.hosts import BadAskError, parse_target, profiles_for
from nightporter.core.model import Profile, Token

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAsk:
    """`server` is the cluster's address, where the kubeconfig says `provideClusterInfo`."""

    api_version: str = VERSIONS[0]
    server: str | None = None


def parse_exec_info(exec_info: str | None) -> ExecAsk:
    """What KUBERNETES_EXEC_INFO asks for; v1 and no cluster where it says nothing.

    Raises: ConfigError for a version that no longer exists or that we don't know: any other would
    be fatal to it too.
    """
    if not exec_info:
        return ExecAsk()
    try:
        document: Any = json.loads(exec_info)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(
            "KUBERNETES_EXEC_INFO is not a JSON object",
            hint="It is set by kubectl; unset it when running by hand.",
        )
    asked = document.get("apiVersion", VERSIONS[0])
    if asked not in VERSIONS:
        raise ConfigError(
            "KUBERNETES_EXEC_INFO asks for an apiVersion that is not supported",
            hint=(
                f"Set `apiVersion` in the kubeconfig's exec stanza to one of {', '.join(VERSIONS)}."
            ),
        )
    spec = document.get("spec")
    cluster = spec.get("cluster") if isinstance(spec, dict) else None
    server = cluster.get("server") if isinstance(cluster, dict) else None
    return ExecAsk(api_version=str(asked), server=server if isinstance(server, str) else None)


def check_server(ask: ExecAsk, profile: Profile) -> None:
    """A downloaded kubeconfig is in an attacker's hand: a cluster that is told must be in the
    profile's `hosts`.

    Raises: HostNotAllowedError.
    """
    if ask.server is None:
        return
    try:
        allowed = bool(profiles_for(parse_target(ask.server), [profile]))
    except BadAskError:
        allowed = False
    if not allowed:
        raise HostNotAllowedError(
            f"the cluster that kubectl talks to is not in `hosts` of profile {profile.name!r}, so"
            " it gets no token"
        )


def render(token: Token, api_version: str, *, reported_expiry: int) -> str:
    """The ExecCredential, one line of JSON. `reported_expiry` is the real one less the margin."""
    return json.dumps(
        {
            "apiVersion": api_version,
            "kind": "ExecCredential",
            "status": {
                "token": token.value,
                "expirationTimestamp": format_rfc3339(reported_expiry),
            },
        }
    )
