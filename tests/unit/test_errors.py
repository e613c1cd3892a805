"""An error travels: to a note for the next processes of this machine, and between processes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import nightporter
from nightporter.core.errors import NightporterError, from_members, to_members, with_profile

ROOMS = ("core", "issuers", "session", "net", "machine", "stores", "client")


def classes(root: type[NightporterError]) -> Iterator[type[NightporterError]]:
    yield root
    for kind in root.__subclasses__():
        yield from classes(kind)


def every_class() -> list[type[NightporterError]]:
    for room in ROOMS:
        package = importlib.import_module(f"nightporter.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = dict.fromkeys(classes(NightporterError))
    return [kind for kind in found if kind.__module__.startswith(f"{nightporter.__name__}.")]


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_stays_what_it_is(kind: type[NightporterError]) -> None:
    """A finer class of a store's own came back as a defect, with exit code 1."""
    error = kind.__new__(kind)
    NightporterError.__init__(error, "what happened", hint="what to do", retry_after_s=3.0)
    for name in ("error", "until"):
        if not hasattr(error, name):
            setattr(error, name, None if name == "until" else "code")
    found = from_members(to_members(error))
    assert (found.exit_code, found.reference) == (kind.exit_code, kind.reference)
    assert (found.message, found.hint) == ("what happened", "what to do")
    assert (found.retryable, found.retry_after_s) == (kind.retryable, 3.0)


def test_a_remedy_names_the_profile_and_leaves_variables_alone() -> None:
    """AWS_PROFILE became AWS_pitchpoint."""
    hint = "Set AWS_PROFILE, or run `nightporter seed PROFILE`."
    assert with_profile(hint, "acme") == "Set AWS_PROFILE, or run `nightporter seed acme`."


ERRORS = {
    "NightporterError": (1, "defect"),
    "RotationFailedError": (1, "rotation-failed"),
    "ConfigError": (2, "configuration"),
    "UnknownProfileError": (2, "unknown-profile"),
    "UntrustedFileError": (2, "untrusted-file"),
    "CommandLineError": (2, "usage"),
    "CredentialsRefusedError": (3, "credentials-refused"),
    "SignInThrottledError": (3, "sign-in-throttled"),
    "SecretNotFoundError": (4, "credentials-absent"),
    "LoginRequiredError": (4, "login-required"),
    "SessionRejectedError": (4, "session-rejected"),
    "UsedElsewhereError": (4, "session-used-elsewhere"),
    "NothingPublishedError": (5, "nothing-published"),
    "NewerRecordError": (5, "record-newer"),
    "ResultPendingError": (5, "result-spilled"),
    "NothingThereError": (5, "store"),
    "StoreError": (5, "store"),
    "VersionConflictError": (5, "store-conflict"),
    "StoreLifeError": (5, "store-deletes-early"),
    "StoreDeniedError": (5, "store-denied"),
    "StoreElectingError": (5, "store-electing"),
    "StoreRolledBackError": (5, "store-rolled-back"),
    "StoreSealedError": (5, "store-sealed"),
    "StoreBusyError": (5, "store-throttled"),
    "CallTimeoutError": (5, "store-unreachable"),
    "NotFoundError": (5, "store-unreachable"),
    "StoreUnreachableError": (5, "store-unreachable"),
    "StoreValueError": (5, "store-value"),
    "WriteBudgetError": (5, "write-budget"),
    "ClaimBusyError": (6, "claim-busy"),
    "ExchangeContinuesError": (6, "exchange-continues"),
    "IssuerError": (6, "issuer"),
    "IssuerBusyError": (6, "issuer-busy"),
    "OutcomeUnknownError": (6, "issuer-outcome-unknown"),
    "IssuerReplyError": (6, "issuer-reply"),
    "IssuerUnreachableError": (6, "issuer-unreachable"),
    "InitPhaseError": (6, "lambda-init"),
    "InvocationEndsError": (6, "lambda-no-time"),
    "SignInUnsettledError": (6, "sign-in-unsettled"),
    "HostNotAllowedError": (7, "host-not-allowed"),
}


def test_every_error_has_its_code_and_reference() -> None:
    """As users and their scripts know them."""
    found = {kind.__name__: (kind.exit_code, kind.reference) for kind in every_class()}
    assert found == ERRORS
