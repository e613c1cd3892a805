"""Every error that nightporter raises: who must act, what happened, what to do next.

The families are those of the exit codes, because the exit code answers the only question a caller
can act on (whose turn is it?). Finer classes below them name the case. An error never carries a
secret or a reply's body.

    NightporterError                    1  a defect of ours
    ├── ConfigError                     2  the configuration or the command line
    │   ├── UnknownProfileError
    │   └── UntrustedFileError             others can write what would instruct us
    ├── CredentialsRefusedError         3  the issuer refused username, password or client secret
    │   └── SignInThrottledError           too many attempts: the account is locked for a while
    ├── LoginRequiredError              4  a person must log in, seed, or set credentials
    │   ├── SecretNotFoundError            the credentials secret is absent or lacks a member
    │   └── SessionRejectedError           the issuer refused the refresh token
    ├── StoreError                      5  the store is away, sealed, denies, throttles
    │   ├── StoreUnreachableError          no connection, a time-out, a 5xx           retryable
    │   ├── StoreBusyError                 throttled                                   retryable
    │   ├── StoreSealedError               Vault is sealed or not initialised
    │   ├── StoreDeniedError               a right is missing, and which
    │   ├── StoreValueError                what is stored can't be used, or is too large to store
    │   ├── VersionConflictError           somebody else wrote first (never leaves the session room)
    │   ├── StoreRolledBackError           the store was set back to an older state
    │   ├── StoreLifeError                 the store deletes what is written before its time
    │   ├── NewerRecordError               a newer nightporter wrote the record
    │   ├── WriteBudgetError               the store's quota of versions is used up
    │   ├── ResultPendingError             exchanged, but the store was away: kept in a local file
    │   └── NothingPublishedError          read-only: no live published access token
    ├── IssuerError                     6  the issuer is away, fails, or answers nonsense
    │   ├── IssuerUnreachableError         not sent at all                             retryable
    │   ├── IssuerBusyError                429 or 503: not done, and it said so        retryable
    │   ├── OutcomeUnknownError            sent, and no usable word came back
    │   ├── IssuerReplyError               answered what can't be used
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
    `retryable`, whether the same call may succeed by itself in a moment; `retry_after_s`, seconds
    that the other side asked us to wait, or None.
    """

    exit_code = 1
    reference = "defect"
    retryable = False
    default_hint = (
        "This is a defect in nightporter; please report it with the output of `nightporter"
        " --version`."
    )

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class ConfigError(NightporterError):
    """The configuration or the command line is wrong. `problems` holds every finding, one line
    each."""

    exit_code = 2
    reference = "configuration"
    default_hint = (
        "Mend it and repeat. `nightporter config check` names all that is wrong in the file that is"
        " read."
    )

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join((self.message, *(f"  {problem}" for problem in self.problems)))


class UnknownProfileError(ConfigError):
    reference = "unknown-profile"
    default_hint = "`nightporter config show` lists the profiles."


class UntrustedFileError(ConfigError):
    reference = "untrusted-file"
    default_hint = "Make it yours, and close it to others."


class CredentialsRefusedError(NightporterError):
    """The issuer refused username, password or client secret, now or remembered.

    Attributes: `error`, the issuer's error code; `until`, Unix seconds before which nobody tries
    again, or None.
    """

    exit_code = 3
    reference = "credentials-refused"
    default_hint = (
        "Correct the secret (`nightporter credentials set PROFILE`, or in the store); it is tried"
        " at once."
    )

    def __init__(
        self, message: str, *, error: str = "", until: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.error = error
        self.until = until


class SignInThrottledError(CredentialsRefusedError):
    reference = "sign-in-throttled"
    default_hint = (
        "The account is locked for a while. Nothing is attempted until then; do not sign in by hand"
        " either."
    )


class LoginRequiredError(NightporterError):
    exit_code = 4
    reference = "login-required"
    default_hint = "Run `nightporter login PROFILE` or `nightporter seed PROFILE`."


class SecretNotFoundError(LoginRequiredError):
    reference = "credentials-absent"
    default_hint = (
        "Write the secret with `nightporter credentials set PROFILE`, or correct `credentials` in"
        " the profile."
    )


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


class StoreError(NightporterError):
    exit_code = 5
    reference = "store"
    default_hint = "Look at the store's own log; `nightporter status` shows what is cached here."


class StoreUnreachableError(StoreError):
    reference = "store-unreachable"
    retryable = True
    default_hint = "Check the store's address, the network and the proxy; nothing was changed."


class StoreBusyError(StoreError):
    reference = "store-throttled"
    retryable = True
    default_hint = "The store limits its clients' rate; wait a moment, or ask for a higher quota."


class StoreSealedError(StoreError):
    reference = "store-sealed"
    default_hint = "An operator must unseal Vault (`vault operator unseal`); nothing was changed."


class StoreDeniedError(StoreError):
    """A right is missing. `right` names it in the store's own words."""

    reference = "store-denied"

    def __init__(self, message: str, *, right: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint or f"Grant {right}.")
        self.right = right


class StoreValueError(StoreError):
    reference = "store-value"
    default_hint = "Look at the secret in the store and correct it by hand; nothing was changed."


class VersionConflictError(StoreError):
    reference = "store-conflict"
    default_hint = "Somebody else wrote the secret at the same moment; try again."


class StoreRolledBackError(StoreError):
    reference = "store-rolled-back"
    default_hint = (
        "Run `nightporter doctor PROFILE --repair`, which moves the label AWSCURRENT to the newest"
        " version again (`aws secretsmanager update-secret-version-stage` does it by hand)."
    )


class StoreLifeError(StoreError):
    reference = "store-deletes-early"
    default_hint = (
        "Raise or remove the store's own limit (Vault: `vault kv metadata put"
        " -delete-version-after=0s`, and the mount's delete_version_after); nothing was sent."
    )


class NewerRecordError(StoreError):
    reference = "record-newer"
    default_hint = (
        "Update nightporter on this machine. A person can replace the record: `nightporter seed`,"
        " `login`, `logout --everywhere`."
    )


class WriteBudgetError(StoreError):
    reference = "write-budget"
    default_hint = (
        "Sessions of this profile are exchanged too often for the store's version quota; wait, or"
        " exchange less."
    )


class ResultPendingError(StoreError):
    reference = "result-spilled"
    default_hint = "Nothing is lost: run `nightporter rotate PROFILE` here once the store is back."


class NothingPublishedError(StoreError):
    reference = "nothing-published"
    default_hint = "Check that the job that runs `nightporter rotate --access` is alive."


class IssuerError(NightporterError):
    exit_code = 6
    reference = "issuer"
    default_hint = "Try again in a while; if it stays, ask the vendor."


class IssuerUnreachableError(IssuerError):
    reference = "issuer-unreachable"
    retryable = True
    default_hint = "Check `base_url`, the network, the proxy and the CA; the request was not sent."


class IssuerBusyError(IssuerError):
    reference = "issuer-busy"
    retryable = True
    default_hint = "The vendor is overloaded or limits the rate; it is tried again by itself."


class OutcomeUnknownError(IssuerError):
    reference = "issuer-outcome-unknown"
    default_hint = "The request was sent and no usable answer came back; run the command again."


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
    default_hint = (
        "Check that `base_url` is the vendor's token service and not a proxy or a log-in page."
    )


class ClaimBusyError(IssuerError):
    reference = "claim-busy"
    default_hint = (
        "Another machine is exchanging this session; try again, or give a longer --timeout."
    )


class ExchangeContinuesError(IssuerError):
    reference = "exchange-continues"
    default_hint = (
        "The exchange goes on and its result is saved: run the command again in a moment, or give a"
        " longer --timeout."
    )


class SignInUnsettledError(IssuerError):
    reference = "sign-in-unsettled"
    default_hint = (
        "Nobody knows whether the issuer counted them, so that the account is not locked by more."
        " Correct the credentials (they are tried at once), or wait."
    )


class InitPhaseError(IssuerError):
    reference = "lambda-init"
    default_hint = "Ask for tokens in the handler, not while the module is imported."


class InvocationEndsError(IssuerError):
    reference = "lambda-no-time"
    default_hint = (
        "Raise the function's timeout to 30 s or more, and ask for the token at the handler's"
        " beginning."
    )


class RotationFailedError(NightporterError):
    """Some profiles of a rotation failed; each one's own error is in the log."""

    reference = "rotation-failed"
    default_hint = (
        "Look at the lines with the event `rotated` in the function's log: each failed profile has"
        " its reason."
    )


class HostNotAllowedError(NightporterError):
    exit_code = 7
    reference = "host-not-allowed"
    default_hint = "If this host may have the token, name it in `hosts` of exactly one profile."


def to_members(error: NightporterError) -> dict[str, object]:
    """Returns an error as members that JSON can hold: for notes, and between processes."""
    members: dict[str, object] = {
        "class": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "retry_after": error.retry_after_s,
    }
    if isinstance(error, (CredentialsRefusedError, SessionRejectedError)):
        members["error"] = error.error
    if isinstance(error, CredentialsRefusedError):
        members["until"] = error.until
    return members


def from_members(members: Mapping[str, object]) -> NightporterError:
    """Returns the error that `to_members` wrote; a defect where it is none of ours."""
    kind = globals().get(str(members.get("class")))
    if not isinstance(kind, type) or not issubclass(kind, NightporterError):
        kind = NightporterError
    error: NightporterError = kind(str(members.get("message")), hint=str(members.get("hint")))
    retry_after = members.get("retry_after")
    if isinstance(retry_after, (int, float)):
        error.retry_after_s = float(retry_after)
    if isinstance(error, (CredentialsRefusedError, SessionRejectedError)):
        error.error = str(members.get("error", ""))
    until = members.get("until")
    if isinstance(error, CredentialsRefusedError) and isinstance(until, int):
        error.until = until
    return error
