"""What a cached token depends on: configuration, identity in the environment, credential files.

Contract, section 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

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
from nightporter.machine.lambda_time import is_lambda
from nightporter.machine.places import cache_directories, data_directory
from nightporter.stores import STORES

if TYPE_CHECKING:
    from nightporter.machine.helper_failures import HelperFailures


def identity_parts(profile: Profile, environment: Mapping[str, str]) -> object:
    """Returns all that a token of this profile depends on: configuration, identity in the
    environment, credential files."""
    store, description = profile.store, STORES[profile.store.type]
    names = [
        *description.identity_of(store.options),
        *description.secret_variables,
        *secret_variables(store),
    ]
    files = [os.path.expanduser(file) for file in credential_files(store, environment)]
    return (
        profile.issuer,
        repr(profile),
        [(name, environment.get(name)) for name in names],
        [(file, _file_state(file)) for file in files],
        _workload(profile, environment),
        description.place(store.options, data_directory()),
    )


def _workload(profile: Profile, environment: Mapping[str, str]) -> object:
    """Returns whom an assertion in a file is about; None where the profile names no such file."""
    if "client_assertion_file" not in profile.options:
        return None
    from nightporter.client.proofs import subject_of  # deferred: hardly any profile has one

    return subject_of(profile, environment)


def secret_variables(store: StoreConfig) -> list[str]:
    """Returns the variables of the user's own naming that hold a credential of the store."""
    return STORES[store.type].named_variables(store.options)


def credential_files(store: StoreConfig, environment: Mapping[str, str]) -> list[str]:
    """Returns the files, with `~`, from which the store's credentials come."""
    return list(STORES[store.type].credential_files(store.options, environment))


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

    Raises: ConfigError for a NIGHTPORTER_CACHE with an unknown value.
    """
    in_lambda = is_lambda(environment)
    kind = environment.get("NIGHTPORTER_CACHE", "off" if in_lambda else "file")
    if kind not in ("file", "keyring", "off"):
        raise ConfigError(
            "NIGHTPORTER_CACHE must be one of 'file', 'keyring', 'off'",
            hint="Set one of them, or unset the variable: `file` is the default.",
        )
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
    from nightporter.machine.helper_failures import HelperFailures  # deferred: for helpers alone

    return HelperFailures(open_notes(environment))


def open_notes(environment: Mapping[str, str]) -> Directory | Memory:
    """The place of small notes that are of no profile: where the cached tokens are, or nowhere."""
    if environment.get("NIGHTPORTER_CACHE") == "off" or is_lambda(environment):
        return Memory()
    return Directory(cache_directories(environment))
