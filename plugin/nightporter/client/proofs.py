"""What a client without a shared secret needs of this machine: the file that its workload's
assertion is in, and the library that signs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile, Secret, is_token_text
from nightporter.core.told import members_of
from nightporter.issuers import assertions
from nightporter.machine.places import expand
from nightporter.machine.trust import check_named_file

KEY = "client_assertion_file"
MAX_BYTES = 65_536


def assertion_reader(environment: Mapping[str, str]) -> Callable[[Profile], Secret]:
    """Returns what reads a profile's assertion.

    Raises (when it is called): ConfigError.
    """

    def read(profile: Profile) -> Secret:
        source = f"profiles.{profile.name}.{KEY}"
        file = expand(str(profile.options[KEY]), source)
        check_named_file(file, source, environment)
        try:
            with open(file, "rb") as opened:
                content = opened.read(MAX_BYTES + 1)
        except OSError as exc:
            raise ConfigError(
                f"{source}: {file} can't be read ({exc.strerror})",
                hint="See that the token is mounted there, or correct the path in the profile.",
            ) from exc
        text = content.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        if not is_token_text(text) or len(content) > MAX_BYTES:
            raise ConfigError(
                f"{source}: {file} holds no assertion: one line of visible characters",
                hint="See that what writes the token (kubelet, a CI) does so.",
            )
        return Secret(text)

    return read


def sign(*given: Any, **keys: Any) -> Secret:
    """As `assertions.sign`; the library is an extra.

    Raises: ConfigError where it is not installed.
    """
    try:
        return assertions.sign(*given, **keys)
    except ModuleNotFoundError as exc:
        from nightporter.machine.installation import library_hint  # deferred: only a failure

        raise ConfigError(
            f"a client with a private key needs the package {assertions.LIBRARY!r}, which is not"
            " installed",
            hint=library_hint(assertions.LIBRARY),
        ) from exc


def subject_of(profile: Profile, environment: Mapping[str, str]) -> object:
    """Returns whom the assertion in the profile's file is about: a cached token is another
    workload's where that changes, and not where the same one has been given a fresh assertion."""
    if KEY not in profile.options:
        return None
    try:
        text = assertion_reader(environment)(profile).reveal()
    except ConfigError:
        return None
    members = members_of(text)
    about = text if members is None else repr([members.get(name) for name in ("iss", "sub")])
    return hashlib.sha256(about.encode()).hexdigest()
