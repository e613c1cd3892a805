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
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import botocore.exceptions as aws
import urllib3
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config as ClientConfig
from botocore.credentials import RefreshableCredentials
from botocore.session import Session
from botocore.utils import get_environ_proxies

from nightporter.core.checks import is_loopback
from nightporter.core.errors import ConfigError, NightporterError, StoreError
from nightporter.machine.places import absolute
from nightporter.machine.room import without_collector
from nightporter.machine.trust import check_named_file
from nightporter.net.proxies import environment_proxies
from nightporter.net.quiet import quiet
from nightporter.net.tls import file_mark
from nightporter.stores.aws_errors import (
    NAME,
    RENEWABLE,
    PromptError,
    Setup,
    ca_bundle_error,
    error_of,
    is_stale,
)
from nightporter.stores.aws_identity import CA_VARIABLES, FILE_VARIABLES
from nightporter.stores.bounded import CallTimeoutError, bounded

T = TypeVar("T")
CONNECT_S = 3
READ_S = 5
MAX_REPLY_BYTES = 1 << 20
DEFAULT_S = 10.0


class Connection:
    """A client of Secrets Manager by the options of a `[stores.NAME]` table. Nothing is sent before
    the first `ask`."""

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment
        self._client: Any = None
        self._opening = threading.Lock()
        self._ca_mark: object = None
        self._method = "boto3's chain"  # what of it has given the credentials

    def ask(
        self, right: str, path: str, call: Callable[[Any], T], *, timeout_s: float = DEFAULT_S
    ) -> T:
        """Returns what `call` returns, which gets the client. `right`: the action, for a message.

        Where the credentials have run out, they are read again and the call is made once more: a
        long process takes up what was renewed (boto/botocore#704).

        Raises: StoreError, ConfigError.
        """
        deadline = time.monotonic() + timeout_s
        self._take_up_ca()
        with self._translated(right, path):
            had_client = self._client is not None
            try:
                return self._run(call, timeout_s)
            except (aws.ClientError, *RENEWABLE) as exc:
                if not had_client or not is_stale(exc):
                    raise
            self.close()
            return self._run(call, max(0.1, deadline - time.monotonic()))

    def _take_up_ca(self) -> None:
        """Opens another client where the CA file has been replaced: urllib3 adds a new CA by
        itself, but goes on trusting the old one."""
        bundle = next(filter(None, map(self._environment.get, CA_VARIABLES)), None)
        mark = file_mark(bundle)
        if self._client is not None and mark != self._ca_mark:
            self.close()
        self._ca_mark = mark

    def whereabouts(self) -> str:
        """Returns Region, address and source of the credentials, once there is a client."""
        if self._client is None:
            return NAME
        meta = self._client.meta
        role = self._options.get("role_arn")
        source = f"role {role}" if role else f"credentials by {self._method}"
        return f"{NAME} in {meta.region_name}, {urlsplit(meta.endpoint_url).netloc}, {source}"

    def close(self) -> None:
        """Closes the client; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def disconnect(self) -> None:
        """Drops open connections; the client opens others."""
        if self._client is not None:
            self._client.close()

    def _run(self, call: Callable[[Any], T], timeout_s: float) -> T:
        is_asked = threading.Event()

        def run() -> T:
            with quiet():
                client = self._open()
            is_asked.set()
            with quiet():  # once more: opening it has imported modules with loggers
                return call(client)

        try:
            return bounded(run, timeout_s, who=NAME)
        except CallTimeoutError as exc:
            exc.is_unasked = not is_asked.is_set()
            raise

    def _open(self) -> Any:
        """Opens the client once: on a loaded machine boto3 takes longer for that than a call may,
        and the next call goes on waiting for the same one."""
        with self._opening:
            if self._client is None:
                client = self._new_client()
                _check_https(client, NAME)
                _bound_replies(client)
                self._client = client
            return self._client

    def _new_client(self) -> Any:
        options = self._options
        session = open_session(options, self._environment)
        credentials = session.get_credentials()
        if credentials is not None:
            self._method = str(credentials.method)
        if "role_arn" in options:
            session = _assumed(session, options["role_arn"], self._environment)
        return _client_of(
            session, "secretsmanager", self._environment, endpoint_url=options.get("endpoint_url")
        )

    @contextlib.contextmanager
    def _translated(self, right: str, path: str) -> Iterator[None]:
        """No exception of a library leaves."""
        try:
            yield
        except NightporterError:
            raise
        except Exception as exc:
            setup = Setup(options=self._options, environment=self._environment)
            raise error_of(exc, right=right, path=path, setup=setup) from exc


def open_session(options: Mapping[str, Any], environment: Mapping[str, str]) -> Session:
    """Returns a session by boto3's own chain, or by `profile` and `region` of the options, that
    asks nobody anything.

    Raises: ConfigError for a file that the working directory would choose: what is in
    AWS_CONFIG_FILE says whom we ask, and which program (`credential_process`) is run.
    """
    for variable in FILE_VARIABLES:
        if named := environment.get(variable):
            absolute(os.path.expanduser(os.path.expandvars(named)), variable)  # as botocore does
    for variable in CA_VARIABLES:
        if bundle := environment.get(variable):
            check_named_file(bundle, variable, environment)
    if environment.get("AWS_CA_BUNDLE") and (error := ca_bundle_error(environment)):
        raise error
    session = _new_session(options.get("profile"))
    # botocore itself reads AWS_DEFAULT_REGION alone; every other SDK and the CLI AWS_REGION.
    if region := options.get("region") or environment.get("AWS_REGION"):
        session.set_config_variable("region", region)
    _silence_prompts(session)
    return session


def _new_session(profile: str | None = None) -> Session:
    session = Session(profile=profile)
    loader = session.get_component("data_loader")
    loader.list_available_services = functools.partial(_Services, loader)
    return session


class _Services:
    """The services that botocore has data for. To tell whether one is among them, botocore looks
    through the directories of all 400 with 2,700 `stat`: a tenth of what opening a client takes."""

    def __init__(self, loader: Any, type_name: str) -> None:
        self._loader = loader
        self._type_name = type_name

    def __contains__(self, name: str) -> bool:
        try:
            self._loader.list_api_versions(name, self._type_name)
        except aws.DataNotFoundError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:  # for the message about one that isn't
        return iter(type(self._loader).list_available_services(self._loader, self._type_name))


class _BoundedHttp:
    """botocore's HTTP session, but no answer is read beyond 1 MiB."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def send(self, request: Any) -> Any:
        """Returns the answer, read.

        Raises: StoreError for one that is too long, and what botocore raises.
        """
        request.stream_output = True  # else it is read whole before we see it
        reply = self._inner.send(request)
        found = bytearray()
        try:
            for chunk in reply.raw.stream(16_384, decode_content=False):
                found += chunk
                if len(found) > MAX_REPLY_BYTES:
                    reply.raw.close()
                    raise StoreError(f"{NAME} sent more than {MAX_REPLY_BYTES} bytes as an answer")
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise aws.ReadTimeoutError(endpoint_url=request.url, error=exc) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise aws.HTTPClientError(error=exc) from exc
        reply._content = _checked(bytes(found))
        return reply

    def close(self) -> None:
        self._inner.close()


def _checked(body: bytes) -> bytes:
    """Raises: StoreError for what is no text: packed, or not of AWS."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise StoreError(
            f"{NAME} answered what it never would: bytes that are no text",
            hint="Check `endpoint_url`, and what is between here and AWS (a proxy that packs?).",
        ) from exc
    return body


# What `http.client.HTTPConnection.debuglevel` prints of every connection of a program is whole
# requests and answers: not ours.


class _SilentConnection(AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    debuglevel = 0


class _SilentTlsConnection(AWSHTTPSConnection):  # type: ignore[misc]  # botocore has no types
    debuglevel = 0


class _SilentPool(AWSHTTPConnectionPool):  # type: ignore[misc]  # botocore has no types
    ConnectionCls = _SilentConnection


class _SilentTlsPool(AWSHTTPSConnectionPool):  # type: ignore[misc]  # botocore has no types
    ConnectionCls = _SilentTlsConnection


def _bound_replies(client: Any) -> None:
    """Bounds the client's answers and silences its connections. botocore has no public place for
    either, and another version of it may have none at all."""
    endpoint = getattr(client, "_endpoint", None)
    session = getattr(endpoint, "http_session", None)
    if endpoint is None or session is None:
        return
    # The dictionary is that of the session's pools with and without a proxy.
    pools: dict[str, object] = getattr(session, "_pool_classes_by_scheme", {})
    pools |= {"http": _SilentPool, "https": _SilentTlsPool}
    endpoint.http_session = _BoundedHttp(session)


def _client_of(
    session: Session,
    service: str,
    environment: Mapping[str, str],
    *,
    endpoint_url: str | None = None,
) -> Any:
    """Returns a client with our time limits and the environment's proxies as everything else of
    ours reads them: boto3 knows no networks in NO_PROXY, and no ALL_PROXY."""
    # Our own loops retry, since only they know what may be sent twice.
    config = ClientConfig(
        connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": 1}
    )

    def create() -> Any:
        return session.create_client(service, endpoint_url=endpoint_url, config=config)

    client = without_collector(create)
    url = client.meta.endpoint_url
    proxies = environment_proxies(url, environment)
    scheme = urlsplit(url).scheme
    if proxies.get(scheme) == get_environ_proxies(url).get(scheme):
        return client
    client.close()
    config = config.merge(ClientConfig(proxies=proxies))
    return without_collector(create)


def _check_https(client: Any, name: str) -> None:
    """Checks where a client sends to, whatever named that (a key, a variable, the AWS profile).

    Raises: ConfigError.
    """
    url = urlsplit(client.meta.endpoint_url)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ConfigError(
            f"the endpoint of {name} must be https: plain http is taken on loopback only",
            hint="Correct `endpoint_url`, AWS_ENDPOINT_URL or the AWS profile that names it.",
        )


def _refuse_to_prompt(*_args: object, **_options: object) -> NoReturn:
    raise PromptError


def _silence_prompts(session: Session) -> None:
    """No MFA code is asked for (dbcli/athenacli#34), and a credential_process gets no standard
    input. botocore has no public place for either."""
    resolver = session.get_component("credential_provider")
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


def _assumed(session: Session, role_arn: str, environment: Mapping[str, str]) -> Session:
    """A session of the role, which assumes it again by itself before its credentials end."""
    sts = _client_of(session, "sts", environment)
    _bound_replies(sts)
    _check_https(sts, "STS")  # who answers there chooses the credentials

    def assume() -> dict[str, str]:
        found = sts.assume_role(RoleArn=role_arn, RoleSessionName="nightporter")["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    role = _new_session()
    role._credentials = RefreshableCredentials.create_from_metadata(
        assume(), assume, "sts-assume-role"
    )
    role.set_config_variable("region", session.get_config_variable("region"))
    return role
