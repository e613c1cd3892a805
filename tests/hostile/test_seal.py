"""A lost disk: with `seal = "keyring"` the embedded store and kept results tell nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pytest

from nightporter.core.errors import StoreDeniedError
from nightporter.core.record import PendingResult
from nightporter.machine.journal import FileJournal
from nightporter.machine.seal import KEY_NAME, SERVICE, KeyringSeal
from nightporter.session.port import ABSENT
from nightporter.stores.local import LocalStore, open_store

VALUE = {"username": "svc-acme", "password": "correct-horse"}


class Ring(keyring.backend.KeyringBackend):
    """A desktop's keyring, unlocked or locked."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring leaves it bare
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise RuntimeError("locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise RuntimeError("locked")
        self.kept[service, username] = password


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def store(tmp_path: Path, **options: Any) -> LocalStore:
    options = {"path": str(tmp_path / "store"), **options}
    return open_store(options, {}, lambda _text: None, str(tmp_path / "data"))


def on_disk(tmp_path: Path) -> str:
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return "".join(path.read_text(errors="replace") for path in files)


def test_the_disk_tells_nothing(tmp_path: Path, ring: Ring) -> None:
    sealed = store(tmp_path, seal="keyring")
    version = sealed.write("prod/x", VALUE, ABSENT, None, timeout_s=5)
    for secret in ("correct-horse", "svc-acme", "password"):
        assert secret not in on_disk(tmp_path)
    assert ring.kept[SERVICE, KEY_NAME] not in on_disk(tmp_path)
    assert store(tmp_path, seal="keyring").read("prod/x", timeout_s=5).value == VALUE
    sealed.delete("prod/x", version, timeout_s=5)
    assert sealed.read("prod/x", timeout_s=5).value is None


def test_the_default_is_plain_and_private(tmp_path: Path, ring: Ring) -> None:
    store(tmp_path).write("prod/x", VALUE, ABSENT, None, timeout_s=5)
    assert "correct-horse" in on_disk(tmp_path)
    (file,) = (tmp_path / "store").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert ring.kept == {}


def test_a_plain_store_is_sealed_by_its_next_write(tmp_path: Path, ring: Ring) -> None:
    version = store(tmp_path).write("prod/x", VALUE, ABSENT, None, timeout_s=5)
    sealed = store(tmp_path, seal="keyring")
    assert sealed.read("prod/x", timeout_s=5).value == VALUE
    sealed.write("prod/x", VALUE, version, None, timeout_s=5)
    assert "correct-horse" not in on_disk(tmp_path)


@pytest.mark.parametrize("what", ["no seal", "locked", "another key", "no key"])
def test_without_the_key_nothing_is_read_or_lost(tmp_path: Path, ring: Ring, what: str) -> None:
    version = store(tmp_path, seal="keyring").write("prod/x", VALUE, ABSENT, None, timeout_s=5)
    before = on_disk(tmp_path / "store")
    ring.is_locked = what == "locked"
    if what == "another key":
        from cryptography.fernet import Fernet

        ring.kept[SERVICE, KEY_NAME] = Fernet.generate_key().decode()
    elif what == "no key":
        ring.kept.clear()
    other = store(tmp_path, **({} if what == "no seal" else {"seal": "keyring"}))
    with pytest.raises(StoreDeniedError):
        other.read("prod/x", timeout_s=5)
    with pytest.raises(StoreDeniedError):
        other.write("prod/x", {"a": "b"}, version, None, timeout_s=5)
    assert on_disk(tmp_path / "store") == before


def pending() -> PendingResult:
    record = {"refresh_token": "the-refresh-token"}
    return PendingResult(nonce="n", record=record, at=1, is_sign_in=False, name="")


def test_a_kept_result_is_sealed_too(tmp_path: Path, ring: Ring) -> None:
    journal = FileJournal(str(tmp_path / "spill"), "p", seal=KeyringSeal(str(tmp_path)))
    assert journal.keep(pending())
    assert "the-refresh-token" not in on_disk(tmp_path)
    (found,) = journal.load()
    assert found.record == pending().record


def test_the_only_copy_is_worth_more_than_the_seal(tmp_path: Path, ring: Ring) -> None:
    ring.is_locked = True
    journal = FileJournal(str(tmp_path / "spill"), "p", seal=KeyringSeal(str(tmp_path)))
    assert journal.keep(pending())
    (found,) = journal.load()
    assert found.record == pending().record
    (file,) = (tmp_path / "spill").glob("*.json")
    assert json.loads(file.read_text())["record"] == pending().record
