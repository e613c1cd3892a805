"""A vendor as a table: its members, what they must not do, and which key comes first."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from typing import Any

import pytest

from nightporter.core import vendor_table
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.findings import Findings
from nightporter.core.model import (
    Config,
    Credentials,
    Grant,
    Identity,
    Profile,
    Rotation,
    Secret,
    SessionRecord,
)
from nightporter.core.output import output_of
from nightporter.core.record import idle_end
from nightporter.issuers import VENDORS, issuer_for
from nightporter.operations import explain_vendors
from nightporter.operations.rotate import Due, due
from nightporter.operations.show_config import render_effective
from nightporter.operations.timeline import timeline
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


def tenant_filled(value: Any) -> str | None:
    """Entra's addresses hold a tenant, which only its rows know."""
    return vendor_table.address(re.sub(r"\{tenant\}", "t", value))


CHECKS = {**vendor_table.MEMBERS, **dict.fromkeys(vendor_table.ENDPOINTS, tenant_filled)}


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


def test_a_code_is_as_long_as_a_record_may_hold() -> None:
    """80 characters."""
    profile(f'dead_errors = ["{"x" * 80}"]')
    assert "dead_errors: must hold codes of at most 80 characters" in problems(
        f'dead_errors = ["{"x" * 81}"]'
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


@pytest.mark.parametrize("issuer", VENDORS)
def test_every_profile_may_say_where_discovery_leads(issuer: str) -> None:
    """The contract has `endpoint_hosts` among the keys of every profile."""
    vendor = VENDORS[issuer]
    base = 'token_endpoint = "https://a.example/t"' if issuer == "oauth2" else ""
    base = base or ("" if vendor.base_url else 'base_url = "https://a.example"')
    which = profile(f'{base}\nendpoint_hosts = ["login.example:8443"]', issuer=issuer)
    assert which.options["endpoint_hosts"] == ["login.example:8443"]


def test_every_member_is_a_key_of_a_profile_but_three() -> None:
    assert set(vendor_table.MEMBERS) - vendor_table.OAUTH_KEYS == {"base_url", "grants", "document"}


def test_what_is_shown_means_the_same() -> None:
    """Rows and profiles of rows are read back as they were."""
    text = f'{ROW}[profiles.p]\nissuer = "acme"\ncredentials = "c"\n'
    for issuer in VENDORS:
        base = 'token_endpoint = "https://a.example/t"' if issuer == "oauth2" else ""
        base = base or ("" if VENDORS[issuer].base_url else 'base_url = "https://a.example"')
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


def partner_id_of(which: Profile, client: Credentials | None) -> str:
    request = issuer_for(which).refresh_request(which, Secret("r"), client)
    return str(request.headers["partnerId"])


@pytest.mark.parametrize("value", ["2147483648", "-2147483649", "x", "1.5", "7\r\nX-Evil: 1"])
def test_a_secret_s_partner_id_that_is_no_int32_is_never_a_header(value: str) -> None:
    """The document's int32: into a header goes nothing but a number."""
    which = profile(issuer="vault-ist")
    with pytest.raises(ValueError, match="signed 32-bit"):
        partner_id_of(which, Credentials(version="1", partner_id=value))


@pytest.mark.parametrize("value", ["2147483647", "-2147483648"])
def test_the_last_int32_is_one(value: str) -> None:
    which = profile(issuer="vault-ist")
    assert partner_id_of(which, Credentials(version="1", partner_id=value)) == value


def test_a_partner_id_comes_from_the_profile_before_the_secret() -> None:
    """With neither, what is missing is named as the secret would have it."""
    own = profile("partner_id = 7", issuer="vault-ist")
    other = profile('fields = { partner_id = "PARTNER" }', issuer="vault-ist")
    secret = Credentials(version="1", partner_id="9")
    assert (partner_id_of(own, secret), partner_id_of(other, secret)) == ("7", "9")
    for client in (None, Credentials(version="1")):
        with pytest.raises(ValueError, match="lacks the member 'PARTNER'"):
            partner_id_of(other, client)


def test_vault_ist_is_never_signed_in_to() -> None:
    """Its session is seeded; a request that is made up would go to nobody's address."""
    which = profile("partner_id = 7", issuer="vault-ist")
    user = Credentials(version="1", username="u", password=Secret("p"))
    with pytest.raises(ValueError, match="documents no sign-in"):
        issuer_for(which).sign_in_request(which, user)


# What goes with a token, and what ends an idle session.


@pytest.mark.parametrize(
    "name", ["access_token", "refresh_token", "id_token", "expires_at", "token"]
)
def test_no_token_is_an_extra_output(name: str) -> None:
    assert "must not hold the name of a token" in problems(f'extra_output = ["{name}"]')
    assert "at most 10 names" in problems(f"extra_output = {[f'a{n}' for n in range(11)]}")
    assert "must hold names of members" in problems('extra_output = ["a b"]')


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"instance_url": "https://a.example"}, {"instance_url": "https://a.example"}),
        ({"instance_url": "x" * 2048}, {"instance_url": "x" * 2048}),
        ({"instance_url": "x" * 2049}, {}),
        ({"instance_url": "a\x1b[31m"}, {}),
        ({"instance_url": 7}, {}),
        ({"instance_url": None}, {}),
        ({"access_token": "a", "a b": "c", "": "d"}, {}),
        ("nonsense", {}),
    ],
)
def test_what_of_a_reply_goes_with_a_token(value: object, kept: dict[str, str]) -> None:
    """Of a vendor's reply, and of a record or a cache file that others wrote."""
    assert output_of(value) == kept


IDLE = 'idle_life = "60d"'
DAY = 86_400


def idle_record(**members: Any) -> SessionRecord:
    known: dict[str, Any] = {"refresh_token": Secret("r"), "exchanged_at": 0, "generation": 1}
    identity = Identity(issuer="acme", token_endpoint="https://login.acme.example/oauth/token")
    return SessionRecord(identity=identity, **{**known, **members})


def test_an_idle_session_has_a_due_date_and_no_end() -> None:
    """`idle_life` is a guess about the only copy: nothing ends by it."""
    which = profile(IDLE)
    assert issuer_for(which).refresh_expires_at(which, 0) is None
    assert idle_end(idle_record(), which) == 60 * DAY
    assert idle_end(idle_record(refresh_token=None), which) is None
    assert idle_end(idle_record(), profile()) is None
    (end,) = [
        moment.at
        for moment in timeline(which, idle_record(), None, 1.0, lambda _at: None).moments
        if "dies" in moment.what
    ]
    assert end == 60 * DAY


@pytest.mark.parametrize(
    ("more", "days", "record", "wanted"),
    [
        ('grant = "authorization_code"', 0.9, {}, Due.NOTHING),
        ('grant = "authorization_code"', 1.1, {}, Due.REFRESH),
        ('grant = "authorization_code"\nidle_life = "1h"', 0.02, {}, Due.NOTHING),
        ('grant = "authorization_code"\nidle_life = "1h"', 0.03, {}, Due.REFRESH),
        ('grant = "authorization_code"', 0.1, {"expires_at": DAY // 4}, Due.NOTHING),
        ('grant = "authorization_code"', 0.15, {"expires_at": DAY // 4}, Due.REFRESH),
    ],
)
def test_rotate_refreshes_before_a_session_dies(
    more: str, days: float, record: dict[str, Any], wanted: Due
) -> None:
    """A day after the last exchange, or at half of what the vendor gives it."""
    now = days * DAY
    found = due(profile(more), idle_record(**record), now=now, sign_in_lasts_until=None)
    assert found is wanted


def test_a_password_session_is_refreshed_before_it_is_idle() -> None:
    which = profile('token_endpoint = "https://a.example/t"\nidle_life = "10d"', issuer="oauth2")
    record = idle_record(expires_at=None)
    assert due(which, record, now=DAY / 2, sign_in_lasts_until=None) is Due.NOTHING
    assert due(which, record, now=6 * DAY, sign_in_lasts_until=None) is Due.REFRESH


# The built-in rows.


@pytest.mark.parametrize("name", VENDORS)
def test_a_built_in_row_is_a_table_as_ones_own_could_be(name: str) -> None:
    """But for the few members that only `perspio` and `entra` fill in."""
    vendor = VENDORS[name]
    found = Findings("t")
    found.check_keys(name, vendor.members, CHECKS)
    vendor_table.check_words(found, name, vendor.members)
    assert found.lines == []
    assert vendor.document.title
    assert vendor.document.section
    assert date.fromisoformat(vendor.document.date)
    shown = explain_vendors.to_row(vendor)
    assert tomllib.loads(shown)["vendors"][name] == vendor.members
    assert vendor.document.title in shown


@pytest.mark.parametrize("name", ["keycloak", "okta", "auth0"])
def test_who_has_no_address_for_everybody_needs_one(name: str) -> None:
    with pytest.raises(ConfigError, match="one error"):
        profile(issuer=name)
    which = profile('base_url = "https://sso.example/realms/a/"', issuer=name)
    assert which.token_endpoint.startswith("https://sso.example/realms/a/")
