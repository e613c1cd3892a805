"""Paths that are patterns, secrets under other names, pages that play with the sandbox."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lab.support import Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core import checks
from nightporter.core.model import Claim
from nightporter.keyring_backend import NightporterKeyring
from nightporter.machine.places import cache_directories
from nightporter.machine.plain_asks import KEPT_S
from nightporter.machine.process import is_dead


@pytest.mark.parametrize(
    "path",
    [
        *("prod/*", "prod/+/x", "+", "a?", 'a" { capabilities = ["sudo"] } path "b', "a\\b"),
        *("a{b", "a}", "prod/\n", "prod/\x1b"),
    ],
)
def test_a_path_is_no_pattern(path: str) -> None:
    """In a policy `*` and `+` are others' secrets, and a quote ends the text (run on OpenBao)."""
    assert checks.path(path)


@pytest.mark.parametrize("path", ["prod/a+b", "prod/pitch.point_1", "arn:aws:secretsmanager:x:1:s"])
def test_an_ordinary_path(path: str) -> None:
    assert checks.path(path) is None


@pytest.mark.parametrize(
    "key",
    [
        *("Password", "passwd", "api-key", "apikey", "secretKey", "CLIENT_SECRET", "Refresh-Token"),
        *("clientAssertion", "private.key"),
    ],
)
def test_a_secret_under_another_spelling(key: str) -> None:
    assert checks.parameters({key: "x"})
    assert checks.parameters({"audience": "x", "resource": "y", "token_use": "z"}) is None


def test_the_bundle_leaves_values_of_one_s_own_out(home: Home, vendor: Vendor) -> None:
    store = (
        '[stores.v]\ntype = "vault"\naddress = "http://127.0.0.1:1"\n'
        'auth = { method = "approle", role_id = "the-role-id", secret_id_env = "X" }\n'
    )
    more = 'store = "v"'
    home.configure(
        pitchpoint_config(vendor.address, stores=store, more=more)
        + '[profiles.o]\nissuer = "oauth2"\nstore = "v"\ntoken_endpoint = "https://i.example/t"\n'
        'grant = "client_credentials"\ncredentials = "prod/o"\n'
        'extra_parameters = { code_word = "open-sesame" }\n'
    )
    home.run("doctor", "--bundle", "report.json")
    text = (home.path / "report.json").read_text()
    assert json.loads(text)["configuration"]
    assert "open-sesame" not in text
    assert "the-role-id" not in text


@pytest.mark.parametrize(
    "holder", ["x/\u00b2/1", "x/1/\u0662", "x/99999999999999999999/1", "x//", "x"]
)
def test_a_holder_that_is_no_process(holder: str) -> None:
    """`str.isdigit` takes more than `int` does."""
    claim = Claim(holder=holder, until=0, nonce="n", machine="m")
    assert is_dead(claim, "m") in (True, False)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "evil:80"}]
)
def test_no_page_plays_with_the_sandbox(vendor: Vendor, headers: dict[str, str]) -> None:
    """It answered any page with a refresh token (the class of 99designs/aws-vault#578)."""
    address = f"{vendor.address}/_sandbox/world"
    request = urllib.request.Request(address, b'{"seed": true}', headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403
    caught.value.close()
    with urllib.request.urlopen(urllib.request.Request(address, b'{"seed": true}')) as reply:
        assert reply.status == 200


def test_a_runtime_directory_of_another_is_none(tmp_path: Path) -> None:
    """`sudo -E` left root's directory in the user's."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    environment = {"XDG_RUNTIME_DIR": str(runtime)}
    assert cache_directories(environment)[0] == str(runtime / "nightporter")
    runtime.chmod(0o777)
    assert str(runtime / "nightporter") not in cache_directories(environment)
    if os.geteuid() == 0:
        runtime.chmod(0o700)
        os.chown(runtime, 2002, 2002)
        assert str(runtime / "nightporter") not in cache_directories(environment)


def test_a_line_break_in_a_variable_is_no_other_variable(home: Home) -> None:
    """The ask of the door is lines: one value could have told two."""
    for _ in range(2):
        assert home.run("token", NIGHTPORTER_TIMEOUT="30", AWS_PROFILE="prod").code == 0
    assert list(home.cache.glob("*.reply"))
    done = home.run("token", NIGHTPORTER_TIMEOUT="30\nAWS_PROFILE=prod")
    assert (done.code, done.out) == (2, "")


def test_a_bare_host_after_its_plain_http_address(
    home: Home, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip and uv ask for the address, then in another process for the host alone, and send what
    they get in clear."""
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com"]'))
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    backend = NightporterKeyring()
    assert backend.get_credential("http://git.example.com/simple/", None) is None
    assert backend.get_credential("git.example.com", None) is None
    assert backend.get_credential("https://git.example.com/simple/", None) is not None
    assert NightporterKeyring().get_credential("git.example.com", None) is None


@pytest.mark.parametrize(
    "address",
    [
        "http://git.example.com:443/",
        "HTTP://u@GIT.example.com/x",
        "http://git.example.com:80/",
        "http://git.example.com/my repo/simple/",
        "http://git.example.com/a\\b/simple/",
        " http://git.example.com/simple/",
        "http://git.example.com/simple/\n",
        "http://git.example.com\\simple/",
        "http://git.example.com/\x7f",
    ],
)
def test_a_bare_host_is_one_host_however_its_address_was_spelled(
    home: Home, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Another host of ours, and the same one once a minute is over, have their answer."""
    hosts = 'hosts = ["git.example.com", "else.example.com"]'
    home.configure(pitchpoint_config(vendor.address, more=hosts))
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)
    assert NightporterKeyring().get_credential(address, None) is None
    assert NightporterKeyring().get_credential("git.example.com", None) is None
    assert NightporterKeyring().get_credential("git.example.com:443", None) is None
    assert NightporterKeyring().get_credential("else.example.com", None) is not None
    later = time.time() + KEPT_S
    monkeypatch.setattr(time, "time", lambda: later)
    assert NightporterKeyring().get_credential("git.example.com", None) is not None
