"""A program that hears everything (root logger at level 1, warnings, what `http.client` prints at
its debug level) gets no secret from any way to a token: every kind of client, logins, revocation,
the agent, a webhook, a sealed store."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lab.heard import PROGRAM, Heard
from lab.jose import pem, rsa_key
from lab.patience import patience, until
from lab.servers.strict_clients import Client, Issuer, open_strict_issuer
from lab.support import Home
from lab.worlds.vendor import Vendor


@pytest.fixture
def heard(empty_home: Home) -> Heard:
    return Heard(empty_home)


def profile(home: Home, address: str, *lines: str, more: str = "", **secret: str) -> None:
    head = (
        "[profiles.acme]",
        'issuer = "oauth2"',
        f'token_endpoint = "{address}/oauth2/token"',
        f'device_authorization_endpoint = "{address}/oauth2/devicecode"',
        'credentials = "prod/acme"',
    )
    home.configure(more + "\n".join((*head, *lines)) + "\n")
    if secret:
        home.set_credentials("acme", **secret)


def everything_of(vendor: Vendor) -> list[str]:
    return [*vendor.world.refresh_tokens, *vendor.world.access_tokens]


CLIENT = {"client_id": "demo-client", "client_secret": "demo-secret"}


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
def test_client_credentials(heard: Heard, vendor: Vendor, method: str) -> None:
    lines = ('grant = "client_credentials"', f'token_endpoint_auth_method = "{method}"')
    profile(heard.home, vendor.address, *lines, **CLIENT)
    heard.run(["get_token", "acme"], ["rotate", "--all"], ["status"], ["doctor"])
    basic = "ZGVtby1jbGllbnQ6ZGVtby1zZWNyZXQ"  # base64 of both
    assert len(vendor.world.access_tokens) >= 1, heard.err
    heard.holds_none_of("demo-secret", basic, *everything_of(vendor))


@pytest.fixture
def strict() -> Iterator[Issuer]:
    with open_strict_issuer() as issuer:
        issuer.clients["c-1"] = Client(key=rsa_key().public_key())
        yield issuer


def test_a_client_that_signs(heard: Heard, strict: Issuer) -> None:
    """The key, the assertions and the device's code."""
    key = pem(rsa_key())
    signs = 'token_endpoint_auth_method = "private_key_jwt"'
    for grant, step in (("client_credentials", ["get_token", "acme"]), ("device_code", LOGIN)):
        lines = (f'grant = "{grant}"', signs, 'refresh_token = "prod/acme/x"')
        profile(heard.home, strict.address, *lines, client_id="c-1", private_key=key)
        before = strict.posts
        heard.run(step)
        assert strict.posts > before, heard.err
        heard.home.drop_cache()
    heard.holds_none_of(*key.split("\n")[1:4], *strict.live)


LOGIN = ["login", "acme"]


def test_a_seeded_session_and_its_revocation(heard: Heard, vendor: Vendor) -> None:
    lines = (
        'grant = "authorization_code"',
        'rotation = "rotates"',
        f'revocation_endpoint = "{vendor.address}/oauth2/revoke"',
    )
    profile(heard.home, vendor.address, *lines, **CLIENT)
    seeded = vendor.world.new_refresh_token()
    heard.run(["seed", "acme"], stdin=seeded)
    heard.run(["get_token", "acme"], ["rotate", "--all"], ["logout", "acme", "--everywhere"])
    assert vendor.count("revoke") >= 1, heard.err
    heard.holds_none_of(seeded, "demo-secret", *everything_of(vendor))


def test_a_webhook_with_a_secret_in_its_address(heard: Heard, vendor: Vendor) -> None:
    got: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = f'[notify]\nwebhook = "http://127.0.0.1:{server.server_address[1]}/hook-secret"\n'
        lines = ('grant = "authorization_code"', 'rotation = "rotates"')
        profile(heard.home, vendor.address, *lines, more=hook, **CLIENT)
        seeded = vendor.world.new_refresh_token()
        heard.run(["seed", "acme"], stdin=seeded)
        vendor.world.refresh(seeded)  # by somebody else: news
        heard.run(["get_token", "acme"])
        server.shutdown()
    assert got == ["/hook-secret"], heard.err
    heard.holds_none_of("hook-secret", seeded, "demo-secret", *everything_of(vendor))


def test_a_sealed_store(heard: Heard, vendor: Vendor) -> None:
    """Its key too, which the program's keyring holds."""
    more = '[stores.s]\ntype = "local"\nseal = "keyring"\n'
    profile(heard.home, vendor.address, 'grant = "client_credentials"', more=more)
    heard.run(["credentials", "set", "acme"], ["get_token", "acme"], stdin=json.dumps(CLIENT))
    assert len(vendor.world.access_tokens) >= 1, heard.err
    heard.holds_none_of("demo-secret", *everything_of(vendor))


def asked(path: str, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return connection.makefile("rb").read()


def test_the_agent(heard: Heard, vendor: Vendor, tmp_path: Path) -> None:
    profile(heard.home, vendor.address, 'grant = "client_credentials"', **CLIENT)
    place = tmp_path / "s"
    steps = json.dumps([["agent", "--socket", str(place)]])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(heard.file), steps],
        env=heard.home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: place.exists() or process.poll() is not None)
    assert b" 200 " in asked(str(place), "/v1/token?profile=acme")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=patience(30))
    heard.text = out + err + (heard.file.read_text() if heard.file.exists() else "")
    heard.holds_none_of("demo-secret", *everything_of(vendor))
