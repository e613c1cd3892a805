"""Keys, certificates and signed tokens by `cryptography` alone, so that what our library signs is
checked by another."""

from __future__ import annotations

import base64
import datetime
import functools
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID


@functools.cache
def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    """A key that is made once; `which` tells several apart."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def pem(key: Any, *, password: bytes | None = None, is_old: bool = False) -> str:
    """A private key as it is stored."""
    coding = serialization.BestAvailableEncryption(password) if password else None
    form = serialization.PrivateFormat
    written: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        form.TraditionalOpenSSL if is_old else form.PKCS8,
        coding or serialization.NoEncryption(),
    )
    return written.decode()


def certificate_of(key: Any) -> x509.Certificate:
    """A certificate of the key, by the key itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=datetime.datetime(2026, 1, 1),
        not_valid_after=datetime.datetime(2030, 1, 1),
    )
    return builder.sign(key, hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> str:
    """A certificate as it is stored."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def pem_of_public(key: Any) -> str:
    """A public key as issuers take it."""
    written: bytes = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return written.decode()


def der_of(certificate: x509.Certificate) -> bytes:
    """A certificate as thumbprints are made of it."""
    return certificate.public_bytes(serialization.Encoding.DER)


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def decode(part: str) -> dict[str, Any]:
    """Header or claims of a token."""
    found: dict[str, Any] = json.loads(unpadded(part))
    return found


def signed_by(key: rsa.RSAPrivateKey, **claims: Any) -> str:
    """A token, as a cluster or a CI gives to its workloads."""
    head = coded(json.dumps({"alg": "RS256", "typ": "JWT"}).encode())
    over = f"{head}.{coded(json.dumps(claims).encode())}"
    return f"{over}.{coded(key.sign(over.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def verify(key: Any, algorithm: str, token: bytes) -> None:
    """Raises: InvalidSignature."""
    over, _, last = token.rpartition(b".")
    signature, size = unpadded(last.decode()), algorithm[2:]
    if algorithm.startswith("Ed"):
        key.verify(signature, over)
        return
    kind = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[size]
    if algorithm.startswith("RS"):
        key.verify(signature, over, padding.PKCS1v15(), kind)
    elif algorithm.startswith("PS"):
        salted = padding.PSS(mgf=padding.MGF1(kind), salt_length=kind.digest_size)
        key.verify(signature, over, salted, kind)
    else:
        half = len(signature) // 2
        numbers = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        key.verify(utils.encode_dss_signature(*numbers), over, ec.ECDSA(kind))
