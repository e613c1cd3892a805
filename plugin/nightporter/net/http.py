"""The only socket to an issuer.

A token request follows no redirect, reads no netrc (CVE-2024-47081), verifies TLS, sends no cookie,
takes at most 1 MiB and at most ten seconds for everything together: name look-up, connection, a
header that drips in byte by byte. The latter is why the exchange runs in a thread of its own: no
socket option bounds the whole.

This is the one room that imports requests at its top; nobody imports this room before it is needed.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from nightporter.core.checks import is_loopback
from nightporter.core.errors import (
    ConfigError,
    IssuerReplyError,
    IssuerUnreachableError,
    OutcomeUnknownError,
)
from nightporter.core.model import Profile
from nightporter.issuers.oauth import Request, Response

MAX_REPLY_BYTES = 1 << 20
CONNECT_S = 5.0


class Transport:
    """Sends requests to one profile's issuer over one kept connection."""

    def __init__(self, profile: Profile, environment: Mapping[str, str]) -> None:
        self._profile = profile
        self._environment = environment
        self._session: requests.Session | None = None

    def send(self, request: Request, *, timeout_s: float) -> Response:
        """The answer to a request, whatever its status.

        Raises: IssuerUnreachableError: certainly not sent. OutcomeUnknownError: sent, or perhaps
        sent, and no whole answer within `timeout_s`. IssuerReplyError: an answer over 1 MiB.
        ConfigError: `ca_cert` can't be read.
        """
        outcome: list[Response | Exception] = []
        worker = threading.Thread(target=self._run, args=(request, timeout_s, outcome), daemon=True)
        try:
            worker.start()
            worker.join(timeout_s + 0.1)
        except (
            RuntimeError
        ):  # the interpreter is ending and starts no thread: less bounded, but sent
            self._run(request, timeout_s, outcome)
        if not outcome:
            self._session = None  # the thread still holds it; the next request opens another
            raise OutcomeUnknownError(
                f"{_host(request.url)} gave no whole answer within {timeout_s:.0f} s"
            )
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _open(self) -> requests.Session:
        if self._session is None:
            self._session = open_session(
                ca_cert=self._profile.ca_cert,
                proxy=self._profile.proxy,
                environment=self._environment,
                key="ca_cert",
            )
        return self._session

    def _run(self, request: Request, timeout_s: float, outcome: list[Response | Exception]) -> None:
        try:
            outcome.append(self._exchange(request, timeout_s))
        except Exception as exc:
            outcome.append(exc)

    def _exchange(self, request: Request, timeout_s: float) -> Response:
        session, host = self._open(), _host(request.url)
        _TIME.is_over_at = time.monotonic() + timeout_s
        started = time.time()
        try:
            reply = session.request(
                request.method,
                request.url,
                data=request.body or None,
                headers={**request.headers, "Accept-Encoding": "identity"},
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                proxies=_proxies(session, request.url, self._environment),
                allow_redirects=False,
                stream=True,
            )
            try:
                body = _read_bounded(reply, host)
            finally:
                reply.close()
        except requests.exceptions.SSLError as exc:
            if not _has_cause(exc, ssl.SSLCertVerificationError):
                raise OutcomeUnknownError(f"{host}: the TLS connection broke") from exc
            raise IssuerUnreachableError(
                f"{host}: its TLS certificate can't be verified",
                hint=(
                    "Set `ca_cert` if the issuer's CA is a private one, and check the clock of this"
                    " machine."
                ),
            ) from exc
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError) as exc:
            raise IssuerUnreachableError(f"{host} can't be reached: {type(exc).__name__}") from exc
        except requests.exceptions.ConnectionError as exc:
            if _was_never_sent(exc):
                raise IssuerUnreachableError(f"{host} can't be reached") from exc
            raise OutcomeUnknownError(f"{host} closed the connection without an answer") from exc
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            raise OutcomeUnknownError(f"{host} gave no whole answer: {type(exc).__name__}") from exc
        skew_s = _skew_s(reply.headers.get("Date"), (started + time.time()) / 2)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(status=reply.status_code, headers=headers, body=body, skew_s=skew_s)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _skew_s(date: str | None, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp() - now
    except (ValueError, TypeError, IndexError):
        return None


def _host(url: str) -> str:
    return url.split("/")[2]


def _read_bounded(reply: requests.Response, host: str) -> bytes:
    body = bytearray()
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":  # we asked for none; a bomb would unpack past any bound
        raise IssuerReplyError(f"{host} sent a packed answer that nobody asked for")
    for chunk in reply.iter_content(16_384):
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise IssuerReplyError(f"{host} sent more than {MAX_REPLY_BYTES} bytes as an answer")
    return bytes(body)


def _was_never_sent(exc: BaseException) -> bool:
    """Whether a connection error shows that no connection was made at all."""
    return _has_cause(exc, urllib3.exceptions.NewConnectionError, ConnectionRefusedError)


def _has_cause(exc: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether one of these stands in the chain that urllib3 and requests wrap errors in."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, kinds):
            return True
        reason = getattr(seen, "reason", None)
        inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        seen = reason if isinstance(reason, BaseException) else inner
    return False


class _Punctual(requests.adapters.HTTPAdapter):
    """Opens no connection for a request whose time is over: after a name look-up that hung, nothing
    is sent late."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class _PunctualConnection(urllib3.connection.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _refuse_lateness(self)


class _PunctualTlsConnection(urllib3.connection.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _refuse_lateness(self)


def _refuse_lateness(connection: urllib3.connection.HTTPConnection) -> None:
    if time.monotonic() > getattr(_TIME, "is_over_at", float("inf")):
        connection.close()
        raise urllib3.exceptions.NewConnectionError(connection, "connected too late")


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PunctualConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PunctualTlsConnection


_TIME = threading.local()  # of the exchange that runs in this thread


def open_session(
    *,
    ca_cert: str | None,
    proxy: str | None,
    environment: Mapping[str, str],
    key: str,
    client_cert: str | None = None,
    client_key: str | None = None,
    client_cert_key: str = "client_cert",
) -> requests.Session:
    """A requests session by our network rules. `key` is the configuration key that `ca_cert` came
    from, `client_cert_key` that of the client's certificate.

    trust_env is off, since it also reads netrc; what of the environment is wanted (CA, proxies) is
    taken by name. Certificates: `ca_cert`, else REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE,
    else the system's.

    Raises: ConfigError.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = _ca_bundle(ca_cert, environment, key)
    if client_cert:
        session.cert = _client_cert(client_cert, client_key, client_cert_key)
    if proxy:
        session.proxies = {"http": proxy, "https": proxy}
    session.headers["User-Agent"] = "nightporter"
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Punctual())
    return session


def _client_cert(client_cert: str, client_key: str | None, key: str) -> tuple[str, str] | str:
    """Returns the certificate that a server wants of its clients, once it has been loaded.

    Raises: ConfigError naming the file that can't be.
    """
    certificate = os.path.expanduser(client_cert)
    private = os.path.expanduser(client_key) if client_key else None
    for path in filter(None, (certificate, private)):
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            raise ConfigError(f"{key}: {path} can't be read ({exc.strerror})") from exc
    try:
        # Without a password function OpenSSL would ask at the terminal, which is the client's.
        ssl.create_default_context().load_cert_chain(certificate, private, password=_no_password)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(
            f"{key}: {certificate} can't be used as a client certificate with its key",
            hint="It takes PEM files that fit together, and a key without a passphrase.",
        ) from exc
    return (certificate, private) if private else certificate


def _no_password() -> str:
    raise ValueError("the key has a passphrase")


def _ca_bundle(ca_cert: str | None, environment: Mapping[str, str], key: str) -> str | bool:
    if ca_cert:
        path = os.path.expanduser(ca_cert)
        if not os.path.exists(path):
            raise ConfigError(f"{key}: there is no file {path}")
        return path
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if environment.get(variable):
            if not os.path.exists(environment[variable]):
                raise ConfigError(f"{variable}: there is no file {environment[variable]}")
            return environment[variable]
    system = ssl.get_default_verify_paths().cafile
    return system or True


def _proxies(session: requests.Session, url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies for this address: the profile's, else the environment's with NO_PROXY
    respected."""
    if session.proxies:
        return {scheme: str(address) for scheme, address in session.proxies.items()}
    return environment_proxies(url, environment)


def environment_proxies(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """HTTPS_PROXY and its like for this address, unless NO_PROXY names its host or it is
    loopback."""
    if is_loopback(urlsplit(url).hostname or ""):
        return {}
    named = {
        scheme: found
        for scheme in ("http", "https")
        if (
            found := environment.get(f"{scheme}_proxy")
            or environment.get(f"{scheme.upper()}_PROXY")
        )
    }
    skip = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if named and urllib.request.proxy_bypass_environment(_host(url), {"no": skip}):  # type: ignore[attr-defined]  # public, but not in the stubs
        return {}
    return named
