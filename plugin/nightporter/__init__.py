"""nightporter: vendor credentials in, access tokens out, one session for many machines.

Importing this package imports no third-party package and next to nothing of the standard library;
each name below is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing, which costs more than this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nightporter.client.bearer import BearerAuth, httpx_auth
    from nightporter.client.configuration import load_config
    from nightporter.client.porter import Porter
    from nightporter.core.errors import (
        ConfigError,
        CredentialsRefusedError,
        HostNotAllowedError,
        IssuerError,
        LoginRequiredError,
        NightporterError,
        StoreError,
    )
    from nightporter.core.model import Token

__version__ = "1.0.0rc1"
__all__ = [
    "BearerAuth",
    "ConfigError",
    "CredentialsRefusedError",
    "HostNotAllowedError",
    "IssuerError",
    "LoginRequiredError",
    "NightporterError",
    "Porter",
    "StoreError",
    "Token",
    "aget_token",
    "default_porter",
    "get_token",
    "httpx_auth",
    "load_config",
]

_HOMES = {
    "BearerAuth": "nightporter.client.bearer",
    "Porter": "nightporter.client.porter",
    "Token": "nightporter.core.model",
    "httpx_auth": "nightporter.client.bearer",
    "load_config": "nightporter.client.porter",
}
_porter: Porter | None = None
_warm: dict[str | None, tuple[float, Token]] = {}
_warm_clock: Callable[[], float]  # there as soon as `_warm` holds something


def get_token(
    profile: str | None = None,
    *,
    min_ttl: float | None = None,
    force_refresh: bool = False,
    timeout: float = 30.0,
) -> Token:
    """An access token of the profile, from the configuration in its usual places; see
    `Porter.get_token`."""
    try:  # as in Porter.get_token, one call earlier: this is the path that programs live on
        until, token = _warm[profile]
        if until > _warm_clock() and min_ttl is None and not force_refresh:
            return token
    except KeyError:
        pass
    porter = _porter or default_porter()
    return porter.get_token(profile, min_ttl=min_ttl, force_refresh=force_refresh, timeout=timeout)


async def aget_token(
    profile: str | None = None,
    *,
    min_ttl: float | None = None,
    force_refresh: bool = False,
    timeout: float = 30.0,
) -> Token:
    """As `get_token`, without blocking the event loop. A cancelled caller leaves the exchange to
    end by itself."""
    porter = _porter or default_porter()
    return await porter.aget_token(
        profile, min_ttl=min_ttl, force_refresh=force_refresh, timeout=timeout
    )


def default_porter() -> Porter:
    """The porter behind `get_token`, opened when it is first needed."""
    global _porter, _warm, _warm_clock
    if _porter is None:
        from nightporter.machine.room import without_collector

        _porter = without_collector(_open_porter)
        _warm_clock, _warm = _porter.warm_clock, _porter.warm  # in this order, for other threads
    return _porter


def _open_porter() -> Porter:
    from nightporter.client.porter import Porter

    return Porter()


def __getattr__(name: str) -> Any:
    import importlib

    if name == "aws_lambda":
        return importlib.import_module("nightporter.aws_lambda")
    if name not in __all__:
        raise AttributeError(f"module 'nightporter' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "nightporter.core.errors")), name)
