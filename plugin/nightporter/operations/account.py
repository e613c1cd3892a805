"""What a person does to a profile's account: write its credentials, bring a session, log out.

Each takes a broker, and leaves nothing of what went before in the caches of this machine.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping

from nightporter.client.broker import Broker
from nightporter.core.errors import (
    CommandLineError,
    ConfigError,
    NightporterError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.expiry import format_rfc3339
from nightporter.core.model import Profile, Role, Secret, SessionRecord
from nightporter.core.record import Unreadable
from nightporter.core.values import replace
from nightporter.machine.access_cache import drop_everywhere
from nightporter.machine.hand_over import sweep
from nightporter.machine.places import all_cache_directories, read_environment
from nightporter.operations.login import Person, log_in
from nightporter.session.port import ABSENT, KEEP_EXPIRY
from nightporter.session.proofs import METHOD as PRIVATE_KEY
from nightporter.session.repository import Session
from nightporter.stores.capabilities import Removable

# What the secret at `client` holds, where one is named.
CLIENT_MEMBERS = (
    *("client_id", "client_secret", "private_key", "key_id", "certificate"),
    "partner_id",
)
MEMBERS = ("username", "password", "useralias", *CLIENT_MEMBERS)
PEM_MEMBERS = ("private_key", "certificate")  # of several lines
MAX_REFRESH_TOKEN = 32_768
REVOKE_S = 10.0
STDIN_HINT = "Give it on standard input, or run the command at a terminal, where it asks."

Say = Callable[[str], None]


# Credentials.


def needs_secret(broker: Broker) -> bool:
    """Whether a session of this profile can't be without a credentials secret: a password, or a
    client's id."""
    profile = broker.profile
    if "client_id" in profile.options and not profile.grant.sends_password:
        return False
    return profile.signs_in_unattended or profile.needs_client


def check_has_secret(profile: Profile) -> Profile:
    """Raises: ConfigError where the profile names no secret."""
    if profile.credentials is None and profile.client is None:
        raise _nameless(profile)
    return profile


def _nameless(profile: Profile) -> ConfigError:
    return ConfigError(
        f"profile {profile.name!r} names no `credentials`",
        hint='Name the secret in the profile: credentials = "PATH".',
    )


def members_asked(profile: Profile) -> tuple[tuple[str, bool, bool], ...]:
    """What a person is asked for: a member, whether it is a secret, whether it must be there."""
    if "partner_id" in profile.vendor.options:
        return (("partner_id", False, True),)
    if profile.grant.sends_password:
        return (("username", False, True), ("password", True, True))
    if "client_assertion_file" in profile.options:
        return (("client_id", False, True),)
    if profile.options.get("token_endpoint_auth_method") == PRIVATE_KEY:
        raise ConfigError(
            f"profile {profile.name!r} proves itself by a private key, which is not typed",
            hint=(
                'Give JSON on standard input: {"client_id": "...", "private_key": "(PEM)"}, with'
                " key_id and certificate where the issuer wants them."
            ),
        )
    return (
        ("client_id", False, True),
        ("client_secret", True, profile.grant.needs_client_secret),
    )


def member_names(broker: Broker, timeout_s: float) -> tuple[list[str], list[str]]:
    """Returns the names of what the credentials secret holds, and what the profile needs and does
    not find in it. No value leaves.

    Raises: StoreError, SecretNotFoundError.
    """
    session, profile = broker.session, broker.profile
    found = session.load_credentials(session.runtime.monotonic() + timeout_s)
    needed = [name for name, _, is_needed in members_asked(profile) if is_needed]
    missing = [
        name
        for name in needed
        if getattr(found, name, None) is None and name not in profile.options
    ]
    stored = session.store.read(str(profile.credentials), timeout_s=timeout_s).value
    return sorted(stored if isinstance(stored, Mapping) else ()), missing


def has_session(broker: Broker, timeout_s: float) -> bool:
    """Whether the store holds a session of this identity that can be refreshed.

    Raises: StoreError.
    """
    session = broker.session
    record = _own_record(session, session.runtime.monotonic() + timeout_s)
    return record is not None and (
        record.expires_at is None or record.expires_at > session.runtime.clock()
    )


def _own_record(session: Session, deadline: float) -> SessionRecord | None:
    """The record, if it holds a refresh token of this identity."""
    record = session.read(deadline).record
    if (
        record is None
        or record.refresh_token is None
        or not record.identity.matches(session.identity(None))
    ):
        return None
    return record


def parse_members(text: str) -> dict[str, str]:
    """The members of a credentials secret from a JSON object.

    Raises: ConfigError, which never repeats a value.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not document:
        raise CommandLineError(
            'standard input must be a JSON object such as {"username": "...", "password": "..."}',
            hint=STDIN_HINT,
        )
    for name, value in document.items():
        if name not in MEMBERS:
            raise CommandLineError(
                f"standard input holds an unknown member; known are {', '.join(MEMBERS)}",
                hint="Leave the others out.",
            )
        text = value.replace("\n", "") if name in PEM_MEMBERS and isinstance(value, str) else value
        if not isinstance(text, str) or not text or not text.isprintable():
            raise CommandLineError(
                f"the member {name!r} on standard input must be a non-empty, printable string",
                hint=STDIN_HINT,
            )
    return document


def set_credentials(broker: Broker, members: Mapping[str, str], timeout_s: float, say: Say) -> None:
    """Writes the members to the profile's store, under the names that its secret uses, and forgets
    a refusal.

    Raises: ConfigError, StoreError.
    """
    profile, session = broker.profile, broker.session
    placed: dict[str, dict[str, str]] = {}
    for name, value in members.items():
        path = profile.client if profile.client and name in CLIENT_MEMBERS else profile.credentials
        if path is None:
            raise _nameless(profile)
        placed.setdefault(path, {})[profile.fields.get(name, name)] = value
    for path, named in placed.items():
        _write_members(session, path, named, timeout_s)
        session.records.emit("credentials-set", path=path, members=", ".join(named))
        say(f"wrote {', '.join(named)} to {path!r} in store {profile.store.name!r}")
    forget(broker)
    _clear_refusal(session, timeout_s, say)


def delete_credentials(broker: Broker, timeout_s: float, say: Say) -> None:
    """Removes the secrets of the profile from its store, and what this machine has cached of it.

    Raises: ConfigError, StoreError.
    """
    profile = broker.profile
    for path in dict.fromkeys(filter(None, (profile.credentials, profile.client))):
        with _written_by_another():
            note = _remove(broker.session, path, timeout_s)
        broker.note("credentials-deleted", path=path)
        say(f"removed {path!r} from store {profile.store.name!r}{f'; {note}' if note else ''}")
    forget(broker)


def _remove(session: Session, path: str, timeout_s: float) -> str:
    store = session.store
    if not isinstance(store, Removable):
        _delete(session, path, timeout_s)
        return ""
    deadline = session.runtime.monotonic() + timeout_s
    return session.with_retries(lambda call_s: store.remove(path, timeout_s=call_s), deadline)


def _write_members(
    session: Session, path: str, members: Mapping[str, str], timeout_s: float
) -> None:
    """By compare-and-set; others that the secret holds stay."""
    deadline = session.runtime.monotonic() + timeout_s

    def write(call_s: float) -> None:
        for _ in range(5):
            stored = session.store.read(path, timeout_s=call_s)
            if isinstance(stored.value, Unreadable):
                raise StoreValueError(f"{path}: {stored.value.reason}, and is not overwritten")
            there = stored.value or {}
            with contextlib.suppress(VersionConflictError):
                session.store.write(
                    path, {**there, **members}, stored.version, KEEP_EXPIRY, timeout_s=call_s
                )
                return
        raise StoreBusyError(f"{path}: another writer kept changing it")

    with _written_by_another():
        session.with_retries(write, deadline)


@contextlib.contextmanager
def _written_by_another() -> Iterator[None]:
    """No role may write or remove the credentials, so that the policy of this machine's role is no
    remedy for who is denied it."""
    try:
        yield
    except StoreDeniedError as exc:
        if exc.right:
            exc.hint = (
                "Run it as who may write the secret: `nightporter policy PROFILE --role"
                " credentials` prints that policy."
            )
        raise


def _clear_refusal(session: Session, timeout_s: float, say: Say) -> None:
    """Takes a remembered refusal out of the record: the credentials have changed, so it is about
    nothing.

    Not under another's claim, and no failure here is one of the command: a changed secret is tried
    at once anyway.
    """
    try:
        view = session.read(session.runtime.monotonic() + timeout_s)
        record = view.record
        if record is None or view.claim is not None:
            return
        if record.refused is None and not record.attempts and record.busy is None:
            return
        session.overwrite(view, replace(record, refused=None, attempts={}, busy=None))
    except StoreError as exc:
        say(f"the remembered refusal stays in the record, without effect: {exc.message}")


# Sessions.


def start_by_log_in(broker: Broker, person: Person, timeout_s: float) -> str | None:
    """A session by the profile's grant of a person: authorization code or device code. Returns
    whose session the issuer says it is, where it says so.

    Raises: as `login.log_in`.
    """
    record = log_in(broker.session, person, deadline=time.monotonic() + timeout_s)
    forget(broker)
    return record.told.who if record.told else None


def start_by_seed(broker: Broker, given: str, timeout_s: float) -> None:
    """A session from a refresh token that a person brings.

    Raises: ConfigError, StoreError.
    """
    text = given.strip()
    if not text or not text.isprintable() or len(text) > MAX_REFRESH_TOKEN:
        raise CommandLineError(
            "standard input must be a refresh token: one line of text",
            hint=f"Type it: `nightporter seed {broker.profile.name}` at a terminal, or pipe it in.",
        )
    session = broker.session
    session.store_login(
        Secret(text),
        issued_at=int(session.runtime.clock()),
        client=None,
        issued=None,
        deadline=time.monotonic() + timeout_s,
    )
    forget(broker)


def check(broker: Broker, timeout_s: float) -> str:
    """Exchanges once; until when the access token that came is good (RFC 3339).

    Raises: NightporterError.
    """
    found = broker.access_token(is_forced=True, timeout_s=timeout_s)
    return format_rfc3339(found.expires_at_s)


def forget(broker: Broker) -> int:
    """Drops what this machine holds of the profile, under any identity; how many files that
    were."""
    environment = read_environment()
    sweep(environment)
    dropped = drop_everywhere(broker.profile.name, all_cache_directories(environment))
    broker.forget()
    return dropped


def end_session(broker: Broker, timeout_s: float, say: Say) -> None:
    """Ends the session for all machines: revokes it where the issuer can, and deletes its records.

    Raises: StoreError.
    """
    profile, session = broker.profile, broker.session
    if profile.role is Role.READ_ONLY:
        raise ConfigError(
            f"profile {profile.name!r} is read-only: it has no session to end",
            hint="Run it where the profile has another role.",
        )
    _revoke(session, timeout_s, say)
    session.end(session.runtime.monotonic() + timeout_s)
    if profile.publish_access_token is not None:
        _delete(session, profile.publish_access_token, timeout_s)


def _revoke(session: Session, timeout_s: float, say: Say) -> None:
    """Tells the issuer, where it has an address for it (RFC 7009). What fails is said: the records
    go anyway."""
    deadline = session.runtime.monotonic() + timeout_s
    try:
        record = _own_record(session, deadline)
        if record is None or record.refresh_token is None:
            return
        client = session.load_client(deadline) if session.profile.needs_client else None
        request = session.issuer.revocation_request(
            session.addressed(deadline), record.refresh_token, client
        )
        if request is not None:
            answer = session.sender.send(request, timeout_s=REVOKE_S)
            say(
                "the issuer revoked the session"
                if answer.status == 200
                else f"not revoked ({answer.status})"
            )
    except NightporterError as exc:
        say(f"not revoked at the issuer: {exc.message}")


def _delete(session: Session, path: str, timeout_s: float) -> None:
    def call(call_s: float) -> None:
        stored = session.store.read(path, timeout_s=call_s)
        if stored.version != ABSENT:
            session.store.delete(path, stored.version, timeout_s=call_s)

    session.with_retries(call, session.runtime.monotonic() + timeout_s)
