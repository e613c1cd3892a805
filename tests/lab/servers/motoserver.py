"""moto's server, with what it does wrong about labels mended and every operation under one lock.

After a label move its default read returns the old value, and it races with itself. Run as a
program it serves on 127.0.0.1 and the port that is its argument.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from moto.secretsmanager.models import SecretsManagerBackend
from moto.server import main

_LOCK = threading.RLock()
_OPERATIONS = (
    "create_secret",
    "put_secret_value",
    "update_secret",
    "update_secret_version_stage",
    "get_secret_value",
    "describe_secret",
    "delete_secret",
    "tag_resource",
)


def _mended(operation: Callable[..., Any], moves_labels: bool) -> Callable[..., Any]:
    def run(self: SecretsManagerBackend, *args: Any, **kwargs: Any) -> Any:
        with _LOCK:
            answer = operation(self, *args, **kwargs)
            if moves_labels:
                secret = self.secrets[kwargs.get("secret_id") or args[0]]
                for version_id, version in secret.versions.items():
                    if "AWSCURRENT" in version["version_stages"]:
                        secret.default_version_id = version_id  # type: ignore[misc]  # a replica has none of its own
            return answer

    return run


if __name__ == "__main__":
    for name in _OPERATIONS:
        mended = _mended(
            getattr(SecretsManagerBackend, name), name == "update_secret_version_stage"
        )
        setattr(SecretsManagerBackend, name, mended)
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
