"""Words that others have defined: error codes of RFCs, vendors, AWS and Vault, variables, names of
rights. They were taken from documents, which no test can ask again; so they are recorded,
and a change of one is deliberate (`python tests/unit/test_words_of_others.py`)."""

from __future__ import annotations

import enum
import importlib
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import botocore.exceptions

from nightporter.stores import aws_errors

RECORDED = Path(__file__).with_name("words_of_others.json")
WHERE = {
    "core.checks": "SECRET_KEYS _SECRET_WORDS",
    "core.config": "_FIELD_NAMES",
    "core.hosts": "_ODD_IN_PATHS DEFAULT_PORTS",
    "core.otlp": "TIMEOUT_S INTERVAL_S CUMULATIVE SWITCHES _ENCODINGS",
    "core.scope": "_UNTOLD _CLAIMS _DEFAULT",
    "core.suffixes": "SHARED",
    "core.vendor_table": "ALGORITHMS ENDPOINTS _PROOF_TYPES _RESERVED OAUTH_KEYS SHARED_KEYS",
    "issuers.oauth": "ASSERTION_TYPE _BY_ERROR _FACTOR_MEMBERS",
    "issuers.oauth2": "DEVICE_GRANT",
    "stores.aws_errors": (
        "_FILE_VARIABLES _SSO _LOGIN _ENDPOINT RENEWABLE _SETTINGS _INSTALLATION _PARAMETERS"
        " _UNREADABLE _THROTTLED _STALE _REFUSED _CLOCK _KMS _WEB_IDENTITY _ACCOUNT _INVALID"
        " _QUOTAS _PASSING _ELSEWHERE _FOR_CREDENTIALS"
    ),
    "stores.aws_identity": "VARIABLES FILE_VARIABLES CA_VARIABLES",
    "stores.secrets_manager_description": "TYPE _READ _WRITE _VIA _DELETE _ADDRESS_VARIABLES",
    "stores.vault_description": "HOME_TOKEN_FILE VARIABLES TOKEN_VARIABLES _UNREAD",
    "stores.vault_errors": "UPGRADING ELECTING _DOWN _REFUSALS",
    "stores.vault_login": "SERVICE_ACCOUNT_JWT SERVER_ID_HEADER",
}


def plain(value: object) -> Any:
    """As JSON: sets sorted, classes and members of an enumeration by name."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(plain(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    assert isinstance(value, (str, int, float)), value
    return value


def words() -> dict[str, Any]:
    found = {}
    for place, names in WHERE.items():
        module = importlib.import_module(f"nightporter.{place}")
        found[place] = {name: plain(getattr(module, name)) for name in names.split()}
    return found


def recorded() -> dict[str, Any]:
    """What is on record, without the kinds of errors that an older botocore doesn't know."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    for name, kinds in found["stores.aws_errors"].items():
        value = getattr(aws_errors, name)
        if isinstance(value, tuple) and all(isinstance(kind, type) for kind in value):
            found["stores.aws_errors"][name] = [
                kind for kind in kinds if hasattr(botocore.exceptions, kind)
            ]
    return found


def test_words_of_others_are_as_recorded() -> None:
    assert json.loads(json.dumps(words())) == recorded()


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(words(), indent=1, sort_keys=True) + "\n")
