"""A vendor as a table: the members of a built-in row and of `[vendors.NAME]`, and their checks.

A profile's own key of the same name comes before the row's. Pure; no finding repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from nightporter.core import checks
from nightporter.core.checks import Check
from nightporter.core.findings import Findings
from nightporter.core.model import Document, Grant, Rotation, Vendor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MEMBER = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")
_TOKEN_TYPE = re.compile(r"[A-Za-z0-9._~+/:-]{1,80}\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/@:*]+)(:\d{1,5})?\Z")
_PROOF_TYPES = frozenset({"dpop", "mac", "pop", "n_a"})  # no bearer tokens (RFC 9449, RFC 8693)
_RESERVED = frozenset(
    {"access_token", "refresh_token", "id_token", "token_type", "expires_in", "error"}
    | {"profile", "expires_at"}
)
# How an assertion may be signed (RFC 7518, RFC 8037); the key tells where the profile doesn't.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
MAX_OUTPUT = 10  # names in `extra_output`
MAX_CODE = 80  # characters of an error code: what a record may hold

ENDPOINTS: Final = (
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
)


def address(value: Any) -> str | None:
    """An address, or one that begins with {base_url}."""
    if not isinstance(value, str):
        return checks.url_problem(value)
    filled = re.sub(r"\A\{base_url\}", "https://base.example", value)
    if "{" in filled or "}" in filled:
        return "may hold {base_url} at its beginning, and no other brace"
    return checks.url_problem(filled)


def life(value: Any) -> str | None:
    """A duration of more than nothing."""
    is_nothing = value == 0 and not isinstance(value, bool)
    return "must be more than 0" if is_nothing else checks.duration(value)


def codes(value: Any) -> str | None:
    """Error codes, as the vendor's answers have them."""
    if problem := checks.texts(value):
        return problem
    is_long = any(len(code) > MAX_CODE for code in value)
    return f"must hold codes of at most {MAX_CODE} characters" if is_long else None


def token_types(value: Any) -> str | None:
    """Words that mean Bearer at the vendor."""
    if problem := checks.texts(value):
        return problem
    for word in value:
        if word.lower() in _PROOF_TYPES:
            return (
                "must not hold 'DPoP', 'mac', 'pop' or 'N_A': such a token is no bearer token, and"
                " is of no use without its key"
            )
        if not _TOKEN_TYPE.match(word):
            return "must hold token types such as 'bot'"
    return None


def life_field(value: Any) -> str | None:
    """The name of a reply's member that holds seconds."""
    if not isinstance(value, str) or not _MEMBER.match(value):
        return "must be the name of a member of the reply, such as 'refresh_token_expires_in'"
    if value in _RESERVED:
        return "must be the member with the refresh token's life, which this one is not"
    return None


def extra_output(value: Any) -> str | None:
    """Names of the reply's members that are kept and shown; never a token."""
    if not isinstance(value, list) or len(value) > MAX_OUTPUT:
        return f"must be a list of at most {MAX_OUTPUT} names of members of the reply"
    if not all(isinstance(name, str) and _MEMBER.match(name) for name in value):
        return "must hold names of members of the reply, such as 'instance_url'"
    if _RESERVED.intersection(value) or checks.SECRET_KEYS.intersection(value):
        return "must not hold the name of a token, of a secret, or of what is shown anyway"
    return None


def host_names(value: Any) -> str | None:
    """Hosts, each with a port where it isn't the usual one."""
    if problem := checks.texts(value):
        return problem
    is_fine = all(map(_HOST.match, value))
    return None if is_fine else "must hold host names such as 'login.example' alone"


def grants(value: Any) -> str | None:
    """Grants, the first of which is the default."""
    known = [grant.value for grant in Grant]
    if not isinstance(value, list) or not value or len(set(map(repr, value))) < len(value):
        return f"must be a list of {', '.join(map(repr, known))}, each once at most"
    return next(filter(None, map(checks.one_of(*known), value)), None)


def document(value: Any) -> str | None:
    """The page that the row was taken from."""
    is_table = isinstance(value, dict) and value.keys() <= {"title", "section", "date"}
    is_fine = is_table and all(checks.text(item) is None for item in value.values())
    is_fine = is_fine and "title" in value
    return None if is_fine else "must be a table with the strings title, section and date"


# What every profile may say otherwise than its vendor's row.
LIFE: Final[Mapping[str, Check]] = {
    "rotation": checks.one_of(*(rotation.value for rotation in Rotation)),
    "grace": checks.duration,
    "refresh_token_life": checks.duration,
    "refresh_token_midnight": checks.zone_name,
    "access_token_life": life,
    "life_field": life_field,
    "idle_life": life,
}
WORDS: Final[Mapping[str, Check]] = {
    "dead_errors": codes,
    "busy_errors": codes,
    "refused_errors": codes,
    "token_types": token_types,
    "extra_output": extra_output,
}
# What it may say where the vendor's requests are those of RFC 6749.
REQUESTS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(ENDPOINTS, address),
    "issuer_url": address,
    "endpoint_hosts": host_names,
    "token_endpoint_auth_method": checks.one_of(
        "client_secret_basic", "client_secret_post", "private_key_jwt", "none"
    ),
    "token_endpoint_auth_signing_alg": checks.one_of(*ALGORITHMS),
    "client_assertion_audience": checks.text,
    "request_body": checks.one_of("form", "json"),
    "scopes": checks.text_or_texts,
    "scope_at_refresh": checks.flag,
    "extra_parameters": checks.parameters,
    "authorization_parameters": checks.parameters,
}
# What a profile alone says of how its client proves itself.
PROOFS: Final[Mapping[str, Check]] = {
    "client_id": checks.text,
    "client_assertion_file": checks.absolute,
}
MEMBERS: Final[Mapping[str, Check]] = {
    "base_url": checks.url_problem,
    "grants": grants,
    "document": document,
    **REQUESTS,
    **LIFE,
    **WORDS,
}
SHARED_KEYS: Final = frozenset({*LIFE, *WORDS, "endpoint_hosts"})
OAUTH_KEYS: Final = frozenset({*REQUESTS, *PROOFS, *LIFE, *WORDS, "grant", "redirect_port"})


def proof_problem(vendor: Vendor, table: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a client's id in the file: it belongs beside what proves it."""
    members = {**vendor.members, **table}
    is_public = members.get("token_endpoint_auth_method") == "none"
    if "client_id" not in table or is_public or "client_assertion_file" in table:
        return None
    return (
        "is for a client without a secret: name `client_assertion_file`, or"
        " token_endpoint_auth_method = 'none'; else keep it in the store, beside its secret"
    )


def parse_vendors(
    findings: Findings, value: Any, built_in: Mapping[str, Vendor]
) -> dict[str, Vendor]:
    """Returns the user's own rows: those in which nothing is wrong."""
    tables = findings.table("vendors", value)
    found = {name: _parse_vendor(findings, name, tables[name], built_in) for name in tables}
    return {name: vendor for name, vendor in found.items() if vendor is not None}


def _parse_vendor(
    findings: Findings, name: str, value: Any, built_in: Mapping[str, Vendor]
) -> Vendor | None:
    where, before = f"vendors.{name}", len(findings.lines)
    table = findings.table(where, value)
    if not _NAME.match(name):
        findings.add(where, "a vendor's name has letters, digits, '.', '_' and '-' only")
    if name in built_in:
        findings.add(where, "is the name of a built-in vendor; give your row another")
    findings.check_keys(where, table, MEMBERS)
    if len(findings.lines) == before:
        check_words(findings, where, table)
    if len(findings.lines) > before:
        return None
    return Vendor(
        name=name,
        document=_document(table),
        options=OAUTH_KEYS,
        members={"grants": [grant.value for grant in Grant], "rotation": "may-rotate", **table},
        written=table,
    )


def _document(table: Mapping[str, Any]) -> Document:
    found = table.get("document", {"title": "the configuration"})
    return Document(
        title=found["title"], section=found.get("section", ""), date=found.get("date", "")
    )


def check_words(findings: Findings, where: str, members: Mapping[str, Any]) -> None:
    """Notes a code that is in two lists, which would mean two things."""
    seen: dict[str, str] = {}
    for key in ("dead_errors", "busy_errors", "refused_errors"):
        for code in members.get(key, ()):
            if seen.setdefault(code, key) != key:
                findings.add(f"{where}.{key}", f"holds a code that is in {seen[code]!r} too")


# A profile's own keys over its vendor's row.

_ADDRESSES = (*ENDPOINTS, "issuer_url")
_ROW_ONLY = frozenset({"base_url", "grants", "document"})


def effective(vendor: Vendor, table: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """Returns what holds for a profile: the row, and over it the profile's own keys. Addresses are
    filled in."""
    members = {key: item for key, item in vendor.members.items() if key not in _ROW_ONLY}
    own = {key: table[key] for key in sorted(vendor.options - {"grant"}) if key in table}
    found = {**vendor.preset, **members, **own}
    named = addresses(vendor, table)
    found = {key: item for key, item in found.items() if key not in _ADDRESSES or key in named}
    filled = {key: _fill(named[key], {**found, "base_url": base_url}) for key in named}
    return {**found, **filled}


def addresses(vendor: Vendor, table: Mapping[str, Any]) -> dict[str, str]:
    """Returns a profile's addresses as they are written. One that names its issuer gets none from
    the row: they are that issuer's to tell."""
    own = {key: table[key] for key in _ADDRESSES if key in table and key in vendor.options}
    if "issuer_url" in own:
        return own
    return {**{key: vendor.members[key] for key in _ADDRESSES if key in vendor.members}, **own}


def needs_base_url(vendor: Vendor, table: Mapping[str, Any]) -> bool:
    """Returns whether no token can be asked for without `base_url`."""
    named = addresses(vendor, table)
    main = named.get("token_endpoint", named.get("issuer_url", ""))
    return "{base_url}" in str(main)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    names = re.findall(r"\{(\w+)\}", template)
    return template.format_map({name: values.get(name, "") for name in names})
