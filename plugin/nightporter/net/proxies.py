"""Which proxy an address is asked through, by the environment's variables.

As curl, requests and Vault's own command do it: HTTPS_PROXY and HTTP_PROXY, else ALL_PROXY, the
lower-case name first; NO_PROXY lists names, suffixes, addresses, networks (CIDR, both families),
each with or without a port, and `*`. The loopback needs no proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from nightporter.core.checks import is_loopback, is_number


def environment_proxies(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the proxies for this address by scheme; none where NO_PROXY names its host or it is
    loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (80 if parts.scheme == "http" else 443)
    if is_loopback(host):
        return {}
    named = {
        scheme: found
        for scheme in ("http", "https")
        if (found := _variable(environment, f"{scheme}_proxy", "all_proxy"))
    }
    skip = _variable(environment, "no_proxy")
    return {} if skip and is_skipped(host, port, skip) else named


def proxy_variable(environment: Mapping[str, str]) -> str:
    """Returns the name of the variable that names the proxy of https addresses, for messages."""
    names = [form for name in ("https_proxy", "all_proxy") for form in (name, name.upper())]
    return next((name for name in names if environment.get(name)), "HTTPS_PROXY")


def _variable(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        found = environment.get(name) or environment.get(name.upper())
        if found:
            return found
    return ""


def is_skipped(host: str, port: int, listed: str) -> bool:
    """Returns whether a NO_PROXY list names the host."""
    entries = [entry.strip().lower() for entry in listed.replace(" ", ",").split(",")]
    return any(_names(entry, host.lower().rstrip("."), port) for entry in entries if entry)


def _names(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is not None and "/" in entry:
        return _is_in(address, entry)
    name, of_port = _split(entry)
    if of_port is not None and of_port != port:
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]`, `[v6]:port`, `v6`."""
    if entry.startswith("["):
        inner, _, rest = entry[1:].partition("]")
        return inner, int(rest[1:]) if is_number(rest[1:]) else None
    name, separator, port = entry.rpartition(":")
    if separator and is_number(port) and ":" not in name:
        return name, int(port)
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network.replace("[", "").replace("]", ""), False)
    except ValueError:
        return False
