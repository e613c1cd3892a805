"""The session record and the published token, between JSON members and frozen records (contract,
section 3).

Pure. A record that isn't ours, or not readable by this version, is an answer here
(`ForeignRecord`), not a crash: it is never used, it is reported, and a fresh sign-in replaces it.
Members that this version doesn't know survive a rewrite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.core.model import (
    Claim,
    Credentials,
    Identity,
    Profile,
    Refusal,
    Secret,
    SessionRecord,
    Token,
    is_token_text,
)

SCHEMA = 1
_KNOWN = frozenset(
    [
        "schema",
        "issuer",
        "token_endpoint",
        "username",
        "useralias",
        "client_id",
        "refresh_token",
        "issued_at",
        "expires_at",
        "generation",
        "access_token",
        "token_type",
        "access_token_expires_at",
        "claim",
        "refused",
        "by",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """What a store found at a path, when it is not a JSON object. `reason` holds nothing of the
    value."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spilled:
    """A record that belongs over the claim with this nonce."""

    nonce: str
    record: Mapping[str, Any]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecord:
    """A record that must not be used, and why. `generation` and `claim` are still respected where
    they can be read."""

    reason: str
    generation: int = 0
    claim: Claim | None = None


def parse_session(value: Mapping[str, Any] | Unreadable) -> SessionRecord | ForeignRecord:
    """The record of a session, or what is wrong with it."""
    if isinstance(value, Unreadable):
        return ForeignRecord(reason=value.reason)
    if value.get("schema") != SCHEMA or isinstance(value.get("schema"), bool):
        return _foreign(value, "it has another schema than this version of nightporter knows")
    try:
        return SessionRecord(
            identity=Identity(
                issuer=_text(value, "issuer"),
                token_endpoint=_text(value, "token_endpoint"),
                username=_text_or_none(value, "username"),
                useralias=_text_or_none(value, "useralias"),
                client_id=_text_or_none(value, "client_id"),
            ),
            refresh_token=_secret_or_none(value, "refresh_token"),
            issued_at=_time_or_none(value, "issued_at"),
            expires_at=_time_or_none(value, "expires_at"),
            generation=_count(value, "generation"),
            access_token=_access_token_or_none(value),
            token_type=_token_type(value),
            access_token_expires_at=_time_or_none(value, "access_token_expires_at"),
            claim=_parse_claim(value.get("claim")),
            refused=_parse_refusal(value.get("refused")),
            by=_text_or_none(value, "by"),
            unknown={key: item for key, item in value.items() if key not in _KNOWN},
        )
    except ValueError as exc:
        return _foreign(value, f"its member {exc} can't be read")


def _foreign(value: Mapping[str, Any], reason: str) -> ForeignRecord:
    """What of the record is respected all the same."""
    generation, claim = 0, None
    with contextlib.suppress(ValueError):
        generation = _count(value, "generation")
    with contextlib.suppress(ValueError):
        claim = _parse_claim(value.get("claim"))
    return ForeignRecord(reason=reason, generation=generation, claim=claim)


def render_session(record: SessionRecord) -> dict[str, Any]:
    """The members of the record, unknown ones last and never over ours."""
    claim, refused = record.claim, record.refused
    return {
        "schema": SCHEMA,
        "issuer": record.identity.issuer,
        "token_endpoint": record.identity.token_endpoint,
        "username": record.identity.username,
        "useralias": record.identity.useralias,
        "client_id": record.identity.client_id,
        "refresh_token": _reveal(record.refresh_token),
        "issued_at": _stamp(record.issued_at),
        "expires_at": _stamp(record.expires_at),
        "generation": record.generation,
        "access_token": _reveal(record.access_token),
        "token_type": record.token_type,
        "access_token_expires_at": _stamp(record.access_token_expires_at),
        "claim": (
            claim
            and {
                "holder": claim.holder,
                "until": _stamp(claim.until),
                "nonce": claim.nonce,
                "machine": claim.machine,
            }
        ),
        "refused": (
            refused
            and {
                "credentials_version": refused.credentials_version,
                "until": _stamp(refused.until),
                "count": refused.count,
                "error": refused.error,
            }
        ),
        "by": record.by,
        **{key: item for key, item in record.unknown.items() if key not in _KNOWN},
    }


def is_expired(value: Mapping[str, Any], now: float) -> bool:
    """Whether a stored object names an `expires_at` that has passed: absent, for every store, at
    every read."""
    stamp = value.get("expires_at")
    if not isinstance(stamp, str):
        return False
    try:
        return parse_rfc3339(stamp) <= now
    except ValueError:
        return False


def render_published(record_identity: Identity, token: Token) -> dict[str, Any]:
    """A published access token, for `role = "read-only"`."""
    return {
        "schema": SCHEMA,
        "issuer": record_identity.issuer,
        "token_endpoint": record_identity.token_endpoint,
        "access_token": token.value,
        "token_type": token.token_type,
        "expires_at": format_rfc3339(token.expires_at_s),
        "generation": token.generation,
    }


def parse_published(
    value: Mapping[str, Any] | Unreadable | None, profile: Profile, *, now: float
) -> Token | None:
    """The published access token, or None where there is none of this issuer that can be read."""
    if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
        return None
    if (value.get("issuer"), value.get("token_endpoint")) != (
        profile.issuer,
        profile.token_endpoint,
    ):
        return None
    try:
        return Token(
            _access_token_or_none(value) or Secret(_text(value, "access_token")),
            token_type=_token_type(value),
            expires_at_s=parse_rfc3339(_text(value, "expires_at")),
            obtained_at_s=int(now),
            generation=_count(value, "generation"),
        )
    except ValueError:
        return None


def parse_credentials(
    value: Mapping[str, Any] | Unreadable,
    version: str,
    fields: Mapping[str, str],
    client: Mapping[str, Any] | Unreadable | None = None,
) -> Credentials:
    """Credentials out of the secret's members and, where there is one, the client's own secret.

    Raises: ValueError naming the member that can't be used.
    """
    members: dict[str, Any] = {}
    for source in (value, client):
        if isinstance(source, Unreadable):
            raise ValueError(source.reason)
        for name in (
            "username",
            "password",
            "useralias",
            "client_id",
            "client_secret",
            "partner_id",
        ):
            found = (source or {}).get(fields.get(name, name))
            if found is not None:
                members[name] = found
    if isinstance(members.get("partner_id"), int):
        members["partner_id"] = str(members["partner_id"])
    for name, item in members.items():
        if not isinstance(item, str) or not item:
            raise ValueError(f"its member {fields.get(name, name)!r} is not a non-empty string")
    password, client_secret = members.pop("password", None), members.pop("client_secret", None)
    return Credentials(
        version=version,
        password=Secret(password) if password is not None else None,
        client_secret=Secret(client_secret) if client_secret is not None else None,
        **members,
    )


def _parse_claim(value: Any) -> Claim | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("'claim'")
    return Claim(
        holder=_text(value, "holder"),
        until=parse_rfc3339(_text(value, "until")),
        nonce=_text_or_none(value, "nonce") or "",
        machine=_text_or_none(value, "machine"),
    )


def _parse_refusal(value: Any) -> Refusal | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("'refused'")
    return Refusal(
        credentials_version=_text(value, "credentials_version"),
        until=parse_rfc3339(_text(value, "until")),
        count=_count(value, "count"),
        error=_text_or_none(value, "error") or "",
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    found = _text_or_none(value, key)
    if not found:
        raise ValueError(repr(key))
    return found


def _text_or_none(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    if found is None or isinstance(found, str):
        return found
    raise ValueError(repr(key))


def _secret_or_none(value: Mapping[str, Any], key: str) -> Secret | None:
    found = _text_or_none(value, key)
    return Secret(found) if found else None


def _access_token_or_none(value: Mapping[str, Any]) -> Secret | None:
    found = _text_or_none(value, "access_token")
    if found and not is_token_text(found):
        raise ValueError("'access_token'")
    return Secret(found) if found else None


def _token_type(value: Mapping[str, Any]) -> str:
    found = _text_or_none(value, "token_type") or "Bearer"
    if not found.isascii() or not found.isalnum():
        raise ValueError("'token_type'")
    return found


def _time_or_none(value: Mapping[str, Any], key: str) -> int | None:
    found = _text_or_none(value, key)
    if found is None:
        return None
    try:
        return parse_rfc3339(found)
    except ValueError:
        raise ValueError(repr(key)) from None


def _count(value: Mapping[str, Any], key: str) -> int:
    found = value.get(key)
    # Vault's JSON may come back as a float from other writers' tools.
    if (
        isinstance(found, bool)
        or not isinstance(found, (int, float))
        or not 0 <= found < 2**53
        or found != int(found)
    ):
        raise ValueError(repr(key))
    return int(found)


def _reveal(secret: Secret | None) -> str | None:
    return secret.reveal() if secret else None


def _stamp(unix_s: int | None) -> str | None:
    return None if unix_s is None else format_rfc3339(unix_s)
