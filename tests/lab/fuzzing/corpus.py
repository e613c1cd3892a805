"""The corpus: what attackers, vendors and torn disks have sent, one file a piece.

`tests/corpus/all` is for every target, `tests/corpus/TARGET` for one: what once broke it stays
there, and is tried again at every change.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

PLACE = Path(__file__).resolve().parents[2] / "corpus"
# Too large to be kept as files.
BOMBS = (
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"a=" + b"[" * 20_000,
    b"[a]\nb" + b".c" * 500 + b" = 1\n",
    base64.b64encode(b"-----BEGIN CERTIFICATE-----" * 3_500),
    b"9" * 50_000,
    b"\n" * 50_000,
    b"%0a" * 20_000,
    b"https://" + b"a." * 20_000,
    b"\\" * 50_000,
    b'"' + b"\\u0000" * 10_000,
    b"xn--" * 10_000,
)


@cache
def own_pieces(target: str) -> tuple[bytes, ...]:
    """What is for this target alone, in a fixed order."""
    place = PLACE / target
    return tuple(file.read_bytes() for file in sorted(place.iterdir())) if place.is_dir() else ()


def pieces_for(target: str) -> tuple[bytes, ...]:
    """The corpus of one target, in a fixed order."""
    return own_pieces("all") + own_pieces(target)
