"""An authorization server of another make: Authlib's, with its own check of client assertions."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask
from joserfc.jwk import import_key
from werkzeug.serving import make_server

METHOD = JWTBearerClientAssertion.CLIENT_AUTH_METHOD


@dataclass
class Client(ClientMixin):  # type: ignore[misc,unused-ignore]
    """A client that may only prove itself by an assertion."""

    client_id: str
    public_key: dict[str, Any]

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return bool(method == METHOD)

    def check_grant_type(self, grant_type: str) -> bool:
        return True


@dataclass
class Served:
    """The server, its clients, and the ids of assertions that it has seen."""

    address: str = ""
    clients: dict[str, Client] = field(default_factory=dict)
    jtis: list[str] = field(default_factory=list)

    @property
    def token_endpoint(self) -> str:
        return f"{self.address}/oauth2/token"


class Assertions(JWTBearerClientAssertion):  # type: ignore[misc,unused-ignore]
    """Authlib's check; ours is only what it asks an application for."""

    def __init__(self, served: Served) -> None:
        super().__init__(leeway=0)
        self.served = served

    def get_audiences(self) -> list[str]:
        return [self.served.token_endpoint]

    def validate_jti(self, claims: Any, jti: str) -> bool:
        is_new = jti not in self.served.jtis
        self.served.jtis.append(jti)
        return is_new

    def resolve_client_public_key(self, client: Client) -> Any:
        return import_key(client.public_key)


class ClientCredentials(grants.ClientCredentialsGrant):  # type: ignore[misc,unused-ignore]
    TOKEN_ENDPOINT_AUTH_METHODS = (METHOD,)


@contextlib.contextmanager
def open_authlib_issuer() -> Iterator[Served]:
    """Serves on loopback until the block ends."""
    served, app = Served(), Flask("issuer")
    with mock.patch.dict(os.environ, {"AUTHLIB_INSECURE_TRANSPORT": "1"}):
        issuer = AuthorizationServer(
            app, query_client=served.clients.get, save_token=lambda _token, _request: None
        )
        issuer.register_client_auth_method(METHOD, Assertions(served))
        issuer.register_grant(ClientCredentials)
        issuer.register_token_generator("default", _token)
        app.add_url_rule(
            "/oauth2/token",
            view_func=lambda: issuer.create_token_response(),
            methods=["POST"],
            endpoint="token",
        )
        server = make_server("127.0.0.1", 0, app, threaded=True)
        served.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _token(**_asked: Any) -> dict[str, Any]:
    return {
        "access_token": secrets.token_urlsafe(24),
        "token_type": "Bearer",
        "expires_in": 3600,
    }
