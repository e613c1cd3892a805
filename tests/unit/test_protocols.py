"""The wire formats of the helper protocols: golden answers, hostile asks, and no text that crashes
a parser.

A test that guards against a known hole is named by its advisory (protocols.md, 3.9 and 4.7).
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError, HostNotAllowedError, IssuerReplyError
from nightporter.core.hosts import BadAskError, parse_rule
from nightporter.core.model import Profile, Secret, Token
from nightporter.issuers import VENDORS
from nightporter.protocols import (
    bazel,
    cargo,
    docker,
    git,
    go,
    google,
    keyring,
    kubelet,
    kubernetes,
    plain,
    terraform,
)
from nightporter.stores import STORES

# git's wire format.

TOKEN = Token(Secret("ACC"), token_type="Bearer", expires_at_s=1_893_553_445, obtained_at_s=0)
OLD = b"protocol=https\nhost=git.example.com\n"
NEW = (
    b"capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=git.example.com\nwwwauth[]=Bearer"
    b" realm=x\n\n"
)


def rendered(content: bytes, *, may_retry: bool = True) -> str:
    return git.render(
        TOKEN,
        git.parse(content),
        username="oauth2",
        reported_expiry=1_893_553_385,
        may_retry=may_retry,
    )


def test_git_golden_answers() -> None:
    assert rendered(OLD) == "username=oauth2\npassword=ACC\npassword_expiry_utc=1893553385"
    assert (
        rendered(NEW)
        == "capability[]=authtype\ncapability[]=state\nauthtype=Bearer\ncredential=ACC\n"
        "ephemeral=1\ncontinue=1\n"
        f"state[]=nightporter:tried={git.mark_of(TOKEN)}\npassword_expiry_utc=1893553385"
    )
    assert (
        rendered(NEW, may_retry=False) == "capability[]=authtype\nauthtype=Bearer\ncredential=ACC\n"
        "ephemeral=1\npassword_expiry_utc=1893553385"
    )


def test_git_the_user_that_it_asks_for_is_echoed() -> None:
    """git drops an answer for another user name than the one in the address."""
    assert "username=me\n" in rendered(OLD + b"username=me\n")


@pytest.mark.parametrize("key", [b"password", b"credential"])
def test_git_what_it_erases_is_refused(key: bytes) -> None:
    """As a password, or since git 2.46 as a credential."""
    assert git.parse(OLD + key + b"=ACC\n").refused == "ACC"


def test_git_a_second_try_is_offered_to_who_can_keep_its_state_alone() -> None:
    """Without the capability git would take the lines for an error."""
    bearer = b"capability[]=authtype\n" + OLD
    assert "continue=1" not in rendered(bearer)
    assert "continue=1" in rendered(b"capability[]=state\n" + bearer)
    assert "continue=1" not in rendered(b"capability[]=state\n" + bearer, may_retry=False)


def test_git_second_try() -> None:
    mark = git.mark_of(TOKEN)
    assert (
        git.parse(
            NEW.replace(b"\n\n", b"\nstate[]=nightporter:tried=" + mark.encode() + b"\n\n")
        ).tried
        == mark
    )
    assert git.parse(NEW.replace(b"\n\n", b"\nstate[]=other:tried=x\n\n")).tried is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"protocol=https\n", b"host=git.example.com\n", b"protocol=ssh\nhost=x\n"],
)
def test_cve_2020_11008_no_host_or_protocol_is_no_wildcard(content: bytes) -> None:
    assert git.parse(content).target is None


@pytest.mark.parametrize(
    "content",
    [
        b"protocol=https\nhost=git.example.com\nhost=evil\n",  # CVE-2020-5260
        # CVE-2024-52006, CVE-2024-50338
        b"protocol=https\nhost=git.example.com\nusername=a\rhost=evil\n",
        b"protocol=https\nhost=git.example.com\nusername=a\x00b\n",
        b"protocol=https\nhost=git.example.com\npath=a\x0bb\n",
        b"protocol=https\nhost=git.example.com\npath=a\xc2\x85b\n",
        b"protocol=https\nhost=git.example.com\nnonsense\n",
        b"protocol=https\nhost=git.example.com\xff\n",
        b"protocol=https\nhost=git.example.com/evil\n",
        b"protocol=https\nhost=user@git.example.com\n",
        b"x=" + b"y" * (1 << 20) + b"\n",
    ],
)
def test_hostile_asks_are_refused_whole(content: bytes) -> None:
    with pytest.raises(BadAskError):
        git.parse(content)


def test_a_line_of_white_space_does_not_end_the_ask() -> None:
    """As it did in Git Credential Manager's reader, which hid the lines after it."""
    with pytest.raises(BadAskError):
        git.parse(b"protocol=https\nhost=git.example.com\n \nhost=evil.example\n")


@pytest.mark.parametrize(
    "host", [b"git.example.com.evil.example", b"evil-git.example.com", b"git.example.com:444"]
)
def test_cve_2024_53858_vscode_320634_another_host_is_another_host(host: bytes) -> None:
    found = git.parse(b"protocol=https\nhost=" + host + b"\n").target
    assert found is not None
    assert found.origin != "https://git.example.com"


def test_cve_2024_53263_the_caller_need_not_be_git() -> None:
    """Git LFS passed on CR and LF out of decoded addresses: what git would have stopped is stopped
    here too."""
    for planted in (b"git.example.com\r", b"git.example.com\rhost=evil"):
        with pytest.raises(BadAskError):
            git.parse(b"protocol=https\nhost=" + planted + b"\n")


def test_cve_2025_23040_no_pattern_over_the_whole_ask() -> None:
    """A value that looks like a line of the protocol stays a value."""
    ask = git.parse(b"protocol=https\nhost=git.example.com\nusername=host=evil.example\n")
    assert ask.target is not None
    assert (ask.target.host, ask.username) == ("git.example.com", "host=evil.example")


def test_git_paths() -> None:
    ask = git.parse(b"protocol=https\nhost=git.example.com\npath=team/r.git\n")
    assert ask.target is not None
    assert ask.target.path == ("team", "r.git")


@pytest.mark.parametrize(
    "path", [b"team/../other", b"team/a%2Fb.git", b"team/v1%2e2", b"team/x\\y", b"team/Gr\xf6\xdfe"]
)
def test_git_an_odd_path_is_told_as_none(path: bytes) -> None:
    """No entry with a path matches it, and it does no harm to one without."""
    ask = git.parse(OLD + b"path=" + path + b"\n")
    assert ask.target is not None
    assert ask.target.path is None


@pytest.mark.parametrize(
    "line",
    [
        b'wwwauth[]=Basic realm="Zugriff f\xfcr alle"',
        b"wwwauth[]=Basic\trealm=x",
        b'wwwauth[]=Basic realm="a\xc2\x85b"',
        b"state[]=other:\xff\x01",
        b"invented=\xff\x0b",
        b"\xff=x",
        b"authtype=\x01",
        b"ephemeral=1\nephemeral=1",
    ],
)
def test_git_what_decides_nothing_refuses_nothing(line: bytes) -> None:
    """Field values may hold HTAB and obs-text (RFC 9110, 5.5): a realm in ISO 8859-1 must not cost
    the answer."""
    assert git.parse(OLD + line + b"\n") == git.parse(OLD)


@given(st.binary(max_size=40))
def test_git_keys_that_we_don_t_use_never_change_an_answer(value: bytes) -> None:
    value = value.translate(None, b"\n\r\0")
    for key in (b"wwwauth[]", b"invented", b"state[]", b"authtype"):
        assert git.parse(OLD + key + b"=" + value + b"\n") == git.parse(OLD)


MEMBERS = st.dictionaries(
    st.text(max_size=5).map("x-".__add__),
    st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    max_size=3,
)


@given(MEMBERS)
def test_members_that_we_don_t_use_never_change_an_answer(more: dict[str, Any]) -> None:
    uri = {"uri": "https://cas.example.com/a"}
    assert bazel.parse(json.dumps({**more, **uri}).encode()) == bazel.parse(
        json.dumps(uri).encode()
    )
    assert cargo.parse(asked(**more)) == cargo.parse(asked())
    wanted = {"apiVersion": kubelet.API_VERSION, "image": "reg.example.com/a/b:1"}
    assert kubelet.parse(json.dumps({**more, **wanted}).encode()) == kubelet.parse(
        json.dumps(wanted).encode()
    )
    info = {"spec": {"cluster": {"server": "https://k.example"}}}
    assert kubernetes.parse_exec_info(json.dumps({**more, **info})) == kubernetes.parse_exec_info(
        json.dumps(info)
    )


def test_git_a_password_that_is_no_utf_8_is_another_s() -> None:
    assert git.parse(OLD + b"password=Gr\xfc\xdfe\n").refused == "Gr\ufffd\ufffde"


def test_git_an_empty_line_ends_the_ask_wherever_it_is() -> None:
    assert git.parse(b"\n" + OLD).target is None
    assert git.parse(OLD + b"\nprotocol=x\nnonsense").target is not None


@given(st.binary(max_size=60))
def test_nothing_of_the_ask_comes_back_in_the_answer(name: bytes) -> None:
    with contextlib.suppress(BadAskError):
        ask = git.parse(
            b"capability[]=authtype\nprotocol=https\nhost=git.example.com\npath=" + name + b"\n"
        )
        answer = git.render(TOKEN, ask, username="oauth2", reported_expiry=1, may_retry=False)
        assert set(answer.splitlines()) == {
            "capability[]=authtype",
            "authtype=Bearer",
            "credential=ACC",
            "ephemeral=1",
            "password_expiry_utc=1",
        }


def test_unknown_keys_are_ignored() -> None:
    assert git.parse(OLD + b"invented[]=1\nother=2\n\nprotocol=ignored").target is not None


@given(st.binary(max_size=200))
def test_git_parser_never_crashes(content: bytes) -> None:
    with contextlib.suppress(BadAskError):
        git.parse(b"protocol=https\nhost=git.example.com\n" + content)


# docker's.


@pytest.mark.parametrize(
    "server",
    [
        b"reg.example:5000",
        b"https://reg.example:5000/v2/\n",
        b" reg.example:5000 \n",
        b"https://reg.example:5000/v2/?x=1",
        b"//reg.example:5000",
    ],
)
def test_docker_servers(server: bytes) -> None:
    target = docker.parse_server(server)
    assert target is not None
    assert (target.host, target.port) == ("reg.example", 5000)


def test_docker_a_server_of_1_mib_is_the_longest() -> None:
    """What is longer is no address."""
    longest = b"reg.example.com/" + b"x" * (2**20 - 16)
    assert docker.parse_server(longest).host == "reg.example.com"
    with pytest.raises(BadAskError, match="too long"):
        docker.parse_server(longest + b"x")


@pytest.mark.parametrize(
    ("entry", "can"),
    [
        ("reg.example.com", True),
        ("*.example.com", False),
        ("reg.example.com/team", False),
        ("http://reg.example.com", False),
    ],
)
def test_docker_what_it_can_ask_for(entry: str, can: bool) -> None:
    """A plain host: it tells neither path nor scheme."""
    assert docker.can_ask_for(parse_rule(entry)) is can


def test_docker_answers() -> None:
    assert docker.is_empty(b" \n")
    assert (
        docker.render(TOKEN, b"reg.example\n", username="oauth2")
        == '{"ServerURL": "reg.example", "Username": "oauth2", "Secret": "ACC"}'
    )
    assert "<token>" not in docker.render(TOKEN, b"reg.example", username="<token>")


@given(st.binary(max_size=100))
def test_docker_parser_never_crashes(content: bytes) -> None:
    with contextlib.suppress(BadAskError):
        docker.parse_server(content)


# cargo's.


def asked(**more: Any) -> bytes:
    registry = {
        "index-url": "sparse+https://cargo.example.com/index/",
        "name": "toy",
        "headers": ["x: y"],
    }
    return (
        json.dumps(
            {"v": 1, "registry": registry, "kind": "get", "operation": "read", **more}
        ).encode()
        + b"\n"
    )


def test_cargo_golden_answers() -> None:
    assert cargo.HELLO == '{"v": [1]}'
    assert (
        cargo.render(TOKEN, reported_expiry=1_893_553_385, with_type=True)
        == '{"Ok": {"kind": "get", "token": "Bearer ACC", "cache": "expires", "expiration":'
        ' 1893553385, "operation_independent": true}}'
    )
    assert '"token": "ACC"' in cargo.render(TOKEN, reported_expiry=1, with_type=False)
    assert cargo.render_done("logout") == '{"Ok": {"kind": "logout"}}'
    assert cargo.render_error("url-not-supported") == '{"Err": {"kind": "url-not-supported"}}'
    assert (
        cargo.render_error("other", "m")
        == '{"Err": {"kind": "other", "message": "m", "caused-by": []}}'
    )


def test_cargo_asks() -> None:
    ask = cargo.parse(asked(args=["--profile", "prod"]))
    assert ask.target is not None
    assert (ask.kind, ask.target.origin, ask.target.path) == (
        "get",
        "https://cargo.example.com",
        ("index",),
    )
    assert ask.profile_named() == "prod"
    assert not cargo.parse(asked(operation="invented")).is_known
    assert cargo.parse(asked(kind="login", token="t")).brings_token
    assert cargo.parse(asked(args=["--profile=p"])).profile_named() == "p"
    assert cargo.parse(asked(args=None)).profile_named() is None


@pytest.mark.parametrize("arguments", [["--config", "/tmp/evil"], ["prod"], {"a": 1}, "x"])
def test_cargo_arguments_are_looked_at_for_our_registries_alone(arguments: object) -> None:
    ask = cargo.parse(asked(args=arguments))
    with pytest.raises(BadAskError):
        ask.profile_named()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        asked(v=2),
        asked(registry=None),
        b"[" * 100_000,
        b'{"v":1,"x":"' + b"y" * (1 << 20) + b'"}',
    ],
)
def test_cargo_hostile_asks(line: bytes) -> None:
    with pytest.raises(BadAskError):
        cargo.parse(line)


@pytest.mark.parametrize(
    "index",
    [
        "cargo.example.com",
        "sparse+https://user@cargo.example.com/",
        "registry+ssh://git@ssh.example.com/x",
        "a\nb",
    ],
)
def test_cargo_addresses_that_can_t_be_ours_are_for_the_next_provider(index: str) -> None:
    assert cargo.parse(asked(registry={"index-url": index})).target is None


# Terraform's, Go's, Bazel's, the kubelet's.


def test_terraform() -> None:
    assert terraform.render(TOKEN) == '{"token": "ACC"}'
    assert terraform.parse_host("reg.example.com:8443").port == 8443
    for text in (
        "",
        "https://reg.example.com",
        "reg.example.com/x",
        "bücher.example",
        "user@reg.example.com",
    ):
        with pytest.raises(BadAskError):
            terraform.parse_host(text)


KEYRING_LINES = {
    "get S U": ("get", "U", False, False),
    "get S --mode creds": ("get", None, True, False),
    "--mode=creds --output=json get S": ("get", None, True, True),
    "--output json get S U --mode password": ("get", "U", False, True),
    "--mode creds get S U": ("get", "U", True, False),
    "set S U": ("set", "U", False, False),
    "del S U": ("del", "U", False, False),
}


@pytest.mark.parametrize("line", KEYRING_LINES)
def test_keyring_lines(line: str) -> None:
    found = keyring.parse(line.split())
    assert found is not None
    assert found.service == "S"
    shown = (found.operation, found.username, found.with_name, found.is_json)
    assert shown == KEYRING_LINES[line]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "get",
        "get S",
        "set S",
        "set S --mode creds",
        "del S",
        "get S U more",
        "get S U --mode",
        "get S U --mode other",
        "get S U --output xml",
        "get S U --output=",
        "get S U --mod creds",
        "-b fail get S U",
        "--disable",
        "--help",
        "diagnose S U",
        "S get U",
    ],
)
def test_keyring_lines_of_the_real_program(line: str) -> None:
    """What it alone knows, or has the words for."""
    assert keyring.parse(line.split()) is None


def test_keyring_answers() -> None:
    wanted = {
        "get S U": "ACC",
        "get S U --output json": '{"password": "ACC"}',
        "get S --mode creds": "oauth2\nACC",
        "get S --mode creds --output json": '{"username": "oauth2", "password": "ACC"}',
    }
    for line, answer in wanted.items():
        ask = keyring.parse(line.split())
        assert ask is not None
        assert keyring.render(ask, TOKEN, username="oauth2") == answer


@pytest.mark.parametrize(
    ("service", "spellings"),
    [
        ("http://a.example/x", ["a.example", "a.example:80"]),
        ("http://a.example:443/x", ["a.example"]),
        ("http://[::1]:80/x", ["[::1]", "[::1]:80"]),
        ("http://a.example:80/x", ["a.example", "a.example:80"]),
        ("http://a.example:8080/x", ["a.example:8080"]),
        ("http://me@a.example:80", ["a.example", "a.example:80"]),
        ("https://a.example/http://b.example", []),
        ("http://a.example/my repo/", ["a.example", "a.example:80"]),
        ("http://a.example:8080/a\\b/", ["a.example:8080"]),
        ("HTTP://A.example\\b.example/", ["a.example", "a.example:80"]),
        (
            "http://a.example\\@b.example/",
            ["a.example", "a.example:80", "b.example", "b.example:80"],
        ),
        (" http://a.example?x", ["a.example", "a.example:80"]),
        ("\x1f\u3000http://me:pw@a.example#x", ["a.example", "a.example:80"]),
        ("ht\ttp://a.exa\nmple/\r", ["a.example", "a.example:80"]),
        ("http://a.example/\0", ["a.example", "a.example:80"]),
        ("http://a.example/\udc80", ["a.example", "a.example:80"]),
    ],
)
def test_keyring_bare_hosts_of_a_plain_address(service: str, spellings: list[str]) -> None:
    """Clients ask for them next, and send in clear what they get."""
    found = keyring.parse_service(service)
    assert found is not None
    assert not found.is_bare
    assert sorted({item.authority for item in found.plain_http}) == spellings


def test_keyring_services() -> None:
    bare = keyring.parse_service("a.example:8080")
    assert bare is not None
    assert bare.is_bare
    assert bare.target
    assert bare.target.scheme == "https"
    odd = [
        "my wallet",
        "",
        "https://me:pw@a.example/",
        "\0",
        " a.example",
        "https://a.example\u3000",
        "http://",
        "http:// /",
        "ftp://a.example",
    ]
    for text in (*odd, "https://evil.example\\x@a.example/"):
        assert keyring.parse_service(text) is None
    for text in ("https://evil.example?x@a.example/", "https://evil.example#x@a.example/"):
        found = keyring.parse_service(text)
        assert found is not None
        assert found.target is not None
        assert (found.target.host, found.username) == ("evil.example", None)
    for text in ("http://a.example/my repo", "http://a.example/a\\b", " http://a.example/"):
        odd_plain = keyring.parse_service(text)
        assert odd_plain is not None
        assert odd_plain.target is None


def test_go() -> None:
    assert (
        go.render(TOKEN, ["https://a.example", "https://a.example/m?x"]) + "\n"
        == "https://a.example\nhttps://a.example/m?x\n\nAuthorization: Bearer ACC\n\n"
    )
    assert go.says_unauthorized(b"HTTP/2.0 401 Unauthorized\r\nX: y\r\n")
    assert go.says_unauthorized(b"HTTP/1.1 401\r\n\r\n")  # the words are the server's to leave out
    assert not go.says_unauthorized(b"ICAP/1.1 401 Unauthorized\r\n")
    assert not go.says_unauthorized(b"HTTP/1.1 404 Not Found\r\n401\r\n")
    assert not go.says_unauthorized(b"")
    assert not go.says_unauthorized(b"HTTP/1.1")
    for url in ("http://a.example/", "a.example", "https://u@a.example/", "https://a\n/"):
        with pytest.raises(BadAskError):
            go.parse_url(url)
    assert (
        go.parse_url("https://a.example/../x").path is None
    )  # read in different ways: no rule with a path matches


def test_bazel() -> None:
    assert (
        bazel.render(TOKEN, reported_expiry=1_893_553_385)
        == '{"headers": {"Authorization": ["Bearer ACC"]}, "expires": "2030-01-02T03:03:05Z"}'
    )
    assert (
        bazel.parse(b'{"uri": "grpcs://cas.example.com/google.bytestream.ByteStream/Read"}').scheme
        == "https"
    )
    assert (
        bazel.parse(b'{"uri": "http://cas.example.com/"}').scheme == "http"
    )  # which no entry without http:// names
    hostile = [
        b"",
        b"{}",
        b'{"url": "https://a.example"}',
        b'{"uri": "grpc://a.example"}',
        b'{"uri": 1}',
        b'{"uri": "https://u:p@a.example/"}',
    ]
    for content in hostile:
        with pytest.raises(BadAskError):
            bazel.parse(content)


def image(name: str) -> bytes:
    return json.dumps(
        {"apiVersion": kubelet.API_VERSION, "kind": "CredentialProviderRequest", "image": name}
    ).encode()


def test_kubelet() -> None:
    ask = kubelet.parse(image("reg.example.com:5000/team/b:tag@sha256:00"))
    assert ask is not None
    assert (ask.registry, ask.target.path) == ("reg.example.com:5000", ("team", "b"))
    for written in ("reg.example.com:443", "reg.example.com"):
        ask = kubelet.parse(image(f"{written}/team/b"))
        assert ask is not None
        assert ask.registry == written  # the kubelet compares ports as they are written
    assert kubelet.parse(image("library/alpine")) is kubelet.parse(image("alpine:3")) is None
    assert json.loads(
        kubelet.render(TOKEN, key="reg.example.com", username="oauth2", left_s=600)
    ) == {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": "600s",
        "auth": {"reg.example.com": {"username": "oauth2", "password": "ACC"}},
    }
    assert json.loads(kubelet.render_none())["auth"] == {}
    for content in (b"", b"[]", image("https://reg.example.com/a"), image("/a"), b'{"image": "a"}'):
        with pytest.raises(BadAskError):
            kubelet.parse(content)


# Google's.


def google_profile() -> Profile:
    text = (
        '[profiles.g]\nissuer = "pitchpoint"\ncredentials = "c"\n'
        'google_audiences = ["//iam/aud"]\ngoogle_service_accounts = ["a@b.example"]\n'
    )
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["g"]


def variables(**more: str) -> dict[str, str]:
    return {
        f"GOOGLE_EXTERNAL_ACCOUNT_{name}": value
        for name, value in {"AUDIENCE": "//iam/aud", **more}.items()
    }


def jwt(header: bytes = b'{"alg":"none"}', payload: bytes = b'{"sub":"x"}') -> Token:
    parts = [
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload, b"sig")
    ]
    return Token(
        Secret(".".join(parts)), token_type="Bearer", expires_at_s=2_000_000_000, obtained_at_s=0
    )


def test_google_golden_answers() -> None:
    ask = google.parse(variables())
    assert json.loads(google.render(jwt(), ask, reported_expiry=7)) == {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": jwt().value,
        "expiration_time": 7,
    }
    assert json.loads(google.render_error("c", "m")) == {
        "version": 1,
        "success": False,
        "code": "c",
        "message": "m",
    }


def test_google_audiences_and_accounts_must_be_named() -> None:
    google.check_audience(
        google.parse(variables(IMPERSONATED_EMAIL="a@b.example")), google_profile()
    )
    for odd in (
        variables(AUDIENCE="//iam/other"),
        variables(AUDIENCE=""),
        variables(IMPERSONATED_EMAIL="x@evil"),
    ):
        with pytest.raises(HostNotAllowedError):
            google.check_audience(google.parse(odd), google_profile())


def test_google_takes_jwts_only() -> None:
    google.check_jwt(jwt())
    for token in (TOKEN, jwt(header=b"[]"), jwt(payload=b"x")):
        with pytest.raises(IssuerReplyError):
            google.check_jwt(token)
    with pytest.raises(ConfigError):
        google.parse(variables(TOKEN_TYPE="urn:ietf:params:oauth:token-type:access_token"))


# netrc and HTTPie.


def test_netrc_names_plain_hosts_only() -> None:
    text = '[profiles.g]\nissuer = "pitchpoint"\ncredentials = "c"\nhosts = [{}]\n'

    def profile(hosts: str) -> Profile:
        return parse_config(
            text.format(hosts), source="t", vendors=VENDORS, stores=STORES
        ).profiles["g"]

    found = plain.render(
        TOKEN, "netrc", profile('"a.example", "*.b.example", "c.example:8443", "d.example/x"')
    )
    assert found == "machine a.example login oauth2 password ACC"
    with pytest.raises(HostNotAllowedError):
        plain.render(TOKEN, "netrc", profile('"*.b.example"'))
    assert plain.render(TOKEN, "authorization", profile("")) == "Bearer ACC"


# No parser crashes, whatever it is given.

PARSERS = [cargo.parse, bazel.parse, kubelet.parse, docker.parse_server, go.says_unauthorized]


@given(st.sampled_from(PARSERS), st.binary(max_size=200))
def test_no_bytes_crash_a_parser(parse: Any, content: bytes) -> None:
    with contextlib.suppress(BadAskError):
        parse(content)


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
FLAT = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(st.text(max_size=6), LEAF, max_size=3)
JSON = (
    FLAT
    | st.lists(FLAT, max_size=2)
    | st.dictionaries(st.sampled_from(["index-url", "x"]), FLAT, max_size=2)
)


@given(
    st.dictionaries(
        st.sampled_from(["v", "registry", "kind", "args", "uri", "image", "apiVersion"]), JSON
    )
)
def test_no_json_crashes_a_parser(document: dict[str, Any]) -> None:
    for parse in (cargo.parse, bazel.parse, kubelet.parse):
        with contextlib.suppress(BadAskError):
            parse(json.dumps(document).encode())


@given(st.text(max_size=60))
def test_no_text_crashes_a_parser(text: str) -> None:
    for parse in (terraform.parse_host, go.parse_url):
        with contextlib.suppress(BadAskError):
            parse(text)
    with contextlib.suppress(ConfigError):
        kubernetes.parse_exec_info(text)
