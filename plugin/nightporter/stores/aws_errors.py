"""What boto3, and what it runs, raises: translated once, into our errors.

Decided by class for what happens on this machine (credentials, configuration, network), by error
code for what AWS answers, and by status for an answer that isn't AWS's. Each has words and a remedy
for the person who reads it; a missing permission alone has a `right`, since `doctor` answers that
with the policy.

Sources: "Common Error Types" and the errors of each operation in the API References of Secrets
Manager and STS; "Troubleshooting access denied error messages" of the IAM User Guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions as aws

from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.values import dataclass
from nightporter.net import tls
from nightporter.net.causes import words_of
from nightporter.stores.aws_identity import CA_VARIABLES

NAME = "Secrets Manager"


class NotFoundError(StoreUnreachableError):
    """No such secret, or (`has_secret`) one that holds no value yet.

    An answer to a read; to a write it means that the write's secret is not visible yet, so that is
    tried again.
    """

    def __init__(self, message: str, *, has_secret: bool) -> None:
        super().__init__(message)
        self.has_secret = has_secret


class PromptError(Exception):
    """boto3 wants a person's MFA code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the user has set, for messages: the store's table and the environment."""

    options: Mapping[str, Any]
    environment: Mapping[str, str]

    @property
    def profile(self) -> str:
        """The name of the AWS profile that counts."""
        variables = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
        named = (self.environment.get(name) for name in variables)
        return str(self.options.get("profile") or next(filter(None, named), "default"))

    def source_of_file(self, file: str) -> str:
        """Returns what names a file: a variable, else the AWS profile."""
        named = (name for name in _FILE_VARIABLES if self.environment.get(name) == file)
        return next(named, f"the AWS profile {self.profile!r}")


_FILE_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)


def error_of(exc: Exception, *, right: str, path: str, setup: Setup) -> NightporterError:
    """Returns our error. `right`: the action that was asked for; `path`: the secret's."""
    if isinstance(exc, NightporterError):
        return exc
    if isinstance(exc, aws.ClientError):
        return _of_answer(exc, right, path, setup)
    for found in (
        _of_credentials(exc, setup),
        _of_place(exc, setup),
        _of_configuration(exc, path, setup),
        _of_network(exc, setup),
    ):
        if found is not None:
            return found
    where = f" for {path}" if path else ""
    return StoreError(f"{NAME}: {type(exc).__name__}{where}")


def is_stale(exc: Exception) -> bool:
    """Whether the keys have run out or were replaced: a process that has read the old ones must
    look again."""
    if isinstance(exc, aws.ClientError):
        return _code(exc) in _STALE
    return isinstance(exc, RENEWABLE)


def _kinds(*names: str) -> tuple[type[Exception], ...]:
    """The classes of these names; an older botocore lacks some."""
    return tuple(getattr(aws, name) for name in names if hasattr(aws, name))


# Credentials.

_SSO = _kinds(
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "SSOError",
    "TokenRetrievalError",
    "NoAuthTokenError",
)
_LOGIN = _kinds("LoginError")
_ENDPOINT = _kinds("MetadataRetrievalError")
RENEWABLE = (
    *_kinds("NoCredentialsError", "CredentialRetrievalError"),
    *_SSO,
    *_LOGIN,
    *_ENDPOINT,
)
_HINTS_OF_PROVIDERS = {
    "custom-process": "Run the credential_process of the AWS profile {profile!r} by hand.",
    "container-role": "Look at the container's credentials endpoint (ECS agent, EKS Pod Identity).",
    "iam-role": "Look at the instance's role, and whether its metadata can be reached from here.",
    "sso": "Run `aws sso login --profile {profile}`.",
    "login": "Run `aws login --profile {profile}`.",
}


def _of_credentials(exc: Exception, setup: Setup) -> NightporterError | None:
    profile = setup.profile
    if isinstance(exc, _SSO):
        return StoreDeniedError(
            f"the SSO session of the AWS profile {profile!r} has ended, or there is none",
            hint=f"Run `aws sso login --profile {profile}`.",
        )
    if isinstance(exc, _LOGIN):
        return StoreDeniedError(
            f"the login session of the AWS profile {profile!r} can't be used"
            f" ({type(exc).__name__})",
            hint=f"Run `aws login --profile {profile}`.",
        )
    if isinstance(exc, (PromptError, *_kinds("RefreshWithMFAUnsupportedError"), EOFError)):
        return StoreDeniedError(
            f"the AWS profile {profile!r} wants an MFA code, and nobody is asked for one here",
            hint=(
                "Name a `profile` in the store whose session has the code already: aws-vault and"
                " SSO make one, or keep in ~/.aws/credentials the keys that"
                " `aws sts get-session-token --serial-number MFA_ARN --token-code CODE` prints. Or"
                " use a role without mfa_serial."
            ),
        )
    if isinstance(exc, aws.PartialCredentialsError):
        return ConfigError(
            f"the AWS credentials lack {_member(exc, 'cred_var') or 'a part'}",
            hint="Set the key's id and its secret together, in the environment or the profile.",
        )
    if isinstance(exc, aws.CredentialRetrievalError):
        return _of_provider(exc, setup)
    if isinstance(exc, _ENDPOINT):
        return StoreDeniedError(
            "the endpoint that hands out AWS credentials gave none"
            f"{_last_words(_member(exc, 'error_msg'))}",
            hint=_HINTS_OF_PROVIDERS["container-role"],
        )
    if isinstance(exc, aws.NoCredentialsError):
        return StoreDeniedError(
            "there are no AWS credentials",
            hint=(
                "Set AWS_PROFILE or the store's `profile`, log in (`aws sso login`), or run it"
                " where a role is given. `aws sts get-caller-identity` shows who you are."
            ),
        )
    return None


def _of_provider(exc: aws.CredentialRetrievalError, setup: Setup) -> StoreDeniedError:
    provider = str(_member(exc, "provider"))
    hint = _HINTS_OF_PROVIDERS.get(
        provider, "Look at the AWS profile {profile!r}: `aws sts get-caller-identity` tries it."
    )
    return StoreDeniedError(
        f"AWS credentials can't be had{_last_words(_member(exc, 'error_msg'))}",
        hint=hint.format(profile=setup.profile),
    )


# Configuration.

_SETTINGS = _kinds(
    "InvalidConfigError",
    "InfiniteLoopConfigError",
    "UnknownCredentialError",
    "UnknownTokenProviderError",
    "InvalidRetryModeError",
    "InvalidRetryConfigurationError",
    "InvalidMaxRetryAttemptsError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "InvalidProxiesConfigError",
    "InvalidSTSRegionalEndpointsConfigError",
    "InvalidDefaultsMode",
    "InvalidChecksumConfigError",
    "InvalidEndpointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError",
    "InvalidDNSNameError",
    "InvalidHostLabelError",
    "InvalidS3AddressingStyleError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "UnknownSignatureVersionError",
    "UnsupportedSignatureVersionError",
    "EndpointVariantError",
    "EndpointProviderError",
    "UnknownFIPSEndpointError",
    "BaseEndpointResolverError",
)
_INSTALLATION = _kinds(
    "MissingDependencyException",
    "DataNotFoundError",
    "ApiVersionNotFoundError",
    "UnknownServiceError",
    "UnknownServiceStyle",
    "UnsupportedServiceProtocolsError",
    "MissingServiceIdError",
    "UndefinedModelAttributeError",
    "UnknownClientMethodError",
    "MD5UnavailableError",
)
_PARAMETERS = _kinds(
    "ParamValidationError",
    "ValidationError",
    "MissingParametersError",
    "UnknownParameterError",
    "AliasConflictParameterError",
)


def _of_place(exc: Exception, setup: Setup) -> ConfigError | None:
    """Profile and Region."""
    if isinstance(exc, aws.ProfileNotFound):
        source = "`profile` of the store" if "profile" in setup.options else "AWS_PROFILE"
        return ConfigError(
            f"there is no AWS profile {setup.profile!r}, which {source} names",
            hint="`aws configure list-profiles` lists the profiles.",
        )
    if isinstance(exc, aws.NoRegionError):
        return ConfigError(
            "no AWS Region is set",
            hint="Set `region` in the store, AWS_REGION, or a region in the AWS profile.",
        )
    if isinstance(exc, _kinds("InvalidRegionError")):
        return ConfigError(
            "the AWS Region is invalid: it holds a character that no Region has",
            hint="Correct `region`, AWS_REGION or AWS_DEFAULT_REGION, such as eu-west-1.",
        )
    if isinstance(
        exc, _kinds("UnknownRegionError", "ServiceNotInRegionError", "UnknownEndpointError")
    ):
        return ConfigError(
            f"AWS knows no {NAME} in this Region",
            hint="Correct `region`, AWS_REGION or AWS_DEFAULT_REGION, such as eu-west-1.",
        )
    return None


def _of_configuration(exc: Exception, path: str, setup: Setup) -> NightporterError | None:
    if isinstance(exc, json.JSONDecodeError):
        return StoreDeniedError(
            f"the credential_process of the AWS profile {setup.profile!r} printed no JSON",
            hint="Run it by hand: it must print one JSON object with Version 1.",
        )
    if isinstance(exc, ValueError) and "endpoint" in str(exc).lower():
        return ConfigError(
            "an AWS endpoint is not a URL: endpoint_url or AWS_ENDPOINT_URL",
            hint="Correct it, or leave it out for AWS's own.",
        )
    if isinstance(exc, (aws.ConfigParseError, aws.ConfigNotFound, UnicodeDecodeError)):
        return ConfigError(
            "the AWS configuration can't be read: ~/.aws/config or ~/.aws/credentials",
            hint="`aws configure list` shows what is wrong with it.",
        )
    if isinstance(exc, _INSTALLATION):
        return _installation_error(exc, setup)
    if isinstance(exc, _PARAMETERS):
        return ConfigError(
            f"{NAME} takes no request for {path!r}: a value is too long, empty or of a wrong kind",
            hint="Look at the path of the secret in the profile, and at the store's `kms_key_id`.",
        )
    if isinstance(exc, (*_SETTINGS, ValueError)):
        return ConfigError(
            f"the AWS configuration can't be used ({type(exc).__name__})"
            f"{_last_words(_member(exc, 'msg'))}",
            hint=f"Correct the AWS profile {setup.profile!r} or the AWS_* variables.",
        )
    if isinstance(exc, OSError) and exc.filename and not isinstance(exc, aws.BotoCoreError):
        file = str(exc.filename)
        return ConfigError(
            f"{file}, which {setup.source_of_file(file)} names, can't be used ({exc.strerror})",
            hint="Mount or create it, or name another; a command must be on PATH.",
        )
    return None


def _installation_error(exc: Exception, setup: Setup) -> ConfigError:
    """boto3 itself names pip, which may not reach the environment that runs this."""
    from nightporter.machine.installation import library_hint  # deferred: only a failure

    if isinstance(exc, aws.MissingDependencyException):
        return ConfigError(
            f"boto3 needs the package botocore[crt] for the AWS profile {setup.profile!r}, as for"
            " each profile of `aws login`; it is not installed",
            hint=library_hint("'botocore[crt]'"),
        )
    return ConfigError(
        f"the installed boto3 is too old or incomplete ({type(exc).__name__})"
        f"{_last_words(_member(exc, 'msg'))}",
        hint=library_hint("boto3", is_upgrade=True),
    )


# The network.

_UNREADABLE = _kinds(
    "ChecksumError",
    "FlexibleChecksumError",
    "IncompleteReadError",
    "ResponseStreamingError",
    "UnseekableStreamError",
)


def ca_bundle_error(environment: Mapping[str, str]) -> ConfigError | None:
    """Returns what is wrong with the CA file that the environment names for AWS."""
    names = (name for name in CA_VARIABLES if environment.get(name))
    source = next(names, None)
    problem = tls.ca_problem(environment[source]) if source else None
    if source is None or problem is None:
        return None
    return ConfigError(
        f"{source}: {environment[source]} {problem}",
        hint="Name a file of certificates in PEM form.",
    )


def _of_network(exc: Exception, setup: Setup) -> NightporterError | None:
    refused = tls.explain(
        exc,
        ca_hint="Set AWS_CA_BUNDLE to the CA's file",
        client_hint="Use an endpoint that takes requests without a client certificate.",
    )
    if refused is not None:
        what, hint = refused
        return StoreUnreachableError(f"{NAME}: {what}", hint=hint)
    if isinstance(exc, aws.ProxyConnectionError):
        if re.match("(http://)?socks", _member(exc, "proxy_url").lower()):
            return ConfigError(
                "HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, and boto3 takes none",
                hint="Name an http proxy, or the endpoint's host in NO_PROXY.",
            )
        return StoreUnreachableError(
            f"{NAME} can't be reached through the proxy",
            hint="Check HTTPS_PROXY, or name the endpoint's host in NO_PROXY.",
        )
    # botocore's parser has a class of its own, outside of its tree.
    if isinstance(exc, _UNREADABLE) or type(exc).__name__ == "ResponseParserError":
        return unreadable_answer(type(exc).__name__)
    kinds = (aws.HTTPClientError, aws.ConnectionError, OSError)
    if isinstance(exc, kinds):
        if error := ca_bundle_error(setup.environment):  # it was replaced, and can't be loaded
            return error
        host = urlsplit(_member(exc, "endpoint_url")).hostname
        return StoreUnreachableError(
            f"{NAME}{f' at {host}' if host else ''} can't be reached: {words_of(exc)}",
            hint=(
                "Check the network and the proxy, and `region` or `endpoint_url`, which give the"
                " name; nothing was changed."
            ),
        )
    return None


def unreadable_answer(what: str) -> StoreUnreachableError:
    """Returns the error for an answer that Secrets Manager never gives."""
    return StoreUnreachableError(
        f"what answers for {NAME} is not {NAME} ({what})",
        hint="Check `endpoint_url`, HTTPS_PROXY and what is between here and AWS.",
    )


def _member(exc: Exception, name: str) -> str:
    """What botocore keeps of its exceptions' texts."""
    return str(getattr(exc, "kwargs", {}).get(name) or "")


def _last_words(said: str) -> str:
    """The last line of a program's standard error, printable and short."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return ""
    return ": " + "".join(char for char in lines[-1] if char.isprintable())[:200]


# What AWS answers.

_THROTTLED = frozenset(
    {
        "ThrottlingException",
        "ThrottledException",
        "Throttling",
        "TooManyRequestsException",
        "TooManyRequestsError",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "SlowDownException",
        "BandwidthLimitExceeded",
        "429",
    }
)
_STALE = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
    }
)
_REFUSED = frozenset(
    {
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "AuthFailure",
        "NotAuthorized",
    }
)
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_KMS = frozenset({"DecryptionFailure", "EncryptionFailure"})
_WEB_IDENTITY = frozenset(
    {"InvalidIdentityToken", "InvalidIdentityTokenException", "IDPRejectedClaim"}
)
_ACCOUNT = frozenset({"OptInRequired", "RegionDisabledException", "SubscriptionRequiredException"})
_INVALID = frozenset(
    {
        "InvalidRequestException",
        "InvalidParameterException",
        "ValidationException",
        "ValidationError",
        "MalformedHttpRequestException",
        "RequestEntityTooLargeException",
        "PreconditionNotMetException",
        "InvalidNextTokenException",
        "MalformedPolicyDocumentException",
        "PublicPolicyException",
    }
)
_QUOTAS = frozenset({"LimitExceededException", "ServiceQuotaExceededException"})
_PASSING = frozenset(
    {
        "InternalServiceError",
        "InternalFailure",
        "InternalServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestAbortedException",
        "RequestTimeout",
        "RequestTimeoutException",
        "IDPCommunicationError",
        "PriorRequestNotComplete",
        "408",
        "425",
    }
)
_ELSEWHERE = frozenset({"UnknownOperationException", "UnknownOperation", "InvalidAction"})
_DENYING = re.compile(
    r"explicit deny in an? (service control policy|resource control policy|permissions boundary"
    r"|session policy|VPC endpoint policy|resource-based policy|identity-based policy)"
)


def _code(exc: aws.ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def _of_answer(exc: aws.ClientError, right: str, path: str, setup: Setup) -> NightporterError:
    code = _code(exc)
    message = str(exc.response.get("Error", {}).get("Message", ""))
    if code in _CLOCK or (code in _REFUSED and _names_time(message)):
        return StoreDeniedError(
            f"AWS refused the time of the request ({code}): the clock of this machine is off",
            hint="Set this machine's clock (NTP), and run it again.",
        )
    if code in _THROTTLED:
        return StoreBusyError(f"{NAME} limits the rate")
    if code in _PASSING:
        return StoreUnreachableError(f"{NAME} failed ({code})")
    if code in _ACCOUNT:
        return StoreDeniedError(
            f"the AWS account may not use this service or Region ({code})",
            hint="Enable the Region (and STS in it) for the account, or name another `region`.",
        )
    if str(exc.operation_name) in _FOR_CREDENTIALS:
        return _of_role(exc, code, setup)
    return _of_secret(code, message, right, path, setup)


def _names_time(message: str) -> bool:
    """`Signature expired: ... is now earlier than ...`, `Signature not yet current: ...`."""
    return "expired" in message.lower() or "not yet current" in message.lower()


# The operations with which boto3 gets credentials.
_FOR_CREDENTIALS = frozenset(
    {
        "AssumeRole",
        "AssumeRoleWithWebIdentity",
        "AssumeRoleWithSAML",
        "GetRoleCredentials",
        "CreateToken",
        "CreateOAuth2Token",
    }
)


def _of_role(exc: aws.ClientError, code: str, setup: Setup) -> StoreDeniedError:
    operation, profile = str(exc.operation_name), setup.profile
    if operation in ("GetRoleCredentials", "CreateToken", "CreateOAuth2Token"):
        login = "aws login" if operation == "CreateOAuth2Token" else "aws sso login"
        return StoreDeniedError(
            f"the AWS profile {profile!r} gets no credentials by its session ({code})",
            hint=f"Run `{login} --profile {profile}`; if it stays, the account or role is not"
            " assigned to you.",
        )
    is_web_identity = operation == "AssumeRoleWithWebIdentity"
    if code in _WEB_IDENTITY or (is_web_identity and code in _STALE):
        return StoreDeniedError(
            f"AWS took no web identity token ({code})",
            hint=(
                "Check that AWS_WEB_IDENTITY_TOKEN_FILE is renewed, and that the role's trust"
                " policy names this issuer, audience and subject."
            ),
        )
    if code.startswith("AccessDenied"):
        role = str(setup.options.get("role_arn") or f"the role of the AWS profile {profile!r}")
        return StoreDeniedError(
            f"{role} may not be assumed",
            hint=(
                f"Allow `sts:{operation}` to the identity that runs this, and name it in the role's"
                " trust policy."
            ),
        )
    return StoreDeniedError(
        f"AWS gave no credentials by {operation} ({code})",
        hint=f"Renew the credentials of the AWS profile {profile!r}:"
        " `aws sts get-caller-identity` tries them.",
    )


def _of_secret(code: str, message: str, right: str, path: str, setup: Setup) -> NightporterError:
    if code == "ResourceNotFoundException":
        has_secret = "staging label" in message or "version" in message.lower()
        return NotFoundError(f"{path}: not there, or not visible yet", has_secret=has_secret)
    if code == "ResourceExistsException":
        return VersionConflictError(f"{path}: another writer was first")
    is_denied = code.startswith("AccessDenied")
    if code in _KMS or (is_denied and "kms" in message.lower()):
        return StoreDeniedError(
            f"{path}: its KMS key can't be used: kms:Decrypt and kms:GenerateDataKey on it are"
            " missing, or the key is disabled",
            right="kms:Decrypt and kms:GenerateDataKey on the key",
            hint=(
                "Name the key as `kms_key_id` in the store; then `nightporter policy PROFILE --role"
                " ROLE` grants its use. The key's own policy must allow this account too."
            ),
        )
    if is_denied:
        return _denied(message, right, path)
    if code in _STALE | _REFUSED:
        return StoreDeniedError(
            f"AWS refused our credentials ({code})",
            hint=(
                f"Renew the keys of the AWS profile {setup.profile!r} or in the AWS_* variables:"
                " `aws sts get-caller-identity` tries them."
            ),
        )
    return _of_request(code, message, path)


def _denied(message: str, right: str, path: str) -> StoreDeniedError:
    found = _DENYING.search(message)
    if found is None:
        return StoreDeniedError(f"{path}: {right} is missing", right=f"{right} on {path}")
    policy = found[1]
    return StoreDeniedError(
        f"{path}: denied by a {policy}",
        hint=f"A {policy} forbids {right} there, so another grant does not help: change that"
        " policy.",
    )


def _of_request(code: str, message: str, path: str) -> StoreError:
    if code == "InvalidRequestException" and "delet" in message.lower():
        return StoreValueError(
            f"{path} is marked for deletion",
            hint=(
                f"Run `aws secretsmanager restore-secret --secret-id {path}`, or use another path."
            ),
        )
    if code in _INVALID:
        return StoreValueError(f"{NAME} refused the request for {path} as invalid ({code})")
    if code in _QUOTAS:
        return StoreValueError(
            f"{path}: a quota of {NAME} is used up",
            hint="Ask AWS for a higher quota, or remove versions and secrets; nothing was changed.",
        )
    if code.isdigit() or not code:
        return unreadable_answer(code or "no code")  # a proxy's page has no code of AWS
    if code in _ELSEWHERE:
        return StoreError(
            f"what answers for {NAME} is another service ({code})",
            hint="Correct `endpoint_url` or AWS_ENDPOINT_URL; nothing was changed.",
        )
    return StoreUnreachableError(f"{NAME} failed ({code})")  # a new one: it may pass
