"""Every error that nightporter raises: who must act, what happened, what to do next.

The families are those of the exit codes, because the exit code answers the only question a caller
can act on: who must do something now? Finer classes below them name the case. An error never
carries a secret or a reply's body. Its hint comes from the catalogue (`explanations`), unless the
place that raises it knows better.

    NightporterError                    1  a defect in nightporter
    ├── ConfigError                     2  the configuration
    │   ├── CommandLineError               the command line, or what is on standard input
    │   ├── UnknownProfileError
    │   └── UntrustedFileError             others can write what would instruct us
    ├── CredentialsRefusedError         3  the issuer refused username, password or client secret
    │   └── SignInThrottledError           too many attempts: the account is locked for a while
    ├── LoginRequiredError              4  a person must log in, seed, or set credentials
    │   ├── SecretNotFoundError            the credentials secret is absent or lacks a member
    │   └── SessionRejectedError           the issuer refused the refresh token
    │       └── UsedElsewhereError         ... as used before, and we had never sent it
    ├── StoreError                      5  the store is away, sealed, denies, throttles
    │   ├── StoreUnreachableError          no connection, a timeout, a 5xx           retryable
    │   │   └── StoreElectingError          a cluster without a leader: a failover         retryable
    │   ├── StoreBusyError                 throttled                                   retryable
    │   ├── StoreSealedError               Vault is sealed or not initialised
    │   ├── StoreDeniedError               a permission is missing
    │   ├── StoreValueError                what is stored can't be used, or is too large to store
    │   ├── VersionConflictError           another writer was first (stays in the session package)
    │   ├── StoreRolledBackError           the store was set back to an older state
    │   ├── StoreLifeError                 the store deletes what is written before its time
    │   ├── NewerRecordError               a newer nightporter wrote the record
    │   ├── WriteBudgetError               the store's quota of versions is used up
    │   ├── ResultPendingError             exchanged, but the store was away: kept in a local file
    │   └── NothingPublishedError          read-only: no live published access token
    ├── IssuerError                     6  the issuer is away, fails, or answers nonsense
    │   ├── IssuerUnreachableError         not sent at all                             retryable
    │   ├── IssuerBusyError                429 or 503: not done, and it said so        retryable
    │   ├── OutcomeUnknownError            sent, and no usable answer came back
    │   ├── IssuerReplyError               an answer that can't be used
    │   ├── ClaimBusyError                 another holder was still exchanging at the deadline
    │   ├── ExchangeContinuesError         our own exchange goes on after the deadline
    │   ├── SignInUnsettledError           two sign-ins ended without a known outcome
    │   ├── InitPhaseError                 Lambda: nothing is exchanged while a module is imported
    │   └── InvocationEndsError            Lambda: too little time is left of the invocation
    ├── HostNotAllowedError             7  a host that is in no `hosts`
    └── RotationFailedError             1  Lambda: some profile failed; the service is to try again
"""

from __future__ import annotations

TYPE_CHECKING = False  # nothing of the standard library is imported for an error
if TYPE_CHECKING:
    from collections.abc import Mapping


class NightporterError(Exception):
    """The root. `message` says what happened and where, `hint` what to do next.

    Attributes: `reference`, stable and kebab-case, to look the case up by; `exit_code`;
    `retryable`, whether the same call may succeed in a moment; `retry_after_s`, seconds
    that the other side asked us to wait, or None.
    """

    exit_code = 1
    reference = "defect"
    retryable = False

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self._default_hint()
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message

    def _default_hint(self) -> str:
        from nightporter.core.explanations import EXPLANATIONS  # deferred: an error alone needs it

        return EXPLANATIONS[self.reference].hint


class ConfigError(NightporterError):
    """The configuration or the command line is wrong. `problems` holds every finding, one line
    each."""

    exit_code = 2
    reference = "configuration"

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join((self.message, *(f"  {problem}" for problem in self.problems)))


class CommandLineError(ConfigError):
    """What a command was given, on its line or on standard input, is not what it takes."""

    reference = "usage"


class UnknownProfileError(ConfigError):
    """The configuration has no profile of the name that was asked for."""

    reference = "unknown-profile"


class UntrustedFileError(ConfigError):
    """A file that instructs us could have been written by others (contract, section 2)."""

    reference = "untrusted-file"


_REFUSAL_HINTS = {  # what another secret doesn't help against
    "no_token": (
        "Check `base_url`, and whether the account wants a second factor, which no unattended"
        " sign-in can give. A changed secret or profile is tried at once."
    ),
    "USER_DISABLED": (
        "Ask the vendor, or your administrator there, to enable the account: another password does"
        " not help. Then run it once with --retry-refused at a terminal."
    ),
    "OPERATION_NOT_ALLOWED": (
        "The vendor has switched off sign-ins with a password: ask for another way to sign in."
    ),
    "invalid_client": (
        "Correct the client's id or secret (`nightporter credentials set PROFILE`), or"
        " `token_endpoint_auth_method` in the profile; each is tried at once."
    ),
    "unauthorized_client": (
        "Allow this client the grant at the vendor, or correct `grant` in the profile; a changed"
        " profile is tried at once."
    ),
    "interaction_required": (
        "The account wants a second factor or a consent, which no unattended sign-in can give: use"
        " an account without it, or `nightporter login PROFILE` where the vendor offers that."
    ),
}


class CredentialsRefusedError(NightporterError):
    """The issuer refused username, password or client secret, now or remembered.

    Attributes: `error`, the issuer's error code; `until`, Unix seconds before which nobody tries
    again, or None.
    """

    exit_code = 3
    reference = "credentials-refused"

    def __init__(
        self, message: str, *, error: str = "", until: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint or _REFUSAL_HINTS.get(error, ""))
        self.error = error
        self.until = until


class SignInThrottledError(CredentialsRefusedError):
    """The issuer has locked the account for a while: too many attempts."""

    reference = "sign-in-throttled"


class LoginRequiredError(NightporterError):
    """There is no session and no way to sign in unattended: a person must act."""

    exit_code = 4
    reference = "login-required"


class SecretNotFoundError(LoginRequiredError):
    """The credentials secret is absent, or lacks a member."""

    reference = "credentials-absent"


class SessionRejectedError(LoginRequiredError):
    """The issuer refused the refresh token. `error` is the issuer's code.

    `is_certain` tells a documented "this grant is dead" from a refusal with an unknown code, on
    which alone no session is given up that a person would have to restore.
    """

    reference = "session-rejected"

    def __init__(
        self, message: str, *, error: str = "", is_certain: bool = True, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.error = error
        self.is_certain = is_certain


class UsedElsewhereError(SessionRejectedError):
    """Somebody else has used the session's refresh token."""

    reference = "session-used-elsewhere"


class StoreError(NightporterError):
    """The store is away, denies, throttles, or holds what can't be used."""

    exit_code = 5
    reference = "store"


class StoreUnreachableError(StoreError):
    """The store can't be reached. `is_unasked`: it was not asked yet, since this machine, busy as
    it is, was still preparing its client."""

    reference = "store-unreachable"
    retryable = True
    is_unasked = False


class StoreElectingError(StoreUnreachableError):
    """A cluster has no leader just now. An election takes some seconds, longer than a few quick
    tries, and is waited for as long as the caller has time."""

    reference = "store-electing"


class StoreBusyError(StoreError):
    """The store throttles: nothing was done."""

    reference = "store-throttled"
    retryable = True


class StoreSealedError(StoreError):
    """Vault is sealed or not initialised."""

    reference = "store-sealed"


class StoreDeniedError(StoreError):
    """The store says no. `right` names the permission that is missing, in the store's own words;
    empty where it is something else, whose hint then says what."""

    reference = "store-denied"

    def __init__(self, message: str, *, right: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.right = right


class StoreValueError(StoreError):
    """What is stored can't be used, or a value is too large to store."""

    reference = "store-value"


class VersionConflictError(StoreError):
    """Another writer was first. It is decided in the session package and does not leave it."""

    reference = "store-conflict"


class StoreRolledBackError(StoreError):
    """The store was set back to an older state of the session."""

    reference = "store-rolled-back"


class StoreLifeError(StoreError):
    """The store deletes what is written before its time."""

    reference = "store-deletes-early"


class NewerRecordError(StoreError):
    """A newer nightporter wrote the record: only a person may write over it."""

    reference = "record-newer"


class WriteBudgetError(StoreError):
    """The store's quota of versions is used up."""

    reference = "write-budget"


class ResultPendingError(StoreError):
    """An exchange is done, and its result is in a local file since the store was away."""

    reference = "result-spilled"


class NothingPublishedError(StoreError):
    """A profile with `role = "read-only"` found no live published access token."""

    reference = "nothing-published"


class IssuerError(NightporterError):
    """The issuer is away, fails, or answers what can't be used."""

    exit_code = 6
    reference = "issuer"


class IssuerUnreachableError(IssuerError):
    """Nothing was sent: no connection came about."""

    reference = "issuer-unreachable"
    retryable = True


class IssuerBusyError(IssuerError):
    """The issuer answered that it did nothing: 429, 503, or a quota."""

    reference = "issuer-busy"
    retryable = True


class OutcomeUnknownError(IssuerError):
    """A request was sent, and no answer came back that tells what it did."""

    reference = "issuer-outcome-unknown"


class IssuerReplyError(IssuerError):
    """An answer that can't be used.

    `error`: the issuer's code, where it gave one. `refresh_token` (a `Secret`) is one that the
    answer held although the rest is of no use, or None. `is_refusal`: a token endpoint has
    answered, and gave no token: at a sign-in that is a no.
    """

    def __init__(
        self,
        message: str,
        *,
        refresh_token: object = None,
        is_refusal: bool = False,
        error: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.error = error
        self.refresh_token = refresh_token
        self.is_refusal = is_refusal

    reference = "issuer-reply"


class ClaimBusyError(IssuerError):
    """Another holder was still exchanging at the deadline."""

    reference = "claim-busy"


class ExchangeContinuesError(IssuerError):
    """Our own exchange goes on after the deadline, and will be saved."""

    reference = "exchange-continues"


class SignInUnsettledError(IssuerError):
    """Two sign-ins ended without a known outcome: the next one waits (contract, section 6)."""

    reference = "sign-in-unsettled"


class InitPhaseError(IssuerError):
    """Lambda: nothing is exchanged while a module is imported."""

    reference = "lambda-init"


class InvocationEndsError(IssuerError):
    """Lambda: too little time is left of the invocation for an exchange."""

    reference = "lambda-no-time"


class RotationFailedError(NightporterError):
    """Some profiles of a rotation failed; each one's own error is in the log."""

    reference = "rotation-failed"


class HostNotAllowedError(NightporterError):
    """A client asked for a host or cluster that is in no profile's `hosts`."""

    exit_code = 7
    reference = "host-not-allowed"


def with_profile(hint: str, profile: str, role: str | None = None) -> str:
    """Returns a remedy whose commands name the profile, and its role where that is known, so that
    they can be typed. AWS_PROFILE and its kin stay what they are."""
    named = hint.replace(" PROFILE", f" {profile}")
    return named.replace("--role ROLE", f"--role {role}") if role else named


def to_members(error: NightporterError) -> dict[str, object]:
    """Returns an error as members that JSON can hold: for notes, and between processes."""
    members: dict[str, object] = {
        "class": _public_name(type(error)),
        "message": error.message,
        "hint": error.hint,
        "retry_after": error.retry_after_s,
    }
    if isinstance(error, (CredentialsRefusedError, SessionRejectedError)):
        members["error"] = error.error
    if isinstance(error, CredentialsRefusedError):
        members["until"] = error.until
    return members


def _public_name(kind: type) -> str:
    """Returns the nearest class of this module: a store may have a finer one of its own."""
    names = (str(item.__name__) for item in kind.__mro__ if globals().get(item.__name__) is item)
    return next(names)


def from_members(members: Mapping[str, object]) -> NightporterError:
    """Returns the error that `to_members` wrote; a defect where it is not ours."""
    kind = globals().get(str(members.get("class")))
    if not isinstance(kind, type) or not issubclass(kind, NightporterError):
        kind = NightporterError
    error: NightporterError = kind(str(members.get("message")), hint=str(members.get("hint")))
    retry_after = members.get("retry_after")
    # JSON's numbers have no end, and a float has.
    if isinstance(retry_after, (int, float)) and 0 <= retry_after < 1e9:
        error.retry_after_s = float(retry_after)
    if isinstance(error, (CredentialsRefusedError, SessionRejectedError)):
        error.error = str(members.get("error", ""))
    until = members.get("until")
    if isinstance(error, CredentialsRefusedError) and isinstance(until, int):
        error.until = until
    return error
