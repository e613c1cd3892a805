"""The program `keyring` at the edge, for pip and uv, without Python's keyring library: what isn't
ours goes on to the next program of that name in PATH.

`setup keyring` makes the program, in a directory of its own: who puts that into PATH, chooses it.
All words are keyring's own: a user name of an index address, which pip hands on as it is, is no
option of nightporter's.
"""

from __future__ import annotations

import os
import shutil
import time

from nightporter.cli.helpers.call import HelperCall, note_mishap, open_call, write_output
from nightporter.cli.terminal import Options, say, show_error
from nightporter.client.broker import Broker
from nightporter.client.configuration import has_config, load_config
from nightporter.client.identity import open_notes
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError, profiles_for
from nightporter.core.model import Profile
from nightporter.machine.places import WRAPPER_MARK, read_environment
from nightporter.machine.plain_asks import PlainAsks
from nightporter.machine.process import become
from nightporter.protocols import keyring
from nightporter.protocols.keyring import Ask, Service

PLAIN_HTTP = (
    "host-not-allowed",
    "it asked for a host of `hosts` by plain http, so it got no answer",
)
TRIED = "NIGHTPORTER_KEYRING_TRIED"  # programs that it was handed to already, and that came back


def serve(arguments: list[str], options: Options) -> int:
    """`get SERVICE [USERNAME]`, `set` and `del`, with keyring's own options."""
    ask = keyring.parse(arguments)
    service = None if ask is None or is_for_kubectl() else keyring.parse_service(ask.service)
    code = _answer(ask, service, options) if ask and service else None
    return _pass_on(arguments, ask) if code is None else code


def is_for_kubectl() -> bool:
    """Whether kubectl waits for an answer of this process or of one above it: no token for it by
    another command (contract, section 8)."""
    return bool(read_environment().get("KUBERNETES_EXEC_INFO"))


def _answer(ask: Ask, service: Service, options: Options) -> int | None:
    """Returns the exit code; None where it isn't ours."""
    call: HelperCall | None = None
    try:
        if not has_config(options.config, read_environment()):
            return None
        if ask.operation != "get":
            return _refuse(ask, owners_of(service, options.config))
        with open_call("keyring", options) as call:
            broker = broker_for(call, service, ask.username)
            if broker is None:
                return None
            token = call.token(broker)
            reply = keyring.render(ask, token, username=broker.profile.helper_username)
            write_output(reply)
            if not service.is_bare:  # a bare one hangs on what was asked by plain http too
                call.leave_reply(broker, token, reply, None)
        return 0
    except BadAskError:
        return None
    except NightporterError as exc:
        show_error(exc)
        return 1 if call is not None and call.is_ours else None


def _refuse(ask: Ask, owners: list[Profile]) -> int | None:
    if not owners:
        return None
    hint = keyring.deletion_hint(owners[0].name)
    say(keyring.REFUSES_SET if ask.operation == "set" else hint)
    return 1


def owners_of(service: Service, config: str | None = None) -> list[Profile]:
    """The profiles that name a service in `hosts`; none for what is not ours.

    Raises: ConfigError.
    """
    target = service.target
    return profiles_for(target, load_config(config).profiles.values()) if target else []


def broker_for(call: HelperCall, service: Service, username: str | None) -> Broker | None:
    """The broker that may answer; None where the service is not ours, for another user name, and
    where it can't be had by that scheme.

    Raises: ConfigError for a host that two profiles name.
    """
    plain, target = PlainAsks(open_notes(read_environment())), service.target
    if target and service.is_bare and plain.is_recent(target.authority, time.time()):
        return None
    broker = call.broker_for(target) if target else None
    names = {username, service.username}
    if broker is not None and all(call.is_for(broker, name) for name in names):
        return broker
    _note_plain_http(call, service, plain)
    return None


def _note_plain_http(call: HelperCall, service: Service, plain: PlainAsks) -> None:
    """Remembers the host of an `http://` address as pip and uv ask for it next, bare: they would
    send the token there in clear."""
    profiles = call.porter.config.profiles.values()
    for bare in service.plain_http:
        for profile in profiles_for(bare, profiles):
            plain.note(bare.authority, time.time())
            note_mishap("keyring", profile.name, *PLAIN_HTTP)


def _pass_on(arguments: list[str], ask: Ask | None) -> int:
    """Runs the next `keyring` in PATH in our place; without one, nothing is found."""
    environment = read_environment()
    tried = [path for path in environment.get(TRIED, "").split(os.pathsep) if path]
    program = _next_program(environment.get("PATH", ""), tried)
    if program is not None:
        try:
            become([program, *arguments], **{TRIED: os.pathsep.join([*tried, program])})
        except OSError as exc:
            say(f"{program}: can't be run: {exc.strerror}")
    elif ask is None or ask.operation != "get":
        say("there is no other program `keyring` on PATH: this one has `get SERVICE USERNAME`")
    return 1


def _next_program(path: str, tried: list[str]) -> str | None:
    """The first `keyring` that no `nightporter setup` wrote and that hasn't run us again, as the
    shims of version managers do. A relative place is left out: it would be a program of the
    checkout."""
    for directory in filter(os.path.isabs, path.split(os.pathsep)):
        program = shutil.which(os.path.join(directory, "keyring"))
        if program and program not in tried and not _is_ours(program):
            return program
    return None


def _is_ours(program: str) -> bool:
    try:
        with open(program, "rb") as file:
            return WRAPPER_MARK.encode() in file.read(256)
    except OSError:
        return False
