"""Checks of single values of the configuration: a value in, what is wrong with it out. Pure.

No finding repeats a value, since the mistake may be a password in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from nightporter.core.expiry import DAY_S, parse_duration

Check = Callable[[Any], str | None]

SECRET_KEYS = frozenset(
    {
        "password",
        "client_secret",
        "private_key",
        "client_assertion",
        "access_token",
        "token",
        "secret_id",
        "secret",
        "api_key",
        "secret_access_key",
    }
)


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known word that was probably meant, or none."""
    import difflib  # deferred: only a mistake needs it

    return difflib.get_close_matches(word, list(known), n=1)


def is_number(text: str) -> bool:
    """Whether a text is a whole number that arithmetic can take: ASCII digits, at most 15."""
    return text.isascii() and text.isdigit() and len(text) <= 15


def text(value: Any) -> str | None:
    """A printable text that is not empty."""
    return (
        None
        if isinstance(value, str) and value and value.isprintable()
        else "must be a non-empty string"
    )


def absolute(value: Any) -> str | None:
    """A path that doesn't depend on the working directory."""
    fine = (text(value) is None and value.startswith(("/", "~"))) or (
        isinstance(value, str) and value[1:2] == ":"
    )
    return None if fine else "must be an absolute path, or one that begins with ~"


def path(value: Any) -> str | None:
    """A secret's path that every store can take and no policy reads as a pattern."""
    if text(value):
        return "must be a non-empty string"
    if any(part in ("", ".", "..") for part in value.split("/")):
        return "must be a path without empty, '.' or '..' parts"
    # In the policies of Vault and AWS these are patterns, or end the text that they are in.
    if set(value) & set('*?"\\{}') or "+" in value.split("/"):
        return 'must be a path without * ? " \\ { } and without a part that is +'
    return None


def seconds(value: Any) -> str | None:
    """A whole number of seconds."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if is_count else "must be a whole number of seconds, 0 or more"


def duration(value: Any) -> str | None:
    """A text such as '25h', or seconds, of at most a hundred years."""
    if isinstance(value, str):
        try:
            length_s = parse_duration(value)
        except ValueError:
            return "must be a duration such as '25h' or '90m'"
        return (
            None
            if length_s <= 100 * 366 * DAY_S
            else "must be a duration of at most a hundred years"
        )
    return seconds(value) and "must be a duration such as '25h', or seconds"


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "must be true or false"


def texts(value: Any) -> str | None:
    """A list of texts."""
    fine = isinstance(value, list) and all(text(item) is None for item in value)
    return None if fine else "must be a list of non-empty strings"


def command(value: Any) -> str | None:
    """A program by its absolute path, with arguments."""
    if texts(value) is None and value and value[0].startswith("/"):
        return None
    return "must be a list of strings that begins with the absolute path of a program"


def text_or_texts(value: Any) -> str | None:
    """A text, or a list of texts."""
    return (
        None
        if text(value) is None or texts(value) is None
        else "must be a string or a list of strings"
    )


def table_of_text(value: Any) -> str | None:
    """A table whose values are texts."""
    fine = isinstance(value, dict) and all(text(item) is None for item in value.values())
    return None if fine else "must be a table of strings"


def int32_text(value: Any) -> str | None:
    """A signed 32-bit integer, as a number or as its text."""
    try:
        fine = (
            isinstance(value, (int, str))
            and not isinstance(value, bool)
            and -(2**31) <= int(value) < 2**31
        )
    except ValueError:
        fine = False
    return None if fine else "must be a signed 32-bit integer"


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal can only mean this machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    if ":" not in host and not host[-1:].isdigit():
        return False  # a name
    import ipaddress  # deferred: addresses of stores and issuers are names

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Whether a host can only mean this machine or a machine on its link."""
    if is_loopback(host):
        return True
    import ipaddress  # deferred, as above

    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def url_problem(value: Any) -> str | None:
    """What is wrong with the address of a store or an issuer, or None."""
    if text(value):
        return "must be an address such as https://host.example"
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return "is not a valid address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if not host or parts.query or parts.fragment:
        return "must be an address such as https://host.example, without query or fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    if parts.scheme == "http":
        return "must be https: plain http is taken on loopback only"
    return "must be an https address"


def proxy_url(value: Any) -> str | None:
    """The address of an http or https proxy, without a password."""
    if text(value):
        return "must be an address such as http://proxy.example:3128"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "is not a valid address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password: give those in HTTPS_PROXY"
    fine = parts.scheme in ("http", "https") and parts.hostname
    return None if fine else "must be an address such as http://proxy.example:3128"


_SECRET_WORDS = frozenset(
    {key.replace("_", "") for key in SECRET_KEYS}
    | {"passwd", "passphrase", "pwd", "secretkey", "privatekey", "refreshtoken", "idtoken"}
    | {"assertion", "clientassertion", "sharedsecret", "credential", "credentials"}
)


def _names_a_secret(key: str) -> bool:
    """However it is spelt: api-key, apiKey, API_KEY."""
    return re.sub(r"[^a-z0-9]", "", key.lower()) in _SECRET_WORDS


def parameters(value: Any) -> str | None:
    """Parameters are in URLs and in the file, so no secret may be among them."""
    if problem := table_of_text(value):
        return problem
    named = [key for key in value if _names_a_secret(key)]
    return f"must not hold {named[0]!r}: the file must not hold secret values" if named else None


def one_of(*choices: str) -> Check:
    """Returns a check that takes these words alone and suggests the nearest."""

    def check(value: Any) -> str | None:
        if value in choices and isinstance(value, str):
            return None
        near = nearest(str(value), choices) if isinstance(value, str) else []
        advice = f"; did you mean {near[0]!r}?" if near else ""
        return f"must be one of {', '.join(repr(choice) for choice in choices)}{advice}"

    return check


def port(value: Any) -> str | None:
    """A TCP port."""
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65_536
    return None if fine else "must be a port from 1 to 65535"


def zone_name(value: Any) -> str | None:
    """A name of the IANA time zone database."""
    if text(value) is None:
        from zoneinfo import (  # deferred: hardly any profile names a zone
            ZoneInfo,
            ZoneInfoNotFoundError,
        )

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return None
    return "must be a time zone such as 'America/New_York'"


def kubernetes_pins(value: Any) -> str | None:
    """Pins of kubectl's clusters: a text or a list of texts each (contract, section 2)."""
    known = ("ca_sha256", "proxy", "tls_server_name")
    if not isinstance(value, dict):
        return f"must be a table of {', '.join(known)}"
    for key, item in value.items():
        if key not in known:
            return f"must hold {', '.join(known)} alone"
        if problem := text_or_texts(item):
            return f"{key} {problem}"
    digests = value.get("ca_sha256", [])
    for digest in [digests] if isinstance(digests, str) else digests:
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", digest.replace(":", "")):
            return "ca_sha256 must be the SHA-256 of a certificate: 64 hexadecimal digits"
    return None
