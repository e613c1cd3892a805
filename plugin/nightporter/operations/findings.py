"""Findings about a configuration and this machine: one set for `config check`, `setup`, `init` and
`doctor`.

Each finding has a level, a reference, what is so and what to do. What contradicts itself in the
file must be said by whichever command is run first, so no command has findings of its own here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping

from nightporter.client.proofs import assertion_reader
from nightporter.core.errors import ConfigError, NightporterError, with_profile
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.hosts import shared_hosts
from nightporter.core.model import Config, Profile
from nightporter.core.values import dataclass
from nightporter.issuers.assertions import LIBRARY
from nightporter.machine.installation import install_hint, library_hint
from nightporter.machine.trust import check_named_file
from nightporter.net.tls import ca_problem
from nightporter.operations.client_rules import never_asked
from nightporter.session.proofs import must_sign
from nightporter.stores import STORES


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`level`: ok, warning or error. `profile`: None for what concerns all."""

    level: str
    reference: str
    what: str
    todo: str = ""
    profile: str | None = None
    exit_code: int = 0


def ok(what: str, profile: str | None = None) -> Finding:
    """Returns a finding that asks for nothing."""
    return Finding(level="ok", reference="ok", what=what, profile=profile)


def warning(reference: str, what: str, profile: str | None = None, todo: str = "") -> Finding:
    """Returns a finding that somebody should know; the reference has the usual remedy."""
    return Finding(
        level="warning",
        reference=reference,
        what=what,
        todo=_named(todo or EXPLANATIONS[reference].remedy, profile),
        profile=profile,
    )


def failure(error: NightporterError, profile: str | None = None) -> Finding:
    """Returns an error as a finding."""
    return Finding(
        level="error",
        reference=error.reference,
        what=error.message,
        todo=_named(error.hint, profile),
        profile=profile,
        exit_code=error.exit_code,
    )


def fault(reference: str, what: str, profile: str | None = None, *, exit_code: int) -> Finding:
    """Returns an error that has no class of its own, with the remedy of its reference."""
    return Finding(
        level="error",
        reference=reference,
        what=what,
        todo=_named(EXPLANATIONS[reference].remedy, profile),
        profile=profile,
        exit_code=exit_code,
    )


def _named(todo: str, profile: str | None) -> str:
    """A remedy is a command that can be typed: with the profile's name where it is known."""
    return with_profile(todo, profile) if profile else todo


def configuration_findings(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yields what a configuration that parses has wrong: for every command that looks at one."""
    for error in file_problems(config, environment):
        yield failure(error)
    yield from missing_libraries(config)
    yield from notify_findings(config)
    for name, profile in config.profiles.items():
        yield from host_findings(config, name)
        for client, entry, why in never_asked(profile, environment):
            yield warning(
                "host-not-allowed",
                f"{client} is set up, and can never ask for {entry!r}: {why}",
                name,
                todo=f"Name it as {client} asks for it; nothing, where it is for other clients.",
            )


def notify_findings(config: Config) -> Iterator[Finding]:
    """Yields that the command of `[notify]` can't be run: else that shows when it is needed."""
    command = config.notify.command if config.notify else ()
    if command and not shutil.which(command[0]):
        yield warning("notify-unusable", f"notify: {command[0]} is no program that can be run here")


def missing_libraries(config: Config) -> Iterator[Finding]:
    """Yields the libraries that are not installed here: of stores, and what signs for clients."""
    for kind in sorted({store.type for store in config.stores.values()}):
        library = STORES[kind].library
        if library and importlib.util.find_spec(library) is None:
            yield Finding(
                level="error",
                reference="library-missing",
                what=f"the store type {kind} needs {library}, which is not installed",
                todo=install_hint(STORES[kind]),
                exit_code=2,
            )
    signers = [name for name, profile in config.profiles.items() if must_sign(profile)]
    if signers and importlib.util.find_spec(LIBRARY) is None:
        yield Finding(
            level="error",
            reference="library-missing",
            what=f"{signers[0]}: a client with a private key needs {LIBRARY}, which is missing",
            todo=library_hint(LIBRARY),
            exit_code=2,
        )


def host_findings(config: Config, name: str) -> Iterator[Finding]:
    """Yields the hosts that other profiles claim too: no helper answers for them."""
    for entry, others in shared_hosts(config.profiles[name], config.profiles.values()):
        owners = " and ".join(map(repr, others))
        yield warning(
            "host-not-allowed",
            f"the host {entry} is in `hosts` of {name!r} and of {owners}: helpers such as git's"
            f" answer for neither (`nightporter exec-credential {name}` does)",
            name,
            todo=f"Leave {entry} in `hosts` of one profile ({config.source}).",
        )


def file_problems(config: Config, environment: Mapping[str, str]) -> list[ConfigError]:
    """Returns what is wrong with the CA files that the configuration and the environment name, and
    with files of assertions: they are loaded here, before an exchange finds out."""
    named = {f"profiles.{item.name}.ca_cert": item.ca_cert for item in config.profiles.values()}
    for store in config.stores.values():
        description = STORES[store.type]
        source = next((name for name in description.ca_variables if environment.get(name)), "")
        if "ca_cert" in store.options:
            named[f"stores.{store.name}.ca_cert"] = store.options["ca_cert"]
        elif source:
            named[source] = environment[source]
    checked = ((source, file) for source, file in named.items() if file)
    found = [_ca_error(source, os.path.expanduser(file), environment) for source, file in checked]
    found += [_assertion_error(profile, environment) for profile in config.profiles.values()]
    return [error for error in found if error is not None]


def _assertion_error(profile: Profile, environment: Mapping[str, str]) -> ConfigError | None:
    """What is wrong with the file of a client's assertion."""
    if "client_assertion_file" not in profile.options:
        return None
    try:
        assertion_reader(environment)(profile)
    except ConfigError as exc:
        return exc
    return None


def _ca_error(source: str, file: str, environment: Mapping[str, str]) -> ConfigError | None:
    try:
        check_named_file(file, source, environment)
    except ConfigError as exc:
        return exc
    problem = ca_problem(file)
    if problem is None:
        return None
    hint = "Name a file of certificates in PEM form."
    return ConfigError(f"{source}: {file} {problem}", hint=hint)
