"""A vendor as a table: its members, what they must not do, and which key comes first."""

from __future__ import annotations

from typing import Any

import pytest

from nightporter.core import vendor_table
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.model import Config, Grant, Profile, Rotation, Secret
from nightporter.issuers import VENDORS, issuer_for
from nightporter.operations.show_config import render_effective
from nightporter.stores import STORES

ROW = """
[vendors.acme]
base_url = "https://login.acme.example"
token_endpoint = "{base_url}/oauth/token"
grants = ["refresh_token", "authorization_code"]
rotation = "rotates"
grace = "30s"
scopes = "read write"
dead_errors = ["bad_refresh_token"]
"""


def parse(text: str) -> Config:
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES)


def profile(more: str = "", row: str = ROW, issuer: str = "acme") -> Profile:
    text = f'{row}\n[profiles.p]\nissuer = "{issuer}"\ncredentials = "c"\n{more}\n'
    return parse(text).profiles["p"]


def problems(row: str, more: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        profile(more, row=f'[vendors.acme]\ntoken_endpoint = "https://a.example/t"\n{row}')
    return "\n".join(caught.value.problems)


def body(which: Profile) -> str:
    return issuer_for(which).refresh_request(which, Secret("r"), None).body.decode()


def test_a_row_of_ones_own_is_a_vendor() -> None:
    which = profile()
    assert (which.issuer, which.token_endpoint) == (
        "acme",
        "https://login.acme.example/oauth/token",
    )
    assert (which.grant, which.rotation, which.grace_s) == (
        Grant.REFRESH_TOKEN,
        Rotation.ROTATES,
        30,
    )
    assert which.share_access_token
    assert "scope=read+write" in body(which)


def test_a_profiles_own_key_comes_before_the_rows() -> None:
    which = profile(
        'base_url = "https://eu.acme.example/"\nrotation = "reused"\nscopes = []\n'
        'dead_errors = ["other"]'
    )
    assert which.token_endpoint == "https://eu.acme.example/oauth/token"
    assert which.rotation is Rotation.REUSED
    assert "scope" not in body(which)
    assert which.options["dead_errors"] == ["other"]


@pytest.mark.parametrize(
    "more", ["scope_at_refresh = false", 'scopes = ""', "scopes = []\nscope_at_refresh = true"]
)
def test_no_scope_is_sent_with_a_refresh(more: str) -> None:
    """RFC 6749 has no empty scope. An empty text is a finding, an empty list none."""
    if more == 'scopes = ""':
        with pytest.raises(ConfigError, match="one error"):
            profile(more)
    else:
        assert "scope" not in body(profile(more))


def test_perspios_optional_scope_may_be_left_out() -> None:
    """Its document: "scope: Optional"."""
    for more in ("scopes = []", "scope_at_refresh = false"):
        assert "scope" not in body(profile(more, issuer="perspio"))


def test_a_profile_that_names_its_issuer_takes_no_address_from_the_row() -> None:
    """They are that issuer's to tell."""
    which = profile('issuer_url = "https://other.example"')
    assert "token_endpoint" not in which.options
    assert issuer_for(which).discovery_request(which) is not None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('dead_error = ["x"]', "acme.dead_error: is an unknown key; did you mean 'dead_errors'"),
        ('dead_errors = "x"', "acme.dead_errors: must be a list"),
        ('dead_errors = [""]', "acme.dead_errors: must be a list of non-empty strings"),
        ('dead_errors = ["x"]\nbusy_errors = ["x"]', "acme.busy_errors: holds a code that is in"),
        ('token_types = ["dpop"]', "acme.token_types: must not hold 'DPoP'"),
        ('token_types = ["bot", "MAC"]', "no bearer token"),
        ('token_types = ["a b"]', "must hold token types"),
        ('life_field = "expires_in"', "acme.life_field: must be the member with the refresh"),
        ('life_field = "a b"', "acme.life_field: must be the name of a member"),
        ("access_token_life = 0", "acme.access_token_life: must be more than 0"),
        ('access_token_life = "soon"', "acme.access_token_life: must be a duration"),
        ('grants = ["password", "password"]', "each once at most"),
        ("grants = []", "acme.grants: must be a list"),
        ('grants = ["passwort"]', "did you mean 'password'"),
        ('rotation = "rotate"', "did you mean 'rotates'"),
        ('revocation_endpoint = "http://a.example"', "must be https"),
        (
            'revocation_endpoint = "https://{tenant}.example"',
            "may hold {base_url} at its beginning",
        ),
        ('endpoint_hosts = ["*.example"]', "must hold host names"),
        ('token_endpoint_auth_method = "basic"', "acme.token_endpoint_auth_method: must be one"),
        ('scope_at_refresh = "no"', "must be true or false"),
        ('extra_parameters = { client_secret = "x" }', "must not hold secret values"),
        ('client_secret = "x"', "must not hold secret values"),
        ('document = "a page"', "must be a table with the strings title"),
        ('refresh_token_midnight = "Mars"', "must be a time zone"),
    ],
)
def test_what_a_row_must_not_say(row: str, said: str) -> None:
    """Each finding names the key, and none repeats a value."""
    assert said in problems(row)


def test_a_finding_of_the_row_alone_is_told_once() -> None:
    """Its profiles are not blamed for it."""
    assert problems("grants = []").count("\n") == 0


def test_a_row_may_not_bear_a_built_in_name() -> None:
    with pytest.raises(ConfigError) as caught:
        profile(row='[vendors.entra]\ntoken_endpoint = "https://a.example/t"', issuer="entra")
    assert "vendors.entra: is the name of a built-in vendor" in caught.value.problems[0]


def test_codes_in_two_lists_of_row_and_profile_together() -> None:
    assert "busy_errors: holds a code that is in 'dead_errors' too" in problems(
        'dead_errors = ["x"]', 'busy_errors = ["x"]'
    )


def test_a_profile_without_an_address_says_which_one() -> None:
    """The row has none for everybody."""
    row = '[vendors.acme]\ntoken_endpoint = "{base_url}/t"'
    with pytest.raises(ConfigError) as caught:
        profile(row=row)
    assert "profiles.p.base_url: is missing" in caught.value.problems[0]
    assert (
        profile('base_url = "https://a.example"', row=row).token_endpoint == "https://a.example/t"
    )
    with pytest.raises(ConfigError) as caught:
        profile(row="[vendors.acme]")
    assert "profiles.p.token_endpoint: is missing (or name" in caught.value.problems[0]


def test_a_wrong_issuer_names_the_users_own_rows_too() -> None:
    with pytest.raises(ConfigError) as caught:
        profile(issuer="acne")
    assert "did you mean 'acme'" in caught.value.problems[0]


@pytest.mark.parametrize("key", ["dead_errors", "busy_errors", "refused_errors", "token_types"])
@pytest.mark.parametrize("issuer", ["pitchpoint", "vault-ist"])
def test_vendors_with_requests_of_their_own_take_words_too(issuer: str, key: str) -> None:
    assert profile(f'{key} = ["bot"]', issuer=issuer).options[key] == ["bot"]


def test_every_member_is_a_key_of_a_profile_but_three() -> None:
    assert set(vendor_table.MEMBERS) - vendor_table.OAUTH_KEYS == {"base_url", "grants", "document"}


def test_what_is_shown_means_the_same() -> None:
    """Rows and profiles of rows are read back as they were."""
    text = f'{ROW}[profiles.p]\nissuer = "acme"\ncredentials = "c"\n'
    for issuer in VENDORS:
        base = 'token_endpoint = "https://a.example/t"' if issuer == "oauth2" else ""
        text += f'[profiles.{issuer}]\nissuer = "{issuer}"\ncredentials = "{issuer}"\n{base}\n'
    written = parse(text)
    again = parse(render_effective(written, {}, STORES))
    assert again.profiles == written.profiles
    assert again.vendors == written.vendors


def partner_id_sent(value: Any) -> str:
    which = profile(f"partner_id = {value}", issuer="vault-ist")
    return str(issuer_for(which).refresh_request(which, Secret("r"), None).headers["partnerId"])


def test_a_partner_id_of_0_is_one() -> None:
    assert [partner_id_sent(value) for value in ("0", '"0"', "-1")] == ["0", "0", "-1"]
