"""The contract of stores as a class of tests, for people who write a store of their own.

    class TestShelf(StoreContract):
        def open_store(self) -> Store:
            return ShelfStore(self.directory)

Each test function gets a path of its own. `open_store` is called several times in one test: every
store that it returns must look at the same data, as the machines of a fleet do. pytest is imported
by the functions that need it, so that this module can be imported without it.

Model: keyring's `keyring/testing/backend.py`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from nightporter.core.errors import StoreValueError, VersionConflictError
from nightporter.core.expiry import format_rfc3339
from nightporter.session.port import ABSENT, KEEP_EXPIRY, Store, Version

T = TypeVar("T")
SHORT_LIVED: Mapping[str, Any] = {"refresh_token": "hunter2", "generation": 5}


class StoreContract:
    """What every store promises. Subclass it, and return a client of your store from
    `open_store`."""

    writers: ClassVar[int] = 8
    """How many clients race for one write."""

    swept_after_s: ClassVar[float] = 0.1
    """How long after its expiry a value can be swept."""

    timeout_s: float = 20.0
    """How many seconds a call may take. A shared machine may want more."""

    odd_paths: ClassVar[tuple[str, ...]] = (
        "a b/c",
        "ä/ö",
        "%2e%2e/x",
        "a/..b/c",
        "UPPER/lower",
    )
    """Paths that the store must take as they are; a store with narrower names lists fewer."""

    def open_store(self) -> Store:
        """Returns a new client of the store under test."""
        raise NotImplementedError

    def open_settled(self) -> Store:
        """As `open_store`, for a look at what has been written; a store whose reads are old for a
        while returns a client that waits."""
        return self.open_store()

    def new_path(self) -> str:
        """Returns a path that no other test uses. Override it where a store needs names of another
        form."""
        return f"prod/{secrets.token_hex(4)}/refresh-token"

    def test_a_value_comes_back_as_it_was_written(self) -> None:
        """What was written is read again, with the version that the write returned."""
        store, path = self.open_store(), self.new_path()
        value = {
            "username": "svc",
            "password": "correct-horse",
            "nested": {"list": [1, None, True]},
        }
        version = store.write(path, value, ABSENT, None, timeout_s=self.timeout_s)
        found = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert found.value == value
        assert found.version == version

    def test_unicode_survives(self) -> None:
        """Text of any script, quotes and line separators are kept (keyring has the same test)."""
        store = self.open_store()
        for text in ("Grüße, 世界 🌙", 'quotes " and \\ and \n', "\u2028\u0085"):
            path = self.new_path()
            store.write(path, {"value": text}, ABSENT, None, timeout_s=self.timeout_s)
            assert self.open_settled().read(path, timeout_s=self.timeout_s).value == {"value": text}

    def test_a_value_of_60_kb(self) -> None:
        """A record with a large access token fits."""
        store, path = self.open_store(), self.new_path()
        value = {"value": "x" * 60_000}
        store.write(path, value, ABSENT, None, timeout_s=self.timeout_s)
        assert self.open_settled().read(path, timeout_s=self.timeout_s).value == value

    def test_a_value_that_is_too_large_is_refused_and_nothing_is_lost(self) -> None:
        """A refused write leaves what was there."""
        import pytest

        store, path = self.open_store(), self.new_path()
        version = store.write(path, {"value": "kept"}, ABSENT, None, timeout_s=self.timeout_s)
        with pytest.raises(StoreValueError):
            store.write(path, {"value": "x" * 70_000}, version, None, timeout_s=self.timeout_s)
        assert self.open_settled().read(path, timeout_s=self.timeout_s).value == {"value": "kept"}

    def test_what_was_never_there_is_absent(self) -> None:
        """An absent path has no value, and the version ABSENT."""
        found = self.open_store().read(self.new_path(), timeout_s=self.timeout_s)
        assert (found.value, found.version) == (None, ABSENT)

    def test_an_overwrite_needs_the_version_that_it_follows(self) -> None:
        """Compare-and-set: a stale version writes nothing."""
        import pytest

        store, path = self.open_store(), self.new_path()
        first = store.write(path, {"n": "1"}, ABSENT, None, timeout_s=self.timeout_s)
        second = store.write(path, {"n": "2"}, first, None, timeout_s=self.timeout_s)
        for stale in (first, ABSENT):
            with pytest.raises(VersionConflictError):
                store.write(path, {"n": "3"}, stale, None, timeout_s=self.timeout_s)
        found = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert (found.value, found.version) == ({"n": "2"}, second)

    def test_of_many_writers_from_one_parent_exactly_one_wins(self) -> None:
        """However many machines write at once over one version, one of them wins."""
        path = self.new_path()
        parent = self.open_store().write(path, {"n": "0"}, ABSENT, None, timeout_s=self.timeout_s)
        results = self.write_racing(path, parent)
        assert sorted(results) == ["lost"] * (self.writers - 1) + ["won"]
        found = self.open_settled().read(path, timeout_s=self.timeout_s).value
        assert found == {"writer": results.index("won")}

    def test_of_many_creators_exactly_one_wins(self) -> None:
        """Likewise where nothing was there."""
        results = self.write_racing(self.new_path(), ABSENT)
        assert sorted(results) == ["lost"] * (self.writers - 1) + ["won"]

    def test_expired_is_absent_and_the_next_compare_and_set_still_works(self) -> None:
        """An expired value is gone, its version isn't: nobody writes as if nothing was there."""
        import pytest

        store = self.open_store()
        path, ends, found = self.seen_alive(
            store, lambda settled, path: settled.read(path, timeout_s=self.timeout_s).value
        )
        assert found == {**SHORT_LIVED, "expires_at": format_rfc3339(ends)}
        time.sleep(max(0.0, ends - time.time()) + 0.1)
        gone = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert gone.value is None
        assert gone.version != ABSENT
        with pytest.raises(VersionConflictError):
            store.write(path, {"n": "new"}, ABSENT, None, timeout_s=self.timeout_s)
        store.write(path, {"n": "new"}, gone.version, None, timeout_s=self.timeout_s)
        assert self.open_settled().read(path, timeout_s=self.timeout_s).value == {"n": "new"}

    def test_a_generation_has_somewhere_to_go_on_from_when_the_value_is_gone(self) -> None:
        """The floor is no smaller than any generation that the path can have held."""
        store, path, version = self.open_store(), self.new_path(), ABSENT
        ends = int(time.time()) + 3
        for generation in range(3):
            value: dict[str, Any] = {"generation": generation, "expires_at": format_rfc3339(ends)}
            version = store.write(path, value, version, ends, timeout_s=self.timeout_s)
        time.sleep(max(0.0, ends - time.time()) + 0.1)
        gone = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert gone.value is None
        assert gone.version.floor >= 2

    def test_a_claim_keeps_the_record_s_own_expiry(self) -> None:
        """KEEP_EXPIRY leaves the end of the value as it is."""
        store, path, ends = self.open_store(), self.new_path(), int(time.time()) + 3600
        value = {"refresh_token": "r", "expires_at": format_rfc3339(ends)}
        version = store.write(path, value, ABSENT, ends, timeout_s=self.timeout_s)
        store.write(path, {**value, "claim": {}}, version, KEEP_EXPIRY, timeout_s=self.timeout_s)
        found = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert found.value == {**value, "claim": {}}

    def test_a_deletion_needs_the_version_and_leaves_nothing_to_read(self) -> None:
        """After a deletion there is no value, and old versions still collide."""
        import pytest

        store, path = self.open_store(), self.new_path()
        first = store.write(path, {"n": "1"}, ABSENT, None, timeout_s=self.timeout_s)
        second = store.write(path, {"n": "2"}, first, None, timeout_s=self.timeout_s)
        with pytest.raises(VersionConflictError):
            store.delete(path, first, timeout_s=self.timeout_s)
        store.delete(path, second, timeout_s=self.timeout_s)
        gone = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert gone.value is None
        with pytest.raises(VersionConflictError):
            store.write(path, {"n": "3"}, second, None, timeout_s=self.timeout_s)
        store.write(path, {"n": "3"}, gone.version, None, timeout_s=self.timeout_s)
        assert self.open_settled().read(path, timeout_s=self.timeout_s).value == {"n": "3"}

    def test_a_path_is_taken_as_it_is(self) -> None:
        """A path is a name, not an address: nothing in it is resolved or unescaped."""
        store = self.open_store()
        for odd in self.odd_paths:
            path = self.new_path()
            store.write(f"{path}/{odd}", {"n": odd}, ABSENT, None, timeout_s=self.timeout_s)
            settled = self.open_settled()
            assert settled.read(f"{path}/{odd}", timeout_s=self.timeout_s).value == {"n": odd}
            assert settled.read(path, timeout_s=self.timeout_s).value is None

    def test_what_has_expired_is_swept_and_the_next_write_still_works(self) -> None:
        """A sweep removes an expired value, and nothing before that."""
        store = self.open_store()
        path, ends, is_swept = self.seen_alive(
            store, lambda settled, path: settled.sweep(path, timeout_s=self.timeout_s)
        )
        assert not is_swept
        time.sleep(max(0.0, ends - time.time()) + self.swept_after_s)
        assert self.open_settled().sweep(path, timeout_s=self.timeout_s)
        gone = self.open_settled().read(path, timeout_s=self.timeout_s)
        assert gone.value is None
        assert gone.version != ABSENT
        store.write(path, {"n": "new"}, gone.version, None, timeout_s=self.timeout_s)
        assert self.open_settled().read(path, timeout_s=self.timeout_s).value == {"n": "new"}

    def test_a_sweep_of_nothing(self) -> None:
        """There is nothing to sweep where nothing is."""
        assert not self.open_store().sweep(self.new_path(), timeout_s=self.timeout_s)

    def seen_alive(self, store: Store, look: Callable[[Store, str], T]) -> tuple[str, int, T]:
        """Writes a value that ends within seconds. Returns its path and end (Unix seconds), and
        what `look` found before the end; a loaded machine gets more time for that."""
        for life_s in (3, 12, 48):
            path, ends = self.new_path(), int(time.time()) + life_s
            value = {**SHORT_LIVED, "expires_at": format_rfc3339(ends)}
            store.write(path, value, ABSENT, ends, timeout_s=self.timeout_s)
            found = look(self.open_settled(), path)
            if time.time() < ends:
                return path, ends, found
        raise AssertionError("the store takes longer than 48 s for a write and a look")

    def write_racing(self, path: str, expected: Version) -> list[str]:
        """Returns what each of `writers` clients got for one write over `expected`: "won", "lost",
        or the error."""
        stores = [self.open_store() for _ in range(self.writers)]
        for store in stores:
            store.read(path, timeout_s=self.timeout_s)  # connected before the race
        start, results = threading.Barrier(self.writers), [""] * self.writers

        def race(number: int) -> None:
            start.wait()
            try:
                stores[number].write(
                    path, {"writer": number}, expected, None, timeout_s=self.timeout_s
                )
                results[number] = "won"
            except VersionConflictError:
                results[number] = "lost"
            except Exception as exc:  # noqa: BLE001 - the test shows it
                results[number] = repr(exc)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(self.writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for store in stores:
            store.close()
        return results
