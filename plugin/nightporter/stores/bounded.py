"""A bound on a whole call to a store: name look-up, login, TLS, the request and its answer.

No socket option bounds the whole: a name look-up that hangs, a server that drips bytes and a
program that a library runs all take as long as they like. So each call runs in a thread, which is
waited for as long as the caller has time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from nightporter.core.errors import StoreUnreachableError

T = TypeVar("T")


class CallTimeoutError(StoreUnreachableError):
    """The call was not over within its time; its thread still runs."""


def bounded(call: Callable[[], T], timeout_s: float, *, who: str) -> T:
    """Returns what `call` returns, or raises what it raises. `who`: the store, for the message.

    Raises: CallTimeoutError when the time is over. The thread is left behind then: the call
    must begin nothing more by itself once its time is over.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as exc:
            failures.append(exc)

    worker = threading.Thread(target=run, daemon=True)
    try:
        worker.start()
        worker.join(timeout_s)
    except RuntimeError:  # the interpreter is ending and starts no thread: less bounded
        run()
    if failures:
        raise failures[0]
    if not results:
        raise CallTimeoutError(f"{who} gave no answer within {timeout_s:.0f} s")
    return results[0]
