"""Imports with an empty stack under them.

CPython (seen with 3.11) gives the frames of a thread their memory in chunks of 16 KiB, and gives a
chunk back as soon as its first frame is left. A loop whose calls cross the border of two chunks
maps and unmaps memory at each of them. The network libraries compile large regular expressions
while they are imported: 5 ms where the stack has room, 20 and more at a border. How deep we are
when a store is opened is chance; a thread begins with a chunk of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from typing import Any


def import_apart(name: str) -> Any:
    """Returns the module, imported in a thread of its own.

    Raises: what its import raises.
    """

    def run() -> None:
        with contextlib.suppress(Exception):  # raised once more below
            importlib.import_module(name)

    worker = threading.Thread(target=run, name="nightporter-import")
    with contextlib.suppress(RuntimeError):  # the interpreter is ending and starts no thread
        worker.start()
        worker.join()
    return importlib.import_module(name)
