"""Clients that prove themselves without a shared secret, with the real command: against Authlib's
server, and against one of ours that checks every word of RFC 7523."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from lab.jose import certificate_of, pem, pem_of, pem_of_public, rsa_key, signed_by
from lab.servers.authlib_issuer import Client as AuthlibClient
from lab.servers.authlib_issuer import open_authlib_issuer
from lab.servers.strict_clients import Client, Issuer, open_strict_issuer
from lab.support import Home
from lab.worlds.vendor import Vendor

OTHER = 1  # another key


@pytest.fixture
def strict() -> Iterator[Issuer]:
    with open_strict_issuer() as issuer:
        issuer.clients["c-1"] = Client(key=rsa_key().public_key())
        yield issuer


def configure(home: Home, token_endpoint: str, *lines: str, secret: dict[str, str]) -> None:
    head = (
        "[profiles.acme]",
        'issuer = "oauth2"',
        f'token_endpoint = "{token_endpoint}"',
        'refresh_token = "prod/acme/refresh-token"',
    )
    where = ('credentials = "prod/acme"',) if secret else ()
    home.configure("\n".join((*head, *where, *lines)) + "\n")
    if secret:
        home.set_credentials("acme", **secret)


BY_CLIENT = 'grant = "client_credentials"'
SIGNS = 'token_endpoint_auth_method = "private_key_jwt"'


def with_key(home: Home, issuer: Issuer, *lines: str, key: Any = None, **more: str) -> None:
    secret = {"client_id": "c-1", "private_key": pem(key or rsa_key()), **more}
    configure(home, issuer.token_endpoint, BY_CLIENT, *lines, secret=secret)


# private_key_jwt.


def test_authlib_s_server_takes_our_assertion(empty_home: Home) -> None:
    with open_authlib_issuer() as served:
        public = RSAKey.import_key(rsa_key().public_key()).as_dict(private=False)
        served.clients["c-1"] = AuthlibClient(client_id="c-1", public_key=public)
        secret = {"client_id": "c-1", "private_key": pem(rsa_key())}
        configure(empty_home, served.token_endpoint, BY_CLIENT, SIGNS, secret=secret)
        for count in (1, 2):
            done = empty_home.run("token", "--force-refresh")
            assert done.code == 0, done.err
            assert len(set(served.jtis)) == count
        elsewhere = 'client_assertion_audience = "https://login.example"'
        for lines, key in ((elsewhere, rsa_key()), ("", rsa_key(which=OTHER))):
            secret = {"client_id": "c-1", "private_key": pem(key)}
            configure(empty_home, served.token_endpoint, BY_CLIENT, SIGNS, lines, secret=secret)
            done = empty_home.run("token", "--force-refresh")
            assert (done.code, done.out) == (3, "")
        assert len(set(served.jtis)) == 2


def test_the_strict_server_takes_it_and_no_secret_is_needed_to_choose_it(
    empty_home: Home, strict: Issuer
) -> None:
    with_key(empty_home, strict, key_id="k-1")  # no method named: the secret holds a key alone
    done = empty_home.run("token")
    assert done.code == 0, (done.err, strict.refusals)
    assert strict.headers == [{"alg": "RS256", "typ": "JWT", "kid": "k-1"}]


def test_the_certificate_is_named(empty_home: Home, strict: Issuer) -> None:
    certificate = certificate_of(rsa_key())
    strict.clients["c-1"].certificate = certificate
    with_key(
        empty_home,
        strict,
        'token_endpoint_auth_signing_alg = "PS256"',
        certificate=pem_of(certificate),
    )
    done = empty_home.run("token")
    assert done.code == 0, (done.err, strict.refusals)
    assert strict.headers[0]["alg"] == "PS256"


def test_entra_takes_it_too(empty_home: Home, strict: Issuer) -> None:
    certificate = certificate_of(rsa_key())
    strict.clients["c-1"].certificate = certificate
    strict.audience = f"{strict.address}/contoso/oauth2/v2.0/token"
    empty_home.configure(
        f'[profiles.acme]\nissuer = "entra"\ntenant = "contoso"\nbase_url = "{strict.address}"\n'
        'credentials = "prod/acme"\ngrant = "client_credentials"\nscopes = "x/.default"\n'
    )
    secret = {"client_id": "c-1", "private_key": pem(rsa_key())}
    empty_home.set_credentials("acme", **secret, certificate=pem_of(certificate))
    done = empty_home.run("token")
    assert done.code == 0, (done.err, strict.refusals)


def test_every_send_has_an_assertion_of_its_own(empty_home: Home, strict: Issuer) -> None:
    """A rotating session: each refresh is claimed, and its request is made for it."""
    lines = ('grant = "refresh_token"', SIGNS)
    secret = {"client_id": "c-1", "private_key": pem(rsa_key())}
    configure(empty_home, strict.token_endpoint, *lines, secret=secret)
    assert empty_home.run("seed", "acme", stdin=strict.new_refresh_token()).code == 0
    for _ in range(3):
        done = empty_home.run("token", "--force-refresh")
        assert done.code == 0, (done.err, strict.refusals)
    assert len(strict.seen) == 3


def test_a_device_login_proves_its_client_at_every_poll(empty_home: Home, strict: Issuer) -> None:
    address = f'device_authorization_endpoint = "{strict.address}/oauth2/devicecode"'
    secret = {"client_id": "c-1", "private_key": pem(rsa_key())}
    configure(
        empty_home, strict.token_endpoint, 'grant = "device_code"', SIGNS, address, secret=secret
    )
    done = empty_home.run("login", "acme")
    assert done.code == 0, (done.err, strict.refusals)
    assert len(strict.seen) == 3


def test_the_sandbox_takes_a_client_that_signs(empty_home: Home, vendor: Vendor) -> None:
    public = rsa_key().public_key()
    vendor.world.change({"client_keys": {"demo-client": pem_of_public(public)}})
    secret = {"client_id": "demo-client", "private_key": pem(rsa_key())}
    configure(empty_home, f"{vendor.address}/oauth2/token", BY_CLIENT, secret=secret)
    done = empty_home.run("token")
    assert done.code == 0, done.err
    vendor.world.change({"clock_offset_s": 3600})
    assert empty_home.run("token", "--force-refresh").code == 3
    vendor.world.change({"clock_offset_s": 0})
    empty_home.set_credentials("acme", private_key=pem(rsa_key(which=OTHER)))
    assert empty_home.run("token", "--force-refresh").code == 3


def refused(home: Home, strict: Issuer, why: str) -> str:
    done = home.run("token", "--force-refresh")
    assert (done.code, done.out) == (3, ""), done.err
    assert why in strict.refusals[-1]
    return done.err


def test_another_audience_is_refused_and_can_be_named(empty_home: Home, strict: Issuer) -> None:
    with_key(empty_home, strict)
    strict.audience = "https://login.example"
    refused(empty_home, strict, "another audience")
    with_key(empty_home, strict, 'client_assertion_audience = "https://login.example"')
    assert empty_home.run("token").code == 0, strict.refusals


def test_an_expired_one_is_refused(empty_home: Home, strict: Issuer) -> None:
    with_key(empty_home, strict)
    strict.clock_offset_s = 3600
    refused(empty_home, strict, "expired")


def test_another_key_is_refused_once_and_a_corrected_one_is_tried_at_once(
    empty_home: Home, strict: Issuer
) -> None:
    with_key(empty_home, strict, key=rsa_key(which=OTHER))
    refused(empty_home, strict, "InvalidSignature")
    empty_home.drop_cache()
    assert empty_home.run("token").code == 3
    assert strict.posts == 1
    empty_home.set_credentials("acme", private_key=pem(rsa_key()))
    assert empty_home.run("token").code == 0


def test_a_key_that_is_none_says_so_and_nothing_is_sent(empty_home: Home, strict: Issuer) -> None:
    with_key(empty_home, strict)
    empty_home.set_credentials("acme", private_key="hunter2")
    done = empty_home.run("token")
    assert done.code == 4
    assert "'private_key' is no private key" in done.err
    assert "hunter2" not in done.err
    assert strict.posts == 0


def test_no_key_in_any_output(empty_home: Home, strict: Issuer) -> None:
    with_key(empty_home, strict)
    log = empty_home.path / "log"
    said = ""
    for command in (("-v", "token"), ("doctor", "-v"), ("status",), ("config", "show")):
        done = empty_home.run(*command, NIGHTPORTER_LOG=str(log))
        said += done.out + done.err
    said += log.read_text()
    body = pem(rsa_key()).splitlines()
    assert not [line for line in body[1:-1] if line in said]
    assert "eyJ" not in said


# A workload's assertion, in a file.

CLUSTER, SUBJECT, AUDIENCE = "https://cluster.example", "system:serviceaccount:a:b", "api://x"


def workload(key: Any = None, *, life_s: int = 600, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": CLUSTER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + life_s}
    return signed_by(key or rsa_key(which=OTHER), **{**claims, **changes})


@pytest.fixture
def token_file(empty_home: Home, strict: Issuer) -> Path:
    """A projected token; the client is named in the profile, so that no secret is needed."""
    strict.clients["c-1"] = Client(
        key=rsa_key(which=OTHER).public_key(), workload=(CLUSTER, SUBJECT, AUDIENCE)
    )
    file = empty_home.path / "projected-token"
    file.write_text(workload() + "\n")
    lines = (BY_CLIENT, 'client_id = "c-1"', f'client_assertion_file = "{file}"')
    configure(empty_home, strict.token_endpoint, *lines, secret={})
    return file


def test_a_workload_needs_no_secret_in_the_store(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    done = empty_home.run("token")
    assert done.code == 0, (done.err, strict.refusals)
    assert empty_home.run("doctor").code == 0
    assert not [file for file in empty_home.data.glob("*.json") if "refresh" not in file.name]


def test_a_path_of_credentials_without_a_secret_is_enough_for_it(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    text = empty_home.config_file.read_text()
    empty_home.configure(text.replace("refresh_token =", 'credentials = "a/b"\nrefresh_token ='))
    done = empty_home.run("token")
    assert done.code == 0, (done.err, strict.refusals)
    assert "needs no secret" in empty_home.run("doctor").out


def test_a_public_client_is_named_in_the_profile_too(empty_home: Home, vendor: Vendor) -> None:
    vendor.world.clients = {"c-1": ""}
    lines = ('grant = "refresh_token"', 'client_id = "c-1"', 'token_endpoint_auth_method = "none"')
    configure(empty_home, f"{vendor.address}/oauth2/token", *lines, secret={})
    assert empty_home.run("seed", "acme", stdin=vendor.world.new_refresh_token()).code == 0
    done = empty_home.run("token")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda: workload(aud="api://y"), "another audience"),
        (lambda: workload(life_s=-1), "expired"),
        (lambda: workload(rsa_key()), "InvalidSignature"),
        (lambda: workload(sub="system:serviceaccount:a:c"), "another workload"),
    ],
)
def test_a_refused_assertion_is_tried_once_and_a_fresh_file_at_once(
    empty_home: Home, strict: Issuer, token_file: Path, bad: Any, why: str
) -> None:
    token_file.write_text(bad())
    assert "client_assertion_file" in refused(empty_home, strict, why)
    empty_home.drop_cache()
    assert empty_home.run("token").code == 3
    assert strict.posts == 1
    token_file.write_text(workload())
    empty_home.drop_cache()
    assert empty_home.run("token").code == 0


def test_the_file_is_read_for_every_exchange(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    assert empty_home.run("token").code == 0
    token_file.write_text(workload(life_s=-1))
    refused(empty_home, strict, "expired")
    token_file.write_text(workload(life_s=900))
    assert empty_home.run("token", "--force-refresh").code == 0


def test_a_fresh_assertion_keeps_the_cached_token_and_another_workload_does_not(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    first = empty_home.run("token").out
    token_file.write_text(workload(life_s=900))
    assert empty_home.run("token").out == first
    token_file.write_text(workload(sub="system:serviceaccount:a:c"))
    assert empty_home.run("token", "--force-refresh").code == 3
    assert empty_home.run("token").out != first


def test_a_refresh_sends_the_file_s_assertion(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    lines = ('grant = "refresh_token"', f'client_assertion_file = "{token_file}"')
    secret = {"client_id": "c-1", "client_secret": "not-sent"}
    configure(empty_home, strict.token_endpoint, *lines, secret=secret)
    assert empty_home.run("seed", "acme", stdin=strict.new_refresh_token()).code == 0
    for _ in range(2):
        done = empty_home.run("token", "--force-refresh")
        assert done.code == 0, (done.err, strict.refusals)


@pytest.mark.parametrize("content", [None, "", "two\nlines", "x" * 70_000, b"\xff\xfe"])
def test_a_file_that_holds_none_is_an_error_of_the_set_up(
    empty_home: Home, strict: Issuer, token_file: Path, content: str | bytes | None
) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_bytes(content.encode() if isinstance(content, str) else content)
    done = empty_home.run("token")
    assert (done.code, done.out) == (2, "")
    assert "profiles.acme.client_assertion_file" in done.err
    assert empty_home.run("doctor").code == 2
    assert strict.posts == 0


def test_a_file_that_others_could_write_is_not_sent(
    empty_home: Home, strict: Issuer, token_file: Path
) -> None:
    token_file.chmod(0o666)
    done = empty_home.run("token")
    assert done.code == 2
    assert "chmod" in done.err
    assert strict.posts == 0


# The configuration.


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (('client_assertion_file = "relative"',), "absolute"),
        (('client_id = "c-1"',), "client_assertion_file"),
        (('token_endpoint_auth_method = "private_key_jtw"',), "private_key_jwt"),
        (('token_endpoint_auth_signing_alg = "HS256"',), "RS256"),
        (('private_key = "hunter2"',), "must not hold secret values"),
        (("extra_parameters = { client_assertion = 'x' }",), "client_assertion"),
    ],
)
def test_what_the_configuration_refuses(
    empty_home: Home, lines: tuple[str, ...], said: str
) -> None:
    configure(empty_home, "https://login.example/token", *lines, secret={})
    done = empty_home.run("config", "check")
    assert done.code == 2
    assert said in done.out + done.err
    assert "hunter2" not in done.out + done.err


def test_credentials_set_takes_a_key_as_json_and_prompts_for_none(empty_home: Home) -> None:
    configure(empty_home, "https://login.example/token", BY_CLIENT, SIGNS, secret={})
    text = empty_home.config_file.read_text() + 'credentials = "prod/acme"\n'
    empty_home.configure(text)
    document = json.dumps({"client_id": "c", "private_key": pem(rsa_key()), "username": "a\nb"})
    assert empty_home.run("credentials", "set", "acme", stdin=document).code == 2
    document = json.dumps({"client_id": "c", "private_key": pem(rsa_key())})
    assert empty_home.run("credentials", "set", "acme", stdin=document).code == 0
