"""A strict stand-in for Secrets Manager over HTTP: what AWS documents, where moto does otherwise.

One lock. Names, sizes and label rules are enforced, versions are pruned, a deletion has its window,
what was written becomes visible to reads only after up to `delay_s`, writes are limited in rate,
and each access key has a policy (a set of allowed actions). Eight operations, JSON 1.1.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BYTES = 65_536
MAX_VERSIONS = 100
_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}\Z")
_WRITES = ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage")


class AwsError(Exception):
    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Version:
    text: str
    created: float
    labels: set[str] = field(default_factory=set)


@dataclass
class Secret:
    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    deleted: bool = False
    kms_key_id: str | None = None
    history: deque[tuple[float, dict[str, tuple[str, frozenset[str]]]]] = field(
        default_factory=deque
    )

    def current(self) -> dict[str, tuple[str, frozenset[str]]]:
        return {
            key: (version.text, frozenset(version.labels)) for key, version in self.versions.items()
        }


@dataclass
class StrictAws:
    """`policies`: access key id → allowed actions (None: all). `denied_keys`: KMS keys that nobody
    may use."""

    clock: Callable[[], float] = time.time
    delay_s: float = 0.0
    writes_per_second: float | None = None
    policies: dict[str, set[tuple[str, str]] | None] = field(default_factory=dict)
    denied_keys: set[str] = field(default_factory=set)
    secrets: dict[str, Secret] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: deque[str] = field(default_factory=deque)
    lock: threading.RLock = field(default_factory=threading.RLock)
    recent: deque[float] = field(default_factory=deque)
    random: random.Random = field(default_factory=lambda: random.Random(7))

    # The door.

    def call(self, action: str, asked: dict[str, Any], key_id: str) -> dict[str, Any]:
        with self.lock:
            self.counts[action] += 1
            allowed = self.policies.get(key_id)
            target = str(asked.get("SecretId") or asked.get("Name"))
            if allowed is not None and not any(
                action == wanted and re.fullmatch(resource, target) for wanted, resource in allowed
            ):
                raise AwsError(
                    "AccessDeniedException", f"not authorized to perform: secretsmanager:{action}"
                )
            if self.faults and action in (*_WRITES, "CreateSecret"):
                raise AwsError(self.faults.popleft())
            if action in _WRITES:
                self._limit()
            method = getattr(self, "do_" + re.sub(r"(?<!^)([A-Z])", r"_\1", action).lower(), None)
            if method is None:
                raise AwsError("UnknownOperationException", action)
            answer: dict[str, Any] = method(asked)
            return answer

    def _limit(self) -> None:
        if self.writes_per_second is None:
            return
        now = time.monotonic()
        while self.recent and now - self.recent[0] > 1:
            self.recent.popleft()
        if len(self.recent) >= self.writes_per_second:
            raise AwsError("ThrottlingException", "Rate exceeded")
        self.recent.append(now)

    def _find(self, secret_id: str) -> Secret:
        name = (
            re.sub(r"-[A-Za-z0-9]{6}\Z", "", secret_id.split(":secret:", 1)[1])
            if ":secret:" in secret_id
            else secret_id
        )
        secret = self.secrets.get(name)
        if secret is None:
            raise AwsError(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
            )
        return secret

    def _living(self, secret_id: str) -> Secret:
        secret = self._find(secret_id)
        if secret.deleted:
            raise AwsError(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for"
                " deletion.",
            )
        if secret.kms_key_id in self.denied_keys:
            raise AwsError("AccessDeniedException", "Access to KMS is not allowed")
        return secret

    def _remember(self, secret: Secret) -> None:
        secret.history.append((time.monotonic(), secret.current()))
        while len(secret.history) > 50:
            secret.history.popleft()

    def _seen(self, secret: Secret) -> dict[str, tuple[str, frozenset[str]]]:
        """What a read sees: the state of some moment within the last `delay_s`."""
        moment = time.monotonic() - self.random.uniform(0, self.delay_s)
        states = [state for at, state in secret.history if at <= moment]
        if not self.delay_s or not secret.history:
            return secret.current()
        if not states:
            raise AwsError(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
            )
        return states[-1]

    def _check(self, asked: dict[str, Any]) -> tuple[str, str]:
        token, text = str(asked.get("ClientRequestToken", "")), str(asked.get("SecretString", ""))
        if not 32 <= len(token) <= 64:
            raise AwsError("ValidationException", "clientRequestToken")
        if len(text.encode()) > MAX_BYTES:
            raise AwsError("InvalidParameterException", "secret value too long")
        return token, text

    # The operations.

    def do_create_secret(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = str(asked["Name"])
        if not _NAME.match(name):
            raise AwsError("ValidationException", "Invalid name.")
        there = self.secrets.get(name)
        if there and there.deleted:
            raise AwsError(
                "InvalidRequestException",
                "a secret with this name is already scheduled for deletion.",
            )
        if "SecretString" not in asked:
            if there:
                raise AwsError("ResourceExistsException", "The secret already exists.")
            self.secrets[name] = Secret(name)
            return {"Name": name}
        token, text = self._check(asked)
        if there:
            same = there.versions.get(token)
            if same and same.text == text:
                return {"Name": name, "VersionId": token}
            raise AwsError("ResourceExistsException", "The secret already exists.")
        secret = self.secrets[name] = Secret(name, kms_key_id=asked.get("KmsKeyId"))
        secret.versions[token] = Version(text, self.clock(), {"AWSCURRENT"})
        self._remember(secret)
        return {"Name": name, "VersionId": token}

    def do_put_secret_value(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._living(asked["SecretId"])
        token, text = self._check(asked)
        there = secret.versions.get(token)
        if there is not None:
            if there.text != text:
                raise AwsError(
                    "ResourceExistsException",
                    "A version with that token exists with another value.",
                )
            return {"Name": secret.name, "VersionId": token}
        self._prune(secret)
        labels = set(asked.get("VersionStages", ["AWSCURRENT"]))
        secret.versions[token] = Version(text, self.clock())
        for label in labels:
            self._move(secret, label, token)
        self._remember(secret)
        return {
            "Name": secret.name,
            "VersionId": token,
            "VersionStages": sorted(secret.versions[token].labels),
        }

    def _move(self, secret: Secret, label: str, token: str) -> None:
        for version_id, version in secret.versions.items():
            if label in version.labels and version_id != token:
                version.labels.discard(label)
                if label == "AWSCURRENT":
                    for other in secret.versions.values():
                        other.labels.discard("AWSPREVIOUS")
                    version.labels.add("AWSPREVIOUS")
        secret.versions[token].labels.add(label)

    def _prune(self, secret: Secret) -> None:
        """Unlabelled versions beyond 100 go, the oldest first, but none under 24 hours old."""
        bare = sorted((v.created, key) for key, v in secret.versions.items() if not v.labels)
        for created, key in bare[: max(0, len(bare) - MAX_VERSIONS + 1)]:
            if self.clock() - created >= 86_400:
                del secret.versions[key]
        if len(secret.versions) > MAX_VERSIONS + 20:
            raise AwsError("LimitExceededException", "too many versions")

    def do_get_secret_value(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._living(asked["SecretId"])
        wanted, label = asked.get("VersionId"), asked.get("VersionStage", "AWSCURRENT")
        for version_id, (text, labels) in self._seen(secret).items():
            if (wanted and version_id == wanted) or (not wanted and label in labels):
                return {
                    "Name": secret.name,
                    "VersionId": version_id,
                    "SecretString": text,
                    "VersionStages": sorted(labels),
                }
        raise AwsError(
            "ResourceNotFoundException",
            f"Secrets Manager can't find the specified secret value for staging label: {label}",
        )

    def do_describe_secret(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked["SecretId"])
        stages = {key: sorted(labels) for key, (_, labels) in self._seen(secret).items() if labels}
        return {"Name": secret.name, "VersionIdsToStages": stages}

    def do_update_secret_version_stage(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret, label = self._living(asked["SecretId"]), str(asked["VersionStage"])
        to, off = asked.get("MoveToVersionId"), asked.get("RemoveFromVersionId")
        holder = next(
            (key for key, version in secret.versions.items() if label in version.labels), None
        )
        if off is not None and holder != off:
            raise AwsError(
                "InvalidParameterException", "The staging label is not attached to that version."
            )
        if to is None and label == "AWSCURRENT":
            raise AwsError("InvalidParameterException", "AWSCURRENT can be moved, not removed.")
        if to is not None and holder not in (None, to) and off is None:
            raise AwsError(
                "InvalidParameterException",
                "The staging label is attached; say from which version to move.",
            )
        if to is None:
            secret.versions[str(off)].labels.discard(label)
        elif to not in secret.versions:
            raise AwsError("ResourceNotFoundException", "no such version")
        else:
            self._move(secret, label, to)
        self._remember(secret)
        return {"Name": secret.name}

    def do_delete_secret(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._find(asked["SecretId"]).deleted = True
        return {}

    def do_restore_secret(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._find(asked["SecretId"]).deleted = False
        return {}

    def do_list_secret_version_ids(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = self._find(asked["SecretId"])
        return {
            "Versions": [
                {"VersionId": key, "VersionStages": sorted(v.labels)}
                for key, v in secret.versions.items()
            ]
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    aws: StrictAws


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        key = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        try:
            self.answer(200, self.server.aws.call(action, json.loads(body), key[1] if key else ""))
        except AwsError as exc:
            status = 500 if exc.code == "InternalServiceError" else 400
            self.answer(status, {"__type": exc.code, "message": str(exc)})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def open_strict_aws(aws: StrictAws, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serves the stand-in on loopback; yields its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.aws = aws
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
