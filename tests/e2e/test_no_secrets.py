"""All that a verbose run prints, and every file that it leaves, is searched for every secret that
it used."""

from __future__ import annotations

import pytest

from lab.patience import patience, until
from lab.support import Home
from lab.worlds.vendor import Vendor

PASSWORD = "correct-horse"


def test_no_secret_in_anything_printed_and_no_refresh_token_outside_the_store(
    home: Home, vendor: Vendor
) -> None:
    printed = ""
    for args in (
        ["-v", "token"],
        ["-v", "token", "--force-refresh"],
        ["-v", "exec-credential", "pitchpoint"],
        ["-v", "status"],
        ["-v", "config", "show"],
        ["-v", "logout", "pitchpoint"],
    ):
        printed += home.run(*args).err
    printed += (
        home.run("status").out
        + home.run("status", "-o", "json").out
        + home.run("config", "show").out
    )
    vendor.fail(
        {"kind": "status", "status": 500, "times": 9, "body": {"error": "x", "echo": PASSWORD}}
    )
    vendor.world.revoke_all()
    printed += home.run("-v", "token").err
    home.drop_cache()
    vendor.world.faults.clear()
    vendor.world.users = {"svc-acme": "changed"}
    printed += home.run("-v", "token").err
    assert "refused" in printed
    secrets = [PASSWORD, *vendor.world.refresh_tokens, *vendor.world.access_tokens]
    assert len(secrets) > 3
    assert [secret for secret in secrets if secret in printed] == []


def test_the_password_and_the_refresh_token_are_in_the_store_alone(
    home: Home, vendor: Vendor
) -> None:
    home.run("token")
    secrets = [PASSWORD, *vendor.world.refresh_tokens]
    leaks = [
        file.name
        for file in home.path.rglob("*")
        if file.is_file()
        and file.parent != home.data
        and any(secret in file.read_text() for secret in secrets)
    ]
    assert leaks == []


@pytest.mark.parametrize("call", ["sign-in", "refresh"])
def test_no_secret_in_argv_or_environment_of_any_process(
    home: Home, vendor: Vendor, call: str
) -> None:
    """Of the command and of all that it starts, while the request with the secret is under way."""
    if call == "refresh":
        assert home.run("token").code == 0
    vendor.fail({"kind": "hang", "seconds": patience(1), "call": call})
    process = home.start("token", "--force-refresh")
    until(lambda: vendor.count(call))
    told = home.told_to_processes()
    out, _ = process.communicate(timeout=patience(30))
    assert "--force-refresh" in told
    secrets = [PASSWORD, out.strip(), *vendor.world.refresh_tokens, *vendor.world.access_tokens]
    assert [secret for secret in secrets if secret in told] == []
