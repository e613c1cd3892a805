"""What is told of a session, and what is not: one read, one write, nothing that fails who asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.still import NOW, World
from lab.support import free_port
from nightporter.client import alarms
from nightporter.core import incidents
from nightporter.core.errors import StoreBusyError, VersionConflictError
from nightporter.core.model import Claim, Identity, Notify, Refusal

REFUSED = Refusal(credentials_version="1", until=NOW + 99, count=1, error="e")
OTHER = Claim(holder="other/1/1", until=NOW + 16, nonce="n", life_s=16)


class Told:
    """Who is told, and whether it reaches them."""

    def __init__(self, *, is_reached: bool = True) -> None:
        self.said: list[Mapping[str, Any]] = []
        self.is_reached = is_reached

    def __call__(self, said: Mapping[str, Any]) -> bool:
        self.said.append(said)
        return self.is_reached

    @property
    def events(self) -> list[str]:
        return [str(said["event"]) for said in self.said]


def written(world: World) -> set[str]:
    """The incidents that the record says are told."""
    return set(world.kept().unknown[incidents.MEMBER])


def names(world: World) -> list[str]:
    return [event for event, _ in world.events if event != "read"]


def test_news_are_written_before_they_are_told_and_told_once() -> None:
    world, told = World(), Told()
    world.put(refused=REFUSED)
    alarms.look(world.session, told)
    assert told.events == ["refused"]
    assert written(world) == {"refused"}
    assert names(world) == ["notified"]
    alarms.look(world.session, told)
    assert told.events == ["refused"]


def test_nothing_and_another_s_are_not_told_of() -> None:
    """No record; a record of another identity; a record whose holder will write over it."""
    told = Told()
    world = World()
    alarms.look(world.session, told)
    stranger = Identity(issuer="elsewhere", token_endpoint="https://elsewhere.example/t")
    for members in ({"identity": stranger}, {"claim": OTHER}):
        world.put(refused=REFUSED, **members)
        before = dict(world.values)
        alarms.look(world.session, told)
        assert world.values == before
    assert told.said == []


def test_who_is_second_looks_again_and_tells_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another of the fleet has written first, and told it."""
    world, told = World(), Told()
    world.put(refused=REFUSED)
    write = world.write

    def be_second(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(world, "write", write)
        alarms.look(world.session, Told())  # the other
        raise VersionConflictError("another writer was first")

    monkeypatch.setattr(world, "write", be_second)
    alarms.look(world.session, told)
    assert told.said == []
    assert written(world) == {"refused"}


def test_who_is_second_again_and_again_gives_up() -> None:
    """What they wrote says what they told."""
    world, told = World(), Told()
    world.put(refused=REFUSED)
    world.write_errors = [VersionConflictError("another")] * 9
    alarms.look(world.session, told)
    assert told.said == []
    assert len(world.write_errors) == 9 - alarms.TRIES


def test_a_store_that_fails_meanwhile_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is there; that nobody was told is an event."""
    world, told = World(), Told()
    world.put(refused=REFUSED)

    def fail(*_args: Any, **_more: Any) -> Any:
        raise StoreBusyError("busy")

    monkeypatch.setattr(world, "write", fail)
    alarms.look(world.session, told)
    assert told.said == []
    assert world.events[-1] == ("notify-failed", {"profile": "p", "error": "store-throttled"})


def test_what_reaches_nobody_is_an_event() -> None:
    world, told = World(), Told(is_reached=False)
    world.put(refused=REFUSED)
    alarms.look(world.session, told)
    said = {"profile": "p", "incident": "refused", "what": "refused"}
    assert world.events[-1] == ("notify-failed", said)


@pytest.mark.parametrize(
    "command", [("false",), (f"{os.sep}no{os.sep}such-command",), (sys.executable, "-c", "exit(3)")]
)
def test_a_command_that_fails_has_told_nobody(command: tuple[str, ...]) -> None:
    world = World()
    world.put(refused=REFUSED)
    alarms.watcher(Notify(command=command), {})(world.session)
    assert names(world) == ["notify-failed"]


def test_a_command_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "TELL_S", 0.5)
    begun: list[subprocess.Popen[Any]] = []

    class Noted(subprocess.Popen[Any]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    world = World()
    world.put(refused=REFUSED)
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    alarms.watcher(Notify(command=command), {})(world.session)
    assert names(world) == ["notify-failed"]
    (process,) = begun
    assert process.poll() is not None


def test_a_webhook_that_nobody_answers_has_told_nobody(tmp_path: Path) -> None:
    """Though the command beside it was run."""
    world, told = World(), tmp_path / "told"
    world.put(refused=REFUSED)
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    notify = Notify(
        command=(sys.executable, "-c", code, str(told)),
        webhook=f"http://127.0.0.1:{free_port()}/hook",
    )
    alarms.watcher(notify, {})(world.session)
    assert names(world) == ["notify-failed"]
    assert json.loads(told.read_text())["event"] == "refused"
