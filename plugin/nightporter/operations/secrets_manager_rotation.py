"""Secrets Manager's own rotation of a session record: createSecret, setSecret, testSecret,
finishSecret.

For issuers that sign in with a password and whose refresh tokens are reused; any other could not
have a second, pending session beside the current one. Each step may be run again, at any time. The
sign-in goes through the session room like every other, under its claim and straight into the
current record, so that no step can lose it; AWSPENDING is a copy that the later steps test and
promote. Documents: Secrets Manager user guide, "Rotation by Lambda function".
"""

from __future__ import annotations

from nightporter.client.broker import Broker
from nightporter.core.errors import (
    ClaimBusyError,
    ConfigError,
    SessionRejectedError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.model import Ask, Config, Profile, Role, SessionRecord
from nightporter.core.record import parse_session, render_session
from nightporter.core.values import dataclass, field, replace
from nightporter.issuers.oauth import Call
from nightporter.session import effects
from nightporter.session.effects import Flow
from nightporter.session.lease import Lease
from nightporter.session.port import Version
from nightporter.session.transitions import Snapshot
from nightporter.stores.capabilities import Staged
from nightporter.stores.secrets_manager_description import TYPE as SECRETS_MANAGER

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
RETRY_WITHIN_S = 15 * 60  # a sign-in as young as this was an earlier try of the same rotation
AGAIN_HINT = "Begin another rotation: `aws secretsmanager rotate-secret --secret-id SECRET`."
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotating:
    """One rotation: of a profile's record, towards the version `version_id` (the event's
    ClientRequestToken)."""

    broker: Broker
    store: Staged
    path: str
    version_id: str
    deadline: float
    rotation_token: str | None = field(default=None, repr=False)

    def run(self, step: str) -> str:
        """Does one step; a word for what it came to.

        Raises: ConfigError for a step that is none, StoreError, IssuerError,
        CredentialsRefusedError.
        """
        labels = self.store.stages(self.path).get(self.version_id)
        if labels is None:
            raise ConfigError(
                f"{self.path} has no version of the id that the event names", hint=AGAIN_HINT
            )
        if CURRENT in labels:
            return "done before"
        if PENDING not in labels:
            raise ConfigError(
                f"the version that the event names has no label {PENDING}", hint=AGAIN_HINT
            )
        if step == "createSecret":
            return self._create()
        if step == "setSecret":
            return (  # the vendor has no place for it: a session is set by signing in
                "nothing to set"
            )
        if step == "testSecret":
            return self._test()
        return self._finish()

    def _create(self) -> str:
        if self.store.read_version(self.path, self.version_id) is not None:
            return "created before"
        session = self.broker.session
        record = self._usable(session.read(self.deadline))
        is_young = (
            record is not None
            and session.runtime.clock() - (record.issued_at or 0) < RETRY_WITHIN_S
        )
        if not is_young:
            ask = Ask(
                deadline=self.deadline,
                is_forced=True,
                is_sign_in=True,
                is_refused=self.broker.cache.is_refused,
            )
            self.broker.exchange(ask)
            record = self._usable(session.read(self.deadline))
        if record is None:
            raise StoreValueError(
                f"{self.path}: the new session can't be read back yet; the step will be run again"
            )
        self.store.write_pending(
            self.path,
            self.version_id,
            render_session(replace(record, claim=None)),
            rotation_token=self.rotation_token,
        )
        return "created"

    def _usable(self, view: Snapshot) -> SessionRecord | None:
        record = view.record
        is_ours = record is not None and record.identity.matches(self.broker.session.identity(None))
        return record if is_ours and record and record.refresh_token else None

    def _pending(self) -> SessionRecord:
        value = self.store.read_version(self.path, self.version_id)
        record = parse_session(value) if value is not None else None
        if not isinstance(record, SessionRecord) or record.refresh_token is None:
            raise StoreValueError(
                f"{self.path}: {PENDING} holds no session", hint="Run the rotation again."
            )
        return record

    def _test(self) -> str:
        """One refresh with the pending token, which the vendor lets be used again."""
        session, record = self.broker.session, self._pending()
        if self._is_overtaken(session.read(self.deadline), record):
            return self._give_way()
        assert record.refresh_token is not None
        profile = session.addressed(self.deadline)
        client = session.load_client(self.deadline) if profile.needs_client else None
        request = session.issuer.refresh_request(profile, record.refresh_token, client)
        session.runtime.check_exchange(False)
        left_s = max(0.5, min(10.0, self.deadline - session.runtime.monotonic()))
        try:
            session.issuer.parse(session.sender.send(request, timeout_s=left_s), Call.REFRESH)
        except SessionRejectedError as exc:
            # Else every later rotation would be resumed with it: AWS goes on with the version that
            # has the label.
            self.store.drop_pending(self.path, self.version_id)
            raise StoreValueError(
                f"{self.path}: the issuer refuses the session that {PENDING} held; the label is"
                " taken off",
                hint="The next rotation begins again.",
            ) from exc
        return "tested"

    def _is_overtaken(self, view: Snapshot, pending: SessionRecord) -> bool:
        """Whether a later session is current, or the session was ended by a person (a logout
        everywhere).

        Raises: StoreValueError where the current record is another's.
        """
        if view.foreign is not None:
            raise StoreValueError(
                f"{self.path}: the current record is not this profile's: {view.foreign.reason}"
            )
        if view.record is None:
            return view.version.floor >= pending.generation
        return view.record.generation > pending.generation

    def _give_way(self) -> str:
        self.store.drop_pending(self.path, self.version_id)
        return "overtaken"

    def _finish(self) -> str:
        """Moves AWSCURRENT, under a claim, unless somebody's later session is current: then that
        one stays."""
        return self.broker.session.run(self._finishing(self._pending()))

    def _finishing(self, pending: SessionRecord) -> Flow[str]:
        session = self.broker.session
        runtime, lease = session.runtime, Lease(session.records)
        while runtime.monotonic() < self.deadline:
            snapshot = yield from session.records.reading(self.deadline)
            if self._is_overtaken(snapshot, pending):
                return self._give_way()
            if session.is_claim_alive(snapshot):
                yield from effects.sleeping(runtime.uniform(0.3, 0.7))
                continue
            base = replace(snapshot.record or pending, claim=None)
            held = yield from lease.taking(
                snapshot,
                base,
                base=base,
                purpose=Call.SIGN_IN,
                deadline=self.deadline,
                is_takeover=snapshot.claim is not None,
            )
            if held is not None and self._move(held.version, pending):
                return "finished"
            yield from effects.sleeping(runtime.uniform(0.1, 0.3))
        raise ClaimBusyError(f"{self.path}: other machines kept exchanging the session")

    def _move(self, held: Version, pending: SessionRecord) -> bool:
        """Makes the pending version current in the place of our claim; False where somebody has
        taken that over."""
        try:
            self.store.move_current(self.path, self.version_id, held.token)
        except VersionConflictError:
            return False
        self.store.fence(self.path, held.token, render_session(pending))
        self.store.drop_pending(self.path, self.version_id)
        return True


def profile_of(config: Config, secret_id: str) -> Profile:
    """The profile whose session record the secret is.

    Raises: ConfigError, with the reason, where there is none or its sessions can't be rotated so.
    """
    name = secret_id
    if secret_id.startswith("arn:"):
        name = secret_id.split(":", 6)[-1][
            :-7
        ]  # ARNs end in a dash and six characters that AWS chose
    found = [
        profile
        for profile in config.profiles.values()
        if profile.store.type == SECRETS_MANAGER and profile.refresh_token in (name, secret_id)
    ]
    if not found:
        raise ConfigError(
            "the secret of the event is the session record of no profile",
            hint=(
                "Rotate the secret that a profile's `refresh_token` names, not the one with the"
                " password."
            ),
        )
    profile = next((item for item in found if item.role is Role.FULL), found[0])
    if profile.role is not Role.FULL or not profile.grant.sends_password:
        raise ConfigError(
            f"profile {profile.name!r} can't sign in with a password, which this rotation does",
            hint="Schedule `nightporter rotate` (rotate_handler) instead.",
        )
    if profile.is_exclusive:
        raise ConfigError(
            f"the refresh tokens of profile {profile.name!r} rotate or are shared, so there can't"
            " be a second session that waits to be tested",
            hint="Schedule `nightporter rotate` (rotate_handler) instead.",
        )
    return profile
