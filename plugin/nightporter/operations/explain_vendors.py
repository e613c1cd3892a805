"""What `nightporter explain vendors` prints: the rows of the vendors, as the configuration has
them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import tomlkit

from nightporter.core.model import Rotation, Vendor
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
