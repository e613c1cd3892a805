"""What an issuer's replies tell beside the tokens, kept in the session record for people: scopes
that were not granted, whose session it is, and the words of its last refusal. Pure.

Nothing is decided by it. The claims of an id_token are read without a look at its signature: it
came from the token endpoint itself, over TLS (OpenID Connect Core 1.0, section 3.1.3.7, point 6),
and subject and user name are shown and held against the profile's `username`, no more.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from nightporter.core.scope import missing_scopes, scopes_of
from nightporter.core.values import dataclass, replace
from nightporter.core.words import MAX_WORDS

MAX_NAME = 255  # OpenID Connect Core 1.0, section 2: the longest `sub`
_MAX_JWT = 65_536
_MAX_MISSING = 1_000  # characters of scopes that a record keeps
# The first one is shown. OpenID Connect Core 1.0, section 5.1; `upn` and `unique_name` are Entra's.
_NAMES = ("preferred_username", "upn", "unique_name", "email", "username", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who an id_token says has signed in: the issuer's id of them, and their names, the one to
    show first."""

    subject: str | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the record keeps of it.

    `missing`: scopes that were asked for and not granted. `is_other_user`: the id_token names
    nobody of the profile's `username`. `is_said`: a person was told of these two. `words`: the
    issuer's own about its last refusal, made safe.
    """

    missing: tuple[str, ...] = ()
    subject: str | None = None
    user: str | None = None
    is_other_user: bool = False
    is_said: bool = False
    words: str = ""

    @property
    def who(self) -> str | None:
        """Whose session it is, as the issuer says."""
        return self.user or self.subject


NOTHING = Told()


def members_of(jwt: object) -> dict[str, Any] | None:
    """Returns what a JWT says, its signature unchecked; None where it is no JWT."""
    if not isinstance(jwt, str) or len(jwt) > _MAX_JWT:
        return None
    parts = jwt.split(".")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        members = json.loads(payload)
    except (IndexError, ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) else None


def claims_of(id_token: object) -> Claims | None:
    """Returns who an id_token is about; None where it can't be read."""
    members = members_of(id_token)
    if members is None:
        return None
    names = (_name_or_none(members.get(name)) for name in _NAMES)
    found = Claims(
        subject=_name_or_none(members.get("sub")),
        names=tuple(dict.fromkeys(name for name in names if name)),
    )
    return found if found.subject or found.names else None


def is_user(claims: Claims, username: str) -> bool:
    """Returns whether the id_token may be about this user, as far as it tells: by any of its names,
    in any letter case, with or without a domain."""
    known = [name.casefold() for name in (*claims.names, claims.subject) if name]
    wanted = username.casefold()
    if not claims.names or wanted in known:
        return True
    return "@" not in wanted and wanted in [name.partition("@")[0] for name in known]


def told_after(
    before: Told,
    *,
    asked: str | None,
    granted: tuple[str, ...] | None,
    claims: Claims | None,
    username: str | None,
    is_refresh: bool,
    is_heard: bool,
) -> Told:
    """Returns what there is to tell after an exchange.

    A refresh whose reply leaves a member out says that nothing has changed (RFC 6749 sections 5.1
    and 6); a sign-in, that all was granted. `username`: whom the profile wants, where a person
    chose the account. `is_heard`: a person reads what this process says.
    """
    kept = before if is_refresh else NOTHING
    after = replace(kept, words="")
    if granted is not None:
        missing = missing_scopes(scopes_of(asked) or (), granted)
        after = replace(after, missing=_kept(missing))
    if claims is not None:
        is_other = username is not None and not is_user(claims, username)
        user = claims.names[0] if claims.names else None
        after = replace(after, subject=claims.subject, user=user, is_other_user=is_other)
    is_same = (after.missing, after.is_other_user) == (before.missing, before.is_other_user)
    has_any = bool(after.missing or after.is_other_user)
    return replace(after, is_said=has_any and (is_heard or (is_same and before.is_said)))


def _kept(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns as many of the scopes as a record has room for."""
    room = _MAX_MISSING
    kept = []
    for scope in scopes:
        room -= len(scope) + 1
        if room < 0:
            break
        kept.append(scope)
    return tuple(kept)


def parse_told(value: object) -> Told | None:
    """Returns what a record tells; what doesn't fit is left out, since nothing rests on it."""
    if not isinstance(value, dict):
        return None
    words = value.get("words")
    return Told(
        missing=_kept(scopes_of(value.get("missing_scope")) or ()),
        subject=_name_or_none(value.get("subject")),
        user=_name_or_none(value.get("user")),
        is_other_user=value.get("other_user") is True,
        is_said=value.get("said") is True,
        words=words[:MAX_WORDS] if isinstance(words, str) and words.isprintable() else "",
    )


def render_told(told: Told | None) -> dict[str, Any] | None:
    """Returns the members as the record keeps them; None where there is nothing to tell."""
    if told is None:
        return None
    members: Mapping[str, Any] = {
        "missing_scope": " ".join(told.missing),
        "subject": told.subject,
        "user": told.user,
        "other_user": told.is_other_user,
        "said": told.is_said,
        "words": told.words,
    }
    return {name: item for name, item in members.items() if item} or None


def _name_or_none(value: object) -> str | None:
    is_name = isinstance(value, str) and bool(value) and value.isprintable()
    return value[:MAX_NAME] if is_name and isinstance(value, str) else None
