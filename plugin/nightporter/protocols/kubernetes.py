"""kubectl's ExecCredential (client.authentication.k8s.io).

Follows the Kubernetes documents "client-go credential plugins" and "Client Authentication (v1, v1beta1)". The ask is
the variable KUBERNETES_EXEC_INFO, every member of which may be missing: other clients than kubectl are sloppy.
"""

from __future__ import annotations

import json
from typing import Any

from nightporter.errors import ConfigError
from nightporter.expiry import format_rfc3339
from nightporter.model import Token

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")


def parse_api_version(exec_info: str | None) -> str:
    """The apiVersion that the client asks for; v1 where it says nothing.

    Raises: ConfigError for a version that no longer exists or that we don't know: any other would be fatal to it too.
    """
    if not exec_info:
        return VERSIONS[0]
    try:
        document: Any = json.loads(exec_info)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(
            "KUBERNETES_EXEC_INFO is not a JSON object", hint="It is set by kubectl; unset it when running by hand."
        )
    asked = document.get("apiVersion")
    if asked is None:
        return VERSIONS[0]
    if asked not in VERSIONS:
        raise ConfigError(
            "KUBERNETES_EXEC_INFO asks for an apiVersion that is not supported",
            hint=f"Set `apiVersion` in the kubeconfig's exec stanza to one of {', '.join(VERSIONS)}.",
        )
    return str(asked)


def render(token: Token, api_version: str, *, reported_expiry: int) -> str:
    """The ExecCredential, one line of JSON. `reported_expiry` is the real one less the margin."""
    return json.dumps(
        {
            "apiVersion": api_version,
            "kind": "ExecCredential",
            "status": {"token": token.value, "expirationTimestamp": format_rfc3339(reported_expiry)},
        }
    )
