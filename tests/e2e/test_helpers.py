"""git and docker as helper commands, with the real clients where they are here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lab.patience import patience
from lab.servers.tls import Guarded, open_guarded, token_of
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

OURS = "protocol=https\nhost=git.example.com\n"
BEARER = "capability[]=authtype\ncapability[]=state\n" + OURS


@pytest.fixture
def serving(home: Home, vendor: Vendor) -> Home:
    home.configure(
        pitchpoint_config(
            vendor.address, more='hosts = ["git.example.com", "reg.example.com:5000"]'
        )
    )
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
    [
        "protocol=https\nhost=elsewhere.example\n",
        "protocol=http\nhost=git.example.com\n",
        "",
        OURS + "username=bob\n",
    ],
)
def test_git_none_of_ours_is_silence(serving: Home, vendor: Vendor, text: str) -> None:
    assert git(serving, "get", text) == (0, "", "")
    assert vendor.count("sign-in") == 0


def test_git_failure_is_said_and_stops_git(serving: Home, vendor: Vendor) -> None:
    vendor.world.users = {}
    code, out, err = git(serving, "get", OURS)
    assert (code, out) == (0, "quit=1\n")
    assert "refused the sign-in" in err


def test_git_may_ask_on_where_the_profile_says_so(home: Home, vendor: Vendor) -> None:
    vendor.world.users = {}
    home.configure(
        pitchpoint_config(vendor.address, more='hosts = ["git.example.com"]\ngit_quit = false')
    )
    code, out, err = git(home, "get", OURS)
    assert (code, out) == (0, "")
    assert "refused the sign-in" in err


def test_git_a_broken_configuration_stops_nobody_elses_host(home: Home) -> None:
    home.configure("nonsense = 1\n")
    code, out, err = git(home, "get", "protocol=https\nhost=elsewhere.example\n")
    assert (code, out) == (0, "")
    assert "nonsense" in err


def test_git_two_profiles_for_one_host_are_named(home: Home, vendor: Vendor) -> None:
    one = pitchpoint_config(vendor.address, more='hosts = ["git.example.com"]')
    two = (
        '\n[profiles.two]\nissuer = "pitchpoint"\ncredentials = "two"\nhosts = ["*.example.com"]\n'
    )
    home.configure(one + two)
    code, out, err = git(home, "get", OURS)
    assert (code, out) == (0, "quit=1\n")
    assert "'two'" in err


def test_git_a_path_rule_wants_a_path(home: Home, vendor: Vendor) -> None:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com/team"]'))
    assert git(home, "get", OURS) == (0, "", "")
    assert git(home, "get", OURS + "path=other/r.git\n") == (0, "", "")
    assert "password=" in git(home, "get", OURS + "path=team/r.git\n")[1]


def test_git_a_megabyte_and_closed_streams(serving: Home) -> None:
    code, out, err = git(serving, "get", OURS + "x=" + "y" * (1 << 20) + "\n")
    assert (code, out) == (0, "")
    assert "too long" in err
    for closed in ("<&-", ">&-", "2>&-"):
        command = (
            f"{BIN}/nightporter credential git get {closed} </dev/null"
            if closed != "<&-"
            else (f"{BIN}/nightporter credential git get {closed}")
        )
        done = subprocess.run(
            ["sh", "-c", command], env=serving.environment, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr + done.stdout
        assert done.returncode == 0


def test_options_of_ours_on_a_helpers_own_command_line(serving: Home, vendor: Vendor) -> None:
    elsewhere = serving.path / "elsewhere.toml"
    elsewhere.write_text(pitchpoint_config(vendor.address, more='hosts = ["other.example.com"]'))
    command = [
        str(BIN / "git-credential-nightporter"),
        "--config",
        str(elsewhere),
        "--timeout=20",
        "get",
    ]
    ask = "protocol=https\nhost=other.example.com\n"
    done = subprocess.run(
        command, env=serving.environment, input=ask, capture_output=True, text=True
    )
    assert "password=" in done.stdout
    bad = subprocess.run(
        [command[0], "--timeout", "x", "get"], env=serving.environment, stdin=subprocess.DEVNULL
    )
    assert bad.returncode == 2


def test_git_a_hostile_ask_is_refused_without_an_echo(serving: Home) -> None:
    code, out, err = git(serving, "get", OURS + "username=x\rhost=evil.example\n")
    assert (code, out) == (0, "")
    assert "evil" not in err


def test_git_erase_drops_the_refused_token_and_never_the_session(
    serving: Home, vendor: Vendor
) -> None:
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
        [
            "git",
            "-c",
            "credential.helper=",
            "-c",
            f"credential.helper={helper}",
            "credential",
            "fill",
        ],
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
    assert docker(serving, "get", "elsewhere.example") == (
        1,
        "credentials not found in native keychain\n",
        "",
    )
    assert docker(serving, "get", "\n") == (1, "no credentials server URL\n", "")
    assert docker(serving, "store", '{"ServerURL":"x","Username":"u","Secret":"s"}\n')[0] == 1
    assert docker(serving, "erase", "elsewhere.example")[0] == 0
    assert json.loads(docker(serving, "list")[1]) == {
        "git.example.com": "oauth2",
        "reg.example.com:5000": "oauth2",
    }
    assert docker(serving, "version")[1].startswith("docker-credential-nightporter ")
    assert docker(serving, "invented")[0] == 1
    assert docker(serving, "get", "user@reg.example.com:5000")[0] == 1
    vendor.world.users = {}
    code, out, _ = docker(serving, "get", "reg.example.com:5000")
    assert code == 1
    assert "credentials-refused" in out


def test_what_docker_keeps_to_itself_is_in_status(serving: Home, vendor: Vendor) -> None:
    vendor.world.users = {}
    assert docker(serving, "get", "reg.example.com:5000")[0] == 1
    shown = json.loads(serving.run("status", "-o", "json").out)[0]["helper_failures"]
    assert [(note["protocol"], note["reference"]) for note in shown] == [
        ("docker", "credentials-refused")
    ]
    assert "docker failed" in serving.run("status").out
    vendor.world.users = {"svc-acme": "new"}
    serving.set_credentials(username="svc-acme", password="new")
    assert docker(serving, "get", "reg.example.com:5000")[0] == 0
    assert json.loads(serving.run("status", "-o", "json").out)[0]["helper_failures"] == []


# The others: the map of protocols.md, section 13.


def helper(
    home: Home, protocol: str, *arguments: str, stdin: str = "", **more: str
) -> tuple[int, str, str]:
    done = home.run("credential", protocol, *arguments, stdin=stdin, **more)
    return done.code, done.out, done.err


def cargo_ask(index: str, **more: Any) -> str:
    document = {
        "v": 1,
        "registry": {"index-url": index},
        "kind": "get",
        "operation": "read",
        **more,
    }
    return json.dumps(document) + "\n"


INDEX = "sparse+https://reg.example.com:5000/index/"


def test_cargo_a_conversation(serving: Home, vendor: Vendor) -> None:
    asks = [
        cargo_ask(INDEX),
        cargo_ask("sparse+https://elsewhere.example/"),
        cargo_ask(INDEX, kind="login", token="foreign"),
        cargo_ask(INDEX, kind="invented"),
        cargo_ask(INDEX, args=["--config", "/tmp/x"]),
        cargo_ask(INDEX, args=["--profile", "another"]),
        cargo_ask(INDEX, kind="login"),
        cargo_ask(INDEX, kind="logout"),
        cargo_ask(INDEX, kind="logout"),
        "nonsense\n",
    ]
    code, out, err = helper(serving, "cargo", "--cargo-plugin", stdin="".join(asks))
    hello, *answers = [json.loads(line) for line in out.splitlines()]
    assert (code, err, hello) == (0, "", {"v": [1]})
    assert vendor.world.is_live(answers[0]["Ok"]["token"].removeprefix("Bearer "))
    assert isinstance(answers[0]["Ok"]["expiration"], int)
    kinds = [
        answer["Err"]["kind"] if "Err" in answer else answer["Ok"]["kind"] for answer in answers
    ]
    assert kinds == [
        "get",
        "url-not-supported",
        "operation-not-supported",
        "operation-not-supported",
        "other",
        "url-not-supported",
        "login",
        "logout",
        "not-found",
        "other",
    ]


def test_cargo_failure_is_an_answer(serving: Home, vendor: Vendor) -> None:
    vendor.world.users = {}
    code, out, err = helper(serving, "cargo", "--cargo-plugin", stdin=cargo_ask(INDEX))
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[1])["Err"]["kind"] == "other"
    assert "refused the sign-in" in out


def test_terraform_verbs(serving: Home, vendor: Vendor) -> None:
    code, out, err = helper(serving, "terraform", "get", "reg.example.com:5000")
    assert (code, err) == (0, "")
    assert vendor.world.is_live(json.loads(out)["token"])
    assert helper(serving, "terraform", "get", "registry.example.org") == (0, "{}\n", "")
    code, out, err = helper(
        serving, "terraform", "store", "git.example.com", stdin='{"token": "x"}'
    )
    assert (code, out) == (1, "")
    assert "nothing was stored" in err
    assert helper(serving, "terraform", "forget", "git.example.com") == (0, "", "")
    assert helper(serving, "terraform", "forget", "registry.example.org") == (0, "", "")
    assert helper(serving, "terraform", "invented", "git.example.com")[0] == 2
    assert helper(serving, "terraform", "get", "user@git.example.com")[:2] == (1, "")


def test_go_phases(serving: Home, vendor: Vendor) -> None:
    assert helper(serving, "go") == (0, "", "")
    code, out, err = helper(serving, "go", "pitchpoint")
    assert (code, err) == (0, "")
    assert out.startswith(
        "https://git.example.com\nhttps://reg.example.com:5000\n\nAuthorization: Bearer "
    )
    assert out.endswith("\n\n")
    url = "https://git.example.com/mod?go-get=1"
    missing = helper(serving, "go", "pitchpoint", url, stdin="HTTP/1.1 404 Not Found\r\n\r\n")
    assert out.split("Bearer ")[1] in missing[1]
    second = helper(serving, "go", url, stdin="HTTP/1.1 401 Unauthorized\r\n\r\n")
    assert second[1].startswith(f"https://git.example.com\n{url}\n\nAuthorization: Bearer ")
    assert helper(serving, "go", "https://elsewhere.example/m", stdin="") == (0, "", "")
    vendor.world.users = {}
    serving.run("logout", "pitchpoint", "--everywhere")
    code, out, err = helper(serving, "go", "pitchpoint")
    assert (code, out) == (1, "")
    assert "refused the sign-in" in err


def test_go_answers_first_for_hosts_of_one_profile_only(home: Home, vendor: Vendor) -> None:
    more = (
        '\n[profiles.two]\nissuer = "pitchpoint"\ncredentials = "two"\nhosts = ["*.example.com"]\n'
    )
    home.configure(
        pitchpoint_config(vendor.address, more='hosts = ["git.example.com", "go.example.org"]')
        + more
    )
    assert helper(home, "go", "pitchpoint")[1].startswith("https://go.example.org\n\n")


def test_closed_and_full_outputs(serving: Home) -> None:
    ask = serving.path / "ask"
    ask.write_text(OURS)
    for words in (
        "git get",
        "docker get",
        "cargo --cargo-plugin",
        "go pitchpoint",
        "pnpm",
        "google",
    ):
        for target in (">&-", ">/dev/full", "<&-"):
            command = f"{BIN}/nightporter credential {words} <{ask} {target}"
            done = subprocess.run(
                ["sh", "-c", command], env=serving.environment, capture_output=True, text=True
            )
            assert "a defect" not in done.stderr, (words, target)
            assert "Traceback" not in done.stderr
            assert target == "<&-" or done.returncode == 1, (words, target)


def test_google_answers_for_wrong_options_too(home: Home) -> None:
    code, out, err = helper(home, "google", "--timeout", "x")
    assert (code, err) == (0, "")
    assert json.loads(out)["success"] is False


def test_git_second_tries_of_sisters_spend_one_refresh(serving: Home, vendor: Vendor) -> None:
    git(serving, "get", BEARER)
    cached = keys(git(serving, "get", BEARER)[1])
    vendor.world.revoke_access_tokens()
    for _ in range(3):
        git(serving, "get", BEARER + f"state[]={cached['state[]']}\n")
    assert vendor.count("refresh") == 1


# After the published schemas, and stricter where a client is: no member that they don't name.
BAZEL_SCHEMA = {
    "type": "object",
    "required": ["headers", "expires"],
    "additionalProperties": False,
    "properties": {
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "expires": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    },
}
KUBELET_SCHEMA = {
    "type": "object",
    "required": ["apiVersion", "kind", "cacheKeyType", "auth"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "credentialprovider.kubelet.k8s.io/v1"},
        "kind": {"const": "CredentialProviderResponse"},
        "cacheKeyType": {"enum": ["Image", "Registry", "Global"]},
        "cacheDuration": {"type": "string", "pattern": r"^\d+s$"},
        "auth": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["username", "password"],
                "additionalProperties": False,
                "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
            },
        },
    },
}


def test_bazel_and_its_failures(serving: Home, vendor: Vendor) -> None:
    ask = json.dumps({"uri": "https://git.example.com/a"})
    code, out, err = helper(serving, "bazel", "get", stdin=ask)
    assert (code, err) == (0, "")
    reply = json.loads(out)
    jsonschema.validate(reply, BAZEL_SCHEMA)
    assert vendor.world.is_live(reply["headers"]["Authorization"][0].removeprefix("Bearer "))
    assert helper(serving, "bazel", "get", stdin='{"uri": "https://elsewhere.example/"}') == (
        0,
        "{}\n",
        "",
    )
    assert helper(serving, "bazel", "get", stdin='{"uri": "http://git.example.com/"}') == (
        0,
        "{}\n",
        "",
    )
    assert helper(serving, "bazel")[0] == 2
    assert helper(serving, "bazel", "get", stdin="nonsense")[:2] == (1, "")


def test_kubelet_and_its_failures(serving: Home, vendor: Vendor) -> None:
    def ask(image: str) -> str:
        return json.dumps({"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": image})

    code, out, err = helper(serving, "kubelet", stdin=ask("reg.example.com:5000/a/b:1"))
    assert (code, err) == (0, "")
    reply = json.loads(out)
    assert vendor.world.is_live(reply["auth"]["reg.example.com:5000"]["password"])
    jsonschema.validate(reply, KUBELET_SCHEMA)
    none = json.loads(helper(serving, "kubelet", stdin=ask("alpine"))[1])
    jsonschema.validate(none, KUBELET_SCHEMA)
    assert none["auth"] == {}
    assert helper(serving, "kubelet", stdin="x")[:2] == (1, "")
    vendor.world.users = {}
    serving.run("logout", "pitchpoint", "--everywhere")
    code, out, err = helper(serving, "kubelet", stdin=ask("reg.example.com:5000/a/b:1"))
    assert (code, out) == (1, "")
    assert "reference: credentials-refused" in err


def test_pnpm_prints_the_whole_header_value(serving: Home, vendor: Vendor) -> None:
    code, out, err = helper(serving, "pnpm", "pitchpoint")
    assert (code, err) == (0, "")
    assert vendor.world.is_live(out.strip().removeprefix("Bearer "))
    assert helper(serving, "pnpm", "nobody")[:2] == (2, "")


AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"


def test_google_is_silent_whatever_happens(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    home.configure(pitchpoint_config(vendor.address, more=f'google_audiences = ["{AUDIENCE}"]'))
    variables = {"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": AUDIENCE}
    for more, profile, reference in (
        (variables, "pitchpoint", "issuer-reply"),  # an opaque token
        ({}, "pitchpoint", "host-not-allowed"),
        (variables, "nobody", "unknown-profile"),
        ({**variables, "NIGHTPORTER_CONFIG": "/nowhere"}, "pitchpoint", "configuration"),
    ):
        code, out, err = helper(home, "google", profile, **more)
        assert (code, err) == (0, ""), out
        assert json.loads(out)["success"] is False
        assert json.loads(out)["code"] == reference
    vendor.world.tokens_are_jwts = True
    home.run("logout", "pitchpoint")
    place = tmp_path / "out"
    place.mkdir(mode=0o700)
    more = {**variables, "GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE": str(place / "answer.json")}
    code, out, err = helper(home, "google", "pitchpoint", **more)
    assert (code, err) == (0, "")
    assert json.loads(out)["success"] is True
    assert json.loads((place / "answer.json").read_text()) == json.loads(out)
    assert (place / "answer.json").stat().st_mode & 0o777 == 0o600
    place.chmod(0o777)
    (place / "answer.json").unlink()
    helper(home, "google", "pitchpoint", **more)
    assert not (place / "answer.json").exists()
    place.chmod(0o700)
    revoked = helper(home, "google", "pitchpoint", **more, GOOGLE_EXTERNAL_ACCOUNT_REVOKE="1")
    assert json.loads(revoked[1]) == {"version": 1, "success": True}


def test_an_unknown_protocol_names_the_known_ones(home: Home) -> None:
    code, out, err = helper(home, "invented")
    assert (code, out) == (2, "")
    assert "git, docker, cargo" in err


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
        [client, "manifest", "inspect", f"{host}/x/y:latest"],
        env=environment,
        capture_output=True,
        timeout=patience(60),
    )
    sent = [token_of(authorization) for _, _, authorization in registry.seen if authorization]
    assert sent
    assert all(vendor.world.is_live(token) for token in sent)
    assert vendor.count("sign-in") == 1
