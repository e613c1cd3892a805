"""Every built-in row as its document had it when it was last read: an address, a grant or a code
of a vendor changes with its document, and so with `vendor_rows.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nightporter.core.model import Vendor
from nightporter.issuers import DEFAULT_VENDOR, VENDORS
from nightporter.issuers.rows import ROWS as DATA

ROWS = Path(__file__).parent / "vendor_rows.json"


def facts_of(row: Vendor) -> dict[str, Any]:
    document = row.document
    return {
        "title": row.title,
        "document": [document.title, document.section, document.date],
        "members": dict(row.members),
        "preset": dict(row.preset),
        "call_scopes": dict(row.call_scopes),
        "refresh_needs": sorted(row.refresh_needs),
        "module": row.module,
    }


def test_every_row_is_what_its_document_says() -> None:
    """Whoever changes a row looks into the document, and dates it anew."""
    recorded = json.loads(ROWS.read_text())
    assert list(VENDORS) == list(recorded)
    for name, row in VENDORS.items():
        assert json.loads(json.dumps(facts_of(row))) == recorded[name]
        assert row.name == name
    assert all(VENDORS[name] is row for name, row in DATA.items())
    assert next(iter(VENDORS)) == DEFAULT_VENDOR
