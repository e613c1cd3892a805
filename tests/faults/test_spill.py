"""The store is cut off between reply and save: the result is kept, shown, and consumed by the next
run."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.support import OpenBao
from lab.worlds.fleet import Shared, open_shared, rotating_fleet, signing_in_fleet
from lab.worlds.vendor import Vendor


@pytest.fixture
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    with open_shared("local", request, tmp_path) as found:
        yield found


def test_spilled_shown_and_consumed(local: Shared, vendor: Vendor, tmp_path: Path) -> None:
    fleet = rotating_fleet(local, vendor, tmp_path)
    store, away = tmp_path / "shared-store", tmp_path / "away"
    home = fleet.machine()
    done = fleet.run(home, fault=f"answered:mv {store} {away} && touch {store}")
    assert done.code == 5, done.err
    assert "result-spilled" in done.err
    assert done.out == ""  # nothing is handed out that is not in the store
    kept = list((home.data / "spill").iterdir())
    assert [file.stat().st_mode & 0o777 for file in kept] == [0o600]
    store.unlink()
    away.rename(store)
    assert not fleet.is_alive()
    assert "waits here for the store" in home.run("status").out
    assert json.loads(home.run("status", "-o", "json").out)[0]["spilled_at"]
    assert home.run("token", "acme").code == 0
    assert fleet.is_alive()
    assert vendor.count("reuse") == 0
    assert list((home.data / "spill").iterdir()) == []


def test_a_right_that_is_taken_away_in_between(
    openbao: OpenBao, request: pytest.FixtureRequest, vendor: Vendor, tmp_path: Path
) -> None:
    with open_shared("vault", request, tmp_path) as shared:
        fleet = rotating_fleet(shared, vendor, tmp_path)
        policy = 'path "*" { capabilities = ["create", "read", "update", "patch"] }'
        token = openbao.token_with(policy)
        policies = openbao.call("GET", "auth/token/lookup-self", token=token)["data"]["policies"]
        name = next(found for found in policies if found != "default")
        code = (
            "import json, sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1] +"
            " '/v1/sys/policies/acl/' + sys.argv[3], method='PUT', data=json.dumps({'policy':"
            " sys.argv[4]}).encode(), headers={'X-Vault-Token': sys.argv[2]}))"
        )
        empty = 'path "nothing" { capabilities = ["read"] }'
        cut = shlex.join([sys.executable, "-c", code, openbao.address, openbao.token, name, empty])
        home = fleet.machine(VAULT_TOKEN=token)
        done = fleet.run(home, fault=f"answered:{cut}")
        assert done.code == 5, done.err
        assert "result-spilled" in done.err
        openbao.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        assert home.run("token", "acme").code == 0
        assert fleet.is_alive()
        assert vendor.count("reuse") == 0


def test_a_kept_result_never_overwrites_a_newer_session(
    local: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    fleet = signing_in_fleet(local, vendor, tmp_path, share_access_token=True)
    store, away = tmp_path / "shared-store", tmp_path / "away"
    home = fleet.machine()
    assert fleet.run(home, fault=f"answered:mv {store} {away} && touch {store}").code == 5
    store.unlink()
    away.rename(store)
    other = fleet.run(fleet.machine(), LEAP="0.1")
    assert other.code == 0, other.err
    newest = fleet.record()
    assert fleet.run(home).code == 0
    assert fleet.record() == newest
    assert list((home.data / "spill").iterdir()) == []
