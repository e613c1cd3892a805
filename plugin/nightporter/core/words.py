"""The words of others, made safe to show: an issuer's `error_description` is for people, under `-v`
and in doctor. Pure.

No control, escape or bidirectional character reaches a terminal, no more than 200 characters, and
no secret: neither one that we sent, whole or in part or coded, nor anything that looks like a
token.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MAX_WORDS = 200
MASK = "***"
_PART = 8  # so many characters of a secret in a row are masked wherever they are
# Parts that give nothing away: many a password has `password` in it, and so has its refusal.
_USUAL = frozenset(
    {
        "password",
        "username",
        "incorrect",
        "credential",
        "credentials",
        "refresh_token",
        "refresh token",
        "access_token",
        "access token",
        "client_secret",
        "client secret",
        "client_id",
    }
)
_READ = 4_000  # characters that are looked at
_JWT = re.compile(r"eyJ[\w-]{5,}(\.[\w-]*){0,4}")
_LONG = re.compile(r"[\w+/=~.-]{20,}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[.,;:]?\Z", re.IGNORECASE)


def safe_words(text: object, secrets: Iterable[str] = ()) -> str:
    """Returns the text as people may see it; nothing where it is no text."""
    if not isinstance(text, str):
        return ""
    spaced = re.sub(r"\s+", " ", text[:_READ])
    plain = "".join(char for char in spaced if char.isprintable()).strip()
    for secret in sorted(secrets, key=len, reverse=True):
        for spelling in _spellings(secret):
            plain = _masked(plain, spelling)
    plain = _LONG.sub(_mask_token, _JWT.sub(MASK, plain))
    plain = re.sub(r"\*+", MASK, plain)
    return plain if len(plain) <= MAX_WORDS else plain[: MAX_WORDS - 3] + "..."


def _spellings(secret: str) -> Iterator[str]:
    """The secret, and as forms, JSON and HTTP Basic write it."""
    coded = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield from (quote(coded, safe=""), quote_plus(coded))
    yield json.dumps(secret)[1:-1]
    yield from (base64.b64encode(coded).decode(), base64.urlsafe_b64encode(coded).decode())


def _masked(text: str, secret: str) -> str:
    """Masks the secret, and every part of it that has `_PART` characters or more, in any letter
    case."""
    if not secret:
        return text
    size = min(_PART, len(secret))
    folded = secret.lower()
    parts = {folded[start : start + size] for start in range(len(folded) - size + 1)}
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is longer: positions would be off
        lowered = text
    hidden = [False] * len(text)
    for start in range(len(text) - size + 1):
        if lowered[start : start + size] in parts:
            hidden[start : start + size] = [True] * size
    marks = "".join("*" if is_hidden else " " for is_hidden in hidden)
    for run in re.finditer(r"\*+", marks):
        word = lowered[run.start() : run.end()]
        if len(word) < len(secret) and word.strip(" -_./") in _USUAL:
            marks = marks[: run.start()] + " " * len(word) + marks[run.end() :]
    return "".join("*" if mark == "*" else char for mark, char in zip(marks, text, strict=True))


def _mask_token(found: re.Match[str]) -> str:
    """Hides what looks like a token: long, letters and digits, and no UUID, by which a vendor's
    support finds the request."""
    word = found[0]
    is_mixed = re.search(r"\d", word) and re.search(r"[A-Za-z]", word)
    return MASK if is_mixed and not _UUID.match(word) else word
