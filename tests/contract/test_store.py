"""What every store promises: one suite, run against each of them."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightporter.core.errors import StoreValueError, VersionConflictError
from nightporter.core.expiry import format_rfc3339
from nightporter.session.port import ABSENT, KEEP_EXPIRY, Store, Stored, Version
from nightporter.stores.local import LocalStore
from nightporter.stores.secrets_manager import SecretsManagerStore
from nightporter.stores.vault import VaultStore
from strict_aws import StrictAws, open_strict_aws
from support import OpenBao

TIMEOUT_S = 20.0


@dataclass
class Bench:
    """A way to open any number of clients of one store."""

    open: Callable[[], Store]
    writers: int = 32

    def write_racing(self, path: str, expected: Version) -> list[str]:
        """What each of `writers` clients got for one write from one parent: "won", "lost", or an
        error's name."""
        writers = self.writers
        stores = [self.open() for _ in range(writers)]
        for store in stores:
            store.read(path, timeout_s=TIMEOUT_S)  # connected before the race
        start, results = threading.Barrier(writers), [""] * writers

        def race(number: int) -> None:
            start.wait()
            try:
                stores[number].write(path, {"writer": number}, expected, None, timeout_s=TIMEOUT_S)
                results[number] = "won"
            except VersionConflictError:
                results[number] = "lost"
            except Exception as exc:
                results[number] = repr(exc)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for store in stores:
            store.close()
        return results


@pytest.fixture(params=["local", "vault", "moto", "strict-aws", "slow-aws"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    opened: list[Store] = []

    def keep(store: Store, settle_s: float = 0.0) -> Store:
        opened.append(store)
        if settle_s:
            read = store.read

            def settled(path: str, *, timeout_s: float) -> Stored:
                time.sleep(settle_s)
                return read(path, timeout_s=timeout_s)

            store.read = settled  # type: ignore[method-assign]  # the tests look when the store has settled
        return store

    if request.param == "local":
        yield Bench(lambda: keep(LocalStore(str(tmp_path / "store"))))
    elif request.param == "vault":
        server: OpenBao = request.getfixturevalue("openbao")
        mount = server.mount()
        server.put(mount, "ready", {"yes": "1"})
        environment = {"VAULT_TOKEN": server.token, "VAULT_ADDR": server.address}
        yield Bench(
            lambda: keep(VaultStore({"mount": mount, "auth": {"method": "token"}}, environment))
        )
    else:
        request.getfixturevalue("aws_environment")
        with contextlib.ExitStack() as stack:
            if request.param == "moto":
                address = request.getfixturevalue("moto")
            else:
                delay_s = 0.0 if request.param == "strict-aws" else 0.3
                address = stack.enter_context(open_strict_aws(StrictAws(delay_s=delay_s)))
            is_slow = request.param == "slow-aws"
            settle_s, writers = (0.4, 12) if is_slow else (0.0, 32)
            yield Bench(
                lambda: keep(SecretsManagerStore({"endpoint_url": address}), settle_s), writers
            )
    for store in opened:
        store.close()


@pytest.fixture
def store(bench: Bench) -> Store:
    return bench.open()


@pytest.fixture
def path() -> str:
    return f"prod/{secrets.token_hex(4)}/refresh-token"


def test_round_trip(store: Store, path: str) -> None:
    value = {"username": "svc", "password": "correct-horse", "nested": {"list": [1, None, True]}}
    version = store.write(path, value, ABSENT, None, timeout_s=TIMEOUT_S)
    found = store.read(path, timeout_s=TIMEOUT_S)
    assert found.value == value
    assert found.version == version


@pytest.mark.parametrize("text", ["Grüße, 世界 🌙", 'quotes " and \\ and \n', "\u2028\u0085"])
def test_unicode_survives(store: Store, path: str, text: str) -> None:
    store.write(path, {"value": text}, ABSENT, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {"value": text}


def test_a_value_of_60_kb(store: Store, path: str) -> None:
    value = {"value": "x" * 60_000}
    store.write(path, value, ABSENT, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == value


def test_a_value_that_is_too_large_is_refused_and_nothing_is_lost(store: Store, path: str) -> None:
    version = store.write(path, {"value": "kept"}, ABSENT, None, timeout_s=TIMEOUT_S)
    with pytest.raises(StoreValueError):
        store.write(path, {"value": "x" * 70_000}, version, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {"value": "kept"}


def test_what_was_never_there_is_absent(store: Store, path: str) -> None:
    assert store.read(path, timeout_s=TIMEOUT_S) == (None, ABSENT)


def test_an_overwrite_needs_the_version_that_it_follows(store: Store, path: str) -> None:
    first = store.write(path, {"n": "1"}, ABSENT, None, timeout_s=TIMEOUT_S)
    second = store.write(path, {"n": "2"}, first, None, timeout_s=TIMEOUT_S)
    for stale in (first, ABSENT):
        with pytest.raises(VersionConflictError):
            store.write(path, {"n": "3"}, stale, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S) == ({"n": "2"}, second)


def test_of_many_writers_from_one_parent_exactly_one_wins(bench: Bench, path: str) -> None:
    parent = bench.open().write(path, {"n": "0"}, ABSENT, None, timeout_s=TIMEOUT_S)
    results = bench.write_racing(path, parent)
    assert sorted(results) == ["lost"] * (bench.writers - 1) + ["won"]
    found = bench.open().read(path, timeout_s=TIMEOUT_S).value
    assert found == {"writer": results.index("won")}


def test_of_many_creators_exactly_one_wins(bench: Bench, path: str) -> None:
    results = bench.write_racing(path, ABSENT)
    assert sorted(results) == ["lost"] * (bench.writers - 1) + ["won"]


def test_expired_is_absent_and_the_next_compare_and_set_still_works(
    store: Store, path: str
) -> None:
    ends = int(time.time()) + 3
    value = {"refresh_token": "r", "generation": 5, "expires_at": format_rfc3339(ends)}
    store.write(path, value, ABSENT, ends, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == value
    time.sleep(ends - time.time() + 0.1)
    gone = store.read(path, timeout_s=TIMEOUT_S)
    assert gone.value is None
    assert gone.version != ABSENT
    with pytest.raises(VersionConflictError):
        store.write(path, {"n": "new"}, ABSENT, None, timeout_s=TIMEOUT_S)
    store.write(path, {"n": "new"}, gone.version, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {"n": "new"}


def test_a_generation_has_somewhere_to_go_on_from_when_the_value_is_gone(
    store: Store, path: str
) -> None:
    """The floor is no smaller than any generation that the path can have held."""
    version = ABSENT
    ends = int(time.time()) + 3
    for generation in range(3):
        value: dict[str, Any] = {"generation": generation, "expires_at": format_rfc3339(ends)}
        version = store.write(path, value, version, ends, timeout_s=TIMEOUT_S)
    time.sleep(max(0, ends - time.time()) + 0.1)
    gone = store.read(path, timeout_s=TIMEOUT_S)
    assert gone.value is None
    assert gone.version.floor >= 2


def test_a_claim_keeps_the_record_s_own_expiry(store: Store, path: str) -> None:
    ends = int(time.time()) + 3600
    value = {"refresh_token": "r", "expires_at": format_rfc3339(ends)}
    version = store.write(path, value, ABSENT, ends, timeout_s=TIMEOUT_S)
    store.write(path, {**value, "claim": {}}, version, KEEP_EXPIRY, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {**value, "claim": {}}


def test_a_deletion_needs_the_version_and_leaves_nothing_to_read(store: Store, path: str) -> None:
    first = store.write(path, {"n": "1"}, ABSENT, None, timeout_s=TIMEOUT_S)
    second = store.write(path, {"n": "2"}, first, None, timeout_s=TIMEOUT_S)
    with pytest.raises(VersionConflictError):
        store.delete(path, first, timeout_s=TIMEOUT_S)
    store.delete(path, second, timeout_s=TIMEOUT_S)
    gone = store.read(path, timeout_s=TIMEOUT_S)
    assert gone.value is None
    with pytest.raises(VersionConflictError):
        store.write(path, {"n": "3"}, second, None, timeout_s=TIMEOUT_S)
    store.write(path, {"n": "3"}, gone.version, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {"n": "3"}


@pytest.mark.parametrize("odd", ["a b/c", "ä/ö", "%2e%2e/x", "a/..b/c", "UPPER/lower"])
def test_a_path_is_taken_as_it_is(store: Store, path: str, odd: str) -> None:
    if isinstance(store, SecretsManagerStore) and not re.fullmatch(r"[A-Za-z0-9/_+=.@-]+", odd):
        pytest.skip("Secrets Manager's names have no such characters")
    store.write(f"{path}/{odd}", {"n": odd}, ABSENT, None, timeout_s=TIMEOUT_S)
    assert store.read(f"{path}/{odd}", timeout_s=TIMEOUT_S).value == {"n": odd}
    assert store.read(path, timeout_s=TIMEOUT_S).value is None


def test_what_has_expired_is_swept_and_the_next_write_still_works(store: Store, path: str) -> None:
    ends = int(time.time()) + 3
    value = {"refresh_token": "hunter2", "generation": 3, "expires_at": format_rfc3339(ends)}
    store.write(path, value, ABSENT, ends, timeout_s=TIMEOUT_S)
    assert not store.sweep(path, timeout_s=TIMEOUT_S)
    time.sleep(
        ends + 5.5 - time.time() if isinstance(store, VaultStore) else ends + 0.1 - time.time()
    )
    assert store.sweep(path, timeout_s=TIMEOUT_S)
    gone = store.read(path, timeout_s=TIMEOUT_S)
    assert gone.value is None
    assert gone.version != ABSENT
    store.write(path, {"n": "new"}, gone.version, None, timeout_s=TIMEOUT_S)
    assert store.read(path, timeout_s=TIMEOUT_S).value == {"n": "new"}


def test_a_sweep_of_nothing(store: Store, path: str) -> None:
    assert not store.sweep(path, timeout_s=TIMEOUT_S)
