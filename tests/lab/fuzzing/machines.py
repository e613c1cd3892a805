"""Targets that need something around them: a directory, a server without a socket, a store without
a wire."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import requests
import urllib3

from nightporter.cli import npm
from nightporter.cli.setups import contexts as kubectl_contexts
from nightporter.cli.setups.plan import Machine
from nightporter.core.errors import HostNotAllowedError
from nightporter.machine import reply as front_door
from nightporter.machine.access_cache import AccessCache, Memory
from nightporter.machine.client_input import read_spelled
from nightporter.machine.helper_failures import NAME as FAILURES
from nightporter.machine.helper_failures import HelperFailures
from nightporter.machine.journal import FileJournal
from nightporter.operations.agent import Handler, Server
from nightporter.stores.local import LocalStore
from nightporter.stores.secrets_manager import _date_of, _generation, _value_of
from nightporter.stores.vault import VaultStore


@functools.cache
def room() -> Path:
    """A directory of this process, for targets that read files."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-"))
    path.chmod(0o700)
    return path


def written(name: str, content: bytes) -> Path:
    """A private file with the content in it."""
    path = room() / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    return path


# The agent.


class _Porter:
    """Holds no profile: whatever gets so far is told that there is none."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(profiles={}, source="x")


def agent_http(content: bytes) -> None:
    """A request as bytes: an answer of HTTP, or silence for what is no request at all."""
    counts = SimpleNamespace(read=lambda: ({}, None))
    server = SimpleNamespace(proof="0123456789abcdef", porter=_Porter(), counts=counts)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        theirs.sendall(content[:65_536])
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):  # which the server's handle_error takes
            Handler(ours, ("", 0), cast(Server, server))
        ours.close()
        with contextlib.suppress(ConnectionResetError):
            said = theirs.recv(65_536)
            # HTTP/0.9 has no head; whatever else is refused has one.
            bodies = (b"HTTP/", b'{"error"', b"<!DOCTYPE HTML>")
            assert not said or said.startswith(bodies), said[:80]


# The front door's twin, and what the door hands on.


def spelled(content: bytes) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, content[:4096])
        os.close(writing)
        read_spelled(reading)
    finally:
        os.close(reading)


def door(content: bytes) -> None:
    """A reply file of any content answers nothing but the ask, the files and the time it names."""
    home = str(room())
    ask = front_door.Ask(["token", "p"], {"HOME": home})
    written(f".cache/nightporter/{ask.file_name}", content)
    found = front_door.answer(ask, time.time())
    assert found is None or content.startswith(front_door.MAGIC.encode())


# Stores.


def secrets_manager(content: bytes) -> None:
    """A version's text, and the head of a reply."""
    text = content.decode("utf-8", "replace")
    value = _value_of({"SecretString": text})
    if value is not None:
        _generation(value)
    _date_of({"ResponseMetadata": {"HTTPHeaders": {"date": text}}})


class _Canned(requests.adapters.BaseAdapter):
    """Answers every request with the same."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        status, _, body = content.partition(b"\n")
        is_status = status.isdigit() and len(status) == 3
        self._status, self._body = (int(status), body) if is_status else (200, content)

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
        raw = urllib3.HTTPResponse(
            body=io.BytesIO(self._body),
            headers={"Content-Type": "application/json"},
            status=self._status,
            preload_content=False,
        )
        return requests.adapters.HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass


def vault(content: bytes) -> None:
    """Vault's answer to a read."""
    store = VaultStore(
        {"address": "http://127.0.0.1:9", "mount": "m"}, {"VAULT_TOKEN": "t", "HOME": "/nowhere"}
    )
    store._open().session.mount("http://", _Canned(content))
    try:
        store.read("p", timeout_s=5)
    finally:
        store.close()


def local_store(content: bytes) -> None:
    written("store/p.json", content)
    LocalStore(str(room() / "store")).read("p", timeout_s=5)


# Disks.


def journal(content: bytes) -> None:
    """A result that waits, and the states that were seen."""
    disk = FileJournal(str(room() / "data/spill"), "p")
    written(f"data/spill/{disk._stem}.0.json", content)
    written(f"data/seen/{disk._stem}.json", content)
    for pending in disk.load():
        assert isinstance(pending.record, Mapping)
    assert disk.highest("seeded") >= 0
    disk.note("other", 1)


def access_cache(content: bytes) -> None:
    """Every file of a cached token: the token, what was refused, a failure, an early try."""
    place = Memory()
    found = AccessCache(
        "p", "k", tokens=place, notes=place, boot_clock=lambda: 5.0, boot_mark=lambda: "b"
    )
    for name in ("p.k.token", "p.refused", "p.k.failure", "p.k.tried"):
        place.keep(name, content)
    token = found.load()
    if token is not None:
        assert token.value.isprintable()
        times = (token.obtained_at_s, token.exchanged_at_s, token.life_s, token.ends_s or 0.0)
        assert token.expires_at
        assert all(map(math.isfinite, times))
    found.is_refused("t")
    found.failure()
    found.tried_early()
    found.refuse("t")
    assert found.is_refused("t")


def helper_failures(content: bytes) -> None:
    place = Memory()
    place.keep(FAILURES, content)
    notes = HelperFailures(place)
    notes.load(time.time())
    notes.drop("git", "p", time.time())


# Setups.


class _Kubectl(Machine):
    """A machine whose kubectl prints the content, and whose notes are the content."""

    def __init__(self, content: bytes) -> None:
        super().__init__({}, str(room()), str(room()))
        self._text = content.decode("utf-8", "replace")

    def ask(self, *_argv: str) -> str | None:
        return self._text

    def read(self, _path: str) -> str:
        return self._text


def contexts(content: bytes) -> None:
    machine = _Kubectl(content)
    kubectl_contexts.note_users(machine, "kubectl", "p")
    kubectl_contexts.undo(machine, "kubectl", "p")


def npm_settings(content: bytes) -> None:
    """What `npm config list --json` printed."""
    with mock.patch.object(npm, "_ask", return_value=content.decode("utf-8", "replace")):
        known = npm._settings({})
        npm._authorities(known, {})
    pins = npm.pinned(known, directory="/d", with_scripts=False)
    assert all(isinstance(value, str) for value in pins.values())


def project(content: bytes) -> None:
    """A checkout's files before npm runs: refused, or not."""
    for name in npm.PROJECT_FILES:
        written(f"checkout/{name}", content)
    with contextlib.suppress(HostNotAllowedError):
        npm.check_project(str(room() / "checkout"), ["npm.example/r/"])
