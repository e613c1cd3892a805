"""What things cost, against something run in the same breath.

Each benchmark interleaves its two sides round by round and prints the median of each and their
ratio. Milliseconds are this machine's; ratios travel. `--table` and `--picture` keep what was
measured; `--compare REV` measures this tree against another revision of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import bench_peers
import cachetools

import nightporter
from lab.servers.runtime_api import open_function
from lab.support import (
    AWS_VARIABLES,
    BIN,
    Home,
    OpenBao,
    clean_environment,
    open_moto,
    open_openbao,
    pitchpoint_config,
)
from lab.worlds.fleet import open_shared, signing_in_fleet
from lab.worlds.storm import run_storm
from lab.worlds.vendor import Vendor
from nightporter import Porter
from nightporter.client.broker import Broker
from nightporter.operations.rotate import Report, rotate_all
from nightporter.operations.rotate_processes import rotate_divided
from nightporter.session import effects
from nightporter.session.driver import Backoff, Driver
from nightporter.session.port import ABSENT
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World
from nightporter.stores.local import LocalStore

USER, PASSWORD = "svc-acme", "correct-horse"

BY_HAND_AWS = """
import json, os, sys
import boto3, requests
client = boto3.client("secretsmanager", endpoint_url=sys.argv[2])
record = json.loads(client.get_secret_value(SecretId=sys.argv[1], VersionStage="AWSCURRENT")["SecretString"])
url = sys.argv[3] + "/user-management-services-ws/oauth2/002/refreshIdToken"
reply = requests.post(url, json={"refresh_token": record["refresh_token"]}, timeout=10)
print(reply.json()["access_token"])
"""

BY_HAND_VAULT = """
import os, sys
import hvac, requests
client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ.get("VAULT_TOKEN"), timeout=10)
if "ROLE_ID" in os.environ:
    client.auth.approle.login(os.environ["ROLE_ID"], os.environ["SECRET_ID"])
record = client.secrets.kv.v2.read_secret_version(sys.argv[1], mount_point=sys.argv[2], raise_on_deleted_version=False)
url = sys.argv[3] + "/user-management-services-ws/oauth2/002/refreshIdToken"
reply = requests.post(url, json={"refresh_token": record["data"]["data"]["refresh_token"]}, timeout=10)
print(reply.json()["access_token"])
if "ROLE_ID" in os.environ:
    client.auth.token.revoke_self()
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: medians of both sides in one unit. `target`: the most that the ratio should
    be, or None; with `is_least` the least."""

    name: str
    ours: float
    against: str
    theirs: float
    unit: str = "ms"
    target: float | None = None
    is_least: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def shown(self) -> str:
        aim = f"   aim {self.target:.2f}" if self.target else ""
        if self.target and (
            self.ratio < self.target if self.is_least else self.ratio > self.target
        ):
            aim += " (missed)"
        return (
            f"{self.name:<38} {self.ours:9.2f} {self.unit}   {self.against:<38} {self.theirs:9.2f}"
            f" {self.unit}   ratio {self.ratio:.2f}{aim}"
        )


ROWS: list[Row] = []


def keep(row: Row) -> None:
    print(row.shown(), flush=True)
    ROWS.append(row)


Side = Callable[[], object]


def paired(
    name: str,
    ours: Side,
    theirs: Side,
    against: str,
    rounds: int,
    *,
    target: float | None = None,
    with_cpu: bool = False,
) -> None:
    """Runs both sides in turn, and keeps medians and ratio. `with_cpu`: and the least that their
    children took of the processor, which another program's load raises less."""
    mine: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    for side in (ours, theirs):
        side()  # caches of the file system and of the interpreter are warm for both
    for _ in range(rounds):
        for side, times in ((ours, mine), (theirs, other)):
            began, used = time.perf_counter(), _children_s()
            side()
            times.append((time.perf_counter() - began, _children_s() - used))
    kinds: list[tuple[str, Callable[[list[float]], float]]] = [("", statistics.median)]
    if with_cpu:
        kinds.append((", CPU", min))
    for number, (kind, chosen) in enumerate(kinds):
        keep(
            Row(
                name=name + kind,
                ours=chosen([times[number] * 1000 for times in mine]),
                against=against,
                theirs=chosen([times[number] * 1000 for times in other]),
                target=target,
            )
        )


def _children_s() -> float:
    """Seconds of the processor that ended children have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_quietly(command: list[str], environment: dict[str, str], given: str = "") -> None:
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")


def start(rounds: int) -> None:
    """A whole process with a cached answer, against a bare interpreter that does nothing."""
    with tempfile.TemporaryDirectory() as room, open_sandbox(_world()) as vendor:
        home = _local_home(Path(room), vendor)
        bare = [sys.executable, "-c", "pass"]
        command = str(BIN / "nightporter")
        behind = [
            sys.executable,
            "-I",
            "-c",
            "from nightporter.__main__ import main; main()",
            "token",
        ]
        helper = str(BIN / "git-credential-nightporter")
        run_quietly([command, "setup", "keyring", "pitchpoint"], home.environment)
        keyring = str(home.data / "wrappers/keyring/keyring")
        asks: list[tuple[str, list[str], float | None]] = [
            ("token", [command, "token"], 0.40),
            ("exec-credential", [command, "exec-credential", "pitchpoint"], 0.40),
            ("token, without the door", behind, 3.0),
            ("git credential get", [helper, "get"], 0.6),
            ("docker credential get", [str(BIN / "docker-credential-nightporter"), "get"], 0.6),
            ("bazel get", [command, "credential", "bazel", "get"], 0.6),
            ("terraform get", [command, "credential", "terraform", "get", "git.example.com"], 0.6),
            ("pnpm", [command, "credential", "pnpm", "pitchpoint"], 0.6),
            ("keyring get", [keyring, "get", "https://git.example.com/simple/", "oauth2"], 0.6),
            ("cargo, without a door", [command, "credential", "cargo", "--cargo-plugin"], 1.5),
        ]
        for name, words, target in asks:
            given = ASKS.get(name, "")
            for _ in range(2):  # the first one may exchange, which leaves no reply
                run_quietly(words, home.environment, given)
                time.sleep(0.1)
            paired(
                name,
                lambda words=words, given=given: run_quietly(  # type: ignore[misc]
                    words, home.environment, given
                ),
                lambda given=given: run_quietly(bare, home.environment, given),  # type: ignore[misc]
                "python -c pass",
                rounds,
                target=target,
            )
        _doors(home, bare, rounds)


def _doors(home: Home, bare: list[str], rounds: int) -> None:
    """The front door under other shells, with and without a credential in the environment."""
    door = str(BIN / "nightporter")
    configured = home.config_file.read_text()
    with tempfile.TemporaryDirectory() as room, open_openbao() as server:
        vendor = next(line for line in configured.splitlines() if line.startswith("base_url"))
        vaulted, _mount = _vault_home(Path(room), server, vendor.split('"')[1])
        for shell, words in SHELLS.items():
            if shutil.which(words[0]) is None:
                print(f"{shell}: not on this machine")
                continue
            for kind, place, target in (("", home, 0.5), (", VAULT_TOKEN", vaulted, 0.45)):
                command = [*words, door, "token"]
                run_quietly(command, place.environment)
                paired(
                    f"token, {shell}{kind}",
                    lambda command=command, place=place: run_quietly(  # type: ignore[misc]
                        command, place.environment
                    ),
                    lambda: run_quietly(bare, home.environment),
                    "python -c pass",
                    rounds,
                    target=target,
                )


SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

ASKS = {
    "git credential get": "protocol=https\nhost=git.example.com\n\n",
    "docker credential get": "https://git.example.com",
    "bazel get": '{"uri":"https://git.example.com/x"}',
    "cargo, without a door": (
        '{"v":1,"registry":{"index-url":"sparse+https://git.example.com/","name":"r"},'
        '"kind":"get","operation":"read","args":[]}\n'
    ),
}


def imports(rounds: int) -> None:
    """`import nightporter` and what a function of Lambda imports, over a bare interpreter."""
    environment = clean_environment()
    for name, code in (
        ("import nightporter", "import nightporter"),
        ("import get_token's rooms", IMPORT_ALL),
    ):
        paired(
            name,
            lambda code=code: run_quietly([sys.executable, "-c", code], environment),  # type: ignore[misc]
            lambda: run_quietly([sys.executable, "-c", "pass"], environment),
            "python -c pass",
            rounds,
        )
        count = f"{code}; import sys; print(len(sys.modules))"
        modules = [
            int(
                subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout
            )
            for text in (count, "import sys; print(len(sys.modules))")
        ]
        print(f"  {modules[0]} modules loaded, {modules[1]} in a bare interpreter")


IMPORT_ALL = (
    "import nightporter.client.porter, nightporter.client.bearer,"
    " nightporter.session.repository, nightporter.net.http"
)


def cold(rounds: int) -> None:
    """A process that reads the session from a store and refreshes, against the same two calls
    written by hand."""
    with (
        tempfile.TemporaryDirectory() as room,
        open_openbao() as server,
        open_sandbox(_world()) as vendor,
    ):
        home, mount = _vault_home(Path(room), server, vendor)
        arguments = ["prod/pitchpoint/refresh-token", mount, vendor]
        _cold("cold, Vault", home, BY_HAND_VAULT, arguments, rounds, target=0.85)
        _log_in_by_approle(server, home, mount)
        _cold("cold, Vault, AppRole", home, BY_HAND_VAULT, arguments, rounds, target=0.85)
    with (
        tempfile.TemporaryDirectory() as room,
        open_moto() as address,
        open_sandbox(_world()) as vendor,
    ):
        home = _aws_home(Path(room), address, vendor)
        _cold(
            "cold, Secrets Manager",
            home,
            BY_HAND_AWS,
            ["prod/pitchpoint/refresh-token", address, vendor],
            rounds,
            target=0.8,
        )


def _cold(
    name: str, home: Home, script: str, arguments: list[str], rounds: int, *, target: float
) -> None:
    file = home.path / "by_hand.py"
    file.write_text(script)
    by_hand = [sys.executable, str(file), *arguments]
    ours = [str(BIN / "nightporter"), "token"]
    paired(
        name,
        lambda: run_quietly(ours, {**home.environment, "NIGHTPORTER_CACHE": "off"}),
        lambda: run_quietly(by_hand, home.environment),
        "the same calls by hand",
        rounds,
        target=target,
        with_cpu=True,
    )


def _log_in_by_approle(server: OpenBao, home: Home, mount: str) -> None:
    """Has the home log in, in place of a token in its environment."""
    policy = f'path "{mount}/*" {{ capabilities = ["read", "create", "update"] }}'
    server.call("POST", "sys/policies/acl/bench", {"policy": policy})
    server.call("POST", "sys/auth/approle", {"type": "approle"})
    server.call("POST", "auth/approle/role/bench", {"token_policies": ["bench"]})
    role_id = server.call("GET", "auth/approle/role/bench/role-id")["data"]["role_id"]
    secret = server.call("POST", "auth/approle/role/bench/secret-id", {})["data"]["secret_id"]
    auth = f'auth = {{ method = "approle", role_id = "{role_id}", secret_id_env = "SECRET_ID" }}'
    text = home.config_file.read_text()
    home.configure(text.replace('type = "vault"\n', f'type = "vault"\n{auth}\n'))
    del home.environment["VAULT_TOKEN"]
    home.environment |= {"ROLE_ID": role_id, "SECRET_ID": secret}


def _aws_home(room: Path, address: str, vendor: str) -> Home:
    home = Home(room / "home")
    store = f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"'
    home.configure(
        pitchpoint_config(vendor, stores=store, more=f'store = "s"\nusername = "{USER}"')
    )
    home.environment |= AWS_VARIABLES
    home.environment.pop("PYTHONDONTWRITEBYTECODE", None)
    home.set_credentials(username=USER, password=PASSWORD)
    if home.run("token").code:
        raise SystemExit("the first sign-in failed")
    return home


def _local_home(room: Path, vendor: str) -> Home:
    home = Home(room / "home")
    home.configure(pitchpoint_config(vendor, more='hosts = ["git.example.com"]'))
    home.environment.pop("PYTHONDONTWRITEBYTECODE", None)
    home.set_credentials(username=USER, password=PASSWORD)
    if home.run("token").code or home.run("exec-credential", "pitchpoint").code:
        raise SystemExit("the first sign-in failed")
    return home


def _world() -> World:
    return World(users={USER: PASSWORD})


def _vault_home(room: Path, server: OpenBao, vendor: str) -> tuple[Home, str]:
    mount = server.mount()
    server.put(mount, "prod/pitchpoint", {"username": USER, "password": PASSWORD})
    home = Home(room / "home")
    home.configure(
        pitchpoint_config(
            vendor,
            stores=f'[stores.v]\ntype = "vault"\nmount = "{mount}"',
            more=f'username = "{USER}"',
        )
    )
    home.environment |= {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
    home.environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if home.run("token").code:
        raise SystemExit("the first sign-in failed")
    return home, mount


LAMBDA_BY_HAND = """
import os, sys, time
def handler(event, context):
    began = time.perf_counter()
    import boto3
    client = boto3.client("secretsmanager", endpoint_url=os.environ["STORE"])
    client.get_secret_value(SecretId=os.environ["SECRET"])
    return {"ms": (time.perf_counter() - began) * 1000, "modules": len(sys.modules)}
"""
LAMBDA_OURS = """
import os, sys, time
def handler(event, context):
    began = time.perf_counter()
    import nightporter
    nightporter.get_token(os.environ["PROFILE"])
    return {"ms": (time.perf_counter() - began) * 1000, "modules": len(sys.modules)}
"""


def in_lambda(rounds: int) -> None:
    """From the first import to a token in a function with the layer, run by AWS's runtime client,
    against boto3's client and one `get_secret_value` by hand in the same."""
    runtimes = sorted(Path(__file__).parent.parent.glob(".clients/lambda-*/bin/python"))
    if not runtimes:
        print("lambda: ./scripts/clients has installed no runtime of Lambda here")
        return
    with (
        tempfile.TemporaryDirectory() as place,
        open_moto() as address,
        open_sandbox(_world()) as vendor,
    ):
        room = Path(place)
        home = _aws_home(room, address, vendor)
        layer = _unpacked_layer(room, runtimes)
        text = home.config_file.read_text() + 'publish_access_token = "prod/access"\n'
        text += text[text.index("[profiles.pitchpoint]") :].replace(
            "[profiles.pitchpoint]", '[profiles.published]\nrole = "read-only"'
        )
        home.configure(text)
        if home.run("rotate", "pitchpoint", "--access").code:
            raise SystemExit("publishing failed")
        variables = {
            **AWS_VARIABLES,
            "NIGHTPORTER_CONFIG_TOML": text,
            "STORE": address,
            "SECRET": "prod/pitchpoint/refresh-token",
        }
        for python in runtimes:
            for name, profile, target in (
                ("an exchange", "pitchpoint", 1.2),
                ("a published token", "published", 1.0),
            ):
                times: dict[str, list[float]] = {"ours": [], "theirs": []}
                modules = {}
                for number, (side, source) in itertools.product(
                    range(rounds), (("ours", LAMBDA_OURS), ("theirs", LAMBDA_BY_HAND))
                ):
                    given = {**variables, "PROFILE": profile}
                    place_of_function = room / f"{python.parent.parent.name}-{profile}-{number}"
                    with open_function(
                        python, place_of_function / side, layer, source, given
                    ) as environment:
                        outcome = environment.invoke({})
                    if outcome.kind != "response":
                        raise SystemExit(f"{name}: {outcome.body}")
                    times[side].append(outcome.body["ms"])
                    modules[side] = outcome.body["modules"]
                keep(
                    Row(
                        name=f"{python.parent.parent.name}, {name}",
                        ours=statistics.median(times["ours"]),
                        against="client and get_secret_value",
                        theirs=statistics.median(times["theirs"]),
                        target=target,
                    )
                )
                print(f"  {modules['ours']} modules loaded, {modules['theirs']} by hand")


def _unpacked_layer(room: Path, runtimes: list[Path]) -> Path:
    """The layer as it is built for these runtimes, unpacked as Lambda does."""
    builder = Path(__file__).with_name("layer.py")
    command = [sys.executable, str(builder), "--target", str(room), "--variant", "layer"]
    command += [f"--python={python}" for python in runtimes]
    subprocess.run(command, check=True, capture_output=True)
    built = room / "nightporter-layer.zip"
    print(f"  the layer has {built.stat().st_size / 1048576:.1f} MiB")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(room / "opt")
    return room / "opt"


WARM = """
import sys, threading, time, timeit
import cachetools, nightporter
rounds, threads = int(sys.argv[1]), int(sys.argv[2])
token = nightporter.get_token("pitchpoint")
held = {"pitchpoint": (time.time() + 1e6, token)}
cache = cachetools.TTLCache(8, 1e6)
cache["pitchpoint"] = token
def by_hand(name):
    entry = held.get(name)
    return entry[1] if entry and entry[0] > time.time() else None
calls, repeats = (300, 60) if threads == 1 else (5000, 4)
def each(statement):
    timers = [timeit.Timer(statement, globals=globals()) for _ in range(threads)]
    workers = [threading.Thread(target=timer.timeit, args=(calls,)) for timer in timers]
    if threads == 1:
        return timers[0].timeit(calls) / calls
    began = time.perf_counter()
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    return (time.perf_counter() - began) / calls / threads
asks = ("nightporter.get_token('pitchpoint')", "by_hand('pitchpoint')", "cache['pitchpoint']")
best = [min(column) for column in zip(*[[each(ask) for ask in asks] for _ in range(rounds * repeats)])]
print(*[seconds * 1e9 for seconds in best])
"""


def warm(rounds: int) -> None:
    """`get_token` in a process that holds the token, against a dict and a clock, in every Python
    that `scripts/pythons` has found: the best of many short runs that take turns."""
    with tempfile.TemporaryDirectory() as room, open_sandbox(_world()) as vendor:
        home = _local_home(Path(room), vendor)
        site = Path(cachetools.__file__).parent.parent  # what get_token needs is Python alone
        package = Path(nightporter.__file__).parent.parent
        environment = {**home.environment, "PYTHONPATH": f"{package}:{site}"}
        for python, threads in itertools.product(_pythons(), (1, 8)):
            command = [python, "-P", "-c", WARM, str(rounds), str(threads)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=True
            )
            ours, *theirs = (float(word) for word in done.stdout.split())
            sides = zip(("dict + clock", "cachetools TTLCache"), theirs, (1.8, None), strict=True)
            for against, value, target in sides:
                keep(
                    Row(
                        name=f"warm, {Path(python).name}, {threads} thread(s)",
                        ours=ours,
                        against=against,
                        theirs=value,
                        unit="ns",
                        target=target,
                    )
                )


def _pythons() -> list[str]:
    """The Pythons of this machine that the package claims."""
    script = Path(__file__).with_name("pythons")
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    found = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    return found or [sys.executable]


def peers(rounds: int) -> None:
    """What others take for what they hold already, and ours in the same run: programs against a
    bare interpreter, libraries against a dict and a clock."""
    with tempfile.TemporaryDirectory() as room, open_sandbox(_world()) as vendor:
        place = Path(room)
        home = _local_home(place, vendor)
        bare = [sys.executable, "-c", "pass"]
        helper = str(BIN / "git-credential-nightporter")
        given = ASKS["git credential get"]
        ours: dict[str, tuple[list[str], str, Mapping[str, str]]] = {
            "token": ([str(BIN / "nightporter"), "token"], "", home.environment),
            "git credential get": ([helper, "get"], given, home.environment),
        }
        for words, asked, environment in [*ours.values(), *ours.values()]:
            run_quietly(words, dict(environment), asked)
            time.sleep(0.1)
        (place / "peers").mkdir()
        with bench_peers.open_programs(place / "peers") as theirs:
            for name, (words, asked, environment) in {**ours, **theirs}.items():
                paired(
                    name,
                    functools.partial(run_quietly, words, dict(environment), asked),
                    functools.partial(run_quietly, bare, home.environment),
                    "python -c pass",
                    rounds,
                )
    for name, mine, other in bench_peers.time_libraries():
        keep(Row(name=name, ours=mine, against="dict + clock", theirs=other, unit="ns"))


def memory(_rounds: int) -> None:
    """What a process holds that holds a token, against a bare one."""
    with tempfile.TemporaryDirectory() as room, open_sandbox(_world()) as vendor:
        home = _local_home(Path(room), vendor)
        shown = "; print(int(open('/proc/self/statm').read().split()[1]) * 4096 / 1048576)"
        sizes = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    capture_output=True,
                    env=home.environment,
                    check=True,
                ).stdout
            )
            for code in (f"import nightporter; nightporter.get_token(){shown}", f"pass{shown}")
        ]
        keep(
            Row(
                name="memory, one token held",
                ours=sizes[0],
                against="python -c pass",
                theirs=sizes[1],
                unit="MiB",
            )
        )


def window(rounds: int) -> None:
    """The one window: from the vendor's answer to the store's word that it is written, under a
    claim."""
    with (
        tempfile.TemporaryDirectory() as room,
        open_openbao() as server,
        open_sandbox(_world()) as vendor,
    ):
        home, _mount = _vault_home(Path(room), server, vendor)
        sent_at: list[float] = []
        widths = []
        do = Driver._do

        def timed(driver: Driver, effect: effects.Effect) -> Any:
            answer = do(driver, effect)
            if isinstance(effect, effects.Send):
                sent_at.append(time.perf_counter())
            elif isinstance(effect, effects.Write) and sent_at:
                widths.append((time.perf_counter() - sent_at.pop()) * 1000)
            return answer

        os.environ |= {
            "VAULT_ADDR": server.address,
            "VAULT_TOKEN": server.token,
            "NIGHTPORTER_CACHE": "off",
            "HOME": home.environment["HOME"],
        }
        text = home.config_file.read_text() + "share_access_token = true\n"

        with mock.patch.object(Driver, "_do", timed):
            for _ in range(rounds):
                Porter(text).get_token("pitchpoint", force_refresh=True)
        print(
            f"{'the one window, Vault':<28} {statistics.median(widths):9.2f} ms   answer to saved,"
            f" {rounds} exchanges"
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
    """Cold processes at once on a record that nobody has made, each in a home and a mount namespace
    of its own, on both stores. The ideal: one alone times their number, over the cores."""
    for kind in ("vault", "moto"):
        world = _world()
        world.latency_s = 0.1
        with contextlib.ExitStack() as stack:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            vendor = Vendor(stack.enter_context(open_sandbox(world)), world)
            shared = stack.enter_context(open_shared(kind, _Servers(stack), room))
            fleet = signing_in_fleet(shared, vendor, room, share_access_token=True)
            used = [_children_s()]
            outcome = run_storm(fleet, consumers, kills=0)
            used.append(_children_s())
            alone = statistics.median(run_storm(fleet, 1, kills=0).seconds for _ in range(3))
            used.append(_children_s())
        lines = [line.split() for done in outcome.done for line in done.err.splitlines()]
        said = [words[1] for words in lines if len(words) > 1]
        reads = said.count("read")
        writes = sum(said.count(event) for event in ("claim", "take-over", "save"))
        print(
            f"storm, {kind}: {outcome.count(0)} of {consumers} served; {vendor.count('sign-in')}"
            f" sign-in(s) and {vendor.count('refresh')} refresh(es) in all\n  a consumer:"
            f" {reads / consumers:.2f} reads and {writes / consumers:.3f} writes at the store"
        )
        keep(
            Row(
                name=f"storm, {kind}, {consumers} consumers",
                ours=outcome.seconds,
                against="one alone, over the cores",
                theirs=alone * consumers / (os.cpu_count() or 1),
                unit="s",
                target=1.2,
            )
        )
        keep(
            Row(  # which other work on the machine moves less
                name=f"storm, {kind}, CPU of a consumer",
                ours=(used[1] - used[0]) / consumers * 1000,
                against="CPU of one alone",
                theirs=(used[2] - used[1]) / 3 * 1000,
                target=1.2,
            )
        )


def rotate(rounds: int) -> None:
    """The scheduled job with few and with many workers, in one process and on all cores: with a
    store on a disk, and with one that waits for none."""
    places = {os.stat(place).st_dev: (place, named) for place, named in _PLACES if _is_there(place)}
    with contextlib.ExitStack() as rooms:
        # Removed at the end of all: ext4 without a journal looks through what was removed in the
        # last minutes for each new file, and the next run would pay for that.
        made = [
            (rooms.enter_context(tempfile.TemporaryDirectory(dir=place)), named)
            for place, named in places.values()
        ]
        for room, named in made:
            _rotate_few(min(rounds, 2), room, named)
            _rotate_many(min(rounds, 2), room, named)
        many = _rotate(1, profiles=10_000, jobs=8, processes=1, place=made[0][0], issuer_s=0.02)
    keep(
        Row(
            name="rotate, memory after 10,000 profiles",
            ours=many.memory_mib[-1],
            against="after a tenth of them",
            theirs=many.memory_mib[1],
            unit="MiB",
            target=1.05,
        )
    )


# Where both are of one kind, it is memory.
_PLACES = ((tempfile.gettempdir(), "on a disk"), ("/dev/shm", "in memory"))


def _is_there(place: str) -> bool:
    return os.path.isdir(place) and os.access(place, os.W_OK)


def _rotate_few(rounds: int, place: str, named: str) -> None:
    """The issuer is the bound: a second process has nothing to add."""
    run = _rotate(rounds, profiles=1000, jobs=8, processes=os.cpu_count() or 1, place=place)
    alone = _rotate(rounds, profiles=1000, jobs=8, processes=1, place=place)
    for found, processes in ((run, os.cpu_count() or 1), (alone, 1)):
        keep(
            Row(
                name=f"rotate, 8 jobs, {processes} process(es), {named}",
                ours=found.rate,
                against="what the issuer allows",
                theirs=_issuer_allows(8),
                unit="/s",
                target=0.9,
                is_least=True,
            )
        )


def _rotate_many(rounds: int, place: str, named: str) -> None:
    """The cores are the bound. One process does its best with fewer jobs than the issuer allows."""
    cores = os.cpu_count() or 1
    divided = _rotate(rounds, profiles=1000, jobs=64, processes=cores, place=place)
    alone = [
        _rotate(rounds, profiles=1000, jobs=jobs, processes=1, place=place) for jobs in (16, 64)
    ]
    best = max(alone, key=lambda run: run.rate)
    for name, ours, theirs, target in (
        ("", divided.rate, best.rate, 1.8),
        (", CPU of a profile", divided.ours_ms, best.ours_ms, None),
    ):
        keep(
            Row(
                name=f"rotate, 64 jobs, {cores} processes, {named}{name}",
                ours=ours,
                against="one process, 16 or 64 jobs, the better",
                theirs=theirs,
                unit="ms" if name else "/s",
                target=target,
                is_least=not name,
            )
        )


ISSUER_S = 0.1  # what the stand-in for an issuer takes for one answer, without its computing
REFUSED = 0.02  # of the requests, which are made once more
PAUSE_S = Backoff().pause_s(1, lambda least, most: (least + most) / 2)  # before that, on average


def _issuer_allows(jobs: int, issuer_s: float = ISSUER_S) -> float:
    """Profiles a second, if a profile took nothing but its requests, and the pauses that an issuer
    under load is owed."""
    return jobs / (issuer_s * (1 + REFUSED) + PAUSE_S * REFUSED)


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """One run of the job: profiles a second; milliseconds of CPU for each, ours and the issuer's
    stand-in's; memory before, after a tenth, half way and at the end."""

    rate: float
    ours_ms: float
    issuer_ms: float
    memory_mib: list[float]


def _rotate(
    rounds: int,
    *,
    profiles: int,
    jobs: int,
    processes: int,
    place: str,
    issuer_s: float = ISSUER_S,
) -> Rotated:
    """The scheduled job over many profiles without a session, at an issuer that answers in 100 ms
    and refuses 2 % of the requests, which are made again; what the embedded store takes is ours.
    Returns the best round. `place`: of the stores, which are left there."""
    room = tempfile.mkdtemp(dir=place)
    with _sandbox_apart(issuer_s, REFUSED) as (vendor, process):
        runs = [
            _rotate_once(f"{room}/{number}", vendor, process, profiles, jobs, processes, issuer_s)
            for number in range(rounds)
        ]
    return max(runs, key=lambda run: run.rate)


def _rotate_once(
    place: str,
    vendor: str,
    issuer: int,
    profiles: int,
    jobs: int,
    processes: int,
    issuer_s: float,
) -> Rotated:
    """`issuer`: the process of the stand-in."""
    store = LocalStore(place)
    store.write(
        "prod/pitchpoint", {"username": USER, "password": PASSWORD}, ABSENT, None, timeout_s=5
    )
    text = f'[stores.l]\ntype = "local"\npath = "{place}"\n' + "".join(
        f'[profiles.p{number}]\nissuer = "pitchpoint"\ncredentials = "prod/pitchpoint"\n'
        f'username = "{USER}"\nrefresh_token = "prod/p{number}/rt"\nbase_url = "{vendor}"\n'
        for number in range(profiles)
    )
    os.environ |= {"NIGHTPORTER_CACHE": "off", "HOME": f"{place}-home"}
    with Porter(text, is_library=False, notify=lambda _text: None) as porter:
        brokers = [porter.broker_for(f"p{number}") for number in range(profiles)]
        memory = [_resident_mib()]
        cpu_before, issuer_before = _cpu_s(), _cpu_of(issuer)
        began, failed = time.perf_counter(), 0
        reports = rotate_divided(
            brokers, _rotate_part, processes=processes, jobs=jobs, should_stop=lambda: False
        )
        for number, report in enumerate(reports, 1):  # as the command does: none of them is kept
            failed += report.error is not None
            if number in (profiles // 10, profiles // 2, profiles):
                memory.append(_resident_mib())
        seconds = time.perf_counter() - began
    if failed:
        raise SystemExit(f"rotate: {failed} of {profiles} profiles failed")
    found = Rotated(
        rate=profiles / seconds,
        ours_ms=(_cpu_s() - cpu_before) / profiles * 1000,
        issuer_ms=(_cpu_of(issuer) - issuer_before) / profiles * 1000,
        memory_mib=memory,
    )
    ideal = _issuer_allows(jobs, issuer_s)
    before, tenth, half, end = (f"{size:.0f}" for size in memory)
    print(
        f"rotate: {profiles} profiles, {jobs} jobs, {processes} process(es): {found.rate:.0f} a"
        f" second; the issuer allows {ideal:.0f} ({found.rate / ideal:.0%})\n "
        f" {found.ours_ms:.1f} ms of CPU a profile, {found.issuer_ms:.1f} for the issuer's"
        f" stand-in; memory {before} MiB before, {tenth} after a tenth, {half} half way, {end} at"
        " the end"
    )
    return found


def _rotate_part(
    brokers: Sequence[Broker], jobs: int, should_stop: Callable[[], bool]
) -> Iterator[Report]:
    return rotate_all(brokers, jobs=jobs, timeout_s=lambda: 30.0, should_stop=should_stop)


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@contextlib.contextmanager
def _sandbox_apart(latency_s: float, failing: float) -> Iterator[tuple[str, int]]:
    """A sandbox in a process of its own, so that it shares no interpreter lock with what is
    measured: its address, and the process."""
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
        yield apart.stdout.readline().strip(), apart.pid
    finally:
        apart.kill()
        apart.wait()


def _cpu_of(process: int) -> float:
    """Seconds of CPU that another process has used (proc(5), `stat`, fields 14 and 15)."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1048576


def compare(revision: str, names: Sequence[str], rounds: int) -> None:
    """This tree against another revision of it, each side in its own checkout and home. `names`:
    of `COMPARED`; all without one."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as place, open_sandbox(_world()) as vendor:
        room = Path(place)
        other = room / "other"
        subprocess.run(
            ["git", "-C", root, "worktree", "add", "--quiet", "--detach", other, revision],
            check=True,
        )
        try:
            sides = []
            for number, tree in enumerate((root / "plugin", other / "plugin")):
                subprocess.run([sys.executable, "-m", "compileall", "-q", tree], check=False)
                home = _local_home(room / str(number), vendor)
                sides.append({**home.environment, "PYTHONPATH": str(tree)})
            for name in names or COMPARED:
                words = [sys.executable, "-P", "-c", COMPARED[name], "token"]
                ours, theirs = (functools.partial(run_quietly, words, side) for side in sides)
                paired(name, ours, theirs, revision, rounds, with_cpu=True)
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", other], check=True)


COMPARED = {  # the names are what `--compare` takes
    "import": "import nightporter",
    "cached": "from nightporter.__main__ import main; main()",
    "no-reply-file": (
        "import os, glob; [os.unlink(f) for f in"
        " glob.glob(os.path.expanduser('~/.cache/nightporter/*.reply'))]\nfrom nightporter.__main__"
        " import main; main()"
    ),
    "from-issuer": (
        "import os; os.environ['NIGHTPORTER_CACHE'] = 'off'\nfrom nightporter.__main__ import main;"
        " main()"
    ),
    "warm-calls": (
        "import nightporter\nnightporter.get_token()\nfor _ in range(100_000):"
        " nightporter.get_token()"
    ),
}


def table(rows: list[Row]) -> str:
    """For the README."""
    lines = ["| what | takes | against | takes | ratio | aim |", "|---|---|---|---|---|---|"]
    for row in rows:
        aim = f"{row.target:.2f}" if row.target else ""
        lines.append(
            f"| {row.name} | {row.ours:.1f} {row.unit} | {row.against} | {row.theirs:.1f}"
            f" {row.unit} | {row.ratio:.2f} | {aim} |"
        )
    return "\n".join(lines) + "\n"


def picture(rows: list[Row]) -> str:
    """Ratios as bars on a logarithmic scale (SVG), the aim as a mark."""
    width, line, top, least, most = 760, 26, 40, 0.05, 100.0
    label = 24 + 7 * max(len(row.name) for row in rows)

    def x_of(ratio: float) -> float:
        share = math.log(min(max(ratio, least), most) / least) / math.log(most / least)
        return label + (width - label - 60) * share

    bottom = top + line * len(rows)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom + 14}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for ratio in (0.1, 1, 10, 100):
        x = x_of(ratio)
        parts.append(
            f'<line x1="{x:.0f}" y1="{top - 8}" x2="{x:.0f}" y2="{bottom}" stroke="#ccc"/>'
        )
        parts.append(
            f'<text x="{x:.0f}" y="{top - 14}" text-anchor="middle" fill="#555">{ratio:g}</text>'
        )
    parts.append(
        f'<text x="12" y="{top - 14}" font-weight="bold" fill="#222">times {rows[0].against}</text>'
    )
    for number, row in enumerate(rows):
        y = top + line * number
        is_ours = row.name in OURS
        end = x_of(row.ratio)
        parts.append(f'<text x="12" y="{y + 15}" fill="#222">{row.name}</text>')
        parts.append(
            f'<rect x="{label}" y="{y + 3}" width="{end - label:.1f}" height="16"'
            f' fill="{"#2b6cb0" if is_ours else "#b8c4d0"}"/>'
        )
        after = max(end, x_of(row.target)) if row.target and x_of(row.target) < end + 50 else end
        parts.append(f'<text x="{after + 6:.1f}" y="{y + 15}" fill="#222">{row.ratio:.2f}</text>')
        if row.target:
            x = x_of(row.target)
            parts.append(
                f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 22}" stroke="#c53030"'
                ' stroke-width="2"/>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


OURS = (
    *("token", "exec-credential", "token, without the door"),
    *(*ASKS, "terraform get", "pnpm", "keyring get"),
)


BENCHMARKS: dict[str, Callable[[int], None]] = {
    "start": start,
    "imports": imports,
    "cold": cold,
    "lambda": in_lambda,
    "warm": warm,
    "peers": peers,
    "memory": memory,
    "window": window,
    "storm": storm,
    "rotate": rotate,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(BENCHMARKS)}; with --compare: {', '.join(COMPARED)}",
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each side is run")
    parser.add_argument("--consumers", type=int, default=1000, help="how many processes storm")
    parser.add_argument(
        "--compare",
        metavar="REV",
        help="measure this tree against another revision of it",
    )
    parser.add_argument("--table", type=Path, help="write what was measured as a table (Markdown)")
    parser.add_argument("--picture", type=Path, help="write what was measured as a picture (SVG)")
    arguments = parser.parse_args()
    known = COMPARED if arguments.compare else BENCHMARKS
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.compare:
        compare(arguments.compare, arguments.names, arguments.rounds)
    else:
        for name in arguments.names or BENCHMARKS:
            BENCHMARKS[name](arguments.consumers if name == "storm" else arguments.rounds)
    if arguments.table:
        arguments.table.write_text(table(ROWS))
    if arguments.picture:
        starts = [row for row in ROWS if row.against == "python -c pass" and row.unit == "ms"]
        starts = [row for row in starts if not row.name.startswith("import")]
        arguments.picture.write_text(picture(starts))


if __name__ == "__main__":
    main()
