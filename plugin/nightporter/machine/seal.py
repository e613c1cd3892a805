"""Seals what is on this machine's disk with a key that the desktop's keyring holds: a disk that
is read elsewhere tells nothing then.

The key (Fernet: AES-128-CBC with HMAC-SHA256) is made at the first use. Where the keyring can't be
asked (cron, no D-Bus, locked) nothing can be read: that is what was wanted. Who can ask the user's
keyring can open the seal, so it holds against a lost disk and a copied backup, and not against a
program of the user's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from nightporter.core.errors import ConfigError, StoreDeniedError
from nightporter.machine.files import make_directories, open_lock

SERVICE = "nightporter-seal"
KEY_NAME = "key"
LOCK_S = 10.0
T = TypeVar("T")


class KeyringSeal:
    """`directory`: where the lock lies under which the key is made, so that two processes make
    one."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fernet: Any = None

    def close(self, content: bytes) -> str:
        """Returns the content, sealed.

        Raises: StoreDeniedError, ConfigError.
        """
        return str(self._opened(makes_key=True).encrypt(content).decode())

    def open(self, sealed: str) -> bytes:
        """Returns what was sealed.

        Raises: StoreDeniedError where the keyring has no key, or another one; ConfigError.
        """
        from cryptography.fernet import InvalidToken  # deferred: as all of it, an optional library

        try:
            return bytes(self._opened(makes_key=False).decrypt(sealed.encode()))
        except (InvalidToken, UnicodeError) as exc:
            raise StoreDeniedError(
                "what is sealed can't be opened with the key in the keyring",
                hint=(
                    "Unlock the keyring that it was sealed with; if that is gone, remove the file"
                    " and begin again: `nightporter credentials set PROFILE`."
                ),
            ) from exc

    def _opened(self, *, makes_key: bool) -> Any:
        if self._fernet is None:
            try:
                import keyring
                from cryptography.fernet import Fernet
            except ImportError as exc:
                from nightporter.machine.installation import (
                    library_hint,  # deferred: only a failure
                )

                raise ConfigError(
                    f"`seal` needs the package {exc.name!r}, which is not installed",
                    hint=library_hint("keyring cryptography"),
                ) from exc
            key = self._key(keyring, Fernet.generate_key, makes_key=makes_key)
            self._fernet = Fernet(key)
        return self._fernet

    def _key(self, ring: Any, make: Callable[[], bytes], *, makes_key: bool) -> str:
        found = _asked(lambda: ring.get_password(SERVICE, KEY_NAME))
        if found or not makes_key:
            return found or _missing()
        make_directories(self._directory)
        lock = os.path.join(self._directory, ".seal.lock")
        with open_lock(lock, deadline=time.monotonic() + LOCK_S):
            found = _asked(lambda: ring.get_password(SERVICE, KEY_NAME))
            if not found:
                key = make().decode()
                _asked(lambda: ring.set_password(SERVICE, KEY_NAME, key))
                found = _asked(lambda: ring.get_password(SERVICE, KEY_NAME))
        return found or _missing()


def _missing() -> str:
    """Raises: StoreDeniedError."""
    raise StoreDeniedError(
        "the desktop's keyring holds no key for what is sealed",
        hint=(
            "Run it as the user who sealed it, at their desktop. If the key is gone for good,"
            " remove the file and begin again: `nightporter credentials set PROFILE`."
        ),
    )


def _asked(call: Callable[[], T]) -> T:
    """keyring's backends raise whatever D-Bus and the systems raise."""
    try:
        return call()
    except Exception as exc:
        raise StoreDeniedError(
            f"the desktop's keyring can't be asked ({type(exc).__name__})",
            hint="Unlock the keyring; without a desktop leave `seal` out of the store.",
        ) from exc
