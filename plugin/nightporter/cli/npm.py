"""`nightporter run --npm`: npm with the token, and a checkout that can't take it.

npm runs no helper, reads the `.npmrc` of whatever checkout it is run in, and runs the code of what
it installs. A token in a variable belongs to all of them (the class of GHSA-3qhv-2rgh-x77r). So for
one run there is a private copy of the user's own npmrc with the token for the hosts of the profile;
no variable holds it; and what a checkout's `.npmrc` could turn against it is set in the
environment, which npm obeys before any file (documentation of npm, "config", "npmrc").
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nightporter.cli.setups.merge import npmrc_lines
from nightporter.core.errors import CommandLineError, ConfigError, HostNotAllowedError
from nightporter.machine.hand_over import hand_over

TOKEN_VARIABLE = "NIGHTPORTER_TOKEN"
TIMEOUT_S = 60
# Where a token could go, whom npm believes, and which programs it runs. The value is what says "as
# if it weren't set": npm skips an empty variable, and reads `null` where a type isn't a text.
PINNED: Mapping[str, str] = {
    "https-proxy": "null",
    "proxy": "null",
    "noproxy": " ",
    "strict-ssl": "true",
    "git": "git",
    "script-shell": "/bin/sh",
    "node-options": " ",
    "init-module": "/nowhere",
}
CAS = """
const tls = require("tls"), fs = require("fs"), extra = process.env.NODE_EXTRA_CA_CERTS;
const known = tls.getCACertificates ? tls.getCACertificates("default") : tls.rootCertificates;
console.log(known.join("\\n"));
if (!tls.getCACertificates && extra && fs.existsSync(extra))
  console.log(fs.readFileSync(extra, "utf8"));
"""
PROJECT_FILES = (".npmrc", "package-lock.json", "npm-shrinkwrap.json")
MAX_PROJECT_FILE = 64 << 20


def run_npm(
    command: Sequence[str],
    token: str,
    registries: Sequence[str],
    environment: Mapping[str, str],
    *,
    with_scripts: bool,
) -> int:
    """Runs the command; its exit code. `registries`: `host/path/` of each that gets the token.

    `with_scripts`: scripts of packages run too, and could read the token's file.

    Raises: ConfigError; HostNotAllowedError for a checkout that asks for one of our hosts by plain
    http.
    """
    check_project(os.getcwd(), registries)
    outside = {key: value for key, value in environment.items() if key != TOKEN_VARIABLE}
    known = _settings(outside)
    text = private_npmrc(_read(_as_text(known.get("userconfig"))), registries, token)
    authorities = _authorities(known, outside)
    relay = _Relay()  # after the programs that are asked: a signal still ends us there
    try:
        with hand_over({"npmrc": text, "ca.pem": authorities}, environment) as at:
            pins = pinned(known, directory=at, with_scripts=with_scripts)
            return relay.run(command, with_pins(outside, pins))
    except OSError as exc:
        raise CommandLineError(
            f"{command[0]} can't be run: {exc.strerror}",
            hint="Name a command that is on PATH, after `--`.",
        ) from exc


def _settings(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """What npm says of itself outside of any checkout: the user's, the machine's and the
    environment's settings.

    Raises: ConfigError.
    """
    try:
        found: Any = json.loads(_ask("npm", "config", "list", "--json", environment=environment))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            "npm doesn't tell its configuration",
            hint="See what `npm config list --json` says in another directory.",
        )
    return found


def _authorities(known: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The certificates that npm believes without a `cafile`: `ca`, else Node's own."""
    named = known.get("ca")
    if named:
        texts = map(str, named if isinstance(named, list) else [named])
        return "\n".join(texts).replace("\\n", "\n")
    return "" if known.get("cafile") else _ask("node", "-e", CAS, environment=environment)


def _ask(*command: str, environment: Mapping[str, str]) -> str:
    """What a program prints, run outside of any checkout.

    Raises: ConfigError.
    """
    try:
        return subprocess.run(
            command,
            cwd="/",
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        ).stdout
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(
            f"{command[0]} can't be run", hint="Install Node.js with npm, so that PATH leads to it."
        ) from exc


def private_npmrc(text: str, registries: Sequence[str], token: str) -> str:
    """Returns the user's npmrc with the token for the registries, and without what stood there for
    them."""
    ours = [f"//{registry}:_authToken" for registry in registries]
    kept = [line for line in text.splitlines() if not _is_replaced(line, ours)]
    return "".join(f"{line}\n" for line in (*kept, *(f"{key}={token}" for key in ours)))


def _is_replaced(line: str, ours: Sequence[str]) -> bool:
    named = [key for key, _ in npmrc_lines(line)]
    return TOKEN_VARIABLE in line or any(key in ours for key in named)


def pinned(known: Mapping[str, Any], *, directory: str, with_scripts: bool) -> dict[str, str]:
    """Returns the settings that no file of a checkout may change, as the user has them."""
    return {
        **{name: _as_text(known.get(name)) or unset for name, unset in PINNED.items()},
        "cafile": _as_text(known.get("cafile")) or os.path.join(directory, "ca.pem"),
        "userconfig": os.path.join(directory, "npmrc"),
        "globalconfig": _as_text(known.get("globalconfig")) or "/nowhere",
        "ignore-scripts": _as_text(not with_scripts),
    }


def _as_text(value: object) -> str:
    """Returns a value as npm reads it from a variable; nothing for one that isn't set."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "\n\n".join(map(str, value))
    return "" if value is None else str(value)


def with_pins(environment: Mapping[str, str], pins: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment with the settings in it, in place of every other spelling of them."""
    kept = {key: value for key, value in environment.items() if _setting_of(key) not in pins}
    return {**kept, **{f"npm_config_{key.replace('-', '_')}": pins[key] for key in pins}}


def _setting_of(variable: str) -> str | None:
    prefix, name = variable[:11].lower(), variable[11:]
    return name.lower().replace("_", "-") if prefix == "npm_config_" else None


def check_project(directory: str, registries: Sequence[str]) -> None:
    """Checks that no file of the checkout asks for one of our hosts by plain http: npm tells http
    and https of one host not apart, and the token would be in clear.

    Raises: HostNotAllowedError.
    """
    hosts = [re.escape(registry.partition("/")[0].lower()) for registry in registries]
    plain = re.compile(rf"http:[\\/]*(?:[^\s\"'\\/@]*@)?(?:{'|'.join(hosts)})(?![\w.-])")
    for place in _above(directory):
        for name in PROJECT_FILES:
            path = os.path.join(place, name)
            if plain.search(_unescaped(_read(path))):
                raise HostNotAllowedError(
                    f"{path} asks for a host of the profile by plain http, so the token would be"
                    " readable on its way",
                    hint="See who wrote that; the address has to begin with https://.",
                )


def _above(directory: str) -> Iterator[str]:
    while True:
        yield directory
        above = os.path.dirname(directory)
        if above == directory:
            return
        directory = above


def _unescaped(text: str) -> str:
    found = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text)
    return found.lower()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_PROJECT_FILE)
    except (OSError, ValueError):
        return ""


class _Relay:
    """Passes our signals on to the command, from now on: the file has to be removed afterwards, so
    none may end us, and one that comes before the command has begun waits for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._pass_on)
        # A terminal tells the command itself. Not SIG_IGN, which it would inherit.
        signal.signal(signal.SIGINT, lambda _number, _frame: None)

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Runs the command to its end; its exit code, 128 and the signal where that ended it.

        Raises: OSError.
        """
        child = self._child = subprocess.Popen(list(command), env=dict(environment))
        for number in self._early:
            child.send_signal(number)
        code = child.wait()
        return code if code >= 0 else 128 - code
