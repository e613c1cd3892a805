"""The borders of the helper protocols: how long an ask may be, which words are on the wire, for how
long a client waits, and what each member of an ask decides."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError, IssuerReplyError
from nightporter.core.hosts import BadAskError
from nightporter.core.model import Profile, Secret, Token
from nightporter.issuers import VENDORS
from nightporter.protocols import (
    bazel,
    cargo,
    docker,
    git,
    go,
    google,
    headers,
    kubelet,
    plain,
    terraform,
)
from nightporter.stores import STORES

MIB = 1_048_576
TOKEN = Token(Secret("A'\"\\CC"), token_type="Bearer", expires_at_s=1_893_553_445, obtained_at_s=0)


def profile(more: str = "") -> Profile:
    text = f'[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n{more}\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]


def test_the_words_of_each_protocol() -> None:
    """As each client's documents spell them: a client knows no others."""
    assert docker.ACTIONS == ("get", "store", "erase", "list", "version")
    assert docker.NOT_FOUND == "credentials not found in native keychain"
    assert docker.NO_SERVER == "no credentials server URL"
    assert cargo.OPERATIONS == ("read", "publish", "yank", "unyank", "owners")
    assert git.OPERATIONS == ("get", "store", "erase", "capability")
    assert terraform.VERBS == ("get", "store", "forget")
    assert kubelet.API_VERSION == "credentialprovider.kubelet.k8s.io/v1"
    assert headers.URL_VARIABLE == "CLAUDE_CODE_MCP_SERVER_URL"
    assert bazel.NONE == headers.NONE == terraform.NONE == "{}"
    assert plain.OUTPUTS == ("token", "json", "header", "env", "curl", "authorization", "netrc")


def test_a_client_that_gives_up_after_10_s_is_answered_in_8() -> None:
    """Bazel and Claude Code end the helper then: an error in words must come before."""
    assert (bazel.TIMEOUT_S, headers.TIMEOUT_S) == (8.0, 8.0)


def test_an_ask_of_1_mib_is_the_longest() -> None:
    """Of every protocol that reads its ask; Go's answer of a server is bounded likewise."""
    bounds = [module.MAX_BYTES for module in (bazel, cargo, docker, git, go, kubelet, terraform)]
    assert bounds == [MIB] * 7


def filled(document: dict[str, Any], size: int) -> bytes:
    """The document as JSON of exactly so many bytes."""
    bare = len(json.dumps({**document, "x": ""}))
    return json.dumps({**document, "x": "y" * (size - bare)}).encode()


ASKS: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (bazel.parse, {"uri": "https://a.example"}),
    (cargo.parse, {"v": 1, "registry": {"index-url": "sparse+https://a.example/"}}),
    (kubelet.parse, {"apiVersion": kubelet.API_VERSION, "image": "a.example/b"}),
]


@pytest.mark.parametrize(("parse", "document"), ASKS)
def test_one_byte_more_is_refused(parse: Callable[[bytes], Any], document: dict[str, Any]) -> None:
    """However small what is asked for is."""
    assert parse(filled(document, MIB))
    with pytest.raises(BadAskError):
        parse(filled(document, MIB + 1))


def test_git_one_byte_more_is_refused() -> None:
    """The lines that decide nothing count."""
    ask = b"protocol=https\nhost=a.example\nx="
    assert git.parse(ask + b"y" * (MIB - len(ask))).target is not None
    with pytest.raises(BadAskError):
        git.parse(ask + b"y" * (MIB - len(ask) + 1))


# Headers for MCP servers.


@pytest.mark.parametrize(
    ("arguments", "variable", "address"),
    [
        (["https://a.example/mcp"], "https://b.example", "https://a.example/mcp"),
        ([], "https://b.example", "https://b.example"),
        ([], "", None),
        ([], None, None),
    ],
)
def test_headers_the_argument_comes_before_the_variable(
    arguments: list[str], variable: str | None, address: str | None
) -> None:
    """Codex clears the environment; an empty variable counts as unset."""
    environment = {} if variable is None else {"CLAUDE_CODE_MCP_SERVER_URL": variable}
    assert headers.address_of(arguments, environment) == address


def test_headers_golden_answer() -> None:
    """One object of names and values; the address keeps its path for `hosts` that name one."""
    assert json.loads(headers.render(TOKEN)) == {"Authorization": f"Bearer {TOKEN.value}"}
    target = headers.parse("https://a.example:8443/mcp/x")
    assert (target.origin, target.path) == ("https://a.example:8443", ("mcp", "x"))
    assert headers.parse("a.example").origin == "https://a.example"


# Bazel's, Go's, docker's.


def test_bazel_an_address_names_its_scheme() -> None:
    """What holds no `://` is a socket or a bare name, which no helper is asked for."""
    for uri in ("unix:/run/cas.sock", "cas.example.com", ""):
        with pytest.raises(BadAskError, match="not an address of a host"):
            bazel.parse(json.dumps({"uri": uri}).encode())
    target = bazel.parse(b'{"uri": "GRPCS://cas.example.com:8980/a/b"}')
    assert (target.origin, target.path) == ("https://cas.example.com:8980", ("a", "b"))


@pytest.mark.parametrize(
    ("line", "is_401"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n", True),
        (b"HTTP/2.0 401\r\n", True),
        (b"HTTP/1.1 401", True),
        (b"HTTP/1.1 4010\r\n", False),
        (b"HTTP/1.1 403 401\r\n", False),
        (b"401 HTTP/1.1\r\n", False),
        (b"XHTTP/1.1 401 U\r\n", False),
        (b"HTTP/1.1\r\n401 x", False),
        (b"HTTP/1.1 ", False),
        (b" ", False),
    ],
)
def test_go_the_number_of_the_status_line_alone_is_read(line: bytes, is_401: bool) -> None:
    """What follows is anybody's text."""
    assert go.says_unauthorized(line) is is_401


def test_go_an_address_is_named_once() -> None:
    """In the order in which they were given."""
    answer = go.render(TOKEN, ["https://b.example", "https://a.example", "https://b.example"])
    assert answer.split("\n")[:3] == ["https://b.example", "https://a.example", ""]
    target = go.parse_url("https://a.example:8443/m/x")
    assert (target.origin, target.path) == ("https://a.example:8443", ("m", "x"))
    with pytest.raises(BadAskError, match="not an https address"):
        go.parse_url("a.example")


@pytest.mark.parametrize(
    ("server", "origin"),
    [
        (b"a.example", "https://a.example"),
        (b"http://a.example/v2/", "http://a.example"),
        (b"\t\r\n a.example/x/y \n", "https://a.example"),
        (b"https:///a.example/x", "https://a.example"),
        (b"a.example/x?y=://z", "https://a.example"),
    ],
)
def test_docker_what_follows_the_first_slash_decides_nothing(server: bytes, origin: str) -> None:
    """docker writes the address of its index with a path, and a login may hold anything."""
    if b"?y" in server:
        with pytest.raises(BadAskError):
            docker.parse_server(server)
        return
    assert docker.parse_server(server).origin == origin


def test_docker_answers_keep_the_server_as_it_was_asked() -> None:
    """docker compares it; `<token>` as a user name would make an access token a refresh token."""
    found = json.loads(docker.render(TOKEN, b" a.example/v2 \n", username="<token>"))
    assert found == {"ServerURL": "a.example/v2", "Username": "oauth2", "Secret": TOKEN.value}
    assert json.loads(docker.render(TOKEN, b"a", username="me"))["Username"] == "me"
    assert docker.render_list({"https://a.example": "me"}) == '{"https://a.example": "me"}'
    assert docker.is_empty(b" \t\r\n")
    assert not docker.is_empty(b"\x0b")


# cargo's.


def asked(**more: Any) -> cargo.CargoAsk:
    registry = {"index-url": "sparse+https://a.example/index/"}
    return cargo.parse(json.dumps({"v": 1, "registry": registry, **more}).encode())


def test_cargo_what_is_left_out_reads() -> None:
    """Without an operation it is a read; without a kind it is one that we don't know."""
    assert asked() == cargo.CargoAsk(
        kind="None", target=asked().target, arguments=None, is_known=True, brings_token=False
    )
    for operation in cargo.OPERATIONS:
        assert asked(operation=operation).is_known
    assert not asked(operation="").is_known
    assert not asked(token=None).brings_token
    assert asked(token="").brings_token


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_cargo_another_version_is_refused(version: object) -> None:
    """Its members may mean something else."""
    with pytest.raises(BadAskError, match="version 1"):
        asked(v=version)


@pytest.mark.parametrize("registry", [None, [], {}, {"index-url": None}, {"index-url": 1}])
def test_cargo_an_ask_without_an_index_is_refused(registry: object) -> None:
    """The index alone decides."""
    with pytest.raises(BadAskError, match="version 1"):
        asked(registry=registry)


@pytest.mark.parametrize("arguments", [["--profile", 7], ["--profile"], ["--profiles=x"], [7]])
def test_cargo_one_argument_is_known(arguments: list[object]) -> None:
    """A checkout's own configuration can write the others."""
    with pytest.raises(BadAskError, match="--profile NAME"):
        asked(args=arguments).profile_named()


@pytest.mark.parametrize(
    ("index", "origin"),
    [
        ("sparse+https://a.example:8443/i/", "https://a.example:8443"),
        ("registry+https://a.example/i", "https://a.example"),
        ("https://a.example/i", "https://a.example"),
    ],
)
def test_cargo_an_index_is_an_address_behind_its_kind(index: str, origin: str) -> None:
    """Sparse or a git repository: the host is the same registry's."""
    target = asked(registry={"index-url": index}).target
    assert target is not None
    assert (target.origin, target.path) == (origin, ("i",))


# Google's.


def variables(**more: str) -> dict[str, str]:
    return {f"GOOGLE_EXTERNAL_ACCOUNT_{name}": value for name, value in more.items()}


def test_google_what_the_variables_say() -> None:
    """An empty one counts as unset."""
    assert google.parse({}) == google.GoogleAsk(
        audience="",
        token_type="urn:ietf:params:oauth:token-type:jwt",
        email=None,
        output_file=None,
        is_revoke=False,
    )
    told = variables(
        AUDIENCE="//iam/aud",
        TOKEN_TYPE="urn:ietf:params:oauth:token-type:id_token",
        IMPERSONATED_EMAIL="a@b.example",
        OUTPUT_FILE="/tmp/out",
        REVOKE="1",
    )
    assert google.parse(told) == google.GoogleAsk(
        audience="//iam/aud",
        token_type="urn:ietf:params:oauth:token-type:id_token",
        email="a@b.example",
        output_file="/tmp/out",
        is_revoke=True,
    )
    emptied = variables(IMPERSONATED_EMAIL="", OUTPUT_FILE="", TOKEN_TYPE="", REVOKE="0")
    assert google.parse(emptied) == google.parse({})
    assert json.loads(google.REVOKED) == {"version": 1, "success": True}


def test_google_saml_is_not_served() -> None:
    """An access token can't be one."""
    with pytest.raises(ConfigError, match="subject token type"):
        google.parse(variables(TOKEN_TYPE="urn:ietf:params:oauth:token-type:saml2"))


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


OBJECT, EMPTY = encoded(b'{"a": 1}'), encoded(b"{}")


@pytest.mark.parametrize(
    ("value", "is_jwt"),
    [
        (f"{OBJECT}.{OBJECT}.s", True),
        (f"{EMPTY}.{OBJECT}.s", True),
        (f"{OBJECT}.{OBJECT}.", False),
        (f"{OBJECT}.{OBJECT}", False),
        (f"{OBJECT}.{OBJECT}.s.t", False),
        (f"{encoded(b'[1]')}.{OBJECT}.s", False),
        (f"{OBJECT}.{encoded(b'1')}.s", False),
        (f"{OBJECT}.{encoded(b'[' * 5000)}.s", False),
        (f"{OBJECT}.a.s", False),
        (f".{OBJECT}.s", False),
    ],
)
def test_google_a_jwt_has_three_parts_and_two_objects(value: str, is_jwt: bool) -> None:
    """Google's STS takes no opaque token; the signature is its own to check."""
    token = Token(Secret(value), token_type="Bearer", expires_at_s=0, obtained_at_s=0)
    if is_jwt:
        google.check_jwt(token)
        return
    with pytest.raises(IssuerReplyError, match="not a JWT"):
        google.check_jwt(token)


# The kubelet's and Terraform's.


def image(name: object, version: str = kubelet.API_VERSION) -> bytes:
    return json.dumps({"apiVersion": version, "image": name}).encode()


@pytest.mark.parametrize(
    ("name", "registry", "path"),
    [
        ("a.example/b", "a.example", ("b",)),
        ("a.example/b/c:1.2@sha256:00", "a.example", ("b", "c")),
        ("a.example:443/b", "a.example:443", ("b",)),
        ("a.example:5000/b:1", "a.example:5000", ("b",)),
        ("localhost/b", "localhost", ("b",)),
    ],
)
def test_kubelet_a_registry_has_a_dot_a_port_or_is_this_machine(
    name: str, registry: str, path: tuple[str, ...]
) -> None:
    """The reference grammar of distribution; the kubelet compares ports as they are written."""
    ask = kubelet.parse(image(name))
    assert ask is not None
    assert (ask.registry, ask.target.path) == (registry, path)


@pytest.mark.parametrize("name", ["alpine", "library/alpine", "alpine:3", "a/b/c", ""])
def test_kubelet_the_default_registry_is_never_ours(name: str) -> None:
    """An image without a registry is public."""
    assert kubelet.parse(image(name)) is None


@pytest.mark.parametrize(
    "content",
    [image(None), image(7), image("https://a.example/b"), image("/a.example/b"), b"[]", b"x"],
)
def test_kubelet_what_names_no_image_is_refused(content: bytes) -> None:
    """And so is a request of another version."""
    with pytest.raises(BadAskError):
        kubelet.parse(content)
    with pytest.raises(BadAskError, match=r"k8s\.io/v1"):
        kubelet.parse(image("a.example/b", version="credentialprovider.kubelet.k8s.io/v1alpha1"))


def test_kubelet_answers() -> None:
    """For a repository or for its registry, and never for a negative time."""
    found = json.loads(kubelet.render(TOKEN, key="a.example/b", username="me", left_s=-3))
    assert found["auth"] == {"a.example/b": {"username": "me", "password": TOKEN.value}}
    assert (found["cacheKeyType"], found["cacheDuration"]) == ("Image", "0s")
    found = json.loads(kubelet.render(TOKEN, key="a.example", username="me", left_s=1))
    assert (found["cacheKeyType"], found["cacheDuration"]) == ("Registry", "1s")
    assert json.loads(kubelet.render_none()) == {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": "0s",
        "auth": {},
    }


@pytest.mark.parametrize("text", ["a.example/x", "bücher.example", "a.example/"])
def test_terraform_a_host_is_ascii_without_a_path(text: str) -> None:
    """Terraform writes it in punycode."""
    with pytest.raises(BadAskError, match="not a host"):
        terraform.parse_host(text)


# `nightporter token`.


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("token", "A'\"\\CC"),
        ("header", "Authorization: Bearer A'\"\\CC"),
        ("authorization", "Bearer A'\"\\CC"),
        ("env", "NIGHTPORTER_TOKEN='A'\\''\"\\CC'"),
        ("curl", 'header = "Authorization: Bearer A\'\\"\\\\CC"'),
        ("netrc", "machine a.example login oauth2 password A'\"\\CC"),
    ],
)
def test_plain_each_output_quotes_as_its_reader_unquotes(output: str, text: str) -> None:
    """A shell, curl's -K, netrc; the others take it as it is."""
    assert plain.render(TOKEN, output, profile('hosts = ["a.example"]')) == text
    assert plain.end_of(output) == ("" if output == "authorization" else "\n")


def test_plain_json_names_the_profile_and_the_real_end() -> None:
    """Besides what the vendor's row passes on."""
    assert json.loads(plain.render(TOKEN, "json", profile())) == {
        "profile": "p",
        "access_token": TOKEN.value,
        "token_type": "Bearer",
        "expires_at": "2030-01-02T03:04:05Z",
    }


@pytest.mark.parametrize(
    "hosts", ['"*.a.example"', '"a.example:8443"', '"a.example/x"', '"http://a.example"']
)
def test_plain_netrc_names_no_host_that_it_can_t_tell(hosts: str) -> None:
    """It has neither port nor scheme nor path: the token would go to more than the entry names."""
    both = plain.render(TOKEN, "netrc", profile(f'hosts = [{hosts}, "b.example"]'))
    assert [line.split()[1] for line in both.splitlines()] == ["b.example"]


def test_plain_netrc_takes_no_user_name_with_a_blank() -> None:
    """It would begin the next word of the file."""
    with pytest.raises(ConfigError, match="white space"):
        plain.render(TOKEN, "netrc", profile('hosts = ["a.example"]\nhelper_username = "a b"'))


@pytest.mark.parametrize(
    ("min_ttl_s", "now", "told"), [(60, 939, 940), (60, 940, 1000), (60.9, 0, 940), (0, 0, 1000)]
)
def test_plain_the_margin_is_taken_off_but_never_into_the_past(
    min_ttl_s: float, now: float, told: int
) -> None:
    """A client that is told a past end would ask again at once, for ever."""
    token = Token(Secret("x"), token_type="Bearer", expires_at_s=1000, obtained_at_s=0)
    assert plain.reported_expiry(token, min_ttl_s=min_ttl_s, now=now) == told
