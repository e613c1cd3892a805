"""Sessions that a person starts: authorization code with PKCE through a browser, or a device code.

The redirect comes back to our own server on loopback that takes one answer and ends (RFC 8252
section 7.3), or is pasted. It listens on both families, so that no other user can take the one that
we leave; the address of the login, which names the challenge, is in a page that only the user can
read, and not in the browser's argv. State and verifier are fresh for each login; what a browser
shows is ours, and nothing that came in is echoed.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import hmac
import html
import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nightporter.core.checks import url_problem
from nightporter.core.errors import (
    ConfigError,
    IssuerError,
    IssuerReplyError,
    LoginRequiredError,
    NightporterError,
)
from nightporter.core.model import Credentials, Grant, IssuedTokens, Profile, Secret, SessionRecord
from nightporter.core.told import is_user
from nightporter.core.values import dataclass, field
from nightporter.issuers import oauth2
from nightporter.issuers.oauth import Call, Request, Response, description_of, error_words
from nightporter.machine.hand_over import hand_over
from nightporter.machine.peers import is_strange
from nightporter.machine.places import read_environment
from nightporter.session import telling
from nightporter.session.repository import Session

PORT_TRIES = 20
LEAST_POLL_S = 1.0  # an issuer that names less would be asked without a pause
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
REDIRECT = (
    '<!doctype html><html><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<meta http-equiv="refresh" content="0; url={url}"><title>nightporter</title></head>'
    '<body><a href="{url}">Go on to the login</a></body></html>'
)
PAGE = "<html><body><h1>{title}</h1><p>{text}</p></body></html>"
REGISTERED = (
    "The address http://localhost must be registered with the issuer as a redirect address (in"
    " Entra under *Web*); any port is then accepted there. Elsewhere set `redirect_port` to the"
    " registered one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """How to reach the person: lines to show, a browser to open (None: they paste the redirect
    address)."""

    say: Callable[[str], None]
    open_browser: Callable[[str], object] | None
    read_line: Callable[[], str]


def log_in(session: Session, person: Person, *, deadline: float) -> SessionRecord:
    """Runs the profile's grant with a person, and stores the session that comes of it. `deadline`
    is monotonic.

    Raises: ConfigError for a grant without a login, LoginRequiredError, IssuerError, StoreError.
    """
    profile, adapter = session.profile, session.issuer
    if not profile.grant.needs_person or not isinstance(adapter, oauth2.Adapter):
        raise ConfigError(
            f"profile {profile.name!r} has no login: its grant is {profile.grant.value!r}",
            hint=(
                f"Use `nightporter credentials set {profile.name}` or `nightporter seed"
                f" {profile.name}`."
            ),
        )
    client = session.load_client(deadline)
    if client.client_id is None:
        raise LoginRequiredError(
            f"the client secret of profile {profile.name!r} lacks the member 'client_id'"
        )
    flow = _by_code if profile.grant is Grant.AUTHORIZATION_CODE else _by_device
    try:
        issued, issued_at = flow(session, adapter, client, person, deadline)
    except ValueError as exc:
        raise ConfigError(f"profile {profile.name!r}: {exc}") from exc
    check_account(profile, issued)
    if issued.refresh_token is None:
        raise IssuerReplyError(
            "the issuer gave no refresh token, so there is no session to keep",
            hint="Ask for it with a scope: `offline_access` at most issuers.",
        )
    return session.store_login(
        issued.refresh_token, issued_at=issued_at, client=client, issued=issued, deadline=deadline
    )


def check_account(profile: Profile, issued: IssuedTokens) -> None:
    """Raises: LoginRequiredError where the id_token names another user than the profile does: who
    shares a browser logs in as somebody else by mistake."""
    claims = issued.claims
    if claims is None or profile.username is None or is_user(claims, profile.username):
        return
    raise LoginRequiredError(
        f"the login was as {claims.names[0]!r}, and the profile's `username` is"
        f" {profile.username!r}: nothing was stored",
        hint=(
            f"Log out of the issuer in the browser, and run `nightporter login {profile.name}` as"
            " that user; or correct `username` in the profile."
        ),
    )


def _parsed(
    session: Session, adapter: oauth2.Adapter, response: Response, client: Credentials
) -> IssuedTokens:
    """Returns the tokens of the answer; where it has none, the issuer's words are for -v."""
    try:
        return adapter.parse(response, Call.LOG_IN)
    except NightporterError:
        _say_words(session, description_of(response), client)
        raise


def _say_words(session: Session, text: object, client: Credentials) -> None:
    """The issuer's own words, made safe: for -v."""
    if words := telling.safe(text, None, (client,)):
        session.records.emit("issuer-says", words=words)


def _exchange(session: Session, request: Request, deadline: float) -> Response:
    return session.sender.send(request, timeout_s=min(10.0, max(1.0, deadline - time.monotonic())))


# Authorization code with PKCE.


@dataclass
class _Answer:
    """What came back to the redirect address."""

    query: dict[str, str] | None = None
    strays: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)


def _by_code(
    session: Session, adapter: oauth2.Adapter, client: Credentials, person: Person, deadline: float
) -> tuple[IssuedTokens, int]:
    verifier, state = Secret(secrets.token_urlsafe(48)), secrets.token_urlsafe(24)
    digest = hashlib.sha256(verifier.reveal().encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    profile = session.addressed(deadline)
    answer, servers = _Answer(), _open_servers(profile)
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        redirect_uri = f"http://localhost:{servers[0].server_address[1]}"
        url = adapter.authorization_url(
            profile, redirect_uri=redirect_uri, state=state, challenge=challenge, client=client
        )
        if person.open_browser is None:
            query = _pasted(person, url, state)
        else:
            query = _awaited(person, url, servers, answer, state, deadline)
    _check_issuer(profile, query)
    if "error" in query:
        _say_words(session, query.get("error_description"), client)
        raise _refused(query["error"])
    code = query.get("code")
    if not code:
        raise LoginRequiredError(
            "the answer to the login holds no code", hint="Start `nightporter login` again."
        )
    request = adapter.code_request(
        profile, code=Secret(code), redirect_uri=redirect_uri, verifier=verifier, client=client
    )
    issued_at = int(session.runtime.clock())
    return _parsed(session, adapter, _exchange(session, request, deadline), client), issued_at


def _check_issuer(profile: Profile, query: dict[str, str]) -> None:
    """Checks whose answer it is, where the answer tells, and that it tells where the issuer's
    metadata promise that (RFC 9207).

    Raises: LoginRequiredError.
    """
    told = query.get("iss")
    if told is None and not profile.options.get(oauth2.ISS_PROMISED):
        return
    if told is None or not _is_issuer(profile, told):
        raise LoginRequiredError(
            "the answer to the login is of another issuer (iss), or doesn't say of which",
            hint="Start `nightporter login` again; if it comes again, tell the issuer.",
        )


def _is_issuer(profile: Profile, told: str) -> bool:
    known = profile.options.get("issuer_url")
    if known is not None:
        return told.rstrip("/") == str(known).rstrip("/")
    addresses = (profile.options.get("authorization_endpoint"), profile.token_endpoint)
    hosts = {urlsplit(str(address)).netloc for address in addresses if address}
    return urlsplit(told).netloc in hosts


class _Server(HTTPServer):
    """On the literal address of one family."""

    timeout = 0.2

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        TCPServer.server_bind(self)  # HTTPServer's own would look its name up
        self.server_name, self.server_port = "localhost", self.server_address[1]


class _Server6(_Server):
    address_family = socket.AF_INET6


def _open_servers(profile: Profile) -> list[HTTPServer]:
    """Returns a listener on 127.0.0.1 and, where there is IPv6, one on ::1 at the same port."""
    port = int(profile.options.get("redirect_port", 0))
    for _ in range(1 if port else PORT_TRIES):
        with contextlib.suppress(OSError):
            return _open_both(port)
    raise ConfigError(
        f"the port {port or 'that was free'} for the redirect is taken by another program here",
        hint=(
            "End that program, or name another `redirect_port` (which must be registered with"
            " the issuer)."
        ),
    )


def _open_both(port: int) -> list[HTTPServer]:
    """Raises: OSError where the port is taken in one of the families."""
    first = _Server(("127.0.0.1", port), BaseHTTPRequestHandler)
    try:
        return [first, _Server6(("::1", first.server_address[1]), BaseHTTPRequestHandler)]
    except OSError as exc:
        if exc.errno in _NO_IPV6:
            return [first]
        first.server_close()
        raise


def _pasted(person: Person, url: str, state: str) -> dict[str, str]:
    person.say(f"Open this address in a browser, and paste the address that it ends at:\n\n{url}\n")
    query = _query_of(person.read_line().strip())
    if not query or not _is_ours(query, state):
        raise LoginRequiredError(
            "the pasted address is not the answer to this login (its state is another)",
            hint=(
                "Start `nightporter login` again and paste the whole address of the page that can't"
                " be shown."
            ),
        )
    return query


def _awaited(
    person: Person,
    url: str,
    servers: list[HTTPServer],
    answer: _Answer,
    state: str,
    deadline: float,
) -> dict[str, str]:
    for server in servers:
        server.RequestHandlerClass = _handler(answer, state)
    person.say(f"Opening the browser. If none appears, open this address:\n\n{url}\n")
    with _page_to(url) as page:
        # In a thread: a browser that runs in the foreground would wait for our answer, and we for
        # its end.
        threading.Thread(target=person.open_browser, args=(page,), daemon=True).start()
        while not answer.arrived.is_set():
            for server in select.select(servers, [], [], 0.2)[0]:
                server.handle_request()
            if time.monotonic() >= deadline:
                raise _late(answer)
    return answer.query or {}


def _late(answer: _Answer) -> LoginRequiredError:
    stray = (
        f" ({answer.strays} answer(s) with another state, or of another user, were ignored)"
        if answer.strays
        else ""
    )
    return LoginRequiredError(f"nobody answered the login in time{stray}", hint=REGISTERED)


@contextlib.contextmanager
def _page_to(url: str) -> Iterator[str]:
    """Yields the address of a page that leads on, in a file of the user's alone: an argv can be
    read by every user of the machine (jupyter/notebook#4260)."""
    page = REDIRECT.format(url=html.escape(url))
    with hand_over({"login.html": page}, read_environment()) as directory:
        yield Path(directory, "login.html").as_uri()


def _handler(answer: _Answer, state: str) -> type[BaseHTTPRequestHandler]:
    environment = read_environment()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            query = _query_of(self.path)
            if is_strange(self.connection, environment):
                answer.strays += 1
                self.show(403, "Not yours", "This login is of another user of this machine.")
            elif not query or not ({"code", "error"} & query.keys()):
                self.show(
                    404,
                    "Nothing here",
                    "This is the login of nightporter, waiting for its answer.",
                )
            elif answer.arrived.is_set():
                self.show(
                    409,
                    "Already answered",
                    "This login has had its answer. You can close this tab.",
                )
            elif not _is_ours(query, state):
                answer.strays += 1
                self.show(
                    400, "Not this login", "The answer belongs to another login and was ignored."
                )
            else:
                answer.query = query
                answer.arrived.set()  # first: a browser that closes early must not leave us waiting
                self.show(
                    200, "Denied" if "error" in query else "Logged in", "You can close this tab."
                )

        def show(self, status: int, title: str, text: str) -> None:
            body = PAGE.format(title=title, text=text).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Nothing: the request line holds the code."""

    return Handler


def _query_of(address: str) -> dict[str, str]:
    try:
        found = parse_qs(urlsplit(address).query, max_num_fields=20)
    except ValueError:
        return {}
    return {key: values[0] for key, values in found.items() if len(values) == 1}


def _is_ours(query: dict[str, str], state: str) -> bool:
    return hmac.compare_digest(query.get("state", "").encode(), state.encode())


def _refused(error: str) -> LoginRequiredError:
    if error == "access_denied":
        return LoginRequiredError(
            "the login was denied", hint="Start `nightporter login` again and allow the access."
        )
    code = error if error.replace("_", "").isalnum() and error.isascii() else "unnamed"
    return LoginRequiredError(f"the issuer refused the login ({code})", hint=REGISTERED)


# Device code.


def _by_device(
    session: Session, adapter: oauth2.Adapter, client: Credentials, person: Person, deadline: float
) -> tuple[IssuedTokens, int]:
    profile = session.addressed(deadline)
    started = _exchange(session, adapter.device_request(profile, client), deadline)
    if started.status != 200:
        _say_words(session, description_of(started), client)
    device_code, user_code, address, interval_s = _parse_device(started)
    person.say(f"Open {address} on any device and enter the code {user_code}")
    person.say(f"It is for this machine and profile {profile.name!r} alone: send it to nobody.")
    while time.monotonic() + interval_s < deadline:
        session.runtime.sleep(interval_s)
        issued_at = int(session.runtime.clock())
        try:
            request = adapter.device_token_request(profile, device_code, client)
            response = _exchange(session, request, deadline)
        except IssuerError:
            # RFC 8628 section 3.5: a timeout is a reason to ask more slowly, not to give up
            continue
        error = "slow_down" if response.status in (429, 503) else _error_of(response)
        if error == "slow_down":
            interval_s += 5  # RFC 8628 section 3.5
        elif error == "access_denied":
            raise _refused(error)
        elif error == "expired_token":
            raise LoginRequiredError(
                "the code expired before it was entered", hint="Start `nightporter login` again."
            )
        elif error != "authorization_pending":
            return _parsed(session, adapter, response, client), issued_at
    raise LoginRequiredError(
        "nobody entered the code in time", hint="Start `nightporter login` again."
    )


def _parse_device(response: Response) -> tuple[Secret, str, str, float]:
    """device_code, user_code, verification_uri and the interval in seconds (RFC 8628 section
    3.2)."""
    try:
        document = json.loads(response.body)
        texts = [document["device_code"], document["user_code"], document["verification_uri"]]
        interval_s = max(LEAST_POLL_S, float(document.get("interval", 5)))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise IssuerReplyError(f"the issuer started no device login ({response.status})") from None
    if (
        not all(isinstance(text, str) and text.isprintable() for text in texts)
        or not interval_s <= 60
        or url_problem(texts[2].partition("?")[0])
    ):
        raise IssuerReplyError("the issuer's answer to the device login can't be used")
    return Secret(texts[0]), texts[1], texts[2], interval_s


def _error_of(response: Response) -> str | None:
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return next(iter(error_words(document)), None) if isinstance(document, dict) else None
