"""Cargo's credential provider protocol (cargo reference, "Credential Provider Protocol"): parse an
ask, render a reply.

Pure. One JSON object a line, `Ok` or `Err` around every answer. Only the address of the index
decides: a checkout's own `.cargo/config.toml` can choose the registry's name and our arguments, so
of those a profile's name alone is taken.
"""

from __future__ import annotations

import json
from typing import Any

from nightporter.core.hosts import BadAskError, Target, object_in, parse_target
from nightporter.core.model import Token
from nightporter.core.values import dataclass

HELLO = json.dumps({"v": [1]})
OPERATIONS = ("read", "publish", "yank", "unyank", "owners")
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CargoAsk:
    """`kind`: get, login, logout, or one that we don't know. `is_known`: an operation that a token
    can be given for.

    `target` None: an address that can't be ours. `arguments`: what cargo hands on to every
    provider, so for registries of others nobody looks at them.
    """

    kind: str
    target: Target | None
    arguments: Any = ()
    is_known: bool
    brings_token: bool = False

    def profile_named(self) -> str | None:
        """The profile that the arguments name, if any.

        Raises: BadAskError for any other argument.
        """
        match self.arguments or []:
            case []:
                return None
            case ["--profile", str(name)]:
                return name
            case [str(word)] if word.startswith("--profile="):
                return word.removeprefix("--profile=")
        raise BadAskError("only `--profile NAME` is taken as an argument")


def parse(line: bytes) -> CargoAsk:
    """The ask in one line of JSON.

    Raises: BadAskError.
    """
    document = object_in(line, MAX_BYTES)
    if document is None:
        raise BadAskError("not a JSON object")
    registry = document.get("registry")
    index = registry.get("index-url") if isinstance(registry, dict) else None
    if document.get("v") != 1 or not isinstance(index, str):
        raise BadAskError("not a request of version 1")
    operation = document.get("operation", "read")
    return CargoAsk(
        kind=str(document.get("kind")),
        target=_target(index),
        arguments=document.get("args"),
        is_known=operation in OPERATIONS,
        brings_token=document.get("token") is not None,
    )


def _target(index: str) -> Target | None:
    """None for addresses that can't be ours (ssh, files, user names): cargo then asks the next
    provider."""
    for prefix in ("sparse+", "registry+"):
        index = index.removeprefix(prefix)
    try:
        return parse_target(index, has_path=True) if "://" in index else None
    except BadAskError:
        return None


def render(token: Token, *, reported_expiry: int, with_type: bool) -> str:
    """The answer to `get`: the whole value of the header Authorization. `with_type`: the registry
    wants `Bearer`."""
    value = f"{token.token_type} {token.value}" if with_type else token.value
    answer = {"kind": "get", "token": value, "cache": "expires", "expiration": reported_expiry}
    return json.dumps({"Ok": {**answer, "operation_independent": True}})


def render_done(kind: str) -> str:
    """The answer to a `login` or `logout` that went well."""
    return json.dumps({"Ok": {"kind": kind}})


def render_error(kind: str, message: str = "") -> str:
    """`url-not-supported` and `not-found` let cargo ask the next provider; `other` ends the
    command."""
    return json.dumps(
        {"Err": {"kind": kind, **({"message": message, "caused-by": []} if message else {})}}
    )
