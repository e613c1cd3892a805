"""Which profile may answer for which host: one rule for every helper protocol. Pure.

A token goes only to a host that is named in `hosts` of exactly one profile. Hosts are compared
whole, ports included, after IDNA (2008, as git and curl have it: the older one takes faß.example
for fass.example) and in lower case: never a substring, a suffix without a label boundary, or a
pattern (CVE-2024-53858, microsoft/vscode#320634). `*.example.com` stands for exactly one
label. An entry with a path (`git.example.com/team`) is for what lies below that path, and for
nobody who doesn't tell one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from nightporter.core.checks import is_loopback, texts
from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile
from nightporter.core.suffixes import is_public_suffix
from nightporter.core.values import dataclass

_ODD_IN_PATHS = ("%2f", "%2e", "%5c", "%25", "%3b", ";", "\\")
DEFAULT_PORTS = {"https": 443, "http": 80}
PASSED_OVER = re.compile(r"[\t\r\n]")  # wherever in an address (WHATWG URL, and Python's urlsplit)


class BadAskError(Exception):
    """The client's ask breaks the rules (control bytes, an invalid host): refused whole, and
    never repeated.

    `address`: what it asked for, None where nothing tells. `could_mean` says whether that is ours.
    """

    def __init__(self, why: str, *, address: str | None = None) -> None:
        super().__init__(why)
        self.address = address


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parsed host. `port` is never None: the scheme's own where none is said. `path`: its
    segments, where told."""

    scheme: str
    host: str
    port: int
    path: tuple[str, ...] | None = None

    @property
    def origin(self) -> str:
        """`https://host`, with the port where it isn't the scheme's own."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """`host`, with the port where it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `hosts`. `is_wildcard`: `target.host` is what follows the one free label.
    `is_port_written`: the entry says the port, be it the scheme's own."""

    target: Target
    is_wildcard: bool
    is_port_written: bool = False

    def matches(self, target: Target) -> bool:
        """Plain http is allowed only where the entry says `http://`."""
        named = self.target
        if (named.scheme, named.port) != (target.scheme, target.port):
            return False
        if named.path and (target.path is None or target.path[: len(named.path)] != named.path):
            return False
        if not self.is_wildcard:
            return named.host == target.host
        label, _, rest = target.host.partition(".")
        return bool(label) and rest == named.host

    @property
    def authority(self) -> str:
        """The host as configured, with the port where it isn't the scheme's own."""
        return f"*.{self.target.authority}" if self.is_wildcard else self.target.authority

    @property
    def key(self) -> str:
        """What docker and the kubelet look up, letter by letter: `reg.example.com:443` and
        `reg.example.com` are two keys to them."""
        port = f":{self.target.port}"
        is_missing = self.is_port_written and not self.authority.endswith(port)
        return self.authority + port if is_missing else self.authority

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in a URL."""
        return f"{self.target.scheme}://{self.authority}"


def check_text(value: str) -> str:
    """The value, if it holds no control byte at all (protocols.md, rule R2).

    Raises: BadAskError.
    """
    if any(
        ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F or char in "\u2028\u2029" for char in value
    ):
        raise BadAskError("a control character in the request")
    return value


def decode_text(content: bytes) -> str:
    """UTF-8 without control bytes.

    Raises: BadAskError, with the text as far as it is one as its address.
    """
    text = content.decode("utf-8", "replace")
    try:
        content.decode("utf-8")
        return check_text(text)
    except UnicodeDecodeError as exc:
        raise BadAskError("not UTF-8", address=text) from exc
    except BadAskError as exc:
        raise BadAskError(str(exc), address=text) from exc


def object_in(content: bytes, max_bytes: int) -> dict[str, Any] | None:
    """The JSON object that a request is, or None."""
    import json  # deferred: line protocols need none

    try:
        document = json.loads(content) if len(content) <= max_bytes else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def parse_target(text: str, *, scheme: str = "https", has_path: bool = False) -> Target:
    """The target of `host`, `host:port` or an address with a scheme. Paths and queries are for
    `has_path` only.

    Raises: BadAskError for an empty host, a user name in it, another scheme than http and https,
    and all that is odd.
    """
    try:
        return _parse_target(text, scheme=scheme, has_path=has_path)
    except BadAskError as exc:
        raise BadAskError(str(exc), address=text) from exc


def _parse_target(text: str, *, scheme: str, has_path: bool) -> Target:
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
    if not has_path and ("?" in text or "#" in text):
        raise BadAskError("not a plain host")
    if parts.netloc.endswith(":") or port == 0:
        raise BadAskError("not a port")
    return Target(
        scheme=parts.scheme,
        host=_canonical(parts.hostname, is_literal="[" in parts.netloc),
        port=port or DEFAULT_PORTS[parts.scheme],
        path=path_of(parts.path) if has_path else None,
    )


def path_of(text: str) -> tuple[str, ...] | None:
    """A path that servers could read in different ways is told as none: no rule with a path will
    match it."""
    try:
        return parse_path(text)
    except BadAskError:
        return None


def parse_path(text: str) -> tuple[str, ...]:
    """The segments of a path, which rules compare one by one.

    Raises: BadAskError for `.` and for what begins with `..`, for an encoded slash, dot or percent
    sign, and for a semicolon (`..;` is `..` to Java's servers): servers read them in different
    ways.
    """
    check_text(text)
    segments = tuple(segment for segment in text.split("/") if segment)
    is_odd = any(odd in text.lower() for odd in _ODD_IN_PATHS)
    if is_odd or "." in segments or any(segment.startswith("..") for segment in segments):
        raise BadAskError("not a plain path")
    return segments


def _canonical(host: str, *, is_literal: bool) -> str:
    """Lower case and ASCII. A trailing dot names another host here, since no `hosts` will have
    one."""
    if is_literal:
        import ipaddress  # deferred: hosts are names

        try:
            return str(ipaddress.ip_address(host))
        except ValueError as exc:
            raise BadAskError("not an address") from exc
    found = host.lower() if host.isascii() else _to_ascii(host)
    labels = found.removesuffix(".").split(".")
    fine = all(
        label and len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    )
    if not fine or len(found) > 253 or found.endswith("."):
        raise BadAskError("not a host name")
    return found


def _to_ascii(host: str) -> str:
    import idna  # deferred: its tables are large, and hardly any host is not ASCII

    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as exc:
        raise BadAskError("not a host name") from exc


def parse_rule(entry: str) -> Rule:
    """An entry of `hosts`: `[http://|https://][*.]host[:port][/path]`.

    Raises: BadAskError.
    """
    scheme, separator, rest = entry.rpartition("://")
    is_wildcard = rest.startswith("*.")
    plain = f"{scheme}{separator}{rest.removeprefix('*.')}"
    target = parse_target(plain, has_path=True)
    parts = urlsplit(plain if separator else f"https://{plain}")
    if parts.query or parts.fragment or (is_wildcard and "." not in target.host):
        raise BadAskError("not a host")
    parse_path(parts.path)  # an odd one must not make the entry one for the whole host
    return Rule(target=target, is_wildcard=is_wildcard, is_port_written=parts.port is not None)


def entry_problem(entry: str) -> str | None:
    """What is wrong with an entry of `hosts`, or None."""
    try:
        rule = parse_rule(entry)
    except BadAskError:
        return (
            "must be hosts such as 'git.example.com', 'git.example.com:8443', '*.example.com' or"
            " 'example.com/team'"
        )
    return _wildcard_problem(rule.target.host) if rule.is_wildcard else None


def hosts_problem(value: Any) -> str | None:
    """What is wrong with a value of `hosts`, or None."""
    return texts(value) or next(filter(None, map(entry_problem, value)), None)


def _wildcard_problem(host: str) -> str | None:
    if host.rpartition(".")[2].isdigit() or ":" in host:
        return "must hold no pattern of addresses: a wildcard stands for one label of a name"
    if is_public_suffix(host):
        return (
            "must hold no wildcard over a suffix under which anybody can have a name, such as"
            " *.co.uk or *.github.io: name the hosts, or put the wildcard below your own name"
        )
    return None


def may_receive(url: str, profile: Profile) -> bool:
    """Returns whether a program's own request may carry the profile's token: to a host of `hosts`
    and over https, or over http on loopback. Without `hosts` nothing is held back.

    `url`: as it is sent.
    """
    if not profile.hosts:
        return True
    try:
        target = parse_target(url, has_path=True)
    except BadAskError:
        return False
    if target.scheme == "https":
        return bool(profiles_for(target, [profile]))
    return is_loopback(target.host) and any(
        rule.target.host == target.host and _fits_locally(rule, target)
        for rule in rules_of(profile)
    )


def _fits_locally(rule: Rule, target: Target) -> bool:
    """On this machine the scheme says nothing, so `localhost:8080` is for http too."""
    has_port = rule.target.port == target.port or not rule.is_port_written
    path = rule.target.path or ()
    return has_port and (target.path or ())[: len(path)] == path


def rules_of(profile: Profile) -> list[Rule]:
    """The rules of a profile's `hosts`, in their order."""
    return [parse_rule(entry) for entry in profile.hosts]


def profiles_for(target: Target, profiles: Iterable[Profile]) -> list[Profile]:
    """The profiles whose `hosts` name the target."""
    return [
        profile for profile in profiles if any(rule.matches(target) for rule in rules_of(profile))
    ]


def overlap(first: Rule, second: Rule) -> bool:
    """Whether one ask could be for both rules."""
    one, other = first.target, second.target
    if (one.scheme, one.port) != (other.scheme, other.port):
        return False
    length = min(len(one.path or ()), len(other.path or ()))
    if (one.path or ())[:length] != (other.path or ())[:length]:
        return False
    if first.is_wildcard == second.is_wildcard:
        return one.host == other.host
    plain, pattern = (other, one) if first.is_wildcard else (one, other)
    label, _, rest = plain.host.partition(".")
    return bool(label) and rest == pattern.host


def shared_hosts(profile: Profile, profiles: Iterable[Profile]) -> list[tuple[str, list[str]]]:
    """Returns the entries of a profile's `hosts` that other profiles claim too, and their names."""
    others = [other for other in profiles if other.name != profile.name]
    found = []
    for entry in profile.hosts:
        rule = parse_rule(entry)
        owners = [
            other.name for other in others if any(overlap(rule, their) for their in rules_of(other))
        ]
        if owners:
            found.append((entry, owners))
    return found


def could_mean(address: str, profiles: Iterable[Profile]) -> bool:
    """Whether somebody could read a refused address as one of our hosts. If so, the refusal is
    told; else the client is told that the address isn't ours, since a helper may be asked for all
    hosts. Gives nobody a token: scheme, port, path and user name are not compared.
    """
    hosts = {_host_in(authority) for authority in authorities_in(address)}
    return any(
        host == rule.target.host or (rule.is_wildcard and host.endswith(f".{rule.target.host}"))
        for profile in profiles
        for rule in rules_of(profile)
        for host in hosts
    )


def authorities_in(address: str) -> set[str]:
    """The authorities, without user names, that clients can see in an address, be it odd. RFC 3986
    (section 3.2) ends it at `/`, `?` and `#`, WHATWG URL at a backslash too."""
    found = set()
    for text in (address, PASSED_OVER.sub("", address)):
        _, separator, rest = text.partition("://")
        rest = rest if separator else text.strip()
        for ends in (r"[/?#]", r"[/?#\\]"):
            found.add(re.split(ends, rest)[0].rpartition("@")[2])
    return found


def _host_in(authority: str) -> str:
    host = authority.strip()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    for at, char in enumerate(host):
        if not char.isprintable() or char == " ":
            host = host[:at]
            break
    try:
        return _canonical(host.rstrip("."), is_literal=":" in host)
    except BadAskError:
        return host.lower()


def profile_for(target: Target, profiles: Mapping[str, Profile]) -> Profile | None:
    """The one profile that may answer; None where the host is not ours.

    Raises: ConfigError naming both, where two profiles claim the host.
    """
    found = profiles_for(target, profiles.values())
    if len(found) > 1:
        names = " and ".join(repr(profile.name) for profile in found[:2])
        raise ConfigError(
            f"the host {target.authority} is in `hosts` of {names}",
            hint="Name it in one profile only; `nightporter config check` shows where.",
        )
    return found[0] if found else None
