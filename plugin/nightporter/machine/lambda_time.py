"""How much is left of the Lambda invocation that this process is in.

Lambda may run the init phase twice, and it freezes or kills a process that has used up its time: an
exchange that began there could lose a rotated token. The runtime tells the time left to the handler
alone (`lambda_context`), so it is looked up where AWS's Python runtime interface client
(awslambdaric, `bootstrap.py`) keeps it: in the frame of `handle_event_request` on the main thread,
whichever thread asks. One environment runs one invocation at a time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from nightporter.core.errors import InitPhaseError, InvocationEndsError
from nightporter.core.limits import LAMBDA_END_S, LAMBDA_EXCHANGE_S, LAMBDA_STRICT_S

_RUNTIME = "awslambdaric.bootstrap"
_named: Any = None


def is_lambda(environment: Mapping[str, str]) -> bool:
    """Returns whether this is a function's environment, which is frozen between invocations."""
    return bool(environment.get("AWS_LAMBDA_FUNCTION_NAME"))


@contextlib.contextmanager
def bounded_by(context: Any) -> Iterator[None]:
    """For the block, this is the invocation's context (`get_remaining_time_in_millis`); None
    changes nothing."""
    global _named
    before, _named = _named, context if context is not None else _named
    try:
        yield
    finally:
        _named = before


def remaining_s() -> float | None:
    """Seconds left of the invocation; 0 in the init phase; None where no invocation bounds us."""
    context = _named if _named is not None else _context_of_runtime()
    if context is _INIT_PHASE:
        return 0.0
    try:
        return float(context.get_remaining_time_in_millis()) / 1000
    except AttributeError:  # no context, or one of a test that has no clock
        return None


def listen_left_s() -> float | None:
    """Returns for how long an answer can be listened to; None where no invocation bounds us."""
    left_s = remaining_s()
    return None if left_s is None else max(0.0, left_s - LAMBDA_END_S)


def check_exchange(is_strict: bool) -> None:
    """Checks that an exchange can end within the invocation. `is_strict`: a second send of the
    refresh token would end the session.

    Raises: InitPhaseError, InvocationEndsError.
    """
    if _named is None and _context_of_runtime() is _INIT_PHASE:
        raise InitPhaseError(
            "nothing is exchanged while Lambda initialises the function: it may do that twice"
        )
    left, needed_s = remaining_s(), LAMBDA_STRICT_S if is_strict else LAMBDA_EXCHANGE_S
    if left is not None and left < needed_s:
        raise InvocationEndsError(
            f"{left:.1f} s are left of this invocation, and an exchange wants {needed_s:.0f}"
        )


_INIT_PHASE = object()


def _context_of_runtime() -> Any:
    """The context of the running invocation, `_INIT_PHASE`, or None outside AWS's runtime."""
    runtime = sys.modules.get(_RUNTIME)
    handle = getattr(getattr(runtime, "handle_event_request", None), "__code__", None)
    if handle is None:
        return None
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code is handle:
            return frame.f_locals.get("lambda_context")
        frame = frame.f_back
    return _INIT_PHASE
