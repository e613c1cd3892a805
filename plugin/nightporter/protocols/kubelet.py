"""The kubelet's image credential provider (credentialprovider.kubelet.k8s.io/v1): parse an ask,
render a reply.

Pure. Seen by contract test only. `cacheDuration` is relative, so it is what is left of the token
less the margin.
"""

from __future__ import annotations

import json

from nightporter.core.hosts import BadAskError, Target, object_in, parse_target
from nightporter.core.model import Token

API_VERSION = "credentialprovider.kubelet.k8s.io/v1"
MAX_BYTES = 1 << 20


def parse(content: bytes) -> Target | None:
    """The registry, and the repository (without its tag) as its path, of a
    CredentialProviderRequest.

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
    return parse_target(f"{name}/{last.split(':', 1)[0]}", has_path=True)


def render(token: Token, *, key: str, username: str, left_s: int) -> str:
    """The answer. `key`: the registry (and repository) that it is for."""
    auth = {key: {"username": username, "password": token.value}}
    return _reply(auth, "Image" if "/" in key else "Registry", f"{max(left_s, 0)}s")


def render_none() -> str:
    return _reply({}, "Registry", "0s")


def _reply(auth: object, kind: str, duration: str) -> str:
    answer = {"apiVersion": API_VERSION, "kind": "CredentialProviderResponse", "cacheKeyType": kind}
    return json.dumps({**answer, "cacheDuration": duration, "auth": auth})
