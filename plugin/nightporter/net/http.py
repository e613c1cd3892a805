"""The only socket to an issuer.

A token request follows no redirect, reads no netrc (CVE-2024-47081), verifies TLS, sends no cookie,
takes at most 1 MiB and at most ten seconds for everything together: name look-up, connection, a
header that drips in byte by byte. The latter is why the exchange runs in a thread of its own: no
socket option bounds the whole.

This is the one room that imports requests at its top; nobody imports this room before it is needed.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import requests
import urllib3

from nightporter.core.errors import (
    ConfigError,
    IssuerReplyError,
    IssuerUnreachableError,
    NightporterError,
    OutcomeUnknownError,
)
from nightporter.issuers.oauth import Request, Response
from nightporter.net import tls
from nightporter.net.causes import words_of
from nightporter.net.proxies import environment_proxies, proxy_variable
from nightporter.net.quiet import quiet
from nightporter.net.tls import file_mark

MAX_REPLY_BYTES = 1 << 20
GZIP_HEAD = b"\x1f\x8b\x08"  # RFC 1952 section 2.3: no JSON begins so
CONNECT_S = 5.0
KEPT_S = 5.0  # for how long an idle connection is used again
READABLE_HINT = "Name a file that is there and that this user may read (`ls -l` shows it)."


# Whether a file may say whom we believe: its path, what names it, the environment. Raises
# ConfigError. The rule is in `machine.trust`.
CheckFile = Callable[[str, str, Mapping[str, str]], None]


def _trust_any(_path: str, _source: str, _environment: Mapping[str, str]) -> None:
    """Takes any file: for tests and tools."""


class Way(Protocol):
    """How a server is reached, as a profile says it: the CA file and the proxy; None for those of
    the environment."""

    @property
    def ca_cert(self) -> str | None:
        """The path of the CA file."""

    @property
    def proxy(self) -> str | None:
        """The proxy's address."""


class Transport:
    """Sends requests to one profile's issuer over one kept connection. `check_file` raises for a
    CA file that may not be obeyed."""

    def __init__(
        self,
        profile: Way,
        environment: Mapping[str, str],
        *,
        check_file: CheckFile = _trust_any,
    ) -> None:
        self._profile = profile
        self._check_file = check_file
        self._environment = environment
        self._session: requests.Session | None = None
        self._used_at = 0.0  # monotonic
        self._ca_mark: object = None

    def send(
        self,
        request: Request,
        *,
        timeout_s: float,
        may_begin: Callable[[], bool] | None = None,
    ) -> Response:
        """Returns the answer to a request, whatever its status. `may_begin` is asked when the
        connection is there, just before the first byte.

        Raises: IssuerUnreachableError: certainly not sent. OutcomeUnknownError: sent, or perhaps
        sent, and no whole answer within `timeout_s`. IssuerReplyError: an answer over 1 MiB.
        ConfigError: `ca_cert` can't be read.
        """
        outcome: list[Response | Exception] = []
        worker = threading.Thread(
            target=self._run, args=(request, timeout_s, may_begin, outcome), daemon=True
        )
        try:
            worker.start()
            worker.join(timeout_s + 0.1)
        except (
            RuntimeError
        ):  # the interpreter is ending and starts no thread: less bounded, but sent
            self._run(request, timeout_s, may_begin, outcome)
        if not outcome:
            self._session = None  # the thread still holds it; the next request opens another
            raise OutcomeUnknownError(
                f"{_host(request.url)} gave no whole answer within {timeout_s:.0f} s"
            )
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _open(self) -> requests.Session:
        """Returns the kept session; another one where its connection is old or the CA file has
        changed.

        A load balancer forgets a connection that nobody uses, and tells neither side: the request
        that finds out has no known outcome. A new connection costs a handshake.
        """
        session = self._session
        is_old = time.monotonic() - self._used_at > KEPT_S
        if session is not None and (is_old or file_mark(session.verify) != self._ca_mark):
            session.close()
            session = None
        if session is None:
            session = open_session(
                ca_cert=self._profile.ca_cert,
                proxy=self._profile.proxy,
                environment=self._environment,
                key="ca_cert",
                check_file=self._check_file,
            )
            self._session, self._ca_mark = session, file_mark(session.verify)
        return session

    def _run(
        self,
        request: Request,
        timeout_s: float,
        may_begin: Callable[[], bool] | None,
        outcome: list[Response | Exception],
    ) -> None:
        try:
            with quiet():
                outcome.append(self._exchange(request, timeout_s, may_begin))
        except Exception as exc:
            outcome.append(exc)

    def _exchange(
        self, request: Request, timeout_s: float, may_begin: Callable[[], bool] | None
    ) -> Response:
        session, host = self._open(), _host(request.url)
        proxies = _proxies(session, request.url, self._environment)
        _TIME.is_sent = False
        is_over_at = time.monotonic() + timeout_s
        _TIME.may_begin = lambda: (
            time.monotonic() <= is_over_at and (may_begin is None or may_begin())
        )
        started = time.time()
        try:
            prepared = _prepared(request, session)
            # The adapter alone: a session would keep cookies and follow what a netrc says, and its
            # merging of settings is a third of what a request costs.
            reply = session.get_adapter(request.url).send(
                prepared,
                timeout=(min(CONNECT_S, timeout_s), timeout_s),
                verify=session.verify or False,
                proxies=proxies,
                stream=True,
            )
            try:
                body = read_bounded(reply, host)
            finally:
                reply.close()
                self._used_at = time.monotonic()
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise self._error_of(exc, host, has_proxy=bool(proxies)) from exc
        skew_s = _skew_s(reply.headers.get("Date"), (started + time.time()) / 2)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(status=reply.status_code, headers=headers, body=body, skew_s=skew_s)

    def _error_of(self, exc: Exception, host: str, *, has_proxy: bool) -> NightporterError:
        """What a failed exchange means. Whether the request was sent is known from the connection,
        which notes it, and is not concluded from the kind of exception."""
        refused = tls.explain(
            exc,
            ca_hint="Set `ca_cert` if the issuer's CA is a private one",
            client_hint="Client certificates for issuers are not supported; use another endpoint.",
        )
        is_sent = getattr(_TIME, "is_sent", False)
        # TLS 1.3 tells a missing client certificate only after the first bytes, unread.
        if refused is not None and (not is_sent or tls.wants_client_certificate(exc)):
            what, hint = refused
            return IssuerUnreachableError(f"{host}: {what}", hint=hint)
        if is_sent:
            if isinstance(exc, requests.exceptions.ConnectionError):
                return OutcomeUnknownError(f"{host} closed the connection without an answer")
            return OutcomeUnknownError(f"{host} gave no whole answer: {words_of(exc)}")
        if isinstance(exc, PROXY_ADDRESS_ERRORS) and has_proxy:
            return proxy_error(exc, self._profile.proxy, self._environment)
        if isinstance(exc, requests.exceptions.ProxyError):
            return IssuerUnreachableError(
                f"{host} can't be reached through the proxy",
                hint="Check the proxy (`proxy` of the profile, HTTPS_PROXY), or name the host in"
                " NO_PROXY; the request was not sent.",
            )
        return IssuerUnreachableError(f"{host} can't be reached: {words_of(exc)}")

    def disconnect(self) -> None:
        """Drops open connections: after a fork they belong to the other process."""
        self._session = None

    def close(self) -> None:
        """Closes the connection."""
        if self._session is not None:
            self._session.close()


def _prepared(request: Request, session: requests.Session) -> requests.PreparedRequest:
    headers = {**session.headers, **request.headers, "Accept-Encoding": "identity"}
    return requests.Request(
        request.method, request.url, headers=headers, data=request.body or None
    ).prepare()


def _skew_s(date: str | None, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp() - now
    except (ValueError, TypeError, IndexError):
        return None


def _host(url: str) -> str:
    return url.split("/")[2]


PROXY_ADDRESS_ERRORS = (
    requests.exceptions.InvalidSchema,  # SOCKS without PySocks, a scheme that isn't a proxy's
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)


def proxy_error(
    exc: Exception, configured: str | None, environment: Mapping[str, str]
) -> ConfigError:
    """Returns the error for a proxy that can't be used, naming where it was configured."""
    source = "proxy" if configured else proxy_variable(environment)
    address = configured or environment.get(source, "")
    if address.startswith("socks"):
        return ConfigError(
            f"{source} names a SOCKS proxy, and PySocks is not installed",
            hint="Install the package PySocks beside nightporter, or name an http proxy.",
        )
    return ConfigError(
        f"{source} is not the URL of a proxy ({type(exc).__name__})",
        hint="It takes an address such as http://proxy.example:3128.",
    )


def read_bounded(reply: requests.Response, host: str) -> bytes:
    """Returns the body as it was meant, at most 1 MiB of it packed and unpacked. `host`: who sent
    it, for the message.

    We ask for no coding, but a server may still use one (RFC 9110 section 12.5.3), and what it
    brought may be the only copy of a rotated token.
    """
    packed = bytearray()
    for chunk in reply.raw.stream(16_384, decode_content=False):
        packed += chunk
        if len(packed) > MAX_REPLY_BYTES:
            raise IssuerReplyError(f"{host} sent more than {MAX_REPLY_BYTES} bytes as an answer")
    body = bytes(packed)
    codings = reply.headers.get("Content-Encoding", "").lower().split(",")
    for coding in reversed([name.strip() for name in codings]):
        body = _unpacked(body, coding, host)
    return body


def _unpacked(body: bytes, coding: str, host: str) -> bytes:
    if coding in ("", "identity") and not body.startswith(GZIP_HEAD):
        return body
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return body  # one that we can't undo; it may be said and not done
    for window in (47, -15):  # gzip or zlib by its head; deflate without one, as some servers send
        with contextlib.suppress(zlib.error):
            return _inflated(body, window, host)
    return body  # it isn't packed, whatever the header says


def _inflated(body: bytes, window: int, host: str) -> bytes:
    """Raises: zlib.error, IssuerReplyError for more than 1 MiB."""
    found = bytearray()
    while body:  # a gzip stream may have several members (RFC 1952 section 2.2)
        unpacker = zlib.decompressobj(window)
        found += unpacker.decompress(body, MAX_REPLY_BYTES + 1 - len(found))
        if len(found) > MAX_REPLY_BYTES:
            raise IssuerReplyError(f"{host} sent more than {MAX_REPLY_BYTES} bytes as an answer")
        body = unpacker.unused_data if window > 0 else b""
    return bytes(found)


class _Punctual(requests.adapters.HTTPAdapter):
    """Opens no connection for a request whose time is over: after a name look-up that hung, nothing
    is sent late."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager


class _PunctualConnection(urllib3.connection.HTTPConnection):
    debuglevel = 0  # whatever a program sets for all: http.client prints requests and answers whole

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            _TIME.is_sent = False  # a proxy's CONNECT is not our request

    def putrequest(self, *args: Any, **kwargs: Any) -> Any:
        _refuse_lateness(self)
        return super().putrequest(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        _TIME.is_sent = True
        super().send(data)


class _PunctualTlsConnection(urllib3.connection.HTTPSConnection):
    debuglevel = 0

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            _TIME.is_sent = False

    def putrequest(self, *args: Any, **kwargs: Any) -> Any:
        _refuse_lateness(self)
        return super().putrequest(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        _TIME.is_sent = True
        super().send(data)


def _refuse_lateness(connection: urllib3.connection.HTTPConnection) -> None:
    """The last moment at which a request can be stopped: the connection is there, and not a byte
    has been sent over it."""
    if connection.sock is None:
        connection.connect()
    may_begin: Callable[[], bool] | None = getattr(_TIME, "may_begin", None)
    if may_begin is not None and not may_begin():
        connection.close()
        raise urllib3.exceptions.NewConnectionError(connection, "connected too late")


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PunctualConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PunctualTlsConnection


_TIME = threading.local()  # of the exchange that runs in this thread


def begin_until(deadline: float) -> None:
    """Lets no request of this thread begin after `deadline` (monotonic seconds): after a name
    look-up that hung, nothing is sent late."""
    _TIME.may_begin = lambda: time.monotonic() <= deadline


def open_session(
    *,
    ca_cert: str | None,
    proxy: str | None,
    environment: Mapping[str, str],
    key: str,
    client_cert: str | None = None,
    client_key: str | None = None,
    client_cert_key: str = "client_cert",
    check_file: CheckFile = _trust_any,
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
    session.verify = _ca_bundle(ca_cert, environment, key, check_file)
    if client_cert:
        for path in filter(None, (client_cert, client_key)):
            check_file(os.path.expanduser(path), client_cert_key, environment)
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
            raise ConfigError(
                f"{key}: {path} can't be read ({exc.strerror})", hint=READABLE_HINT
            ) from exc
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


def _ca_bundle(
    ca_cert: str | None, environment: Mapping[str, str], key: str, check_file: CheckFile
) -> str | bool:
    named = [(key, os.path.expanduser(ca_cert))] if ca_cert else []
    named += [
        (variable, environment[variable])
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
        if environment.get(variable)
    ]
    if not named:
        return ssl.get_default_verify_paths().cafile or True
    source, path = named[0]
    check_file(path, source, environment)
    if not os.path.exists(path):
        raise ConfigError(f"{source}: there is no file {path}", hint=READABLE_HINT)
    if problem := tls.ca_problem(path):
        raise ConfigError(
            f"{source}: {path} {problem}",
            hint="It takes a file of one or more CA certificates in PEM form (BEGIN CERTIFICATE).",
        )
    return path


def _proxies(session: requests.Session, url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies for this address: the profile's, else the environment's with NO_PROXY
    respected."""
    if session.proxies:
        return {scheme: str(address) for scheme, address in session.proxies.items()}
    return environment_proxies(url, environment)
