"""What lives long: event loops, worker processes, caches. Each named after the report it came
from."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import time
from pathlib import Path

import pytest
import requests

import nightporter
from lab.patience import patience
from nightporter.client.broker import Broker
from nightporter.core.model import Secret, Token
from nightporter.machine import process
from nightporter.machine.access_cache import KEPT_TOKENS, AccessCache, Directory, sweep

CONFIG = '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\nbase_url = "http://127.0.0.1:1"\n'


def test_a_slow_issuer_leaves_the_loop_its_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """python/cpython#112169, mongodb/mongo-python-driver PR 2059: name look-ups of the whole
    program waited for the default executor."""
    porter = nightporter.Porter(CONFIG)
    monkeypatch.setattr(porter, "get_token", lambda *_args, **_options: time.sleep(1.0))

    async def run() -> float:
        asks = [asyncio.ensure_future(porter.aget_token()) for _ in range(64)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        took_s = time.monotonic() - began
        await asyncio.gather(*asks)
        return took_s

    assert asyncio.run(run()) < patience(0.7)
    porter.close()


class Clock:
    """Seconds since boot, which a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_held_token_is_looked_at_again_after_a_second_whatever_the_machine_did_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `Porter` and by the module, on the clock that a suspend doesn't stop."""
    clock, asks = Clock(), []
    monkeypatch.setattr(process, "boot_clock", lambda: clock)
    monkeypatch.setenv("NIGHTPORTER_CONFIG_TOML", CONFIG)
    monkeypatch.setattr(nightporter, "_porter", None)
    monkeypatch.setattr(nightporter, "_warm", {})
    token = Token(
        Secret("t"), token_type="Bearer", expires_at_s=2**40, obtained_at_s=0, ends_s=3700.0
    )

    def access_token(broker: Broker, **_options: object) -> Token:
        asks.append(clock.now)
        return token

    monkeypatch.setattr(Broker, "access_token", access_token)
    monkeypatch.setattr(Broker, "warm_left_s", lambda _self, token: token.ends_s - clock.now)
    for ask in (nightporter.default_porter().get_token, nightporter.get_token):
        nightporter.default_porter().warm.clear()
        clock.now = 100.0
        for moment in (100.0, 100.9, 101.1, 3699.5, 3699.9, 3700.1, 3700.1):
            clock.now = moment
            assert ask("p") is token
        assert asks == [100.0, 101.1, 3699.5, 3700.1, 3700.1]
        asks.clear()


def test_a_function_s_clock_is_the_wall_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen environment's own clocks may stand still for hours."""
    assert process.boot_clock() is not time.time
    assert process.boot_time() == pytest.approx(process.boot_clock()(), abs=5)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    assert process.boot_clock() is time.time


def test_authorization_can_be_pickled_and_copied() -> None:
    """googleapis/google-auth-library-python#1478, googleapis/python-storage#1012: workers get a
    session with it. Tokens, locks and connections don't travel."""
    porter = nightporter.Porter(CONFIG)
    token = Token(Secret("hunter2"), token_type="Bearer", expires_at_s=2**40, obtained_at_s=0)
    porter.warm[None] = (float("inf"), token)
    session = requests.Session()
    session.auth = nightporter.BearerAuth("p", porter=porter)
    content = pickle.dumps(session)
    assert b"hunter2" not in content
    for other in (pickle.loads(content), copy.deepcopy(session), copy.copy(session)):
        assert isinstance(other.auth, nightporter.BearerAuth)
    again = pickle.loads(pickle.dumps(porter))
    assert (again.config, again.warm) == (porter.config, {})
    session.close()


def test_the_default_porter_is_that_of_the_process_it_comes_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker's own configuration and cache count there."""
    monkeypatch.setenv("NIGHTPORTER_CONFIG_TOML", CONFIG)
    auth = pickle.loads(pickle.dumps(nightporter.BearerAuth("p")))
    assert auth._renewal._porter is nightporter.default_porter()


def test_tokens_of_dead_identities_are_swept(tmp_path: Path) -> None:
    """99designs/aws-vault#125: files of 25 changed identities stayed for ever."""
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o700)
    now = 1_784_037_600.0

    def cache(number: int) -> AccessCache:
        place = Directory((str(directory),))
        key = f"{number:032x}"
        return AccessCache("p", key, tokens=place, notes=place, clock=lambda: now)

    def token(ends: float) -> Token:
        return Token(
            Secret("t"), token_type="Bearer", expires_at_s=int(ends), obtained_at_s=now - 100
        )

    dead = KEPT_TOKENS + 5
    for number in range(dead):
        cache(number).keep(token(now + 1))
        (directory / f"p.{number:032x}.lock").touch()
    now += 2 * 86_400
    cache(1000).keep(token(now + 3600))
    left = sorted(path.name for path in directory.iterdir())
    assert left == [f"p.{1000:032x}.token"]
    assert json.loads((directory / left[0]).read_text())["access_token"] == "t"


def test_few_files_are_not_looked_through(tmp_path: Path) -> None:
    """The usual machine has a handful."""
    (tmp_path / "p.x.token").write_text("{}")
    assert sweep(str(tmp_path), time.time()) == 0
