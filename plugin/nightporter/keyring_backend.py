"""A backend of the `keyring` library, for pip, uv, twine and others that use it (entry point
`keyring.backends`).

It answers for the hosts of `hosts` alone and leaves everything else to the next backend: None for a
question, and NotImplementedError for a change, which is how keyring's chainer moves on.
"""

from __future__ import annotations

from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential
from keyring.errors import PasswordDeleteError, PasswordSetError

from nightporter.cli.helpers.call import open_call
from nightporter.cli.helpers.keyring import broker_for, is_for_kubectl, owners_of
from nightporter.cli.terminal import Options, show_error
from nightporter.client.configuration import has_config
from nightporter.core.errors import ConfigError, NightporterError
from nightporter.core.hosts import BadAskError
from nightporter.machine.access_cache import KEYRING_SERVICE
from nightporter.machine.places import read_environment
from nightporter.machine.seal import SERVICE as SEAL_SERVICE
from nightporter.protocols.keyring import REFUSES_SET, deletion_hint, parse_service

OWN_SERVICES = (KEYRING_SERVICE, SEAL_SERVICE)  # our cache of tokens, and the key of sealed files


class NightporterKeyring(KeyringBackend):
    """Access tokens as passwords; the user name is the profile's `helper_username`."""

    # Above the desktop's own (5): a stale copy there is not preferred. Below the chainer (10),
    # which would yield else.
    priority = 9

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring leaves it bare

    def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
        """User name and token for an address or a bare host, None where it is not ours or can't
        be had."""
        named = None if service in OWN_SERVICES else parse_service(service)
        if named is None or is_for_kubectl():
            return None
        try:
            if not has_config(None, read_environment()):
                return None  # installed beside somebody's keyring, and not used
            with open_call("keyring", Options()) as call:
                broker = broker_for(call, named, username)
                if broker is None:
                    return None
                return SimpleCredential(broker.profile.helper_username, call.token(broker).value)
        except BadAskError:
            return None
        except NightporterError as exc:
            show_error(exc)
            return None

    def get_password(self, service: str, username: str) -> str | None:
        """The token alone."""
        found = self.get_credential(service, username)
        return found.password if found else None

    def set_password(self, service: str, username: str, password: str) -> None:
        """Refused for our hosts.

        Raises: PasswordSetError, NotImplementedError for hosts of others.
        """
        _profile_of(service)
        raise PasswordSetError(REFUSES_SET)

    def delete_password(self, service: str, username: str) -> None:
        """Refused for our hosts.

        Raises: PasswordDeleteError, NotImplementedError for hosts of others.
        """
        raise PasswordDeleteError(deletion_hint(_profile_of(service)))


def _profile_of(service: str) -> str:
    named = None if service in OWN_SERVICES else parse_service(service)
    try:
        found = owners_of(named) if named else []
    except ConfigError:
        found = []
    if not found:
        raise NotImplementedError
    return found[0].name
