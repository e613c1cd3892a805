"""Set-up of package tools: cargo, pip, uv, twine, go, npm, pnpm."""

from __future__ import annotations

import os
import shlex
from typing import Any

from nightporter.errors import ConfigError
from nightporter.hosts import rules_of
from nightporter.setups.merge import change_toml, set_line
from nightporter.setups.plan import Plan, Request, Run, Write, config_arguments, refuse_config
from nightporter.setups.tools import needed_rules

CARGO_PROGRAM = "cargo-credential-nightporter"


def cargo(request: Request) -> Plan:
    """One entry in the list of credential providers: cargo asks the last one first, ours answers for `hosts` only."""
    machine = request.machine
    refuse_config(request, "cargo")
    path = os.path.join(machine.environment.get("CARGO_HOME") or machine.home(".cargo"), "config.toml")
    there = machine.read(path)
    if request.is_undo:
        wanted = CARGO_PROGRAM
    else:
        needed_rules(request.profile)
        wanted = machine.ours_on_path(CARGO_PROGRAM, "cargo")
        machine.check_runs(wanted, "--cargo-plugin")

    def change(document: Any) -> None:
        registry = document.get("registry")
        if registry is None:
            if request.is_undo:
                return
            document["registry"] = {}
            registry = document["registry"]
        key = "global-credential-providers"
        listed = list(registry.get(key, ["cargo:token"]))
        kept = [item for item in listed if item != wanted]
        result = kept if request.is_undo else [*kept, wanted]
        if result == listed:
            return
        if result == ["cargo:token"]:
            del registry[key]
            if not registry:
                del document["registry"]
        else:
            registry[key] = result

    gist = f'[registry]\nglobal-credential-providers = ["cargo:token", "{wanted}"]'
    content = change_toml(there, change, source=path)
    return Plan(steps=(Write(path=path, content=content, gist=gist),) if content != there else ())


def pip(request: Request) -> Plan:
    """pip asks the command `keyring`, in which nightporter is a backend."""
    client = request.machine.need("pip")
    argv = (client, "config", "--user")
    if request.is_undo:
        return Plan(steps=(Run(argv=(*argv, "unset", "global.keyring-provider"), may_fail=True),))
    _check_keyring(request)
    user = request.profile.helper_username
    return Plan(
        steps=(Run(argv=(*argv, "set", "global.keyring-provider", "subprocess")),),
        notes=(f"pip before 26.2 asks only where the index address names the user: https://{user}@HOST/simple/",),
    )


def uv(request: Request) -> Plan:
    """`keyring-provider` in uv's own user file."""
    machine = request.machine
    base = machine.environment.get("XDG_CONFIG_HOME") or machine.home(".config")
    path = os.path.join(base, "uv", "uv.toml")
    if not request.is_undo:
        _check_keyring(request)

    def change(document: Any) -> None:
        if request.is_undo:
            if document.get("keyring-provider") == "subprocess":
                del document["keyring-provider"]
        elif document.get("keyring-provider") != "subprocess":
            document["keyring-provider"] = "subprocess"

    there = machine.read(path)
    content = change_toml(there, change, source=path)
    gist = 'keyring-provider = "subprocess"'
    user = request.profile.helper_username
    notes = () if request.is_undo else (f"name the user in the index address: https://{user}@HOST/simple/",)
    return Plan(steps=(Write(path=path, content=content, gist=gist),) if content != there else (), notes=notes)


def twine(request: Request) -> Plan:
    """twine imports keyring by itself: nothing to write."""
    if not request.is_undo:
        _check_keyring(request)
    return Plan(notes=("twine asks the keyring by itself, if nightporter is installed beside it",))


def _check_keyring(request: Request) -> None:
    """That `keyring` on PATH knows our backend.

    Raises: ConfigError.
    """
    refuse_config(request, "keyring")
    needed_rules(request.profile)
    program = request.machine.need("keyring")
    listed = request.machine.ask(program, "--list-backends") or ""
    if "nightporter" not in listed and not request.machine.is_dry:
        raise ConfigError(
            "the command `keyring` on PATH doesn't know the nightporter backend; nothing was changed",
            hint="Install both in one place: `pipx install keyring && pipx inject keyring nightporter`.",
        )


def go(request: Request) -> Plan:
    """One more word in GOAUTH, beside what is there (`netrc`, unless it was changed)."""
    machine = request.machine
    client = machine.need("go")
    asked = (machine.ask(client, "env", "GOAUTH") or "").strip() or "netrc"
    words = [word.strip() for word in asked.split(";") if word.strip()]
    program = "nightporter" if request.is_undo else machine.ours("nightporter")
    ours = shlex.join([program, *config_arguments(request), "credential", "go", request.profile.name])
    kept = [word for word in words if not word.endswith(f"credential go {request.profile.name}")]
    if request.is_undo:
        if kept == words:
            return Plan()
        if kept == ["netrc"]:
            return Plan(steps=(Run(argv=(client, "env", "-u", "GOAUTH")),))
        return Plan(steps=(Run(argv=(client, "env", "-w", f"GOAUTH={';'.join(kept)}")),))
    needed_rules(request.profile)
    machine.check_runs(program, "--version")
    if words == [*kept, ours]:
        return Plan()
    return Plan(steps=(Run(argv=(client, "env", "-w", f"GOAUTH={';'.join([*kept, ours])}")),))


def npm(request: Request) -> Plan:
    """npm runs no helper: the user's npmrc names a variable, and `nightporter run` sets it."""
    client = request.machine.need("npm")
    keys = [f"//{host}:_authToken" for host in _registries(request)]
    if request.is_undo:
        steps = [Run(argv=(client, "config", "delete", key, "--location=user"), may_fail=True) for key in keys]
        return Plan(steps=tuple(steps))
    value = "${NIGHTPORTER_TOKEN}"
    return Plan(
        steps=tuple(Run(argv=(client, "config", "set", f"{key}={value}", "--location=user")) for key in keys),
        notes=(f"run npm as: nightporter run {request.profile.name} -- npm install",),
    )


def pnpm(request: Request) -> Plan:
    """pnpm runs a program without arguments: a wrapper for the profile, named in the user's npmrc."""
    machine, name = request.machine, request.profile.name
    wrapper = machine.wrapper(f"pnpm-{name}", ["credential", "pnpm", name], request)
    path = machine.environment.get("NPM_CONFIG_USERCONFIG") or machine.home(".npmrc")
    there = text = machine.read(path)
    lines = []
    for host in _registries(request):
        key = f"//{host}:tokenHelper"
        text = set_line(text, key, None if request.is_undo else wrapper.path)
        lines.append(f"{key}={wrapper.path}")
    steps = [wrapper, *([Write(path=path, content=text, gist="\n".join(lines))] if text != there else [])]
    return Plan(steps=tuple(steps))


def _registries(request: Request) -> list[str]:
    """`host/path/` of each plain host, as npmrc keys want them."""
    needed_rules(request.profile)
    rules = [rule for rule in rules_of(request.profile) if not rule.is_wildcard]
    return ["/".join((rule.authority, *(rule.target.path or ()), "")) for rule in rules]
