"""nightporter: vendor credentials in, access tokens out, one session for many machines.

Importing this package imports no third-party package and next to nothing of the standard library; each name below is
loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightporter.errors import (
        ConfigError,
        CredentialsRefusedError,
        HostNotAllowedError,
        IssuerError,
        LoginRequiredError,
        NightporterError,
        StoreError,
    )
    from nightporter.model import Token
    from nightporter.wiring import Porter, load_config

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "CredentialsRefusedError",
    "HostNotAllowedError",
    "IssuerError",
    "LoginRequiredError",
    "NightporterError",
    "Porter",
    "StoreError",
    "Token",
    "get_token",
    "load_config",
]

_HOMES = {"Porter": "nightporter.wiring", "load_config": "nightporter.wiring", "Token": "nightporter.model"}
_porter: Porter | None = None


def get_token(
    profile: str | None = None,
    *,
    min_ttl: float | None = None,
    force_refresh: bool = False,
    timeout: float = 30.0,
) -> Token:
    """An access token of the profile, from the configuration in its usual places; see `Porter.get_token`."""
    global _porter
    if _porter is None:
        from nightporter.wiring import Porter

        _porter = Porter()
    return _porter.get_token(profile, min_ttl=min_ttl, force_refresh=force_refresh, timeout=timeout)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nightporter' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "nightporter.errors")), name)
