"""git and docker as helper commands, with the real clients where they are here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Vendor
from support import BIN, Home, pitchpoint_config
from tls import Guarded, open_guarded, token_of

OURS = "protocol=https\nhost=git.example.com\n"
BEARER = "capability[]=authtype\ncapability[]=state\n" + OURS


@pytest.fixture
def serving(home: Home, vendor: Vendor) -> Home:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com", "reg.example.com:5000"]'))
    return home


def git(home: Home, operation: str, text: str) -> tuple[int, str, str]:
    done = home.run("credential", "git", operation, stdin=text)
    return done.code, done.out, done.err


def keys(out: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in out.splitlines())


def test_git_get_with_user_name_and_token(serving: Home, vendor: Vendor) -> None:
    code, out, err = git(serving, "get", OURS)
    assert (code, err) == (0, "")
    assert keys(out)["username"] == "oauth2"
    assert vendor.world.is_live(keys(out)["password"])
    assert set(keys(out)) == {"username", "password", "password_expiry_utc"}


def test_git_get_with_bearer_and_a_silent_second_try(serving: Home, vendor: Vendor) -> None:
    fresh = keys(git(serving, "get", BEARER)[1])
    assert "continue" not in fresh  # it comes from the vendor: a second one would fare no better
    cached = keys(git(serving, "get", BEARER)[1])
    assert (cached["credential"], cached["continue"]) == (fresh["credential"], "1")
    vendor.world.revoke_access_tokens()
    second = keys(git(serving, "get", BEARER + f"state[]={cached['state[]']}\n")[1])
    assert second["credential"] != fresh["credential"]
    assert "continue" not in second
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    "text",
    ["protocol=https\nhost=elsewhere.example\n", "protocol=http\nhost=git.example.com\n", "", OURS + "username=bob\n"],
)
def test_git_none_of_ours_is_silence(serving: Home, vendor: Vendor, text: str) -> None:
    assert git(serving, "get", text) == (0, "", "")
    assert vendor.count("sign-in") == 0


def test_git_failure_is_said_and_stops_git(serving: Home, vendor: Vendor) -> None:
    vendor.world.users = {}
    code, out, err = git(serving, "get", OURS)
    assert (code, out) == (0, "quit=1\n")
    assert "refused the sign-in" in err


def test_git_a_hostile_ask_is_refused_without_an_echo(serving: Home) -> None:
    code, out, err = git(serving, "get", OURS + "username=x\rhost=evil.example\n")
    assert (code, out) == (0, "")
    assert "evil" not in err


def test_git_erase_drops_the_refused_token_and_never_the_session(serving: Home, vendor: Vendor) -> None:
    token = keys(git(serving, "get", OURS)[1])["password"]
    assert git(serving, "erase", OURS + "password=another\n") == (0, "", "")
    assert keys(git(serving, "get", OURS)[1])["password"] == token
    assert git(serving, "erase", OURS + f"username=oauth2\npassword={token}\n") == (0, "", "")
    assert keys(git(serving, "get", OURS)[1])["password"] != token
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 1)


def test_git_store_capability_and_the_unknown(serving: Home) -> None:
    assert git(serving, "store", OURS + "password=x\n") == (0, "", "")
    assert git(serving, "capability", "")[1] == "version 0\ncapability authtype\ncapability state\n"
    assert git(serving, "invented", "") == (0, "", "")


def test_git_credential_fill_with_the_real_git(serving: Home, vendor: Vendor) -> None:
    helper = BIN / "git-credential-nightporter"
    done = subprocess.run(
        ["git", "-c", "credential.helper=", "-c", f"credential.helper={helper}", "credential", "fill"],
        env={**serving.environment, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"},
        input=OURS + "\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert vendor.world.is_live(keys(done.stdout)["password"])


# docker.


def docker(home: Home, action: str, text: str = "") -> tuple[int, str, str]:
    done = home.run("credential", "docker", action, stdin=text)
    return done.code, done.out, done.err


def test_docker_get(serving: Home, vendor: Vendor) -> None:
    for server in ("reg.example.com:5000", "https://reg.example.com:5000/v2/\n"):
        code, out, err = docker(serving, "get", server)
        assert (code, err) == (0, "")
        assert json.loads(out)["ServerURL"] == server.strip()
        assert vendor.world.is_live(json.loads(out)["Secret"])


def test_docker_words(serving: Home, vendor: Vendor) -> None:
    assert docker(serving, "get", "elsewhere.example") == (1, "credentials not found in native keychain\n", "")
    assert docker(serving, "get", "\n") == (1, "no credentials server URL\n", "")
    assert docker(serving, "store", '{"ServerURL":"x","Username":"u","Secret":"s"}\n')[0] == 1
    assert docker(serving, "erase", "elsewhere.example")[0] == 0
    assert json.loads(docker(serving, "list")[1]) == {"git.example.com": "oauth2", "reg.example.com:5000": "oauth2"}
    assert docker(serving, "version")[1].startswith("docker-credential-nightporter ")
    assert docker(serving, "invented")[0] == 1
    assert docker(serving, "get", "user@reg.example.com:5000")[0] == 1
    vendor.world.users = {}
    code, out, _ = docker(serving, "get", "reg.example.com:5000")
    assert code == 1
    assert "credentials-refused" in out


DIGEST = "sha256:" + "0" * 64
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 2,
        "digest": "sha256:" + "0" * 64,
    },
    "layers": [],
}


@pytest.fixture
def registry(vendor: Vendor, tmp_path: Path) -> Iterator[Guarded]:
    answers = {"/v2/": {}, "/v2/x/y/manifests/latest": MANIFEST}
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=answers) as server:
        yield server


def test_the_real_docker_asks_the_helper(home: Home, vendor: Vendor, registry: Guarded) -> None:
    client = shutil.which("docker")
    if client is None:
        pytest.skip("docker's client is not on this machine")
    host = registry.address.removeprefix("https://")
    home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{host}"]'))
    config = home.path / ".docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credHelpers": {host: "nightporter"}}))
    environment = {
        **home.environment,
        "PATH": f"{BIN}:{home.environment['PATH']}",
        "DOCKER_CONFIG": str(config),
        "SSL_CERT_FILE": str(registry.ca_file),
    }
    subprocess.run(
        [client, "manifest", "inspect", f"{host}/x/y:latest"], env=environment, capture_output=True, timeout=60
    )
    sent = [token_of(authorization) for _, _, authorization in registry.seen if authorization]
    assert sent
    assert all(vendor.world.is_live(token) for token in sent)
    assert vendor.count("sign-in") == 1
