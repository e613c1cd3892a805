"""Assertions of clients that have a private key, checked with another library than they are made
with."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519

from lab.jose import certificate_of, decode, der_of, pem, pem_of, rsa_key, unpadded, verify
from nightporter.core.model import Credentials, Secret
from nightporter.core.vendor_table import ALGORITHMS
from nightporter.issuers.assertions import LIFE_S, sign

AUDIENCE = "https://login.example/oauth2/token"
NOW = 1_790_000_000.7


def client(key_pem: str, **more: Any) -> Credentials:
    return Credentials(version="1", client_id="c-1", private_key=Secret(key_pem), **more)


def signed(credentials: Credentials, **keys: Any) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, claims, and the signature with what it is over."""
    token = sign(credentials, audience=AUDIENCE, now=NOW, jti="j-1", **keys).reveal()
    head, claims, _ = token.split(".")
    return decode(head), decode(claims), token.encode()


def key_for(algorithm: str) -> Any:
    if algorithm.startswith("Ed"):
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    return rsa_key()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_verified_by_another_library(algorithm: str) -> None:
    key = key_for(algorithm)
    header, _, token = signed(client(pem(key)), algorithm=algorithm)
    assert header == {"alg": algorithm, "typ": "JWT"}
    verify(key.public_key(), algorithm, token)


def test_the_claims_of_rfc_7523() -> None:
    _, claims, _ = signed(client(pem(rsa_key())))
    assert claims == {
        "iss": "c-1",
        "sub": "c-1",
        "aud": AUDIENCE,
        "jti": "j-1",
        "iat": int(NOW),
        "exp": int(NOW) + LIFE_S,
    }


@pytest.mark.parametrize(
    ("algorithm", "usual"), [("RS512", "RS256"), ("ES384", "ES384"), ("EdDSA", "EdDSA")]
)
def test_the_key_tells_the_usual_algorithm(algorithm: str, usual: str) -> None:
    assert signed(client(pem(key_for(algorithm))))[0]["alg"] == usual


def test_the_certificate_s_thumbprints_and_the_key_s_id() -> None:
    certificate = certificate_of(rsa_key())
    credentials = client(pem(rsa_key()), certificate=pem_of(certificate), key_id="k-1")
    header, _, _ = signed(credentials)
    assert header["kid"] == "k-1"
    assert unpadded(header["x5t"]) == hashlib.sha1(der_of(certificate)).digest()
    assert unpadded(header["x5t#S256"]) == hashlib.sha256(der_of(certificate)).digest()
    assert "=" not in header["x5t"] + header["x5t#S256"]


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " "),
        lambda text: "a comment\n" + text + "\nanother",
        lambda _text: pem(rsa_key(), is_old=True),
    ],
)
def test_a_key_whose_line_breaks_suffered_is_read(spoiled: Any) -> None:
    header, _, token = signed(client(spoiled(pem(rsa_key()))))
    verify(rsa_key().public_key(), header["alg"], token)


def test_an_old_key_with_its_parameters_before_it() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    before = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    header, _, token = signed(client(before + pem(key, is_old=True)))
    verify(key.public_key(), header["alg"], token)


OTHER = certificate_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        (Credentials(version="1", client_id="c"), "lacks the member 'private_key'"),
        (Credentials(version="1", private_key=Secret("x")), "lacks the member 'client_id'"),
        (client("hunter2"), "'private_key' is no private key in PEM"),
        (client(pem(rsa_key()).replace("M", "?")), "no private key"),
        (client(pem(rsa_key(), password=b"p")), "without a passphrase"),
        (client(pem(rsa_key(1024))), "shorter than 2048 bits"),
        (client(pem(dsa.generate_private_key(1024))), "of a kind"),
        (client(pem(ec.generate_private_key(ec.SECP256K1()))), "of a kind"),
        (client(pem(rsa_key()), certificate="hunter2"), "'certificate' is no certificate"),
        (
            client(
                pem(rsa_key()),
                certificate=pem_of(OTHER),
            ),
            "'certificate' is not that of",
        ),
    ],
)
def test_what_can_not_be_used_is_named_and_not_shown(credentials: Credentials, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        sign(credentials, audience=AUDIENCE, now=NOW, jti="j")
    assert "hunter2" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


def test_an_algorithm_that_the_key_does_not_fit() -> None:
    with pytest.raises(ValueError, match="can't sign with ES256"):
        signed(client(pem(rsa_key())), algorithm="ES256")
