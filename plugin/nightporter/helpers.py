"""The helper protocols at the edge: standard input in, standard output out, exit code; the protocols' own words.

Each protocol has its own map of success, "none of ours" and failure to bytes and exit codes. What can't be composed
whole is not printed at all: git takes half an answer, whatever the exit code.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from nightporter import __version__
from nightporter.broker import Broker
from nightporter.commands import Options, exit_code_of, open_porter, put, say, show_error
from nightporter.errors import ConfigError, NightporterError
from nightporter.protocols import docker, git, plain
from nightporter.protocols.hosts import BadAskError, Target, parse_target, profile_for
from nightporter.wiring import Porter


def serve(protocol: str, arguments: list[str], options: Options) -> int:
    """Runs one helper command to its exit code.

    Raises: ConfigError for a protocol that is none.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"there is no protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol](arguments, options)


def _broker_for(porter: Porter, target: Target) -> Broker | None:
    profile = profile_for(target, porter.config.profiles)
    return porter.broker_for(profile.name) if profile else None


# git: silence is "ask the next one", and the exit code is ignored.


def _serve_git(arguments: list[str], options: Options) -> int:
    operation = arguments[0] if arguments else ""
    if operation == "capability":
        put(git.CAPABILITIES)
    elif operation in ("get", "erase"):
        content = sys.stdin.buffer.read(git.MAX_BYTES + 1)
        try:
            ask = git.parse(content)
        except BadAskError as exc:
            say(f"the request of git is refused: {exc}")
            return 0
        _answer_git(operation, ask, options)
    elif operation == "store":
        sys.stdin.buffer.read()  # a generator keeps nothing of what it receives
    return 0


def _answer_git(operation: str, ask: git.GitAsk, options: Options) -> None:
    if ask.target is None:
        return
    try:
        with open_porter(options) as porter:
            broker = _broker_for(porter, ask.target)
            if broker is None or ask.username not in (None, "", broker.profile.helper_username):
                return
            if operation == "erase":
                _erase_git(broker, ask)
            else:
                put(_git_reply(broker, ask, options.timeout_s()))
    except NightporterError as exc:
        show_error(exc)
        if operation == "get":
            put(git.QUIT)  # the host is ours: no password prompt for a token


def _erase_git(broker: Broker, ask: git.GitAsk) -> None:
    """Drops the access token that was refused, and never the session: a 401 may be a missing permission."""
    held = broker.held()
    if held is not None and ask.refused in (None, held.value):
        broker.refuse(held.value)


def _git_reply(broker: Broker, ask: git.GitAsk, timeout_s: float) -> str:
    began = time.time()
    if ask.is_second_try and (held := broker.held()) is not None:
        broker.refuse(held.value)
    token = broker.access_token(timeout_s=timeout_s)
    expiry = plain.reported_expiry(token, min_ttl_s=broker.profile.min_ttl_s, now=time.time())
    may_retry = not ask.is_second_try and token.exchanged_at_s < began
    username = broker.profile.helper_username
    return git.render(token, ask, username=username, reported_expiry=expiry, may_retry=may_retry)


# docker: errors are texts on standard output, with exit 1.


def _serve_docker(arguments: list[str], options: Options) -> int:
    action = arguments[0] if len(arguments) == 1 else ""
    if action == "version":
        put(f"docker-credential-nightporter {__version__}")
        return 0
    if action not in docker.ACTIONS:
        put(f"unknown action; there are: {', '.join(docker.ACTIONS)}")
        return 1
    content = sys.stdin.buffer.read(docker.MAX_BYTES + 1)
    if action == "store":
        put(docker.REFUSES_STORE)
        return 1
    try:
        with open_porter(options) as porter:
            if action == "list":
                put(docker.render_list(_docker_servers(porter)))
                return 0
            return _answer_docker(action, content, porter, options)
    except BadAskError as exc:
        put(f"the server is refused: {exc}")
    except NightporterError as exc:
        put(f"{str(exc).splitlines()[0]} [{exc.reference}]")
    return 1


def _answer_docker(action: str, content: bytes, porter: Porter, options: Options) -> int:
    target = docker.parse_server(content)
    if target is None:
        put(docker.NO_SERVER)
        return 1
    broker = _broker_for(porter, target)
    if action == "erase":
        if broker is not None:
            broker.forget()
        return 0
    if broker is None:
        put(docker.NOT_FOUND)
        return 1
    token = broker.access_token(timeout_s=options.timeout_s())
    put(docker.render(token, content, username=broker.profile.helper_username))
    return 0


def _docker_servers(porter: Porter) -> dict[str, str]:
    """Hosts that `get` can really serve: plain names of exactly one profile."""
    found = {}
    for profile in porter.config.profiles.values():
        for host in profile.hosts:
            if "*" not in host and profile_for(parse_target(host), porter.config.profiles) is profile:
                found[host] = profile.helper_username
    return found


PROTOCOLS: Mapping[str, Callable[[list[str], Options], int]] = {"git": _serve_git, "docker": _serve_docker}


def git_main() -> None:
    """`git-credential-nightporter`."""
    sys.exit(exit_code_of(lambda: serve("git", sys.argv[1:], Options())))


def docker_main() -> None:
    """`docker-credential-nightporter`."""
    sys.exit(exit_code_of(lambda: serve("docker", sys.argv[1:], Options())))
