"""The command line of the program `keyring`, as pip, uv and people type it (keyring 25, `cli.py`):
parse an ask, render a reply.

Pure. A name that isn't found is exit 1 with nothing on standard output. Options may stand after the
operation: uv writes them there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from nightporter.core.hosts import (
    DEFAULT_PORTS,
    PASSED_OVER,
    BadAskError,
    Target,
    authorities_in,
    parse_target,
)
from nightporter.core.model import Token
from nightporter.core.values import dataclass

MODES = ("password", "creds")
OUTPUTS = ("plain", "json")
REFUSES_SET = "nightporter stores no passwords: it fetches tokens itself"
_PLAIN_HTTP = re.compile(r"[\x00-\x20\s]*http://", re.IGNORECASE)
_END_OF_AUTHORITY = re.compile(r"[/?#\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One command line. `operation`: get, set or del. `with_name`: `get` shows the user name
    too."""

    operation: str
    service: str
    username: str | None
    with_name: bool
    is_json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What SERVICE names, without the user name that some tools leave in an address, and that name.

    `target`: None for an odd `http://` address, which gets no answer. `is_bare`: a host alone,
    which says no scheme. `plain_http`: what a client can mean by the bare host of an `http://`
    address, which it asks for next, and which is taken for https.
    """

    target: Target | None
    username: str | None
    is_bare: bool
    plain_http: tuple[Target, ...] = ()


def parse(arguments: Sequence[str]) -> Ask | None:
    """Returns the ask; None for a line that is the real program's alone: another operation, a
    backend by name, a mistake."""
    options = {"--mode": MODES[0], "--output": OUTPUTS[0]}
    named, words = list[str](), iter(arguments)
    for word in words:
        key, is_joined, value = word.partition("=")
        if not word.startswith("-"):
            named.append(word)
        elif key in options:
            options[key] = value if is_joined else next(words, "")
        else:
            return None
    if options["--mode"] not in MODES or options["--output"] not in OUTPUTS:
        return None
    with_name = options["--mode"] == "creds"
    least = 2 if named[:1] == ["get"] and with_name else 3
    if named[:1] not in (["get"], ["set"], ["del"]) or not least <= len(named) <= 3:
        return None
    return Ask(
        operation=named[0],
        service=named[1],
        username=named[2] if len(named) > 2 else None,
        with_name=with_name,
        is_json=options["--output"] == "json",
    )


def parse_service(text: str) -> Service | None:
    """Returns what SERVICE names; None where it is no host: many services are none at all."""
    address, username = _without_user(text)
    is_plain = _PLAIN_HTTP.match(PASSED_OVER.sub("", text))
    plain_http = tuple(_bare_hosts(text)) if is_plain else ()
    target = _target(address, has_path=True) if text.split() == [text] else None
    if target is None and not plain_http:
        return None
    return Service(
        target=target, username=username, is_bare="://" not in address, plain_http=plain_http
    )


def _target(text: str, *, has_path: bool = False) -> Target | None:
    try:
        return parse_target(text, has_path=has_path)
    except BadAskError:
        return None


def _bare_hosts(address: str) -> Iterator[Target]:
    """A client doesn't mind what is odd about an address, and sends in clear what the bare host of
    it gets. The port of http may be told with it or not."""
    port = f":{DEFAULT_PORTS['http']}"
    for authority in authorities_in(address):
        bare = authority.removesuffix(port)
        yield from filter(None, map(_target, (bare, bare + port)))


def _without_user(service: str) -> tuple[str, str | None]:
    """The authority ends where the most lenient client sees its end (RFC 3986, section 3.2; WHATWG
    URL has the backslash too): what follows an `@` behind that is no host."""
    scheme, _, rest = service.partition("://")
    user, at, _ = _END_OF_AUTHORITY.split(rest)[0].rpartition("@")
    if not at or ":" in user or "@" in user:
        return service, None
    return f"{scheme}://{rest[len(user) + 1 :]}", unquote(user)


def deletion_hint(profile: str) -> str:
    """Returns what to type in place of a deletion."""
    return f"use `nightporter logout {profile}`"


def render(ask: Ask, token: Token, *, username: str) -> str:
    """The answer to `get`: a line for the user name where it is wanted, and one for the token."""
    found = {"username": username} if ask.with_name else {}
    found["password"] = token.value
    return json.dumps(found) if ask.is_json else "\n".join(found.values())
