"""git of both kinds against a TLS server that takes only the right token: before Bearer (2.39) and
with it (2.46)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.clients import client, git_backend, git_environment, run
from lab.servers.tls import Guarded, open_guarded
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients


@pytest.fixture
def server(vendor: Vendor, tmp_path: Path) -> Iterator[Guarded]:
    root = tmp_path / "served"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(root / "r.git")], check=True)
    with open_guarded(
        tmp_path,
        is_live=vendor.world.is_live,
        answers={"/*": git_backend(root)},
        challenges=('Basic realm="git"', 'Bearer realm="git"'),
    ) as guarded:
        yield guarded


@pytest.fixture(params=["git", "git-new"])
def git(request: pytest.FixtureRequest, home: Home, vendor: Vendor, server: Guarded) -> str:
    program = client(request.param)
    home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{server.host}"]'))
    home.environment |= {
        **git_environment(program),
        "PATH": f"{Path(program).parent}:{BIN}:{home.environment['PATH']}",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": str(server.ca_file),
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }
    assert home.run("setup", "git", "pitchpoint").code == 0
    return program


def takes_bearer(home: Home, git: str) -> bool:
    version = run(home, git, "--version").out.split()[2].split(".")
    return (int(version[0]), int(version[1])) >= (2, 46)


def test_clone_push_ls_remote_and_a_revoked_token(
    git: str, home: Home, vendor: Vendor, server: Guarded
) -> None:
    url = f"{server.address}/r.git"
    run(home, git, "clone", "-q", url, "work")
    work = home.path / "work"
    (work / "file").write_text("one")
    run(home, git, "add", "file", cwd=work)
    run(home, git, "commit", "-qm", "one", cwd=work)
    run(home, git, "push", "-q", "origin", "HEAD:main", cwd=work)
    assert "refs/heads/main" in run(home, git, "ls-remote", url).out
    kind = "Bearer" if takes_bearer(home, git) else "Basic"
    assert {header.split()[0] for _, _, header in server.seen if header} == {kind}
    assert vendor.count("sign-in") == 1

    vendor.world.revoke_access_tokens()
    if kind == "Bearer":  # a silent second try
        assert "refs/heads/main" in run(home, git, "ls-remote", url).out
    else:  # git forgets the token, says so, and the next command gets another
        assert "Authentication failed" in run(home, git, "ls-remote", url, code=128).err
        assert "refs/heads/main" in run(home, git, "ls-remote", url).out
    vendor.world.revoke_access_tokens()
    (work / "file").write_text("two")
    run(home, git, "commit", "-qam", "two", cwd=work)
    if kind == "Basic":
        run(home, git, "push", "-q", "origin", "HEAD:main", cwd=work, code=128)
    run(home, git, "push", "-q", "origin", "HEAD:main", cwd=work)
    vendor.world.revoke_access_tokens()
    if kind == "Basic":
        run(home, git, "clone", "-q", url, "again", code=128)
    run(home, git, "clone", "-q", url, "again")
    assert (home.path / "again/file").read_text() == "two"
    assert vendor.count("sign-in") == 1  # the session outlived every refusal


def test_no_other_helper_is_handed_the_token(git: str, home: Home, server: Guarded) -> None:
    """git hands what one helper gave to all others in `store`; `setup` therefore clears the list
    for our hosts."""
    witness = home.path / "witness"
    run(home, git, "config", "--global", "credential.helper", f"!cat >>{witness}; true")
    assert (
        "set up" in home.run("setup", "git", "pitchpoint").err
    )  # it must stand below every general helper
    assert "nothing to change" in home.run("setup", "git", "pitchpoint").err
    run(home, git, "ls-remote", f"{server.address}/r.git")
    assert "password" not in (witness.read_text() if witness.exists() else "")


def test_a_host_that_is_in_no_hosts_gets_nothing(
    git: str, home: Home, vendor: Vendor, server: Guarded
) -> None:
    run(home, git, "ls-remote", f"{server.address}/r.git")
    record = home.record()
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["elsewhere.example"]'))
    done = run(home, git, "ls-remote", f"{server.address}/r.git", code=128)
    assert "could not read Username" in done.err
    assert home.record()["refresh_token"] == record["refresh_token"]
