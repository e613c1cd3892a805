"""AWS Secrets Manager, through boto3. AWS's words (SecretId, VersionStage) stay in this file, the
only one with boto3.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
from botocore.config import Config as ClientConfig

from nightporter.core.checks import is_loopback
from nightporter.core.errors import (
    ConfigError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.limits import LAST_GENERATION
from nightporter.core.record import Unreadable, is_expired
from nightporter.session.port import ABSENT, KeepExpiry, Stored, Version
from nightporter.stores.encoding import encode_value

NAMESPACE = uuid.UUID("6f1d1f0e-9a35-5c36-8d0b-3f2f6e6f7a11")
# the version of a secret that exists, but was never given a value (Terraform makes such)
NO_VALUE = "no-value"
TIMEOUT_S = 5
VERSIONS_PER_DAY = 100  # unlabelled versions beyond 100 are pruned, but none under 24 hours old

_THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}
)
_EXPIRED = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    }
    | {"InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature"}
)
_KMS = frozenset({"DecryptionFailure", "EncryptionFailure"})


def derived_id(parent: str, arn: str = "") -> str:
    """Returns the ClientRequestToken of the write that follows `parent` (a VersionId, or the name
    of a secret to create).

    `arn` is the secret's own, which ends in letters that are new at each creation: the versions of
    a secret that was deleted and made again are others.
    """
    return str(uuid.uuid5(NAMESPACE, f"{parent}\0{arn}" if arn else parent))


class SecretsManagerStore:
    versions_per_day: int | None = VERSIONS_PER_DAY

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        clock: Callable[[], float] = time.time,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._notify = notify
        self._client: Any = None

    def read(self, path: str, *, timeout_s: float) -> Stored:
        try:
            with _translated("secretsmanager:GetSecretValue", path):
                # The label is said outright: a default read is right on AWS, but not on every
                # stand-in for it.
                reply = self._open().get_secret_value(SecretId=path, VersionStage="AWSCURRENT")
        except _NotFoundError as exc:
            return Stored(None, Version(NO_VALUE) if exc.has_secret else ABSENT)
        token, arn = str(reply["VersionId"]), str(reply.get("ARN", ""))
        written_at, now = _seconds(reply.get("CreatedDate")), _date_of(reply)
        try:
            value = json.loads(reply["SecretString"])
        except (KeyError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
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
            reply = self._create(path, text, token)
        else:
            with _translated("secretsmanager:PutSecretValue", path):
                reply = self._open().put_secret_value(
                    SecretId=path, ClientRequestToken=token, SecretString=text
                )
        return Version(token, _generation(value), str(reply.get("ARN", "")))

    def _create(self, path: str, text: str, token: str) -> Mapping[str, Any]:
        kms = {"KmsKeyId": self._options["kms_key_id"]} if "kms_key_id" in self._options else {}
        with _translated("secretsmanager:CreateSecret", path):
            reply: Mapping[str, Any] = self._open().create_secret(
                Name=path,
                ClientRequestToken=token,
                SecretString=text,
                Description="Kept by nightporter",
                **kms,
            )
        return reply

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
            self._drop_previous(path, expected_version.token)
        except StoreDeniedError as exc:
            self._notify(
                f"{exc.message}; the value before the deletion stays readable as AWSPREVIOUS."
                f" {exc.hint}"
            )

    def sweep(self, path: str, *, timeout_s: float) -> bool:
        try:
            with _translated("secretsmanager:GetSecretValue", path):
                reply = self._open().get_secret_value(SecretId=path, VersionStage="AWSCURRENT")
            value = json.loads(reply.get("SecretString", ""))
        except (_NotFoundError, ValueError):
            return False
        is_object = isinstance(value, dict)
        if is_object and value.get("deleted") is not True and is_expired(value, self._clock()):
            version = Version(
                str(reply["VersionId"]), _generation(value), str(reply.get("ARN", ""))
            )
            self.delete(path, version, timeout_s=timeout_s)
            return True
        return self._drop_all_previous(path)

    def drop_previous(self, path: str, *, timeout_s: float) -> None:
        try:
            self._drop_all_previous(path)
        except StoreDeniedError as exc:
            self._notify(f"{exc.message}; what was there before stays readable as AWSPREVIOUS")

    def _drop_all_previous(self, path: str) -> bool:
        stages = self.stages(path)
        previous = [version for version, labels in stages.items() if "AWSPREVIOUS" in labels]
        for version in previous:
            self._drop_previous(path, version)
        return bool(previous)

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.close()

    def _drop_previous(self, path: str, version: str) -> None:
        """Takes the label off, so that the version is deprecated and its value can't be found any
        more."""
        right = "secretsmanager:UpdateSecretVersionStage"
        # Suppressed: somebody has written since, and the label is not there any more.
        with contextlib.suppress(VersionConflictError, StoreValueError), _translated(right, path):
            self._open().update_secret_version_stage(
                SecretId=path, VersionStage="AWSPREVIOUS", RemoveFromVersionId=version
            )

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
                with (
                    contextlib.suppress(_NotFoundError),
                    _translated("secretsmanager:GetSecretValue", path),
                ):
                    reply = self._open().get_secret_value(SecretId=path, VersionStage="AWSCURRENT")
                    if path in writes and "SecretString" in reply:
                        self._check_write(path, reply)
            except StoreDeniedError as exc:
                missing.append(exc.right)
        return missing

    def _check_write(self, path: str, reply: Mapping[str, Any]) -> None:
        with _translated("secretsmanager:DescribeSecret", path):
            self._open().describe_secret(SecretId=path)
        with (
            contextlib.suppress(VersionConflictError),
            _translated("secretsmanager:PutSecretValue", path),
        ):
            self._open().put_secret_value(
                SecretId=path,
                ClientRequestToken=reply["VersionId"],
                SecretString=reply["SecretString"],
            )

    def newer_than_current(self, path: str) -> tuple[str, str] | None:
        """The current version and the newest of its successors, where a person has moved AWSCURRENT
        back; else None."""
        try:
            with _translated("secretsmanager:GetSecretValue", path):
                reply = self._open().get_secret_value(SecretId=path, VersionStage="AWSCURRENT")
        except _NotFoundError:
            return None
        newest = current = str(reply["VersionId"])
        for _ in range(VERSIONS_PER_DAY):
            child = derived_id(newest, str(reply.get("ARN", "")))
            if self.read_version(path, child) is None:
                break
            newest = child
        return None if newest == current else (current, newest)

    # What Secrets Manager's own rotation needs (`secret_rotation`).

    def stages(self, path: str) -> Mapping[str, list[str]]:
        with _translated("secretsmanager:DescribeSecret", path):
            found: Mapping[str, list[str]] = (
                self._open().describe_secret(SecretId=path).get("VersionIdsToStages", {})
            )
        return found

    def read_version(self, path: str, version_id: str) -> Mapping[str, Any] | None:
        try:
            with _translated("secretsmanager:GetSecretValue", path):
                reply = self._open().get_secret_value(SecretId=path, VersionId=version_id)
            value = json.loads(reply["SecretString"])
        except (_NotFoundError, KeyError):
            return None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise StoreValueError(f"{path}: the pending version holds no JSON object")
        return value

    def write_pending(self, path: str, version_id: str, value: Mapping[str, Any]) -> None:
        with _translated("secretsmanager:PutSecretValue", path):
            self._open().put_secret_value(
                SecretId=path,
                ClientRequestToken=version_id,
                SecretString=encode_value(path, value),
                VersionStages=["AWSPENDING"],
            )

    def move_current(self, path: str, to_version_id: str, from_version_id: str) -> None:
        try:
            with _translated("secretsmanager:UpdateSecretVersionStage", path):
                self._open().update_secret_version_stage(
                    SecretId=path,
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
        if "AWSPENDING" not in self.stages(path).get(version_id, []):
            return
        right = "secretsmanager:UpdateSecretVersionStage"
        with contextlib.suppress(VersionConflictError, StoreValueError), _translated(right, path):
            self._open().update_secret_version_stage(
                SecretId=path, VersionStage="AWSPENDING", RemoveFromVersionId=version_id
            )

    def fence(self, path: str, version_id: str, value: Mapping[str, Any]) -> None:
        with _translated("secretsmanager:DescribeSecret", path):
            arn = str(self._open().describe_secret(SecretId=path).get("ARN", ""))
        with (
            contextlib.suppress(VersionConflictError),
            _translated("secretsmanager:PutSecretValue", path),
        ):
            self._open().put_secret_value(
                SecretId=path,
                ClientRequestToken=derived_id(version_id, arn),
                SecretString=encode_value(path, value),
                VersionStages=["NIGHTPORTER_FENCE"],
            )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _open(self) -> Any:
        if self._client is None:
            with _translated("sts:AssumeRole", str(self._options.get("role_arn", ""))):
                try:
                    self._client = self._new_client()
                except ValueError as exc:
                    raise ConfigError(
                        "an endpoint of AWS is no address: endpoint_url or AWS_ENDPOINT_URL"
                    ) from exc
            url = urlsplit(self._client.meta.endpoint_url)
            if url.scheme != "https" and not is_loopback(url.hostname or ""):
                raise ConfigError(
                    "the endpoint of Secrets Manager must be https: plain http is taken on loopback"
                    " only"
                )
        return self._client

    def _new_client(self) -> Any:
        options = self._options
        session = boto3.session.Session(
            profile_name=options.get("profile"), region_name=options.get("region")
        )
        if "role_arn" in options:
            session = _assumed(session, options["role_arn"])
        # Our own loops retry, since only they know what may be sent twice.
        config = ClientConfig(
            connect_timeout=3, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}
        )
        return session.client(
            "secretsmanager", endpoint_url=options.get("endpoint_url"), config=config
        )


def _assumed(session: boto3.session.Session, role_arn: str) -> boto3.session.Session:
    """A session of the role, which assumes it again by itself before its credentials end."""
    import botocore.session
    from botocore.credentials import RefreshableCredentials

    sts = session.client("sts")

    def assume() -> dict[str, str]:
        found = sts.assume_role(RoleArn=role_arn, RoleSessionName="nightporter")["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    inner = botocore.session.get_session()
    inner._credentials = RefreshableCredentials.create_from_metadata(
        assume(), assume, "sts-assume-role"
    )
    return boto3.session.Session(botocore_session=inner, region_name=session.region_name)


class _NotFoundError(StoreUnreachableError):
    """No such secret, or (`has_secret`) one that holds no value yet.

    An answer to a read; to a write it means that the write's secret is not visible yet, so that is
    tried again.
    """

    def __init__(self, message: str, *, has_secret: bool) -> None:
        super().__init__(message)
        self.has_secret = has_secret


@contextlib.contextmanager
def _translated(right: str, path: str) -> Iterator[None]:
    """What boto3 raises, once, into our errors."""
    try:
        yield
    except botocore.exceptions.ClientError as exc:
        raise _of_client_error(exc, right, path) from exc
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
    ) as exc:
        raise StoreDeniedError(
            "there are no AWS credentials", right="credentials that boto3's chain finds"
        ) from exc
    except (botocore.exceptions.NoRegionError, botocore.exceptions.ProfileNotFound) as exc:
        raise ConfigError(
            f"AWS: {type(exc).__name__}", hint="Set `region` or `profile` in the store."
        ) from exc
    except (
        botocore.exceptions.HTTPClientError,
        botocore.exceptions.ConnectionError,
        botocore.exceptions.IncompleteReadError,
    ) as exc:
        raise StoreUnreachableError(
            f"Secrets Manager can't be reached: {type(exc).__name__}"
        ) from exc
    except botocore.exceptions.BotoCoreError as exc:
        raise StoreError(f"Secrets Manager: {type(exc).__name__} for {path}") from exc


def _of_client_error(exc: botocore.exceptions.ClientError, right: str, path: str) -> Exception:
    error = exc.response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    if code == "ResourceNotFoundException":
        has_secret = "staging label" in message or "version" in message.lower()
        return _NotFoundError(f"{path}: not there, or not visible yet", has_secret=has_secret)
    if code == "ResourceExistsException":
        return VersionConflictError(f"{path}: somebody else wrote it first")
    if code in _KMS or (code.startswith("AccessDenied") and "kms" in message.lower()):
        return StoreDeniedError(
            f"{path}: its KMS key can't be used", right="kms:Decrypt and kms:GenerateDataKey on it"
        )
    if code.startswith("AccessDenied"):
        return StoreDeniedError(f"{path}: denied", right=f"{right} on {path}")
    if code in _EXPIRED:
        return StoreDeniedError(
            f"AWS refused our credentials ({code})", right="credentials that are valid now"
        )
    if code in _THROTTLED:
        return StoreBusyError("Secrets Manager limits the rate")
    if code == "InvalidRequestException" and "delet" in message.lower():
        return StoreValueError(
            f"{path} is marked for deletion",
            hint=(
                f"Run `aws secretsmanager restore-secret --secret-id {path}`, or use another path."
            ),
        )
    if code in ("InvalidRequestException", "InvalidParameterException", "ValidationException"):
        return StoreValueError(
            f"Secrets Manager refused the request for {path} as invalid ({code})"
        )
    if code == "LimitExceededException":
        return StoreValueError(f"{path}: a quota of Secrets Manager is used up")
    return StoreUnreachableError(f"Secrets Manager failed ({code or 'no code'})")


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
    return SecretsManagerStore(options, notify=notify)
