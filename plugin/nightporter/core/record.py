"""The session record and the published token, between JSON members and frozen records (contract,
section 3).

Pure. A record that isn't ours, or not readable by this version, is an answer here
(`ForeignRecord`), not a crash: it is never used, it is reported, and a fresh sign-in replaces it.
Members that this version doesn't know survive a rewrite.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.core.limits import (
    CLAIM_S,
    KEPT_ATTEMPTS,
    LAST_GENERATION,
    MAX_ACCESS_LIFE_S,
    MAX_TEXT,
    SKEW_S,
    STRICT_CLAIM_S,
)
from nightporter.core.lineage import parse_history, render_history
from nightporter.core.model import (
    Attempt,
    Busy,
    Claim,
    Credentials,
    Identity,
    Profile,
    Refusal,
    Rejected,
    Secret,
    Sent,
    SessionRecord,
    Token,
    is_token_text,
)
from nightporter.core.output import output_of
from nightporter.core.told import parse_told, render_told
from nightporter.core.values import dataclass, field

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
        "lineage",
        "exchanged_at",
        "attempts",
        "sent",
        "rejected",
        "busy",
        "told",
        "output",
        "history",
    ]
)


_PROOFS = ("private_key", "key_id", "certificate")  # other than text is another program's
_HIDDEN = ("password", "client_secret", "private_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """What a store found at a path, when it is not a JSON object. `reason` holds nothing of the
    value."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingResult:
    """The result of an exchange that the store did not accept: a record (as members) that belongs
    over the claim with this nonce. `at`: Unix seconds. `is_sign_in`: it began a session. `name`
    tells it from other pending results."""

    nonce: str
    record: Mapping[str, Any]
    at: int
    is_sign_in: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecord:
    """A record that must not be used, and why.

    Its claim, generation, attempts and refusal are respected where they can be read. `members` is
    the object as it was read, so that a claim can be written into it without loss; None where it is
    no object. `is_newer`: a later version of nightporter wrote it.
    """

    reason: str
    generation: int = 0
    claim: Claim | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    refused: Refusal | None = None
    lineage: str | None = None
    members: Mapping[str, Any] | None = None
    is_newer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of a record whose value is gone (Vault's TTL): what must stay in force."""

    generation: int = 0
    lineage: str | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    refused: Refusal | None = None
    busy: Busy | None = None


def parse_session(value: Mapping[str, Any] | Unreadable) -> SessionRecord | ForeignRecord:
    """Returns the record of a session, or what is wrong with it."""
    if isinstance(value, Unreadable):
        return ForeignRecord(reason=value.reason)
    schema = value.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        is_newer = isinstance(schema, int) and schema > SCHEMA
        return _foreign(
            value, "it has another schema than this version of nightporter knows", is_newer
        )
    try:
        return _parse_session(value)
    except ValueError as exc:
        return _foreign(value, f"its member {exc} can't be read")


def _parse_session(value: Mapping[str, Any]) -> SessionRecord:
    generation = _count(value, "generation")
    if generation > LAST_GENERATION:
        raise ValueError("'generation'")
    return SessionRecord(
        identity=Identity(
            issuer=_text(value, "issuer"),
            token_endpoint=_text(value, "token_endpoint"),
            username=_name_or_none(value, "username"),
            useralias=_name_or_none(value, "useralias"),
            client_id=_name_or_none(value, "client_id"),
        ),
        refresh_token=_secret_or_none(value, "refresh_token"),
        issued_at=_time_or_none(value, "issued_at"),
        expires_at=_time_or_none(value, "expires_at"),
        generation=generation,
        access_token=_access_token_or_none(value),
        token_type=_token_type(value),
        access_token_expires_at=_time_or_none(value, "access_token_expires_at"),
        claim=_parse_claim(value.get("claim")),
        refused=_parse_refusal(value.get("refused")),
        by=clipped(_text_or_none(value, "by")),
        lineage=clipped(_text_or_none(value, "lineage")),
        exchanged_at=_time_or_none(value, "exchanged_at"),
        attempts=_parse_attempts(value.get("attempts")),
        sent=_parse_sent(value.get("sent")),
        rejected=_parse_rejected(value.get("rejected")),
        busy=_parse_busy(value.get("busy")),
        told=parse_told(value.get("told")),
        output=output_of(value.get("output")),
        history=parse_history(value.get("history")),
        unknown={key: item for key, item in value.items() if key not in _KNOWN},
    )


def _foreign(value: Mapping[str, Any], reason: str, is_newer: bool = False) -> ForeignRecord:
    """Returns what of the record is respected although it is not used."""
    known: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        generation = _count(value, "generation")
        known["generation"] = generation if generation <= LAST_GENERATION else 0
    with contextlib.suppress(ValueError):
        known["claim"] = _parse_claim(value.get("claim"))
    with contextlib.suppress(ValueError):
        known["attempts"] = _parse_attempts(value.get("attempts"))
    with contextlib.suppress(ValueError):
        known["refused"] = _parse_refusal(value.get("refused"))
    with contextlib.suppress(ValueError):
        known["lineage"] = clipped(_text_or_none(value, "lineage"))
    return ForeignRecord(reason=reason, members=value, is_newer=is_newer, **known)


def render_session(record: SessionRecord) -> dict[str, Any]:
    """Returns the members of the record, unknown ones last and never over ours."""
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
        "claim": render_claim(record.claim),
        "refused": render_refusal(record.refused),
        "by": clipped(record.by),
        "lineage": record.lineage,
        "exchanged_at": _stamp(record.exchanged_at),
        "attempts": render_attempts(record.attempts),
        "sent": render_sent(record.sent),
        "rejected": render_rejected(record.rejected),
        "busy": render_busy(record.busy),
        **({"output": dict(record.output)} if record.output else {}),
        **({"history": render_history(record.history)} if record.history else {}),
        **({"told": told} if (told := render_told(record.told)) else {}),
        **{key: item for key, item in record.unknown.items() if key not in _KNOWN},
    }


def render_claim(claim: Claim | None) -> dict[str, Any] | None:
    """Returns the members of a claim (contract, section 6, "Shapes")."""
    if claim is None:
        return None
    return {
        "holder": clipped(claim.holder),
        "until": _stamp(claim.until),
        "nonce": claim.nonce,
        "machine": claim.machine,
        "life": claim.life_s,
    }


def render_refusal(refusal: Refusal | None) -> dict[str, Any] | None:
    """Returns the members of a refusal; `key` only where it is known."""
    if refusal is None:
        return None
    members = {
        "credentials_version": refusal.credentials_version,
        "until": _stamp(refusal.until),
        "count": refusal.count,
        "error": clipped(refusal.error),
    }
    return {**members, "key": refusal.key} if refusal.key else members


def render_attempts(attempts: Mapping[str, Attempt]) -> dict[str, Any]:
    """Returns the newest attempts, as many as are kept."""
    newest = sorted(attempts.items(), key=lambda item: item[1].at)[-KEPT_ATTEMPTS:]
    return {key: {"count": found.count, "at": _stamp(found.at)} for key, found in newest}


def render_sent(sent: Sent | None) -> dict[str, Any] | None:
    """Returns the members of `sent`."""
    if sent is None:
        return None
    return {"generation": sent.generation, "at": _stamp(sent.at)}


def render_rejected(rejected: Rejected | None) -> dict[str, Any] | None:
    """Returns the members of `rejected`; `used_elsewhere` only where it was."""
    if rejected is None:
        return None
    members = {
        "digest": rejected.digest,
        "error": clipped(rejected.error),
        "at": _stamp(rejected.at),
    }
    return {**members, "used_elsewhere": True} if rejected.is_elsewhere else members


def render_busy(busy: Busy | None) -> dict[str, Any] | None:
    """Returns the members of `busy`."""
    if busy is None:
        return None
    return {"call": busy.call, "until": _stamp(busy.until)}


def remains_of(value: Mapping[str, Any], *, max_bytes: int) -> str | None:
    """Returns what of a record must outlive its value, as JSON of at most `max_bytes`; None where
    the value is no session record.

    What doesn't fit is left out from the end: the busy time, the oldest attempts, the refusal.
    """
    record = parse_session(value)
    if isinstance(record, ForeignRecord):
        return None
    attempts = sorted(record.attempts.items(), key=lambda item: item[1].at)
    refused, busy = render_refusal(record.refused), render_busy(record.busy)
    for refusal, throttle, kept in (
        (refused, busy, attempts[-2:]),
        (refused, None, attempts[-1:]),
        (None, None, attempts[-1:]),
        (None, None, []),
    ):
        members = {
            "generation": record.generation,
            "lineage": record.lineage,
            "attempts": render_attempts(dict(kept)),
            "refused": refusal,
            "busy": throttle,
        }
        text = json.dumps({key: item for key, item in members.items() if item})
        if len(text.encode()) <= max_bytes:
            return text
    return None


def parse_remains(text: object) -> Remains | None:
    """Returns what `remains_of` wrote; None for anything else."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
        if not isinstance(value, dict):
            return None
        return Remains(
            generation=min(_count(value, "generation"), LAST_GENERATION),
            lineage=clipped(_text_or_none(value, "lineage")),
            attempts=_parse_attempts(value.get("attempts")),
            refused=_parse_refusal(value.get("refused")),
            busy=_parse_busy(value.get("busy")),
        )
    except (ValueError, RecursionError):
        return None


def last_exchange(record: SessionRecord | None) -> int | None:
    """Returns when the session was last exchanged (Unix seconds); None where nothing tells it."""
    if record is None:
        return None
    return record.issued_at if record.exchanged_at is None else record.exchanged_at


def idle_end(record: SessionRecord | None, profile: Profile) -> int | None:
    """Returns when the session dies if nobody refreshes it (Unix seconds), as far as the row
    knows."""
    last = last_exchange(record)
    if record is None or record.refresh_token is None or last is None:
        return None
    return None if profile.idle_life_s is None else last + profile.idle_life_s


def clipped(text: str | None) -> str | None:
    """Returns the text as a record may hold it: printable ASCII of at most 80 characters, with `?`
    for whatever is not."""
    if text is None:
        return None
    return "".join(char if " " <= char <= "~" else "?" for char in text[:MAX_TEXT])


def is_readable(value: Mapping[str, Any]) -> bool:
    """Returns whether a session record that we are about to write can be read back by us."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return False
    return isinstance(parse_session(value), SessionRecord)


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


def render_published(
    record_identity: Identity, token: Token, *, exchanged_at: int, expires_at: int
) -> dict[str, Any]:
    """Returns a published access token, for `role = "read-only"`. Times: Unix seconds."""
    return {
        "schema": SCHEMA,
        "issuer": record_identity.issuer,
        "token_endpoint": record_identity.token_endpoint,
        "access_token": token.value,
        "token_type": token.token_type,
        "expires_at": format_rfc3339(min(expires_at, exchanged_at + MAX_ACCESS_LIFE_S)),
        "generation": token.generation,
        "exchanged_at": format_rfc3339(exchanged_at),
        **({"output": dict(token.output)} if token.output else {}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published access token. Times: Unix seconds; `exchanged_at` None where nothing tells it."""

    secret: Secret
    expires_at: int
    exchanged_at: int | None
    generation: int
    output: Mapping[str, str] = field(default_factory=dict)


def parse_published(
    value: Mapping[str, Any] | Unreadable | None, profile: Profile, *, now: float
) -> Published | None:
    """Returns the published access token, or None where no token of this issuer can be
    read and believed. `now`: Unix seconds, the store's clock."""
    if not isinstance(value, Mapping):
        return None
    schema = value.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        return None
    if (value.get("issuer"), value.get("token_endpoint")) != (
        profile.issuer,
        profile.token_endpoint,
    ):
        return None
    try:
        found = Published(
            secret=_access_token_or_none(value) or Secret(_text(value, "access_token")),
            expires_at=parse_rfc3339(_text(value, "expires_at")),
            exchanged_at=_time_or_none(value, "exchanged_at"),
            generation=_count(value, "generation"),
            output=output_of(value.get("output")),
        )
        token_type = _token_type(value)
    except ValueError:
        return None
    if found.generation > LAST_GENERATION or not is_plausible(
        token_type, found.exchanged_at, found.expires_at, now=now
    ):
        return None
    return found


def is_plausible(
    token_type: str, exchanged_at: int | None, expires_at: int | None, *, now: float
) -> bool:
    """Returns whether an access token that the store tells of may be used.

    It is a bearer token of an exchange that is not in the future, and ends within 24 hours of it;
    where no exchange is told, within 24 hours of now. Times: Unix seconds, the store's clock.
    """
    if token_type.lower() != "bearer" or expires_at is None:
        return False
    if exchanged_at is not None and exchanged_at > now + SKEW_S:
        return False
    began = now if exchanged_at is None else exchanged_at
    return expires_at <= began + MAX_ACCESS_LIFE_S


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
            "private_key",
            "key_id",
            "certificate",
            "partner_id",
        ):
            found = (source or {}).get(fields.get(name, name))
            if found is not None and (name not in _PROOFS or isinstance(found, str)):
                members[name] = found
    if isinstance(members.get("partner_id"), int):
        members["partner_id"] = str(members["partner_id"])
    for name, item in members.items():
        if not isinstance(item, str) or not item:
            raise ValueError(f"its member {fields.get(name, name)!r} is not a non-empty string")
    hidden = {name: Secret(members.pop(name)) for name in _HIDDEN if name in members}
    return Credentials(
        version=version,
        password=hidden.get("password"),
        client_secret=hidden.get("client_secret"),
        private_key=hidden.get("private_key"),
        **members,
    )


def _parse_claim(value: Any) -> Claim | None:
    if value is None:
        return None
    members = _object(value, "claim")
    return Claim(
        holder=clipped(_text(members, "holder")) or "",
        until=_time_or_none(members, "until") or 0,
        nonce=clipped(_text_or_none(members, "nonce")) or "",
        machine=clipped(_text_or_none(members, "machine")),
        life_s=_life(members.get("life")),
    )


def _life(value: Any) -> int:
    """No claim lives longer than our longest, whatever it says."""
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return min(max(value, CLAIM_S), STRICT_CLAIM_S) if is_count else CLAIM_S


def _parse_refusal(value: Any) -> Refusal | None:
    if value is None:
        return None
    members = _object(value, "refused")
    return Refusal(
        credentials_version=_text(members, "credentials_version"),
        until=parse_rfc3339(_text(members, "until")),
        count=_count(members, "count"),
        error=clipped(_text_or_none(members, "error")) or "",
        key=_text_or_none(members, "key"),
    )


def _parse_attempts(value: Any) -> dict[str, Attempt]:
    if value is None:
        return {}
    found = {}
    for key, item in _object(value, "attempts").items():
        members = _object(item, "attempts")
        found[key] = Attempt(count=_count(members, "count"), at=_time(members, "at"))
    return found


def _parse_sent(value: Any) -> Sent | None:
    if value is None:
        return None
    members = _object(value, "sent")
    return Sent(generation=_count(members, "generation"), at=_time(members, "at"))


def _parse_rejected(value: Any) -> Rejected | None:
    if value is None:
        return None
    members = _object(value, "rejected")
    return Rejected(
        digest=_text(members, "digest"),
        error=clipped(_text_or_none(members, "error")) or "",
        at=_time(members, "at"),
        is_elsewhere=members.get("used_elsewhere") is True,
    )


def _parse_busy(value: Any) -> Busy | None:
    if value is None:
        return None
    members = _object(value, "busy")
    return Busy(call=_text(members, "call"), until=_time(members, "until"))


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(repr(name))
    return value


def _time(value: Mapping[str, Any], key: str) -> int:
    found = _time_or_none(value, key)
    if found is None:
        raise ValueError(repr(key))
    return found


def _name_or_none(value: Mapping[str, Any], key: str) -> str | None:
    found = _text_or_none(value, key)
    if found is not None and not found.isprintable():
        raise ValueError(repr(key))
    return found


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
