"""Clients that prove themselves without a shared secret: an assertion that is signed with a private
key (`private_key_jwt`, RFC 7523 section 2.2), or one that a workload was given. Pure.

The key is a member of the client's secret, in PEM. With it may stand `key_id`, by which the issuer
finds the public key, and `certificate`, from which Entra's thumbprints are made. The library that
signs (joserfc) is imported where it is used: it is an extra.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from typing import TYPE_CHECKING, Any

from nightporter.core.model import Credentials, Secret

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

LIBRARY = "joserfc"
LIFE_S = 300  # Entra wants five to ten minutes at most, and RFC 7523 leaves it to the issuer
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# The first one is taken where the profile names none.
_BY_CURVE = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_ED25519 = ("EdDSA", "Ed25519")
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def sign(
    client: Credentials,
    *,
    audience: str,
    now: float,
    jti: str,
    algorithm: str | None = None,
) -> Secret:
    """Returns the assertion of a client that has a private key, good for five minutes.

    `audience`: the issuer's token endpoint, or whatever it calls itself. `now`: Unix seconds.
    `jti`: never used before. `algorithm`: as RFC 7518 names them, else the usual one of the key.

    Raises: ValueError naming the member that can't be used; ModuleNotFoundError.
    """
    if client.client_id is None:
        raise ValueError("it lacks the member 'client_id'")
    if client.private_key is None:
        raise ValueError("it lacks the member 'private_key'")
    from joserfc import jwt  # deferred: an extra, and 100 ms

    key = _load_key(client.private_key)
    header = _header(client, key, algorithm)
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": audience,
        "jti": jti,
        "iat": int(now),
        "exp": int(now) + LIFE_S,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EdDSA has another name since RFC 9864, which few know
        return Secret(jwt.encode(header, claims, _jwk(key), algorithms=[header["alg"]]))


def _header(client: Credentials, key: Any, algorithm: str | None) -> dict[str, str]:
    header = {"alg": _algorithm(key, algorithm), "typ": "JWT"}
    if client.key_id is not None:
        header["kid"] = client.key_id
    if client.certificate is not None:
        header |= _thumbprints(_load_certificate(client.certificate, key))
    return header


def _load_key(pem: Secret) -> Any:
    """Returns the private key.

    Raises: ValueError, which holds nothing of it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = pem.reveal()
    if "ENCRYPTED" in text:
        raise ValueError("its member 'private_key' is encrypted: store it without a passphrase")
    block = _pem_block(text, "PRIVATE KEY")
    if block is None:
        raise ValueError("its member 'private_key' is no private key in PEM")
    try:
        return load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("its member 'private_key' is no private key that can be read") from None


def _load_certificate(pem: str, key: Any) -> Certificate:
    """Returns the first certificate of the text, which must be the key's.

    Raises: ValueError.
    """
    from cryptography.x509 import load_pem_x509_certificate

    block = _pem_block(pem, "CERTIFICATE")
    try:
        certificate = load_pem_x509_certificate(block or b"")
        is_of_key = certificate.public_key() == key.public_key()
    except ValueError:
        raise ValueError("its member 'certificate' is no certificate in PEM") from None
    if not is_of_key:
        raise ValueError("its member 'certificate' is not that of its 'private_key'")
    return certificate


def _pem_block(text: str, kind: str) -> bytes | None:
    """Returns the first block of a kind, with its line breaks where they belong: in JSON and in
    variables they often come as `\\n` or as blanks."""
    for label, body in _BLOCK.findall(text.replace("\\n", "\n").replace("\\r", "")):
        if label.endswith(kind):
            lines = re.findall(".{1,64}", re.sub(r"\s", "", body))
            return "\n".join(
                (f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")
            ).encode("ascii", "replace")
    return None


def _algorithm(key: Any, wanted: str | None) -> str:
    """Returns the algorithm to sign with.

    Raises: ValueError for a key that is too weak, or not of the wanted algorithm.
    """
    fitting = _algorithms_of(key)
    if not fitting:
        raise ValueError("its member 'private_key' is of a kind that no assertion is signed with")
    if wanted is not None and wanted not in fitting:
        raise ValueError(
            f"its member 'private_key' can't sign with {wanted}: it takes {', '.join(fitting)}"
        )
    return wanted or fitting[0]


def _algorithms_of(key: Any) -> tuple[str, ...]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"its member 'private_key' is shorter than {MIN_RSA_BITS} bits")
        return RSA_ALGORITHMS
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _BY_CURVE.get(key.curve.name, ())
    return _ED25519 if isinstance(key, ed25519.Ed25519PrivateKey) else ()


def _jwk(key: Any) -> Any:
    """Returns the key as joserfc takes it."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    if isinstance(key, rsa.RSAPrivateKey):
        return RSAKey.import_key(key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ECKey.import_key(key)
    return OKPKey.import_key(key)


def _thumbprints(certificate: Certificate) -> dict[str, str]:
    """Returns what Entra finds the certificate by (RFC 7515 sections 4.1.7 and 4.1.8): SHA-1, as it
    was at first, and SHA-256."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = certificate.public_bytes(Encoding.DER)
    old = hashlib.sha1(der, usedforsecurity=False)
    return {"x5t": _base64url(old.digest()), "x5t#S256": _base64url(hashlib.sha256(der).digest())}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
