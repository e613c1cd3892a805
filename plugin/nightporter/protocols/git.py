"""git's credential helper protocol (git-credential(1), gitcredentials(7)): parse an ask, render a
reply. Pure.

User name and token for every git; `authtype=Bearer` where git offers it (2.46); the `continue` and
`state[]` of 2.46 turn a revoked token into a silent second try. Never printed:
`oauth_refresh_token` (git hands it to every other helper), `host`, `path`, `protocol` (they would
change git's own idea of the target).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from nightporter.core.hosts import (
    BadAskError,
    Target,
    check_text,
    decode_text,
    parse_target,
    path_of,
)
from nightporter.core.model import Token
from nightporter.core.values import dataclass, field, replace

OPERATIONS = ("get", "store", "erase", "capability")
MAX_BYTES = 1 << 20
STATE = "nightporter:tried="
# What decides. Everything else (challenges, states of others, unknown keys) is skipped as bytes.
_USED = ("protocol", "host", "path", "username", "password", "credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAsk:
    """`target` None: nothing that we could answer for. `refused`: the secret that git reports with
    `erase`.

    `tried`: the mark of the token that was refused in this very command, which makes this the
    second try.
    """

    target: Target | None
    username: str | None = None
    refused: str | None = field(default=None, repr=False)
    takes_bearer: bool = False
    takes_state: bool = False
    tried: str | None = None


def parse(content: bytes) -> GitAsk:
    """The ask in what git wrote. Lines end at LF alone; an empty line ends the ask.

    Raises: BadAskError (CVE-2020-5260, CVE-2024-52006: control bytes, a key said twice).
    """
    if len(content) > MAX_BYTES:
        raise BadAskError("the request is too long")
    keys: dict[str, bytes] = {}
    capabilities: set[bytes] = set()
    states: list[bytes] = []
    for line in content.split(b"\n"):
        if not line:
            break
        name, separator, value = line.partition(b"=")
        if b"\r" in line or b"\0" in line or not separator:
            raise BadAskError("a line that breaks the protocol")
        if name == b"capability[]":
            capabilities.add(value)
        elif name == b"state[]" and value.startswith(STATE.encode()):
            states.append(value.removeprefix(STATE.encode()))
        elif (key := name.decode("latin-1")) in _USED:
            if key in keys:
                raise BadAskError("a key said twice")
            keys[key] = value
    return _ask_of(keys, capabilities, states)


def _ask_of(keys: Mapping[str, bytes], capabilities: set[bytes], states: list[bytes]) -> GitAsk:
    host = decode_text(keys.get("host", b""))
    try:
        said = {key: _decoded(key, value) for key, value in keys.items() if key != "path"}
        return GitAsk(
            target=_target(said, keys.get("path")),
            username=said.get("username"),
            refused=said.get("credential") or said.get("password"),
            takes_bearer=b"authtype" in capabilities,
            takes_state=b"state" in capabilities,
            tried=decode_text(states[0]) if states else None,
        )
    except BadAskError as exc:
        raise BadAskError(str(exc), address=host) from exc


def _decoded(key: str, value: bytes) -> str:
    """A refused secret of another helper may not be UTF-8: then it is not our token either.

    Raises: BadAskError.
    """
    if key in ("password", "credential"):
        return check_text(value.decode("utf-8", "replace"))
    return decode_text(value)


def _target(keys: Mapping[str, str], path: bytes | None) -> Target | None:
    """No host or no protocol is never a wildcard (CVE-2020-11008)."""
    protocol, host = keys.get("protocol"), keys.get("host")
    if not protocol or not host or protocol not in ("http", "https"):
        return None
    if "/" in host:
        raise BadAskError("not a host")
    return replace(parse_target(host, scheme=protocol), path=_path(path))


def _path(path: bytes | None) -> tuple[str, ...] | None:
    """The segments of a path; None where git tells none, or one that servers could read in
    different ways: no entry of `hosts` with a path matches it, and one without a path doesn't
    care.

    Raises: BadAskError for control bytes.
    """
    if path is None:
        return None
    if any(byte < 0x20 or byte == 0x7F for byte in path):
        raise BadAskError("a control character in the request")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return path_of(check_text(text))


def render(
    token: Token, ask: GitAsk, *, username: str, reported_expiry: int, may_retry: bool
) -> str:
    """The answer to `get`. `may_retry`: the token is a cached one, so git may come again if it is
    refused."""
    lines = []
    if ask.takes_bearer:
        lines += ["capability[]=authtype"]
        if may_retry and ask.takes_state:
            lines += ["capability[]=state"]
        lines += [f"authtype={token.token_type}", f"credential={token.value}", "ephemeral=1"]
        if may_retry and ask.takes_state:
            lines += ["continue=1", f"state[]={STATE}{mark_of(token)}"]
    else:
        lines += [f"username={ask.username or username}", f"password={token.value}"]
    return "\n".join([*lines, f"password_expiry_utc={reported_expiry}"])


def mark_of(token: Token) -> str:
    """Names a token without telling it, so that a second try refuses that one and not a sister's
    fresh one."""
    return hashlib.sha256(token.value.encode()).hexdigest()[:16]


CAPABILITIES = "version 0\ncapability authtype\ncapability state"
QUIT = "quit=1"
