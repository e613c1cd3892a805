"""What things cost, against something run in the same breath.

Each benchmark interleaves its two sides round by round and prints the median of each and their ratio. Milliseconds are
this machine's; ratios travel.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import Vendor
from fleet import open_shared, signing_in_fleet
from nightporter import Porter, rotation
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World
from nightporter.stores import ABSENT
from nightporter.stores.local import LocalStore
from storm import run_storm
from support import AWS_VARIABLES, Home, OpenBao, open_moto, open_openbao, pitchpoint_config

USER, PASSWORD = "svc-acme", "correct-horse"

BY_HAND_VAULT = """
import os, sys
import hvac, requests
client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"], timeout=10)
record = client.secrets.kv.v2.read_secret_version(sys.argv[1], mount_point=sys.argv[2], raise_on_deleted_version=False)
url = sys.argv[3] + "/user-management-services-ws/oauth2/002/refreshIdToken"
reply = requests.post(url, json={"refresh_token": record["data"]["data"]["refresh_token"]}, timeout=10)
print(reply.json()["access_token"])
"""


def paired(name: str, ours: Callable[[], None], theirs: Callable[[], None], against: str, rounds: int) -> float:
    """Runs both sides in turn and prints medians and ratio."""
    mine, other = [], []
    for side in (ours, theirs):
        side()  # caches of the file system and of the interpreter are warm for both
    for _ in range(rounds):
        for side, times in ((ours, mine), (theirs, other)):
            began = time.perf_counter()
            side()
            times.append(time.perf_counter() - began)
    ratio = statistics.median(mine) / statistics.median(other)
    print(
        f"{name:<28} {statistics.median(mine) * 1000:9.2f} ms   {against:<34}"
        f" {statistics.median(other) * 1000:9.2f} ms   ratio {ratio:.2f}"
    )
    return ratio


def run_quietly(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")


def cold(rounds: int) -> None:
    """A process that reads the session from Vault and refreshes, against the same two calls written by hand."""
    with tempfile.TemporaryDirectory() as room, open_openbao() as server, open_sandbox(_world()) as vendor:
        home, mount = _vault_home(Path(room), server, vendor)
        script = Path(room) / "by_hand.py"
        script.write_text(BY_HAND_VAULT)
        by_hand = [sys.executable, str(script), "prod/pitchpoint/refresh-token", mount, vendor]
        python = [sys.executable, "-m", "nightporter", "token"]
        paired(
            "cold, Vault",
            lambda: run_quietly(python, {**home.environment, "NIGHTPORTER_CACHE": "off"}),
            lambda: run_quietly(by_hand, home.environment),
            "hvac + requests by hand",
            rounds,
        )


def _world() -> World:
    return World(users={USER: PASSWORD})


def _vault_home(room: Path, server: OpenBao, vendor: str) -> tuple[Home, str]:
    mount = server.mount()
    server.put(mount, "prod/pitchpoint", {"username": USER, "password": PASSWORD})
    home = Home(room / "home")
    home.configure(
        pitchpoint_config(vendor, stores=f'[stores.v]\ntype = "vault"\nmount = "{mount}"', more=f'username = "{USER}"')
    )
    home.environment |= {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
    home.environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if home.run("token").code:
        raise SystemExit("the first sign-in failed")
    return home, mount


def warm(rounds: int) -> None:
    """`get_token` in a process that holds the token, against a dict and a clock."""
    with tempfile.TemporaryDirectory() as room, open_sandbox(_world()) as vendor:
        store = LocalStore(f"{room}/store")
        store.write("prod/pitchpoint", {"username": USER, "password": PASSWORD}, ABSENT, None, timeout_s=5)
        porter = Porter(pitchpoint_config(vendor, stores=f'[stores.l]\ntype = "local"\npath = "{room}/store"'))
        porter.get_token("pitchpoint")
        held = {"pitchpoint": (time.time() + 1e6, "token")}

        def by_hand() -> str | None:
            entry = held.get("pitchpoint")
            return entry[1] if entry and entry[0] > time.time() else None

        for threads in (1, 8):
            mine, other = [], []
            for _ in range(rounds):
                mine.append(_ns_per_call(lambda: porter.get_token("pitchpoint"), threads))
                other.append(_ns_per_call(by_hand, threads))
            ours, theirs = statistics.median(mine), statistics.median(other)
            print(
                f"{f'warm get_token, {threads} thread(s)':<28} {ours:9.0f} ns   {'dict + clock':<34}"
                f" {theirs:9.0f} ns   ratio {ours / theirs:.2f}"
            )


def _ns_per_call(call: Callable[[], object], threads: int, calls: int = 100_000) -> float:
    """Wall time a call, over all threads together."""
    each = calls // threads

    def work() -> None:
        timeit.timeit(call, number=each)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - began) / (each * threads) * 1e9


def window(rounds: int) -> None:
    """The one window: from the vendor's answer to the store's word that it is written, under a claim."""
    with tempfile.TemporaryDirectory() as room, open_openbao() as server, open_sandbox(_world()) as vendor:
        home, _mount = _vault_home(Path(room), server, vendor)
        at: dict[str, float] = {}
        widths = []
        os.environ |= {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token, "NIGHTPORTER_CACHE": "off"}
        text = home.config_file.read_text() + "share_access_token = true\n"

        def emit(event: str, **_facts: object) -> None:
            at[event] = time.perf_counter()

        for _ in range(rounds):
            Porter(text, emit=emit).get_token("pitchpoint", force_refresh=True)
            widths.append((at["saved"] - at["answered"]) * 1000)
        print(
            f"{'the one window, Vault':<28} {statistics.median(widths):9.2f} ms   answer to saved, {rounds} exchanges"
        )


class _Servers:
    """The servers that `fleet.open_shared` asks pytest for, without pytest."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def getfixturevalue(self, name: str) -> object:
        if name == "aws_environment":
            os.environ.update(AWS_VARIABLES)
            return None
        return self._stack.enter_context(open_openbao() if name == "openbao" else open_moto())


def storm(consumers: int) -> None:
    """Cold processes at once, each in a home and a mount namespace of its own, on both stores."""
    for kind in ("vault", "moto"):
        world = _world()
        world.latency_s = 0.1
        with contextlib.ExitStack() as stack:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            vendor = Vendor(stack.enter_context(open_sandbox(world)), world)
            shared = stack.enter_context(open_shared(kind, _Servers(stack), room))
            fleet = signing_in_fleet(shared, vendor, room, share_access_token=True)
            outcome = run_storm(fleet, consumers)
            alone = run_storm(fleet, 1, kills=0)
        said = [line.split()[1] for done in outcome.done for line in done.err.splitlines() if " " in line]
        reads = said.count("read")
        writes = sum(said.count(event) for event in ("claim", "take-over", "save"))
        ideal_s = alone.seconds * consumers / (os.cpu_count() or 1)
        print(
            f"storm, {kind}: {outcome.count(0)} of {consumers} served; {vendor.count('sign-in')} sign-in(s) and"
            f" {vendor.count('refresh')} refresh(es) in all\n"
            f"  a consumer: {reads / consumers:.2f} reads and {writes / consumers:.3f} writes at the store\n"
            f"  last served after {outcome.seconds:.1f} s; ideal {ideal_s:.1f} s"
            f" (one alone takes {alone.seconds:.2f} s, {os.cpu_count()} cores)"
        )


def rotate(rounds: int) -> None:
    """The scheduled job with few and with many workers."""
    for jobs in (8, 64):
        _rotate(min(rounds, 2), profiles=1000, jobs=jobs)


def _rotate(rounds: int, *, profiles: int, jobs: int) -> None:
    """The scheduled job over many profiles, at an issuer that answers in 100 ms and fails 2 % of the requests."""
    latency_s = 0.1
    with tempfile.TemporaryDirectory() as room, _sandbox_apart(latency_s, 0.02) as vendor:
        for number in range(rounds):
            store = LocalStore(f"{room}/store-{number}")
            store.write("prod/pitchpoint", {"username": USER, "password": PASSWORD}, ABSENT, None, timeout_s=5)
            text = f'[stores.l]\ntype = "local"\npath = "{room}/store-{number}"\n' + "".join(
                f'[profiles.p{number}]\nissuer = "pitchpoint"\ncredentials = "prod/pitchpoint"\nusername = "{USER}"\n'
                f'refresh_token = "prod/p{number}/rt"\nbase_url = "{vendor}"\n'
                for number in range(profiles)
            )
            os.environ |= {"NIGHTPORTER_CACHE": "off"}
            with Porter(text, is_library=False, notify=lambda _text: None) as porter:
                brokers = [porter.broker_for(f"p{number}") for number in range(profiles)]
                before, halfway = _resident_mib(), 0.0
                began = time.perf_counter()
                reports = []
                for report in rotation.rotate_all(brokers, jobs=jobs, timeout_s=30):
                    reports.append(report)
                    halfway = _resident_mib() if len(reports) == profiles // 2 else halfway
                rate = profiles / (time.perf_counter() - began)
            failed = sum(report.error is not None for report in reports)
            ideal = jobs / latency_s
            print(
                f"rotate: {profiles} profiles, {jobs} jobs: {rate:.0f} a second, ideal {ideal:.0f}"
                f" ({rate / ideal:.0%}); {failed} failed; memory {before:.0f} MiB before, {halfway:.0f} half way,"
                f" {_resident_mib():.0f} after"
            )


@contextlib.contextmanager
def _sandbox_apart(latency_s: float, failing: float) -> Iterator[str]:
    """A sandbox in a process of its own, so that it shares no interpreter lock with what is measured."""
    code = (
        "import random, sys, time\n"
        "from nightporter.simulator.server import open_sandbox\n"
        "from nightporter.simulator.world import World\n"
        f"world = World(users={{{USER!r}: {PASSWORD!r}}}, latency_s={latency_s})\n"
        "busy = {'kind': 'status', 'status': 503}\n"
        f"world.spontaneous = lambda _call: busy if random.random() < {failing} else None\n"
        "with open_sandbox(world) as address:\n"
        "    print(address, flush=True)\n"
        "    time.sleep(3600)\n"
    )
    apart = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert apart.stdout is not None
        yield apart.stdout.readline().strip()
    finally:
        apart.kill()
        apart.wait()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1048576


BENCHMARKS: dict[str, Callable[[int], None]] = {
    "cold": cold,
    "warm": warm,
    "window": window,
    "storm": storm,
    "rotate": rotate,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=15, help="how often each side is run")
    parser.add_argument("--consumers", type=int, default=1000, help="how many processes storm")
    arguments = parser.parse_args()
    for name in arguments.names or BENCHMARKS:
        BENCHMARKS[name](arguments.consumers if name == "storm" else arguments.rounds)


if __name__ == "__main__":
    main()
