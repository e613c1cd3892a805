"""Authorization for HTTP clients of Python: `BearerAuth` for requests, `httpx_auth` for httpx.

On a 401 the token is reported as refused and, once a generation and five minutes, a fresh exchange
and one more try follow. A 401 on a token younger than a minute goes to the caller: a new one would
fare no better. Neither library is imported here; requests takes any callable.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx
    import requests

    from nightporter.client.porter import Porter
    from nightporter.core.model import Token

T = TypeVar("T")
YOUNG_S = 60.0


class _Renewal:
    """Decides whether a refused token is worth another exchange, for all threads and instances of a
    porter."""

    def __init__(self, porter: Porter | None, profile: str | None) -> None:
        """`porter`: None for the default one of this process."""
        self._is_default = porter is None
        self._porter = porter or _default_porter()
        self._profile = profile

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process the default porter is that process's own."""
        return _Renewal, (None if self._is_default else self._porter, self._profile)

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await self._porter.in_thread(call)

    def token(self) -> Token:
        return self._porter.get_token(self._profile)

    def check(self, url: str) -> None:
        """Checks that a request to the address may carry the token.

        Raises: HostNotAllowedError.
        """
        from nightporter.core.config import choose_profile  # deferred, as the porter's are
        from nightporter.core.hosts import may_receive

        profile = choose_profile(self._porter.config, self._profile)
        if may_receive(url, profile):
            return
        from nightporter.core.errors import HostNotAllowedError

        raise HostNotAllowedError(
            f"profile {profile.name!r} gives its token to `hosts` alone, over https (or on"
            f" loopback), and the request goes to {urlsplit(url).hostname}",
            hint="Name the host in `hosts`, or say any_host=True where the token is used.",
        )

    def after_401(self, refused: Token) -> Token | None:
        """A newer token to try once more with; None where the 401 belongs to the caller.

        Of ten threads that meet a 401 with one token the first exchanges, and the others find its
        token. A failing renewal leaves the 401 to the caller too: it is the answer that there is.
        """
        from nightporter.core.errors import NightporterError

        renewals = self._porter.renewals
        with renewals.lock(self._profile):
            try:
                current = self._porter.get_token(self._profile)
                if current.value != refused.value:
                    return current
                is_young = (
                    refused.exchanged_at_s > 0 and time.time() - refused.obtained_at_s < YOUNG_S
                )
                if is_young or renewals.is_recent(self._profile):
                    return None
                renewals.note(self._profile)
                self._porter.refuse(self._profile, refused.value)
                fresh = self._porter.get_token(self._profile)
            except NightporterError:
                return None
        return fresh if fresh.value != refused.value else None


def _default_porter() -> Porter:
    import nightporter

    return nightporter.default_porter()


class BearerAuth:
    """`requests.get(url, auth=BearerAuth("pitchpoint"))`. Safe for threads; keep one for many
    requests.

    Where the profile names `hosts`, a request to another host, or over plain http (but for
    loopback), raises HostNotAllowedError and is not sent. `any_host`: no such check.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        porter: Porter | None = None,
        any_host: bool = False,
    ) -> None:
        self._renewal = _Renewal(porter, profile)
        self._any_host = any_host

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not self._any_host:
            self._renewal.check(str(request.url))
        token = self._renewal.token()
        request.headers["Authorization"] = f"{token.token_type} {token.value}"
        position = _position(request.body)
        origin = urlsplit(str(request.url))[:2]

        def retry(response: requests.Response, **options: Any) -> requests.Response:
            return self._retried(response, token, origin, position, options)

        request.register_hook("response", retry)  # type: ignore[no-untyped-call]  # requests' stubs leave it bare
        return request

    def _retried(
        self,
        response: requests.Response,
        token: Token,
        origin: tuple[str, str],
        position: int | None,
        options: Any,
    ) -> requests.Response:
        sent = response.request
        # After a redirect elsewhere requests has taken the header away, and it must not come back.
        is_ours = sent.headers.get("Authorization") == f"{token.token_type} {token.value}"
        if response.status_code != 401 or not is_ours or urlsplit(str(sent.url))[:2] != origin:
            return response
        fresh = self._renewal.after_401(token)
        if fresh is None or not _rewind(sent.body, position):
            return response
        response.content  # noqa: B018 - reads it to the end, so that the connection can be used again
        response.close()
        again = sent.copy()
        again.headers["Authorization"] = f"{fresh.token_type} {fresh.value}"
        again.hooks["response"] = []
        second: requests.Response = response.connection.send(again, **options)
        second.history.append(response)
        second.request = again
        return second


def _position(body: Any) -> int | None:
    """Where a file begins to be sent; None for what has no such place (a pipe, a generator)."""
    try:
        return int(body.tell())
    except (AttributeError, OSError, ValueError):
        return None


def _rewind(body: Any, position: int | None) -> bool:
    """Whether the body can be sent again, from where it began."""
    if body is None or isinstance(body, (bytes, str)):
        return True
    if position is None:
        return False  # a generator is used up: a second request would silently send nothing
    try:
        body.seek(position)
    except (AttributeError, OSError, ValueError):
        return False
    return True


def httpx_auth(
    profile: str | None = None, *, porter: Porter | None = None, any_host: bool = False
) -> httpx.Auth:
    """The same for httpx: `httpx.get(url, auth=httpx_auth("pitchpoint"))`, for both of its clients.

    A body that is a stream can't be sent twice, so its 401 goes to the caller.
    """
    import httpx

    renewal = _Renewal(porter, profile)

    def check(request: httpx.Request) -> None:
        if not any_host:
            renewal.check(str(request.url))

    class Auth(httpx.Auth):
        def sync_auth_flow(
            self, request: httpx.Request
        ) -> Generator[httpx.Request, httpx.Response, None]:
            check(request)
            token = renewal.token()
            request.headers["Authorization"] = f"{token.token_type} {token.value}"
            response = yield request
            if (
                response.status_code == 401
                and _is_whole(request)
                and (fresh := renewal.after_401(token)) is not None
            ):
                request.headers["Authorization"] = f"{fresh.token_type} {fresh.value}"
                yield request

        async def async_auth_flow(
            self, request: httpx.Request
        ) -> AsyncGenerator[httpx.Request, httpx.Response]:
            check(request)
            token = await renewal.in_thread(renewal.token)
            request.headers["Authorization"] = f"{token.token_type} {token.value}"
            response = yield request
            if response.status_code == 401 and _is_whole(request):
                fresh = await renewal.in_thread(lambda: renewal.after_401(token))
                if fresh is not None:
                    request.headers["Authorization"] = f"{fresh.token_type} {fresh.value}"
                    yield request

    def _is_whole(request: httpx.Request) -> bool:
        return isinstance(request.stream, httpx.ByteStream)

    return Auth()
