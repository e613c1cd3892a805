"""Metrics: what each event counts, and the text that Prometheus reads. Pure.

Every number comes from an event of the audit log, so the two tell the same. Labels are profile,
event, reference and call alone: all of them from the configuration or from lists of our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nightporter.core.events import Event
from nightporter.core.expiry import parse_rfc3339
from nightporter.core.values import dataclass

MAX_SERIES = 5_000  # of one file: what comes on top is not counted
Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
Series = dict[Key, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """`kind`: counter or gauge, by Prometheus' words. Its unit is in its name."""

    kind: str
    help: str


METRICS: Mapping[str, Metric] = {
    "nightporter_events_total": Metric("counter", "Events of the audit log, by name."),
    "nightporter_errors_total": Metric("counter", "Requests and rotations that failed."),
    "nightporter_exchanges_total": Metric("counter", "Answers of the issuer, by call and status."),
    "nightporter_last_exchange_timestamp_seconds": Metric("gauge", "When a result was last saved."),
    "nightporter_last_rotation_timestamp_seconds": Metric(
        "gauge", "When the scheduled job last ended for the profile, whatever came of it."
    ),
    "nightporter_last_successful_rotation_timestamp_seconds": Metric(
        "gauge", "When the scheduled job last ended without an error."
    ),
    "nightporter_rotation_duration_seconds": Metric("gauge", "How long the last rotation took."),
    "nightporter_refresh_token_expiry_timestamp_seconds": Metric(
        "gauge", "When the refresh token ends, where the issuer or its row states it."
    ),
    "nightporter_session_dead": Metric(
        "gauge", "1 from when the refresh token was given up until there is a session again."
    ),
    "nightporter_session_used_elsewhere": Metric(
        "gauge", "1 from when somebody else has used the session until there is another."
    ),
    "nightporter_sign_in_refused": Metric(
        "gauge", "1 from a refused sign-in until one succeeds or the credentials are written."
    ),
    "nightporter_clock_skew_seconds": Metric(
        "gauge", "By how much the issuer's clock is ahead of this host's; 0 within 5 s."
    ),
    "nightporter_spill_waiting": Metric(
        "gauge", "1 while a result that the store did not accept waits on this host."
    ),
}

_WELL = {"session_dead": 0, "session_used_elsewhere": 0, "sign_in_refused": 0}
_GAUGES: Mapping[Event, Mapping[str, float]] = {
    Event.DEAD: {"session_dead": 1},
    Event.USED_ELSEWHERE: {"session_used_elsewhere": 1},
    Event.REFUSED: {"sign_in_refused": 1},
    Event.CREDENTIALS_SET: {"sign_in_refused": 0},
    Event.ANSWERED: {"clock_skew_seconds": 0},
    Event.SPILLED: {"spill_waiting": 1},
    Event.SPILL_CONSUMED: {"spill_waiting": 0},
    Event.SPILL_OUTLIVED: {"spill_waiting": 0},
    Event.SAVED: _WELL,
    Event.SEEDED: _WELL,
    Event.LOGGED_IN: _WELL,
}


def count(series: Series, event: Event, facts: Mapping[str, Any], *, now: float) -> None:
    """Adds one event to the series. `now`: Unix seconds."""
    profile = (("profile", str(facts.get("profile") or "")),)
    _add(series, "events_total", (("event", event.value), *profile))
    for name, value in _GAUGES.get(event, {}).items():
        _set(series, name, profile, value)
    if error := facts.get("error"):
        _count_error(series, event, str(error), profile)
    if more := _MORE.get(event):
        more(series, facts, profile, now)


def _count_error(series: Series, event: Event, error: str, profile: Labels) -> None:
    if event in (Event.FAILED, Event.ROTATED):  # others have the issuer's own codes
        _add(series, "errors_total", (*profile, ("reference", error)))


def _answered(series: Series, facts: Mapping[str, Any], profile: Labels, _now: float) -> None:
    call, status = str(facts.get("call")), str(facts.get("status"))
    _add(series, "exchanges_total", (("call", call), *profile, ("status", status)))


def _skewed(series: Series, facts: Mapping[str, Any], profile: Labels, _now: float) -> None:
    _set(series, "clock_skew_seconds", profile, float(facts.get("issuer_is_ahead_s", 0)))


def _saved(series: Series, facts: Mapping[str, Any], profile: Labels, now: float) -> None:
    _set(series, "last_exchange_timestamp_seconds", profile, float(int(now)))
    _set_end(series, facts, profile)


def _brought(series: Series, facts: Mapping[str, Any], profile: Labels, _now: float) -> None:
    _set_end(series, facts, profile)


def _ended(series: Series, facts: Mapping[str, Any], profile: Labels, _now: float) -> None:
    if facts.get("where") == "everywhere":
        series.pop((f"nightporter_{_END}", profile), None)


def _rotated(series: Series, facts: Mapping[str, Any], profile: Labels, now: float) -> None:
    _set(series, "last_rotation_timestamp_seconds", profile, float(int(now)))
    _set(series, "rotation_duration_seconds", profile, float(facts.get("duration_s") or 0))
    if facts.get("error") is None:
        _set(series, "last_successful_rotation_timestamp_seconds", profile, float(int(now)))
        _set_end(series, facts, profile)


_END = "refresh_token_expiry_timestamp_seconds"
_MORE: Mapping[Event, Callable[[Series, Mapping[str, Any], Labels, float], None]] = {
    Event.ANSWERED: _answered,
    Event.CLOCK_SKEW: _skewed,
    Event.SAVED: _saved,
    Event.SEEDED: _brought,
    Event.LOGGED_IN: _brought,
    Event.LOGGED_OUT: _ended,
    Event.ROTATED: _rotated,
}


def _set_end(series: Series, facts: Mapping[str, Any], profile: Labels) -> None:
    """The end of the refresh token, or no series where none is stated."""
    stamp = facts.get("refresh_expires_at")
    if isinstance(stamp, str):
        _set(series, _END, profile, float(parse_rfc3339(stamp)))
    else:
        series.pop((f"nightporter_{_END}", profile), None)


def _add(series: Series, name: str, labels: Labels) -> None:
    key = (f"nightporter_{name}", labels)
    _set(series, name, labels, series.get(key, 0.0) + 1)


def _set(series: Series, name: str, labels: Labels, value: float) -> None:
    key = (f"nightporter_{name}", labels)
    if key in series or len(series) < MAX_SERIES:
        series[key] = value


# The text.

_LINE = re.compile(r'(nightporter_\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\} (\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_PLAIN = {escaped: char for char, escaped in _ESCAPES.items()}


def render(series: Series) -> str:
    """Returns the series in Prometheus' text format, grouped by metric."""
    lines: list[str] = []
    for name, metric in METRICS.items():
        found = sorted(item for item in series.items() if item[0][0] == name)
        if found:
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
            lines += [f"{name}{{{_shown(labels)}}} {value!r}" for (_, labels), value in found]
    return "".join(f"{line}\n" for line in lines)


def _shown(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return "".join(_ESCAPES.get(char, char) for char in value)


def parse(text: str) -> Series:
    """Returns the series of a text that `render` wrote; lines of others are left out."""
    return dict(_lines_of(text))


def _lines_of(text: str) -> Iterator[tuple[Key, float]]:
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or found[1] not in METRICS:
            continue
        labels = tuple((name, _unescaped(value)) for name, value in _LABEL.findall(found[2]))
        try:
            yield (found[1], labels), float(found[3])
        except ValueError:
            continue


def _unescaped(value: str) -> str:
    return re.sub(r"\\.", lambda found: _PLAIN.get(found[0], found[0]), value)
