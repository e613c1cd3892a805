"""Every front end, asked for hosts of others in every odd spelling: the client's own "not mine",
and never an error."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightporter.cli import helpers
from nightporter.cli.terminal import Options
from nightporter.keyring_backend import NightporterKeyring

CONFIG = """
[profiles.p]
issuer = "pitchpoint"
credentials = "c"
base_url = "http://127.0.0.1:9"
hosts = ["git.example.com", "*.pages.example.com", "reg.example.com:5000/team"]
"""
SCRAPS = [
    "https://",
    "http://",
    "grpc://",
    "user@",
    "a",
    "evil",
    ".example",
    ".",
    ":443",
    "/x",
    "?",
]
SCRAPS += ["#", "%2f", "[::1]", "\\", "-", "\x7f", "\u00df", "\u0085", "://", "git-example.com"]
ADDRESSES = st.lists(st.sampled_from(SCRAPS) | st.text(max_size=3), max_size=7).map("".join)


@pytest.fixture(scope="module", autouse=True)
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        for name in ("NIGHTPORTER_CONFIG_TOML", "NIGHTPORTER_TIMEOUT", "XDG_RUNTIME_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("NIGHTPORTER_CACHE", "off")
        file = Path(home) / "config.toml"
        file.write_text(CONFIG)
        patch.setenv("NIGHTPORTER_CONFIG", str(file))
        yield


def asked(protocol: str, *words: str, given: bytes = b"") -> tuple[int, str, str]:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        code = helpers.serve(protocol, list(words), Options(line=[]))
    return code, out.buffer.getvalue().decode(), err.getvalue()


@settings(max_examples=40)
@given(ADDRESSES)
def test_docker(address: str) -> None:
    given = address.encode(errors="ignore")
    code, out, err = asked("docker", "get", given=given)
    empty = not given.strip(b" \t\r\n")
    wanted = "no credentials server URL" if empty else "credentials not found in native keychain"
    assert (code, out, err) == (1, f"{wanted}\n", "")


@settings(max_examples=40)
@given(ADDRESSES)
def test_bazel(address: str) -> None:
    given = json.dumps({"uri": address}).encode()
    assert asked("bazel", "get", given=given) == (0, "{}\n", "")


@settings(max_examples=40)
@given(ADDRESSES, st.none() | st.lists(st.text(max_size=4), max_size=3))
def test_cargo(address: str, arguments: object) -> None:
    registry = {"index-url": f"sparse+{address}"}
    ask = {"v": 1, "registry": registry, "kind": "get", "operation": "x", "args": arguments}
    code, out, err = asked("cargo", "--cargo-plugin", given=json.dumps(ask).encode() + b"\n")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[1]) == {"Err": {"kind": "url-not-supported"}}


@settings(max_examples=40)
@given(ADDRESSES.filter(lambda text: "\n" not in text and "\r" not in text and "\0" not in text))
def test_git(address: str) -> None:
    given = b"protocol=https\nhost=" + address.encode(errors="ignore") + b"\nusername=\xfc\n\n"
    assert asked("git", "get", given=given) == (0, "", "")


@settings(max_examples=40)
@given(ADDRESSES)
def test_terraform(address: str) -> None:
    assert asked("terraform", "get", address) == (0, "{}\n", "")


@settings(max_examples=40)
@given(ADDRESSES, st.binary(max_size=30))
def test_go(address: str, response: bytes) -> None:
    assert asked("go", "p", f"https://x.{address}", given=response) == (0, "", "")


@settings(max_examples=40)
@given(ADDRESSES)
def test_kubelet(address: str) -> None:
    ask = {"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": f"{address}/x/y:1"}
    code, out, err = asked("kubelet", given=json.dumps(ask).encode())
    assert (code, json.loads(out)["auth"], err) == (0, {}, "")


@settings(max_examples=40)
@given(ADDRESSES)
def test_headers(address: str) -> None:
    code, out, err = asked("headers", address) if address else (0, "{}\n", "")
    assert (code, out, err) == (0, "{}\n", "")


@settings(max_examples=40)
@given(ADDRESSES, st.text(max_size=5))
def test_the_program_keyring(address: str, username: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")  # else it would run the real one in place of the tests
        if not any(word.startswith("-") for word in (address, username)):
            assert asked("keyring", "get", address, username) == (1, "", "")


@settings(max_examples=40)
@given(ADDRESSES, st.none() | st.text(max_size=5))
def test_the_keyring(address: str, username: str | None) -> None:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", said)
        backend = NightporterKeyring()
        assert backend.get_credential(address, username) is None
    assert said.getvalue() == ""
