"""The least that a role needs, in the store's own policy language. Pure.

`full` signs in, refreshes, claims, saves, publishes and sweeps. `refresh-only` does all but read
the credentials. `read-only` reads published access tokens and nothing else. What a vendor doesn't
need (claims, where a reused token is not shared) is not granted to `refresh-only`.
"""

from __future__ import annotations

import json
from typing import Any

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile, Role

_READ = ("secretsmanager:GetSecretValue",)
_WRITE = (
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:UpdateSecretVersionStage",
)


def render_policy(profile: Profile, role: Role) -> str:
    """The policy of that role for the profile's store.

    Raises: ConfigError for the embedded store, which has none, and for `read-only` without
    published tokens.
    """
    if role is Role.READ_ONLY and profile.publish_access_token is None:
        raise ConfigError(
            f"profile {profile.name!r} publishes no access token, so there is nothing to read"
        )
    if profile.store.type == "vault":
        return _vault_policy(profile, role)
    if profile.store.type == "aws-secrets-manager":
        return json.dumps(_iam_policy(profile, role), indent=2)
    raise ConfigError(
        f"the store type {profile.store.type!r} has no policies: the permissions of its directory"
        " are all"
    )


def needed_paths(profile: Profile) -> tuple[list[str], list[str]]:
    """Which paths the profile's own role reads only, and which it reads and writes."""
    return _reads(profile, profile.role), _writes(profile, profile.role)


def _reads(profile: Profile, role: Role) -> list[str]:
    """Paths that are only read."""
    if role is Role.READ_ONLY:
        return [str(profile.publish_access_token)]
    found = [profile.credentials] if role is Role.FULL else []
    found.append(profile.client)
    if role is Role.REFRESH_ONLY and not profile.is_exclusive:
        found.append(profile.refresh_token)
    return [path for path in found if path]


def _writes(profile: Profile, role: Role) -> list[str]:
    """Paths that are read and written by compare-and-set."""
    if role is Role.READ_ONLY or (role is Role.REFRESH_ONLY and not profile.is_exclusive):
        return []
    return [path for path in (profile.refresh_token, profile.publish_access_token) if path]


def _vault_policy(profile: Profile, role: Role) -> str:
    mount = profile.store.options.get("mount", "secret")
    lines = [f"# {profile.name}, role {role.value}"]
    lines += [
        f'path "{mount}/data/{path}" {{ capabilities = ["read"] }}'
        for path in _reads(profile, role)
    ]
    for path in _writes(profile, role):
        lines += [
            f'path "{mount}/data/{path}" {{ capabilities = ["create", "read", "update"] }}',
            f'path "{mount}/metadata/{path}" {{',
            '  capabilities = ["create", "update", "patch", "read"]',
            '  allowed_parameters = { "delete_version_after" = [], "max_versions" = [] }',
            "}",
        ]
        if role is Role.FULL:  # the sweep: a native deletion is a soft one
            lines.append(f'path "{mount}/destroy/{path}" {{ capabilities = ["update"] }}')
    return "\n".join(lines)


def _iam_policy(profile: Profile, role: Role) -> dict[str, Any]:
    statements = []
    if reads := _reads(profile, role):
        statements.append(_statement("Read", _READ, reads))
    if writes := _writes(profile, role):
        statements.append(_statement("ReadAndWrite", _WRITE, writes))
    if key := profile.store.options.get("kms_key_id"):
        actions = ["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])]
        alias = f"alias/{key.rpartition('alias/')[2]}" if "alias/" in key else None
        resource = (
            key
            if key.startswith("arn:") and not alias
            else f"arn:*:kms:*:*:key/{'*' if alias else key}"
        )
        statement: dict[str, Any] = {
            "Sid": "Key",
            "Effect": "Allow",
            "Action": actions,
            "Resource": [resource],
        }
        if alias:  # an alias is no resource: the key is found by its condition
            statement["Condition"] = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(sid: str, actions: tuple[str, ...], paths: list[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": [_arn(path) for path in paths],
    }


def _arn(path: str) -> str:
    """An ARN of a secret ends in six characters that only AWS knows."""
    return path if path.startswith("arn:") else f"arn:*:secretsmanager:*:*:secret:{path}-??????"
