"""What the network libraries log during our own calls: warnings and errors, nothing else.

At DEBUG botocore logs whole answers, and with them passwords and refresh tokens (boto/boto3#2292,
boto/botocore#2626). A program that turns on its root logger, or a function whose log level is
DEBUG, must not get ours; its own calls with the same libraries keep their logs. Loggers are
process-wide, so a filter on each of them looks whether our call runs in this thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

LIBRARIES = ("boto3", "botocore", "hvac", "requests", "s3transfer", "urllib3")

_call = threading.local()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries from logging below WARNING in this thread, as long as the block runs."""
    _install()
    depth = getattr(_call, "depth", 0)
    _call.depth = depth + 1
    try:
        yield
    finally:
        _call.depth = depth


class _OursAreQuiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or getattr(_call, "depth", 0) == 0


_FILTER = _OursAreQuiet()


def _install() -> None:
    """Puts the filter on every logger of the libraries: a logger's filter isn't asked for what its
    children log, and a module that is imported late brings another logger."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.split(".")[0] in LIBRARIES:
            logger.addFilter(_FILTER)  # adds it once
