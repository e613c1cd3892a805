"""What every store is built of: a call that is bounded as a whole, a value that every store takes,
and the smallest store, with a clock that the test moves."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nightporter.core.errors import StoreValueError, VersionConflictError
from nightporter.session.port import ABSENT, Version
from nightporter.stores.bounded import CallTimeoutError, bounded
from nightporter.stores.encoding import MAX_VALUE_BYTES, encode_value
from nightporter.stores.memory import MemoryStore

# A call that is bounded.


def test_a_call_returns_what_it_returns_and_raises_what_it_raises() -> None:
    """In a thread of its own, with the very exception."""
    threads: list[threading.Thread] = []
    defect = KeyError("x")

    def fails() -> None:
        raise defect

    assert bounded(lambda: threads.append(threading.current_thread()), 5, who="it") is None
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon  # the interpreter does not wait for it at its end
    assert bounded(lambda: 7, 5, who="it") == 7
    with pytest.raises(KeyError) as caught:
        bounded(fails, 5, who="it")
    assert caught.value is defect


def test_who_takes_too_long_is_named() -> None:
    """With how long it was waited for."""
    gate = threading.Event()
    with pytest.raises(CallTimeoutError, match="the store gave no answer within 0 s"):
        bounded(gate.wait, 0.01, who="the store")
    gate.set()


def test_where_no_thread_can_be_started_the_call_is_made_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interpreter that ends starts none, and a result must still be saved."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    here: list[threading.Thread] = []
    bounded(lambda: here.append(threading.current_thread()), 5, who="it")
    assert here == [threading.current_thread()]
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 5, who="it")


# A value that every store takes.


def test_64_kib_of_json_are_the_most() -> None:
    """What Secrets Manager takes, counted in bytes of UTF-8."""
    assert MAX_VALUE_BYTES == 65_536
    room = MAX_VALUE_BYTES - len('{"a": ""}')
    for char, size in (("x", 1), ("é", 2)):
        text = encode_value("p", {"a": char * (room // size)})
        assert len(text.encode()) in (MAX_VALUE_BYTES, MAX_VALUE_BYTES - 1)
        assert char in text  # as it is: escapes would make it larger
        with pytest.raises(StoreValueError, match=r"p: a value of 6553[78] bytes"):
            encode_value("p", {"a": char * (room // size + 1)})


def test_a_lone_surrogate_is_no_text() -> None:
    """No store could give it back."""
    with pytest.raises(StoreValueError, match="no Unicode"):
        encode_value("p", {"a": "\udc80"})


# The smallest store.

T = 1.0


class Shelf(MemoryStore):
    """One with a clock of the test's."""

    now = 1_000.0

    def __init__(self, contents: Any = None) -> None:
        super().__init__(contents, clock=lambda: self.now)

    def put(self, value: dict[str, Any], over: Version = ABSENT) -> Version:
        return self.write("p", value, over, None, timeout_s=T)


def test_versions_count_up_and_the_latest_is_written_over() -> None:
    """Another's write in between is a conflict, and so is a path that was deleted."""
    store = Shelf()
    first = store.put({"n": 1})
    second = store.put({"n": 2}, first)
    assert (first, second) == (Version("1", 1), Version("2", 2))
    for stale in (ABSENT, first, Version("3", 3)):
        with pytest.raises(VersionConflictError):
            store.put({"n": 3}, stale)
        with pytest.raises(VersionConflictError):
            store.delete("p", stale, timeout_s=T)
    store.delete("p", second, timeout_s=T)
    found = store.read("p", timeout_s=T)
    assert (found.value, found.version) == (None, Version("3", 3))
    assert store.put({"n": 4}, found.version) == Version("4", 4)


def test_a_read_tells_when_it_was_written_and_what_time_it_is() -> None:
    """By the store's own clock, by which claims are aged."""
    store = Shelf()
    assert store.read("p", timeout_s=T).version == ABSENT
    assert store.read("p", timeout_s=T).written_at is None
    store.put({"n": 1})
    store.now = 1_007.0
    found = store.read("p", timeout_s=T)
    assert (found.value, found.written_at, found.now) == ({"n": 1}, 1_000.0, 1_007.0)


def test_what_is_read_is_a_copy() -> None:
    """Whoever changes it changes nobody else's, nor the history."""
    store, value = Shelf(), {"n": [1]}
    store.put(value)
    value["n"].append(2)
    found = store.read("p", timeout_s=T).value
    assert found == {"n": [1]}
    found["n"].append(3)
    assert store.read("p", timeout_s=T).value == {"n": [1]}


def expiring() -> dict[str, Any]:
    return {"schema": 1, "refresh_token": "R", "expires_at": "1970-01-01T00:16:50Z"}  # 1010


def test_what_has_expired_is_not_read_and_is_swept() -> None:
    """What it held is told apart from nothing, for who goes on from it."""
    store = Shelf()
    assert not store.sweep("p", timeout_s=T)
    store.put(expiring())
    store.now = 1_009.9
    assert store.read("p", timeout_s=T).value == expiring()
    assert not store.sweep("p", timeout_s=T)
    store.now = 1_010.0
    found = store.read("p", timeout_s=T)
    assert (found.value, found.expired, found.version) == (None, expiring(), Version("1", 1))
    assert store.sweep("p", timeout_s=T)
    assert store.read("p", timeout_s=T).expired is None
    assert not store.sweep("p", timeout_s=T)


def test_past_values_can_be_dropped() -> None:
    """The current one stays, and versions go on."""
    store = Shelf()
    version = store.put({"n": 2}, store.put({"n": 1}))
    store.drop_previous("p", timeout_s=T)
    store.drop_previous("nothing", timeout_s=T)
    assert [value for value, _ in store.contents["p"]] == [None, {"n": 2}]
    assert store.read("p", timeout_s=T).version == version


def test_several_clients_may_share_their_contents() -> None:
    """As machines share a store; without contents each has its own."""
    contents: dict[str, Any] = {}
    Shelf(contents).put({"n": 1})
    assert Shelf(contents).read("p", timeout_s=T).value == {"n": 1}
    assert Shelf().read("p", timeout_s=T).value is None
    assert Shelf.versions_per_day is None
