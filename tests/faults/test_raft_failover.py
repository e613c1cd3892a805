"""A real raft cluster of three, whose leader dies while sessions are exchanged (hvac/hvac#102, and
failover in general). Nobody's session may end by it, and nobody has to do anything."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.patience import patience, until, within
from lab.servers.raft import Cluster, Node, open_cluster
from lab.support import Done, Home
from lab.worlds.fleet import Fleet, Shared, finish, rotating_fleet, signing_in_fleet
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_cluster(tmp_path_factory.mktemp("raft")) as found:
        yield found


@pytest.fixture
def cluster(members: Cluster) -> Cluster:
    """The cluster, whole again."""
    for node in members.nodes:
        if node.process is None:
            members.restart(node)
    members.wait_until_whole()
    return members


@pytest.fixture
def shared(cluster: Cluster) -> Shared:
    mount = cluster.mount()
    toml = f'[stores.shared]\ntype = "vault"\nmount = "{mount}"\n'
    environment = {"VAULT_ADDR": cluster.leader().address, "VAULT_TOKEN": cluster.token}

    def read(path: str) -> object:
        return cluster.read(f"{mount}/data/{path}")["data"]["data"]

    return Shared("vault", toml, environment, read)


def machines(fleet: Fleet, cluster: Cluster) -> list[tuple[Node, Home]]:
    """One machine for each member: who talks to a standby is handed on, or reads what is old."""
    return [
        (node, fleet.machine(VAULT_ADDR=node.address, MACHINE=node.name)) for node in cluster.nodes
    ]


def is_served(fleet: Fleet, home: Home) -> bool:
    """By an exchange, which puts back first what was kept; a token of the cache reads nothing."""
    return fleet.run(home, force=True).code == 0


def has_kept_a_result(answers: list[Done]) -> bool:
    return any("result-spilled" in answer.err for answer in answers)


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8])
def test_no_session_ends_with_the_leader(
    after_s: float, cluster: Cluster, shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """Tokens that rotate, an issuer that revokes the family at a reuse, forced refreshes from all
    machines at once: whoever talks to a living member gets a token, in the time of an election.

    Where the holder has heard its answer and can't save it, since it knows no member but the dead
    one, the others wait for it until its claim has lapsed; its machine puts the result back.
    """
    vendor.world.latency_s = 0.2
    fleet = rotating_fleet(shared, vendor, tmp_path)
    hosts = machines(fleet, cluster)
    limit_s = min(patience(20), 40.0)  # a claim of 64 s is not over when the leader is back
    for _ in range(3):
        leader = cluster.leader()
        asks = [
            (node, fleet.start(home, force=True, TIMEOUT=f"{limit_s:.0f}"))
            for node, home in hosts
            for _ in "ab"
        ]
        time.sleep(after_s)
        leader.kill()
        done = [(node, finish(process)) for node, process in asks]
        cut_off = [answer for node, answer in done if node is leader]
        codes = {0, 6} if has_kept_a_result(cut_off) else {0}  # 6: the claim was not over yet
        failed = [
            answer.err for node, answer in done if node is not leader and answer.code not in codes
        ]
        assert failed == [], "\n".join(failed)
        cluster.restart(leader)
        (home,) = (home for node, home in hosts if node is leader)
        until(functools.partial(is_served, fleet, home))
        cluster.wait_until_whole()
        assert fleet.is_alive(), "the family was revoked"
    for _, home in hosts:
        assert fleet.run(home, force=True).code == 0
    assert fleet.is_alive()


def test_one_sign_in_through_a_failover(
    cluster: Cluster, shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """The leader dies between the claim and the save: one attempt more at most, no lock-out."""
    vendor.world.latency_s = 1.5
    fleet = signing_in_fleet(shared, vendor, tmp_path)
    leader = cluster.leader()
    hosts = [(node, home) for node, home in machines(fleet, cluster) if node is not leader]
    asks = [fleet.start(home, TIMEOUT=f"{patience(60):.0f}") for _, home in hosts]
    time.sleep(1.0)
    leader.kill()
    done = [finish(process) for process in asks]
    assert [answer.code for answer in done] == [0, 0], [answer.err for answer in done]
    assert vendor.count("sign-in") <= 2
    cluster.restart(leader)


def test_without_a_majority_nothing_is_sent_and_all_goes_on_afterwards(
    cluster: Cluster, shared: Shared, vendor: Vendor, tmp_path: Path
) -> None:
    """The survivor of three can't write: exit 5 in the time given, and no token is used up."""
    fleet = rotating_fleet(shared, vendor, tmp_path)
    survivor, *others = cluster.nodes
    home = fleet.machine(VAULT_ADDR=survivor.address)
    cluster.wait_until_read(survivor, f"{cluster.mounts[-1]}/data/prod/acme/refresh-token")
    for node in others:
        node.kill()
    time.sleep(1.0)
    with within(12):
        done = home.run("--timeout", "6", "token", "acme")
    assert done.code == 5, done.err
    assert vendor.count("refresh") == 0
    for node in others:
        cluster.restart(node)
    cluster.wait_until_whole()
    time.sleep(5.0)  # for so long the failure is remembered
    assert home.run("token", "acme").code == 0
    assert fleet.is_alive()
