"""Writes reply files (`reply`), from which the launcher answers the next ask of the same kind.

Where anything is in doubt no reply is left: a relative path or one through a link, a line break in
a variable, a file that has changed within the last moments, whose next change might carry the same
time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nightporter.machine.files import replace_private
from nightporter.machine.reply import MAGIC, Ask, Seen, look

SETTLED_S = 0.05  # several ticks of the clock that file systems use
MAX_REPLIES = 50  # a client may ask for any number of addresses
LEAST_S = 2  # of life, for which a reply is worth a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an answer depends on.

    `directory`: where its reply goes. `watched`: files and directories, present or not; `absent`:
    what must not be there. `own`: the token's file, and `own_seen`, how it was seen (`look`) before
    the token was read from it. `left_s`: seconds for which the token may be served without another
    look. `began`: a moment (Unix seconds) before anything of it was read, so that a change
    meanwhile is noticed. `by_token`: as in `Ask.compose`.
    """

    directory: str
    watched: Sequence[str]
    own: str
    own_seen: Seen
    left_s: float
    began: float
    absent: Sequence[str] = ()
    by_token: bool = False


def leave(reply: str, ask: Ask, basis: Basis) -> bool:
    """Writes the reply, if one may be kept. Returns whether it was; a failed write is no error."""
    name, content = ask.file_name, ask.compose(by_token=basis.by_token)
    if name is None or content is None or basis.left_s < LEAST_S or not _is_keepable(reply, ask):
        return False
    try:
        found = _look(basis)
        if found is None or not _is_plain(basis.directory):
            return False
        newest_ns, lines = found
        now = time.time()
        head = (MAGIC, os.urandom(8).hex(), str(int(now)), str(int(now + basis.left_s)))
        lines = [*head, content.rstrip("\n"), "", *lines, "", reply]
        if ask.given is not None:
            _make_room(basis.directory)
        text = "".join(f"{line}\n" for line in lines)
        path = os.path.join(basis.directory, name)
        replace_private(path, os.fsencode(text), modified_ns=newest_ns)
    except (OSError, ValueError):
        return False
    return True


def _is_keepable(reply: str, ask: Ask) -> bool:
    """Letters beyond ASCII are bytes of a locale, which the next ask may not have; the launcher
    prints one line."""
    return bool(reply) and reply.isascii() and (ask.given is not None or "\n" not in reply)


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


def _look(basis: Basis) -> tuple[int, list[str]] | None:
    """Returns the newest change time of what is watched (ns), and its lines; None where that can't
    be trusted."""
    newest_ns, lines = 0, []
    for path in dict.fromkeys([basis.own, *basis.watched, *basis.absent]):
        seen = look(path)
        if not _is_plain(path) or not _is_as_expected(path, seen, basis):
            return None
        if seen is None:
            lines.append(f"!{path}")
            continue
        newest_ns = max(newest_ns, seen[2])
        lines.append(f"={seen[0]} {seen[1]} {seen[2]} {path}")
    return newest_ns, lines


def _is_as_expected(path: str, seen: Seen | None, basis: Basis) -> bool:
    if path == basis.own:
        return seen == basis.own_seen
    if seen is None:
        return True
    return path not in basis.absent and basis.began - seen[2] / 1e9 >= SETTLED_S


def _is_plain(path: str) -> bool:
    """Returns whether the launcher can name the path, and nothing on the way to it is a link that
    could be turned elsewhere."""
    return (
        os.path.isabs(path) and not set(path) & set("\n*?[]\\$") and os.path.realpath(path) == path
    )
