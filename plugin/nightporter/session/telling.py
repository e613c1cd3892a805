"""What an issuer's replies tell beside the tokens: what becomes of it in the record, and what is
said of it. Rules: `core.told`.

A person hears once per record and change: who is heard marks it as said in the same write that
saves the result. A helper is never heard, so what it learned is said by the next command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nightporter.core import told
from nightporter.core.errors import UsedElsewhereError
from nightporter.core.expiry import format_rfc3339
from nightporter.core.lineage import Link, says_used_before
from nightporter.core.model import Credentials, IssuedTokens, Profile, Secret, SessionRecord
from nightporter.core.told import NOTHING, Told
from nightporter.core.words import safe_words
from nightporter.issuers import Issuer
from nightporter.issuers.oauth import Call, Response, description_of
from nightporter.session.transitions import Snapshot

Emit = Callable[..., Any]


def told_after(
    before: Told | None,
    issued: IssuedTokens,
    call: Call,
    *,
    profile: Profile,
    issuer: Issuer,
    is_heard: bool,
) -> Told:
    """Returns what there is to tell after an exchange. Where a password says who signs in, an
    id_token's names may be others of the same user."""
    return told.told_after(
        before or NOTHING,
        asked=issuer.asked_scope(profile, call),
        granted=issued.scopes,
        claims=issued.claims,
        username=None if profile.grant.is_unattended else profile.username,
        is_refresh=call is Call.REFRESH,
        is_heard=is_heard,
    )


def tell(before: Told | None, after: Told | None, profile: Profile, emit: Emit) -> None:
    """Reports what is new: for the log, and for the one who is heard."""
    before, after = before or NOTHING, after or NOTHING
    is_said_now = after.is_said and not before.is_said
    if after.missing and (after.missing != before.missing or is_said_now):
        emit("scope-narrowed", detail=narrowed(after))
    if after.is_other_user and (not before.is_other_user or is_said_now):
        emit("other-user", detail=other_user(after, profile))


def narrowed(found: Told) -> str:
    """Returns the sentence about scopes that were not granted."""
    return f"the issuer granted less than was asked for, without {', '.join(found.missing)}"


def other_user(found: Told, profile: Profile) -> str:
    """Returns the sentence about a session of somebody else."""
    return f"the id_token is about {found.who}, and the profile's username is {profile.username}"


def words_of(
    response: Response, record: SessionRecord | None, known: tuple[Credentials | None, ...]
) -> str:
    """Returns the issuer's words about a refusal, without the secrets that it may have seen."""
    return safe(description_of(response), record, known)


def safe(text: object, record: SessionRecord | None, known: tuple[Credentials | None, ...]) -> str:
    """Returns words of an issuer that has seen these secrets, as people may see them."""
    return safe_words(text, _secrets(record, known))


def _secrets(record: SessionRecord | None, known: tuple[Credentials | None, ...]) -> Iterator[str]:
    found: list[Secret | None] = []
    for credentials in filter(None, known):
        found += [credentials.password, credentials.client_secret]
    if record is not None:
        found += [record.refresh_token, record.access_token]
    yield from (secret.reveal() for secret in found if secret is not None)


# Where the session's refresh token comes from, and who else has used it.


def lineage(record: SessionRecord) -> dict[str, Any]:
    """Returns what the audit log keeps of a record's newest refresh token: no more than digests."""
    ends = None if record.expires_at is None else format_rfc3339(record.expires_at)
    found = {"generation": record.generation, "refresh_expires_at": ends}
    link = record.history[-1] if record.history else None
    if link is None or link.generation != record.generation:
        return found
    return {**found, "token": link.digest, "parent": link.parent}


def says_used(response: Response) -> bool:
    """Returns whether the issuer says that the refresh token came a second time."""
    return says_used_before(description_of(response))


def holder(record: SessionRecord | None) -> Link | None:
    """Returns who brought or last exchanged the refresh token of the record; None where it was
    written by a version that kept no history."""
    return record.history[-1] if record is not None and record.history else None


def held_by(record: SessionRecord | None) -> dict[str, Any]:
    """Returns what is reported of a session that somebody else has used."""
    link = holder(record)
    found = {"generation": record.generation if record else None}
    if link is None:
        return found
    return {**found, "holder": link.by, "since": format_rfc3339(link.at), "how": link.how}


def used_elsewhere(
    profile: Profile, snapshot: Snapshot, *, error: str, remedy: str
) -> UsedElsewhereError:
    """Returns the error of a session that somebody else has used: who last held it, since when,
    and what to revoke."""
    link = holder(snapshot.record)
    held = "nightporter had never sent it"
    if link is not None:
        by, at = link.by or "an unknown host", format_rfc3339(link.at)
        held += f"; it came by the {link.how} of {by} and is in the store since {at}"
    return UsedElsewhereError(
        f"{profile.name}: somebody else has used this session: the issuer says that its refresh"
        f" token was used before ({error}), and {held}",
        error=error,
        hint=(
            "Revoke the session at the issuer"
            f" (`nightporter logout {profile.name} --everywhere` does where it can), find who else"
            f" has the token, and start again: {remedy}"
        ),
    )
