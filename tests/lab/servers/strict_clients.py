"""A token endpoint that takes no client's word for it: RFC 7523 section 3 to the letter, and what
Entra adds (the certificate's thumbprints).

It verifies by `cryptography` alone. A workload's assertion is taken where its issuer, subject and
audience are those that the client was registered with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from lab.jose import decode, der_of, unpadded, verify

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
LONGEST_S = 600


@dataclass
class Client:
    """A registered client: its public key, and its certificate where it must be named; or the
    workload (issuer, subject, audience) that stands for it, with the key of that issuer."""

    key: Any
    certificate: x509.Certificate | None = None
    workload: tuple[str, str, str] | None = None


@dataclass
class Issuer:
    """What the endpoint knows and has seen. `audience` None: its own address."""

    address: str = ""
    clients: dict[str, Client] = field(default_factory=dict)
    audience: str | None = None
    clock_offset_s: float = 0.0
    expires_in: int = 3600
    seen: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    headers: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    posts: int = 0
    polls: int = 0

    @property
    def token_endpoint(self) -> str:
        return f"{self.address}/oauth2/token"

    def answer(self, path: str, form: dict[str, str], authorization: str | None) -> tuple[int, Any]:
        """What the token endpoint says, or the one that starts a device login."""
        self.posts += 1
        try:
            self.authenticate(form, authorization)
        except (ValueError, KeyError, IndexError, InvalidSignature) as exc:
            self.refusals.append(f"{type(exc).__name__}: {exc}")
            return 401, {"error": "invalid_client"}
        if path.endswith("/devicecode"):
            place = {"verification_uri": f"{self.address}/device", "interval": 1}
            return 200, {"device_code": "d-1", "user_code": "U-1", **place}
        members: dict[str, Any] = {"access_token": secrets.token_urlsafe(24)}
        members |= {"token_type": "Bearer", "expires_in": self.expires_in}
        if form.get("grant_type") == "client_credentials":
            return 200, members
        if form.get("grant_type") == DEVICE_GRANT:
            self.polls += 1
            if self.polls < 2:
                return 400, {"error": "authorization_pending"}
            return 200, {**members, "refresh_token": self.new_refresh_token()}
        if form.get("grant_type") != "refresh_token" or form["refresh_token"] not in self.live:
            return 400, {"error": "invalid_grant"}
        self.live.remove(form["refresh_token"])
        return 200, {**members, "refresh_token": self.new_refresh_token()}

    def new_refresh_token(self) -> str:
        token = secrets.token_urlsafe(24)
        self.live.add(token)
        return token

    def authenticate(self, form: dict[str, str], authorization: str | None) -> None:
        """Raises: ValueError, KeyError, InvalidSignature."""
        if authorization is not None or "client_secret" in form:
            raise ValueError("more than one way of authentication")
        if form["client_assertion_type"] != ASSERTION_TYPE:
            raise ValueError("another type of assertion")
        assertion = form["client_assertion"]
        head, body, _ = assertion.split(".")
        header, claims = decode(head), decode(body)
        self.headers.append(header)
        client = self.clients[form["client_id"]]
        verify(client.key, header["alg"], assertion.encode())
        self.check_time(claims)
        if client.workload is not None:
            if (claims["iss"], claims["sub"], claims["aud"]) != client.workload:
                raise ValueError("another workload, or for another audience")
            return
        self.check_own(form["client_id"], header, claims, client)

    def check_time(self, claims: dict[str, Any]) -> None:
        now = time.time() + self.clock_offset_s
        if not now < claims["exp"]:
            raise ValueError("expired")
        if claims["iat"] > now + 1:
            raise ValueError("issued in the future")

    def check_own(
        self, client_id: str, header: dict[str, Any], claims: dict[str, Any], client: Client
    ) -> None:
        if (claims["iss"], claims["sub"]) != (client_id, client_id):
            raise ValueError("another client's")
        if claims["aud"] != (self.audience or self.token_endpoint):
            raise ValueError("another audience")
        if claims["exp"] - claims["iat"] > LONGEST_S:
            raise ValueError("lives too long")
        if claims["jti"] in self.seen:
            raise ValueError("was used before")
        self.seen.add(claims["jti"])
        if client.certificate is not None:
            der = der_of(client.certificate)
            wanted = (hashlib.sha1(der).digest(), hashlib.sha256(der).digest())
            if (unpadded(header["x5t"]), unpadded(header["x5t#S256"])) != wanted:
                raise ValueError("another certificate")


@contextlib.contextmanager
def open_strict_issuer() -> Iterator[Issuer]:
    """Serves on loopback until the block ends."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            form = dict(parse_qsl(self.rfile.read(size).decode()))
            authorization = self.headers.get("Authorization")
            status, members = issuer.answer(self.path, form, authorization)
            body = json.dumps(members).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
