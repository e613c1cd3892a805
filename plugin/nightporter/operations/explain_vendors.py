"""What `nightporter explain vendors` prints: the rows of the vendors, as the configuration has
them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import tomlkit

from nightporter.core.model import Grant, Rotation, Vendor
from nightporter.operations.show_config import toml_item

_ROTATIONS = {
    Rotation.REUSED: "reused",
    Rotation.MAY_ROTATE: "may rotate",
    Rotation.ROTATES: "rotates",
}


def to_list(vendors: Iterable[Vendor]) -> str:
    """Returns a line for each vendor: its name, what becomes of a refresh token, and its
    grants."""
    rows = [
        (vendor.name, _ROTATIONS[vendor.rotation], ", ".join(_grants(vendor))) for vendor in vendors
    ]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"{name:<{width}}  {rotation:<10}  {grants}" for name, rotation, grants in rows
    )


def _grants(vendor: Vendor) -> list[str]:
    return [grant.value for grant in vendor.grants]


_STARTS = {
    Grant.PASSWORD: "username and password",
    Grant.AUTHORIZATION_CODE: "`nightporter login`",
    Grant.CLIENT_CREDENTIALS: "a client's secret",
    Grant.DEVICE_CODE: "a device code",
    Grant.REFRESH_TOKEN: "`nightporter seed`",
}
_BECOMES = {
    Rotation.REUSED: "is reused",
    Rotation.MAY_ROTATE: "may change at a refresh",
    Rotation.ROTATES: "changes at each refresh",
}


def to_table(vendors: Iterable[Vendor]) -> str:
    """Returns the README's table. The rows that are data alone are told together, by what becomes
    of their refresh tokens."""
    lines = [
        "| vendor | `issuer` | refresh token | how a session starts |",
        "| --- | --- | --- | --- |",
    ]
    groups: dict[object, list[Vendor]] = {}
    for vendor in vendors:
        groups.setdefault(vendor.rotation if vendor.is_data else vendor.name, []).append(vendor)
    ordered = sorted(groups.values(), key=lambda group: group[0].is_any)  # the one for any is last
    return "\n".join([*lines, *map(_table_line, ordered)]) + "\n"


def _table_line(group: list[Vendor]) -> str:
    first = group[0]
    names = ", ".join(f"`{vendor.name}`" for vendor in group)
    becomes = _BECOMES[first.rotation]
    if zone := first.members.get("refresh_token_midnight"):
        becomes += f" until a midnight in {zone.rpartition('/')[2].replace('_', ' ')}"
    if first.is_any:
        return f"| {first.title} | {names} | as you say | any of these |"
    if first.is_data:
        return f"| by their documents | {names} | {becomes} | by `grant` |"
    starts = ", ".join(_STARTS[grant] for grant in _STARTS if grant in first.grants)
    return f"| {first.title} | {names} | {becomes} | {starts} |"


def to_row(vendor: Vendor) -> str:
    """Returns the row as TOML, with the page that it was taken from above it."""
    document = tomlkit.document()
    for line in _origin(vendor):
        document.add(tomlkit.comment(line))
    table = tomlkit.table()
    for key, value in vendor.members.items():
        if key != "document":
            table.add(key, toml_item(value))
    above = tomlkit.table(is_super_table=True)
    above.add(vendor.name, table)
    document.add("vendors", above)
    return tomlkit.dumps(document).rstrip("\n")


def _origin(vendor: Vendor) -> list[str]:
    page = vendor.document
    if vendor.written:
        lines = ["the user's own row"]
    elif vendor.is_adapted:
        lines = ["built in, with requests of its own"]
    else:
        lines = ["built in"]
    seen = f", seen {page.date}" if page.date else ""
    lines.append(f"by its document: {' '.join(page.title.split())}{seen}")
    return [*lines, f"section: {' '.join(page.section.split())}"] if page.section else lines
