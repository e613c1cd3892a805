"""Every reader of what others write, over the corpus and what hypothesis makes of it: an answer or
an error that the reader names, in bounded time and memory, and no secret in the error.

The readers are `lab.fuzzing.targets`; `./scripts/fuzz` tries them at length.
"""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.fuzzing.corpus import BOMBS, own_pieces, pieces_for
from lab.fuzzing.targets import NAMED, PROFILES, SECRET, TARGETS, Target, ask
from nightporter.core.errors import ConfigError
from nightporter.core.hosts import BadAskError, may_receive, parse_target

MAX_PEAK = 100 << 20  # bytes, for a piece of a tenth of a megabyte


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """What once broke a reader, what the advisories tell, and what is sound."""
    for content in pieces_for(name):
        ask(name, content)


@pytest.mark.parametrize("name", TARGETS)
def test_bombs(name: str) -> None:
    """Deep, long and repetitive pieces cost neither time nor memory."""
    for content in BOMBS:
        ask(name, content)
    tracemalloc.start()
    try:
        for content in BOMBS[:2]:
            ask(name, content)
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK
    finally:
        tracemalloc.stop()


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A piece of the target's corpus with something put into it, or cut out of it."""
    piece = draw(st.sampled_from(own_pieces(name) * 5 + pieces_for(name)))
    at = draw(st.integers(0, len(piece)))
    to = draw(st.integers(at, min(len(piece), at + 20)))
    odd = st.sampled_from([b"\n", b"\r", b"\x00", b"%0a", b"@", b"\\", b"\xff", b"]", b'"', b"."])
    return piece[:at] + draw(odd | st.binary(max_size=8)) + piece[to:]


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 10**400, 1e308, float("nan"), float("inf"), "", "\x00", "\ud800"),
    *("\u202e", "9" * 400, "\u00b2", [], [[]], [None], {}, {"": None}, {"a": {}}, "0001-01-01"),
)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container with the key or index of one of its members."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield value, key
        yield from places_in(value[key])


def documents_for(name: str) -> list[bytes]:
    """The JSON objects and lists of a target's own corpus that have members."""
    found = []
    for piece in own_pieces(name):
        with contextlib.suppress(ValueError):
            found += [piece] if list(places_in(json.loads(piece))) else []
    return found


@st.composite
def odd_members(draw: st.DrawFn, name: str) -> bytes:
    """A JSON document of the corpus, one of whose members is of another kind or missing."""
    document = json.loads(draw(st.sampled_from(documents_for(name))))
    holder, key = draw(st.sampled_from(list(places_in(document))))
    if draw(st.integers(0, 9)):
        holder[key] = draw(st.sampled_from(ODD_VALUES))
    else:
        del holder[key]
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", TARGETS)
def test_what_hypothesis_makes_of_it(name: str) -> None:
    """Bytes put in and cut out, and members of the wrong kind."""
    contents = mutated(name) | st.binary(max_size=60)
    if documents_for(name):
        contents = odd_members(name) | contents

    @settings(max_examples=80)
    @given(content=contents)
    def check(content: bytes) -> None:
        ask(name, content)

    check()


def test_a_reader_that_tells_secrets_or_breaks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: an unnamed error, and a secret in a named one."""

    def tell(content: bytes) -> None:
        raise ConfigError(f"what is {content.decode()}?")

    def crash(_content: bytes) -> None:
        raise RecursionError

    for run, expected in ((tell, AssertionError), (crash, RecursionError)):
        monkeypatch.setitem(TARGETS, "git", Target(run, NAMED))
        with pytest.raises(expected):
            ask("git", SECRET.encode())


@settings(max_examples=100)
@given(content=st.sampled_from(["git", "ours", "host", "rule"]).flatmap(mutated))
def test_a_target_is_only_ever_its_own_host(content: bytes) -> None:
    """Whatever is asked: what is matched is what was parsed, and nothing with a control character
    in it is parsed."""
    text = content.decode("utf-8", "replace")
    try:
        target = parse_target(text, has_path=True)
    except BadAskError:
        return
    assert target.host.isascii()
    assert target.host == target.host.lower()
    assert all(char.isprintable() for char in text.strip())


def test_nothing_of_the_advisories_is_for_our_path() -> None:
    """None of the odd spellings is taken for the host and path that the profile names."""
    asked = [piece.decode("utf-8", "replace") for piece in pieces_for("all")]
    assert not any(may_receive(text, PROFILES.profiles["p"]) for text in asked)
