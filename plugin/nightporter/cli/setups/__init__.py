"""`nightporter setup CLIENT PROFILE`: the client's configuration, written by its own command where
it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nightporter.cli.setups import agents, others, packages, tools
from nightporter.cli.setups.packages import registries
from nightporter.cli.setups.plan import Machine, Plan, Request, carry_out, show
from nightporter.cli.terminal import Options
from nightporter.client.configuration import load_config
from nightporter.core.config import choose_profile
from nightporter.core.model import Config
from nightporter.core.values import replace
from nightporter.machine.places import cache_directories, data_directory
from nightporter.operations.findings import host_findings

CLIENTS: Mapping[str, Callable[[Request], Plan]] = {
    "kubectl": tools.kubectl,
    "git": tools.git,
    "docker": tools.docker,
    "cargo": packages.cargo,
    "terraform": others.terraform,
    "pip": packages.pip,
    "uv": packages.uv,
    "twine": packages.twine,
    "keyring": packages.keyring,
    "go": packages.go,
    "npm": packages.npm,
    "pnpm": packages.pnpm,
    "curl": others.curl,
    "httpie": others.httpie,
    "google": others.google,
    "bazel": others.bazel,
    "kubelet": others.kubelet,
    "claude": agents.claude,
    "codex": agents.codex,
}

# They name a host, and the profile is found by it.
BY_HOST = (
    "git",
    "docker",
    "cargo",
    "terraform",
    "pip",
    "uv",
    "twine",
    "keyring",
    "bazel",
    "kubelet",
    "claude",
    "codex",
)

__all__ = ["CLIENTS", "plan", "registries", "set_up", "show"]


def plan(
    client: str,
    profile: str | None,
    loaded: Config,
    config: str | None,
    environment: Mapping[str, str],
    *,
    is_undo: bool = False,
    is_dry: bool = False,
    is_alone: bool = False,
) -> tuple[Plan, Request]:
    """What has to be done so that `client` asks for the profile's token, or no longer does.

    `config`: the file that `--config` named. `is_alone`: other profiles' hosts hold nothing back,
    since what they have set up goes too.

    Raises: ConfigError, HostNotAllowedError.
    """
    chosen = choose_profile(loaded, profile)
    request = Request(
        profile=chosen,
        profiles={chosen.name: chosen} if is_alone else loaded.profiles,
        machine=Machine(
            environment,
            data_directory(),
            next(iter(cache_directories(environment)), data_directory()),
            is_dry=is_dry,
        ),
        source=loaded.source,
        is_undo=is_undo,
        config=config,
    )
    return _with_findings(CLIENTS[client](request), client, request, loaded), request


def _with_findings(todo: Plan, client: str, request: Request, loaded: Config) -> Plan:
    """The plan, and what `config check` and doctor say of the profile's hosts too."""
    if request.is_undo or client not in BY_HOST:
        return todo
    found = host_findings(loaded, request.profile.name)
    said = tuple(f"warning: {item.what}\n  what to do: {item.todo}" for item in found)
    return replace(todo, notes=(*todo.notes, *said))


def set_up(
    client: str,
    profile: str | None,
    options: Options,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    is_undo: bool = False,
) -> None:
    """Does it, and says what was changed, file by file, and what to do next.

    Raises: ConfigError, HostNotAllowedError.
    """
    loaded = load_config(options.config, environment)
    todo, request = plan(client, profile, loaded, options.config, environment, is_undo=is_undo)
    changed = carry_out(todo, request.machine)
    done = "undone" if is_undo else "set up"
    head = f"{client}: {done} for profile {request.profile.name!r}"
    say("\n  ".join((head, *changed)) if changed else f"{client}: nothing to change")
    for note in todo.notes:
        say(note)


def undo_all(
    client: str,
    options: Options,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    is_dry: bool = False,
) -> list[Plan]:
    """Takes back what was set up of a client for all profiles; `is_dry`: only plans it.

    Raises: ConfigError.
    """
    loaded = load_config(options.config, environment)
    plans, changed = [], list[str]()
    for name in loaded.profiles:
        todo, request = plan(
            client, name, loaded, options.config, environment, is_undo=True, is_alone=True
        )
        plans.append(todo)
        if not is_dry:
            changed += carry_out(todo, request.machine)
            for note in todo.notes:
                say(note)
    if not is_dry:
        head = f"{client}: undone for all profiles"
        say("\n  ".join((head, *changed)) if changed else f"{client}: nothing to change")
    return plans
