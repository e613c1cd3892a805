"""The command `nightporter agent`: sockets, signals and words around `operations.agent`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from nightporter.cli.terminal import Options, say
from nightporter.client.porter import Porter
from nightporter.core.errors import CommandLineError, ConfigError
from nightporter.machine.metrics_file import MetricsMemory
from nightporter.machine.places import cache_directories, read_environment
from nightporter.operations import agent as operation


def run_agent(
    options: Options, *, path: str | None, port: int | None, token_file: str | None
) -> None:
    """Listens until it is told to end.

    Raises: ConfigError.
    """
    if (port is None) != (token_file is None):
        raise CommandLineError(
            "--port and --token-file go together: a port alone proves nobody",
            hint="Give both, or neither.",
        )
    counts = MetricsMemory()
    with Porter(options.config, emit=counts.note, notify=lambda _text: None) as porter:
        servers = [_unix(porter, counts, path)]
        if port is not None and token_file is not None:
            servers.append(_loopback(porter, counts, port, os.path.abspath(token_file)))
        operation.serve(servers, _until_told())


def _unix(porter: Porter, counts: MetricsMemory, path: str | None) -> operation.Server:
    listener = operation.inherited_socket()
    if listener is None:
        place = os.path.abspath(path) if path else _default_place()
        profiles = porter.config.profiles.values()
        is_for_others = any(profile.helper_options["agent_users"] for profile in profiles)
        listener = operation.unix_socket(place, is_for_others=is_for_others)
        say(f"agent: listening at {place}")
    return operation.Server(listener, porter, counts, None)


def _loopback(
    porter: Porter, counts: MetricsMemory, port: int, token_file: str
) -> operation.Server:
    proof = operation.proof_in(token_file)
    listener = operation.loopback_socket(port)
    say(f"agent: listening at http://127.0.0.1:{listener.getsockname()[1]}")
    return operation.Server(listener, porter, counts, proof)


def _default_place() -> str:
    """Beside the cached tokens, in a directory of the user's own.

    Raises: ConfigError.
    """
    for directory in cache_directories(read_environment()):
        return os.path.join(directory, "agent.sock")
    raise ConfigError("no directory is known for the socket", hint="Name it with --socket.")


def _until_told() -> Callable[[], object]:
    told = threading.Event()

    def end(*_args: Any) -> None:
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return told.wait
