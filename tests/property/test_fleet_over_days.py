"""Days of a fleet on the real session code with a stepped clock: minima, quotas, and a soak with
everything failing."""

from __future__ import annotations

import contextlib
import random
import secrets
import signal
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lab.patience import patience
from lab.servers.time_machine import open_time_machine
from lab.support import BIN, OpenBao, clean_environment, free_port
from lab.worlds.simulated import Clock, Direct, InMemory, profile_of, session_of
from nightporter.core.errors import NightporterError
from nightporter.core.model import Ask, Secret, Token
from nightporter.net.http import Transport
from nightporter.operations.rotate import Due, due
from nightporter.session.engine import obtain
from nightporter.session.repository import Session
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World
from nightporter.stores.vault import VaultStore

NEW_YORK = ZoneInfo("America/New_York")


def rotate(session: Session, clock: Clock) -> None:
    """One run of the job, as `rotation` decides it."""
    record = session.read(clock.now + 30).record
    until = session.issuer.refresh_expires_at(session.profile, int(clock.now))
    wanted = due(session.profile, record, now=clock.now, sign_in_lasts_until=until)
    if wanted is not Due.NOTHING:
        ask = Ask(deadline=clock.now + 30, is_forced=True, is_sign_in=wanted is Due.SIGN_IN)
        obtain(session, ask)


def job_times(first: datetime, days: int) -> list[float]:
    """04:10 and 16:10 New York."""
    dates = [(first + timedelta(days=day)).date() for day in range(days)]
    return [
        datetime(date.year, date.month, date.day, hour, 10, tzinfo=NEW_YORK).timestamp()
        for date in dates
        for hour in (4, 16)
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "first", [datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 10, 29, tzinfo=UTC)]
)
def test_1000_consumers_for_7_days(first: datetime, tmp_path: Path) -> None:
    """Sign-ins and refreshes at the possible minimum, the quota kept, no token served past its
    life."""
    picks, clock = random.Random(7), Clock(first.timestamp() + 12 * 3600)
    world = World(users={"svc": "pw"}, clock=clock)
    store = InMemory(clock)
    store.values["c"] = ({"username": "svc", "password": "pw"}, 1)
    profile = profile_of(
        'issuer = "pitchpoint"\ncredentials = "c"\nusername = "svc"\nshare_access_token = true\n'
    )
    sessions = [
        session_of(profile, store, Direct(world), clock, tmp_path, f"host-{n}") for n in range(1000)
    ]
    held: list[Token | None] = [None] * 1000
    begin, end = clock.now, clock.now + 7 * 86_400
    events = [(at, -1) for at in job_times(first, 9) if begin < at < end]
    for number in range(1000):
        at = begin + picks.uniform(0, 1800)
        while at < end:
            events.append((at, number))
            at += picks.uniform(900, 2700)
    served = 0
    for at, number in sorted(events):
        clock.now = max(clock.now, at)
        if number < 0:
            rotate(sessions[0], clock)
            continue
        token = held[number]
        if token is None or token.expires_at_s - clock.now <= 60:
            token = held[number] = obtain(
                sessions[number], Ask(deadline=clock.now + 30, min_ttl_s=60)
            )
        assert token.expires_at_s > clock.now
        assert world.is_live(token.value)
        served += 1
    days = 7
    print(
        f"{served} asks, {world.counts['sign-in']} sign-ins, {world.counts['refresh']} refreshes, ",
        end="",
    )
    print(f"{len(store.writes)} writes")
    assert world.counts["sign-in"] <= days + 1
    assert world.counts["refresh"] <= days * 86_400 / (3600 - 60) + days
    for start in store.writes:
        assert sum(start <= at < start + 86_400 for at in store.writes) <= 100


# The soak.


class Raft(OpenBao):
    """OpenBao with storage on disk, that can be killed, started again, sealed and unsealed."""

    def __init__(self, room: Path) -> None:
        self.port = free_port()
        super().__init__(address=f"http://127.0.0.1:{self.port}", token="")
        (room / "raft").mkdir()
        self.config = room / "bao.hcl"
        self.config.write_text(
            f'storage "raft" {{\n path = "{room / "raft"}"\n node_id = "n"\n performance_multiplier'
            f' = 1\n}}\nlistener "tcp" {{\n address = "127.0.0.1:{self.port}"\n tls_disable ='
            f' true\n}}\napi_addr = "{self.address}"\ncluster_addr ='
            f' "http://127.0.0.1:{free_port()}"\n'
        )
        self.key = ""
        self.process = self._start()
        found = self._until(
            lambda: self.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        )
        self.key, self.token = found["keys"][0], found["root_token"]
        self.unseal()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(BIN / "bao"), "server", f"-config={self.config}"],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _until(self, call: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + patience(30)
        while True:
            try:
                return call()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def unseal(self) -> None:
        self._until(lambda: self.call("PUT", "sys/unseal", {"key": self.key}))
        self._until(self._write_nothing)

    def _write_nothing(self) -> None:
        """Only an active node takes a write."""
        self.call("PUT", "sys/capabilities-self", {"path": "sys/mounts"})
        if not self.call("GET", "sys/leader")["is_self"]:
            raise OSError("not active yet")

    def restart(self) -> None:
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def raft(tmp_path: Path) -> Iterator[Raft]:
    server = Raft(tmp_path)
    try:
        yield server
    finally:
        server.stop()


FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 503, "body": {}},
    {"kind": "status", "status": 429, "body": {}, "headers": {"Retry-After": "1"}},
    {"kind": "status", "status": 500, "body": {}},
    {"kind": "html"},
    {"kind": "huge"},
    {"kind": "redirect"},
    {"kind": "hang", "seconds": 0.2},
    {"kind": "truncated"},
    {"kind": "close"},
    {"kind": "lost"},
]


@pytest.mark.long
@pytest.mark.parametrize("vendor", ["reused", "rotates with a grace"])
def test_a_soak_of_ten_days(raft: Raft, tmp_path: Path, vendor: str) -> None:
    """Consumers ask while the job runs, OpenBao is killed and sealed now and then, one request in
    ten fails.

    No wrong token is served, and no session is lost. An ask may fail while things are away; it must
    not stay so.
    """
    picks, clock = random.Random(11), Clock(time.time())
    world = World(users={"svc": "pw"}, clock=clock, grace_s=600)
    world.spontaneous = lambda _call: dict(picks.choice(FAULTS)) if picks.random() < 0.1 else None
    mount = f"kv-{secrets.token_hex(3)}"
    raft.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    served = failed = in_a_row = worst = 0
    with open_sandbox(world) as address, contextlib.ExitStack() as stack:
        if vendor == "reused":
            raft.put(mount, "c", {"username": "svc", "password": "pw"})
            text = (
                'issuer = "pitchpoint"\nusername = "svc"\nbase_url ='
                f' "{address}"\nshare_access_token = true\n'
            )
        else:
            raft.put(mount, "c", {"client_id": "demo-client", "client_secret": "demo-secret"})
            text = (
                'issuer = "oauth2"\ngrant = "refresh_token"\ntoken_endpoint ='
                f' "{address}/oauth2/token"\nrotation = "rotates"\ngrace = "600s"\n'
            )
        profile = profile_of(text + 'credentials = "c"\n')
        server = stack.enter_context(open_time_machine(raft.address, clock))
        sessions = []
        for number in range(4):
            environment = {"VAULT_ADDR": server, "VAULT_TOKEN": raft.token}
            store = VaultStore({"mount": mount}, environment, clock=clock)
            stack.callback(store.close)
            sender = Transport(profile, {})
            stack.callback(sender.close)
            sessions.append(session_of(profile, store, sender, clock, tmp_path, f"host-{number}"))
        if vendor != "reused":
            seed = Secret(world.new_refresh_token())
            sessions[0].store_login(
                seed, issued_at=int(clock()), client=None, issued=None, deadline=clock() + 30
            )
        end, step = clock.now + 10 * 86_400, 0
        while clock.now < end:
            step += 1
            clock.now += picks.uniform(300, 1500)
            trouble = picks.random()
            if trouble < 0.02:
                raft.call("PUT", "sys/seal", {})
            elif trouble < 0.03:
                raft.restart()
            try:
                session = picks.choice(sessions)
                if step % 36 == 0:
                    rotate(session, clock)
                token = obtain(
                    session,
                    Ask(deadline=clock.now + 30, min_ttl_s=60, is_forced=picks.random() < 0.3),
                )
            except NightporterError as exc:
                assert exc.exit_code in (5, 6), exc
                failed, in_a_row = failed + 1, in_a_row + 1
                worst = max(worst, in_a_row)
            else:
                assert world.is_live(token.value), "a wrong token"
                served, in_a_row = served + 1, 0
            with contextlib.suppress(urllib.error.HTTPError, OSError):
                raft.unseal()
        world.spontaneous = lambda _call: None
        assert (
            obtain(sessions[0], Ask(deadline=clock.now + 60, is_forced=True)).value
            in world.access_tokens
        )
    print(f"{served} served, {failed} failed (at most {worst} in a row), {dict(world.counts)}")
    assert served > 5 * failed
    assert worst <= 6
    assert world.counts["reuse"] == 0
    if vendor == "reused":
        assert world.counts["sign-in"] <= 30
