"""docker at the edge: errors are texts on standard output, with exit 1."""

from __future__ import annotations

from nightporter import __version__
from nightporter.cli.helpers.call import HelperCall, open_call, read_input, write_output
from nightporter.cli.terminal import Options
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError, profiles_for, rules_of
from nightporter.protocols import docker


def serve(arguments: list[str], options: Options) -> int:
    """get, store, erase, list, version."""
    action = arguments[0] if len(arguments) == 1 else ""
    if action == "version":
        write_output(f"docker-credential-nightporter {__version__}")
        return 0
    if action not in docker.ACTIONS:
        write_output(f"unknown action; there are: {', '.join(docker.ACTIONS)}")
        return 1
    try:
        content = read_input(options, docker.MAX_BYTES)
        if action == "store":
            write_output(docker.REFUSES_STORE)
            return 1
        with open_call("docker", options) as call:
            return _answer(action, content, call)
    except BadAskError as exc:
        write_output(f"the server is refused: {exc}")
    except NightporterError as exc:
        write_output(f"{exc.message.splitlines()[0]} [{exc.reference}]")
    return 1


def _answer(action: str, content: bytes, call: HelperCall) -> int:
    if action == "list":
        write_output(docker.render_list(_servers(call)))
        return 0
    if docker.is_empty(content):
        write_output(docker.NO_SERVER)
        return 1
    target = call.asked(lambda: docker.parse_server(content))
    broker = call.broker_for(target) if target else None
    if action == "erase":
        if broker is not None:
            broker.forget()
        return 0
    if broker is None:
        write_output(docker.NOT_FOUND)
        return 1
    token = call.token(broker)
    reply = docker.render(token, content, username=broker.profile.helper_username)
    write_output(reply)
    call.leave_reply(broker, token, reply, content)
    return 0


def _servers(call: HelperCall) -> dict[str, str]:
    """Hosts that `get` can really serve: those that docker can ask for, of exactly one profile."""
    profiles = call.porter.config.profiles.values()
    return {
        rule.key: profile.helper_username
        for profile in profiles
        for rule in rules_of(profile)
        if docker.can_ask_for(rule) and profiles_for(rule.target, profiles) == [profile]
    }
