"""The model's vendor: names its tokens R1, R2 ..., and revokes the family on reuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from nightporter.issuers.oauth import Request, Response

ACCESS_LIFE_S = 600.0


@dataclass
class Vendor:
    """`ends`: when each access token really ends, whatever anybody believes."""

    grace_s: float
    is_rotating: bool
    password: str = "pw"
    newest: int = 0
    rotated_at: dict[int, float] = field(default_factory=dict)
    is_revoked: bool = False
    sign_ins: list[float] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)

    def answer(self, request: Request, now: float) -> tuple[int, dict[str, Any]]:
        """The vendor's deed and its words."""
        text = request.body.decode()
        asked = json.loads(text) if text.startswith("{") else dict(parse_qsl(text))
        if "password" in asked:
            return self.sign_in(asked["password"], now)
        return self.refresh(str(asked.get("refreshToken") or asked.get("refresh_token")), now)

    def sign_in(self, password: str, now: float) -> tuple[int, dict[str, Any]]:
        self.sign_ins.append(now)
        if password != self.password:
            return 403, {"error": "access_denied"}
        self.newest += 1
        self.is_revoked = False
        return self.tokens(now)

    def refresh(self, token: str, now: float) -> tuple[int, dict[str, Any]]:
        number = int(token[1:])
        if self.is_revoked:
            return 400, {"error": "invalid_grant"}
        if not self.is_rotating:
            return self.tokens(now)
        if number in self.rotated_at:
            if now - self.rotated_at[number] > self.grace_s or number + 1 != self.newest:
                self.is_revoked = True
                return 400, {"error": "invalid_grant"}
            return self.tokens(now)
        self.rotated_at[number] = now
        self.newest += 1
        return self.tokens(now)

    def tokens(self, now: float) -> tuple[int, dict[str, Any]]:
        access_token = f"A{self.newest}-{len(self.ends)}"  # none has its name twice
        self.ends[access_token] = now + ACCESS_LIFE_S
        return 200, {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": int(ACCESS_LIFE_S),
            "refresh_token": f"R{self.newest}",
        }

    def is_alive(self, token: str | None) -> bool:
        """Whether a session can go on from this token."""
        if token is None or self.is_revoked:
            return False
        return not self.is_rotating or int(token[1:]) == self.newest


def response_of(status: int, members: Mapping[str, Any]) -> Response:
    return Response(status=status, headers={}, body=json.dumps(members).encode())
