"""`nightporter uninstall --print`: every place where something of nightporter is kept, as a shell
script that removes it. Nothing is removed here.

What belongs to this machine alone is a command; what other machines may use too is a comment, so
that who leaves takes nothing away from others without a decision. It works without a configuration,
and with a broken one: then it names the files.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping

from nightporter.cli import setups
from nightporter.cli.setups.plan import Run, Step, Write
from nightporter.cli.terminal import Options, say
from nightporter.client.configuration import config_place, load_config
from nightporter.core.errors import NightporterError
from nightporter.core.model import Config, Profile
from nightporter.machine.installation import uninstall_command
from nightporter.machine.places import all_cache_directories, config_file, data_directory
from nightporter.stores import STORES

HEAD = """\
# What nightporter keeps on this machine. Read it, then run it line by line.
# Lines that begin with # concern other machines too, or can't be known from here."""


def script(options: Options, environment: Mapping[str, str]) -> str:
    """Returns the shell script, a section for each kind of place."""
    loaded = _load(options, environment)
    sections = [HEAD]
    if loaded is None:
        sections.append("# No configuration can be read, so clients and stores aren't known.")
    else:
        sections += _section("Clients", _clients(options, environment))
        sections += _section("Sessions and credentials", _secrets(loaded, options))
    sections += _section("Files", _files(loaded, options, environment))
    sections += _section("Places that are not known from here", _unknown(environment))
    sections += _section("The package", [uninstall_command()])
    return "\n\n".join(sections) + "\n"


def _load(options: Options, environment: Mapping[str, str]) -> Config | None:
    try:
        return load_config(options.config, environment)
    except NightporterError:
        return None


def _section(title: str, lines: Iterator[str] | list[str]) -> list[str]:
    found = list(lines)
    return ["\n".join([f"# {title}", *found])] if found else []


def _command(options: Options, *words: str) -> str:
    config = ["--config", os.path.abspath(options.config)] if options.config else []
    return shlex.join(["nightporter", *config, *words])


def _clients(options: Options, environment: Mapping[str, str]) -> Iterator[str]:
    """`setup --undo` for each client that has something to take back."""
    for client in setups.CLIENTS:
        try:
            plans = setups.undo_all(client, options, environment, say, is_dry=True)
        except NightporterError:
            continue  # the client isn't here
        if any(_does_something(step) for plan in plans for step in plan.steps):
            yield _command(options, "setup", client, "--undo")


def _does_something(step: Step) -> bool:
    if isinstance(step, Run):
        return not step.may_fail
    return isinstance(step, Write) and (step.content is not None or os.path.lexists(step.path))


def _secrets(loaded: Config, options: Options) -> Iterator[str]:
    for name, profile in loaded.profiles.items():
        mark = "" if _is_here(profile) else "# "
        if profile.refresh_token:
            yield f"{mark}{_command(options, 'logout', name, '--everywhere')}"
        else:
            yield _command(options, "logout", name)
        if profile.credentials or profile.client:
            yield f"{mark}{_command(options, 'credentials', 'delete', name, '--yes')}"


def _is_here(profile: Profile) -> bool:
    """Whether the profile's store is on this machine."""
    return _place(profile) is not None


def _place(profile: Profile) -> str | None:
    return STORES[profile.store.type].place(profile.store.options, data_directory())


def _files(
    loaded: Config | None, options: Options, environment: Mapping[str, str]
) -> Iterator[str]:
    log = environment.get("NIGHTPORTER_LOG", "")
    found = [
        data_directory(),
        *all_cache_directories(environment),
        *_configurations(options, environment),
        *([os.path.expanduser(log)] if os.path.isabs(os.path.expanduser(log)) else []),
    ]
    for path in dict.fromkeys(map(os.path.abspath, found)):
        if os.path.lexists(path):
            yield f"rm -r {shlex.quote(path)}"
    for path in _named_stores(loaded):
        yield f"# rm -r {shlex.quote(path)}    # a store; look first what else is in there"


def _named_stores(loaded: Config | None) -> list[str]:
    """The directories of embedded stores that the configuration names."""
    places = [_place(profile) for profile in loaded.profiles.values()] if loaded else []
    found = {os.path.abspath(os.path.expanduser(place)) for place in places if place}
    return sorted(path for path in found if path != os.path.abspath(data_directory()))


def _configurations(options: Options, environment: Mapping[str, str]) -> Iterator[str]:
    """The file that is read, and the user's own directory."""
    try:
        place = config_place(options.config, environment)
        own = os.path.dirname(config_file())
    except NightporterError:
        return
    if os.path.isabs(place) and os.path.dirname(place) != own:
        yield place
    yield own


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    yield "# crontab -l | grep nightporter; systemctl --user list-timers"
    yield "# grep -r NIGHTPORTER_ ~/.profile ~/.bashrc ~/.zshrc ~/.config/environment.d"
    yield "# kubeconfig files other than the one of KUBECONFIG; images, functions, CronJobs"
    if environment.get("NIGHTPORTER_CACHE") == "keyring":
        yield "# the desktop's keyring: entries of the service nightporter (logout removes them)"
