"""Setup of package tools: cargo, pip, uv, twine, the program keyring, go, npm, pnpm."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from typing import Any

from nightporter.cli.setups import users
from nightporter.cli.setups.merge import change_toml, npmrc_lines, set_line
from nightporter.cli.setups.plan import (
    Machine,
    Plan,
    Request,
    Run,
    Write,
    config_arguments,
    refuse_config,
)
from nightporter.cli.setups.tools import left_out_of, needed_rules
from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile
from nightporter.machine.installation import keyring_command
from nightporter.operations import client_rules

CARGO_PROGRAM = "cargo-credential-nightporter"
CARGO_ALIAS = "nightporter"
CARGO_KEY = "global-credential-providers"
SERVES_ALL = "left as it is: one entry serves all profiles, and others have `hosts` too"
OF_ANOTHER = "left as it is: it reads another configuration"
KEYRING_WRAPPER = "keyring/keyring"  # its directory goes into PATH
NPM_VALUE = "${NIGHTPORTER_TOKEN}"


def cargo(request: Request) -> Plan:
    """One entry in the list of credential providers: cargo asks the last one first, ours answers
    for `hosts` only."""
    machine = request.machine
    refuse_config(request, "cargo")
    directory = machine.environment.get("CARGO_HOME") or machine.home(".cargo")
    path = os.path.join(directory, "config.toml")
    there = machine.read(path)
    if request.is_undo:
        return _cargo_undo(request, path, there)
    needed_rules(request.profile)
    program = machine.path_of(CARGO_PROGRAM)
    machine.check_runs(program, "--cargo-plugin")
    if machine.read(os.path.join(directory, "config")):
        raise ConfigError(
            f"{directory} holds a file `config`, which cargo reads instead of config.toml;"
            " nothing was changed",
            hint="Rename it to config.toml first.",
        )
    # cargo splits an entry at blanks: a path with one needs an alias.
    is_plain = not any(char.isspace() for char in program)
    entry = program if is_plain else CARGO_ALIAS

    def change(document: Any) -> None:
        listed = _cargo_providers(document)
        if listed is None:
            document.setdefault("registry", {})[CARGO_KEY] = ["cargo:token", entry]
        elif [str(item) for item in listed[-1:]] != [entry]:
            _take_cargo_entries(listed)
            listed.append(entry)
        if not is_plain:
            document.setdefault("credential-alias", {})[CARGO_ALIAS] = [program]

    gist = f'[registry]\n{CARGO_KEY} = ["cargo:token", {json.dumps(entry)}]'
    content = change_toml(there, change, source=path)
    return Plan(
        steps=(Write(path=path, content=content, gist=gist),) if content != there else (),
        notes=(
            "see it work with: cargo login --registry NAME, or cargo fetch in a package",
            _warning("its .cargo/config.toml", "CARGO_HTTP_PROXY and CARGO_HTTP_CAINFO to yours"),
        ),
    )


def _cargo_undo(request: Request, path: str, there: str) -> Plan:
    if _others_have_hosts(request):
        return Plan(notes=(SERVES_ALL,))

    def change(document: Any) -> None:
        _take_cargo_entries(_cargo_providers(document) or [])
        aliases = document.get("credential-alias")
        if aliases is not None and CARGO_ALIAS in aliases:
            del aliases[CARGO_ALIAS]
            if not aliases:
                del document["credential-alias"]

    content = change_toml(there, change, source=path)
    gist = f"({CARGO_KEY} without {CARGO_PROGRAM})"
    return Plan(steps=(Write(path=path, content=content, gist=gist),) if content != there else ())


def _others_have_hosts(request: Request) -> bool:
    return any(item.hosts for item in request.profiles.values() if item is not request.profile)


def _cargo_providers(document: Any) -> Any:
    """The list of providers; None where it is missing.

    Raises: TypeError for one that is no list.
    """
    registry = document.get("registry")
    listed = registry.get(CARGO_KEY) if registry is not None else None
    if listed is not None and not isinstance(listed, list):
        raise TypeError
    return listed


def _take_cargo_entries(listed: Any) -> None:
    for item in [item for item in listed if _is_cargo_entry(str(item))]:
        listed.remove(item)


def _is_cargo_entry(item: str) -> bool:
    """Whether a provider is ours: its bare name, its path wherever it was, or our alias."""
    return item == CARGO_ALIAS or os.path.basename(item) == CARGO_PROGRAM


def pip(request: Request) -> Plan:
    """pip asks the command `keyring`: ours, or the real one, in which nightporter is a backend."""
    client = request.machine.need("pip")
    argv, key = (client, "config", "--user"), "global.keyring-provider"
    there = (request.machine.ask(*argv, "get", key) or "").strip()
    if request.is_undo:
        return Plan(steps=(Run(argv=(*argv, "unset", key)),) if there == "subprocess" else ())
    _check_keyring(request)
    _refuse_other(there, "subprocess", f"pip's {key}")
    user = request.profile.helper_username
    others = users.named_in(
        request.machine.ask(client, "config", "list") or "", request.profile, "pip's configuration"
    )
    return Plan(
        steps=(Run(argv=(*argv, "set", key, "subprocess")),) if not there else (),
        notes=(
            (
                "pip before 26.2 asks only where the index address names the user:"
                f" https://{user}@HOST/simple/"
            ),
            f"see it work with: pip download --no-deps -i https://{user}@HOST/simple/ PACKAGE",
            _warning("its requirements files", "PIP_KEYRING_PROVIDER=disabled"),
            *others,
        ),
    )


def _warning(files: str, pins: str) -> str:
    """What no protocol tells us of a checkout, and the client's own remedy."""
    return (
        f"in a checkout that you don't trust, {files} can turn off the check of TLS or name a"
        f" proxy, and so read the token: set {pins} there (plugin/docs/security.md)"
    )


def _refuse_other(there: str, wanted: str, what: str) -> None:
    """Nothing of the user's is written over.

    Raises: ConfigError.
    """
    if there not in ("", wanted):
        raise ConfigError(
            f"{what} is set to something else already; nothing was changed",
            hint=f"Take {what} out first, if nightporter is to serve it.",
        )


def uv(request: Request) -> Plan:
    """`keyring-provider` in uv's own user file."""
    machine = request.machine
    base = machine.environment.get("XDG_CONFIG_HOME") or machine.home(".config")
    path = os.path.join(base, "uv", "uv.toml")
    there = machine.read(path)
    if not request.is_undo:
        _check_keyring(request)

    def change(document: Any) -> None:
        present = str(document.get("keyring-provider", ""))
        if not request.is_undo:
            _refuse_other(present, "subprocess", "uv's keyring-provider")
            if not present:
                document["keyring-provider"] = "subprocess"
        elif present == "subprocess":
            del document["keyring-provider"]

    content = change_toml(there, change, source=path)
    gist = "(keyring-provider out)" if request.is_undo else 'keyring-provider = "subprocess"'
    user = request.profile.helper_username
    notes = (
        ()
        if request.is_undo
        else (
            f"name the user in the index address: https://{user}@HOST/simple/",
            f"see it work with: uv pip compile --default-index https://{user}@HOST/simple/ -",
            _warning("its uv.toml and pyproject.toml", f"UV_CONFIG_FILE={path}"),
            *users.named_in(there, request.profile, path),
        )
    )
    return Plan(
        steps=(Write(path=path, content=content, gist=gist),) if content != there else (),
        notes=notes,
    )


def twine(request: Request) -> Plan:
    """twine imports keyring by itself: nothing to write."""
    if not request.is_undo:
        _check_backend(request)
    return Plan(notes=("twine asks the keyring by itself, if nightporter is installed beside it",))


def keyring(request: Request) -> Plan:
    """The program `keyring` for pip and uv, in a directory of its own: it hides the real one only
    from who puts that before it in PATH, and hands on what isn't ours."""
    if request.is_undo and _others_have_hosts(request):
        return Plan(notes=(SERVES_ALL,))
    if not request.is_undo:
        needed_rules(request.profile)
    wrapper = _keyring_wrapper(request)
    before = request.machine.read(wrapper.path)
    is_anothers = bool(before) and not _has_same_config(before, request)
    if request.is_undo:
        return Plan(notes=(OF_ANOTHER,)) if is_anothers else Plan(steps=(wrapper,))
    there = shlex.quote(os.path.dirname(wrapper.path))
    notes = [
        f"see it work with: keyring --mode creds get https://HOST/  (user name"
        f" {request.profile.helper_username!r}, then the token)"
    ]
    if not _is_ours_first(request.machine):
        notes.insert(
            0, f"put it before any other `keyring`: PATH={there}:$PATH, where pip and uv run"
        )
    if is_anothers:
        notes.append("it reads another configuration than before; there is one such program")
    return Plan(steps=(wrapper,), notes=tuple(notes))


def _keyring_wrapper(request: Request) -> Write:
    return request.machine.wrapper(KEYRING_WRAPPER, ["keyring"], request)


def _has_same_config(wrapper: str, request: Request) -> bool:
    option = shlex.join(config_arguments(request))
    return f" {option} keyring " in wrapper if option else " --config " not in wrapper


def _is_ours_first(machine: Machine) -> bool:
    """Whether PATH leads to the place of `setup keyring` before any other `keyring`."""
    ours = os.path.realpath(os.path.dirname(machine.wrapper_path(KEYRING_WRAPPER)))
    for place in machine.environment.get("PATH", "").split(os.pathsep):
        if os.path.realpath(place) == ours:
            return True
        if shutil.which(os.path.join(place or os.curdir, "keyring")):
            return False
    return False


def _check_keyring(request: Request) -> None:
    """That `keyring` on PATH is ours, or knows our backend.

    Raises: ConfigError.
    """
    machine = request.machine
    there = machine.read(machine.wrapper_path(KEYRING_WRAPPER))
    words = ("nightporter", *config_arguments(request), "setup", "keyring", request.profile.name)
    if not (_is_ours_first(machine) and there):
        _check_backend(request, f", or run `{shlex.join(words)}`")
        return
    needed_rules(request.profile)
    if there != _keyring_wrapper(request).content and not machine.is_dry:
        raise ConfigError(
            "`keyring` on PATH is ours, and reads another configuration or runs another"
            " installation; nothing was changed",
            hint=f"Run `{shlex.join(words)}`, and repeat.",
        )


def _check_backend(request: Request, otherwise: str = "") -> None:
    """That the real `keyring` on PATH knows our backend.

    Raises: ConfigError.
    """
    refuse_config(request, "keyring", otherwise)
    needed_rules(request.profile)
    program = request.machine.need("keyring", otherwise)
    listed = request.machine.ask(program, "--list-backends") or ""
    if "nightporter" not in listed and not request.machine.is_dry:
        raise ConfigError(
            "the command `keyring` on PATH doesn't know the nightporter backend; nothing was"
            " changed",
            hint=f"Install both in one place: `{keyring_command()}`{otherwise}.",
        )


def go(request: Request) -> Plan:
    """One more word in GOAUTH, beside what is there (`netrc`, unless it was changed)."""
    machine = request.machine
    client = machine.need("go")
    asked = (machine.ask(client, "env", "GOAUTH") or "").strip() or "netrc"
    words = [word.strip() for word in asked.split(";") if word.strip()]
    suffix = f"credential go {request.profile.name}"
    kept = [word for word in words if not word.endswith(suffix)]
    if request.is_undo:
        if kept == words:
            return Plan()
        if kept == ["netrc"]:
            return Plan(steps=(Run(argv=(client, "env", "-u", "GOAUTH")),))
        return Plan(steps=(Run(argv=(client, "env", "-w", f"GOAUTH={';'.join(kept)}")),))
    if machine.environment.get("GOAUTH"):
        raise ConfigError(
            "GOAUTH is set in the environment, which go prefers; nothing was changed",
            hint="Unset it.",
        )
    _refuse_other("off" if "off" in words else "", "", "GOAUTH (to `off`)")
    asks = client_rules.CLIENTS["go"]
    left_out = left_out_of(request.profile, asks.can, asks.why)
    program = machine.path_of("nightporter")
    machine.check_runs(program, "--version")
    ours = " ".join(
        [shlex.quote(word) for word in (program, *config_arguments(request))] + [suffix]
    )
    if words == [*kept, ours]:
        return Plan()
    return Plan(
        steps=(Run(argv=(client, "env", "-w", f"GOAUTH={';'.join([*kept, ours])}")),),
        notes=("see it work with: go list -m MODULE@latest; add -x to see failures", *left_out),
    )


def npm(request: Request) -> Plan:
    """npm runs no helper, and `nightporter run --npm` needs no configuration: what an earlier
    setup wrote, a variable that any checkout could send elsewhere, is taken out."""
    machine = request.machine
    client = machine.need("npm")
    ours = [key for key, value in npmrc_lines(machine.read(_npmrc(machine))) if value == NPM_VALUE]
    steps = [Run(argv=(client, "config", "delete", key, "--location=user")) for key in ours]
    if request.is_undo:
        return Plan(steps=tuple(steps))
    named = ", ".join(registries(request.profile))
    run = f"nightporter run --npm {request.profile.name} -- npm"
    return Plan(
        steps=tuple(steps),
        notes=(
            f"run npm as: {run} install",
            f"the token is then for {named}, and no checkout and no script of a package can take"
            " it",
        ),
    )


def pnpm(request: Request) -> Plan:
    """pnpm runs a program without arguments: a wrapper for the profile, named in the user's
    npmrc."""
    machine, name = request.machine, request.profile.name
    wrapper = machine.wrapper(f"pnpm-{name}", ["pnpm", name], request)
    path = _npmrc(machine)
    there = text = machine.read(path)
    lines = dict(npmrc_lines(there))
    if request.is_undo:
        for key in [key for key, value in lines.items() if value == wrapper.path]:
            text = set_line(text, key, None)
        gist = f"(every line that names {wrapper.path} out)"
    else:
        keys = [f"//{host}:tokenHelper" for host in registries(request.profile)]
        for key in keys:
            _refuse_other(lines.get(key, ""), wrapper.path, key)
            if key not in lines:
                text = set_line(text, key, wrapper.path)
        gist = "\n".join(f"{key}={wrapper.path}" for key in keys)
    see = "see it work with: pnpm view PACKAGE --registry https://HOST/"
    return Plan(
        steps=(wrapper, *([Write(path=path, content=text, gist=gist)] if text != there else [])),
        notes=() if request.is_undo else (see,),
    )


def _npmrc(machine: Machine) -> str:
    return machine.environment.get("NPM_CONFIG_USERCONFIG") or machine.home(".npmrc")


def _host_of(key: str) -> str:
    return key.removeprefix("//").rpartition(":")[0].rstrip("/")


def registries(profile: Profile) -> list[str]:
    """Returns `host/path/` of each plain host, as npmrc keys want them.

    Raises: HostNotAllowedError where there is none.
    """
    rules = [rule for rule in needed_rules(profile) if not rule.is_wildcard]
    return ["/".join((rule.authority, *(rule.target.path or ()), "")) for rule in rules]
