"""Room on the interpreter's stack and a collector of garbage that waits, so that imports pay for
neither.

CPython (3.11 to 3.13) keeps the frames of a thread in chunks of 16 KiB, and gives a chunk back to
the system as soon as its first frame is left. A loop whose calls cross the border of two chunks
maps and unmaps memory at each of them; the compiler of regular expressions, which runs a hundred
times in a cold start, is such a loop. How deep we are at that moment is chance: the same import
took 5 ms or 50. A chunk is made at least as large as the frame that asks for it, so a frame that
asks for much leaves its rest to all that it calls (decision 0022).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # without an import of typing: a warm answer passes here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Of the frame below, in words: more than half a MiB, so that its chunk has one MiB. What isn't used
# of it is never touched, and takes no memory.
WORDS = 1 << 16


def with_room(call: Callable[[], T]) -> T:
    """Returns what `call` returns, which finds half a MiB for its frames in one piece.

    Raises: what it raises.
    """
    return call()


with_room.__code__ = with_room.__code__.replace(co_stacksize=WORDS)


def without_collector(call: Callable[[], T]) -> T:
    """Returns what `call` returns, which imports modules or opens a client and waits for nobody:
    what they make lives as long as the process, and a collector that looks through it again and
    again is an eighth of a cold start in Lambda. It is as it was afterwards.

    Raises: what it raises.
    """
    global _is_paused
    import gc  # a warm answer passes here and needs none of it

    if not gc.isenabled():
        return call()
    _is_paused = True
    gc.disable()
    try:
        return call()
    finally:
        _is_paused = False
        gc.enable()


def _after_fork() -> None:
    """In a child that another thread made meanwhile: nobody would put the collector on again."""
    global _is_paused
    if _is_paused:
        import gc

        _is_paused = False
        gc.enable()


_is_paused = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
