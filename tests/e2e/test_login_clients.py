"""Logging in with programs that are not ours: headless Chromium, and an OAuth server of another
make."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.browsers import HEAD
from lab.patience import until
from lab.support import BIN, Home, clean_environment, free_port
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients
CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (./scripts/test clients does it, as root)"
)
def test_login_in_headless_chromium(empty_home: Home, vendor: Vendor, tmp_path: Path) -> None:
    empty_home.configure(
        f'[profiles.acme]\nissuer = "perspio"\nbase_url = "{vendor.address}"\ncredentials ='
        ' "prod/acme"\n'
    )
    empty_home.set_credentials("acme", client_id="demo-client", client_secret="demo-secret")
    flags = (
        "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        " --disable-sync"
    )
    flags += " --disable-component-update"
    profile = tmp_path / "browser-profile"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nexec {CHROMIUM} {flags} --user-data-dir={profile} "$1" >/dev/null 2>&1\n'
    )
    browser.chmod(0o755)
    try:
        done = empty_home.run(
            "--timeout", "60", "login", "acme", "--check", BROWSER=f"{browser} %s &"
        )
    finally:
        subprocess.run(["pkill", "-f", str(profile)], check=False)
    assert done.code == 0, done.err
    assert "checked" in done.err
    assert vendor.world.scopes[0] == "api://perspiotalk/access_as_user offline_access"


def answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(address, timeout=10).status == 200)
    return False


@pytest.fixture
def other_make() -> Iterator[str]:
    """An OpenID provider built on Authlib's server side."""
    port = free_port()
    process = subprocess.Popen(
        [str(BIN / "oidc-provider-mock"), "--port", str(port)],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{address}/.well-known/openid-configuration"))
        yield address
    finally:
        process.kill()
        process.wait()


BROWSER = HEAD + 'opener.open(address, data=b"sub=alice").read()\n'


def test_the_generic_issuer_by_discovery_alone(
    empty_home: Home, other_make: str, tmp_path: Path
) -> None:
    metadata = json.load(urllib.request.urlopen(f"{other_make}/.well-known/openid-configuration"))
    empty_home.configure(
        '[profiles.acme]\nissuer = "oauth2"\ngrant = "authorization_code"\nissuer_url ='
        f' "{metadata["issuer"]}"\ncredentials = "prod/acme"\nscopes = ["openid", "email"]\n'
    )
    empty_home.set_credentials("acme", client_id="any-client", client_secret="any secret/of+ours")
    browser = tmp_path / "browser"
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    done = empty_home.run("login", "acme", BROWSER=f"{browser} %s")
    assert done.code == 0, done.err
    first = empty_home.run("token")
    assert first.code == 0, first.err
    second = empty_home.run("token", "--force-refresh")
    assert second.code == 0, second.err
    assert second.out != first.out
    request = urllib.request.Request(
        metadata["userinfo_endpoint"], headers={"Authorization": f"Bearer {second.out.strip()}"}
    )
    assert json.load(urllib.request.urlopen(request))["sub"] == "alice"
