"""All that a verbose run prints, and every file that it leaves, is searched for every secret that
it used."""

from __future__ import annotations

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


def test_no_secret_in_argv_while_it_runs(home: Home, vendor: Vendor) -> None:
    vendor.world.latency_s = 1.0
    process = home.start("token")
    import time
    from pathlib import Path

    time.sleep(0.7)
    argv = Path(f"/proc/{process.pid}/cmdline").read_text()
    out, _ = process.communicate(timeout=30)
    assert PASSWORD not in argv
    assert out.strip() not in argv
