"""Handlers for AWS Lambda: the scheduled job, and Secrets Manager's own rotation.

Functions that only want a token import `nightporter` and call `get_token`: nothing here is needed
for it. What goes wrong is raised at the end, so that Lambda counts it, tries again and fills the
dead-letter queue; every line that is printed is one JSON document without secrets, and metrics are
CloudWatch's embedded metric format (EMF), which has to be printed by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from nightporter.client.configuration import config_place
from nightporter.client.porter import Porter
from nightporter.core.errors import (
    ConfigError,
    CredentialsRefusedError,
    NightporterError,
    RotationFailedError,
)
from nightporter.core.events import Event
from nightporter.core.expiry import format_rfc3339
from nightporter.core.limits import LAMBDA_EXCHANGE_S
from nightporter.machine.lambda_time import bounded_by, remaining_s
from nightporter.machine.metrics_file import MetricsMemory
from nightporter.machine.places import read_environment
from nightporter.operations import rotate, secrets_manager_rotation
from nightporter.stores.capabilities import Staged

NAMESPACE = "nightporter"
JOBS = 8
PROFILE_TIMEOUT_S = 30.0
EVENT_HINT = (
    "Correct the event, which the schedule or the caller gives: {}, or an object such as"
    ' {"profiles": ["NAME"], "access": true, "jobs": 8}.'
)
STEP_HINT = (
    "Let Secrets Manager call this function (`aws secretsmanager rotate-secret`); a schedule calls"
    " `rotate_handler`."
)
END_MARGIN_S = 2.0  # for metrics and the answer
_IDENTITY = ("NIGHTPORTER_", "AWS_", "VAULT_")
_open: dict[str, tuple[object, Porter]] = {}


def rotate_handler(event: Any, context: Any) -> dict[str, Any]:
    """`nightporter rotate` as a function.

    `event`: {} or {"profiles": [names], "access": bool, "shard": "I/N", "jobs": N, "dry_run":
    bool}; a scheduled event of EventBridge counts as {}. Returns {"rotated": N, "failed": N,
    "profiles": [one report each]}.

    Raises: RotationFailedError after all profiles were tried, when one of them failed; ConfigError.
    """
    with _guarded(context):
        asked = _parse_event(event)
        porter = _open_porter()
        names = asked["profiles"] or rotate.rotatable(porter.config)
        if asked["shard"]:
            names = rotate.of_shard(names, *rotate.parse_shard(asked["shard"], None))
        reports = _rotate(porter, names, asked)
        missed = [name for name in names if name not in {report.profile for report in reports}]
        failed = [
            f"{report.profile} ({report.error.reference})" for report in reports if report.error
        ]
        failed += [f"{name} (not reached)" for name in missed]
        if failed:
            raise RotationFailedError(
                f"{len(failed)} of {len(names)} profiles failed: {', '.join(failed)}"
            )
        changed = sum(report.did != rotate.Due.NOTHING.value for report in reports)
        return {
            "rotated": changed,
            "failed": 0,
            "profiles": [report.to_json() for report in reports],
        }


def secret_rotation_handler(event: Any, context: Any) -> dict[str, Any]:
    """One step of Secrets Manager's rotation of a session record; each may be run again.

    `event`: {"Step", "SecretId", "ClientRequestToken"}, and "RotationToken" where the rotation
    assumes a role of another account. Returns {"step", "profile", "did"}.

    Raises: ConfigError for profiles whose sessions can't be rotated so; any other NightporterError.
    """
    with _guarded(context):
        step, secret_id, version_id = _parse_step(event)
        porter = _open_porter()
        profile = secrets_manager_rotation.profile_of(porter.config, secret_id)
        broker = porter.broker_for(profile.name)
        store = broker.session.store
        if not isinstance(store, Staged):
            raise ConfigError(
                f"the store of profile {profile.name!r} has no versions in stages",
                hint="Only a secret of Secrets Manager is rotated so; `rotate_handler` serves all.",
            )
        rotating = secrets_manager_rotation.Rotating(
            broker=broker,
            store=store,
            path=profile.refresh_token,
            version_id=version_id,
            rotation_token=event.get("RotationToken"),
            deadline=time.monotonic() + _time_s(),
        )
        try:
            did = rotating.run(step)
        finally:
            broker.close()
        log_event("secret-rotation", profile=profile.name, step=step, did=did)
        return {"step": step, "profile": profile.name, "did": did}


def run_extension() -> None:
    """Lambda's extension, for functions in other languages: serves until the environment ends, and
    leaves with exit code 2 where it can't begin."""
    from nightporter.operations import lambda_extension  # deferred: the handlers need no server

    try:
        lambda_extension.run(read_environment())
    except NightporterError as exc:
        log_event("failed", level="ERROR", error=exc.reference, message=str(exc), hint=exc.hint)
        sys.exit(2)


@contextlib.contextmanager
def _guarded(context: Any) -> Iterator[None]:
    """Replaces exceptions of libraries: the runtime prints their text."""
    with bounded_by(context):
        try:
            yield
        except NightporterError as exc:
            log_event("failed", level="ERROR", error=exc.reference, message=str(exc), hint=exc.hint)
            raise
        except Exception as exc:
            log_event("failed", level="ERROR", error="defect", message=type(exc).__name__)
            raise NightporterError(f"a defect: {type(exc).__name__}") from None
        finally:
            if known := _open.get("porter"):
                known[1].send_metrics()


def _open_porter() -> Porter:
    """One porter for all invocations, so that clients and connections are reused, until what they
    stand on changes."""
    environment = read_environment()
    file = config_place(None, environment)
    changed_ns = os.stat(file).st_mtime_ns if os.path.exists(file) else 0
    identity = (
        changed_ns,
        {key: value for key, value in environment.items() if key.startswith(_IDENTITY)},
    )
    known, porter = _open.get("porter", (None, None))
    if porter is None or known != identity:
        porter = Porter(
            is_library=False, emit=_emit, notify=lambda text: log_event("notice", message=text)
        )
        _open["porter"] = (identity, porter)
    return porter


def _parse_event(event: Any) -> dict[str, Any]:
    """The event's members, each with its default.

    Raises: ConfigError.
    """
    kinds = {"profiles": list, "access": bool, "shard": str, "jobs": int, "dry_run": bool}
    found: dict[str, Any] = {
        "profiles": [],
        "access": False,
        "shard": "",
        "jobs": JOBS,
        "dry_run": False,
    }
    if event is None or (isinstance(event, dict) and "detail-type" in event):
        return found
    if not isinstance(event, dict):
        raise ConfigError("the event is not a JSON object", hint=EVENT_HINT)
    for key, value in event.items():
        if key not in kinds:
            raise ConfigError(
                f"the event has an unknown member; known are {', '.join(kinds)}", hint=EVENT_HINT
            )
        if type(value) is not kinds[key]:
            raise ConfigError(f"the event's member {key!r} has a wrong type", hint=EVENT_HINT)
    asked = {**found, **event}
    if (
        not all(isinstance(name, str) for name in asked["profiles"])
        or not 1 <= asked["jobs"] <= 256
    ):
        raise ConfigError(
            "the event's `profiles` are not all names, or its `jobs` is not from 1 to 256",
            hint=EVENT_HINT,
        )
    return asked


def _parse_step(event: Any) -> tuple[str, str, str]:
    names = ("Step", "SecretId", "ClientRequestToken")
    found = tuple(event.get(name) for name in names) if isinstance(event, dict) else (None,)
    if len(found) != len(names) or not all(isinstance(value, str) and value for value in found):
        raise ConfigError(
            "the event is not one of Secrets Manager's rotation: it has Step, SecretId and"
            " ClientRequestToken",
            hint=STEP_HINT,
        )
    step, secret_id, version_id = (str(value) for value in found)
    if step not in secrets_manager_rotation.STEPS:
        raise ConfigError(
            "the event names an unknown step; known are"
            f" {', '.join(secrets_manager_rotation.STEPS)}",
            hint=STEP_HINT,
        )
    return step, secret_id, version_id


def _time_s() -> float:
    """What one profile may take: what is left of the invocation, less what the end of it needs."""
    left = remaining_s()
    return (
        PROFILE_TIMEOUT_S if left is None else max(0.1, min(PROFILE_TIMEOUT_S, left - END_MARGIN_S))
    )


def _rotate(porter: Porter, names: list[str], asked: dict[str, Any]) -> list[rotate.Report]:
    """Every profile that there is time for, with its metrics printed as soon as it is done."""

    def is_late() -> bool:
        left = remaining_s()
        return left is not None and left < LAMBDA_EXCHANGE_S

    reports: list[rotate.Report] = []
    function = read_environment().get("AWS_LAMBDA_FUNCTION_NAME", "local")
    _put(heartbeat("access" if asked["access"] else "rotate", function=function, now=time.time()))
    brokers = [porter.broker_for(name) for name in names]
    for report in rotate.rotate_all(
        brokers,
        jobs=asked["jobs"],
        timeout_s=_time_s,
        is_access=asked["access"],
        is_dry_run=asked["dry_run"],
        should_stop=is_late,
    ):
        reports.append(report)
        log_event("rotated", level="ERROR" if report.error else "INFO", **report.to_json())
        _put(metrics(report, function=function, now=time.time()))
    return reports


# What a run found, by the references of its error.
_INCIDENTS = {
    "SessionUsedElsewhere": ("session-used-elsewhere",),
    "SessionDead": ("session-rejected", "login-required"),
    "WriteBudgetUsedUp": ("write-budget",),
    "SpillWaiting": ("result-spilled",),
}
_counts = MetricsMemory()  # of this environment


def _skew_s(profile: str) -> float:
    """By how much the issuer's clock is ahead, as last seen from here."""
    series, _ = _counts.read()
    return series.get(("nightporter_clock_skew_seconds", (("profile", profile),)), 0.0)


def heartbeat(kind: str, *, function: str, now: float) -> dict[str, Any]:
    """That a run has begun, by kind: where none comes, the schedule was missed."""
    names = {"FunctionName": function, "Kind": kind}
    return _embedded([["FunctionName", "Kind"]], names, {"Runs": ("Count", 1)}, now)


def metrics(report: rotate.Report, *, function: str, now: float) -> dict[str, Any]:
    """One profile's outcome, for the function as a whole and for the profile."""
    values: dict[str, tuple[str, float]] = {
        "Rotations": (
            "Count",
            int(report.error is None and report.did != rotate.Due.NOTHING.value),
        ),
        "Failures": ("Count", int(report.error is not None)),
        "RefusedSignIns": ("Count", int(isinstance(report.error, CredentialsRefusedError))),
    }
    reference = report.error.reference if report.error else None
    values["Successes"] = ("Count", int(report.error is None))
    for name, references in _INCIDENTS.items():
        values[name] = ("Count", int(reference in references))
    values["ClockSkew"] = ("Seconds", abs(_skew_s(report.profile)))
    if report.refresh_expires_at is not None:
        values["RefreshTokenLifeLeft"] = ("Seconds", max(0, report.refresh_expires_at - int(now)))
    names = {"FunctionName": function, "Profile": report.profile}
    return _embedded([["FunctionName"], ["FunctionName", "Profile"]], names, values, now)


def _embedded(
    dimensions: list[list[str]],
    names: dict[str, str],
    values: dict[str, tuple[str, float]],
    now: float,
) -> dict[str, Any]:
    """Values (name to unit and number) in the embedded metric format.

    Source: CloudWatch user guide, "Specification: Embedded metric format".
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": dimensions,
        "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in values.items()],
    }
    meta = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": meta, **names, **{name: value for name, (_, value) in values.items()}}


def log_event(event: str, *, level: str = "INFO", **facts: Any) -> None:
    """One structured line on standard output, which Lambda hands to CloudWatch. The rooms that emit
    pass no secrets."""
    known = {key: value for key, value in facts.items() if value is not None}
    _put({"time": format_rfc3339(int(time.time())), "level": level, "event": event, **known})


def _emit(event: str, **facts: Any) -> None:
    """As `log_event`; what a rotation did has a line with all that there is to tell."""
    _counts.note(event, **facts)
    if event != Event.ROTATED:
        log_event(event, **facts)


def _put(document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(document, default=str) + os.linesep)
        sys.stdout.flush()
