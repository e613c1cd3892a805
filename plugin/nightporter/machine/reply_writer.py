"""Writes reply files (`reply`), from which the launcher answers the next ask of the same kind.

Where anything is in doubt no reply is left: a relative path or one through a link, a line break in
a variable, a file that has changed within the last moments, whose next change might carry the same
time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from nightporter.core.values import dataclass
from nightporter.machine.files import replace_private
from nightporter.machine.reply import MAGIC, NO_SECRETS, Ask, Seen, look, show

SETTLED_S = 0.05  # several ticks of the clock that file systems use
MAX_REPLIES = 50  # a client may ask for any number of addresses
# Signed addresses, users' names and passwords in them, and git's keys that hold one.
MAY_BE_SECRET = (b"?", b"@", b"password", b"secret", b"token", b"credential=")
LEAST_S = 2  # of life, for which a reply is worth a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an answer depends on.

    `directory`: where its reply goes. `watched`: files and directories, present or not; `absent`:
    what must not be there. `own`: the token's file, and `own_seen`, how it was seen (`look`) before
    the token was read from it. `left_s`: seconds for which the token may be served without another
    look. `began`: a moment (Unix seconds) before anything of it was read, so that a change
    meanwhile is noticed. `secrets`: the variables that hold a secret, whose digest is in the reply.
    """

    directory: str
    watched: Sequence[str]
    own: str
    own_seen: Seen
    left_s: float
    began: float
    absent: Sequence[str] = ()
    secrets: Sequence[str] = ()


def leave(reply: str, ask: Ask, basis: Basis) -> bool:
    """Writes the reply, if one may be kept. Returns whether it was; a failed write is no error."""
    name, content = ask.file_name, ask.compose()
    if name is None or content is None or basis.left_s < LEAST_S or not _is_keepable(reply, ask):
        return False
    if any("\n" in ask.environment.get(secret, "") for secret in basis.secrets):
        return False  # two such values could be taken for two others
    try:
        files = _look(basis)
        if files is None or not _is_plain(basis.directory):
            return False
        head = [*_head(ask, basis), content.rstrip("\n")]
        lines = [*head, "", *files, "", reply, head[1]]
        if ask.arguments[0] == "credential":
            _make_room(basis.directory)
        text = "".join(f"{line}\n" for line in lines)
        path = os.path.join(basis.directory, name)
        replace_private(path, os.fsencode(text))
    except (OSError, ValueError):
        return False
    return True


def _is_keepable(reply: str, ask: Ask) -> bool:
    """Letters beyond ASCII are bytes of a locale, which the next ask may not have. What a client
    asks is kept as it is, so nothing is kept of an ask that could hold a secret."""
    words = ask.arguments[2:] if ask.arguments[0] == "credential" else []
    asked = (ask.given or os.fsencode(" ".join(words))).lower()
    return bool(reply) and reply.isascii() and not any(word in asked for word in MAY_BE_SECRET)


def _make_room(directory: str) -> None:
    """Bounds the number of reply files; an evicted one costs nothing."""
    kept = [
        name
        for name in os.listdir(directory)
        if name.startswith("+credential+") and name.endswith(".reply")
    ]
    if len(kept) >= MAX_REPLIES:
        for name in kept:
            os.unlink(os.path.join(directory, name))


def _head(ask: Ask, basis: Basis) -> list[str]:
    """Returns format, mark, the times between which the reply may be served, and the digest of the
    secrets that it depends on."""
    mark, now = os.urandom(16).hex(), time.time()
    names = list(dict.fromkeys(basis.secrets))
    secrets = " ".join([ask.digest(mark, names), *names]) if names else NO_SECRETS
    return [MAGIC, mark, str(int(now)), str(int(now + basis.left_s)), secrets]


def _look(basis: Basis) -> list[str] | None:
    """Returns the lines of what is watched; None where that can't be trusted."""
    lines = []
    for path in dict.fromkeys([basis.own, *basis.watched, *basis.absent]):
        seen = look(path)
        if not _is_plain(path) or not _is_as_expected(path, seen, basis):
            return None
        lines.append(f"!{path}" if seen is None else f"{show(seen)} {path}")
    return lines


def _is_as_expected(path: str, seen: Seen | None, basis: Basis) -> bool:
    if path == basis.own:
        return seen == basis.own_seen
    if seen is None:
        return True
    return path not in basis.absent and basis.began - seen[-1] / 1e9 >= SETTLED_S


def _is_plain(path: str) -> bool:
    """Returns whether the launcher can name the path, and nothing on the way to it is a link that
    could be turned elsewhere."""
    return (
        os.path.isabs(path) and not set(path) & set("\n*?[]\\$") and os.path.realpath(path) == path
    )
