"""What a client writes to a helper: read as bytes, no further than its message goes, and bounded in
size and time.

git ends its message with an empty line and may keep the pipe open (git-credential(1)); the others
end theirs with the stream. Read before anything else of a warm answer, so this module imports
nothing that a bare interpreter hasn't.
"""

from __future__ import annotations

import io
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WAIT_S = 30.0  # where neither --timeout nor NIGHTPORTER_TIMEOUT says otherwise
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LateInputError(Exception):
    """The message did not end in time."""


def read_message(
    descriptor: int, *, max_bytes: int, wait_s: float = WAIT_S, ends_at_blank: bool = False
) -> bytes:
    """Returns the message, cut at `max_bytes`, without a byte order mark. What follows an empty
    line may be there too, where `ends_at_blank`.

    Raises: LateInputError, OSError.
    """
    deadline = time.monotonic() + wait_s
    found = b""
    while len(found) < max_bytes and not (ends_at_blank and _has_blank(found)):
        _wait(descriptor, deadline)
        piece = os.read(descriptor, max_bytes - len(found))
        if not piece:
            break
        found += piece
    return found.removeprefix(BYTE_ORDER_MARK)


def read_spelled(descriptor: int) -> bytes:
    """Returns the message that the launcher has read already, and spells as `od` does.

    Raises: LateInputError, OSError for what it could not read to its end.
    """
    pieces = []
    while piece := os.read(descriptor, 1 << 16):
        pieces.append(piece)
    words = b"".join(pieces)
    if b"failed" in words:  # `failed STATUS`; 124 is what `timeout` says
        if words.split()[-1] == b"124":
            raise LateInputError
        raise OSError("the client's message could not be read")
    return bytes(map(int, words.split())).removeprefix(BYTE_ORDER_MARK)


def cut_at_blank(message: bytes) -> bytes:
    """Returns the message up to the empty line that ends it."""
    if message.startswith(b"\n"):
        return b"\n"
    head, blank, _rest = message.partition(b"\n\n")
    return head + blank


def read_lines(descriptor: int, *, max_bytes: int, wait_s: float = WAIT_S) -> Iterator[bytes]:
    """Yields each line of a conversation, its line break included, cut at `max_bytes`. A line may
    take `wait_s` to come.

    Raises: LateInputError, OSError.
    """
    rest = b""
    while True:
        deadline = time.monotonic() + wait_s
        while b"\n" not in rest and len(rest) < max_bytes:
            _wait(descriptor, deadline)
            piece = os.read(descriptor, max_bytes)
            if not piece:
                if rest:
                    yield rest
                return
            rest += piece
        end = rest.find(b"\n") + 1 or max_bytes
        yield rest[:end]
        rest = rest[end:]


class Conversation:
    """What is left of a conversation whose first lines have been read, in place of standard input.
    The client has been greeted already."""

    def __init__(self, first: bytes, rest: Iterator[bytes]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    @property
    def buffer(self) -> Conversation:
        """Its bytes."""
        return self

    def fileno(self) -> int:
        """There is none: what was read is not in it any more."""
        raise io.UnsupportedOperation("fileno")

    def readline(self, _limit: int = -1) -> bytes:
        """Returns the next line, empty at the end.

        Raises: LateInputError, OSError.
        """
        first, self._first = self._first, None
        return next(self._rest, b"") if first is None else first


def wait_of(
    arguments: Sequence[str], environment: Mapping[str, str], default_s: float = WAIT_S
) -> float:
    """Returns the seconds that `--timeout` or NIGHTPORTER_TIMEOUT give; the default where they say
    nothing or nonsense, which is told later, to whom it concerns."""
    said = environment.get("NIGHTPORTER_TIMEOUT") or ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == "--timeout":
            said = following
        elif word.startswith("--timeout="):
            said = word[10:]
    try:
        seconds = float(said)
    except ValueError:
        return default_s
    return seconds if 0 < seconds < 86_400 else default_s


def _has_blank(found: bytes) -> bool:
    return found.startswith((b"\n", BYTE_ORDER_MARK + b"\n")) or b"\n\n" in found


def _wait(descriptor: int, deadline: float) -> None:
    if os.name == "nt":  # its `select` takes sockets alone
        return
    import select

    left_s = max(deadline - time.monotonic(), 0)
    if not select.select([descriptor], [], [], left_s)[0]:
        raise LateInputError
