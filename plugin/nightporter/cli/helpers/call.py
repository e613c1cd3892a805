"""What every helper does at the edge: find the profile for a host, get its token, note what goes
wrong.

Many clients keep a helper's failure to themselves, so each one is noted for `status` and `doctor`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nightporter.cli.terminal import Options, OutputError, Served, leave_reply, open_porter
from nightporter.client.broker import DEFAULT_TIMEOUT_S, Broker
from nightporter.client.identity import open_helper_failures
from nightporter.client.porter import Porter
from nightporter.core.config import choose_profile
from nightporter.core.errors import ConfigError, HostNotAllowedError, NightporterError
from nightporter.core.hosts import (
    BadAskError,
    Rule,
    Target,
    could_mean,
    profile_for,
    rules_of,
)
from nightporter.core.model import Profile, Token
from nightporter.machine.client_input import LateInputError, read_lines, read_message, wait_of
from nightporter.machine.helper_failures import HelperFailure
from nightporter.machine.places import read_environment
from nightporter.protocols import plain

MAX_BYTES = 1 << 20
T = TypeVar("T")


class HelperCall:
    """One run of a helper. `is_ours`: the host is known to be in some `hosts`, so a failure is ours
    to report."""

    def __init__(self, protocol: str, porter: Porter, options: Options, timeout_s: float) -> None:
        self.porter = porter
        self.protocol = protocol
        self.is_ours = False
        self.profile: Profile | None = None
        self._options = options
        self._default_timeout_s = timeout_s

    def asked(self, parse: Callable[[], T]) -> T | None:
        """What the client asks; None where that can't be read and is not for one of our hosts.

        Raises: BadAskError where it could be ours, or where nothing tells.
        """
        try:
            return parse()
        except BadAskError as exc:
            profiles = self.porter.config.profiles.values()
            if exc.address is None or could_mean(exc.address, profiles):
                raise
            return None

    def broker_for(self, target: Target, only: str | None = None) -> Broker | None:
        """The broker of the one profile that may answer; None where the host is not ours (or of
        profile `only`).

        Raises: ConfigError for a host that two profiles name.
        """
        try:
            profile = profile_for(target, self.porter.config.profiles)
        except ConfigError:
            self.is_ours = True
            raise
        if profile is None or only not in (None, profile.name):
            return None
        return self._take(profile)

    def broker_of(self, name: str | None) -> Broker:
        """The broker of a profile that the client's configuration names.

        Raises: ConfigError.
        """
        return self._take(choose_profile(self.porter.config, name))

    def _take(self, profile: Profile) -> Broker:
        self.profile, self.is_ours = profile, True
        return self.porter.broker_for(profile.name)

    def token(self, broker: Broker) -> Token:
        """An access token.

        Raises: NightporterError.
        """
        timeout_s = self._options.timeout_s(self._default_timeout_s)
        token = broker.access_token(timeout_s=timeout_s)
        open_helper_failures(read_environment()).drop(
            self.protocol, broker.profile.name, time.time()
        )
        return token

    def leave_reply(self, broker: Broker, token: Token, reply: str, given: bytes | None) -> None:
        """For the next ask that is the same to the byte, where the answer hangs on nothing else.
        `given`: None for a client that asks on the command line alone."""
        leave_reply(self._options, broker, Served(reply, token, given=given))

    def is_for(self, broker: Broker, username: str | None) -> bool:
        """Whether the client asks for the user that the profile answers for, or for none. Another
        one is noted, without its name (some people keep a token there): the client gets no answer,
        and nothing else would say why."""
        ours = broker.profile.helper_username
        if username in (None, "", ours):
            return True
        self.note(
            "other-user-name",
            f"it asked for another user name than {ours!r}, so it got no answer",
        )
        return False

    def note(self, reference: str, message: str) -> None:
        """Remembers a failure that the client may keep to itself."""
        name = self.profile.name if self.profile else None
        note_mishap(self.protocol, name, reference, message)


def note_mishap(protocol: str, profile: str | None, reference: str, message: str) -> None:
    """Keeps what a helper's client will not show, for `status` and `doctor`."""
    note = HelperFailure(
        protocol=protocol,
        profile=profile,
        at=int(time.time()),
        reference=reference,
        message=message,
    )
    open_helper_failures(read_environment()).keep(note)


@contextlib.contextmanager
def open_call(
    protocol: str, options: Options, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Iterator[HelperCall]:
    """Opens a helper call whose failures are noted on their way out.

    Raises: NightporterError, BadAskError.
    """
    call: HelperCall | None = None
    try:
        with open_porter(options, is_for_client=True) as porter:
            call = HelperCall(protocol, porter, options, timeout_s)
            yield call
    except NightporterError as exc:
        note_mishap(
            protocol,
            call.profile.name if call and call.profile else None,
            exc.reference,
            exc.message,
        )
        raise
    except BadAskError as exc:
        note_mishap(protocol, None, "bad-ask", f"a request was refused: {exc}")
        raise


def reported_expiry(broker: Broker, token: Token) -> int:
    """What the client is told: the real expiry less the profile's margin."""
    return plain.reported_expiry(token, min_ttl_s=broker.profile.min_ttl_s, now=time.time())


def rule_for(profile: Profile, target: Target) -> Rule:
    """The entry of `hosts` that names the target.

    Raises: HostNotAllowedError where none does.
    """
    for rule in rules_of(profile):
        if rule.matches(target):
            return rule
    raise HostNotAllowedError(f"{target.host} is not in `hosts` of profile {profile.name!r}")


def read_input(
    options: Options,
    limit: int = MAX_BYTES,
    *,
    wait_s: float = DEFAULT_TIMEOUT_S,
    ends_at_blank: bool = False,
) -> bytes:
    """The client's message, one byte beyond the limit at most; nothing where standard input is
    closed. `ends_at_blank`: an empty line ends it. `wait_s`: for its end, where the command line
    and the environment say nothing else.

    Raises: BadAskError where it doesn't end within the time that the command has.
    """
    try:
        return read_message(
            sys.stdin.buffer.fileno(),
            max_bytes=limit + 1,
            wait_s=wait_of(options.line, read_environment(), wait_s),
            ends_at_blank=ends_at_blank,
        )
    except io.UnsupportedOperation:  # it was read already, to look for a reply file
        return sys.stdin.buffer.read(limit + 1)
    except LateInputError as exc:
        raise BadAskError("it did not end in time") from exc
    except (AttributeError, OSError, ValueError):  # closed by the client, or not there at all
        return b""


def read_requests(options: Options, limit: int = MAX_BYTES) -> Iterator[bytes]:
    """Yields the lines of a conversation, each one byte beyond the limit at most. It ends with
    standard input, or where no line comes within the time that the command has."""
    with contextlib.suppress(AttributeError, OSError, ValueError, LateInputError):
        if not _has_descriptor():
            yield from iter(lambda: sys.stdin.buffer.readline(limit + 1), b"")
            return
        yield from read_lines(
            sys.stdin.buffer.fileno(),
            max_bytes=limit + 1,
            wait_s=wait_of(options.line, read_environment()),
        )


def _has_descriptor() -> bool:
    try:
        return sys.stdin.fileno() >= 0
    except io.UnsupportedOperation:  # a program that calls us in its own process
        return False


def write_output(text: str) -> None:
    """A whole answer, UTF-8 whatever the locale says. A client that has gone away is not our
    business.

    Raises: OutputError where it can't be written: some clients take nothing with exit 0 for an
    empty password.
    """
    try:
        sys.stdout.buffer.write(f"{text}\n".encode())
        sys.stdout.buffer.flush()
    except (OSError, ValueError, AttributeError) as exc:
        with contextlib.suppress(
            OSError
        ):  # else Python would complain once more while it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(exc, BrokenPipeError):
            raise OutputError(exc) from exc
