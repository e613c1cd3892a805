"""Requests to a token endpoint and what its answers mean (RFC 6749). Pure: nothing is sent here.

Two questions are answered apart, since mixing them up loses sessions: what did the issuer say
(`ReplyClass`), and what does that mean for the call that was made (`raise_for_reply`)? The same
`access_denied` is a wrong password at a sign-in and a dead refresh token at a refresh.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode

from nightporter.core.errors import (
    CredentialsRefusedError,
    IssuerBusyError,
    IssuerReplyError,
    LoginRequiredError,
    NightporterError,
    OutcomeUnknownError,
    SessionRejectedError,
    SignInThrottledError,
)
from nightporter.core.model import IssuedTokens, Secret, is_token_text
from nightporter.core.output import output_of
from nightporter.core.scope import scopes_of
from nightporter.core.told import claims_of
from nightporter.core.values import dataclass, field
from nightporter.issuers.dialect import RFC_6749, Dialect

_ERROR_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}\Z")
MAX_EXPIRES_IN_S = 10 * 365 * 86_400

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Call(Enum):
    """What was asked: the same answer means another thing for each."""

    SIGN_IN = "sign-in"
    REFRESH = "refresh"
    LOG_IN = "log-in"  # what a person approves: an authorization code or a device code is exchanged


class ReplyClass(Enum):
    """What an error answer of an issuer says (field notes 4)."""

    DEAD = "the grant is dead"
    DENIED = "denied, with a code that nobody has documented"
    REFUSED = "the client is refused"
    THROTTLED = "too many attempts with these credentials"
    WRONG_REQUEST = "the request is wrong"
    BUSY = "not done, come again"
    UNKNOWN = "done or not, nobody knows"
    UNUSABLE = "no answer of a token endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. `repr` hides body and headers: both may carry secrets."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back: at most 1 MiB of body. Header names are in lower case.

    `skew_s`: by how many seconds the issuer's clock is ahead of this host's, by its Date header;
    reported, never computed with.
    """

    status: int
    skew_s: float | None = None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is of success: a transforming proxy says 203 (RFC 9110 section
        15.3.4), and some issuers 201. What came with it is not thrown away."""
        return 200 <= self.status < 300


def json_request(
    url: str, members: Mapping[str, str | None], headers: Mapping[str, str] | None = None
) -> Request:
    """A POST of a JSON object; members that are None are left out."""
    body = json.dumps({key: value for key, value in members.items() if value is not None}).encode()
    return Request(
        url=url,
        body=body,
        headers={"Content-Type": _JSON, **_ACCEPT, **(headers or {})},
    )


_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_ACCEPT = {"Accept": _JSON}


def form_request(
    url: str,
    members: Mapping[str, str | None],
    *,
    client_id: str | None = None,
    client_secret: Secret | None = None,
    client_assertion: Secret | None = None,
    auth_method: str = "client_secret_post",
    is_json: bool = False,
) -> Request:
    """A POST of form members, or of JSON where the vendor's document wants it, with the client's
    authentication (RFC 6749 section 2.3.1); None members are left out.

    `auth_method` is RFC 7591's token_endpoint_auth_method. For client_secret_basic both parts are
    form-encoded before they are joined, as the RFC wants it and many forget. Without a secret the
    client_id is in the body. A client that has an assertion sends that alone (RFC 7521 section
    4.2).
    """
    body = {key: value for key, value in members.items() if value is not None}
    headers = {"Content-Type": _JSON if is_json else _FORM, **_ACCEPT}
    if client_assertion is not None:
        body |= {"client_id": client_id} if client_id is not None else {}
        body["client_assertion_type"] = ASSERTION_TYPE
        body["client_assertion"] = client_assertion.reveal()
    elif client_id and client_secret and auth_method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret.reveal())}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif client_id is not None:
        body["client_id"] = client_id
        if client_secret is not None and auth_method == "client_secret_post":
            body["client_secret"] = client_secret.reveal()
    text = json.dumps(body) if is_json else urlencode(body)
    return Request(url=url, body=text.encode(), headers=headers)


def get_request(url: str) -> Request:
    """A GET of a JSON document."""
    return Request(url=url, method="GET", body=b"", headers=_ACCEPT)


# By the issuer's error code, whatever the status. RFC 6749 section 5.2, RFC 6750; Google Identity
# Platform's codes are what shines through Pitchpoint; interaction_required and its like are OpenID
# Connect's (Entra).
_BY_ERROR: Mapping[str, ReplyClass] = {
    "invalid_grant": ReplyClass.DEAD,
    "access_denied": ReplyClass.DEAD,
    "interaction_required": ReplyClass.DEAD,
    "login_required": ReplyClass.DEAD,
    "consent_required": ReplyClass.DEAD,
    "expired_token": ReplyClass.DEAD,
    "TOKEN_EXPIRED": ReplyClass.DEAD,
    "INVALID_REFRESH_TOKEN": ReplyClass.DEAD,
    "INVALID_LOGIN_CREDENTIALS": ReplyClass.DEAD,
    "INVALID_PASSWORD": ReplyClass.DEAD,
    "EMAIL_NOT_FOUND": ReplyClass.DEAD,
    "USER_NOT_FOUND": ReplyClass.DEAD,
    "USER_DISABLED": ReplyClass.REFUSED,
    "invalid_client": ReplyClass.REFUSED,
    "unauthorized_client": ReplyClass.REFUSED,
    "TOO_MANY_ATTEMPTS_TRY_LATER": ReplyClass.THROTTLED,
    # Quotas in other clothes than 429: no wrong password and no dead session
    # (firebase/firebase-js-sdk#8159, #9259; google.rpc.Code).
    "QUOTA_EXCEEDED": ReplyClass.BUSY,
    "RATE_LIMIT_EXCEEDED": ReplyClass.BUSY,
    "RESOURCE_EXHAUSTED": ReplyClass.BUSY,
    "too_many_requests": ReplyClass.BUSY,
    "rate_limit_exceeded": ReplyClass.BUSY,
    "rate_limited": ReplyClass.BUSY,
    "invalid_request": ReplyClass.WRONG_REQUEST,
    "invalid_scope": ReplyClass.WRONG_REQUEST,
    "invalid_resource": ReplyClass.WRONG_REQUEST,
    "invalid_target": ReplyClass.WRONG_REQUEST,
    "unsupported_grant_type": ReplyClass.WRONG_REQUEST,
    "temporarily_unavailable": ReplyClass.BUSY,
    "slow_down": ReplyClass.BUSY,
    "server_error": ReplyClass.UNKNOWN,
}


def classify_reply(
    status: int, words: Sequence[str], call: Call, dialect: Dialect = RFC_6749
) -> ReplyClass:
    """What an answer that brought no tokens says. `words`: the issuer's codes (`error_words`).

    A 429 or 503 says that nothing was done; any other 5xx leaves open whether it was.
    """
    found = _by_words(words, call, dialect)
    if status in (408, 425, 429, 503) and found is not ReplyClass.THROTTLED:
        return ReplyClass.BUSY  # a gateway's words about an overload prove nothing about a grant
    if found:
        return found
    if status >= 500:
        return ReplyClass.UNKNOWN
    if words and status in (400, 401, 403):
        return ReplyClass.DENIED
    return ReplyClass.UNUSABLE


def _by_words(words: Sequence[str], call: Call, dialect: Dialect) -> ReplyClass | None:
    """By the codes of the vendor's row, and after them by those of the RFCs. What the row calls
    dead is so for a refresh alone: at a sign-in the same code is a refused client."""
    if dialect.busy.intersection(words):
        return ReplyClass.BUSY
    if dialect.dead.intersection(words) and call is Call.REFRESH:
        return ReplyClass.DEAD
    if dialect.dead.intersection(words) and call is Call.SIGN_IN:
        return ReplyClass.REFUSED
    if dialect.refused.intersection(words):
        return ReplyClass.REFUSED
    return next((_BY_ERROR[word] for word in words if word in _BY_ERROR), None)


# What comes in place of tokens where a second factor is wanted: Google Identity Platform's,
# Auth0's and Cognito's members.
_FACTOR_MEMBERS = frozenset({"mfaPendingCredential", "mfa_token", "ChallengeName"})
_SECOND_FACTOR = (
    "The account wants a second factor, which no unattended sign-in can give: use an account"
    " without it."
)


def parse_tokens(response: Response, call: Call, dialect: Dialect = RFC_6749) -> IssuedTokens:
    """The tokens of a successful answer, or the error that its failure means for this call.

    Raises: SessionRejectedError, CredentialsRefusedError, SignInThrottledError, IssuerBusyError,
    OutcomeUnknownError, IssuerReplyError. RFC 6749 sections 5.1 and 5.2; an error that comes with
    status 200 counts as an error.
    """
    document = _json_object(response, call, dialect)
    found = document.get("refresh_token")
    # An empty refresh token is none: taking it once replaced a good one (Azure/kubelogin PR #63).
    refresh_token = (
        Secret(found) if isinstance(found, str) and found and found.isprintable() else None
    )
    words = error_words(document, dialect, status=200 if response.is_success else response.status)
    if response.is_success and words and refresh_token is not None:
        raise IssuerReplyError(
            f"the answer to the {call.value} holds an error beside tokens",
            refresh_token=refresh_token,
        )
    if not response.is_success or words:
        raise error_of_reply(response, words, call, dialect)
    access_token = document.get("access_token")
    expires_in = _expires_in(document.get("expires_in"), dialect.access_life_s)
    problem = _problem_of(document, dialect)
    if not problem and found and refresh_token is None:
        problem = "a refresh_token that is no text"
    if problem or expires_in is None or not is_token_text(access_token):
        raise IssuerReplyError(
            f"the answer to the {call.value} holds {problem}",
            refresh_token=refresh_token,
            is_refusal=not is_token_text(access_token),
            hint=_SECOND_FACTOR if _FACTOR_MEMBERS & document.keys() else "",
        )
    return IssuedTokens(
        access_token=Secret(access_token),
        token_type="Bearer",
        expires_in=expires_in,
        refresh_token=refresh_token,
        scopes=scopes_of(document.get("scope")),
        claims=claims_of(document.get("id_token")),
        refresh_life_s=_stated_life(document, dialect),
        output=output_of({name: document.get(name) for name in dialect.output}),
    )


def _problem_of(document: Mapping[str, Any], dialect: Dialect) -> str | None:
    """What is wrong with the members of a successful answer."""
    token_type = document.get("token_type")
    token_type = "Bearer" if token_type in (None, "") else token_type
    if not is_token_text(document.get("access_token")):
        return "no usable access_token"
    if not isinstance(token_type, str) or token_type.lower() not in dialect.token_types:
        return "a token_type other than Bearer"
    if _expires_in(document.get("expires_in"), dialect.access_life_s) is None:
        return "a senseless expires_in"
    return None


def _stated_life(document: Mapping[str, Any], dialect: Dialect) -> int | None:
    """The seconds that the refresh token has left, where the answer states them. 0 is no statement
    (Keycloak's offline sessions), and nonsense none either: nothing is ended by it."""
    if dialect.life_field is None:
        return None
    return _expires_in(document.get(dialect.life_field), 0) or None


def _expires_in(value: Any, default: int) -> int | None:
    """Seconds of `expires_in` as number or numeric string; absent means the documented default.
    None: senseless."""
    if value is None:
        return default
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number and not (
        isinstance(value, str) and re.fullmatch(r"\s*\d{1,12}(\.\d+)?\s*", value)
    ):
        return None
    try:
        seconds = float(value)
    except (OverflowError, ValueError):  # the blanks of `re` aren't those of `float`
        return None
    return int(seconds) if 1 <= seconds <= MAX_EXPIRES_IN_S else None


def _json_object(response: Response, call: Call, dialect: Dialect) -> Mapping[str, Any]:
    if 300 <= response.status < 400:
        raise IssuerReplyError(
            f"the issuer answered the {call.value} with a redirect ({response.status}), which is"
            " never followed",
            hint="Set `base_url` to the address that it redirects to, if you trust it.",
        )
    document = _members_of(response)
    if document is not None:
        return document
    if response.is_success:
        raise IssuerReplyError(f"the answer to the {call.value} is not a JSON object")
    raise error_of_reply(response, (), call, dialect)


def _members_of(response: Response) -> Mapping[str, Any] | None:
    """Returns the members of a body: a JSON object, or a form where it is one (field notes 4;
    IBM/mcp-context-forge PR 4259). What a 200 brought is not thrown away for its wrapping."""
    document = _json_of(response.body)
    if isinstance(document, dict):
        return document
    try:
        text = response.body.decode("utf-8-sig").strip()
        found = parse_qs(text, strict_parsing=True, max_num_fields=100)
    except ValueError:
        return None
    names = {"access_token", "refresh_token", "error"}
    is_form = bool(names & found.keys()) and not any(char in text for char in "<{ \n")
    return {name: values[0] for name, values in found.items()} if is_form else None


def _json_of(body: bytes) -> object:
    """Returns the JSON value of a body; None where it is none. A name in another encoding than
    UTF-8 costs that name, and no token beside it."""
    for text in (body, body.decode("utf-8", "replace")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return None


def error_words(
    document: Mapping[str, Any], dialect: Dialect = RFC_6749, *, status: int = 400
) -> tuple[str, ...]:
    """The issuer's codes, the most telling first: RFC 6749's `error`, `error.code` and the first
    word of `error.message` (Google), `status` (HubSpot, vault.ist). Empty: the answer states no
    error. A 200 with `ok: false` states one."""
    error, found = document.get("error"), list[object]()
    if isinstance(error, dict):
        found = [error.get("code"), _first_word(error.get("message"))]
    elif error:
        found = [error]
    is_told = bool(error) or document.get("ok") is False
    if not document.get("access_token"):
        found.append(document.get("status"))
    words = tuple(_texts_of(found, dialect))
    if 200 <= status < 300 and not is_told:
        return words if dialect.codes.intersection(words) else ()
    return words or (("unnamed",) if is_told else ())


def description_of(response: Response) -> object:
    """Returns the issuer's own words about what went wrong, as they came: RFC 6749's
    `error_description`, Google's text behind the code, else `message`. To be made safe."""
    document = _members_of(response) or {}
    found = document.get("error_description")
    error = document.get("error")
    if found is None and isinstance(error, dict):
        found = error.get("message")
    return document.get("message") if found is None else found


def _texts_of(codes: Iterable[object], dialect: Dialect) -> Iterator[str]:
    """The codes that are text, and numbers that the row names."""
    for code in codes:
        is_number = isinstance(code, int) and not isinstance(code, bool)
        if isinstance(code, str) and code:
            yield code
        elif is_number and str(code) in dialect.codes:
            yield str(code)


def _first_word(text: object) -> str | None:
    return re.split(r"[\s:]", text.strip(), maxsplit=1)[0] if isinstance(text, str) else None


def error_of_reply(
    response: Response, words: Sequence[str], call: Call, dialect: Dialect = RFC_6749
) -> NightporterError:
    """The error that an answer without tokens means for the call that was made."""
    kind = classify_reply(response.status, words, call, dialect)
    error = _shown_word(words, dialect)
    is_refusal = 400 <= response.status < 500 or (response.is_success and error is not None)
    said = (
        f"({', '.join(filter(None, (str(response.status), error, _number_for_people(response))))})"
    )
    if kind is ReplyClass.THROTTLED:
        return SignInThrottledError(
            f"the issuer takes no more attempts for now {said}", error=error or ""
        )
    if kind is ReplyClass.REFUSED:
        return CredentialsRefusedError(
            f"the issuer refused the client or user {said}", error=error or ""
        )
    if kind in (ReplyClass.DEAD, ReplyClass.DENIED):
        if call is Call.SIGN_IN:
            return CredentialsRefusedError(
                f"the issuer refused the sign-in {said}", error=error or ""
            )
        if call is Call.LOG_IN:
            return LoginRequiredError(
                f"the issuer refused the login {said}", hint="Start `nightporter login` again."
            )
        certain = kind is ReplyClass.DEAD
        return SessionRejectedError(
            f"the issuer refused the refresh token {said}", error=error or "", is_certain=certain
        )
    if kind is ReplyClass.BUSY:
        return IssuerBusyError(f"the issuer is busy {said}", retry_after_s=_retry_after(response))
    if kind is ReplyClass.UNKNOWN:
        return OutcomeUnknownError(f"the issuer failed at the {call.value} {said}")
    if kind is ReplyClass.WRONG_REQUEST:
        return IssuerReplyError(
            f"the issuer calls the {call.value} request wrong {said}",
            is_refusal=is_refusal,
            error=error or "",
            hint=(
                "This is a configuration error or a defect: check the profile's keys against the"
                " vendor's document."
            ),
        )
    return IssuerReplyError(
        f"the issuer's answer to the {call.value} can't be used {said}", is_refusal=is_refusal
    )


def _shown_word(words: Sequence[str], dialect: Dialect) -> str | None:
    """The code that is shown and remembered: the one that decided, if it can be shown."""
    known = [word for word in words if word in dialect.codes or word in _BY_ERROR]
    word = next(iter([*known, *words]), None)
    is_shown = word is None or word in dialect.codes or _ERROR_CODE.match(word)
    return word if is_shown else "unnamed"


def _number_for_people(response: Response) -> str:
    """Entra's AADSTS number: people look it up, we never branch on it. Nothing else of the prose is
    repeated."""
    found = re.search(rb"AADSTS\d{3,9}", response.body)
    return found[0].decode() if found else ""


def _retry_after(response: Response) -> float | None:
    """Seconds of `Retry-After` (RFC 9110 section 10.2.3). A date is counted from the answer's own
    `Date`."""
    text = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    from email.utils import parsedate_to_datetime  # deferred: 15 ms, for answers that tell a date

    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(response.headers.get("date", ""))
    except (ValueError, TypeError, IndexError):
        return None
    return max(0.0, wait.total_seconds())
