"""One client of AWS: opened by boto3's own chain, bounded in time, its failures translated once.

Nothing here may ask a person: the terminal and standard input belong to the client that runs us
(kubectl, git), so that an MFA code is refused and not prompted for. A call is bounded as a whole
(name look-up, STS, SSO, credential_process and the request): boto3 has limits for single sockets
alone, so each call runs in a thread that is waited for as long as the caller has time.

Sources: "AWS SDKs and Tools Reference Guide" (AWS_REGION, credential_process, SSO), the error codes
of "Common Errors" in the API References.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as aws
from botocore.config import Config as ClientConfig

from nightporter.core.checks import is_loopback
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
from nightporter.net import tls
from nightporter.net.quiet import quiet

T = TypeVar("T")
CONNECT_S = 3
READ_S = 5
DEFAULT_S = 10.0
NAME = "Secrets Manager"

_THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"}
)
# The key has been replaced or has run out: a process that has read the old one must look again.
_STALE = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    }
)
_REFUSED = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_KMS = frozenset({"DecryptionFailure", "EncryptionFailure"})
_SSO = (
    aws.SSOTokenLoadError,
    aws.UnauthorizedSSOTokenError,
    aws.SSOError,
    aws.TokenRetrievalError,
)
_CREDENTIALS = (aws.NoCredentialsError, aws.CredentialRetrievalError, *_SSO)
_FILE_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)


class NotFoundError(StoreUnreachableError):
    """No such secret, or (`has_secret`) one that holds no value yet.

    An answer to a read; to a write it means that the write's secret is not visible yet, so that is
    tried again.
    """

    def __init__(self, message: str, *, has_secret: bool) -> None:
        super().__init__(message)
        self.has_secret = has_secret


class _PromptError(Exception):
    """boto3 wants a person's MFA code."""


class Connection:
    """A client of Secrets Manager by the options of a `[stores.NAME]` table. Nothing is sent before
    the first `ask`."""

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment
        self._client: Any = None

    def ask(
        self, right: str, path: str, call: Callable[[Any], T], *, timeout_s: float = DEFAULT_S
    ) -> T:
        """Returns what `call` returns, which gets the client. `right`: the action, for a message.

        Where the credentials have run out, they are read again and the call is made once more: a
        long process takes up what was renewed (boto/botocore#704).

        Raises: StoreError, ConfigError.
        """
        deadline = time.monotonic() + timeout_s
        with self._translated(right, path):
            had_client = self._client is not None
            try:
                return self._bounded(call, timeout_s)
            except (aws.ClientError, *_CREDENTIALS) as exc:
                if not had_client or not _is_stale(exc):
                    raise
            self.close()
            return self._bounded(call, max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def disconnect(self) -> None:
        """Drops open connections; the client opens others."""
        if self._client is not None:
            self._client.close()

    def _bounded(self, call: Callable[[Any], T], timeout_s: float) -> T:
        outcome: list[T] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                with quiet():
                    client = self._open()
                with quiet():  # once more: opening it has imported modules with loggers
                    outcome.append(call(client))
            except BaseException as exc:
                failure.append(exc)

        worker = threading.Thread(target=run, daemon=True)
        try:
            worker.start()
            worker.join(timeout_s)
        except RuntimeError:  # the interpreter is ending and starts no thread: less bounded
            run()
        if failure:
            raise failure[0]
        if not outcome:
            raise StoreUnreachableError(f"{NAME} gave no answer within {timeout_s:.0f} s")
        return outcome[0]

    def _open(self) -> Any:
        if self._client is None:
            client = self._new_client()
            url = urlsplit(client.meta.endpoint_url)
            if url.scheme != "https" and not is_loopback(url.hostname or ""):
                raise ConfigError(
                    "the endpoint of Secrets Manager must be https: plain http is taken on loopback"
                    " only"
                )
            self._client = client
        return self._client

    def _new_client(self) -> Any:
        options = self._options
        # botocore itself reads AWS_DEFAULT_REGION alone; every other SDK and the CLI AWS_REGION.
        region = options.get("region") or self._environment.get("AWS_REGION") or None
        session = boto3.session.Session(profile_name=options.get("profile"), region_name=region)
        _silence_prompts(session)
        if "role_arn" in options:
            session = _assumed(session, options["role_arn"])
        # Our own loops retry, since only they know what may be sent twice.
        config = ClientConfig(
            connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": 1}
        )
        return session.client(
            "secretsmanager", endpoint_url=options.get("endpoint_url"), config=config
        )

    @property
    def _profile(self) -> str:
        variables = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
        named = (self._environment.get(name) for name in variables)
        return str(self._options.get("profile") or next(filter(None, named), "default"))

    @contextlib.contextmanager
    def _translated(self, right: str, path: str) -> Iterator[None]:
        """Everything that boto3 and what it runs raise, once, into our errors; no exception of a
        library leaves."""
        try:
            yield
        except NightporterError:
            raise
        except aws.ClientError as exc:
            raise _of_client_error(exc, right, path) from exc
        except Exception as exc:
            raise self._of_exception(exc, path) from exc

    def _of_exception(self, exc: Exception, path: str) -> NightporterError:
        for translate in (self._of_credentials, self._of_configuration, _of_network):
            found = translate(exc)
            if found is not None:
                return found
        where = f" for {path}" if path else ""
        return StoreError(f"{NAME}: {type(exc).__name__}{where}")

    def _of_credentials(self, exc: Exception) -> NightporterError | None:
        if isinstance(exc, _SSO):
            return StoreDeniedError(
                f"the SSO session of the AWS profile {self._profile!r} has ended, or there is none",
                hint=f"Run `aws sso login --profile {self._profile}`.",
            )
        if isinstance(exc, (_PromptError, aws.RefreshWithMFAUnsupportedError, EOFError)):
            return StoreDeniedError(
                f"the AWS profile {self._profile!r} wants an MFA code, and nobody is asked for one"
                " here",
                hint=(
                    "Start a session that has the code already (`aws sts get-session-token`,"
                    " aws-vault, SSO) and name its profile, or use a role without mfa_serial."
                ),
            )
        if isinstance(exc, aws.PartialCredentialsError):
            return ConfigError(
                f"the AWS credentials lack {exc.kwargs.get('cred_var', 'a part')}",
                hint="Set the key's id and its secret together, in the environment or the profile.",
            )
        if isinstance(exc, aws.CredentialRetrievalError):
            return StoreDeniedError(
                f"AWS credentials can't be had{_last_words(exc.kwargs.get('error_msg'))}",
                hint=f"Run the credential_process of the AWS profile {self._profile!r} by hand.",
            )
        if isinstance(exc, aws.NoCredentialsError):
            return StoreDeniedError(
                "there are no AWS credentials", right="credentials that boto3's chain finds"
            )
        return None

    def _of_configuration(self, exc: Exception) -> NightporterError | None:
        if isinstance(exc, aws.NoRegionError):
            return ConfigError(
                "no AWS Region is set",
                hint="Set `region` in the store, AWS_REGION, or a region in the AWS profile.",
            )
        if isinstance(exc, aws.ProfileNotFound):
            source = "`profile` of the store" if "profile" in self._options else "AWS_PROFILE"
            return ConfigError(
                f"there is no AWS profile {self._profile!r}, which {source} names",
                hint="`aws configure list-profiles` lists the profiles.",
            )
        if isinstance(exc, json.JSONDecodeError):
            return StoreDeniedError(
                f"the credential_process of the AWS profile {self._profile!r} printed no JSON",
                hint="Run it by hand: it must print one JSON object with Version 1.",
            )
        if isinstance(exc, aws.InvalidRegionError):
            return ConfigError(
                "the AWS Region is none: it holds a character that no Region has",
                hint="Correct `region`, AWS_REGION or AWS_DEFAULT_REGION, such as eu-west-1.",
            )
        if isinstance(exc, ValueError) and "endpoint" in str(exc).lower():
            return ConfigError("an endpoint of AWS is no address: endpoint_url or AWS_ENDPOINT_URL")
        if isinstance(exc, (aws.ConfigParseError, aws.ConfigNotFound, UnicodeDecodeError)):
            return ConfigError(
                "the AWS configuration can't be read: ~/.aws/config or ~/.aws/credentials",
                hint="`aws configure list` shows what is wrong with it.",
            )
        if isinstance(exc, _CONFIGURATION):
            return ConfigError(
                f"the AWS configuration can't be used ({type(exc).__name__})",
                hint=f"Correct the AWS profile {self._profile!r} or the AWS_* variables.",
            )
        if isinstance(exc, OSError) and exc.filename and not isinstance(exc, aws.BotoCoreError):
            return self._of_file(exc)
        return None

    def _of_file(self, exc: OSError) -> ConfigError:
        file = str(exc.filename)
        named = (name for name in _FILE_VARIABLES if self._environment.get(name) == file)
        source = next(named, f"the AWS profile {self._profile!r}")
        return ConfigError(
            f"{file}, which {source} names, can't be used ({exc.strerror})",
            hint="Mount or create it, or name another; a command must be on PATH.",
        )


_CONFIGURATION = (
    aws.InvalidConfigError,
    aws.InfiniteLoopConfigError,
    aws.UnknownCredentialError,
    aws.InvalidRetryModeError,
    aws.InvalidRetryConfigurationError,
    aws.InvalidMaxRetryAttemptsError,
    aws.InvalidIMDSEndpointError,
    aws.InvalidIMDSEndpointModeError,
    aws.InvalidProxiesConfigError,
    aws.InvalidSTSRegionalEndpointsConfigError,
    aws.EndpointVariantError,
    aws.EndpointProviderError,
    aws.UnknownEndpointError,
    aws.ParamValidationError,
    ValueError,
)


def _of_network(exc: Exception) -> NightporterError | None:
    refused = tls.explain(
        exc,
        ca_hint="Set AWS_CA_BUNDLE to the CA's file",
        client_hint="Use an endpoint that takes requests without a client certificate.",
    )
    if refused is not None:
        what, hint = refused
        return StoreUnreachableError(f"{NAME}: {what}", hint=hint)
    if isinstance(exc, aws.ProxyConnectionError):
        return StoreUnreachableError(
            f"{NAME} can't be reached through the proxy",
            hint="Check HTTPS_PROXY, or name the endpoint's host in NO_PROXY.",
        )
    kinds = (aws.HTTPClientError, aws.ConnectionError, aws.IncompleteReadError, OSError)
    if isinstance(exc, kinds):
        return StoreUnreachableError(f"{NAME} can't be reached: {type(exc).__name__}")
    return None


def _last_words(said: object) -> str:
    """The last line of a program's standard error, printable and short."""
    lines = [line.strip() for line in str(said or "").splitlines() if line.strip()]
    if not lines:
        return ""
    return ": " + "".join(char for char in lines[-1] if char.isprintable())[:200]


def _is_stale(exc: Exception) -> bool:
    if isinstance(exc, aws.ClientError):
        return str(exc.response.get("Error", {}).get("Code", "")) in _STALE
    return True


def _refuse_to_prompt(*_args: object, **_options: object) -> NoReturn:
    raise _PromptError


def _silence_prompts(session: boto3.session.Session) -> None:
    """No MFA code is asked for (dbcli/athenacli#34), and a credential_process gets no standard
    input. botocore has no public place for either."""
    resolver = session._session.get_component("credential_provider")
    for method, attribute, value in (
        ("assume-role", "_prompter", _refuse_to_prompt),
        (
            "custom-process",
            "_popen",
            functools.partial(subprocess.Popen, stdin=subprocess.DEVNULL),
        ),
    ):
        with contextlib.suppress(aws.UnknownCredentialError, AttributeError):
            provider = resolver.get_provider(method)
            getattr(provider, attribute)  # another botocore may call it otherwise
            setattr(provider, attribute, value)


def _assumed(session: boto3.session.Session, role_arn: str) -> boto3.session.Session:
    """A session of the role, which assumes it again by itself before its credentials end."""
    import botocore.session
    from botocore.credentials import RefreshableCredentials

    sts = session.client("sts", config=ClientConfig(connect_timeout=CONNECT_S, read_timeout=READ_S))

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


def _of_client_error(exc: aws.ClientError, right: str, path: str) -> NightporterError:
    error = exc.response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    if code == "ResourceNotFoundException":
        has_secret = "staging label" in message or "version" in message.lower()
        return NotFoundError(f"{path}: not there, or not visible yet", has_secret=has_secret)
    if code == "ResourceExistsException":
        return VersionConflictError(f"{path}: somebody else wrote it first")
    if code in _CLOCK or (code in _REFUSED and _names_time(message)):
        return StoreDeniedError(
            f"AWS refused the time of the request ({code}): the clock of this machine is off",
            hint="Set this machine's clock (NTP), and run it again.",
        )
    if code in _KMS or (code.startswith("AccessDenied") and "kms" in message.lower()):
        return StoreDeniedError(
            f"{path}: its KMS key can't be used", right="kms:Decrypt and kms:GenerateDataKey on it"
        )
    if code.startswith("AccessDenied"):
        return _denied(exc, right, path)
    if code in _STALE | _REFUSED:
        return StoreDeniedError(
            f"AWS refused our credentials ({code})", right="credentials that are valid now"
        )
    if code in _THROTTLED:
        return StoreBusyError(f"{NAME} limits the rate")
    return _of_request(code, message, path)


def _names_time(message: str) -> bool:
    """`Signature expired: ... is now earlier than ...`, `Signature not yet current: ...`."""
    return "expired" in message.lower() or "not yet current" in message.lower()


def _denied(exc: aws.ClientError, right: str, path: str) -> StoreDeniedError:
    if exc.operation_name == "AssumeRole":
        return StoreDeniedError("the role may not be assumed", right="sts:AssumeRole on role_arn")
    return StoreDeniedError(f"{path}: denied", right=f"{right} on {path}")


def _of_request(code: str, message: str, path: str) -> StoreError:
    if code == "InvalidRequestException" and "delet" in message.lower():
        return StoreValueError(
            f"{path} is marked for deletion",
            hint=(
                f"Run `aws secretsmanager restore-secret --secret-id {path}`, or use another path."
            ),
        )
    if code in ("InvalidRequestException", "InvalidParameterException", "ValidationException"):
        return StoreValueError(f"{NAME} refused the request for {path} as invalid ({code})")
    if code == "LimitExceededException":
        return StoreValueError(f"{path}: a quota of Secrets Manager is used up")
    return StoreUnreachableError(f"{NAME} failed ({code or 'no code'})")
