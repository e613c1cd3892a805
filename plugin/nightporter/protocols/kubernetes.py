"""kubectl's ExecCredential (client.authentication.k8s.io).

Follows the Kubernetes documents "client-go credential plugins" and "Client Authentication (v1,
v1beta1)". The ask is the variable KUBERNETES_EXEC_INFO, every member of which may be missing: other
clients than kubectl are sloppy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.expiry import format_rfc3339
from nightporter.core.hosts import BadAskError, parse_target, profiles_for
from nightporter.core.model import Profile, Token
from nightporter.core.values import dataclass

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAsk:
    """What kubectl asks, and of its cluster all that decides where the token goes.

    `is_told`: kubectl asks (a person or a script does not set KUBERNETES_EXEC_INFO). `cluster`:
    what the kubeconfig says of it, where it says `provideClusterInfo`.
    """

    api_version: str = VERSIONS[0]
    is_told: bool = False
    cluster: Mapping[str, Any] | None = None


def parse_exec_info(exec_info: str | None) -> ExecAsk:
    """What KUBERNETES_EXEC_INFO asks for; v1 and no cluster where it says nothing.

    Raises: ConfigError for a version that no longer exists or that we don't know: any other would
    be fatal to it too.
    """
    if not exec_info:
        return ExecAsk()
    document = _document_in(exec_info)
    asked = document.get("apiVersion") or VERSIONS[0]
    if asked not in VERSIONS:
        raise ConfigError(
            "KUBERNETES_EXEC_INFO asks for an apiVersion that is not supported",
            hint=(
                f"Set `apiVersion` in the kubeconfig's exec stanza to one of {', '.join(VERSIONS)}."
            ),
        )
    spec = document.get("spec")
    cluster = spec.get("cluster") if isinstance(spec, dict) else None
    return ExecAsk(
        api_version=str(asked), is_told=True, cluster=cluster if isinstance(cluster, dict) else None
    )


def _document_in(exec_info: str) -> dict[str, Any]:
    """The members that are told; none for white space and `null`, which other clients than kubectl
    send.

    Raises: ConfigError.
    """
    try:
        document = json.loads(exec_info.removeprefix("\ufeff").strip() or "null") or {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(
            "KUBERNETES_EXEC_INFO is not a JSON object",
            hint="It is set by kubectl; unset it when running by hand.",
        )
    return document


def check_cluster(ask: ExecAsk, profile: Profile) -> None:
    """Checks that the token goes where the profile wants it: a kubeconfig that somebody sent is in
    an attacker's hand, and all of it decides (contract, section 8).

    Raises: HostNotAllowedError.
    """
    if not ask.is_told or (ask.cluster is None and not profile.hosts):
        return
    if ask.cluster is None:
        if not profile.helper_options["allow_unknown_cluster"]:
            raise _refusal(
                profile,
                "kubectl tells no cluster",
                "Set `provideClusterInfo: true` in the kubeconfig's exec stanza (`nightporter setup"
                " kubectl` does), or `allow_unknown_cluster = true` in the profile.",
            )
        return
    cluster, pins = ask.cluster, profile.helper_options["kubernetes"]
    if not is_cluster_of(cluster.get("server"), profile):
        raise _refusal(profile, "the cluster that kubectl talks to is not in its `hosts`")
    if cluster.get("insecure-skip-tls-verify") not in (None, False):
        raise _refusal(
            profile,
            "the kubeconfig skips the check of the cluster's certificate",
            "Remove `insecure-skip-tls-verify` from the cluster, and name its CA.",
        )
    if cluster.get("proxy-url") not in (None, "", *_pinned(pins, "proxy")):
        raise _refusal(
            profile,
            "the kubeconfig sends it through a proxy that is not pinned",
            "Name the proxy in the profile: `kubernetes = { proxy = ... }`.",
        )
    names = _pinned(pins, "tls_server_name")
    if names and cluster.get("tls-server-name") not in names:
        raise _refusal(profile, "its TLS server name is another than the pinned one")
    authorities = _pinned(pins, "ca_sha256")
    if authorities and not _fits(cluster.get("certificate-authority-data"), authorities):
        raise _refusal(profile, "its CA is another than the pinned one")


def is_cluster_of(server: object, profile: Profile) -> bool:
    """Returns whether a cluster's server is in the profile's `hosts`. A path is compared where the
    entry has one (Rancher serves many clusters behind one host)."""
    if not isinstance(server, str) or "?" in server or "#" in server:
        return False
    try:
        return bool(profiles_for(parse_target(server, has_path=True), [profile]))
    except BadAskError:
        return False


def _refusal(profile: Profile, why: str, hint: str = "") -> HostNotAllowedError:
    return HostNotAllowedError(
        f"profile {profile.name!r} gives this cluster no token: {why}", hint=hint
    )


def _pinned(pins: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = pins.get(key, ())
    return (found,) if isinstance(found, str) else tuple(found)


def _fits(data: object, digests: tuple[str, ...]) -> bool:
    """Whether there is a CA, and every certificate of it is pinned by its SHA-256."""
    try:
        found = certificate_digests(str(data))
    except ValueError:
        return False
    wanted = {digest.replace(":", "").lower() for digest in digests}
    return bool(found) and set(found) <= wanted


def certificate_digests(data: str) -> list[str]:
    """Returns the SHA-256 (hex) of each certificate's DER in `certificate-authority-data`.

    Raises: ValueError.
    """
    import base64  # deferred: only a pinned CA needs them
    import hashlib

    text = base64.b64decode(data, validate=True).decode("ascii")
    found = []
    for block in text.split("-----BEGIN CERTIFICATE-----")[1:]:
        body, end, _ = block.partition("-----END CERTIFICATE-----")
        if end:
            der = base64.b64decode("".join(body.split()), validate=True)
            found.append(hashlib.sha256(der).hexdigest())
    return found


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
