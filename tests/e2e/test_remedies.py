"""Every reference of the catalogue: its situation is made, what is printed to be done is done as it
is printed, with the permissions of who reads it, and the command works afterwards.

Commands of Vault are typed by its administrator, all others by the user. What a person does outside
of nightporter (an editor, another machine, time that passes) the test does, and says so. Real
OpenBao; the sandbox for the vendors.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.patience import patience, until
from lab.support import ROOT, Home, OpenBao, clean_environment, free_port
from lab.worlds.remedies import MEMBERS, PATH, Bench
from lab.worlds.vendor import Vendor
from nightporter.core.explanations import EXPLANATIONS

Case = Callable[[Bench], None]
CASES: dict[str, Case] = {}
GOOD = json.dumps(MEMBERS)
BAD = json.dumps({**MEMBERS, "password": "last-year"})
SEEDED = """
[profiles.ist]
issuer = "vault-ist"
partner_id = "7"
refresh_token = "sessions/ist"
base_url = "{address}"
"""

# References whose remedy is not executed here: where it is, or why it can't be.
ELSEWHERE = {
    "defect": "nobody knows a remedy; `doctor --bundle`: test_doctor.py::test_the_bundle",
    "store-electing": "a cluster: test_remedies_of_situations.py::test_a_cluster",
    "store-conflict": "it is settled before an ask ends: test_session.py::test",
    "store": "no remedy of its own; one of its places: test_doctor_remedies.py::test_a_local",
    "issuer": "the root of its family: nothing raises it alone",
    "write-budget": "executed in test_remedies_of_situations.py::test_the_versions",
    "cluster-not-pinned": "executed in test_remedies_of_situations.py::test_the_ca_of_kubectl",
    "command-missing": "executed in test_remedies_of_situations.py::test_the_commands",
    "issuer-reply": "executed in test_remedies_of_situations.py::test_the_base_url",
    "store-deletes-early": "executed in test_remedies_of_situations.py::test_the_limit_of",
    "clock-skew": "executed in test_doctor_remedies.py::test_a_clock_that_differs",
    "implausible-token": "a planted token: test_planted.py::test_doctor_tells_a_planted_token",
    "lambda-init": "in a function: test_lambda.py::test_a_function_from_cold_to_warm",
    "lambda-no-time": "in a function: test_lambda.py::test_no_exchange_with_little_time",
    "rotation-failed": "executed in test_remedies_of_situations.py::test_each_failed",
    "other-user": "executed in test_remedies_of_situations.py::test_a_session_of_another",
    "library-missing": "executed in test_installations.py::test_what_is_missing",
}


def case(reference: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[reference] = function
        return function

    return add


@pytest.fixture
def bench(empty_home: Home, vendor: Vendor, request: pytest.FixtureRequest) -> Bench:
    return Bench(empty_home, vendor, lambda: request.getfixturevalue("openbao"))


@pytest.mark.parametrize("reference", sorted(EXPLANATIONS.keys() - ELSEWHERE.keys()))
def test_what_is_said_is_done_and_helps(reference: str, bench: Bench) -> None:
    """The table below has a situation for each."""
    CASES[reference](bench)


def test_what_is_shown_elsewhere_is_there() -> None:
    """No reference is left out without a reason, and each test that is named exists."""
    assert ELSEWHERE.keys() <= EXPLANATIONS.keys()
    assert not ELSEWHERE.keys() & CASES.keys()
    tests = {file.name: file.read_text() for file in (ROOT / "tests").rglob("test_*.py")}
    for reason in ELSEWHERE.values():
        for file, name in re.findall(r"(test_\w+\.py)::(test\w*)", reason):
            assert f"def {name}" in tests[file], (file, name)


# Configuration, command line, files.


@case("configuration")
def _(bench: Bench) -> None:
    bench.local()
    bench.edit("issuer =", "isuer =")
    (command,) = bench.fails("configuration", "token")
    found = bench.type(command)
    (right,) = re.findall(r"did you mean '(\w+)'", found.err)
    bench.edit("isuer =", f"{right} =")  # by an editor
    bench.typed(command)
    bench.works("token")


@case("usage")
def _(bench: Bench) -> None:
    bench.local()
    (command,) = bench.fails("usage", "token", "--ouput", "json")
    assert "--output" in bench.typed(command)
    bench.works("token", "--output", "json")


@case("unknown-profile")
def _(bench: Bench) -> None:
    bench.local()
    (command,) = bench.fails("unknown-profile", "token", "acme")
    (name,) = re.findall(r"^\[profiles\.(\w+)\]", bench.typed(command), re.M)
    bench.works("token", name)


@case("untrusted-file")
def _(bench: Bench) -> None:
    bench.local()
    bench.home.config_file.chmod(0o666)
    bench.ask("token")
    command = re.findall(r"chmod \S+ \S+", bench.said)[0].rstrip("`.,;)")
    bench.typed(command)
    bench.works("token")


@case("trust-lifted")
def _(bench: Bench) -> None:
    bench.local()
    bench.home.environment["NIGHTPORTER_TRUST"] = "all"
    bench.fails("trust-lifted", "doctor")
    assert "Unset it" in bench.todo("trust-lifted")
    del bench.home.environment["NIGHTPORTER_TRUST"]
    bench.is_gone("trust-lifted")


@case("metrics-not-sent")
def _(bench: Bench) -> None:
    bench.local()
    bench.home.environment["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = "http://127.0.0.1:1/v1/metrics"
    bench.home.environment["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] = "grpc"
    bench.fails("metrics-not-sent", "doctor")
    assert "http/json" in bench.todo("metrics-not-sent")
    bench.home.environment["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] = "http/json"
    bench.is_gone("metrics-not-sent")


@case("notify-unusable")
def _(bench: Bench) -> None:
    bench.local()
    bench.home.config_file.write_text(
        '[notify]\ncommand = ["/nowhere/tell"]\n' + bench.home.config_file.read_text()
    )
    bench.fails("notify-unusable", "doctor")
    assert "`command` in `[notify]`" in bench.todo("notify-unusable")
    bench.edit("/nowhere/tell", "/usr/bin/true")
    bench.is_gone("notify-unusable")


@case("file-mode")
def _(bench: Bench) -> None:
    bench.local()
    bench.works("token")
    next(bench.home.cache.glob("*.token")).chmod(0o644)
    (command,) = bench.fails("file-mode", "doctor")
    bench.typed(command)
    bench.is_gone("file-mode")


@case("cache-unusable")
def _(bench: Bench) -> None:
    bench.local()
    bench.home.environment["NIGHTPORTER_CACHE_DIR"] = "somewhere"
    bench.fails("cache-unusable", "doctor")
    assert "NIGHTPORTER_CACHE_DIR" in bench.todo("cache-unusable")
    bench.home.environment["NIGHTPORTER_CACHE_DIR"] = str(bench.home.path / "mine")
    bench.is_gone("cache-unusable")


# Credentials and sessions.


@case("credentials-absent")
def _(bench: Bench) -> None:
    bench.local(has_credentials=False)
    (command,) = bench.fails("credentials-absent", "token")
    bench.typed(command, GOOD)
    bench.works("token")


@case("credentials-refused")
def _(bench: Bench) -> None:
    bench.local()
    bench.typed("nightporter credentials set", BAD)
    (command,) = bench.fails("credentials-refused", "token")
    bench.typed(command, GOOD)
    bench.works("token")


@case("session-refused")
def _(bench: Bench) -> None:
    bench.local()
    bench.typed("nightporter credentials set", BAD)
    bench.ask("token")
    (command,) = bench.fails("session-refused", "doctor")
    bench.typed(command, GOOD)
    bench.is_gone("session-refused")


@case("sign-in-throttled")
def _(bench: Bench) -> None:
    """The vendor unlocks the account, and the time that is named passes."""
    bench.local()
    body = {"error": {"message": "TOO_MANY_ATTEMPTS_TRY_LATER"}}
    bench.vendor.fail({"kind": "status", "status": 400, "body": body})
    bench.fails("sign-in-throttled", "token")
    assert "Wait" in bench.todo("sign-in-throttled")
    assert "before 2" in bench.said
    refused = json.loads(bench.record().read_text())["value"]["refused"]
    bench.change_record({"refused": {**refused, "until": "2020-01-01T00:00:00Z"}})
    bench.works("token")


@case("sign-in-unsettled")
def _(bench: Bench) -> None:
    bench.local()
    bench.vendor.fail({"kind": "close", "call": "sign-in", "times": 9})
    for _ in range(4):
        if "sign-in-unsettled" in bench.ask("token", "--timeout", "25").err:
            break
    assert "or correct the credentials" in bench.todo("sign-in-unsettled")
    bench.vendor.world.faults.clear()
    bench.typed("nightporter credentials set", GOOD)
    bench.works("token")


def seeded(bench: Bench) -> None:
    bench.home.configure(SEEDED.format(address=bench.vendor.address))
    bench.typed("nightporter seed ist", bench.vendor.world.new_refresh_token())


@case("login-required")
def _(bench: Bench) -> None:
    bench.home.configure(SEEDED.format(address=bench.vendor.address))
    (command,) = bench.fails("login-required", "token")
    bench.typed(command, bench.vendor.world.new_refresh_token())
    bench.works("token")


@case("session-rejected")
def _(bench: Bench) -> None:
    seeded(bench)
    for grant in bench.vendor.world.refresh_tokens.values():
        grant.is_revoked = True
    *_, command = bench.fails("session-rejected", "token")
    bench.typed(command, bench.vendor.world.new_refresh_token())
    bench.works("token")


def as_client(bench: Bench, more: str) -> None:
    """A profile `acme` of the vendor's OAuth 2 client, whose secret is in the store."""
    address = bench.vendor.address
    bench.home.configure(
        f'[profiles.acme]\nissuer = "oauth2"\nbase_url = "{address}"\n'
        f'token_endpoint = "{address}/oauth2/token"\ncredentials = "prod/acme"\n{more}'
    )
    client = json.dumps({"client_id": "demo-client", "client_secret": "demo-secret"})
    bench.typed("nightporter credentials set acme", client)


@case("session-used-elsewhere")
def _(bench: Bench) -> None:
    """Who holds the other copy is found by a person."""
    address = bench.vendor.address
    as_client(bench, 'grant = "refresh_token"\nrotation = "rotates"\n')
    token = bench.vendor.world.new_refresh_token()
    bench.typed("nightporter seed acme", token)
    subprocess.run(
        [
            *("curl", "-sS", "--noproxy", "*", "-u", "demo-client:demo-secret"),
            *("-d", f"grant_type=refresh_token&refresh_token={token}", f"{address}/oauth2/token"),
        ],
        check=True,
        capture_output=True,
    )
    commands = bench.fails("session-used-elsewhere", "token")
    assert "nightporter seed acme" in commands
    bench.typed("nightporter seed acme", bench.vendor.world.new_refresh_token())
    bench.works("token")


@case("session-claimed")
def _(bench: Bench) -> None:
    """Nothing is to be done: the claim ends by itself."""
    claimed(bench, seconds=3)
    bench.fails("session-claimed", "doctor")
    assert bench.todo("session-claimed").startswith("Nothing")
    for _ in range(70):  # it is over when its life is, as this machine has seen it
        if "session-claimed" not in bench.ask("doctor").out:
            break
        time.sleep(1)
    bench.is_gone("session-claimed")


@case("claim-busy")
def _(bench: Bench) -> None:
    claimed(bench, seconds=8)
    bench.fails("claim-busy", "token", "--timeout", "2")
    assert "longer --timeout" in bench.todo("claim-busy")
    bench.works("token", "--timeout", "40")


def claimed(bench: Bench, seconds: int) -> None:
    """Another machine holds the claim of a session that has to be exchanged."""
    seeded(bench)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    claim = {"holder": "other/1/1", "until": until, "nonce": "n", "machine": "m", "life": seconds}
    bench.change_record({"claim": claim}, bench.record("sessions%2Fist"))


@case("session-old")
def _(bench: Bench) -> None:
    bench.local()
    bench.works("token")
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
    bench.change_record({"expires_at": soon})
    *_, command = bench.fails("session-old", "doctor")
    assert command == "nightporter rotate pitchpoint"
    bench.typed(command)
    bench.is_gone("session-old")


@case("session-idle")
def _(bench: Bench) -> None:
    seeded(bench)
    bench.edit('issuer = "vault-ist"\n', 'issuer = "vault-ist"\nidle_life = "30d"\n')
    bench.works("token")
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 29 * 86_400))
    bench.change_record({"exchanged_at": before}, bench.record("sessions%2Fist"))
    (command,) = bench.fails("session-idle", "doctor")
    bench.typed(command)
    bench.is_gone("session-idle")


@case("foreign-record")
def _(bench: Bench) -> None:
    bench.local()
    bench.works("token")
    bench.change_record({"issuer": "perspio"})
    bench.fails("foreign-record", "doctor")
    assert "`refresh_token` path of its own" in bench.todo("foreign-record")
    bench.edit("credentials =", 'refresh_token = "prod/mine"\ncredentials =')
    bench.is_gone("foreign-record")
    bench.works("token", "--force-refresh")


@case("record-newer")
def _(bench: Bench) -> None:
    """There is no newer nightporter yet: a person replaces the record."""
    seeded(bench)
    bench.change_record({"schema": 99}, bench.record("sessions%2Fist"))
    (command, *_) = bench.fails("record-newer", "token")
    assert command == "nightporter seed ist"
    bench.typed(command, bench.vendor.world.new_refresh_token())
    bench.works("token")


@case("nothing-published")
def _(bench: Bench) -> None:
    """Another machine runs the job."""
    bench.local('publish_access_token = "prod/access"\nrole = "read-only"\n')
    (command,) = bench.fails("nothing-published", "token")
    bench.edit('role = "read-only"', 'role = "full"')
    bench.typed(command)
    bench.edit('role = "full"', 'role = "read-only"')
    bench.works("token")


@case("scope-narrowed")
def _(bench: Bench) -> None:
    as_client(bench, 'grant = "client_credentials"\nscopes = ["read", "write"]\n')
    bench.vendor.world.scope = "read"
    bench.works("token")
    bench.fails("scope-narrowed", "doctor")
    assert "`scopes`" in bench.todo("scope-narrowed")
    bench.edit('["read", "write"]', '["read"]')
    bench.works("token", "--force-refresh")
    bench.is_gone("scope-narrowed")


# Issuers.


@case("issuer-unreachable")
def _(bench: Bench) -> None:
    bench.local()
    address = bench.vendor.address
    bench.edit(address, f"http://127.0.0.1:{free_port()}")
    bench.fails("issuer-unreachable", "token")
    assert "`base_url`" in bench.todo("issuer-unreachable")
    bench.local()
    bench.works("token")


@case("issuer-busy")
def _(bench: Bench) -> None:
    bench.local()
    busy = {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "body": {}}
    bench.vendor.fail({**busy, "times": 30})
    bench.fails("issuer-busy", "token", "--timeout", "3")
    bench.vendor.world.faults.clear()
    time.sleep(1.5)
    bench.works("token")


@case("issuer-outcome-unknown")
def _(bench: Bench) -> None:
    """Run again: the next exchange finds out."""
    seeded(bench)
    bench.vendor.world.rotation, bench.vendor.world.grace_s = "rotates", 60.0
    bench.vendor.fail({"kind": "lost", "times": 9})
    bench.fails("issuer-outcome-unknown", "token", "--timeout", "4")
    bench.vendor.world.faults.clear()
    bench.works("token", "--timeout", "90")


@case("exchange-continues")
def _(bench: Bench) -> None:
    seeded(bench)
    bench.vendor.fail({"kind": "late", "seconds": 4})
    bench.fails("exchange-continues", "token", "--timeout", "2")
    time.sleep(4)
    bench.works("token", "--timeout", "30")


# Clients.


@case("host-not-allowed")
def _(bench: Bench) -> None:
    bench.local('hosts = ["kube.example.com"]\n')
    cluster = {"server": "https://other.example.com"}
    info = {
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1",
        "spec": {"interactive": False, "cluster": cluster},
    }
    bench.home.environment["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    bench.fails("host-not-allowed", "exec-credential", "pitchpoint")
    assert "`hosts`" in bench.todo("host-not-allowed")
    bench.edit('"kube.example.com"', '"kube.example.com", "other.example.com"')
    bench.works("exec-credential", "pitchpoint")


def git(bench: Bench, more: str = "") -> str:
    """One ask of git's helper."""
    asked = f"protocol=https\nhost=git.example.com\n{more}\n"
    done = bench.home.run("credential", "git", "get", stdin=asked)
    return done.out


@case("other-user-name")
def _(bench: Bench) -> None:
    bench.local('hosts = ["git.example.com"]\n')
    assert git(bench, "username=ann\n") == ""
    bench.ask("doctor")
    assert "[other-user-name]" in bench.said
    assert "password=" in git(bench)
    bench.is_gone("helper-failed")


@case("bad-ask")
def _(bench: Bench) -> None:
    """The client is found and mended by a person: it asks rightly afterwards."""
    bench.local('hosts = ["git.example.com"]\n')
    assert git(bench, "host=other.example.com\n") == ""
    bench.ask("doctor")
    assert "[bad-ask]" in bench.said
    assert "password=" in git(bench)
    bench.is_gone("bad-ask")


@case("helper-failed")
def _(bench: Bench) -> None:
    bench.local('hosts = ["git.example.com"]\n', has_credentials=False)
    assert "password=" not in git(bench)
    bench.fails("helper-failed", "doctor")
    assert "Do what the message says" in bench.todo("helper-failed")
    (command,) = bench.fails("credentials-absent", "token")  # says the same to a person
    bench.typed(command, GOOD)
    for note in bench.home.cache.glob("*.failure"):
        note.unlink()
    assert "password=" in git(bench)
    bench.is_gone("helper-failed")


# Stores.


@case("store-unreachable")
def _(bench: Bench) -> None:
    bench.vault()
    address = bench.open_bao().address
    bench.edit(address, f"http://127.0.0.1:{free_port()}")
    bench.fails("store-unreachable", "token", "--timeout", "3")
    assert "address" in bench.todo("store-unreachable")
    text = bench.home.config_file.read_text()
    wrong = re.findall(r'address = "(.*)"', text)[0]
    bench.edit(wrong, address)
    bench.works("token")


@case("store-denied")
def _(bench: Bench) -> None:
    """The reader prints the policy, the administrator writes it, and the reader has it then."""
    mount = bench.vault('path "MOUNT/none" { capabilities = ["read"] }')
    (command,) = bench.fails("store-denied", "token")
    assert command == "nightporter policy pitchpoint --role full"
    assert f"read on {mount}/data/prod/pitchpoint" in bench.said
    bench.home.environment["VAULT_TOKEN"] = bench.open_bao().token_with(bench.typed(command))
    bench.works("token")


@case("store-throttled")
def _(bench: Bench) -> None:
    """It is retried; who administers Vault raises the quota."""
    mount = bench.vault()
    bao = bench.open_bao()
    quota = f"sys/quotas/rate-limit/{mount}"
    bao.call("POST", quota, {"path": f"{mount}/", "rate": 0.01, "interval": "1m"})
    try:
        for _ in range(3):
            bench.ask("token", "--timeout", "2", "--force-refresh")
        assert "higher quota" in bench.todo("store-throttled")
    finally:
        bao.call("DELETE", quota)
    bench.works("token", "--timeout", "40")


@case("store-sealed")
def _(bench: Bench) -> None:
    with open_sealed() as (bao, key):
        bench.notes["bao"] = bao
        bench.open_bao = lambda: bao
        bench.vault()
        bao.call("PUT", "sys/seal")
        (command,) = bench.fails("store-sealed", "token")
        assert command == "vault operator unseal"
        bench.typed(f"{command} {key}")
        bench.works("token", "--timeout", "40")


@contextlib.contextmanager
def open_sealed() -> Iterator[tuple[OpenBao, str]]:
    """A server that can be sealed, with the key that opens it again."""
    port = free_port()
    config = (
        f'storage "inmem" {{}}\nlistener "tcp" {{\n  address = "127.0.0.1:{port}"\n'
        f'  tls_disable = true\n}}\napi_addr = "http://127.0.0.1:{port}"\n'
    )
    file = Path(f"/tmp/{port}.hcl")
    file.write_text(config)
    process = subprocess.Popen(
        [ROOT / ".venv/bin/bao", "server", f"-config={file}"],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        bao = OpenBao(address=f"http://127.0.0.1:{port}", token="none")
        made = None
        for _ in range(200):
            with contextlib.suppress(OSError):
                made = bao.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
                break
            time.sleep(0.1)
        assert made is not None, "it did not start"
        bao.token, key = made["root_token"], made["keys"][0]
        bao.call("PUT", "sys/unseal", {"key": key})
        yield bao, key
    finally:
        process.kill()
        process.wait()
        file.unlink()


@case("store-value")
def _(bench: Bench) -> None:
    mount = bench.vault(version=1)
    (command,) = bench.fails("store-value", "token")
    bench.typed(command)
    bench.open_bao().put(mount, "ready", {"yes": "1"})
    bench.works("token")


@case("store-note")
def _(bench: Bench) -> None:
    """The path has Vault's own `data/` in it."""
    bench.vault()
    bench.edit(f'"{PATH}"', f'"data/{PATH}"')
    bench.fails("store-note", "doctor")
    assert "without data/" in bench.said
    bench.edit(f'"data/{PATH}"', f'"{PATH}"')
    bench.is_gone("store-note")
    bench.works("token")


@case("store-rolled-back")
def _(bench: Bench) -> None:
    """The store is set back to a copy of yesterday."""
    seeded(bench)
    file = bench.record("sessions%2Fist")
    before = file.read_bytes()
    bench.vendor.world.grace_s = 600.0
    for _ in range(2):
        bench.works("token", "--force-refresh")
    file.write_bytes(before)
    file.chmod(0o600)
    (command,) = bench.fails("store-rolled-back", "token", "--force-refresh")
    assert command == "nightporter doctor ist --repair"
    bench.typed(command)
    bench.typed("nightporter seed ist", bench.vendor.world.new_refresh_token())
    bench.works("token")


@case("result-spilled")
def _(bench: Bench) -> None:
    """The store comes back."""
    seeded(bench)
    bench.edit('issuer = "vault-ist"', 'issuer = "vault-ist"\nstore = "shelf"')
    shelf, away = bench.home.path / "shelf", bench.home.path / "away"
    bench.home.config_file.write_text(
        f'[stores.shelf]\ntype = "local"\npath = "{shelf}"\n' + bench.home.config_file.read_text()
    )
    bench.typed("nightporter seed ist", bench.vendor.world.new_refresh_token())
    bench.vendor.fail({"kind": "late", "seconds": min(patience(2), 12)})
    asking = bench.home.start("token")
    until(lambda: bench.vendor.count("refresh"))
    shelf.rename(away)
    shelf.touch()
    out, err = asking.communicate(timeout=patience(60))
    bench.said = out + err
    assert asking.returncode == 5, bench.said
    (command,) = bench.commands("result-spilled")
    assert command == "nightporter rotate ist"
    shelf.unlink()
    away.rename(shelf)
    bench.typed(command)
    bench.works("token")
