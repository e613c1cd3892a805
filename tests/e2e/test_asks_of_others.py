"""Helpers that a client asks for every host: what isn't ours never sees an error, and a
client that keeps its pipe open is not waited for."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from lab.patience import patience
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

HOSTS = 'hosts = ["git.example.com", "reg.example.com:5000"]'
OURS = "protocol=https\nhost=git.example.com\n"
BROKEN = "[profiles.pitchpoint\n"


@pytest.fixture
def serving(home: Home, vendor: Vendor) -> Home:
    home.configure(pitchpoint_config(vendor.address, more=HOSTS))
    return home


def helper(home: Home, protocol: str, *words: str, stdin: str = "") -> tuple[int, str, str]:
    done = home.run("credential", protocol, *words, stdin=stdin)
    return done.code, done.out, done.err


def cargo(home: Home, index: str, **more: Any) -> Any:
    document = {"v": 1, "registry": {"index-url": index}, "kind": "get", "operation": "read"}
    ask = json.dumps({**document, **more}) + "\n"
    code, out, err = helper(home, "cargo", "--cargo-plugin", stdin=ask)
    assert (code, err) == (0, "")
    return json.loads(out.splitlines()[1])


NOT_OURS = {"Err": {"kind": "url-not-supported"}}
CRATES = "sparse+https://index.crates.io/"


def test_cargo_arguments_for_another_provider_block_nobody(serving: Home) -> None:
    """`cargo login -- --key-subject foo` hands its arguments to every provider
    (rust-lang/cargo#12499)."""
    for arguments in (["--key-subject", "foo"], ["--profile"], {"a": 1}, "x"):
        assert cargo(serving, CRATES, kind="login", args=arguments) == NOT_OURS
    ours = cargo(serving, "sparse+https://reg.example.com:5000/i/", args=["--key-subject", "foo"])
    assert "--profile NAME" in ours["Err"]["message"]


@pytest.mark.parametrize("text", [None, BROKEN, "nonsense = 1\n"])
def test_no_and_a_broken_configuration_block_nobody(home: Home, text: str | None) -> None:
    if text is None:
        home.config_file.unlink()
    else:
        home.configure(text)
    assert cargo(home, CRATES, operation="publish", name="p", vers="1", cksum="0") == NOT_OURS
    assert cargo(home, CRATES, kind="login", token="t", args=["--key-subject", "x"]) == NOT_OURS
    ask = json.dumps({"uri": "https://mirror.example/x"})
    assert helper(home, "bazel", "get", stdin=ask) == (0, "{}\n", "")
    assert helper(home, "git", "get", stdin="protocol=https\nhost=x.example\n")[:2] == (0, "")


def test_a_wrong_time_limit_is_told_to_our_hosts_alone(serving: Home) -> None:
    serving.environment["NIGHTPORTER_TIMEOUT"] = "soon"
    assert cargo(serving, CRATES) == NOT_OURS
    assert helper(serving, "git", "get", stdin="protocol=https\nhost=x.example\n") == (0, "", "")
    assert "NIGHTPORTER_TIMEOUT" in helper(serving, "git", "get", stdin=OURS)[2]


@pytest.mark.parametrize(
    "uri",
    [
        "grpc://localhost:8980/build.bazel.remote.execution.v2.Capabilities",
        "unix:/run/cache.sock",
        "unix:///run/cache.sock",
        "ftp://mirror.example/x",
        "s3://bucket/x",
        "https://user:pw@mirror.example/x",
        "https://other.example./x",
        "https://git.example.com.evil.example./x",
        "https:///x",
    ],
)
def test_bazel_what_can_t_be_ours_is_none(serving: Home, uri: str) -> None:
    """Without a scope a helper is asked for a local cache too (bazelbuild/bazel#16171, #18981)."""
    ask = json.dumps({"uri": uri})
    assert helper(serving, "bazel", "get", stdin=ask) == (0, "{}\n", "")


@pytest.mark.parametrize(
    "uri",
    ["https://u:p@git.example.com/x", "https://git.example.com./x", "https://a@GIT.example.com:1/"],
)
def test_bazel_an_odd_address_of_ours_is_refused_aloud(serving: Home, uri: str) -> None:
    code, out, err = helper(serving, "bazel", "get", stdin=json.dumps({"uri": uri}))
    assert (code, out) == (1, "")
    assert "refused" in err


def test_odd_hosts_of_others_in_the_other_protocols(serving: Home) -> None:
    none = (1, "credentials not found in native keychain\n", "")
    assert helper(serving, "docker", "get", stdin="user@elsewhere.example") == none
    assert helper(serving, "docker", "get", stdin="elsewhere.example./v2/") == none
    assert helper(serving, "terraform", "get", "user@elsewhere.example") == (0, "{}\n", "")
    assert helper(serving, "terraform", "forget", "elsewhere.example.") == (0, "", "")
    url = "http://elsewhere.example/m"
    assert helper(serving, "go", "pitchpoint", url, stdin="HTTP/1.1 401 \xfc\r\n") == (0, "", "")
    ask = {"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": "a..b.example/x/y"}
    code, out, err = helper(serving, "kubelet", stdin=json.dumps(ask))
    assert (code, json.loads(out)["auth"], err) == (0, {}, "")
    odd = "protocol=https\nhost=elsewhere.example.\nusername=a\x0bb\n"
    assert helper(serving, "git", "get", stdin=odd) == (0, "", "")


@pytest.mark.parametrize(
    "path", ["team/a%2Fb.git", "team/v1%252e2.git", "team/x\\y.git", "team/../r.git"]
)
def test_git_an_odd_path_costs_no_answer_where_no_entry_has_one(serving: Home, path: str) -> None:
    assert "password=" in helper(serving, "git", "get", stdin=f"{OURS}path={path}\n")[1]


def test_git_an_odd_path_is_below_no_entry(home: Home, vendor: Vendor) -> None:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com/team"]'))
    for path in ("team/../other/r.git", "team%2F..%2Fother", "other/%2e%2e/team/r.git"):
        assert helper(home, "git", "get", stdin=f"{OURS}path={path}\n") == (0, "", "")


def test_git_bytes_that_are_no_text(serving: Home) -> None:
    ask = OURS.encode() + b'wwwauth[]=Basic realm="f\xfcr alle"\npath=team/Gr\xf6\xdfe.git\n\n'
    done = subprocess.run(
        [BIN / "git-credential-nightporter", "get"],
        env=serving.environment,
        input=ask,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"password=" in done.stdout


def left_open(home: Home, *words: str, given: bytes = b"") -> tuple[int, bytes, bytes, float]:
    """Runs a helper whose client writes something and keeps the pipe open."""
    began = time.monotonic()
    process = subprocess.Popen(
        [BIN / "nightporter", "credential", *words],
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdin.write(given)
        process.stdin.flush()
        process.wait(30)
        took = time.monotonic() - began
        return process.returncode, process.stdout.read(), process.stderr.read(), took


@pytest.mark.parametrize("operation", ["get", "erase", "store"])
def test_git_an_empty_line_ends_the_message(serving: Home, operation: str) -> None:
    """git-credential(1): a blank line or the end of the stream (flynn/flynn#3764)."""
    code, out, err, _ = left_open(serving, "git", operation, given=OURS.encode() + b"\n")
    assert (code, err) == (0, b"")
    assert (b"password=" in out) is (operation == "get")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("git get", 0, b"in time"),
        ("git erase", 0, b"in time"),
        ("docker get", 1, b"in time"),
        ("bazel get", 1, b"in time"),
        ("kubelet", 1, b"in time"),
        ("cargo --cargo-plugin", 0, b'{"v": [1]}'),
    ],
)
def test_the_time_limit_covers_the_reading(
    serving: Home, words: str, code: int, text: bytes
) -> None:
    found, out, err, took = left_open(serving, *words.split(), "--timeout", "1", given=b"{")
    assert found == code
    assert text in out + err
    assert took < patience(15)


def test_a_byte_order_mark_is_skipped(serving: Home) -> None:
    """Windows programs write one before a text that they pipe."""
    mark = "\ufeff"
    assert "password=" in helper(serving, "git", "get", stdin=mark + OURS + "\n")[1]
    assert "Secret" in helper(serving, "docker", "get", stdin=mark + "git.example.com")[1]
    text = serving.config_file.read_text()
    serving.config_file.unlink()
    assert serving.run("config", "check", NIGHTPORTER_CONFIG_TOML=mark + text).code == 0
    serving.configure(text)
    uri = json.dumps({"uri": "https://git.example.com/x"})
    assert "Bearer" in helper(serving, "bazel", "get", stdin=mark + uri)[1]


def test_a_user_name_in_the_keyring_s_address(serving: Home, vendor: Vendor) -> None:
    """Some tools leave it there; another one than the profile's gets nothing, and that is noted."""

    def asked(service: str) -> str:
        done = subprocess.run(
            [BIN / "keyring", "get", service, "oauth2"],
            env=serving.environment,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    assert vendor.world.is_live(asked("https://oauth2@git.example.com/simple/"))
    assert asked("https://oauth2@elsewhere.example/simple/") == ""
    assert asked("https://oauth2:pw@git.example.com/simple/") == ""
    done = subprocess.run(
        [BIN / "keyring", "get", "https://git.example.com/", "alice"],
        env=serving.environment,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert "other-user-name" in serving.run("status").out
