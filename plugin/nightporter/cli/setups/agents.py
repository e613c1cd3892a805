"""Setup of coding agents: Claude Code and Codex, and their MCP servers.

An MCP server that is configured already and whose address is in `hosts` gets a helper for its
headers; a model gateway in `hosts` gets one for its bearer token. Servers of others are left alone,
and none is added: only the person knows its name and path.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

from nightporter.cli.setups.merge import change_json, change_toml
from nightporter.cli.setups.plan import Machine, Plan, Request, Write, config_arguments
from nightporter.cli.setups.tools import needed_rules
from nightporter.core.errors import ConfigError
from nightporter.core.hosts import BadAskError, parse_target, profiles_for
from nightporter.core.model import Profile

PROGRAM = "nightporter"


def claude(request: Request) -> Plan:
    """`headersHelper` of MCP servers in .claude.json; `apiKeyHelper` in settings.json where
    ANTHROPIC_BASE_URL is a host of the profile."""
    machine = request.machine
    if not request.is_undo:
        needed_rules(request.profile)
        machine.check_runs(machine.path_of(PROGRAM), "--version")
    named = machine.environment.get("CLAUDE_CONFIG_DIR")
    servers = os.path.join(named, ".claude.json") if named else machine.home(".claude.json")
    settings = os.path.join(named or machine.home(".claude"), "settings.json")
    steps = [_claude_servers(request, servers), _claude_settings(request, settings)]
    found = tuple(step for step in steps if step is not None)
    if request.is_undo:
        return Plan(steps=found)
    entry = json.dumps(
        {"type": "http", "url": "https://HOST/mcp", "headersHelper": _helper(request)}
    )
    add = f"claude mcp add-json --scope user NAME {shlex.quote(entry)}"
    notes = ["see it work with: claude mcp list", f"another server at one of `hosts`: {add}"]
    if not found:
        notes[0] = f"{servers} has no MCP server at one of `hosts` that lacks the helper"
    return Plan(steps=found, notes=tuple(notes))


def codex(request: Request) -> Plan:
    """`http_headers_helper` of MCP servers, and `auth` of model providers, in config.toml."""
    machine = request.machine
    if not request.is_undo:
        needed_rules(request.profile)
        machine.check_runs(machine.path_of(PROGRAM), "--version")
    home = machine.environment.get("CODEX_HOME") or machine.home(".codex")
    path = os.path.join(home, "config.toml")
    there, gist = machine.read(path), list[str]()

    def change(document: Any) -> None:
        for name, server in _tables(document.get("mcp_servers")):
            if line := _codex_server(request, server, path, name):
                gist.append(line)
        for name, provider in _tables(document.get("model_providers")):
            if line := _codex_provider(request, provider, name):
                gist.append(line)

    content = change_toml(there, change, source=path) if there else ""
    step = Write(path=path, content=content, gist="\n".join(gist))
    steps = (step,) if content != there else ()
    if request.is_undo:
        return Plan(steps=steps)
    line = f"http_headers_helper = {json.dumps(_helper(request, 'https://HOST/mcp'))}"
    notes = [
        "see it work with: codex, and /mcp in it",
        f"another server at one of `hosts` wants the line: {line}",
        "Codex hands its helpers HOME, PATH and CA variables alone: name the store's address in"
        " the configuration, not in the environment",
    ]
    if not steps:
        notes[0] = f"{path} has no MCP server at one of `hosts` that lacks the helper"
    return Plan(steps=steps, notes=tuple(notes))


def _helper(request: Request, *address: str) -> str:
    """The command for headers. Codex passes no variables on, so the configuration that is in use
    here is named."""
    words = [request.machine.path_of(PROGRAM), *_config(request), "credential", "headers"]
    return shlex.join([*words, *address])


def _config(request: Request) -> list[str]:
    file = request.machine.environment.get("NIGHTPORTER_CONFIG")
    return config_arguments(request) or (["--config", os.path.expanduser(file)] if file else [])


def _is_ours(value: object) -> bool:
    """Whether a command is one that we wrote."""
    try:
        words = shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        return False
    return bool(words) and os.path.basename(words[0]) == PROGRAM


def _is_for(url: object, profile: Profile) -> bool:
    try:
        return isinstance(url, str) and bool(
            profiles_for(parse_target(url, has_path=True), [profile])
        )
    except BadAskError:
        return False


def _is_of_others(url: object, request: Request) -> bool:
    others = [item for item in request.profiles.values() if item is not request.profile]
    return any(_is_for(url, other) for other in others)


def _tables(found: Any) -> Iterator[tuple[str, Any]]:
    """The members of a table that are tables."""
    if hasattr(found, "items"):
        yield from ((str(name), item) for name, item in found.items() if hasattr(item, "items"))


def _claude_servers(request: Request, path: str) -> Write | None:
    there, gist = request.machine.read(path), list[str]()

    def change(document: dict[str, Any]) -> None:
        places = [("", document), *_tables(document.get("projects"))]
        for _, place in places:
            for name, server in _tables(place.get("mcpServers")):
                if line := _claude_server(request, server, path, name):
                    gist.append(line)

    content = change_json(there, change, source=path) if there else ""
    write = Write(path=path, content=content, gist="\n".join(gist))
    return write if content != there else None


def _claude_server(request: Request, server: Any, path: str, name: str) -> str:
    key = "headersHelper"
    if request.is_undo:
        return _take(request, server, key, server.get("url"), name)
    if not _is_for(server.get("url"), request.profile):
        return ""
    _refuse_other(server.get(key), f"{path}: {key} of MCP server {name!r}")
    return _put(server, key, _helper(request), name)


def _claude_settings(request: Request, path: str) -> Write | None:
    machine = request.machine
    there, key = machine.read(path), "apiKeyHelper"

    def change(document: dict[str, Any]) -> None:
        url = _gateway(document, machine)
        if request.is_undo:
            _take(request, document, key, url, "settings")
        elif _is_for(url, request.profile):
            _refuse_other(document.get(key), f"{path}: {key}")
            words = [machine.path_of(PROGRAM), *_config(request), "token", request.profile.name]
            _put(document, key, shlex.join(words), "settings")

    content = change_json(there, change, source=path)
    return Write(path=path, content=content, gist=f"({key})") if content != there else None


def _gateway(settings: dict[str, Any], machine: Machine) -> object:
    """The address of the model gateway, where the user has one."""
    variables = settings.get("env")
    named = variables.get("ANTHROPIC_BASE_URL") if isinstance(variables, dict) else None
    return named or machine.environment.get("ANTHROPIC_BASE_URL")


def _codex_server(request: Request, server: Any, path: str, name: str) -> str:
    key, url = "http_headers_helper", server.get("url")
    if request.is_undo:
        return _take(request, server, key, url, name)
    if not _is_for(url, request.profile):
        return ""
    _refuse_other(server.get(key), f"{path}: {key} of MCP server {name!r}")
    for other in ("bearer_token_env_var", "bearer_token"):
        _refuse_other(server.get(other), f"{path}: {other} of MCP server {name!r}")
    return _put(server, key, _helper(request, str(url)), name)


def _codex_provider(request: Request, provider: Any, name: str) -> str:
    """Codex takes a provider's `auth` beside no other kind of credential, so a provider that has
    one is left as it is."""
    url, auth = provider.get("base_url"), provider.get("auth")
    is_ours = hasattr(auth, "get") and _is_ours(str(auth.get("command", "")))
    if request.is_undo:
        if is_ours and not _is_of_others(url, request):
            del provider["auth"]
            return f"(auth of model provider {name} out)"
        return ""
    others = ("env_key", "experimental_bearer_token", "requires_openai_auth")
    has_other = any(key in provider for key in others) or (auth is not None and not is_ours)
    if has_other or not _is_for(url, request.profile):
        return ""
    words = [*_config(request), "token", request.profile.name]
    wanted = {"command": request.machine.path_of(PROGRAM), "args": words}
    if auth is not None and {key: auth.get(key) for key in wanted} == wanted:
        return ""
    provider["auth"] = wanted
    return f"model_providers.{name}.auth = {json.dumps(wanted)}"


def _put(place: Any, key: str, value: str, name: str) -> str:
    if place.get(key) == value:
        return ""
    place[key] = value
    return f"{name}: {key} = {json.dumps(value)}"


def _take(request: Request, place: Any, key: str, url: object, name: str) -> str:
    if not _is_ours(place.get(key)) or _is_of_others(url, request):
        return ""
    del place[key]
    return f"({key} of {name} out)"


def _refuse_other(value: object, what: str) -> None:
    """Nothing of the user's is written over.

    Raises: ConfigError.
    """
    if value is not None and not _is_ours(value):
        raise ConfigError(
            f"{what} is set to something else already; nothing was changed",
            hint="Take it out first, if nightporter is to serve it.",
        )
