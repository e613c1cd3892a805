"""A strict stand-in for Vault's AWS auth method (iam), which OpenBao has not built in.

It does what Vault's document says of the server: the request must be a sts:GetCallerIdentity for an
address of STS and nothing else, the server's id must be among the signed headers, and AWS must find
the signature right. AWS's part is played here too: Signature Version 4 is computed again from its
description, by none of the libraries that sign. Sources: "AWS auth method (API)" of Vault; "Create
a signed AWS API request" of the IAM User Guide.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from lab.servers.vault_front import Answer, Asked
from lab.support import OpenBao

SKEW_S = 15 * 60
_HOST = re.compile(r"sts(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?")


class RefusedError(Exception):
    pass


@dataclass
class AwsAuth:
    """`keys`: secret access keys by their id; `roles`: key ids that each role takes; `policy`: what
    a login gets; `kv`: the mount of the secrets. `server_id`: Vault's
    iam_server_id_header_value."""

    server: OpenBao
    keys: dict[str, str]
    roles: dict[str, set[str]]
    policy: str
    kv: str
    server_id: str | None = None
    session_tokens: dict[str, str] = field(default_factory=dict)
    mount: str = "aws"
    said: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer | None:
        """Answers logins, and hands everything else on."""
        if asked.path != f"/v1/auth/{self.mount}/login":
            return None
        try:
            self._check(json.loads(asked.body))
        except (RefusedError, KeyError, ValueError) as exc:
            self.said.append(str(exc))
            return 400, "application/json", json.dumps({"errors": [str(exc)]}).encode()
        token = self.server.token_with(self.policy)
        self.issued.append(token)
        auth = {"client_token": token, "token_type": "service"}
        return 200, "application/json", json.dumps({"auth": auth}).encode()

    def _check(self, members: Mapping[str, str]) -> None:
        if members["iam_http_request_method"] != "POST":
            raise RefusedError("invalid iam_http_request_method")
        url, body = _decoded(members["iam_request_url"]), _decoded(members["iam_request_body"])
        given = json.loads(_decoded(members["iam_request_headers"]))
        headers = {name.lower(): ",".join(values) for name, values in given.items()}
        host = urlsplit(url).hostname or ""
        if urlsplit(url).scheme != "https" or not _HOST.fullmatch(host) or headers["host"] != host:
            raise RefusedError("invalid iam_request_url")
        if parse_qs(body) != {"Action": ["GetCallerIdentity"], "Version": ["2011-06-15"]}:
            raise RefusedError("invalid iam_request_body")
        self.hosts.append(host)
        self._check_server_id(headers)
        key_id = self._check_signature(headers, urlsplit(url).path or "/", body)
        if key_id not in self.roles.get(members.get("role", ""), set()):
            raise RefusedError(f"IAM Principal does not belong to the role {members.get('role')}")

    def _check_server_id(self, headers: Mapping[str, str]) -> None:
        name = "x-vault-aws-iam-server-id"
        if self.server_id is None:
            return
        if headers.get(name) != self.server_id:
            raise RefusedError("error validating X-Vault-AWS-IAM-Server-ID header")
        if name not in _parts(headers["authorization"])["SignedHeaders"].split(";"):
            raise RefusedError("X-Vault-AWS-IAM-Server-ID is not a signed header")

    def _check_signature(self, headers: Mapping[str, str], path: str, body: str) -> str:
        parts = _parts(headers["authorization"])
        key_id, day, region, service, end = parts["Credential"].split("/")
        if (service, end) != ("sts", "aws4_request"):
            raise RefusedError("SignatureDoesNotMatch")
        at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((datetime.now(UTC) - at).total_seconds()) > SKEW_S:
            raise RefusedError("Signature expired")
        if headers.get("x-amz-security-token") != self.session_tokens.get(key_id):
            raise RefusedError("InvalidClientTokenId")
        names = parts["SignedHeaders"].split(";")
        if not {"host", "x-amz-date"} <= set(names):
            raise RefusedError("SignatureDoesNotMatch")
        lines = [f"{name}:{headers[name].strip()}" for name in names]
        body_digest = hashlib.sha256(body.encode()).hexdigest()
        canonical = "\n".join(["POST", path, "", *lines, "", ";".join(names), body_digest])
        scope = f"{day}/{region}/sts/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
        key = f"AWS4{self.keys[key_id]}".encode()
        for part in (day, region, "sts", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        if hmac.digest(key, text.encode(), "sha256").hex() != parts["Signature"]:
            raise RefusedError("SignatureDoesNotMatch")
        return key_id


def _decoded(text: str) -> str:
    return base64.b64decode(text, validate=True).decode()


def _parts(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != "AWS4-HMAC-SHA256":
        raise RefusedError("IncompleteSignature")
    return dict(part.strip().split("=", 1) for part in rest.split(","))
