"""Checks what a client signs (RFC 7523 section 3), for those whose public key the world knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nightporter.core.vendor_table import ALGORITHMS
from nightporter.issuers.oauth import ASSERTION_TYPE
from nightporter.simulator.world import World


def proven_client(world: World, path: str, asked: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns the client that the assertion proves, as if it had sent its secret; None where it
    proves none. `path`: of the token endpoint, which the assertion must be for."""
    from joserfc.errors import JoseError  # deferred: an extra

    client_id = asked.get("client_id", "")
    key = world.client_keys.get(client_id)
    if key is None or asked.get("client_assertion_type") != ASSERTION_TYPE:
        return None
    try:
        claims = _claims(asked["client_assertion"], key)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if not _holds(claims, client_id, path, world):
        return None
    return client_id, world.clients.get(client_id, "")


def _claims(assertion: str, key: str) -> Mapping[str, Any]:
    """Raises: JoseError, ValueError."""
    import warnings

    from joserfc import jwt
    from joserfc.jwk import import_key

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.decode(assertion, import_key(key, _kind(key)), list(ALGORITHMS)).claims


def _kind(key: str) -> Any:
    """Returns the type of a public key in PEM, by RFC 7518's names."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = load_pem_public_key(key.encode())
    if isinstance(found, rsa.RSAPublicKey):
        return "RSA"
    return "EC" if isinstance(found, ec.EllipticCurvePublicKey) else "OKP"


def _holds(claims: Mapping[str, Any], client_id: str, path: str, world: World) -> bool:
    """Whether the claims are the client's own, for this endpoint, alive, and not seen before."""
    if (claims.get("iss"), claims.get("sub")) != (client_id, client_id):
        return False
    audience, ends = claims.get("aud"), claims.get("exp")
    if not isinstance(audience, str) or not urlsplit(audience).path.endswith(path):
        return False
    if not isinstance(ends, int) or ends <= world.now():
        return False
    with world.lock:
        is_new = claims.get("jti") not in world.seen_assertions
        world.seen_assertions.add(str(claims.get("jti")))
    return is_new
