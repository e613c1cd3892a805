"""What a request to a simulated vendor asks for, and the answer: no sockets here."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from nightporter.issuers.pitchpoint import REFRESH_PATH, SIGN_IN_PATH
from nightporter.issuers.vault_ist import REFRESH_PATH as VAULT_IST_PATH
from nightporter.simulator.assertions import proven_client
from nightporter.simulator.voices import Answer
from nightporter.simulator.world import World

Headers = Mapping[str, str]  # names in lower case
TokenCall = tuple[str, Callable[[], Answer]]  # "sign-in" or "refresh", and what brings the answer

_NOT_JSON = {"error": "invalid_request", "error_description": "not a JSON object"}
_NO_HEADERS = {"error": "invalid_request", "error_description": "Missing headers."}
_NO_TOKEN = {"error": "invalid_request", "error_description": "Missing refresh token."}


def kind_of(world: World, path: str) -> str:
    """Returns which address a path is: one of the row's, or by its end; empty for none."""
    if found := world.voice.paths().get(path):
        return found
    for end, kind in _ENDS.items():
        if path.endswith(end):
            return kind
    return ""


_ENDS = {
    "/oauth2/token": "token_endpoint",
    "/oauth2/v2.0/token": "token_endpoint",
    "/authorize": "authorization_endpoint",
    "/devicecode": "device_authorization_endpoint",
    "/revoke": "revocation_endpoint",
}


def token_call(world: World, path: str, headers: Headers, body: bytes) -> TokenCall | None:
    """Returns what a request to a token endpoint asks for; None where the path is another."""
    if path in (SIGN_IN_PATH, REFRESH_PATH, VAULT_IST_PATH):
        return _json_call(world, path, headers, body)
    if kind_of(world, path) != "token_endpoint":
        return None
    is_json = headers.get("content-type", "").startswith("application/json")
    asked = (object_of(body) or {}) if is_json else form_of(body)
    call = "refresh" if asked.get("grant_type") == "refresh_token" else "sign-in"
    if "client_assertion" in asked:
        return call, lambda: world.token_endpoint(asked, proven_client(world, path, asked))
    client = client_of(headers, asked)
    return call, lambda: world.token_endpoint(asked, client)


def _json_call(world: World, path: str, headers: Headers, body: bytes) -> TokenCall:
    asked = object_of(body)
    call = "sign-in" if path == SIGN_IN_PATH else "refresh"
    if asked is None:
        return call, lambda: (400, dict(_NOT_JSON))
    if path == SIGN_IN_PATH:
        members = (asked.get("username"), asked.get("password"), asked.get("useralias"))
        return call, lambda: world.sign_in(*members)
    if path == REFRESH_PATH:
        return call, lambda: world.refresh_reused(asked.get("refresh_token"))
    return call, lambda: _vault_ist(world, headers, asked)


def _vault_ist(world: World, headers: Headers, asked: Mapping[str, Any]) -> Answer:
    if not headers.get("partnerid") or headers.get("granttype") != "refresh_token":
        return 400, dict(_NO_HEADERS)
    if not isinstance(asked.get("refreshToken"), str):
        return 400, dict(_NO_TOKEN)
    return world.refresh(asked["refreshToken"])


def object_of(body: bytes) -> dict[str, Any] | None:
    """Returns a JSON object; None for anything else."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    return asked if isinstance(asked, dict) else None


def form_of(body: bytes) -> dict[str, str]:
    """Returns the members of a form."""
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def client_of(headers: Headers, asked: Mapping[str, str]) -> tuple[str, str] | None:
    """The client by HTTP Basic (both parts form-encoded, RFC 6749 section 2.3.1) or in the body."""
    kind, _, coded = headers.get("authorization", "").partition(" ")
    if kind == "Basic":
        with contextlib.suppress(ValueError):
            name, _, secret = base64.b64decode(coded).decode().partition(":")
            return unquote_plus(name), unquote_plus(secret)
    if "client_id" in asked:
        return asked["client_id"], asked.get("client_secret", "")
    return None
