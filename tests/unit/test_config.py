"""Configuration: all errors at once, each with file, key, what is wrong and the nearest valid
spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.config import choose_profile, parse_config
from nightporter.core.errors import ConfigError, UnknownProfileError
from nightporter.core.model import Config, Role
from nightporter.issuers import VENDORS
from nightporter.operations.show_config import render_effective
from nightporter.stores import STORES

GOOD = """
[stores.vault]
type = "vault"
address = "https://vault.example:8200"
auth = { method = "approle", role_id = "r", secret_id_file = "/run/secret-id" }
[stores.dev]
type = "local"
[profiles.pitchpoint]
issuer = "pitchpoint"
store = "vault"
credentials = "prod/pitchpoint"
hosts = ["api.pointservices.com"]
"""


def parse(text: str) -> Config:
    return parse_config(text, source="config.toml", vendors=VENDORS, stores=STORES)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.problems


def profile(more: str, *, stores: str = "") -> str:
    return f'{stores}\n[profiles.p]\nissuer = "pitchpoint"\ncredentials = "prod/p"\n{more}\n'


def test_defaults() -> None:
    found = parse(GOOD).profiles["pitchpoint"]
    assert found.refresh_token == "prod/pitchpoint/refresh-token"
    assert found.base_url == found.token_endpoint == "https://api.pointservices.com"
    assert (found.min_ttl_s, found.renew_when_left_s, found.helper_username) == (
        60,
        90_000,
        "oauth2",
    )
    assert (found.role, found.share_access_token, found.is_exclusive) == (Role.FULL, False, False)
    assert found.store.options["mount"] == "secret"


def test_without_stores_the_embedded_one_is_used() -> None:
    assert parse(profile("")).profiles["p"].store.type == "local"


def test_one_store_need_not_be_named_but_two_must() -> None:
    assert (
        parse(profile("", stores='[stores.only]\ntype = "local"')).profiles["p"].store.name
        == "only"
    )
    two = '[stores.a]\ntype = "local"\n[stores.b]\ntype = "local"'
    assert problems(profile("", stores=two)) == (
        "config.toml: profiles.p.store: is missing, and there is more than one store",
    )


def test_all_errors_come_at_once() -> None:
    text = """
surplus = 1
[stores.v]
type = "vualt"
[stores.w]
type = "vault"
adress = "https://v"
auth = { method = "aprole" }
[profiles.p]
isuer = "pitchpoint"
[profiles.q]
issuer = "pitchpiont"
store = "x"
credentials = "c"
min_ttl = "60"
[profiles.r]
issuer = "pitchpoint"
store = "ww"
credentials = 7
role = "read-only"
"""
    assert problems(text) == (
        "config.toml: surplus: is an unknown key",
        (
            "config.toml: stores.v.type: must be one of 'local', 'vault', 'aws-secrets-manager';"
            " did you mean 'vault'?"
        ),
        "config.toml: stores.w.adress: is an unknown key; did you mean 'address'?",
        (
            "config.toml: stores.w.auth.method: must be one of 'token', 'approle', 'userpass',"
            " 'kubernetes', 'jwt', 'aws', 'none'; did you mean 'approle'?"
        ),
        "config.toml: profiles.p.issuer: is missing",
        "config.toml: profiles.p.isuer: is an unknown key; did you mean 'issuer'?",
        "config.toml: profiles.p.store: is missing, and there is more than one store",
        "config.toml: profiles.p.credentials: is missing (or name 'refresh_token' explicitly)",
        (
            f"config.toml: profiles.q.issuer: must be one of {', '.join(map(repr, VENDORS))}; did"
            " you mean 'pitchpoint'?"
        ),
        "config.toml: profiles.q.min_ttl: must be a whole number of seconds, 0 or more",
        "config.toml: profiles.q.store: names a store that is not in the file",
        "config.toml: profiles.r.credentials: must be a non-empty string",
        "config.toml: profiles.r.store: names a store that is not in the file; did you mean 'w'?",
        "config.toml: profiles.r.publish_access_token: is missing",
    )


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('min_ttl = -1', "whole number"),
        ('min_ttl = true', "whole number"),
        ('renew_when_left = "25 hours"', "duration"),
        ('hosts = "api.example"', "list"),
        ('base_url = "http://api.example"', "https"),
        ('base_url = "https://user:pw@api.example"', "user name or password"),
        ('base_url = "https://"', "address"),
        ('base_url = "ftp://api.example"', "https"),
        ('base_url = "https://api.example:port"', "valid address"),
        ('proxy = "http://user:pw@proxy:1"', "HTTPS_PROXY"),
        ('role = "admin"', "'full'"),
        ('fields = { user = "x" }', "unknown key; did you mean 'username'"),
        ('share_access_token = "yes"', "true or false"),
        ('password = "hunter2"', "must not hold secret values"),
        ('store = "nowhere"', "not in the file"),
        ('refresh_token = "prod/p"', "same path"),
        ('refresh_token = "../x"', "'..'"),
        ('refresh_token = "/x"', "empty"),
        ('grant = "password"', "unknown key"),
        ('tenant = "x"', "unknown key"),
        ('proxy = "http://[x"', "valid address"),
        ('renew_when_left = "3000000d"', "hundred years"),
    ],
)  # fmt: skip
def test_what_is_refused(line: str, word: str) -> None:
    found = problems(profile(line))
    assert len(found) == 1
    assert word in found[0]
    assert "hunter2" not in found[0]
    assert "pw" not in found[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_plain_http_is_taken_on_loopback(host: str) -> None:
    assert (
        parse(profile(f'base_url = "http://{host}:8080/"')).profiles["p"].base_url
        == f"http://{host}:8080"
    )


@pytest.mark.parametrize(
    "host", ["localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1"]
)
def test_plain_http_is_not_taken_from_what_only_looks_like_it(host: str) -> None:
    assert "loopback" in problems(profile(f'base_url = "http://{host}"'))[0]


def test_an_arn_needs_the_record_s_path() -> None:
    text = (
        '[profiles.p]\nissuer = "pitchpoint"\ncredentials ='
        ' "arn:aws:secretsmanager:eu-west-1:1:secret:x-AbCdEf"\n'
    )
    assert "ARN" in problems(text)[0]


def test_two_profiles_with_one_record_path_must_be_one_identity() -> None:
    two = (
        profile("") + '[profiles.q]\nissuer = "pitchpoint"\ncredentials = "other"\nrefresh_token ='
        ' "prod/p/refresh-token"\n'
    )
    assert "record path of profile 'p'" in problems(two)[0]
    same = (
        profile("") + '[profiles.q]\nissuer = "pitchpoint"\ncredentials = "prod/p"\nmin_ttl = 5\n'
    )
    assert len(parse(same).profiles) == 2


def test_text_that_is_no_toml_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[profiles.p]\npassword = "hunter2\n')
    assert "line 2" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_choosing_a_profile() -> None:
    one = parse(GOOD)
    assert choose_profile(one, None).name == "pitchpoint"
    with pytest.raises(UnknownProfileError, match="did you mean 'pitchpoint'"):
        choose_profile(one, "pitchpiont")
    two = parse(profile("") + '[profiles.q]\nissuer = "pitchpoint"\ncredentials = "other"\n')
    with pytest.raises(UnknownProfileError, match="p, q"):
        choose_profile(two, None)


def test_the_effective_configuration_names_its_sources() -> None:
    text = GOOD.replace('address = "https://vault.example:8200"\n', "")
    shown = render_effective(parse(text), {"VAULT_ADDR": "https://vault.internal"}, STORES)
    assert 'address = "https://vault.internal"  # VAULT_ADDR' in shown
    assert 'credentials = "prod/pitchpoint"  # file' in shown
    assert "min_ttl = 60  # default" in shown
    assert (
        parse("\n".join(shown.splitlines())).profiles["pitchpoint"].credentials == "prod/pitchpoint"
    )


@given(st.text(max_size=200))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        parse(text)
    except ConfigError as exc:
        assert exc.exit_code == 2


toml_values = st.sampled_from(
    ["1", "true", '"x"', '""', "[]", '["a"]', "{}", "{ a = 1 }", "1979-05-27", "0.5"]
)
keys = st.sampled_from(
    [
        "issuer",
        "store",
        "credentials",
        "hosts",
        "fields",
        "role",
        "min_ttl",
        "proxy",
        "base_url",
        "refresh_token",
        "x",
    ]
)


@given(st.dictionaries(keys, toml_values, max_size=6), toml_values, toml_values)
def test_no_types_crash_the_parser(members: dict[str, str], store: str, auth: str) -> None:
    lines = "\n".join(f"{key} = {value}" for key, value in members.items())
    try:
        parse(
            f'[stores]\nx = {store}\ny = {{ type = "vault", auth = {auth}'
            f" }}\n[profiles.p]\n{lines}\n"
        )
    except ConfigError as exc:
        assert exc.exit_code == 2


def test_no_secret_among_the_extra_parameters() -> None:
    text = (
        '[profiles.p]\nissuer = "oauth2"\ntoken_endpoint = "https://i.example/t"\ncredentials ='
        ' "c"\nextra_parameters = { client_secret = "hunter2" }\n'
    )
    found = problems(text)
    assert "must not hold secret values" in found[0]
    assert "hunter2" not in found[0]


@pytest.mark.parametrize("issuer", ["perspio", "vault-ist"])
def test_refresh_only_needs_the_client_in_a_secret_of_its_own(issuer: str) -> None:
    text = f'[profiles.p]\nissuer = "{issuer}"\ncredentials = "c"\nrole = "refresh-only"\n'
    assert "profiles.p.client: is missing" in problems(text)[0]
    assert parse(text + 'client = "d"\n').profiles["p"].role is Role.REFRESH_ONLY
