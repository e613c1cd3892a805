"""The kubelet's image credential provider (credentialprovider.kubelet.k8s.io/v1): parse an ask,
render a reply.

Pure. Seen by contract test only. `cacheDuration` is relative, so it is what is left of the token
less the margin.
"""

from __future__ import annotations

import json

from nightporter.core.hosts import BadAskError, Target, object_in, parse_target
from nightporter.core.model import Token
from nightporter.core.values import dataclass

API_VERSION = "credentialprovider.kubelet.k8s.io/v1"
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletAsk:
    """`target`: the registry, with the repository (without its tag) as its path. `registry`: as
    the image spells it, since the kubelet compares ports as they are written."""

    target: Target
    registry: str


def parse(content: bytes) -> KubeletAsk | None:
    """What a CredentialProviderRequest asks for.

    None for an image that names no registry: the default one is public, and never ours.

    Raises: BadAskError.
    """
    document = object_in(content, MAX_BYTES)
    if document is None or document.get("apiVersion") != API_VERSION:
        raise BadAskError(f"not a CredentialProviderRequest of {API_VERSION}")
    image = document.get("image")
    if not isinstance(image, str) or "://" in image or image.startswith("/"):
        raise BadAskError("not an image", address=image if isinstance(image, str) else None)
    first, slash, _ = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return None  # the reference grammar of distribution
    name, _, last = image.split("@", 1)[0].rpartition("/")
    target = parse_target(f"{name}/{last.split(':', 1)[0]}", has_path=True)
    is_usual_port_written = target.port == 443 and first.endswith(":443")
    registry = f"{target.authority}:443" if is_usual_port_written else target.authority
    return KubeletAsk(target=target, registry=registry)


def render(token: Token, *, key: str, username: str, left_s: int) -> str:
    """The answer. `key`: the registry (and repository) that it is for."""
    auth = {key: {"username": username, "password": token.value}}
    return _reply(auth, "Image" if "/" in key else "Registry", f"{max(left_s, 0)}s")


def render_none() -> str:
    """Returns the answer for an image of no profile: empty, and not cached."""
    return _reply({}, "Registry", "0s")


def _reply(auth: object, kind: str, duration: str) -> str:
    answer = {"apiVersion": API_VERSION, "kind": "CredentialProviderResponse", "cacheKeyType": kind}
    return json.dumps({**answer, "cacheDuration": duration, "auth": auth})
