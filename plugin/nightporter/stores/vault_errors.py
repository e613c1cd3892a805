"""What hvac and requests raise, and what Vault or something before it answers: translated once.

hvac's classes don't tell enough (a lost compare-and-set, a wrong login and a mount that is being
prepared are all a 400), so the text decides. An answer that isn't Vault's at all (a proxy's page,
whatever its status) is told by its form: Vault answers each failure with a JSON object that has
`errors`.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping

import hvac.exceptions
import requests

from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreBusyError,
    StoreDeniedError,
    StoreElectingError,
    StoreError,
    StoreSealedError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.net import tls
from nightporter.net.causes import words_of
from nightporter.net.http import PROXY_ADDRESS_ERRORS, READABLE_HINT, proxy_error

# What KV version 2 says, as a 400, after each mount, unseal, restart and failover
# (hashicorp/vault-plugin-secrets-kv#75, NVIDIA/nvcf#1110).
UPGRADING = ("Upgrading from non-versioned to versioned", "Waiting for the primary to upgrade")


# What a standby says while there is no leader, or the one that it knows has just died.
ELECTING = (
    "active cluster node not found",
    "error during forwarding",
    "code = Unavailable",
    "no active node",
    "leadership lost",
    "node is not the leader",
    "raft is already shutdown",
)


class NothingThereError(StoreError):
    """404 with nothing to say: no such key, where a key is asked for; anywhere else, no Vault."""


@contextlib.contextmanager
def translated(address: str, right: str, environment: Mapping[str, str]) -> Iterator[None]:
    """No exception of a library leaves. `right`: what was asked for, for a message."""
    try:
        yield
    except NightporterError:
        raise
    except Exception as exc:
        raise error_of(exc, address, right, environment) from exc


def error_of(
    exc: Exception, address: str, right: str, environment: Mapping[str, str]
) -> NightporterError:
    """Returns our error."""
    if isinstance(exc, hvac.exceptions.VaultError):
        return _of_answer(exc, address, right)
    if isinstance(exc, requests.exceptions.RequestException):
        return _of_network(exc, address, environment)
    if isinstance(exc, (ValueError, KeyError, TypeError, AttributeError, RecursionError)):
        return StoreError(
            f"{address} answered what Vault never would: is it a Vault?",
            hint="Check `address`, the proxy and what is between here and Vault (a login page?).",
        )
    if isinstance(exc, OSError):
        if exc.filename:
            return ConfigError(f"{exc.filename} can't be used ({exc.strerror})", hint=READABLE_HINT)
        return StoreUnreachableError(f"{address} can't be reached: {words_of(exc)}")
    return StoreError(f"{address}: {type(exc).__name__}")


def errors_of(exc: hvac.exceptions.VaultError) -> list[str] | None:
    """Returns what Vault says is wrong; None where the answer is no failure of Vault's.

    hvac reads JSON only under the plain media type: a proxy may have added a charset.
    """
    document = exc.json
    if document is None:
        try:
            document = json.loads(exc.text or "")
        except (ValueError, TypeError, RecursionError):
            return None
    if not isinstance(document, dict) or not ({"errors", "data", "warnings"} & document.keys()):
        return None
    found = document.get("errors") or []
    return [str(item) for item in found] if isinstance(found, list) else [str(found)]


def is_of_policy(exc: hvac.exceptions.VaultError) -> bool:
    """Whether a "permission denied" is that of the token's policies, which come as a list of
    errors: a token that Vault doesn't know is refused before, with the words alone."""
    return any(text.startswith("1 error occurred") for text in errors_of(exc) or ())


def data_of(exc: hvac.exceptions.VaultError) -> Mapping[str, object] | None:
    """Returns the `data` of an answer: KV version 2 sends a deleted version's metadata with 404."""
    document = exc.json if isinstance(exc.json, dict) else {}
    found = document.get("data")
    return found if isinstance(found, dict) else None


def _of_answer(exc: hvac.exceptions.VaultError, address: str, right: str) -> NightporterError:
    errors = errors_of(exc)
    if isinstance(exc, hvac.exceptions.ParamValidationError):
        return ConfigError(
            f"{address}: hvac takes no such request ({exc})",
            hint="Look at the paths of the profile, and at `mount` and `namespace` of the store.",
        )
    if isinstance(exc, hvac.exceptions.RateLimitExceeded):
        # Its Retry-After is 0 more often than not, so the caller's own back-off decides.
        return StoreBusyError(f"{address} limits the rate")
    if isinstance(exc, _DOWN):
        return _of_failure(exc, address)
    if errors is None and isinstance(exc, _REFUSALS):
        return _of_page(exc, address)
    return _of_refusal(exc, errors or [], address, right)


_DOWN = (
    hvac.exceptions.VaultDown,
    hvac.exceptions.VaultNotInitialized,
    hvac.exceptions.InternalServerError,
    hvac.exceptions.BadGateway,
)
_REFUSALS = (
    hvac.exceptions.InvalidRequest,
    hvac.exceptions.Unauthorized,
    hvac.exceptions.Forbidden,
    hvac.exceptions.InvalidPath,
    hvac.exceptions.UnsupportedOperation,
)


def _of_failure(exc: hvac.exceptions.VaultError, address: str) -> StoreError:
    is_own = isinstance(exc, (hvac.exceptions.VaultDown, hvac.exceptions.VaultNotInitialized))
    if is_own and any(word in str(exc) for word in ("sealed", "initialized")):
        return StoreSealedError(f"{address} is sealed or not initialised")
    text = ", ".join(errors_of(exc) or [])
    if any(words in text for words in ELECTING):
        return StoreElectingError(f"{address} knows no active node: its cluster has no leader now")
    return StoreUnreachableError(f"{address} is down ({type(exc).__name__})")


def _of_page(exc: hvac.exceptions.VaultError, address: str) -> StoreUnreachableError:
    """What is between us and Vault has answered: nothing of it is about a key or a right."""
    return StoreUnreachableError(
        f"{address} answered, but not as a Vault does ({type(exc).__name__}, no JSON)",
        hint="Check `address`, the proxy and what is between here and Vault; it is tried again.",
    )


def _of_refusal(
    exc: hvac.exceptions.VaultError, errors: list[str], address: str, right: str
) -> NightporterError:
    text = ", ".join(errors)
    if isinstance(exc, hvac.exceptions.InvalidPath):
        if not errors:
            return NothingThereError(f"{address} answered with an empty 404: is it a Vault?")
        return StoreDeniedError(
            f"{address} knows no such mount or namespace",
            hint="Correct `mount`, `namespace` or the auth mount of the store.",
        )
    if "unsupported operation" in text or isinstance(exc, hvac.exceptions.UnsupportedOperation):
        return StoreValueError(
            f"{address} has no such operation there",
            hint="Check `mount`: it must be a KV version 2 secrets engine.",
        )
    if isinstance(exc, hvac.exceptions.InvalidRequest):
        return _of_invalid(text, address, right)
    if isinstance(exc, (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized)):
        doubt = "" if is_of_policy(exc) else ", or the Vault token has expired"
        return StoreDeniedError(
            f"{address} denied it: the permission {right} is missing{doubt}", right=right
        )
    return StoreUnreachableError(f"{address} failed: {type(exc).__name__}")


def _of_invalid(text: str, address: str, right: str) -> StoreError:
    if "check-and-set" in text:
        return VersionConflictError("another writer was first")
    if any(words in text for words in UPGRADING):
        return StoreBusyError(
            f"{address} is still preparing the mount",
            hint="It does so after each mount, unseal and failover; it is tried again.",
        )
    return StoreValueError(
        f"{address} refused the request for {right} as invalid",
        hint="Vault's audit log has the reason; nothing was changed.",
    )


def _of_network(
    exc: requests.exceptions.RequestException, address: str, environment: Mapping[str, str]
) -> NightporterError:
    refused = tls.explain(
        exc,
        ca_hint="Set `ca_cert` or VAULT_CACERT",
        client_hint=(
            "Set `client_cert` and `client_key` (VAULT_CLIENT_CERT, VAULT_CLIENT_KEY) to a"
            " certificate that it knows."
        ),
    )
    if refused is not None:
        what, hint = refused
        return StoreUnreachableError(f"{address}: {what}", hint=hint)
    if any(isinstance(item, ssl.SSLEOFError) for item in tls.chain_of(exc)):
        return StoreUnreachableError(
            f"{address} closed the TLS connection: perhaps it wants a client certificate",
            hint=(
                "Set `client_cert` and `client_key` (VAULT_CLIENT_CERT, VAULT_CLIENT_KEY) if it"
                " does; else check what is between."
            ),
        )
    if isinstance(exc, PROXY_ADDRESS_ERRORS):
        return proxy_error(exc, None, environment)
    if isinstance(exc, requests.exceptions.InvalidHeader):
        return ConfigError(
            f"what is sent to {address} holds a character that no header can",
            hint="Look at the Vault token and at `namespace`.",
        )
    return StoreUnreachableError(f"{address} can't be reached: {words_of(exc)}")
