"""How a client proves itself without a shared secret: by an assertion that it signs for each
request, or by one that its workload was given in a file (RFC 7523 section 2.2).

What signs and what reads the file come in from outside (`Runtime`). A file is read for every ask:
the process that writes it (kubelet, a CI) replaces it often.
"""

from __future__ import annotations

import hashlib
import secrets

from nightporter.core.limits import SKEW_S
from nightporter.core.model import Credentials, Profile, Secret
from nightporter.core.values import replace
from nightporter.session.driver import Runtime

METHOD = "private_key_jwt"


def with_proof(
    client: Credentials, profile: Profile, runtime: Runtime, *, store_now: float | None
) -> Credentials:
    """Returns the client with what makes its proof for each request; unchanged where it proves
    itself by a secret, or not at all.

    `store_now`: Unix seconds, what the store has just said the time is. An assertion is dated by
    it where our own clock is visibly wrong.

    Raises: ConfigError.
    """
    named = client.client_id or profile.options.get("client_id")
    client = replace(client, client_id=named)
    if "client_assertion_file" in profile.options:
        assertion = runtime.read_assertion(profile)
        # A refused one is tried again as soon as the file holds another.
        version = f"{client.version}+{_digest(assertion)}"
        return replace(client, version=version, prove=lambda _profile: assertion)
    if not signs(client, profile):
        return client
    skew_s = 0.0 if store_now is None else store_now - runtime.clock()
    off_s = skew_s if abs(skew_s) > SKEW_S else 0.0

    def prove(addressed: Profile) -> Secret:
        return runtime.sign_assertion(
            client,
            audience=audience_of(addressed),
            now=runtime.clock() + off_s,
            jti=secrets.token_urlsafe(24),
            algorithm=addressed.options.get("token_endpoint_auth_signing_alg"),
        )

    return replace(client, prove=prove)


def must_sign(profile: Profile) -> bool:
    """Returns whether the profile's client proves itself by a private key, whatever is in its
    secret."""
    is_given = "client_assertion_file" in profile.options
    return profile.options.get("token_endpoint_auth_method") == METHOD and not is_given


def signs(client: Credentials, profile: Profile) -> bool:
    """Returns whether the client signs: where the profile says so, or its secret holds a private
    key and nothing else to prove it by."""
    if must_sign(profile):
        return True
    is_public = profile.options.get("token_endpoint_auth_method") == "none"
    return client.private_key is not None and client.client_secret is None and not is_public


def audience_of(profile: Profile) -> str:
    """Returns whom an assertion is for: the token endpoint, unless the profile names another."""
    endpoint = profile.options.get("token_endpoint", profile.token_endpoint)
    return str(profile.options.get("client_assertion_audience", endpoint))


def _digest(assertion: Secret) -> str:
    return hashlib.sha256(assertion.reveal().encode()).hexdigest()[:16]
