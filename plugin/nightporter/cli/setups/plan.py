"""What a setup will do, before it does it: steps that can be shown, done, and done again without
effect.

A client's own command is run where it has one; files of others are merged, never rewritten; files
of nightporter (wrappers) are written whole. What is shown of a file is only what we add, since the
rest may hold somebody's secrets.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from nightporter.core.errors import ConfigError
from nightporter.core.model import Profile
from nightporter.core.values import dataclass, field
from nightporter.machine.files import make_directories, remove, replace_private
from nightporter.machine.installation import path_hint
from nightporter.machine.places import WRAPPER_MARK

RUN_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A command of the client. One that only takes away may fail: then there was nothing to
    take."""

    argv: tuple[str, ...]
    may_fail: bool = False

    def shown(self) -> str:
        """Returns the step as `--print` shows it."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A file's new content, None to remove it. `gist`: the part that is ours, for `--print`.

    `is_ours`: the whole file is, so a link in its place is replaced and its mode is set; else it is
    another's, which is written through links, with the mode that it has.
    """

    path: str
    content: str | None = field(repr=False)
    gist: str
    is_ours: bool = False
    mode: int = 0o600

    def shown(self) -> str:
        """Returns the step as `--print` shows it."""
        return f"# {self.path}\n{'(removed)' if self.content is None else self.gist}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amend:
    """A change to a file that a step before it has written. No file: nothing to change."""

    path: str
    change: Callable[[str], str] = field(repr=False)
    gist: str

    def shown(self) -> str:
        """Returns the step as `--print` shows it."""
        return f"# {self.path}\n{self.gist}"


Step = Run | Write | Amend


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`notes`: what the user should know or do next."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked: for whom, and whether to take it back. `config`: the file that `--config`
    named; `source`: the file or variable that the configuration came from.

    `profiles`: all of the configuration, since an undo leaves alone what others have set up.
    """

    profile: Profile
    profiles: Mapping[str, Profile]
    machine: Machine
    is_undo: bool = False
    config: str | None = None
    source: str = ""


class Machine:
    """The user's machine as a setup sees it: programs on PATH, files, the client's own answers.

    `is_dry`: a plan is only to be shown, so what is missing here is no error.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        data_directory: str,
        cache_directory: str,
        *,
        is_dry: bool = False,
    ) -> None:
        self.environment = environment
        self.data_directory = data_directory
        self.cache_directory = cache_directory
        self.is_dry = is_dry

    def find(self, program: str) -> str | None:
        """Returns the absolute path of a program on the user's PATH, or None."""
        return shutil.which(program, path=self.environment.get("PATH"))

    def need(self, program: str, otherwise: str = "") -> str:
        """The program's bare name, if it is on PATH. `otherwise`: what else there is to do.

        Raises: ConfigError.
        """
        if self.find(program) is None and not self.is_dry:
            raise ConfigError(
                f"{program} is not on PATH, so there is nothing to set up",
                hint=f"Install {program}{otherwise}, or see what would be done with --print.",
            )
        return program

    def ours(self, program: str) -> str:
        """One of our commands: its name where PATH leads to it, else its path.

        Raises: ConfigError when it is in neither place.
        """
        if self.find(program):
            return program
        beside = shutil.which(os.path.join(os.path.dirname(sys.executable), program))
        if beside:
            return beside
        if self.is_dry:
            return program
        raise ConfigError(
            f"{program} can't be found, so no client could run it",
            hint=path_hint(program),
        )

    def path_of(self, program: str) -> str:
        """The absolute path of one of our commands.

        Raises: ConfigError.
        """
        found = self.ours(program)
        return os.path.abspath(self.find(found) or found)

    def ours_on_path(self, program: str, client: str) -> str:
        """The name of one of our commands that a client looks up on PATH.

        Raises: ConfigError.
        """
        if self.find(program) is None and not self.is_dry:
            raise ConfigError(
                f"{client} looks for {program} on PATH, and it is not there; nothing was changed",
                hint=path_hint(program),
            )
        return program

    def check_runs(self, *argv: str) -> None:
        """That a helper starts, before any client is told of it (CVE-2021-41092: docker sent the
        password elsewhere).

        Raises: ConfigError.
        """
        if self.is_dry:
            return
        try:
            code = self.call(argv).returncode
        except (OSError, subprocess.TimeoutExpired):
            code = -1
        if code != 0:
            raise ConfigError(
                f"{argv[0]} can't be run, so nothing was changed",
                hint=f"See what `{shlex.join(argv)}` says, and repeat.",
            )

    def ask(self, *argv: str) -> str | None:
        """What a client's command prints; None where it fails."""
        try:
            done = self.call(argv)
            return done.stdout.decode() if done.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return None

    def call(self, argv: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Runs a program in the user's environment, with nothing to read.

        Raises: OSError, subprocess.TimeoutExpired.
        """
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
            env=dict(self.environment),
        )

    def home(self, *parts: str) -> str:
        """Returns a path below the user's home directory."""
        return os.path.join(os.path.expanduser("~"), *parts)

    def read(self, path: str) -> str:
        """A file's text; empty where there is none.

        Raises: ConfigError when it can't be read.
        """
        try:
            with open(path, encoding="utf-8", newline="") as file:  # line ends stay as they are
                return file.read()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(
                f"{path} can't be read as UTF-8 text ({type(exc).__name__}); nothing was changed",
                hint="It is the client's own file: look at it, and at who may read it.",
            ) from exc

    def wrapper(self, name: str, arguments: Sequence[str], request: Request) -> Write:
        """A wrapper with fixed arguments, for clients that allow none or search no PATH."""
        return self.wrapper_at(self.wrapper_path(name), arguments, request)

    def wrapper_path(self, name: str) -> str:
        """Returns where a wrapper of that name is, or would be."""
        return os.path.join(self.data_directory, "wrappers", name)

    def wrapper_at(self, path: str, arguments: Sequence[str], request: Request) -> Write:
        """Returns the step that writes, or removes, a script that calls us with these arguments of
        `credential`."""
        if request.is_undo:
            return Write(path=path, content=None, gist="", is_ours=True)
        config = config_arguments(request)
        command = [self.path_of("nightporter"), "credential", *config, *arguments]
        text = f'#!/bin/sh\n{WRAPPER_MARK}\nexec {shlex.join(command)} "$@"\n'
        return Write(path=path, content=text, gist=text.rstrip(), is_ours=True, mode=0o700)


def config_arguments(request: Request) -> list[str]:
    """`--config FILE` as a client has to repeat it."""
    return (
        ["--config", os.path.abspath(os.path.expanduser(request.config))] if request.config else []
    )


def refuse_config(request: Request, client: str, otherwise: str = "") -> None:
    """For clients that pass no arguments on. `otherwise`: what else can be done.

    Raises: ConfigError.
    """
    if request.config and not request.is_undo:
        raise ConfigError(
            f"{client} passes no arguments to its helpers, so --config can't be handed on",
            hint=(
                "Put the configuration in its usual place, or set NIGHTPORTER_CONFIG where the"
                f" client runs{otherwise}."
            ),
        )


def show(plan: Plan) -> str:
    """The plan as text for standard output."""
    return "\n\n".join(step.shown() for step in plan.steps) or "# nothing to do"


def carry_out(plan: Plan, machine: Machine) -> list[str]:
    """Does the steps in their order; returns what was changed, a line each: the file, or the
    client's command where only the client knows which.

    Raises: ConfigError.
    """
    return list(dict.fromkeys(line for step in plan.steps if (line := _do(step, machine))))


def _do(step: Step, machine: Machine) -> str:
    if isinstance(step, Run):
        return _run(step, machine)
    if isinstance(step, Write):
        return _write(step)
    content = step.change(machine.read(step.path))
    if not content or not os.path.lexists(step.path):
        return ""
    return _write(Write(path=step.path, content=content, gist=step.gist))


def _run(step: Run, machine: Machine) -> str:
    try:
        done = machine.call(step.argv)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(
            f"`{step.shown()}` can't be run ({type(exc).__name__})",
            hint="Install the client, or put it on PATH; --print shows all the steps.",
        ) from exc
    if done.returncode != 0 and not step.may_fail:
        raise ConfigError(
            f"`{step.shown()}` failed with exit code {done.returncode}",
            hint=(
                done.stderr.decode(errors="replace").strip().splitlines()
                or ["Run it by hand to see why."]
            )[-1],
        )
    if done.returncode != 0:
        return ""
    file = _file_of(step.argv, machine)
    return f"changed {file}" if file else f"ran {step.shown()}"


def _file_of(argv: Sequence[str], machine: Machine) -> str:
    """The file that a client's own command writes; empty where only the client knows."""
    environment = machine.environment
    match os.path.basename(argv[0]):
        case "git":
            other = os.path.join(
                environment.get("XDG_CONFIG_HOME") or machine.home(".config"), "git", "config"
            )
            usual = machine.home(".gitconfig")
            is_other = not os.path.exists(usual) and os.path.exists(other)
            return environment.get("GIT_CONFIG_GLOBAL") or (other if is_other else usual)
        case "kubectl":
            named = environment.get("KUBECONFIG") or machine.home(".kube", "config")
            return named.split(os.pathsep)[0]
        case "npm":
            return environment.get("NPM_CONFIG_USERCONFIG") or machine.home(".npmrc")
    return ""


def _write(step: Write) -> str:
    path = step.path if step.is_ours else os.path.realpath(step.path)
    if step.content is None:
        return f"removed {path}" if remove(path) else ""
    try:
        content, mode = _present(path)
        if step.is_ours:
            is_same = (
                content == step.content.encode() and mode == step.mode and not os.path.islink(path)
            )
            mode = step.mode
        else:
            is_same = content == step.content.encode()
        if is_same:
            return ""
        make_directories(os.path.dirname(path))
        replace_private(path, step.content.encode(), mode=step.mode if mode is None else mode)
    except OSError as exc:
        raise ConfigError(
            f"{path} can't be written ({exc.strerror})",
            hint="Make it and its directory writable for you; --print shows what it would hold.",
        ) from exc
    return f"{'wrote' if content is None else 'changed'} {path}"


def _present(path: str) -> tuple[bytes | None, int | None]:
    try:
        with open(path, "rb") as file:
            return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return None, None
