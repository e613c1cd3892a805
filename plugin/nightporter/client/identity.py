"""What a cached token depends on: configuration, identity in the environment, credential files.

Contract, section 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile, StoreConfig
from nightporter.machine.access_cache import (
    AccessCache,
    Directory,
    Keyring,
    Memory,
    Place,
    cache_key,
)
from nightporter.machine.helper_failures import HelperFailures
from nightporter.machine.places import cache_directories, data_directory

IDENTITY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws-secrets-manager": (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    ),
    "vault": ("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "VAULT_CACERT"),
    "local": (),
}
ADDRESS_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws-secrets-manager": (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    ),
    "vault": ("VAULT_ADDR", "VAULT_NAMESPACE"),
    "local": (),
}


def record_place(profile: Profile, environment: Mapping[str, str]) -> object:
    """Which record in which store is meant, whoever asks: what a kept result must never be mistaken
    about."""
    names = ADDRESS_VARIABLES[profile.store.type]
    return (
        profile.store.type,
        sorted((key, repr(value)) for key, value in profile.store.options.items() if key != "auth"),
        [(name, environment.get(name)) for name in names],
        profile.refresh_token,
    )


def identity_parts(profile: Profile, environment: Mapping[str, str]) -> object:
    """All that a token of this profile depends on: configuration, identity in the environment,
    credential files."""
    names = [*IDENTITY_VARIABLES[profile.store.type], *secret_variables(profile.store)]
    files = [os.path.expanduser(file) for file in credential_files(profile.store, environment)]
    return (
        repr(profile),
        [(name, environment.get(name)) for name in names],
        [(file, _file_state(file)) for file in files],
        _local_directory(profile.store),
    )


def secret_variables(store: StoreConfig) -> list[str]:
    """Variables of the user's own naming that hold a credential of the store."""
    auth = store.options.get("auth", {})
    return [auth[key] for key in ("secret_id_env", "password_env") if key in auth]


def _local_directory(store: StoreConfig) -> str | None:
    return (
        os.path.expanduser(store.options.get("path", data_directory()))
        if store.type == "local"
        else None
    )


def credential_files(store: StoreConfig, environment: Mapping[str, str]) -> list[str]:
    if store.type == "aws-secrets-manager":
        return [
            environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
            environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        ]
    if store.type == "vault":
        auth = store.options.get("auth", {})
        named = [auth[key] for key in ("token_file", "secret_id_file") if key in auth]
        uses_home = (
            auth.get("method") == "token" and not named and not environment.get("VAULT_TOKEN")
        )
        return [*named, *(["~/.vault-token"] if uses_home else [])]
    return []


def _file_state(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def open_cache(
    profile: Profile, environment: Mapping[str, str], notify: Callable[[str], None]
) -> AccessCache:
    """The profile's cache under today's identity.

    Raises: ConfigError for a NIGHTPORTER_CACHE that is none of its words.
    """
    in_lambda = bool(environment.get("AWS_LAMBDA_FUNCTION_NAME"))
    kind = environment.get("NIGHTPORTER_CACHE", "off" if in_lambda else "file")
    if kind not in ("file", "keyring", "off"):
        raise ConfigError("NIGHTPORTER_CACHE must be one of 'file', 'keyring', 'off'")
    notes: Directory | Memory = (
        Memory() if kind == "off" else Directory(cache_directories(environment))
    )
    tokens: Place = Keyring(notify) if kind == "keyring" else notes
    return AccessCache(
        profile.name, cache_key(identity_parts(profile, environment)), tokens=tokens, notes=notes
    )


def open_helper_failures(environment: Mapping[str, str]) -> HelperFailures:
    """The notes of failures that clients kept to themselves: where the cached tokens are, or
    nowhere."""
    if environment.get("NIGHTPORTER_CACHE") == "off" or environment.get("AWS_LAMBDA_FUNCTION_NAME"):
        return HelperFailures(Memory())
    return HelperFailures(Directory(cache_directories(environment)))
