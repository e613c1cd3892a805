"""The two commands that other programs run all day, without click, whose import costs more than all
of its own.

`parse_plain` knows the ordinary forms of `token` and `exec-credential`, and leaves everything else,
mistakes included, to `app`. A property test holds the two parsers to the same answers.
"""

from __future__ import annotations

import os
import sys
import time

from nightporter.cli.terminal import Options, Served, leave_reply, open_porter, put
from nightporter.core.checks import is_number
from nightporter.core.errors import ConfigError
from nightporter.core.values import dataclass
from nightporter.protocols import kubernetes, plain

DOOR_OUTPUTS = ("token", "json", "header", "env", "curl")  # one line each


@dataclass
class TokenAsk:
    """What `token` was asked for."""

    profile: str | None = None
    output: str = "token"
    min_ttl: float | None = None
    force_refresh: bool = False
    retry_refused: bool = False


@dataclass
class ExecCredentialAsk:
    """What `exec-credential` was asked for."""

    profile: str | None = None
    retry_refused: bool = False


# The commands.


def token(options: Options, ask: TokenAsk) -> None:
    """Prints the access token."""
    with open_porter(options) as porter:
        broker = porter.broker_for(ask.profile)
        found = broker.access_token(
            min_ttl_s=ask.min_ttl,
            is_forced=ask.force_refresh,
            retry_refused=_at_terminal(ask.retry_refused),
            timeout_s=options.timeout_s(),
        )
        reply = plain.render(found, ask.output, broker.profile)
        put(reply, end=plain.end_of(ask.output))
        if ask.output in DOOR_OUTPUTS and not (ask.force_refresh or ask.retry_refused):
            leave_reply(options, broker, Served(reply, found, ask.min_ttl))


def exec_credential(options: Options, ask: ExecCredentialAsk) -> None:
    """Prints kubectl's ExecCredential."""
    info = kubernetes.parse_exec_info(os.environ.get("KUBERNETES_EXEC_INFO"))
    with open_porter(options, is_for_client=True) as porter:
        broker = porter.broker_for(ask.profile)
        kubernetes.check_cluster(info, broker.profile)
        found = broker.access_token(
            retry_refused=_at_terminal(ask.retry_refused), timeout_s=options.timeout_s()
        )
        expiry = plain.reported_expiry(found, min_ttl_s=broker.profile.min_ttl_s, now=time.time())
        reply = kubernetes.render(found, info.api_version, reported_expiry=expiry)
        put(reply)
        if not ask.retry_refused:
            leave_reply(options, broker, Served(reply, found))


def _at_terminal(retry_refused: bool) -> bool:
    if retry_refused and not sys.stderr.isatty():
        raise ConfigError(
            "--retry-refused is for a person at a terminal",
            hint=(
                "A script would lock the account: correct the secret instead, which is tried at"
                " once."
            ),
        )
    return retry_refused


# The ordinary forms.


def answer(options: Options, ask: TokenAsk | ExecCredentialAsk) -> None:
    """Runs what `parse_plain` found."""
    if isinstance(ask, TokenAsk):
        token(options, ask)
    else:
        exec_credential(options, ask)


def parse_plain(argv: list[str]) -> tuple[Options, TokenAsk | ExecCredentialAsk] | None:
    """The ask of an ordinary `token` or `exec-credential` line; None for whatever click should look
    at."""
    if not argv or argv[0] not in ("token", "exec-credential"):
        return None
    is_token = argv[0] == "token"
    options, found = Options(), TokenAsk()
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            if found.profile is not None or not word:
                return None
            found.profile = word
        elif word in ("-v", "--verbose"):
            options.verbose = True
        elif word == "--force-refresh" and is_token:
            found.force_refresh = True
        elif not _take_value(word, next(words, None), options, found, is_token):
            return None
    return options, found if is_token else ExecCredentialAsk(profile=found.profile)


def _take_value(
    word: str, value: str | None, options: Options, found: TokenAsk, is_token: bool
) -> bool:
    """Takes an option with a value. False for what is none, or whose value is not plainly right."""
    if not value or value.startswith("-"):
        return False
    if word == "--config":
        options.config = value
    elif word == "--timeout" and is_number(value) and int(value):
        options.timeout = float(value)
    elif word in ("-o", "--output") and is_token and value in plain.OUTPUTS:
        found.output = value
    elif word == "--min-ttl" and is_token and is_number(value):
        found.min_ttl = float(value)
    else:
        return False
    return True
