"""A signed sts:GetCallerIdentity request, with which another service learns who we are.

It is signed here and sent by the other service (Vault's AWS auth method). Source: "AWS auth method
(API)" of Vault, "Signing AWS API requests" of the IAM User Guide.
"""

from __future__ import annotations

from collections.abc import Mapping

import botocore.exceptions
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from nightporter.core.errors import NightporterError
from nightporter.core.values import dataclass, field
from nightporter.stores.aws import open_session
from nightporter.stores.aws_errors import Setup, error_of

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
GLOBAL_REGION = "us-east-1"  # in which the global endpoint signs
SUFFIXES = {"aws-cn": "amazonaws.com.cn"}  # of partitions that have their own


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What Vault is to send. `repr` hides the headers: who has them can be us for 15 minutes."""

    method: str
    url: str
    body: str
    headers: Mapping[str, str] = field(repr=False)


def sign_caller_identity(
    environment: Mapping[str, str],
    *,
    profile: str | None,
    region: str | None,
    headers: Mapping[str, str],
) -> SignedRequest:
    """Returns the request, signed with the credentials that boto3's chain finds. Without `region`
    it is for the global endpoint of STS. `headers` are signed too.

    Raises: StoreDeniedError, ConfigError.
    """
    options = {"profile": profile} if profile else {}
    try:
        session = open_session({**options, "region": region or GLOBAL_REGION}, environment)
        credentials = session.get_credentials()
        if credentials is None:
            raise botocore.exceptions.NoCredentialsError
        host = _host(session.get_partition_for_region(region or GLOBAL_REGION), region)
        request = AWSRequest(
            method="POST",
            url=f"https://{host}/",
            data=BODY,
            headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Host": host,
                **headers,
            },
        )
        frozen = credentials.get_frozen_credentials()
        SigV4Auth(frozen, "sts", region or GLOBAL_REGION).add_auth(request)
    except NightporterError:
        raise
    except Exception as exc:
        setup = Setup(options=options, environment=environment)
        raise error_of(exc, right="sts:GetCallerIdentity", path="", setup=setup) from exc
    return SignedRequest(
        method="POST", url=request.url, body=BODY, headers=dict(request.headers.items())
    )


def _host(partition: str, region: str | None) -> str:
    if region is None:
        return "sts.amazonaws.com"
    return f"sts.{region}.{SUFFIXES.get(partition, 'amazonaws.com')}"
