"""Which profile may answer for which host: one rule for every helper protocol. Pure.

A token goes only to a host that is named in `hosts` of exactly one profile. Hosts are compared whole, after IDNA and in
lower case, ports included: never a substring, a suffix without a label boundary, or a pattern of ours (CVE-2024-53858,
microsoft/vscode#320634). `*.example.com` stands for exactly one label.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from nightporter.errors import ConfigError
from nightporter.model import Profile

DEFAULT_PORTS = {"https": 443, "http": 80}


class BadAskError(Exception):
    """The client's ask breaks the rules (control bytes, a host that is none): refused whole, and never repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parsed host. `port` is never None: the scheme's own where none is said."""

    scheme: str
    host: str
    port: int


def check_text(value: str) -> str:
    """The value, if it holds no control byte at all (protocols.md, rule R2).

    Raises: BadAskError.
    """
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F or char in "\u2028\u2029" for char in value):
        raise BadAskError("a control character in the request")
    return value


def parse_target(text: str, *, scheme: str = "https") -> Target:
    """The target of `host`, `host:port` or an address with a scheme; paths are dropped.

    Raises: BadAskError for an empty host, a user name in it, another scheme than http and https, and all that is odd.
    """
    check_text(text)
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        port = parts.port
    except ValueError as exc:
        raise BadAskError("not a host") from exc
    if parts.scheme not in DEFAULT_PORTS:
        raise BadAskError("not an https host")
    if "@" in parts.netloc or not parts.hostname or "\\" in text or "%" in parts.netloc:
        raise BadAskError("not a plain host")
    if parts.netloc.endswith(":"):
        raise BadAskError("not a port")
    return Target(scheme=parts.scheme, host=_canonical(parts.hostname), port=port or DEFAULT_PORTS[parts.scheme])


def _canonical(host: str) -> str:
    """Lower case and ASCII. A trailing dot names another host here, since no `hosts` will have one."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        found = host.encode("idna").decode("ascii").lower()
    except UnicodeError as exc:
        raise BadAskError("not a host name") from exc
    labels = found.removesuffix(".").split(".")
    fine = all(label and len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels)
    if not fine or len(found) > 253 or found.endswith("."):
        raise BadAskError("not a host name")
    return found


def _matches(pattern: str, target: Target) -> bool:
    """Whether an entry of `hosts` names the target. Plain http only where the entry says so outright."""
    wildcard = pattern.removeprefix("https://").startswith("*.")
    try:
        named = parse_target(pattern.replace("*.", "", 1) if wildcard else pattern)
    except BadAskError:
        return False
    if (named.scheme, named.port) != (target.scheme, target.port):
        return False
    if not wildcard:
        return named.host == target.host
    label, _, rest = target.host.partition(".")
    return bool(label) and rest == named.host


def profiles_for(target: Target, profiles: Iterable[Profile]) -> list[Profile]:
    """The profiles whose `hosts` name the target."""
    return [profile for profile in profiles if any(_matches(pattern, target) for pattern in profile.hosts)]


def profile_for(target: Target, profiles: Mapping[str, Profile]) -> Profile | None:
    """The one profile that may answer; None where the host is none of ours.

    Raises: ConfigError naming both, where two profiles claim the host.
    """
    found = profiles_for(target, profiles.values())
    if len(found) > 1:
        names = " and ".join(repr(profile.name) for profile in found[:2])
        raise ConfigError(f"the host {target.host} is in `hosts` of {names}", hint="Name it in one profile only.")
    return found[0] if found else None
