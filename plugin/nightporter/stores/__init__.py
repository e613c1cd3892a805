"""The adapters of the stores, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MODULES: Final[Mapping[str, str]] = {
    "aws-secrets-manager": "nightporter.stores.secrets_manager",
    "local": "nightporter.stores.local",
    "vault": "nightporter.stores.vault",
}
