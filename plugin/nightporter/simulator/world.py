"""The state of the simulated vendors: users, tokens, a clock, faults to come, counts. No sockets here.

It enforces what the real ones do: a refresh token dies at its time, a wrong password is refused and too many lock the
account. Tests change the world and look at the counts.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nightporter.expiry import pitchpoint_refresh_expiry

LOCK_AFTER = 10  # wrong passwords in a row


@dataclass
class Grant:
    """One session at the vendor."""

    username: str
    expires_at: float
    is_revoked: bool = False


@dataclass
class World:
    """`faults` are taken one a request, oldest first (`server` lists them); `clock_offset_s` skews the vendor."""

    users: dict[str, str]
    expires_in: int | str = 3600
    latency_s: float = 0.0
    clock_offset_s: float = 0.0
    clock: Callable[[], float] = time.time
    faults: deque[dict[str, Any]] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    refresh_tokens: dict[str, Grant] = field(default_factory=dict)
    access_tokens: dict[str, float] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    wrong_passwords: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> float:
        return self.clock() + self.clock_offset_s

    def next_fault(self, call: str) -> dict[str, Any] | None:
        """The oldest fault that fits the call, taken off the list; one with `"times"` above 1 stays so often."""
        with self.lock:
            for fault in self.faults:
                if fault.get("call", call) == call:
                    fault["times"] = fault.get("times", 1) - 1
                    if fault["times"] <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    # Pitchpoint.

    def sign_in(self, username: Any, password: Any, useralias: Any = None) -> tuple[int, dict[str, Any]]:
        """Status and body of a sign-in with password."""
        with self.lock:
            if self.wrong_passwords[str(username)] >= LOCK_AFTER:
                return 400, {"error": "TOO_MANY_ATTEMPTS_TRY_LATER", "error_description": "Account locked for a while"}
            if self.users.get(str(username)) != password:
                self.wrong_passwords[str(username)] += 1
                return 403, {"error": "access_denied", "error_description": "Invalid username / password combination"}
            self.wrong_passwords.pop(str(username), None)
            if useralias is not None:
                self.aliases.append(str(useralias))
            refresh_token = f"AMf-{secrets.token_urlsafe(32)}"
            expires_at = pitchpoint_refresh_expiry(int(self.now()))
            self.refresh_tokens[refresh_token] = Grant(username=str(username), expires_at=expires_at)
            return 200, {"refresh_token": refresh_token, **self.issue_access_token()}

    def refresh(self, refresh_token: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of a refresh; the token is reused."""
        with self.lock:
            grant = self.refresh_tokens.get(str(refresh_token))
            if grant is None or grant.is_revoked or grant.expires_at <= self.now():
                return 403, {"error": "access_denied", "error_description": "Invalid or expired refresh token"}
            return 200, {
                "refresh_token": refresh_token,
                "scope": "policy",
                "token_type": "Bearer",
                **self.issue_access_token(),
            }

    def issue_access_token(self) -> dict[str, Any]:
        access_token = f"sandbox.{secrets.token_urlsafe(24)}"
        self.access_tokens[access_token] = self.now() + float(self.expires_in)
        return {"access_token": access_token, "expires_in": self.expires_in}

    def is_live(self, access_token: str) -> bool:
        """Whether an API of the vendor would take this access token now."""
        with self.lock:
            return self.access_tokens.get(access_token, 0) > self.now()

    # What tests and operators do to it.

    def revoke_all(self) -> None:
        with self.lock:
            for grant in self.refresh_tokens.values():
                grant.is_revoked = True

    def revoke_access_tokens(self) -> None:
        with self.lock:
            self.access_tokens.clear()

    def change(self, wishes: dict[str, Any]) -> None:
        """Applies the members of a POST to `/_sandbox/world`.

        Raises: ValueError for a member that is none.
        """
        with self.lock:
            for name, value in wishes.items():
                if name in ("expires_in", "latency_s", "clock_offset_s"):
                    setattr(self, name, value)
                elif name == "users":
                    self.users = dict(value)
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
