"""What a failed TLS handshake means, told apart for stores and issuers alike.

The texts are OpenSSL's and the verification codes X509_V_ERR_* of its x509_vfy.h; "certificate
required" is alert 116 of RFC 8446 section 6.2.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

_EXPIRED = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_WRONG_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL")
_CLIENT_CERTIFICATE = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
_ALERT = "ALERT"


def explain(exc: BaseException, *, ca_hint: str, client_hint: str) -> tuple[str, str] | None:
    """Returns what went wrong and what to do; None where the exception is no refusal of a
    handshake, so that it leaves open what was sent.

    `ca_hint`: where a CA is set. `client_hint`: where a client certificate is set.
    """
    cause = next((item for item in chain_of(exc) if isinstance(item, ssl.SSLError)), None)
    if cause is None:
        text = " ".join(str(item) for item in chain_of(exc)).upper().replace(" ", "_")
        return _of_text(text, client_hint)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _of_certificate(cause, ca_hint)
    if isinstance(cause, ssl.SSLEOFError):
        return None
    reason = (getattr(cause, "reason", None) or str(cause)).upper().replace(" ", "_")
    return _of_text(reason, client_hint)


def _of_certificate(cause: ssl.SSLCertVerificationError, ca_hint: str) -> tuple[str, str]:
    if cause.verify_code in _EXPIRED:
        return (
            "its TLS certificate has expired, or isn't valid yet",
            "Renew it, or set the clock of this machine.",
        )
    if cause.verify_code in _WRONG_NAME:
        return (
            "its TLS certificate is for another name",
            "Use the name that the certificate is for in the address.",
        )
    return (
        "its TLS certificate can't be verified: it is of an unknown CA",
        f"{ca_hint}, and check the clock of this machine.",
    )


def _of_text(text: str, client_hint: str) -> tuple[str, str] | None:
    if any(word in text for word in _NO_TLS):
        return (
            "it doesn't speak TLS (plain http?)",
            "Correct the address: https:// is for a server that speaks TLS; http:// is taken on"
            " loopback only.",
        )
    if _ALERT in text and any(word in text for word in _CLIENT_CERTIFICATE):
        return "it wants a TLS client certificate, and took none that it knows", client_hint
    return None


def wants_client_certificate(exc: BaseException) -> bool:
    """Returns whether the server has said alert 116, "certificate required"."""
    text = " ".join(str(item) for item in chain_of(exc)).upper().replace(" ", "_")
    return "CERTIFICATE_REQUIRED" in text


def chain_of(exc: BaseException) -> Iterator[BaseException]:
    """Yields the exception and what urllib3, requests and botocore wrapped in it."""
    seen: set[int] = set()
    waiting: list[BaseException] = [exc]
    while waiting:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        inner = [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]
        kwargs = getattr(item, "kwargs", None)
        if isinstance(kwargs, dict):  # botocore keeps the cause there
            inner.append(kwargs.get("error"))
        waiting += [found for found in inner if isinstance(found, BaseException)]


def ca_problem(path: str) -> str | None:
    """Returns why a file can't be used as a CA file (or, where it is a directory, as one of hashed
    certificates); None where it can. A file that was found good is loaded again once it has been
    replaced: that takes as long as a handshake, and a job opens a connection for each worker."""
    mark = file_mark(path)
    if mark is not None and _GOOD.get(path) == mark:
        return None
    problem = _ca_problem(path)
    if problem is None:
        _GOOD[path] = mark
    return problem


_GOOD: dict[str, object] = {}  # CA files by path, with the mark that they had


def _ca_problem(path: str) -> str | None:
    if os.path.isdir(path):
        return None  # OpenSSL looks the names up by hash, when it needs them
    try:
        with open(path, "rb"):
            pass
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "holds no certificates in PEM form"
    except OSError as exc:
        return f"can't be read ({exc.strerror or type(exc).__name__})"
    return None


def file_mark(path: object) -> object:
    """Returns what changes when a file of certificates is replaced."""
    if not isinstance(path, str):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
