"""What every store promises: the suite that we ship, run against each of our own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lab.patience import patience
from lab.servers.strict_aws import StrictAws, open_strict_aws
from lab.support import OpenBao
from nightporter.session.port import Store
from nightporter.stores import aws
from nightporter.stores.local import LocalStore
from nightporter.stores.memory import MemoryStore
from nightporter.stores.secrets_manager import SecretsManagerStore
from nightporter.stores.vault import VaultStore
from nightporter.testing import StoreContract


class _Shared(StoreContract):
    """On a machine that is shared, every limit follows its load."""

    @pytest.fixture(autouse=True)
    def _patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timeout_s = patience(StoreContract.timeout_s)
        monkeypatch.setattr(aws, "READ_S", patience(aws.READ_S))


class TestMemory(_Shared):
    @pytest.fixture(autouse=True)
    def _contents(self) -> None:
        self.contents: dict[str, Any] = {}

    def open_store(self) -> Store:
        return MemoryStore(self.contents)


class TestLocal(_Shared):
    writers = 32

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = str(tmp_path / "store")

    def open_store(self) -> Store:
        return LocalStore(self.directory)


class TestVault(_Shared):
    writers = 32
    swept_after_s = 5.5  # the native deletion is at most 5 s after the expiry

    @pytest.fixture(autouse=True)
    def _mount(self, openbao: OpenBao) -> Iterator[None]:
        self.mount = openbao.mount()
        openbao.put(self.mount, "ready", {"yes": "1"})
        self.environment = {"VAULT_TOKEN": openbao.token, "VAULT_ADDR": openbao.address}
        self.opened: list[VaultStore] = []
        yield
        for store in self.opened:
            store.close()

    def open_store(self) -> Store:
        store = VaultStore({"mount": self.mount, "auth": {"method": "token"}}, self.environment)
        self.opened.append(store)
        return store


class _SecretsManager(_Shared):
    """Secrets Manager's names have fewer characters."""

    odd_paths: ClassVar[tuple[str, ...]] = ("a/..b/c", "UPPER/lower", "a+b@c=d")
    address: str

    @pytest.fixture(autouse=True)
    def _clients(self, aws_environment: None) -> Iterator[None]:
        self.opened: list[SecretsManagerStore] = []
        yield
        for store in self.opened:
            store.close()

    def open_store(self) -> Store:
        store = SecretsManagerStore({"endpoint_url": self.address})
        self.opened.append(store)
        return store


class TestMoto(_SecretsManager):
    writers = 32

    @pytest.fixture(autouse=True)
    def _moto(self, moto: str) -> None:
        self.address = moto


class TestStrictAws(_SecretsManager):
    writers = 32

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with open_strict_aws(StrictAws()) as self.address:
            yield


class TestSlowAws(_SecretsManager):
    """Each read is old for 0.3 s."""

    writers = 12

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with open_strict_aws(StrictAws(delay_s=0.3)) as self.address:
            yield

    def open_settled(self) -> Store:
        time.sleep(0.4)
        return self.open_store()
