"""What is known of the embedded store without opening it."""

from __future__ import annotations

import os

from nightporter.core import checks
from nightporter.core.store_description import Options, StoreDescription


def _place(options: Options, data_directory: str) -> str:
    return os.path.expanduser(str(options.get("path", data_directory)))


DESCRIPTION = StoreDescription(
    type="local",
    adapter="nightporter.stores.local",
    comment=(
        "An embedded store on this machine: for trying out. Machines share a session through Vault"
        " or AWS."
    ),
    keys={"path": checks.absolute, "seal": checks.one_of("keyring")},
    place=_place,
)
