"""Every parser of what others write, over a corpus from the advisories and what hypothesis makes of
it: an answer or an error that the parser names, and never anything else."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightporter.core import checks
from nightporter.core.config import parse_config
from nightporter.core.errors import NightporterError
from nightporter.core.expiry import parse_duration, parse_rfc3339
from nightporter.core.hosts import BadAskError, entry_problem, may_receive, parse_rule, parse_target
from nightporter.core.record import parse_remains, parse_session
from nightporter.core.told import parse_told
from nightporter.issuers import VENDORS
from nightporter.issuers.oauth import Call, Response, parse_tokens
from nightporter.operations.login import _parse_device, _query_of
from nightporter.protocols import (
    bazel,
    cargo,
    docker,
    git,
    go,
    google,
    kubelet,
    kubernetes,
    terraform,
)
from nightporter.protocols import headers as header_protocol
from nightporter.stores import STORES

# From CVE-2020-5260, -11008, CVE-2024-50338, -50349, -52006, -53263, -53858, CVE-2021-41092,
# CVE-2024-47081, microsoft/vscode#320634 and the like.
CORPUS = (
    b"protocol=https\nhost=git.example.com\n\n",
    b"protocol=https\nhost=evil.example%0ahost=git.example.com\n\n",
    b"protocol=https\nhost=\n\n",
    b"host=git.example.com\rhost=evil.example\nprotocol=https\n",
    b"protocol=https\nhost=git.example.com\nhost=evil.example\n",
    b"url=https://git.example.com%40evil.example/\n\n",
    b"protocol=https\x00\nhost=\xff\xfe\n",
    b"capability[]=authtype\nwwwauth[]=Basic realm=\x1b]0;x\x07\nstate[]=\n",
    b"https://github.com.evil.example",
    b"https://git.example.com:443@evil.example/",
    b"https://git.example.com\\@evil.example",
    b"https://[::1%25eth0]:8443/",
    b"https://[::ffff:1.2.3.4]/",
    b"https://0x7f.1/",
    "https://g\u0131t.example.com/".encode(),
    "https://git\u3002example\u3002com/".encode(),
    b"https://git.example.com/..;/x",
    b"xn--a",
    b'{"v":1,"registry":{"index-url":"sparse+https://c.example/"},"kind":"get","args":[]}',
    b'{"uri":"https://b.example/x"}',
    b'{"image":"r.example/x@sha256:00"}',
    b'{"apiVersion":"client.authentication.k8s.io/v1","spec":{"cluster":{"server":7}}}',
    b'{"access_token":"x","expires_in":1e999,"token_type":"Bearer"}',
    b'{"access_token":"x\\u0000","expires_in":"-1"}',
    b'{"device_code":"d","user_code":"u","verification_uri":"javascript:x","interval":"nan"}',
    b'{"schema":1,"generation":9007199254740993,"claim":{"until":"9999-12-31T23:59:59Z"}}',
    b"[profiles.p]\nissuer = 1979-05-27T07:32:00Z\nhosts = [[]]\n",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xef\xbb\xbf{}",
    b"",
    b"\n" * 1000,
    b"/?code=a&code=b&state=%00",
    b"P1D",
    b"2026-13-45T99:99:99Z",
)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _value(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return {"text": _text(content)[:200]}


def _table(content: bytes) -> dict[str, Any]:
    value = _value(content)
    return value if isinstance(value, dict) else {"text": value}


def _response(content: bytes) -> Response:
    return Response(status=200, headers={}, body=content)


def _configuration(content: bytes) -> None:
    parse_config(_text(content), source="x", vendors=VENDORS, stores=STORES)


PARSERS: Mapping[str, Callable[[bytes], object]] = {
    "git": git.parse,
    "docker": docker.parse_server,
    "cargo": cargo.parse,
    "bazel": bazel.parse,
    "kubelet": kubelet.parse,
    "terraform": lambda content: terraform.parse_host(_text(content)),
    "go": lambda content: go.parse_url(_text(content)),
    "headers": lambda content: header_protocol.parse(_text(content)),
    "google": lambda content: google.parse({"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": _text(content)}),
    "exec info": lambda content: kubernetes.parse_exec_info(_text(content)),
    "certificates": lambda content: kubernetes.certificate_digests(_text(content)),
    "tokens": lambda content: parse_tokens(_response(content), Call.REFRESH),
    "sign-in": lambda content: parse_tokens(_response(content), Call.SIGN_IN),
    "device": lambda content: _parse_device(_response(content)),
    "redirect": lambda content: _query_of(_text(content)),
    "host": lambda content: parse_target(_text(content), has_path=True),
    "rule": lambda content: parse_rule(_text(content)),
    "entry": lambda content: entry_problem(_text(content)),
    "url": lambda content: checks.url_problem(_text(content)),
    "proxy": lambda content: checks.proxy_url(_text(content)),
    "configuration": _configuration,
    "record": lambda content: parse_session(_table(content)),
    "remains": lambda content: parse_remains(_value(content)),
    "told": lambda content: parse_told(_value(content)),
    "duration": lambda content: parse_duration(_text(content)),
    "time": lambda content: parse_rfc3339(_text(content)),
}
# What a parser says by an exception; `ValueError` where its caller translates it.
NAMED = (NightporterError, BadAskError)
BY_VALUE = {"certificates", "duration", "time"}
LIMIT_S = 2.0


def _ask(name: str, content: bytes) -> None:
    allowed: tuple[type[Exception], ...] = NAMED
    if name in BY_VALUE:
        allowed = (*NAMED, ValueError)
    began = time.process_time()
    with contextlib.suppress(*allowed):
        PARSERS[name](content)
    assert time.process_time() - began < LIMIT_S, "a parser that can be kept busy"


@pytest.mark.parametrize("name", PARSERS)
def test_the_corpus_of_the_advisories(name: str) -> None:
    for content in CORPUS:
        _ask(name, content)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A piece of the corpus with something put into it, cut out of it or put before it."""
    piece = draw(st.sampled_from([item for item in CORPUS if len(item) < 500]))
    at = draw(st.integers(0, len(piece)))
    to = draw(st.integers(at, len(piece)))
    odd = st.sampled_from([b"\n", b"\r", b"\x00", b"%0a", b"@", b"\\", b"\xff", b"]", b'"', b"."])
    return piece[:at] + draw(odd | st.binary(max_size=8)) + piece[to:]


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60)
@given(content=mutated() | st.binary(max_size=60))
@example(content=b"https://git.example.com\n")
def test_what_hypothesis_makes_of_it(name: str, content: bytes) -> None:
    _ask(name, content)


@settings(max_examples=100)
@given(content=mutated())
def test_a_target_is_only_ever_its_own_host(content: bytes) -> None:
    """Whatever is asked: what is matched is what was parsed, and nothing with a control character
    in it is parsed."""
    try:
        target = parse_target(_text(content), has_path=True)
    except BadAskError:
        return
    assert target.host.isascii()
    assert target.host == target.host.lower()
    assert all(char.isprintable() for char in _text(content).strip())


def test_nothing_of_the_corpus_is_for_our_path() -> None:
    config = parse_config(
        '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n'
        'hosts = ["git.example.com/team"]\n',
        source="x",
        vendors=VENDORS,
        stores=STORES,
    )
    assert not any(may_receive(_text(item), config.profiles["p"]) for item in CORPUS)
