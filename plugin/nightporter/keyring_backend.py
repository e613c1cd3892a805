"""A backend of the `keyring` library, for pip, uv, twine and others that use it (entry point
`keyring.backends`).

It answers for the hosts of `hosts` alone and leaves everything else to the next backend: None for a
question, and NotImplementedError for a change, which is how keyring's chainer moves on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential
from keyring.errors import PasswordDeleteError, PasswordSetError

from nightporter.cli.helpers.call import HelperCall, note_mishap, open_call
from nightporter.cli.terminal import Options, say
from nightporter.client.broker import Broker
from nightporter.client.configuration import has_config, load_config
from nightporter.client.identity import open_notes
from nightporter.core.errors import ConfigError, NightporterError
from nightporter.core.hosts import (
    DEFAULT_PORTS,
    BadAskError,
    Target,
    parse_target,
    profile_for,
    profiles_for,
)
from nightporter.core.model import Profile
from nightporter.machine.access_cache import KEYRING_SERVICE
from nightporter.machine.places import read_environment
from nightporter.machine.plain_asks import PlainAsks
from nightporter.machine.seal import SERVICE as SEAL_SERVICE

PLAIN_HTTP = (
    "host-not-allowed",
    "it asked for a host of `hosts` by plain http, so it got no answer",
)


class NightporterKeyring(KeyringBackend):
    """Access tokens as passwords; the user name is the profile's `helper_username`."""

    # Above the desktop's own (5): a stale copy there is not preferred. Below the chainer (10),
    # which would yield else.
    priority = 9

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring leaves it bare
        self._plain = PlainAsks(open_notes(read_environment()))

    def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
        """User name and token for an address or a bare host, None where it is not ours or can't
        be had."""
        if service in (
            KEYRING_SERVICE,
            SEAL_SERVICE,
        ):  # our own cache of tokens, with NIGHTPORTER_CACHE=keyring
            return None
        address, named = _without_user(service)
        try:
            target = parse_target(address, has_path=True)
        except BadAskError:
            return None  # many services are no hosts at all
        try:
            if not has_config(None, read_environment()):
                return None  # installed beside somebody's keyring, and not used
            with open_call("keyring", Options()) as call:
                return self._answer(call, address, target, username or named)
        except NightporterError as exc:
            say(f"{exc.message} [{exc.reference}]")
            return None

    def _answer(
        self, call: HelperCall, address: str, target: Target, username: str | None
    ) -> SimpleCredential | None:
        is_bare = "://" not in address
        if is_bare and self._plain.is_recent(target.authority, time.time()):
            return None
        found = _credential(call, target, username)
        if found is None and target.scheme == "http":
            self._note_plain_http(call, address)
        return found

    def _note_plain_http(self, call: HelperCall, address: str) -> None:
        """Remembers the host of an `http://` address as pip and uv ask for it next, bare: they
        would send the token there in clear."""
        profiles = call.porter.config.profiles.values()
        for bare in _bare_spellings(address):
            for profile in profiles_for(bare, profiles):
                self._plain.note(bare.authority, time.time())
                note_mishap("keyring", profile.name, *PLAIN_HTTP)

    def get_password(self, service: str, username: str) -> str | None:
        """The token alone."""
        found = self.get_credential(service, username)
        return found.password if found else None

    def set_password(self, service: str, username: str, password: str) -> None:
        """Refused for our hosts.

        Raises: PasswordSetError, NotImplementedError for hosts of others.
        """
        _profile_for(service)
        raise PasswordSetError("nightporter stores no passwords: it fetches tokens itself")

    def delete_password(self, service: str, username: str) -> None:
        """Refused for our hosts.

        Raises: PasswordDeleteError, NotImplementedError for hosts of others.
        """
        profile = _profile_for(service)
        raise PasswordDeleteError(f"use `nightporter logout {profile.name}`")


def _without_user(service: str) -> tuple[str, str | None]:
    """The address without the user name that some tools leave in it, and that name."""
    scheme, separator, rest = service.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if not (separator and at) or ":" in user or "@" in user:
        return service, None
    return f"{scheme}://{rest[len(user) + 1 :]}", unquote(user)


def _bare_spellings(address: str) -> Iterator[Target]:
    """Yields what a client can mean by the bare host of an `http://` address, which is taken for
    https: with its port as written, and without http's own."""
    parts = urlsplit(address)
    for host in {parts.netloc, parts.netloc.removesuffix(f":{DEFAULT_PORTS['http']}")}:
        yield parse_target(host)


def _credential(call: HelperCall, target: Target, username: str | None) -> SimpleCredential | None:
    broker: Broker | None = call.broker_for(target)
    if broker is None or not call.is_for(broker, username):
        return None
    return SimpleCredential(broker.profile.helper_username, call.token(broker).value)


def _profile_for(service: str) -> Profile:
    try:
        found = profile_for(parse_target(service, has_path=True), load_config().profiles)
    except (BadAskError, ConfigError):
        found = None
    if found is None or service == KEYRING_SERVICE:
        raise NotImplementedError
    return found
