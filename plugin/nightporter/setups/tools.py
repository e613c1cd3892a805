"""Set-up of kubectl, git and docker."""

from __future__ import annotations

import os
import shlex
from typing import Any

from nightporter.errors import ConfigError, HostNotAllowedError
from nightporter.hosts import Rule, rules_of
from nightporter.model import Profile
from nightporter.protocols.kubernetes import VERSIONS
from nightporter.setups.merge import change_json
from nightporter.setups.plan import Machine, Plan, Request, Run, Write, config_arguments, refuse_config


def needed_rules(profile: Profile) -> list[Rule]:
    """The profile's hosts; without any, no helper would ever answer.

    Raises: HostNotAllowedError.
    """
    rules = rules_of(profile)
    if not rules:
        raise HostNotAllowedError(
            f"profile {profile.name!r} names no `hosts`, so no helper would give its token to anybody",
            hint="Name in `hosts` which hosts may have the token, and repeat.",
        )
    return rules


def kubectl(request: Request) -> Plan:
    """A user in the kubeconfig. The cluster is told to us, so that the token goes to no other."""
    machine, profile = request.machine, request.profile
    user = f"nightporter-{profile.name}"
    client = machine.need("kubectl")
    if request.is_undo:
        return Plan(steps=(Run(argv=(client, "config", "delete-user", user), may_fail=True),))
    needed_rules(profile)
    program = machine.ours("nightporter")
    machine.check_runs(program, "--version")
    arguments = [*config_arguments(request), "exec-credential", profile.name]
    clear = Run(argv=(client, "config", "delete-user", user), may_fail=True)  # else arguments would pile up
    return Plan(
        steps=(
            clear,
            Run(
                argv=(
                    client,
                    "config",
                    "set-credentials",
                    user,
                    f"--exec-api-version={VERSIONS[0]}",
                    f"--exec-command={program}",
                    *(f"--exec-arg={argument}" for argument in arguments),
                    "--exec-interactive-mode=Never",
                    "--exec-provide-cluster-info",
                )
            ),
        ),
        notes=(f"use it with: kubectl config set-context --current --user={user}",),
    )


def git(request: Request) -> Plan:
    """One section a host: the list of helpers cleared, then ours, so that nobody else is handed the token."""
    machine = request.machine
    client = machine.need("git")
    steps: list[Run] = []
    helper = "" if request.is_undo else _git_helper(request)
    for rule in needed_rules(request.profile):
        path = "/".join(("", *rule.target.path)) if rule.target.path else ""
        section = f"credential.{rule.origin}{path}"
        steps += _git_section(machine, client, section, helper)
        if rule.target.path:
            steps += _git_path_switch(machine, client, rule, is_undo=request.is_undo)
    return Plan(steps=tuple(steps))


def _git_helper(request: Request) -> str:
    machine = request.machine
    program = machine.ours("git-credential-nightporter")
    machine.check_runs(program, "capability")
    options = config_arguments(request)
    if program == "git-credential-nightporter":
        return shlex.join(["nightporter", *options])
    return f"!{shlex.join([program, *options])}"


def _git_section(machine: Machine, client: str, section: str, helper: str) -> list[Run]:
    """Ours stands as the pair of an empty entry, which clears what came before, and the helper."""
    key = f"{section}.helper"
    there = (machine.ask(client, "config", "--global", "--null", "--get-all", key) or "").split("\0")[:-1]
    kept = _without_ours(there)
    wanted = [*kept, "", helper] if helper else kept
    if wanted == there and (not helper or _is_last(machine, client, section)):
        return []
    steps = [Run(argv=(client, "config", "--global", "--unset-all", key))] if there else []
    steps += [Run(argv=(client, "config", "--global", "--add", key, value)) for value in wanted]
    if not wanted and not _has_other_keys(machine, client, section):
        steps.append(Run(argv=(client, "config", "--global", "--remove-section", section), may_fail=True))
    return steps


def _is_last(machine: Machine, client: str, section: str) -> bool:
    """Whether no general helper is named further down, which our empty entry would not clear: git reads in order."""
    listed = machine.ask(client, "config", "--global", "--null", "--name-only", "--list") or ""
    names = [name for name in listed.lower().split("\0") if name in ("credential.helper", f"{section.lower()}.helper")]
    return bool(names) and names[-1] != "credential.helper"


def _without_ours(values: list[str]) -> list[str]:
    kept: list[str] = []
    for value in values:
        words = value.removeprefix("!").split(" ", 1)[0].strip("'\"")
        if words == "nightporter" or words.endswith("git-credential-nightporter"):
            if kept[-1:] == [""]:
                kept.pop()
        else:
            kept.append(value)
    return kept


def _has_other_keys(machine: Machine, client: str, section: str) -> bool:
    listed = machine.ask(client, "config", "--global", "--null", "--name-only", "--list") or ""
    names = {name for name in listed.split("\0") if name.lower().startswith(f"{section.lower()}.")}
    return any(name.rpartition(".")[2] != "helper" for name in names)


def _git_path_switch(machine: Machine, client: str, rule: Rule, *, is_undo: bool) -> list[Run]:
    """git tells helpers a path only where it is told to."""
    key = f"credential.{rule.origin}.useHttpPath"
    there = (machine.ask(client, "config", "--global", "--get", key) or "").strip()
    if is_undo:
        return [Run(argv=(client, "config", "--global", "--unset-all", key))] if there else []
    return [] if there == "true" else [Run(argv=(client, "config", "--global", key, "true"))]


def docker(request: Request) -> Plan:
    """`credHelpers` for each host; never `credsStore`, which would send every registry's password here."""
    machine, profile = request.machine, request.profile
    refuse_config(request, "docker")
    if not request.is_undo:
        machine.check_runs(machine.ours_on_path("docker-credential-nightporter", "docker"), "version")
    rules = needed_rules(profile)
    hosts = [rule.authority for rule in rules if not rule.is_wildcard and not rule.target.path]
    skipped = [entry for entry, rule in zip(profile.hosts, rules, strict=True) if rule.authority not in hosts]
    if not hosts:
        raise HostNotAllowedError(
            f"docker knows no patterns and no paths, and `hosts` of profile {profile.name!r} holds nothing else"
        )
    directory = machine.environment.get("DOCKER_CONFIG") or machine.home(".docker")
    path = os.path.join(directory, "config.json")

    def change(document: dict[str, Any]) -> None:
        helpers = document.setdefault("credHelpers", {})
        if not isinstance(helpers, dict):
            raise ConfigError(f"{path}: `credHelpers` is not an object; nothing was changed")
        for host in hosts:
            if helpers.get(host, "nightporter") != "nightporter":
                if request.is_undo:
                    continue
                raise ConfigError(
                    f"{path}: another helper serves {host} already; nothing was changed",
                    hint=f"Take {host} out of `credHelpers` first, if nightporter is to serve it.",
                )
            if request.is_undo:
                helpers.pop(host, None)
            else:
                helpers[host] = "nightporter"
        if not helpers:
            del document["credHelpers"]

    there = machine.read(path)
    gist = '{"credHelpers": {' + ", ".join(f'"{host}": "nightporter"' for host in hosts) + "}}"
    step = Write(path=path, content=change_json(there, change, source=path), gist=gist)
    notes = [f"left out, since docker knows no patterns and no paths: {', '.join(skipped)}"] if skipped else []
    is_idle = request.is_undo and not there
    return Plan(steps=() if is_idle else (step,), notes=tuple(notes))
