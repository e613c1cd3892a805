"""The state of the simulated vendors: users, clients, tokens, a clock, faults to come, counts. No
sockets here.

It enforces what the real ones do: a refresh token dies at its time, a rotated one is good once (or
for a grace), its reuse revokes the whole family, a wrong password is refused and too many lock the
account. Tests change the world and look at the counts.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from nightporter.core.expiry import pitchpoint_refresh_expiry
from nightporter.core.model import Rotation, Vendor
from nightporter.core.values import dataclass, field
from nightporter.simulator.voices import Answer, Voice

WISHES = (
    *("expires_in", "latency_s", "clock_offset_s", "rotation", "grace_s"),
    *("refresh_life_s", "scope"),
)
LOCK_AFTER = 10  # wrong passwords in a row
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Grant:
    """A refresh token at the vendor. `successor` is set when it has been rotated, at
    `rotated_at`."""

    family: str
    expires_at: float = float("inf")
    is_revoked: bool = False
    successor: str | None = None
    rotated_at: float = 0.0
    uses: int = 0


@dataclass
class Pending:
    """An authorization on its way: by code or by device."""

    client_id: str
    redirect_uri: str = ""
    challenge: str = ""
    user_code: str = ""
    is_approved: bool = True
    is_denied: bool = False


@dataclass
class World:
    """`faults` are taken one a request, oldest first (`server` lists them); `spontaneous` makes
    more by itself.

    `clock_offset_s` skews the vendor's clock. `row`: which vendor's words and lives it has; None:
    RFC 6749's. `scope`: what is granted, whatever is asked for. `refresh_life_s`: of its refresh
    tokens; told where the row has a member for it. `client_keys`: public keys in PEM, of clients
    that sign.
    """

    users: dict[str, str]
    clients: dict[str, str] = field(default_factory=lambda: {"demo-client": "demo-secret"})
    client_keys: dict[str, str] = field(default_factory=dict)
    seen_assertions: set[str] = field(default_factory=set)
    expires_in: int | str = 3600
    tokens_are_jwts: bool = False
    latency_s: float = 0.0
    spontaneous: Callable[[str], dict[str, Any] | None] = lambda _call: None
    clock_offset_s: float = 0.0
    rotation: str = "rotates"
    grace_s: float = 0.0
    clock: Callable[[], float] = time.time
    faults: deque[dict[str, Any]] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    refresh_tokens: dict[str, Grant] = field(default_factory=dict)
    access_tokens: dict[str, float] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    wrong_passwords: Counter[str] = field(default_factory=Counter)
    row: Vendor | None = None
    scope: str | None = None
    refresh_life_s: float | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def voice(self) -> Voice:
        """How this vendor says things."""
        return Voice(row=self.row)

    def now(self) -> float:
        """Returns the vendor's time, which may be off, in Unix seconds."""
        return self.clock() + self.clock_offset_s

    def next_fault(self, call: str) -> dict[str, Any] | None:
        """The oldest fault that fits the call, taken off the list; one with `"times"` above 1 stays
        so often."""
        with self.lock:
            for fault in self.faults:
                if fault.get("call", call) == call:
                    fault["times"] = fault.get("times", 1) - 1
                    if fault["times"] <= 0:
                        self.faults.remove(fault)
                    return fault
        return self.spontaneous(call)

    # Pitchpoint.

    def sign_in(self, username: Any, password: Any, useralias: Any = None) -> Answer:
        """A sign-in with password; the refresh token is reused until its Eastern midnight."""
        with self.lock:
            refused = self._check_password(username, password)
            if refused:
                return refused
            if useralias is not None:
                self.aliases.append(str(useralias))
            token = self.new_refresh_token(expires_at=pitchpoint_refresh_expiry(int(self.now())))
            return 200, {"refresh_token": token, **self.issue_access_token()}

    def _check_password(self, username: Any, password: Any) -> Answer | None:
        if self.wrong_passwords[str(username)] >= LOCK_AFTER:
            return 400, {
                "error": "TOO_MANY_ATTEMPTS_TRY_LATER",
                "error_description": "Account locked for a while",
            }
        if self.users.get(str(username)) != password:
            self.wrong_passwords[str(username)] += 1
            return 403, {
                "error": "access_denied",
                "error_description": "Invalid username / password combination",
            }
        self.wrong_passwords.pop(str(username), None)
        return None

    def refresh_reused(self, refresh_token: Any) -> Answer:
        """Pitchpoint's refresh: the same token comes back."""
        with self.lock:
            if not self._is_alive(str(refresh_token)):
                return 403, {
                    "error": "access_denied",
                    "error_description": "Invalid or expired refresh token",
                }
            members = {"refresh_token": refresh_token, "scope": "policy", "token_type": "Bearer"}
            return 200, {**members, **self.issue_access_token()}

    def _is_alive(self, refresh_token: str) -> bool:
        grant = self.refresh_tokens.get(refresh_token)
        return grant is not None and not grant.is_revoked and grant.expires_at > self.now()

    # vault.ist, Entra and any other issuer: tokens that may rotate.

    def refresh(self, refresh_token: Any) -> Answer:
        """A refresh by `rotation`. The reuse of a rotated token after its grace revokes the family
        (RFC 9700)."""
        with self.lock:
            token = str(refresh_token)
            if not self._is_alive(token):
                return self.voice.dead()
            grant = self.refresh_tokens[token]
            if grant.successor is not None:
                if self.now() - grant.rotated_at > self.grace_s:
                    self.counts["reuse"] += 1
                    self.revoke(lambda other: other.family == grant.family)
                    return self.voice.dead("Refresh token was used before.")
                return self._tokens(refresh_token=grant.successor)
            grant.uses += 1
            answer: dict[str, Any] = {"id_token": "e30.e30."}
            is_due = grant.uses % 2 == 0 if self.rotation == Rotation.MAY_ROTATE.value else True
            if self.rotation != Rotation.REUSED.value and is_due:
                grant.successor, grant.rotated_at = (
                    self.new_refresh_token(family=grant.family),
                    self.now(),
                )
                answer["refresh_token"] = grant.successor
            return self._tokens(**answer)

    def _tokens(self, **members: Any) -> Answer:
        """A good answer, in this vendor's words."""
        if self.scope is not None:
            members["scope"] = self.scope
        return 200, self.voice.told({**members, **self.issue_access_token()}, self.refresh_life_s)

    def new_refresh_token(
        self, *, family: str | None = None, expires_at: float = float("inf")
    ) -> str:
        """Issues a refresh token, of a family of its own unless one is named."""
        token = f"AMf-{secrets.token_urlsafe(32)}"
        if self.refresh_life_s is not None:
            expires_at = min(expires_at, self.now() + self.refresh_life_s)
        with self.lock:
            self.refresh_tokens[token] = Grant(family=family or token, expires_at=expires_at)
        return token

    def issue_access_token(self) -> dict[str, Any]:
        """Returns the members of a token reply for a fresh access token."""
        kind = "e30.e30" if self.tokens_are_jwts else "sandbox"  # {} and {}, as a JWT writes them
        access_token = f"{kind}.{secrets.token_urlsafe(24)}"
        self.access_tokens[access_token] = self.now() + float(self.expires_in)
        return {"access_token": access_token, "expires_in": self.expires_in}

    def token_endpoint(self, asked: Mapping[str, str], client: tuple[str, str] | None) -> Answer:
        """RFC 6749's token endpoint for every grant that we know."""
        with self.lock:
            client_id = client[0] if client else ""
            if client is None or self.clients.get(client_id) != client[1]:
                return self.voice.refused()
            self.scopes.append(asked.get("scope", ""))
            grant_type = asked.get("grant_type")
            if grant_type == "refresh_token":
                return self.refresh(asked.get("refresh_token"))
            if grant_type == "client_credentials":
                return self._tokens()
            if grant_type == "password":
                refused = self._check_password(asked.get("username"), asked.get("password"))
                return (400, {"error": "invalid_grant"}) if refused else self._granted()
            if grant_type == "authorization_code":
                return self._redeem_code(asked, client_id)
            if grant_type == DEVICE_GRANT:
                return self._redeem_device(asked, client_id)
            return 400, {"error": "unsupported_grant_type"}

    def _granted(self) -> Answer:
        return self._tokens(refresh_token=self.new_refresh_token(), id_token="e30.e30.")

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Remembers an authorization request; the code that an approval would bring."""
        with self.lock:
            code = secrets.token_urlsafe(16)
            self.scopes.append(asked.get("scope", ""))
            self.pending[code] = Pending(
                client_id=asked.get("client_id", ""),
                redirect_uri=asked.get("redirect_uri", ""),
                challenge=asked.get("code_challenge", ""),
            )
            return code

    def _redeem_code(self, asked: Mapping[str, str], client_id: str) -> Answer:
        pending = self.pending.pop(asked.get("code", ""), None)
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        found = pending and (pending.client_id, pending.redirect_uri, pending.challenge)
        if found != (client_id, asked.get("redirect_uri", ""), challenge):
            return 400, {"error": "invalid_grant"}
        return self._granted()

    def start_device(self, client_id: str, address: str) -> Answer:
        """RFC 8628 section 3.2."""
        with self.lock:
            device_code, user_code = secrets.token_urlsafe(16), secrets.token_hex(4).upper()
            self.pending[device_code] = Pending(
                client_id=client_id, user_code=user_code, is_approved=False
            )
            return 200, {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": f"{address}/device",
                "expires_in": 900,
                "interval": 1,
            }

    def answer_device(self, user_code: str, *, is_approved: bool) -> bool:
        """Answers a device authorization as its user would. False: no such user code waits."""
        with self.lock:
            for pending in self.pending.values():
                if pending.user_code == user_code:
                    pending.is_approved, pending.is_denied = is_approved, not is_approved
                    return True
        return False

    def _redeem_device(self, asked: Mapping[str, str], client_id: str) -> Answer:
        pending = self.pending.get(asked.get("device_code", ""))
        if pending is None or pending.client_id != client_id:
            return 400, {"error": "expired_token"}
        if pending.is_denied:
            return 400, {"error": "access_denied"}
        if not pending.is_approved:
            return self.voice.pending()
        del self.pending[asked["device_code"]]
        return self._granted()

    # What tests and operators do to it.

    def is_live(self, access_token: str) -> bool:
        """Whether an API of the vendor would take this access token now."""
        with self.lock:
            return self.access_tokens.get(access_token, 0) > self.now()

    def is_session_alive(self, refresh_token: str) -> bool:
        """Whether a refresh with this token would work: neither dead nor already rotated."""
        with self.lock:
            return (
                self._is_alive(refresh_token)
                and self.refresh_tokens[refresh_token].successor is None
            )

    def revoke(self, which: Callable[[Grant], bool]) -> None:
        """Revokes the refresh tokens that `which` says."""
        with self.lock:
            for grant in self.refresh_tokens.values():
                grant.is_revoked = grant.is_revoked or which(grant)

    def revoke_all(self) -> None:
        """Revokes every refresh token."""
        self.revoke(lambda _grant: True)

    def revoke_access_tokens(self) -> None:
        """Lets no access token issued so far pass any more."""
        with self.lock:
            self.access_tokens.clear()

    def change(self, wishes: dict[str, Any]) -> None:
        """Applies the members of a POST to `/_sandbox/world`.

        Raises: ValueError for a member that is none.
        """
        with self.lock:
            for name, value in wishes.items():
                if name in WISHES:
                    setattr(self, name, value)
                elif name in ("users", "clients", "client_keys"):
                    setattr(self, name, dict(value))
                    self.wrong_passwords.clear()
                elif name == "faults":
                    self.faults.extend(dict(fault) for fault in value)
                elif name == "revoke" and value == "refresh":
                    self.revoke_all()
                elif name == "revoke" and value == "access":
                    self.revoke_access_tokens()
                elif name == "reset_counts":
                    self.counts.clear()
                else:
                    raise ValueError(f"no such wish: {name}")

    def state(self) -> dict[str, Any]:
        """Counts and numbers, and no secret."""
        with self.lock:
            live = sum(not grant.is_revoked for grant in self.refresh_tokens.values())
            return {
                "counts": dict(self.counts),
                "refresh_tokens": live,
                "access_tokens": len(self.access_tokens),
                "faults": len(self.faults),
            }


def world_of(vendor: Vendor, like: World) -> World:
    """Returns the world of a vendor, by its row; users, clients and clock are those of another."""
    return World(
        users=like.users,
        clients=like.clients,
        client_keys=like.client_keys,
        expires_in=like.expires_in,
        clock=like.clock,
        rotation=vendor.rotation.value,
        grace_s=vendor.grace_s,
        row=vendor,
    )
