"""Borders of the pure rules that single faults have shown to be held by nothing."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from nightporter.core import checks, lineage, metrics
from nightporter.core.config import HELPER_DEFAULTS, parse_config
from nightporter.core.errors import (
    ConfigError,
    CredentialsRefusedError,
    IssuerReplyError,
    NightporterError,
    SessionRejectedError,
)
from nightporter.core.events import Event
from nightporter.core.expiry import MAX_UNIX_S, format_rfc3339, midnight_at_or_after, parse_rfc3339
from nightporter.core.findings import Findings
from nightporter.core.hosts import (
    BadAskError,
    check_text,
    could_mean,
    may_receive,
    overlap,
    parse_rule,
    parse_target,
    profile_for,
    shared_hosts,
)
from nightporter.core.model import Attempt, Config, Credentials, Secret, SessionRecord
from nightporter.core.record import parse_session, render_session
from nightporter.core.suffixes import is_public_suffix
from nightporter.core.told import NOTHING, Claims, told_after
from nightporter.core.values import dataclass, replace
from nightporter.core.vendor_table import ALGORITHMS
from nightporter.issuers import VENDORS
from nightporter.issuers.dialect import Dialect
from nightporter.issuers.oauth import Call, Response, parse_tokens
from nightporter.protocols import git
from nightporter.stores import OURS, STORES

STAMP = "2026-07-14T14:00:00Z"


def config(more: str = "") -> Config:
    text = f'[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\n{more}'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES)


# Hosts.


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("reg.example.com", "reg.example.com"),
        ("reg.example.com:443", "reg.example.com:443"),
        ("reg.example.com:5000", "reg.example.com:5000"),
        ("http://localhost:3000", "localhost:3000"),
    ],
)
def test_a_key_is_spelt_as_it_is_looked_up(entry: str, key: str) -> None:
    """A port that is written stays, the usual one too, and no port comes twice."""
    assert parse_rule(entry).key == key


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example.com\\@elsewhere.example/x",
        "git.example.com\\x",
        "https:\\\\git.example.com",
        "https://git.example.com?x",
        "https://git.example.com#x",
    ],
)
def test_a_backslash_ends_a_host_as_browsers_read_it(address: str) -> None:
    """So a refusal is told, and not "not ours"."""
    found = config('hosts = ["git.example.com", "https"]\n').profiles.values()
    assert could_mean(address, found)


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("http://localhost:8080/a/b", True),
        ("http://localhost:8080", True),
        ("https://localhost:8080/a", True),
        ("http://localhost:8081/a", False),
        ("http://localhost:9090/p/x", True),
        ("http://localhost:9090/q", False),
        ("http://git.example.com/a", False),
    ],
)
def test_localhost_has_ports_and_paths_and_no_scheme(url: str, may: bool) -> None:
    """Anything else gets its token by https alone."""
    hosts = 'hosts = ["localhost:8080", "localhost:9090/p", "git.example.com"]\n'
    assert may_receive(url, config(hosts).profiles["p"]) is may


def test_localhost_without_a_port_is_for_each_port_and_no_odd_path() -> None:
    hosts = config('hosts = ["localhost", "127.0.0.1/team"]\n').profiles["p"]
    assert may_receive("http://localhost:8080/x", hosts)
    assert may_receive("http://127.0.0.1:8080/team/x", hosts)
    assert not may_receive("http://127.0.0.1/team%2fx", hosts)


@pytest.mark.parametrize(
    ("address", "is_ours"),
    [
        ("https://a.b.wild.example.com/\0", True),
        ("https://a.git.example.com/\0", False),
        ("https://[0:0::1]:80/\0", True),
        ("https://git.example.com:99999/", True),
        ("git.example.com evil.example", True),
        ("git.example.com\x01evil.example", True),
        ("git.example.com\nevil.example", True),
        ("git.exam\tple.com/\0", True),
        ("https://git.example.com../", True),
        ("https://\uff27IT.example.com/\0", True),
        ("https://evil.example\\@git.example.com/", True),
        ("https://git.example.com\\@evil.example/", True),
        ("https://git.example.com@evil.example/", False),
        ("https://evil.example?@git.example.com/", False),
    ],
)
def test_what_a_refused_address_could_mean(address: str, is_ours: bool) -> None:
    found = config('hosts = ["git.example.com", "*.wild.example.com", "[::1]"]\n').profiles.values()
    assert could_mean(address, found) is is_ours


def test_hosts_that_profiles_share_are_named_with_the_others() -> None:
    text = "".join(
        f'[profiles.{name}]\nissuer = "pitchpoint"\ncredentials = "{name}"\nhosts = {hosts}\n'
        for name, hosts in (
            ("a", ["a.example.com", "b.example.org"]),
            ("b", ["*.example.com"]),
            ("c", ["a.example.com", "c.example"]),
        )
    )
    profiles = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles
    shared = [("a.example.com", ["b", "c"])]
    assert shared_hosts(profiles["a"], profiles.values()) == shared
    with pytest.raises(ConfigError) as caught:
        profile_for(parse_target("a.example.com"), profiles)
    assert "'a' and 'b'" in caught.value.message
    assert "'c'" not in caught.value.message


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        (f"{'a' * 63}.example", True),
        (f"{'a' * 64}.example", False),
        (f"{'a' * 40}.{'b' * 40}.example", True),
        (".".join(["a" * 63] * 3 + ["b" * 61]), True),
        (".".join(["a" * 63] * 3 + ["b" * 62]), False),
        ("my_host.example", True),
        ("\uff47it.example", True),
        ("a..example", False),
    ],
)
def test_the_borders_of_a_host_s_name(host: str, is_one: bool) -> None:
    if is_one:
        assert parse_target(host).host == host.replace("\uff47", "g")
    else:
        with pytest.raises(BadAskError, match="not a host"):
            parse_target(host)


@pytest.mark.parametrize("entry", ["*.localhost", "a.example/#x", "a.example/?x", "a.example/\x01"])
def test_what_is_no_entry_of_hosts(entry: str) -> None:
    with pytest.raises(BadAskError):
        parse_rule(entry)


@pytest.mark.parametrize("char", ["\x00", "\x1f", "\x7f", "\x80", "\x9f", "\u2028", "\u2029"])
def test_a_control_character_is_in_no_ask(char: str) -> None:
    """DEL is one; a blank is not."""
    with pytest.raises(BadAskError):
        check_text(f"a{char}b")
    assert check_text("a b~\xa0\u2027") == "a b~\xa0\u2027"


@pytest.mark.parametrize(
    "suffix", ["amazonaws.com", "amazonaws.com.cn", "on.aws", "azmk8s.io", "azurecr.io", "pkg.dev"]
)
def test_names_that_a_cloud_hands_out_are_shared_at_every_depth(suffix: str) -> None:
    assert is_public_suffix(suffix)
    assert is_public_suffix(f"a.b.{suffix}")
    assert not is_public_suffix(f"x{suffix.replace('.', '-')}.example.com")


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("a.example/x", "a.example/y", False),
        ("a.example/x", "a.example", True),
        ("a.example", "a.example/x", True),
        ("a.example/x", "a.example/x/y", True),
        ("a.example", "a.example:8443", False),
        ("*.example.com", "a.example.com/x", True),
        ("*.example.com", "a.b.example.com", False),
    ],
)
def test_which_entries_one_ask_could_be_for(one: str, other: str, is_shared: bool) -> None:
    assert overlap(parse_rule(one), parse_rule(other)) is is_shared
    assert overlap(parse_rule(other), parse_rule(one)) is is_shared


# What is told.


def test_a_record_has_room_for_a_thousand_characters_of_scopes() -> None:
    """Each with the blank after it."""
    scopes = tuple(f"scope-{number:03}" for number in range(101))
    told = told_after(
        NOTHING,
        asked=" ".join(scopes),
        granted=(),
        claims=None,
        username=None,
        is_refresh=False,
        is_heard=False,
    )
    assert told.missing == scopes[:100]


@pytest.mark.parametrize(
    ("username", "names", "is_other"),
    [("u", ("u",), False), ("u", ("v",), True), (None, ("v",), False), (None, (), False)],
)
def test_a_session_is_another_s_where_the_profile_names_somebody(
    username: str | None, names: tuple[str, ...], is_other: bool
) -> None:
    told = told_after(
        NOTHING,
        asked=None,
        granted=None,
        claims=Claims(subject="s", names=names),
        username=username,
        is_refresh=False,
        is_heard=False,
    )
    assert told.is_other_user is is_other


def test_an_answer_is_counted_by_its_call_and_status() -> None:
    series: metrics.Series = {}
    facts = {"profile": "p", "call": "refresh", "status": 200}
    metrics.count(series, Event.ANSWERED, facts, now=0.0)
    name = 'nightporter_exchanges_total{call="refresh",profile="p",status="200"} 1.0'
    assert name in metrics.render(series).splitlines()


def test_a_logout_is_a_link_that_is_read_again() -> None:
    for how in ("seed", "login", "sign-in", "refresh", "logout"):
        item = {"at": "2026-07-14T14:00:00Z", "generation": 1, "how": how}
        assert [link.how for link in lineage.parse_history([item])] == [how]


def test_a_token_that_is_no_unicode_has_a_digest() -> None:
    assert lineage.token_digest("l", "\udc80") != lineage.token_digest("l", "?")


# Configurations.


@pytest.mark.parametrize(
    ("path", "is_fine"),
    [("/a", True), ("~/a", True), ("./a", False), ("a", False), ("", False)],
)
def test_a_path_does_not_depend_on_the_working_directory(path: str, is_fine: bool) -> None:
    assert (checks.absolute(path) is None) is is_fine


def test_what_helpers_do_where_a_profile_does_not_say() -> None:
    assert config().profiles["p"].helper_options == HELPER_DEFAULTS
    assert HELPER_DEFAULTS["cargo_authorization"] == "bearer"


@pytest.mark.parametrize("address", ["http://", "https:///x", "ftp://h", "proxy:3128", ""])
def test_what_is_no_proxy(address: str) -> None:
    assert checks.proxy_url(address) is not None
    assert checks.proxy_url("http://proxy.example:3128") is None


@pytest.mark.parametrize(
    "name",
    [
        *("password", "client_secret", "private_key", "client_assertion", "access_token", "token"),
        *("secret_id", "secret", "api_key", "secret_access_key", "passwd", "passphrase", "pwd"),
        *("secretkey", "privatekey", "refresh-token", "idToken", "assertion", "clientAssertion"),
        *("shared.secret", "credential", "credentials", "API-KEY", "apiKey"),
    ],
)
def test_no_parameter_has_a_secret_s_name(name: str) -> None:
    assert checks.parameters({name: "x"}) == (
        f"must not hold {name!r}: the file must not hold secret values"
    )
    assert checks.parameters({f"{name}x": "x"}) is None


def test_what_must_be_a_table_is_said_so() -> None:
    findings = Findings("t")
    assert findings.table("profiles.p", "text") == {}
    assert [line for line in findings.lines if "must be a table" in line]
    with pytest.raises(ConfigError, match="must be a table"):
        parse_config("profiles.p = 7\n", source="t", vendors=VENDORS, stores=STORES)


def test_an_unknown_way_to_log_in_is_one_finding() -> None:
    text = '[stores.v]\ntype = "vault"\nauth = { method = "magic", role = 7 }\n'
    with pytest.raises(ConfigError, match=r"stores\.v\.auth\.method") as caught:
        parse_config(text, source="t", vendors=VENDORS, stores=STORES)
    assert "one error" in str(caught.value)


def test_the_embedded_store_is_sealed_by_the_keyring_alone() -> None:
    for value, is_fine in (("keyring", True), ("local", False), (True, False)):
        problem = STORES["local"].keys["seal"](value)
        assert (problem is None) is is_fine


def test_our_stores_are_three_and_no_other_is_made_up() -> None:
    assert {kind: STORES[kind].type for kind in OURS} == {kind: kind for kind in OURS}
    assert set(OURS) == {"local", "vault", "aws-secrets-manager"}
    with pytest.raises(KeyError, match="no-such-store"):
        STORES["no-such-store"]


def test_where_a_profile_keeps_its_refresh_token() -> None:
    """Beside its credentials, unless it names another place; without a store in this machine's."""
    found = config('publish_access_token = "a"\n').profiles["p"]
    assert (found.refresh_token, found.publish_access_token) == ("c/refresh-token", "a")
    assert (found.store.name, found.store.type) == ("local", "local")
    assert config('refresh_token = "r"\n').profiles["p"].refresh_token == "r"
    text = '[profiles.p]\nissuer = "pitchpoint"\nrefresh_token = "r"\n'
    bare = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]
    assert (bare.credentials, bare.refresh_token) == (None, "r")


@pytest.mark.parametrize(
    "path", ["a/+/b", "+", "a*", "a?b", 'a"b', "a\\b", "{a}", "a/../b", "", "a//b"]
)
def test_a_path_is_no_pattern_of_a_policy(path: str) -> None:
    """A plus is one where it is a whole part (Vault), and a letter within one."""
    assert checks.path(path) is not None
    assert checks.path("a+b/c") is None


def test_assertions_are_signed_by_these() -> None:
    """RFC 7518, RFC 8037."""
    assert (
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
    ) == ALGORITHMS


def test_a_refresh_needs_a_client_unless_the_row_says_otherwise() -> None:
    assert VENDORS["oauth2"].refresh_needs == {"client_id"}
    assert VENDORS["pitchpoint"].refresh_needs == frozenset()


def test_a_row_s_document_is_shown_as_it_is_written() -> None:
    text = """
[vendors.mine]
token_endpoint = "https://i.example/t"
document = { title = "Guide", section = "4.2", date = "2026-07-14" }
[profiles.p]
issuer = "mine"
credentials = "c"
"""
    found = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]
    document = found.vendor.document
    assert (document.title, document.section, document.date) == ("Guide", "4.2", "2026-07-14")
    text = text.replace('document = { title = "Guide", section = "4.2", date = "2026-07-14" }', "")
    bare = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"].vendor
    assert (bare.document.title, bare.document.section) == ("the configuration", "")


@pytest.mark.parametrize(
    "address", ["https://i.example/{nothing}/t", "https://i.example/{", "https://i.example/}"]
)
def test_an_address_has_no_place_that_is_not_filled(address: str) -> None:
    text = f'[profiles.p]\nissuer = "oauth2"\ntoken_endpoint = "{address}"\ncredentials = "c"\n'
    with pytest.raises(ConfigError, match="token_endpoint"):
        parse_config(text, source="t", vendors=VENDORS, stores=STORES)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("wrong = 1\n", "notify.wrong"),
        ("", "needs `command` or `webhook`"),
        ('command = "sh"\n', "notify.command"),
    ],
)
def test_what_is_wrong_with_whom_to_tell_is_said_where(table: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[notify]\n{table}", source="t", vendors=VENDORS, stores=STORES)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "is_fine"), [("a.b-c_d9", True), ("a~b", False), ("a" * 81, False)]
)
def test_the_name_of_a_member_of_a_reply(name: str, is_fine: bool) -> None:
    text = (
        f'[vendors.mine]\ntoken_endpoint = "https://i.example/t"\nlife_field = "{name}"\n'
        '[profiles.p]\nissuer = "mine"\ncredentials = "c"\n'
    )
    if is_fine:
        assert parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles
        return
    with pytest.raises(ConfigError, match="life_field"):
        parse_config(text, source="t", vendors=VENDORS, stores=STORES)


@pytest.mark.parametrize(
    ("more", "is_fine"),
    [
        ("", False),
        ('client_assertion_file = "/f"\n', True),
        ('token_endpoint_auth_method = "none"\n', True),
    ],
)
def test_a_client_s_id_is_in_the_file_where_no_secret_belongs_to_it(
    more: str, is_fine: bool
) -> None:
    text = (
        '[profiles.p]\nissuer = "oauth2"\ntoken_endpoint = "https://i.example/t"\n'
        f'client_id = "i"\nrefresh_token = "r"\ngrant = "authorization_code"\n{more}'
    )
    if is_fine:
        assert parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles
        return
    with pytest.raises(ConfigError, match="is for a client without a secret"):
        parse_config(text, source="t", vendors=VENDORS, stores=STORES)


def test_what_goes_with_a_token_is_what_the_row_names_today() -> None:
    text = (
        '[profiles.p]\nissuer = "oauth2"\ntoken_endpoint = "https://i.example/t"\n'
        'credentials = "c"\nextra_output = ["instance_url", "region"]\n'
    )
    found = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["p"]
    kept = {"instance_url": "u", "yesterday": "y"}
    assert found.output_of(kept) == {"instance_url": "u"}
    assert config().profiles["p"].output_of(kept) == {}


def test_every_row_is_counted() -> None:
    assert len(VENDORS) == len(list(VENDORS))
    assert {"pitchpoint", "oauth2", "github"} <= set(VENDORS)


# Records as values.


def test_time_ends_with_the_year_9999() -> None:
    assert format_rfc3339(MAX_UNIX_S) == "9999-12-31T23:59:59Z"
    assert parse_rfc3339("9999-12-31T23:59:59Z") == MAX_UNIX_S
    assert parse_rfc3339("1970-01-01T00:00:00Z") == 0
    for beyond in ("9999-12-31T23:59:59-00:01", "1969-12-31T23:59:59Z"):
        with pytest.raises(ValueError, match="era"):
            parse_rfc3339(beyond)


@pytest.mark.parametrize(
    ("unix_s", "midnight"),
    [
        (1_784_174_400, 1_784_174_400),
        (1_784_174_399, 1_784_174_400),
        (1_784_174_401, 1_784_260_800),
    ],
)
def test_midnight_itself_is_not_after_midnight(unix_s: int, midnight: int) -> None:
    assert midnight_at_or_after(unix_s, "America/New_York") == midnight


def test_every_member_of_ours_is_known() -> None:
    """What isn't is kept as it is, and written beside ours."""
    members = {
        "schema": 1,
        "issuer": "i",
        "token_endpoint": "t",
        "generation": 4,
        "by": "h",
        "username": "u",
        "useralias": "a",
        "client_id": "c",
        "refresh_token": "r",
        "issued_at": STAMP,
        "expires_at": STAMP,
        "exchanged_at": STAMP,
        "access_token": "a",
        "token_type": "Bearer",
        "access_token_expires_at": STAMP,
        "lineage": "l",
    }
    found = parse_session({**members, "later": 1})
    assert isinstance(found, SessionRecord)
    assert found.unknown == {"later": 1}
    assert members.items() <= render_session(found).items()


def test_a_value_is_compared_by_all_its_fields_and_travels_between_processes() -> None:
    """And has no others that could be set."""
    one = Attempt(count=1, at=7)
    assert one == Attempt(count=1, at=7)
    assert one != Attempt(count=1, at=8)
    assert one != Attempt(count=2, at=7)
    for again in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert again == one
        with pytest.raises(AttributeError, match="can't be changed"):
            again.count = 2  # type: ignore[misc]  # that is what is tried


def test_what_signs_is_no_part_of_what_credentials_are() -> None:
    """It is made again with each read."""
    one = Credentials(version="1", client_id="c")
    assert replace(one, prove=lambda _profile: Secret("x")) == one
    assert "prove" not in repr(one)


def test_a_class_keeps_the_methods_that_it_defines() -> None:
    """A hash of its own among them; one that it takes away by `__eq__` alone is given back."""

    @dataclass(frozen=True)
    class Own:
        name: str

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "own"

    @dataclass(frozen=True)
    class Compared:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Compared)

    assert (hash(Own("a")), repr(Own("a"))) == (7, "own")
    assert Compared("a") == Compared("b")
    assert isinstance(hash(Compared("a")), int)


# Answers of issuers, asks of clients.


def answer(status: int, **headers: str) -> Any:
    return Response(status=status, headers=headers, body=b"{}")


def test_a_failing_issuer_has_refused_nothing() -> None:
    """500 is no 4xx: nobody knows what became of the request."""
    for status, is_known in ((499, True), (500, False)):
        with pytest.raises(NightporterError) as caught:
            parse_tokens(answer(status), Call.SIGN_IN)
        assert (caught.value.reference != "issuer-outcome-unknown") is is_known
        assert not isinstance(caught.value, SessionRejectedError)


@pytest.mark.parametrize("found", [None, [], {}, "", 7, "a\nb", "\x00"])
def test_what_is_no_refresh_token_is_none(found: object) -> None:
    """Or an answer that can't be used, where something was meant."""
    body = {"access_token": "a", "token_type": "Bearer", "refresh_token": found}
    reply = Response(status=200, headers={}, body=json.dumps(body).encode())
    if not found:
        assert parse_tokens(reply, Call.REFRESH).refresh_token is None
        return
    with pytest.raises(IssuerReplyError, match="no text"):
        parse_tokens(reply, Call.REFRESH)


def test_what_a_row_calls_dead_is_so_for_a_refresh() -> None:
    """At a sign-in the same code is a refused client; at a login, the login's."""
    dialect = Dialect(dead=frozenset({"gone"}))
    for call, kind in (
        (Call.REFRESH, SessionRejectedError),
        (Call.SIGN_IN, CredentialsRefusedError),
    ):
        with pytest.raises(kind):
            parse_tokens(Response(status=400, headers={}, body=b'{"error":"gone"}'), call, dialect)
    with pytest.raises(NightporterError) as caught:
        login = Response(status=400, headers={}, body=b'{"error":"gone"}')
        parse_tokens(login, Call.LOG_IN, dialect)
    assert not isinstance(caught.value, (SessionRejectedError, CredentialsRefusedError))


def test_a_refusal_is_certain_unless_it_is_said_not_to_be() -> None:
    assert SessionRejectedError("no").is_certain


def test_a_date_that_is_over_is_waited_for_no_more() -> None:
    """Not a second either."""
    dates = {
        "retry-after": "Tue, 14 Jul 2026 13:59:00 GMT",
        "date": "Tue, 14 Jul 2026 14:00:00 GMT",
    }
    with pytest.raises(NightporterError) as caught:
        parse_tokens(answer(503, **dates), Call.REFRESH)
    assert caught.value.retry_after_s == 0.0


@pytest.mark.parametrize(
    ("path", "is_refused"), [(b"a b", False), (b"a\x1fb", True), (b"a\x7f", True)]
)
def test_git_a_control_byte_is_in_no_path(path: bytes, is_refused: bool) -> None:
    """A blank is one of git's letters."""
    ask = b"protocol=https\nhost=git.example.com\npath=" + path + b"\n"
    if is_refused:
        with pytest.raises(BadAskError, match="control character"):
            git.parse(ask)
    else:
        assert git.parse(ask)


@pytest.mark.parametrize("key", ["password", "credential"])
def test_git_a_refused_secret_of_another_helper_may_be_any_bytes(key: str) -> None:
    ask = b"protocol=https\nhost=git.example.com\n" + key.encode() + b"=\xff\xfe\n"
    assert git.parse(ask)
    with pytest.raises(BadAskError):
        git.parse(b"protocol=https\nhost=git.example.com\nusername=\xff\n")
