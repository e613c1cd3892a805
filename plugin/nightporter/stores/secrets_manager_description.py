"""What is known of AWS Secrets Manager without boto3: keys, identity, policy.

Sources: "Environment variables" of the AWS SDKs and Tools Reference Guide; "Actions, resources, and
condition keys for AWS Secrets Manager" of the Service Authorization Reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nightporter.core import checks
from nightporter.core.store_description import (
    Environment,
    Options,
    PolicyNeeds,
    Question,
    StoreDescription,
)
from nightporter.stores import aws_identity

TYPE = "aws-secrets-manager"
_READ = ("secretsmanager:GetSecretValue",)
_WRITE = (
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:UpdateSecretVersionStage",
)
# Secrets Manager of every Region, in the partitions of the world and of China.
_VIA = ("secretsmanager.*.amazonaws.com", "secretsmanager.*.amazonaws.com.cn")
_DELETE = ("secretsmanager:DeleteSecret",)
_ADDRESS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
)


def _credential_files(_options: Options, environment: Environment) -> list[str]:
    return aws_identity.files(environment)


def _render_policy(needs: PolicyNeeds) -> str:
    statements = []
    if needs.reads:
        statements.append(_statement("Read", _READ, needs.reads))
    if needs.writes:
        statements.append(_statement("ReadAndWrite", _WRITE, needs.writes))
    if needs.deletes:
        statements.append(_statement("Delete", _DELETE, needs.deletes))
    if key := needs.options.get("kms_key_id"):
        statements.append(_key_statement(key, is_written=bool(needs.writes)))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _statement(sid: str, actions: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": [_arn(path) for path in paths],
    }


def _key_statement(key: str, *, is_written: bool) -> dict[str, Any]:
    alias = f"alias/{key.rpartition('alias/')[2]}" if "alias/" in key else None
    resource = f"arn:*:kms:*:*:key/{'*' if alias else key}"
    if key.startswith("arn:") and not alias:
        resource = key
    statement: dict[str, Any] = {
        "Sid": "Key",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", *(["kms:GenerateDataKey"] if is_written else [])],
        "Resource": [resource],
    }
    # Else the role could decrypt by itself what others keep under the same key: a queue, a log.
    condition: dict[str, Any] = {"StringLike": {"kms:ViaService": list(_VIA)}}
    if alias:  # an alias is no resource: the key is found by its condition
        condition["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
    return {**statement, "Condition": condition}


def _arn(path: str) -> str:
    """An ARN of a secret ends in six characters that only AWS knows."""
    return path if path.startswith("arn:") else f"arn:*:secretsmanager:*:*:secret:{path}-??????"


DESCRIPTION = StoreDescription(
    type=TYPE,
    adapter="nightporter.stores.secrets_manager",
    comment=(
        "Credentials and Region come from boto3's own chain (AWS_PROFILE, a role) unless named."
    ),
    keys={
        "region": checks.text,
        "profile": checks.text,
        "endpoint_url": checks.url_problem,
        "kms_key_id": checks.text,
        "role_arn": checks.text,
    },
    identity_variables=(
        *aws_identity.VARIABLES,
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    ),
    ca_variables=aws_identity.CA_VARIABLES,
    address_variables=_ADDRESS_VARIABLES,
    credential_files=_credential_files,
    library="boto3",
    requirement="nightporter[aws]",
    render_policy=_render_policy,
    questions=(Question(key="region", text="AWS region"),),
)
