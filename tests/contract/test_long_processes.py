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
from nightporter.core.model import Secret, Token
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


def test_authorization_can_be_pickled_and_copied() -> None:
    """googleapis/google-auth-library-python#1478, googleapis/python-storage#1012: workers get a
    session with it. Tokens, locks and connections don't travel."""
    porter = nightporter.Porter(CONFIG)
    token = Token(Secret("hunter2"), token_type="Bearer", expires_at_s=2**40, obtained_at_s=0)
    porter.warm[None] = (float("inf"), float("inf"), token)
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
