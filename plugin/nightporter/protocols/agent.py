"""What the agent is asked over HTTP, and by which rules it answers. Pure: no sockets here.

    GET /v1/token?profile=NAME[&min_ttl=SECONDS]   a token as JSON
    ANY /v1/auth/PROFILE                           nginx's auth_request: the header Authorization
    ANY /v1/envoy/PROFILE/...                      Envoy's ext_authz: the same, for Envoy's Host
    GET /metrics, /healthz

No header is sent that would let a browser's page read an answer, and an ask of a page is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from nightporter.core.checks import is_loopback
from nightporter.core.hosts import BadAskError, parse_target, profiles_for
from nightporter.core.model import Profile
from nightporter.core.values import dataclass

HOST_HEADER = "x-nightporter-host"  # for which host nginx asks
TOKEN_HEADER = "x-nightporter-token"  # what a loopback ask proves itself by
_DECIDING = ("host", HOST_HEADER, TOKEN_HEADER, "origin", "sec-fetch-mode", "sec-fetch-site")
MAX_TARGET = 4096  # characters of an address


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. `kind`: token, header, metrics or health. `host`: for which the header is
    wanted; None where the asker gets the token itself."""

    kind: str
    profile: str | None = None
    min_ttl_s: float | None = None
    host: str | None = None


class RefusedError(Exception):
    """An ask that is not answered. `status`: of HTTP; `reason` is for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def single_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the headers by their names in lower case.

    Raises: RefusedError for one that comes twice where it decides, or holds a control character
    (a line that goes on in the next one, RFC 9112 section 5.2): two programs could read two things.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in found and key in _DECIDING:
            raise RefusedError(400, f"the header {key} comes twice")
        if key in _DECIDING and not value.isprintable():
            raise RefusedError(400, f"the header {key} can't be read")
        found[key] = value
    return found


def parse_ask(method: str, address: str, headers: Mapping[str, str], *, is_unix: bool) -> Ask:
    """Returns what is asked. `headers`: names in lower case. `is_unix`: over the socket.

    Raises: RefusedError.
    """
    parts = _parts_of(address)
    names = parts.path.split("/")
    is_envoy = names[1:3] == ["v1", "envoy"]
    _check_browser(headers, is_host_free=is_unix or is_envoy)
    if names[1:3] == ["v1", "auth"] and len(names) == 4:
        return Ask(kind="header", profile=unquote(names[3]), host=headers.get(HOST_HEADER, ""))
    if is_envoy and len(names) >= 4:
        return Ask(kind="header", profile=unquote(names[3]), host=headers.get("host", ""))
    if method != "GET":
        raise RefusedError(405, "this address takes GET alone")
    if parts.path == "/v1/token":
        return _token_ask(parts.query)
    if parts.path in ("/metrics", "/healthz"):
        return Ask(kind="metrics" if parts.path == "/metrics" else "health")
    raise RefusedError(404, "there is nothing at this address")


def _parts_of(address: str) -> SplitResult:
    if len(address) <= MAX_TARGET and address.startswith("/"):
        with contextlib.suppress(ValueError):  # `//[` begins a host that doesn't end
            return urlsplit(address)
    raise RefusedError(400, "an address that can't be read")


def _check_browser(headers: Mapping[str, str], *, is_host_free: bool) -> None:
    """A page in a browser can reach loopback, by another name too (DNS rebinding). Every browser
    says where a page's request comes from (Fetch Metadata); Node's `fetch` says a mode alone."""
    is_page = headers.get("sec-fetch-site", "none") != "none"
    is_odd = headers.get("sec-fetch-mode", "cors") not in ("navigate", "cors")
    if "origin" in headers or is_page or is_odd:
        raise RefusedError(403, "pages in a browser are not answered")
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if not is_host_free and not is_loopback(name.strip("[]")):
        raise RefusedError(403, "the Host header names another host than this")


def _token_ask(query: str) -> Ask:
    try:
        found = parse_qs(query, strict_parsing=bool(query), max_num_fields=4)
        min_ttl = float(found["min_ttl"][0]) if "min_ttl" in found else None
    except ValueError:
        raise RefusedError(400, "a query that can't be read") from None
    if min_ttl is not None and not 0 <= min_ttl <= 86_400:
        raise RefusedError(400, "min_ttl is a number of seconds, a day at most")
    names = found.get("profile")
    return Ask(kind="token", profile=names[0] if names else None, min_ttl_s=min_ttl)


def check_host(ask: Ask, profile: Profile) -> None:
    """Raises: RefusedError where the header is wanted for a host that is in no `hosts`."""
    if ask.kind != "header":
        return
    try:
        target = parse_target(ask.host or "")
    except BadAskError:
        raise RefusedError(403, f"no host is named ({HOST_HEADER})") from None
    if not profiles_for(target, [profile]):
        raise RefusedError(403, f"the host is not in `hosts` of profile {profile.name!r}")


def check_peer(uid: int | None, name: str | None, own_uid: int, profile: Profile) -> None:
    """A peer of the socket gets what its own user may have, and what the profile's `agent_users`
    let it have. `uid`: None over loopback, where the token file has proved it.

    Raises: RefusedError.
    """
    users: Collection[str] = profile.helper_options["agent_users"]
    if uid is None or uid in (0, own_uid) or str(uid) in users or (name and name in users):
        return
    raise RefusedError(403, f"user {name or uid} is not in `agent_users` of this profile")
