"""Setup of kubectl, git and docker."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import Any

from nightporter.cli.setups import contexts, users
from nightporter.cli.setups.merge import change_json
from nightporter.cli.setups.pins import pin_clusters
from nightporter.cli.setups.plan import (
    Machine,
    Plan,
    Request,
    Run,
    Write,
    config_arguments,
    refuse_config,
)
from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.hosts import BadAskError, Rule, parse_rule, rules_of
from nightporter.core.model import Profile
from nightporter.machine.installation import client_hint
from nightporter.operations import client_rules
from nightporter.protocols.kubernetes import VERSIONS
from nightporter.stores import STORES

HELPER = "nightporter"
DOCKER_PROGRAM = "docker-credential-nightporter"


def needed_rules(profile: Profile) -> list[Rule]:
    """The profile's hosts; without any, no helper would ever answer.

    Raises: HostNotAllowedError.
    """
    rules = rules_of(profile)
    if not rules:
        raise HostNotAllowedError(
            f"profile {profile.name!r} names no `hosts`, so no helper would give its token to"
            " anybody",
            hint="Name in `hosts` which hosts may have the token, and repeat.",
        )
    return rules


def left_out_of(profile: Profile, can_ask_for: Callable[[Rule], bool], why: str) -> tuple[str, ...]:
    """Returns a note that names the entries of `hosts` that a client can never ask for.

    Raises: HostNotAllowedError where there are no others, or none at all.
    """
    rules = zip(profile.hosts, needed_rules(profile), strict=True)
    left_out = [entry for entry, rule in rules if not can_ask_for(rule)]
    if len(left_out) == len(profile.hosts):
        raise HostNotAllowedError(
            f"{why}, and `hosts` of profile {profile.name!r} holds nothing else",
            hint="Name in `hosts` what the client asks for, and repeat.",
        )
    return (f"left out, since {why}: {', '.join(left_out)}",) if left_out else ()


def kubectl(request: Request) -> Plan:
    """A user in the kubeconfig. The cluster is told to us, so that the token goes to no other."""
    machine, profile = request.machine, request.profile
    user = contexts.user_of(profile.name)
    client = machine.need("kubectl")
    if request.is_undo:
        return contexts.undo(machine, client, profile.name)
    needed_rules(profile)
    program = machine.path_of("nightporter")  # works from a desktop, and for kubectl's allowlist
    machine.check_runs(program, "--version")
    pins, notes = pin_clusters(request, client)
    arguments = [*config_arguments(request), "exec-credential", profile.name]
    clear = Run(
        argv=(client, "config", "delete-user", user), may_fail=True
    )  # else arguments would pile up
    return Plan(
        steps=(
            *contexts.note_users(machine, client, profile.name),
            clear,
            Run(
                argv=(
                    client,
                    "config",
                    "set-credentials",
                    user,
                    f"--exec-api-version={VERSIONS[0]}",
                    f"--exec-command={program}",
                    *(f"--exec-arg={_as_csv(argument)}" for argument in arguments),
                    "--exec-interactive-mode=Never",
                    "--exec-provide-cluster-info",
                )
            ),
            *contexts.install_hints(machine, user, client_hint(STORES[profile.store.type])),
            *pins,
        ),
        notes=(f"use it with: kubectl config set-context --current --user={user}", *notes),
    )


def _as_csv(argument: str) -> str:
    """kubectl reads the option as a row of CSV, and would split a path at its commas."""
    return '"' + argument.replace('"', '""') + '"' if set(argument) & set(',"\n') else argument


def is_others(request: Request, entry: str) -> bool:
    """Whether another profile names the host too, so that an undo has to leave it alone."""
    try:
        target = parse_rule(entry).target
    except BadAskError:
        return False
    others = [profile for profile in request.profiles.values() if profile is not request.profile]
    return any(rule.target == target for profile in others for rule in rules_of(profile))


def git(request: Request) -> Plan:
    """One section a host: the list of helpers cleared, then ours, so that nobody else is handed the
    token.

    git reads its files in order and an empty entry clears only what is above it, so ours has to
    be below every general helper. A section that holds something of the user's is not moved:
    ours then goes into one of its own, which is spelt with a slash at the end and means the same
    host.
    """
    machine = request.machine
    client = machine.need("git")
    listed = machine.ask(client, "config", "--global", "--null", "--list") or ""
    entries = [_entry(text) for text in listed.split("\0") if text]
    if request.is_undo:
        return Plan(steps=tuple(_git_undo(request, client, entries)))
    helper = _git_helper(request)
    steps: list[Run] = []
    rules = needed_rules(request.profile)
    for rule in rules:
        path = "/".join(("", *rule.target.path)) if rule.target.path else ""
        steps += _git_section(client, f"credential.{rule.origin}{path}", helper, entries)
        if rule.target.path:
            steps += _git_path_switch(client, f"credential.{rule.origin}/", entries)
    notes = users.told_to_git(machine, request.profile, rules)
    see = f"see it work with: git ls-remote {rules[0].origin}/REPOSITORY"
    return Plan(steps=tuple(dict.fromkeys(steps)), notes=(see, *notes))


def _entry(text: str) -> tuple[str, str]:
    """Section and name of `--null --list` in one, the name in lower case as git has it, and the
    value."""
    key, _, value = text.partition("\n")
    return key, value


def _git_helper(request: Request) -> str:
    machine = request.machine
    program = machine.path_of("git-credential-nightporter")
    machine.check_runs(program, "capability")
    return f"!{shlex.join([program, *config_arguments(request)])}"


def _is_our_helper(value: str) -> bool:
    try:
        words = shlex.split(value.removeprefix("!"))
    except ValueError:
        return False
    return bool(words) and (
        words[0] == "nightporter" or words[0].endswith("git-credential-nightporter")
    )


def _is_only_ours(section: str, entries: list[tuple[str, str]]) -> bool:
    """Whether everything in the section was put there by us."""
    there = [(key, value) for key, value in entries if key.rpartition(".")[0] == section]
    return all(
        key.endswith(".helper") and (not value or _is_our_helper(value)) for key, value in there
    )


def _git_section(
    client: str, section: str, helper: str, entries: list[tuple[str, str]]
) -> list[Run]:
    general = [at for at, (key, _) in enumerate(entries) if key == "credential.helper"]
    lowest = general[-1] if general else -1
    for spelt in (section, f"{section}/"):
        found = [(at, value) for at, (key, value) in enumerate(entries) if key == f"{spelt}.helper"]
        if [value for _, value in found[-2:]] == ["", helper] and found[-2][0] > lowest:
            return []
    steps = []
    for spelt in (section, f"{section}/"):
        if any(key == f"{spelt}.helper" for key, _ in entries) and _is_only_ours(spelt, entries):
            steps.append(Run(argv=(client, "config", "--global", "--remove-section", spelt)))
    chosen = section if _is_only_ours(section, entries) else f"{section}/"
    added = [
        Run(argv=(client, "config", "--global", "--add", f"{chosen}.helper", value))
        for value in ("", helper)
    ]
    return [*steps, *added]


def _git_undo(request: Request, client: str, entries: list[tuple[str, str]]) -> list[Run]:
    """Removes all our helpers, also for hosts that the profile names no more, but not other
    profiles'."""
    sections = {key.removesuffix(".helper") for key, value in entries if key.endswith(".helper")}
    steps: list[Run] = []
    for section in sorted(sections):
        origin = section.removeprefix("credential.").rstrip("/")
        values = [value for key, value in entries if key == f"{section}.helper"]
        if not any(map(_is_our_helper, values)) or is_others(request, origin):
            continue
        keys = (client, "config", "--global")
        if _is_only_ours(section, entries):
            steps.append(Run(argv=(*keys, "--remove-section", section)))
        else:  # a user's entry beside ours: only the pair goes
            ours = next(value for value in values if _is_our_helper(value))
            steps.append(
                Run(argv=(*keys, "--fixed-value", "--unset-all", f"{section}.helper", ours))
            )
            steps.append(Run(argv=(*keys, "--unset-all", f"{section}.helper", "^$"), may_fail=True))
    switches = [key for key, _ in entries if key.lower().endswith("/.usehttppath")]
    for key in switches:
        if not is_others(request, key.removeprefix("credential.").rpartition("/")[0]):
            steps.append(Run(argv=(client, "config", "--global", "--unset-all", key)))
    return steps


def _git_path_switch(client: str, section: str, entries: list[tuple[str, str]]) -> list[Run]:
    """git tells helpers a path only where it is told to. In the section that is ours alone."""
    key = f"{section}.useHttpPath"
    there = [value for name, value in entries if name.lower() == key.lower()]
    return [] if there == ["true"] else [Run(argv=(client, "config", "--global", key, "true"))]


def docker(request: Request) -> Plan:
    """`credHelpers` for each host; never `credsStore`, which would send every registry's password
    here."""
    machine, profile = request.machine, request.profile
    refuse_config(request, "docker")
    if not request.is_undo:
        machine.check_runs(machine.ours_on_path(DOCKER_PROGRAM, "docker"), "version")
    path = os.path.join(
        machine.environment.get("DOCKER_CONFIG") or machine.home(".docker"), "config.json"
    )
    there = machine.read(path)
    if request.is_undo:
        return _docker_undo(request, path, there)
    asks = client_rules.CLIENTS["docker"]
    notes = left_out_of(profile, asks.can, asks.why)
    hosts = [rule.key for rule in rules_of(profile) if asks.can(rule)]

    def change(document: dict[str, Any]) -> None:
        helpers = document.setdefault("credHelpers", {})
        if not isinstance(helpers, dict):
            raise ConfigError(
                f"{path}: `credHelpers` is not an object; nothing was changed",
                hint="Correct that file; docker can't read it either.",
            )
        for host in hosts:
            if helpers.get(host, HELPER) != HELPER:
                raise ConfigError(
                    f"{path}: another helper serves {host} already; nothing was changed",
                    hint=f"Take {host} out of `credHelpers` first, if nightporter is to serve it.",
                )
            helpers[host] = HELPER

    gist = '{"credHelpers": {' + ", ".join(f'"{host}": "{HELPER}"' for host in hosts) + "}}"
    step = Write(path=path, content=change_json(there, change, source=path), gist=gist)
    see = f"see it work with: docker pull {hosts[0]}/IMAGE"
    return Plan(steps=(step,), notes=(see, *notes, *_path_note(machine)))


def _path_note(machine: Machine) -> tuple[str, ...]:
    """docker takes no path of a helper, so it depends on who starts it."""
    directory = os.path.dirname(machine.find(DOCKER_PROGRAM) or "")
    if directory in ("", "/usr/local/bin", "/usr/bin", "/bin"):
        return ()
    return (
        f"docker finds its helper on PATH alone: cron and programs of a desktop need {directory} on"
        f" theirs, or a link to {DOCKER_PROGRAM} in /usr/local/bin",
    )


def _docker_undo(request: Request, path: str, there: str) -> Plan:
    """Returns all our entries, also for hosts that the profile names no more, but not those of
    other profiles."""

    def change(document: dict[str, Any]) -> None:
        helpers = document.get("credHelpers")
        if isinstance(helpers, dict):
            for host in [
                host
                for host, name in helpers.items()
                if name == HELPER and not is_others(request, host)
            ]:
                del helpers[host]
            if not helpers:
                del document["credHelpers"]

    content = change_json(there, change, source=path)
    if content == there or not there:
        return Plan()
    return Plan(
        steps=(
            Write(
                path=path,
                content=content,
                gist=f"(credHelpers: every {HELPER} of this profile out)",
            ),
        )
    )
