"""How every store writes a value: JSON text within the smallest of their bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nightporter.core.errors import StoreValueError

MAX_VALUE_BYTES = (
    65_536  # what Secrets Manager takes; held everywhere, so that a store can be changed
)


def encode_value(path: str, value: Mapping[str, Any]) -> str:
    """The value as JSON text.

    Raises: StoreValueError when it is larger than every store takes.
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        size = len(text.encode())
    except UnicodeError as exc:
        raise StoreValueError(f"{path}: the value holds text that is no Unicode") from exc
    if size > MAX_VALUE_BYTES:
        raise StoreValueError(f"{path}: a value of {size} bytes is more than {MAX_VALUE_BYTES}")
    return text
