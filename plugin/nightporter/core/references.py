"""The pages that are written from the catalogue: plugin/docs/errors.md, and the table of exit codes
in the README. Pure text."""

from __future__ import annotations

from collections.abc import Mapping

from nightporter.core import errors
from nightporter.core.explanations import EXPLANATIONS

# Who must act, and when, by exit code (contract, section 4).
WHO_ACTS: Mapping[int, tuple[str, str]] = {
    1: ("nightporter's developers", "a defect"),
    2: ("the person who configures", "usage, configuration, unknown profile"),
    3: (
        "the owner of the account",
        "the issuer refused username, password or client secret, now or remembered",
    ),
    4: ("a person", "no session and no way to sign in unattended; no credentials secret"),
    5: (
        "the operator of the store",
        "away, sealed, denies (the missing permission is named), throttles; the claim can't be"
        " written",
    ),
    6: (
        "the vendor",
        "away, fails, answers nonsense; another machine is busy until the deadline",
    ),
    7: ("the person who configures", "a host that is in no `hosts`"),
}


def render_exits() -> str:
    """Returns the table of exit codes: who must act, and the references that end so."""
    lines = ["| exit | who acts | when | references |", "| --- | --- | --- | --- |"]
    for code, (who, when) in WHO_ACTS.items():
        names = ", ".join(f"`{name}`" for name in _references_of(code))
        lines.append(f"| {code} | {who} | {when} | {names} |")
    return "\n".join(lines) + "\n"


def _references_of(exit_code: int) -> list[str]:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.NightporterError)
    ]
    return list(dict.fromkeys(kind.reference for kind in kinds if kind.exit_code == exit_code))


def render_page() -> str:
    """Returns plugin/docs/errors.md: one section a reference."""
    head = (
        "# References\n\nEvery error ends with a reference. `nightporter explain REFERENCE` prints"
        " the same. PROFILE stands for the name of the profile, ROLE for its role; an error prints"
        " the names themselves.\n"
    )
    parts = [
        f"## {name}\n\n{item.meaning}\n\n**What to do.** {item.remedy}\n"
        for name, item in EXPLANATIONS.items()
    ]
    return "\n".join([head, *parts])
