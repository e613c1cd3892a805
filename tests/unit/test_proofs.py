"""How a client proves itself: by what, for whom, and by which clock."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from lab.jose import decode, pem, rsa_key
from nightporter.client import proofs as machine
from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError
from nightporter.core.model import Config, Credentials, Profile, Secret
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.oauth import Response
from nightporter.operations.findings import missing_libraries
from nightporter.session.driver import Runtime
from nightporter.session.proofs import with_proof
from nightporter.stores import STORES

NOW = 1_790_000_000.0
KEY = Credentials(version="7", client_id="c-1", private_key=Secret(pem(rsa_key())))
BOTH = Credentials(
    version="7",
    client_id="c-1",
    client_secret=Secret("s"),
    private_key=KEY.private_key,
)


def config(**keys: str) -> Config:
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    text = f'[profiles.p]\nissuer = "oauth2"\ncredentials = "c"\n{lines}'
    if not {"token_endpoint", "issuer_url"} & keys.keys():
        text += 'token_endpoint = "https://login.example/token"\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES)


def profile(**keys: str) -> Profile:
    return config(**keys).profiles["p"]


def claims(
    which: Profile, client: Credentials, *, store_now: float | None = None
) -> dict[str, Any]:
    runtime = Runtime(clock=lambda: NOW)
    proved = with_proof(client, which, runtime, store_now=store_now)
    assert proved.prove is not None
    return decode(proved.prove(which).reveal().split(".")[1])


def test_an_assertion_is_dated_by_the_store_where_our_clock_is_wrong() -> None:
    assert claims(profile(), KEY)["iat"] == NOW
    assert claims(profile(), KEY, store_now=NOW + 3)["iat"] == NOW
    assert claims(profile(), KEY, store_now=NOW - 3600)["iat"] == NOW - 3600


def test_it_is_for_the_token_endpoint_unless_the_profile_names_another() -> None:
    assert claims(profile(), KEY)["aud"] == "https://login.example/token"
    named = profile(client_assertion_audience="https://login.example")
    assert claims(named, KEY)["aud"] == "https://login.example"


def test_a_discovered_token_endpoint_is_whom_it_is_for() -> None:
    which = profile(issuer_url="https://login.example")
    found = {"issuer": "https://login.example", "token_endpoint": "https://login.example/t2"}
    answer = Response(status=200, headers={}, body=json.dumps(found).encode())
    addressed = issuer_for(which).with_discovery(which, answer)
    proved = with_proof(KEY, which, Runtime(clock=lambda: NOW), store_now=None)
    assert proved.prove is not None
    assert decode(proved.prove(addressed).reveal().split(".")[1])["aud"] == found["token_endpoint"]


@pytest.mark.parametrize(
    ("client", "method", "signs"),
    [
        (KEY, "", True),
        (KEY, "none", False),
        (BOTH, "", False),
        (BOTH, "private_key_jwt", True),
        (Credentials(version="7", client_id="c", client_secret=Secret("s")), "", False),
    ],
)
def test_which_clients_sign(client: Credentials, method: str, signs: bool) -> None:
    which = profile(**({"token_endpoint_auth_method": method} if method else {}))
    proved = with_proof(client, which, Runtime(), store_now=None)
    assert (proved.prove is not None) is signs


def test_a_client_without_its_key_says_what_is_missing() -> None:
    which = profile(token_endpoint_auth_method="private_key_jwt")
    bare = Credentials(version="7", client_id="c", client_secret=Secret("s"))
    proved = with_proof(bare, which, Runtime(), store_now=None)
    with pytest.raises(ValueError, match="'private_key'"):
        issuer_for(which).refresh_request(which, Secret("r"), proved)


def test_another_assertion_in_the_file_is_another_version() -> None:
    which = profile(client_assertion_file="/run/token", client_id="c-2")
    versions = set()
    for text in ("a", "b", "a"):
        given = Secret(text)
        runtime = Runtime(read_assertion=lambda _profile, given=given: given)  # type: ignore[misc]
        found = with_proof(Credentials(version="7"), which, runtime, store_now=None)
        versions.add(found.version)
        assert found.client_id == "c-2"
        assert found.prove is not None
        assert found.prove(which) == given
    assert len(versions) == 2


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(ConfigError, match="joserfc") as caught:
        machine.sign(KEY, audience="a", now=NOW, jti="j")
    assert "install" in caught.value.hint


def test_doctor_finds_the_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = config(token_endpoint_auth_method="private_key_jwt")
    assert [item.reference for item in missing_libraries(found)] == ["library-missing"]
    assert list(missing_libraries(config())) == []
