"""`sandbox`: what its options make of the simulated world."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nightporter.cli.app import cli
from nightporter.simulator import server
from nightporter.simulator.world import World


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[World, dict[str, Any]]]:
    """The worlds that were opened, without a server; Ctrl-C comes at once."""
    found: list[tuple[World, dict[str, Any]]] = []

    @contextlib.contextmanager
    def open_sandbox(world: World, **more: Any) -> Iterator[str]:
        found.append((world, more))
        yield "http://127.0.0.1:4711"

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "open_sandbox", open_sandbox)
    monkeypatch.setattr("nightporter.cli.commands.sandbox.time.sleep", interrupted)
    return found


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["sandbox", *words])


def test_its_address_is_its_output_and_ctrl_c_ends_it_well(
    opened: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A script reads the address from standard output; the rest is for people."""
    # click 8.1's runner mixes both
    assert cli.main(["sandbox", "--port", "4711"], standalone_mode=False) in (None, 0)
    said = capsys.readouterr()
    assert said.out == "http://127.0.0.1:4711\n"
    assert 'set base_url = "http://127.0.0.1:4711"' in said.err
    ((_world, more),) = opened
    assert more["port"] == 4711


def test_the_user_and_the_lives_of_tokens_are_as_said(opened: list[Any]) -> None:
    run("--username", "u", "--password", "p", "--expires-in", "60")
    ((world, _more),) = opened
    assert (world.users, world.expires_in) == ({"u": "p"}, 60)


def test_faults_are_planted_in_order(opened: list[Any]) -> None:
    run("--fault", "busy", "--fault", "status-503:2", "--fault", "lost:3")
    ((world, _more),) = opened
    assert list(world.faults) == [
        {"kind": "busy", "times": 1},
        {"kind": "status", "status": 503, "times": 2},
        {"kind": "lost", "times": 3},
    ]


@pytest.mark.parametrize("fault", ["busy:often", "busy:-1", "busy:1:2"])
def test_a_fault_that_is_spelled_otherwise_is_a_usage_error(opened: list[Any], fault: str) -> None:
    done = run("--fault", fault)
    assert done.exit_code == 2
    assert "is not KIND or KIND:TIMES" in done.output
    assert opened == []
