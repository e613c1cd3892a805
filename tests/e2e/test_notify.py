"""`[notify]`: somebody is told what is wrong with a session, once in a fleet, and when it is
over."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.patience import patience
from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core.expiry import format_rfc3339

HOSTS = 4
CATCH = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told.jsonl"


def lines(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def hosts(tmp_path: Path, vendor: Vendor, notify: str, profile: str) -> list[Home]:
    """Hosts with homes of their own and one store. `profile`: what else its table holds."""
    homes = [Home(tmp_path / f"host-{number}") for number in range(HOSTS)]
    for home in homes:
        home.configure(
            f'[notify]\n{notify}\n[stores.shared]\ntype = "local"\npath = "{tmp_path}/store"\n'
            f'[profiles.acme]\nstore = "shared"\nbase_url = "{vendor.address}"\n'
            f'credentials = "prod/acme"\n{profile}'
        )
    return homes


def fleet(tmp_path: Path, vendor: Vendor, notify: str) -> list[Home]:
    """Hosts that a person has logged in."""
    homes = hosts(
        tmp_path,
        vendor,
        notify,
        'issuer = "oauth2"\ngrant = "authorization_code"\nrotation = "rotates"\n'
        f'token_endpoint = "{vendor.address}/oauth2/token"\n',
    )
    homes[0].set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    return homes


def by_command(told: Path) -> str:
    return f"command = {json.dumps([sys.executable, '-c', CATCH, str(told)])}"


def seed(home: Home, vendor: Vendor) -> str:
    token = vendor.world.new_refresh_token()
    assert home.run("seed", "acme", stdin=token).code == 0
    return token


def use_with_curl(vendor: Vendor, token: str) -> None:
    """Somebody else exchanges the token."""
    command = ("curl", "-sS", "--fail", "--noproxy", "*", "-u", "demo-client:demo-secret")
    form = ("-d", "grant_type=refresh_token", "--data-urlencode", f"refresh_token={token}")
    address = f"{vendor.address}/oauth2/token"
    subprocess.run(
        [*command, *form, address], check=True, capture_output=True, timeout=patience(20)
    )


def all_ask(homes: list[Home]) -> list[int]:
    with ThreadPoolExecutor(HOSTS) as pool:
        return [done.code for done in pool.map(lambda home: home.run("token"), homes)]


def test_a_theft_is_told_once_by_four_hosts_and_its_end_once(
    tmp_path: Path, vendor: Vendor, told: Path
) -> None:
    homes = fleet(tmp_path, vendor, by_command(told))
    token = seed(homes[0], vendor)
    use_with_curl(vendor, token)
    assert all_ask(homes) == [4] * HOSTS
    assert [said["event"] for said in lines(told)] == ["used-elsewhere"]
    (said,) = lines(told)
    assert (said["profile"], said["reference"]) == ("acme", "session-used-elsewhere")
    assert "nightporter login acme" in said["what_to_do"]
    fresh = seed(homes[1], vendor)
    for home in homes:
        home.drop_cache()
    assert all_ask(homes) == [0] * HOSTS
    assert [said["event"] for said in lines(told)] == ["used-elsewhere", "recovered"]
    assert token not in told.read_text()
    assert fresh not in told.read_text()


def test_a_dead_session_is_told(tmp_path: Path, vendor: Vendor, told: Path) -> None:
    homes = fleet(tmp_path, vendor, by_command(told))
    seed(homes[0], vendor)
    vendor.world.revoke_all()
    assert all_ask(homes[:2]) == [4, 4]
    homes[2].run("rotate")
    assert [said["event"] for said in lines(told)] == ["dead"]


def test_a_refused_sign_in_is_told_and_its_end(home: Home, vendor: Vendor, told: Path) -> None:
    home.config_file.write_text(f"[notify]\n{by_command(told)}\n" + home.config_file.read_text())
    vendor.world.users["svc-acme"] = "another"
    assert home.run("token").code == 3
    home.drop_cache()
    assert home.run("token").code == 3
    assert "told          refused, by " in home.run("status").out
    assert "incidents are told by a command" in home.run("doctor").out
    assert 'command = ["' in home.run("config", "show").out
    home.set_credentials(username="svc-acme", password="another")
    assert home.run("token").code == 0
    assert [said["event"] for said in lines(told)] == ["refused", "recovered"]
    assert "told" not in home.run("status").out
    assert "notified" not in home.record()


def test_a_session_that_ends_soon_is_told(home: Home, told: Path) -> None:
    home.config_file.write_text(
        f"[notify]\n{by_command(told)}\n" + home.config_file.read_text() + "renew_when_left = 1\n"
    )
    assert home.run("token").code == 0
    assert lines(told) == []
    home.set_record(expires_at=format_rfc3339(int(time.time()) + 3600))
    assert home.run("rotate").code == 0
    assert home.run("rotate").code == 0
    assert [said["event"] for said in lines(told)] == ["ending"]


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.said.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.said = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_is_told(tmp_path: Path, vendor: Vendor, hook: ThreadingHTTPServer) -> None:
    port = hook.server_address[1]
    homes = fleet(tmp_path, vendor, f'webhook = "http://127.0.0.1:{port}/hook"')
    seed(homes[0], vendor)
    vendor.world.revoke_all()
    assert all_ask(homes[:2]) == [4, 4]
    said = hook.said  # type: ignore[attr-defined]
    assert [each["event"] for each in said] == ["dead"]


@pytest.mark.parametrize("program", ["/no/such/program", "/bin/false"])
def test_a_command_that_fails_fails_nobody(home: Home, vendor: Vendor, program: str) -> None:
    log = home.path / "audit.jsonl"
    is_there = Path(program).exists()
    home.config_file.write_text(
        f'[notify]\ncommand = ["{program}"]\n' + home.config_file.read_text()
    )
    vendor.world.users["svc-acme"] = "another"
    done = home.run("token", NIGHTPORTER_LOG=str(log))
    assert (done.code, "reference: credentials-refused" in done.err) == (3, True)
    assert '"event": "notify-failed"' in log.read_text()
    assert ("is no program" in home.run("config", "check").err) is not is_there


@pytest.mark.parametrize(
    "text",
    [
        "command = []",
        'command = ["notify-send"]',
        'command = "/bin/true"',
        'webhook = "http://hooks.example.com/x"',
        "",
        'hook = "https://x.example"',
    ],
)
def test_what_can_t_be_told_is_a_wrong_configuration(home: Home, text: str) -> None:
    home.config_file.write_text(f"[notify]\n{text}\n" + home.config_file.read_text())
    done = home.run("token")
    assert (done.code, "notify" in done.err) == (2, True)


def password_fleet(tmp_path: Path, vendor: Vendor, notify: str, more: str = "") -> list[Home]:
    """Hosts that sign in by themselves, with one store."""
    homes = hosts(tmp_path, vendor, notify, f'issuer = "pitchpoint"\n{more}')
    homes[0].set_credentials("acme", username="svc-acme", password="correct-horse")
    return homes


def test_a_refusal_is_told_once_by_four_hosts_and_its_end_once(
    tmp_path: Path, vendor: Vendor, told: Path
) -> None:
    homes = password_fleet(tmp_path, vendor, by_command(told))
    vendor.world.users["svc-acme"] = "another"
    assert all_ask(homes) == [3] * HOSTS
    for home in homes:
        home.drop_cache()
    assert all_ask(homes) == [3] * HOSTS
    assert [said["event"] for said in lines(told)] == ["refused"]
    homes[1].set_credentials("acme", username="svc-acme", password="another")
    for home in homes:
        home.drop_cache()
    assert all_ask(homes) == [0] * HOSTS
    assert [said["event"] for said in lines(told)] == ["refused", "recovered"]
    assert {said["incident"] for said in lines(told)} == {"refused"}


def test_an_end_that_is_near_is_told_once_by_four_hosts(
    tmp_path: Path, vendor: Vendor, told: Path
) -> None:
    homes = password_fleet(tmp_path, vendor, by_command(told), "renew_when_left = 1\n")
    assert homes[0].run("token").code == 0
    (file,) = (tmp_path / "store").glob("*refresh-token.json")
    document = json.loads(file.read_text())
    document["version"] += 1
    document["value"]["expires_at"] = format_rfc3339(int(time.time()) + 3600)
    file.write_text(json.dumps(document))
    with ThreadPoolExecutor(HOSTS) as pool:
        assert [each.code for each in pool.map(lambda home: home.run("rotate"), homes)] == [0] * 4
    assert [said["event"] for said in lines(told)] == ["ending"]
