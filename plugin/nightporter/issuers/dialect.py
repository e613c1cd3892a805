"""How a vendor says things: the data of its row, as the reading of its answers needs them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nightporter.core.expiry import parse_duration
from nightporter.core.values import dataclass

DEFAULT_EXPIRES_IN_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one vendor's answers mean beyond RFC 6749.

    `dead`, `busy`, `refused`: error codes. `token_types`: words that mean Bearer, in lower case.
    `access_life_s`: where an answer states none. `life_field`: the member with the seconds that the
    refresh token has left. `output`: members that are kept for who asks for the token.
    """

    dead: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    token_types: frozenset[str] = frozenset({"bearer"})
    access_life_s: int = DEFAULT_EXPIRES_IN_S
    life_field: str | None = None
    output: tuple[str, ...] = ()

    @property
    def codes(self) -> frozenset[str]:
        """All codes that the row knows."""
        return self.dead | self.busy | self.refused


RFC_6749: Final = Dialect()


def dialect_of(members: Mapping[str, Any]) -> Dialect:
    """Returns the dialect of a row's members, a profile's own among them."""
    words = {word.lower() for word in members.get("token_types", ())}
    return Dialect(
        dead=frozenset(members.get("dead_errors", ())),
        busy=frozenset(members.get("busy_errors", ())),
        refused=frozenset(members.get("refused_errors", ())),
        token_types=frozenset({"bearer", *words}),
        access_life_s=seconds(members.get("access_token_life", DEFAULT_EXPIRES_IN_S)),
        life_field=members.get("life_field"),
        output=tuple(members.get("extra_output", ())),
    )


def seconds(duration: str | int) -> int:
    """Returns the seconds of a duration of the configuration."""
    return parse_duration(duration) if isinstance(duration, str) else duration
