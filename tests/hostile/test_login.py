"""Logins on a machine that others use too, and answers of other issuers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.browsers import HEAD
from lab.patience import patience
from lab.support import Home
from lab.worlds.vendor import Vendor
from nightporter.core.errors import ConfigError, IssuerReplyError, LoginRequiredError
from nightporter.issuers.oauth import Response
from nightporter.issuers.oauth2 import ISS_PROMISED
from nightporter.operations import login
from nightporter.operations.login import _check_issuer, _open_servers, _parse_device

FOLLOW = """
page = opener.open(address).read().decode()
target = html.unescape(re.search('id="allow" href="([^"]+)"', page)[1])
"""


@pytest.fixture
def acme(empty_home: Home, vendor: Vendor) -> Home:
    empty_home.configure(
        f'[profiles.acme]\nissuer = "entra"\ntenant = "t"\nbase_url = "{vendor.address}"\n'
        'credentials = "prod/acme"\nscopes = "api offline_access"\n'
    )
    empty_home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    return empty_home


def browser(home: Home, script: str) -> str:
    file = home.path / "browser"
    file.write_text(HEAD + FOLLOW + script)
    file.chmod(0o755)
    return f"{file} %s"


def test_the_browser_s_argv_holds_no_challenge(acme: Home) -> None:
    """Every user of the machine can read it, and complete the login as somebody else
    (jupyter/notebook#4260)."""
    script = (
        "import os, stat, urllib.parse\n"
        "path = urllib.request.url2pathname(urllib.parse.urlsplit(sys.argv[1]).path)\n"
        "places = (path, os.path.dirname(path))\n"
        "modes = [stat.S_IMODE(os.stat(place).st_mode) for place in places]\n"
        "open('argv', 'w').write(f'{sys.argv} {list(map(oct, modes))}')\n"
        "opener.open(target).read()\n"
    )
    done = acme.run("login", "acme", BROWSER=browser(acme, script))
    assert done.code == 0, done.err
    seen = (acme.path / "argv").read_text()
    assert "file://" in seen
    assert "['0o600', '0o700']" in seen
    for word in ("state", "code_challenge", "authorize"):
        assert word not in seen
    assert list(acme.cache.glob("run-*")) == []


def test_an_answer_of_another_issuer(acme: Home, vendor: Vendor) -> None:
    """RFC 9207: the mix-up attack."""
    script = "opener.open(target + '&iss=https://evil.example').read()\n"
    done = acme.run("login", "acme", BROWSER=browser(acme, script))
    assert done.code == 4
    assert "of another issuer (iss)" in done.err
    assert not (acme.data / "prod%2Facme%2Frefresh-token.json").exists()
    assert vendor.count("refresh") == 0


@pytest.mark.parametrize(
    ("options", "query", "is_fine"),
    [
        ({"issuer_url": "https://i.example/t"}, {"iss": "https://i.example/t"}, True),
        ({"issuer_url": "https://i.example/t"}, {"iss": "https://i.example/t/"}, True),
        ({"issuer_url": "https://i.example/t"}, {"iss": "https://i.example/u"}, False),
        ({"issuer_url": "https://i.example/t"}, {}, True),
        ({"issuer_url": "https://i.example/t", ISS_PROMISED: True}, {}, False),
        ({"authorization_endpoint": "https://i.example/a"}, {"iss": "https://i.example"}, True),
        ({"authorization_endpoint": "https://i.example/a"}, {"iss": "https://j.example"}, False),
        ({"authorization_endpoint": "https://i.example/a"}, {"iss": ""}, False),
    ],
)
def test_whose_answer_it_is(options: Any, query: dict[str, str], is_fine: bool) -> None:
    profile: Any = SimpleNamespace(options=options, token_endpoint="https://i.example/token")
    expected = contextlib.nullcontext() if is_fine else pytest.raises(LoginRequiredError)
    with expected:
        _check_issuer(profile, query)


@pytest.fixture
def ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on loopback here")


def test_both_families_are_ours(ipv6: None) -> None:
    """Where localhost means ::1 first, who has that port would get code and state."""
    profile: Any = SimpleNamespace(options={})
    servers = _open_servers(profile)
    try:
        ports = {server.server_address[1] for server in servers}
        assert [server.server_address[0] for server in servers] == ["127.0.0.1", "::1"]
        assert len(ports) == 1
    finally:
        for server in servers:
            server.server_close()


def test_a_port_that_somebody_has_in_the_other_family(ipv6: None) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as squatter:
        profile: Any = SimpleNamespace(options={"redirect_port": squatter.getsockname()[1]})
        with pytest.raises(ConfigError, match="is taken by another program"):
            _open_servers(profile)


def test_without_ipv6_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(login, "_Server6", refuse)
    profile: Any = SimpleNamespace(options={})
    (server,) = _open_servers(profile)
    server.server_close()


AS_ANOTHER = """
import encodings.idna, os, sys, urllib.request, urllib.error  # another user may not read Python
os.setuid(int(sys.argv[2]))
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as exc:
    print(exc.code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("family", ["127.0.0.1", "[::1]"])
def test_another_user_of_the_machine_answers_no_login(ipv6: None, family: str) -> None:
    """Even with the state: its own session would become ours."""
    answer = login._Answer()
    profile: Any = SimpleNamespace(options={})
    servers = _open_servers(profile)
    for server in servers:
        server.RequestHandlerClass = login._handler(answer, "s")
    server = servers[family == "[::1]"]
    url = f"http://{family}:{server.server_address[1]}/?code=c&state=s"
    said = []
    for user in (2002, 0):
        command = [sys.executable, "-c", AS_ANOTHER, url, str(user)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
            server.timeout = 20
            server.handle_request()
            said.append(process.communicate(timeout=patience(20))[0].strip())
    for item in servers:
        item.server_close()
    assert said == ["403", "200"]
    assert answer.query == {"code": "c", "state": "s"}
    assert answer.strays == 1


def device(**members: object) -> Response:
    document = {
        "device_code": "d",
        "user_code": "u",
        "verification_uri": "https://i.example/device",
        **members,
    }
    return Response(status=200, headers={}, body=json.dumps(document).encode())


def test_a_device_login_is_polled_once_a_second_at_most() -> None:
    assert _parse_device(device(interval=0.0001))[3] == 1.0
    assert _parse_device(device(interval=-5))[3] == 1.0


@pytest.mark.parametrize(
    "members",
    [
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "http://i.example/device"},
        {"verification_uri": "https://i.example/\x1b[2J"},
        {"user_code": "\u202e"},
        {"interval": "nan"},
        {"interval": 1e9},
    ],
)
def test_what_a_device_login_would_show(members: dict[str, object]) -> None:
    if members == {"interval": "nan"}:
        assert _parse_device(device(**members))[3] == 1.0
        return
    with pytest.raises(IssuerReplyError):
        _parse_device(device(**members))


def test_a_deep_answer_is_an_answer_that_can_t_be_used() -> None:
    with pytest.raises(IssuerReplyError):
        _parse_device(Response(status=200, headers={}, body=b"[" * 200_000))


def test_the_page_is_gone_after_a_login_that_failed(acme: Home, tmp_path: Path) -> None:
    done = acme.run("--timeout", "2", "login", "acme", BROWSER="true")
    assert done.code == 4
    assert list(acme.cache.glob("run-*")) == []
