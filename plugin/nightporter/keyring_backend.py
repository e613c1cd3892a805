"""A backend of the `keyring` library, for pip, uv, twine and others that use it (entry point
`keyring.backends`).

It answers for the hosts of `hosts` alone and leaves everything else to the next backend: None for a
question, and NotImplementedError for a change, which is how keyring's chainer moves on.
"""

from __future__ import annotations

import time
from urllib.parse import unquote

from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential
from keyring.errors import PasswordDeleteError, PasswordSetError

from nightporter.cli.helpers.call import HelperCall, open_call
from nightporter.cli.terminal import Options, say
from nightporter.client.broker import Broker
from nightporter.client.configuration import has_config, load_config
from nightporter.core.errors import ConfigError, NightporterError
from nightporter.core.hosts import BadAskError, Target, parse_target, profile_for
from nightporter.core.model import Profile
from nightporter.machine.access_cache import KEYRING_SERVICE
from nightporter.machine.places import read_environment
from nightporter.machine.seal import SERVICE as SEAL_SERVICE

PLAIN_S = 60.0


class NightporterKeyring(KeyringBackend):
    """Access tokens as passwords; the user name is the profile's `helper_username`."""

    # Above the desktop's own (5): a stale copy there is not preferred. Below the chainer (10),
    # which would yield else.
    priority = 9

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring leaves it bare
        self._plain: dict[str, float] = {}  # hosts that were asked for by plain http, and when

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
        if self._follows_plain_http(service, target):
            return None
        try:
            if not has_config(None, read_environment()):
                return None  # installed beside somebody's keyring, and not used
            with open_call("keyring", Options()) as call:
                return _credential(call, target, username or named)
        except NightporterError as exc:
            say(f"{exc.message} [{exc.reference}]")
            return None

    def _follows_plain_http(self, service: str, target: Target) -> bool:
        """Whether a bare host is asked for just after an `http://` address of it: pip and uv would
        send the token there in clear."""
        now = time.monotonic()
        if target.scheme == "http":
            self._plain[target.authority] = now
        is_bare = "://" not in service
        return is_bare and now - self._plain.get(target.authority, -PLAIN_S) < PLAIN_S

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
