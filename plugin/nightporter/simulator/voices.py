"""How each vendor says things: the sandbox's personality of a row. Pure.

What a row names is taken from it (codes, token types, lives); the shape around a code, where it is
not RFC 6749's, is here, as the vendor's document has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightporter.core.model import Vendor
from nightporter.core.values import dataclass
from nightporter.core.vendor_table import ENDPOINTS

Answer = tuple[int, dict[str, Any]]

# A shape by vendor and by what is said: the status, and the members with CODE for the code.
_CODE = "CODE"
_SHAPES: Mapping[tuple[str, str], tuple[int, Mapping[str, Any]]] = {
    ("pitchpoint", "dead"): (403, {"error": "access_denied"}),
    ("vault-ist", "dead"): (400, {"error": "invalid_grant"}),
    ("github", "dead"): (200, {"error": _CODE, "error_uri": "/troubleshooting"}),
    ("github", "refused"): (200, {"error": _CODE}),
    ("github", "pending"): (200, {"error": _CODE}),
    ("slack", "dead"): (200, {"ok": False, "error": _CODE}),
    ("slack", "refused"): (200, {"ok": False, "error": _CODE}),
    ("slack", "busy"): (429, {"ok": False, "error": _CODE}),
    ("hubspot", "dead"): (400, {"status": _CODE, "message": "missing or invalid refresh token"}),
    ("atlassian", "dead"): (403, {"error": _CODE, "error_description": "refresh_token is invalid"}),
}
_USUAL: Mapping[str, tuple[int, str, str, str]] = {
    # What is said: the status, the row's member with codes, RFC 6749's code, the prose.
    "dead": (400, "dead_errors", "invalid_grant", "Refresh token has expired or is invalid."),
    "refused": (
        401,
        "refused_errors",
        "invalid_client",
        "AADSTS7000215: Invalid client secret",
    ),
    "busy": (429, "busy_errors", "temporarily_unavailable", "Come again."),
    "pending": (400, "", "authorization_pending", "Nobody has entered the code yet."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One vendor's. `row` None: RFC 6749's."""

    row: Vendor | None = None

    def dead(self, why: str = "") -> Answer:
        """A refresh token that is dead."""
        return self._said("dead", why)

    def refused(self) -> Answer:
        """A client that is refused."""
        return self._said("refused")

    def busy(self) -> Answer:
        """Come again later."""
        return self._said("busy")

    def pending(self) -> Answer:
        """A device code that nobody has entered yet."""
        return self._said("pending")

    def _said(self, what: str, why: str = "") -> Answer:
        status, member, code, prose = _USUAL[what]
        codes = self._members.get(member, ())
        code = codes[0] if codes else code
        if what == "busy" and codes:
            status = 400  # a row names such codes because the status doesn't tell it
        name = self.row.name if self.row else ""
        status, shape = _SHAPES.get((name, what), (status, {"error": _CODE}))
        members = {key: code if item == _CODE else item for key, item in shape.items()}
        if "error" in members:
            members.setdefault("error_description", why or prose)
        return status, members

    @property
    def _members(self) -> Mapping[str, Any]:
        return self.row.members if self.row else {}

    def told(self, members: Mapping[str, Any], life_s: float | None) -> dict[str, Any]:
        """The members of a good answer, with what this vendor adds; `life_s`: of the refresh
        token."""
        row = self._members
        added: dict[str, Any] = {
            name: f"https://{name}.example" for name in row.get("extra_output", ())
        }
        if words := row.get("token_types"):
            added["token_type"] = words[0]
        if (name := row.get("life_field")) and life_s is not None:
            added[name] = int(life_s)
        if self.row is not None and self.row.name == "slack":
            added["ok"] = True
        return {"token_type": "Bearer", **members, **added}

    def paths(self) -> dict[str, str]:
        """The paths of the row's addresses, and which address each is."""
        found = {name: str(self._members[name]) for name in ENDPOINTS if name in self._members}
        return {_path(address): name for name, address in found.items()}


def _path(address: str) -> str:
    rest = address.removeprefix("{base_url}")
    return rest if rest != address else f"/{address.partition('://')[2].partition('/')[2]}"
