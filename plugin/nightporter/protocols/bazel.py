"""The credential helper protocol of Bazel and its kin (EngFlow credential-helper-spec): parse an
ask, render a reply.

Pure. Seen by contract test only. `expires` is whole seconds with a Z: a fraction is a parse error
there.
"""

from __future__ import annotations

import json

from nightporter.core.expiry import format_rfc3339
from nightporter.core.hosts import BadAskError, Target, object_in, parse_target
from nightporter.core.model import Token

NONE = "{}"
MAX_BYTES = 1 << 20
TIMEOUT_S = 8.0  # Bazel gives up after 10 s


def parse(content: bytes) -> Target:
    """The target of `{"uri": ...}`. `grpcs` is TLS like `https`, and shares its rules.

    Raises: BadAskError.
    """
    uri = (object_in(content, MAX_BYTES) or {}).get("uri")
    if not isinstance(uri, str):
        raise BadAskError("not a request with a `uri`")
    if "://" not in uri:  # `unix:` sockets among them
        raise BadAskError("not an address of a host", address=uri)
    if uri.lower().startswith("grpcs://"):
        uri = f"https{uri[5:]}"
    return parse_target(uri, has_path=True)


def render(token: Token, *, reported_expiry: int) -> str:
    """The answer to `get`."""
    headers = {"Authorization": [f"{token.token_type} {token.value}"]}
    return json.dumps({"headers": headers, "expires": format_rfc3339(reported_expiry)})
