"""What a machine may lack: locks, a home, clean text. Each named after the report that it came
from."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from lab.patience import within
from lab.support import Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.errors import ConfigError, StoreError, StoreUnreachableError
from nightporter.machine import files, places
from nightporter.machine.access_cache import AccessCache, Directory
from nightporter.session.port import ABSENT
from nightporter.stores.local import LocalStore
from nightporter.stores.local import open_store as open_local


@pytest.fixture
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose flock says that errno."""

    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


@pytest.mark.parametrize("lockless", NO_LOCKS, indirect=True)
def test_a_cache_on_a_file_system_without_locks_costs_no_time(
    lockless: None, tmp_path: Path
) -> None:
    """SwissDataScienceCenter/renku-python#3669, wolph/portalocker#92: an NFS home without a lock
    manager was read as "somebody else holds it", and every ask waited its whole time."""
    notes = Directory((str(tmp_path / "cache"),))
    cache = AccessCache("p", "k" * 32, tokens=notes, notes=notes)
    with within(1), cache.lock(time.monotonic() + 60) as won:
        assert won


@pytest.mark.parametrize("lockless", NO_LOCKS, indirect=True)
def test_a_local_store_without_locks_says_so(lockless: None, tmp_path: Path) -> None:
    """The embedded store can't do without: it names the file and the way out, at once."""
    store = LocalStore(str(tmp_path / "store"))
    with pytest.raises(StoreError, match="offers no locks") as caught:
        store.write("p", {"n": "1"}, ABSENT, None, timeout_s=5)
    assert not isinstance(caught.value, StoreUnreachableError)
    assert "local disk" in caught.value.hint


def test_a_lock_that_is_taken_is_waited_for(tmp_path: Path) -> None:
    """EWOULDBLOCK alone means that somebody else holds it."""
    path = str(tmp_path / "a.lock")
    with files.open_lock(path, deadline=0) as first:
        assert first
        with files.open_lock(path, deadline=time.monotonic() + 0.1) as second:
            assert not second


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenShift's arbitrary user id: no HOME, no passwd entry."""

    def nothing(*_args: Any, **_kwargs: Any) -> str:
        raise RuntimeError("Could not determine home directory")

    for name in ("user_config_dir", "user_data_dir", "user_cache_dir"):
        monkeypatch.setattr(platformdirs, name, nothing)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


def test_without_a_home_there_is_memory_only(homeless: None) -> None:
    """ecederstrand/exchangelib#448, fedora-infra/koschei#282, openshift/oc#474."""
    assert places.cache_directories({}) == ()
    cache = Directory(places.cache_directories({}))
    cache.keep("a", b"1")
    assert cache.load("a") == b"1"
    assert os.path.isabs(places.spill_directory({}))


def test_without_a_home_the_variables_are_named(homeless: None) -> None:
    """Exit 2, and never a path of the working directory."""
    with pytest.raises(ConfigError) as caught:
        places.config_file()
    assert "NIGHTPORTER_CONFIG_TOML" in caught.value.hint
    with pytest.raises(ConfigError, match="~"):
        places.expand("~/.vault-token", "token_file")
    with pytest.raises(ConfigError, match="no place"):
        open_local({}, {}, print, places.data_directory())


def test_a_container_without_a_home_works_by_variables_alone(
    empty_home: Home, vendor: Vendor, tmp_path: Path
) -> None:
    """`env -i` with the configuration as text and a store with a path: a token, and no defect."""
    shelf = tmp_path / "store"
    stores = f'[stores.s]\ntype = "local"\npath = "{shelf}"'
    config = pitchpoint_config(vendor.address, stores=stores)
    del empty_home.environment["HOME"]
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    for arguments, stdin in (
        (("credentials", "set"), members),
        (("token",), None),
        (("status",), None),
        (("doctor",), None),
        (("rotate",), None),
    ):
        done = empty_home.run(*arguments, stdin=stdin, NIGHTPORTER_CONFIG_TOML=config)
        assert done.code == 0, (arguments, done.err)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_skipped_wherever_text_is_read(
    encoding: str, empty_home: Home, vendor: Vendor
) -> None:
    """earendil-works/pi#7499, forcedotcom/cli#2913, OctopusDeploy/Issues#10188: Windows writes
    one."""
    empty_home.config_file.parent.mkdir(parents=True)
    empty_home.config_file.write_text(pitchpoint_config(vendor.address), encoding=encoding)
    members = json.dumps({"username": "svc-acme", "password": "correct-horse"})
    given = members.encode(encoding).decode()
    assert empty_home.run("credentials", "set", stdin=given).code == 0
    assert empty_home.run("token").code == 0
