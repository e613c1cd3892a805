"""AWS Secrets Manager, through boto3 (`aws.py`). AWS's words (SecretId, VersionStage) stay here.

Compare-and-set, where the service has none for values: the id of a write (`ClientRequestToken`) is
derived from the version that it follows. PutSecretValue is atomic and takes each id once, so of all
our writers that follow one version exactly one wins and the others get ResourceExistsException; a
repetition of one's own bytes succeeds again. An id is never counted up by itself: "the child isn't
AWSCURRENT" is also what a writer sees that slept through two generations.

What it can't do: it fences our writers, not a hand edit; two writers with equal bytes may both be
told that they won (claims carry a nonce); AWSCURRENT can't be removed, so a deletion is a
tombstone, and DeleteSecret blocks the name for days. All operations are eventually consistent: a
read may be old, the collision is the authority. Documents: Secrets Manager API Reference
(PutSecretValue, CreateSecret, UpdateSecretVersionStage) and its quotas.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from nightporter.core.errors import StoreDeniedError, StoreValueError, VersionConflictError
from nightporter.core.limits import LAST_GENERATION
from nightporter.core.record import Unreadable, is_expired
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.stores.aws import DEFAULT_S, Connection
from nightporter.stores.aws_errors import NotFoundError, unreadable_answer
from nightporter.stores.encoding import encode_value

RECOVERY_DAYS = 30  # AWS's own default
NAMESPACE = uuid.UUID("6f1d1f0e-9a35-5c36-8d0b-3f2f6e6f7a11")
# the version of a secret that exists, but was never given a value (Terraform makes such)
NO_VALUE = "no-value"
VERSIONS_PER_DAY = 100  # unlabelled versions beyond 100 are pruned, but none under 24 hours old


def derived_id(parent: str, arn: str = "") -> str:
    """Returns the ClientRequestToken of the write that follows `parent` (a VersionId, or the name
    of a secret to create).

    `arn` is the secret's own, which ends in letters that are new at each creation: the versions of
    a secret that was deleted and made again are others.
    """
    return str(uuid.uuid5(NAMESPACE, f"{parent}\0{arn}" if arn else parent))


class SecretsManagerStore:
    """Session records as versions of secrets in AWS Secrets Manager. A version's id is derived from
    its parent, so one of two writers wins (field notes, section 2)."""

    versions_per_day: int | None = VERSIONS_PER_DAY

    def __init__(
        self,
        options: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._notify = notify
        self._connection = Connection(options, environment or {})

    def read(self, path: str, *, timeout_s: float) -> Stored:
        try:
            reply = self._read_current(path, timeout_s)
        except NotFoundError as exc:
            return Stored(None, Version(NO_VALUE) if exc.has_secret else ABSENT)
        token, arn = str(reply["VersionId"]), str(reply.get("ARN", ""))
        written_at, now = _seconds(reply.get("CreatedDate")), _date_of(reply)
        value = _value_of(reply)
        if value is None:
            unreadable = Unreadable(reason=f"the secret {path} holds no JSON object")
            return Stored(unreadable, Version(token, 0, arn), written_at=written_at, now=now)
        version = Version(token, _generation(value), arn)
        is_deleted = value.get("deleted") is True
        is_over = is_expired(value, self._clock() if now is None else now)
        return Stored(
            None if is_deleted or is_over else value,
            version,
            expired=value if is_over and not is_deleted else None,
            written_at=written_at,
            now=now,
        )

    def write(
        self,
        path: str,
        value: Mapping[str, Any],
        expected_version: Version,
        expires_at: int | KeepExpiry | None,
        *,
        timeout_s: float,
    ) -> Version:
        # There is no TTL here: the expiry inside the value is enforced at every read.
        text = encode_value(path, value)
        is_new = expected_version.token == ABSENT.token
        if is_new or expected_version.token == NO_VALUE:
            token = derived_id(path)
        else:
            token = derived_id(expected_version.token, expected_version.proof)
        if is_new:
            reply = self._create(path, text, token, timeout_s)
        else:
            reply = self._put(path, timeout_s, ClientRequestToken=token, SecretString=text)
        return Version(token, _generation(value), str(reply.get("ARN", "")))

    def _create(self, path: str, text: str, token: str, timeout_s: float) -> Mapping[str, Any]:
        members = {"Name": path, "ClientRequestToken": token, "SecretString": text}
        if "kms_key_id" in self._options:
            members["KmsKeyId"] = self._options["kms_key_id"]
        reply: Mapping[str, Any] = self._connection.ask(
            "secretsmanager:CreateSecret",
            path,
            lambda client: client.create_secret(Description="Kept by nightporter", **members),
            timeout_s=timeout_s,
        )
        return _checked(reply)

    def _put(self, path: str, timeout_s: float, **members: Any) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._connection.ask(
            "secretsmanager:PutSecretValue",
            path,
            lambda client: client.put_secret_value(SecretId=path, **members),
            timeout_s=timeout_s,
        )
        return _checked(reply)

    def _read_current(self, path: str, timeout_s: float) -> Mapping[str, Any]:
        # The label is named: a default read is right on AWS, but not on every stand-in for it.
        return self._get(path, timeout_s, VersionStage="AWSCURRENT")

    def _get(self, path: str, timeout_s: float, **members: Any) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._connection.ask(
            "secretsmanager:GetSecretValue",
            path,
            lambda client: client.get_secret_value(SecretId=path, **members),
            timeout_s=timeout_s,
        )
        return _checked(reply)

    def _label(self, path: str, timeout_s: float, **members: Any) -> None:
        self._connection.ask(
            "secretsmanager:UpdateSecretVersionStage",
            path,
            lambda client: client.update_secret_version_stage(SecretId=path, **members),
            timeout_s=timeout_s,
        )

    def delete(self, path: str, expected_version: Version, *, timeout_s: float) -> None:
        tombstone = {
            "schema": 1,
            "refresh_token": None,
            "generation": expected_version.floor,
            "deleted": True,
        }
        self.write(path, tombstone, expected_version, None, timeout_s=timeout_s)
        if expected_version.token in (ABSENT.token, NO_VALUE):
            return
        # AWSPREVIOUS would keep the old value readable. AWSCURRENT can be moved, never removed.
        try:
            self._drop_previous(path, expected_version.token, timeout_s)
        except StoreDeniedError as exc:
            self._notify(
                f"{exc.message}; the value before the deletion stays readable as AWSPREVIOUS."
                f" {exc.hint}"
            )

    def remove(self, path: str, *, timeout_s: float) -> str:
        """A deletion with its recovery window: until it is over the name can't be used again."""
        try:
            self._connection.ask(
                "secretsmanager:DeleteSecret",
                path,
                lambda client: client.delete_secret(
                    SecretId=path, RecoveryWindowInDays=RECOVERY_DAYS
                ),
                timeout_s=timeout_s,
            )
        except NotFoundError:
            return ""
        return (
            f"AWS keeps it for {RECOVERY_DAYS} days: `aws secretsmanager restore-secret --secret-id"
            f" {path}` brings it back"
        )

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        try:
            reply = self._read_current(path, timeout_s)
        except NotFoundError:
            return False
        value = _value_of(reply)
        if value is None:
            return False
        if value.get("deleted") is not True and is_expired(value, self._clock()):
            version = Version(
                str(reply["VersionId"]), _generation(value), str(reply.get("ARN", ""))
            )
            self.delete(path, version, timeout_s=timeout_s)
            return True
        return self._drop_all_previous(path, timeout_s)

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        try:
            self._drop_all_previous(path, timeout_s)
        except StoreDeniedError as exc:
            self._notify(f"{exc.message}; what was there before stays readable as AWSPREVIOUS")

    def _drop_all_previous(self, path: str, timeout_s: float) -> bool:
        stages = self.stages(path, timeout_s=timeout_s)
        previous = [version for version, labels in stages.items() if "AWSPREVIOUS" in labels]
        for version in previous:
            self._drop_previous(path, version, timeout_s)
        return bool(previous)

    def disconnect(self) -> None:
        self._connection.disconnect()

    def _drop_previous(self, path: str, version: str, timeout_s: float) -> None:
        """Takes the label off, so that the version is deprecated and its value can't be found any
        more."""
        # Suppressed: somebody has written since, and the label is not there any more.
        with contextlib.suppress(VersionConflictError, StoreValueError):
            self._label(path, timeout_s, VersionStage="AWSPREVIOUS", RemoveFromVersionId=version)

    def whereabouts(self) -> str:
        """Returns where the store is, in words for people."""
        return self._connection.whereabouts()

    def missing_rights(
        self, reads: Sequence[str], writes: Sequence[str], *, timeout_s: float
    ) -> list[str]:
        """Reads, and writes what is there once more under the id that it has, which changes
        nothing.

        Source: PutSecretValue, "the same ClientRequestToken and the same contents". What isn't
        there tells nothing.
        """
        missing = []
        for path in (*reads, *writes):
            try:
                with contextlib.suppress(NotFoundError):
                    reply = self._read_current(path, timeout_s)
                    if path in writes and "SecretString" in reply:
                        self._check_write(path, reply, timeout_s)
            except StoreDeniedError as exc:
                if not exc.right:  # not a right, but the credentials themselves
                    raise
                missing.append(exc.right)
        return missing

    def _check_write(self, path: str, reply: Mapping[str, Any], timeout_s: float) -> None:
        self.stages(path, timeout_s=timeout_s)
        same = {"ClientRequestToken": reply["VersionId"], "SecretString": reply["SecretString"]}
        with contextlib.suppress(VersionConflictError):
            self._put(path, timeout_s, **same)

    def newer_than_current(self, path: str) -> tuple[str, str] | None:
        """The current version and the newest of its successors, where a person has moved AWSCURRENT
        back; else None."""
        try:
            reply = self._read_current(path, DEFAULT_S)
        except NotFoundError:
            return None
        newest = current = str(reply["VersionId"])
        for _ in range(VERSIONS_PER_DAY):
            child = derived_id(newest, str(reply.get("ARN", "")))
            if self.read_version(path, child) is None:
                break
            newest = child
        return None if newest == current else (current, newest)

    # What Secrets Manager's own rotation needs (`secret_rotation`).

    def stages(self, path: str, *, timeout_s: float = DEFAULT_S) -> Mapping[str, list[str]]:
        """Returns the staging labels of each version id (DescribeSecret)."""
        found: Mapping[str, list[str]] = self._describe(path, timeout_s).get(
            "VersionIdsToStages", {}
        )
        return found

    def _describe(self, path: str, timeout_s: float) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = self._connection.ask(
            "secretsmanager:DescribeSecret",
            path,
            lambda client: client.describe_secret(SecretId=path),
            timeout_s=timeout_s,
        )
        return reply

    def read_version(self, path: str, version_id: str) -> Mapping[str, Any] | None:
        """Returns a version's members, or None where there is no such version or it has no text.
        Raises: StoreValueError for what is no JSON object."""
        try:
            reply = self._get(path, DEFAULT_S, VersionId=version_id)
        except NotFoundError:
            return None
        if "SecretString" not in reply:
            return None
        value = _value_of(reply)
        if value is None:
            raise StoreValueError(f"{path}: the pending version holds no JSON object")
        return value

    def write_pending(
        self,
        path: str,
        version_id: str,
        value: Mapping[str, Any],
        *,
        rotation_token: str | None = None,
    ) -> None:
        """Writes the value as AWSPENDING under the rotation's own version id."""
        proof = {"RotationToken": rotation_token} if rotation_token else {}
        self._put(
            path,
            DEFAULT_S,
            ClientRequestToken=version_id,
            SecretString=encode_value(path, value),
            VersionStages=["AWSPENDING"],
            **proof,
        )

    def move_current(self, path: str, to_version_id: str, from_version_id: str) -> None:
        """Moves AWSCURRENT from one version to the other, or finds it moved already."""
        try:
            self._label(
                path,
                DEFAULT_S,
                VersionStage="AWSCURRENT",
                MoveToVersionId=to_version_id,
                RemoveFromVersionId=from_version_id,
            )
        except (
            StoreValueError
        ) as exc:  # the label isn't where we said; or somebody has moved it already
            if "AWSCURRENT" in self.stages(path).get(to_version_id, []):
                return
            raise VersionConflictError(f"{path}: AWSCURRENT was moved by somebody else") from exc

    def drop_pending(self, path: str, version_id: str) -> None:
        """Takes AWSPENDING off the version, if it is there."""
        if "AWSPENDING" not in self.stages(path).get(version_id, []):
            return
        with contextlib.suppress(VersionConflictError, StoreValueError):
            self._label(path, DEFAULT_S, VersionStage="AWSPENDING", RemoveFromVersionId=version_id)

    def fence(self, path: str, version_id: str, value: Mapping[str, Any]) -> None:
        """Writes the version that anybody else would derive from this parent, so that a late write
        of another host fails."""
        arn = str(self._describe(path, DEFAULT_S).get("ARN", ""))
        with contextlib.suppress(VersionConflictError):
            self._put(
                path,
                DEFAULT_S,
                ClientRequestToken=derived_id(version_id, arn),
                SecretString=encode_value(path, value),
                VersionStages=["NIGHTPORTER_FENCE"],
            )

    def close(self) -> None:
        self._connection.close()


def _checked(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the reply, if it is one of a version: boto3 takes a proxy's page with status 200 for
    an empty reply.

    Raises: StoreUnreachableError.
    """
    if not isinstance(reply.get("VersionId"), str):
        raise unreadable_answer("an answer without VersionId")
    return reply


def _value_of(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the JSON object of a version; None where it holds none. A byte order mark, which
    Windows writes, is skipped."""
    try:
        value = json.loads(reply["SecretString"].removeprefix("\ufeff"))
    except (KeyError, ValueError, AttributeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _generation(value: Mapping[str, Any]) -> int:
    found = value.get("generation")
    if not isinstance(found, int) or isinstance(found, bool):
        return 0
    return found if 0 < found <= LAST_GENERATION else 0


def _seconds(moment: object) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else None


def _date_of(reply: Mapping[str, Any]) -> float | None:
    """The service's clock, as its reply tells it."""
    headers = (reply.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return None


def open_store(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    notify: Callable[[str], None],
    data_directory: str,
) -> SecretsManagerStore:
    """The store of a `[stores.NAME]` table. Nothing is sent yet; boto3 reads the environment by
    itself."""
    return SecretsManagerStore(options, environment, notify=notify)
