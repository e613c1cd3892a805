"""What people read: printable, and on standard error never a place where we are held up.

Text of others (a record, a vendor, a client) may hold control, escape or bidirectional characters,
which would drive a terminal (the class of CVE-2024-50349). And the process that should read the
stream may have stopped: a line that doesn't fit into the pipe at once is dropped.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any

WAIT_S = 1.0  # for a reader that is only slow
_held_up: set[int] = set()  # descriptors whose reader was waited for in vain: once is enough


def printable(text: str) -> str:
    """Returns the text with `?` for every character that is not printable; line breaks and tabs
    stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


_STYLES = r"(\x1b\[(?:1|3[123]|0)m)"  # of status and doctor, and the end of one (ECMA-48, SGR)


def printable_but_styled(text: str) -> str:
    """Returns the text made printable but for our own styles. Text of others can't come with more
    than a colour."""
    import re  # deferred: the fast commands style nothing

    return "".join(
        part if position % 2 else printable(part)
        for position, part in enumerate(re.split(_STYLES, text))
    )


def write_to_stream(stream: Any, text: str) -> None:
    """Writes the text, made printable, as far as it goes without waiting for a reader.

    Raises: OSError, ValueError, AttributeError as the stream does.
    """
    shown = printable(text)
    if not _is_pipe(stream):
        stream.write(shown)
        stream.flush()
        return
    stream.flush()
    descriptor = stream.fileno()
    content = memoryview(shown.encode(errors="replace"))
    wait_s = 0.0 if descriptor in _held_up else WAIT_S
    while content and select.select([], [descriptor], [], wait_s)[1]:
        # A pipe that is ready takes PIPE_BUF bytes at once (POSIX).
        content = content[os.write(descriptor, content[: select.PIPE_BUF]) :]
    if content:
        _held_up.add(descriptor)
    else:
        _held_up.discard(descriptor)


def _is_pipe(stream: Any) -> bool:
    """Whether a reader could hold us up: a pipe, a socket, a terminal that was stopped."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        return hasattr(select, "PIPE_BUF") and not os.path.isfile(f"/proc/self/fd/{descriptor}")
    return False
