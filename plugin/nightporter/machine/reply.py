"""Reply files: what the launcher (`launchers/nightporter`, POSIX sh) may answer without starting
Python.

A reply answers one exact ask: the command line, the variables that pick an identity, and for a
helper what its client wrote to it. Of variables that hold a secret it keeps one digest, salted with
the reply's own mark. It names the files that it depends on as `stat` shows them: mode, links,
inode, size and change time (ctime), the files that must stay absent, and a deadline by the wall
clock. It holds an access token, and lies beside the cached one, under the same rules.

`reply_writer` writes the files. Python reads them too (`answer`), for shells and systems whose door
can't, and for asks that the door hands on. It is imported before anything
else, so this module imports nothing that a bare interpreter hasn't, not even `typing`.
"""

from __future__ import annotations

import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The second word for systems whose `stat` has the format of the BSDs: the door looks for it.
IS_BSD = sys.platform == "darwin" or "bsd" in sys.platform
MAGIC = f"nightporter reply 2{' bsd' if IS_BSD else ''}"
NO_SECRETS = "-"
# In the door's order. What isn't a name here can't pick another token.
VARIABLES = (
    *("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
    *("NIGHTPORTER_CONFIG", "NIGHTPORTER_CACHE_DIR", "NIGHTPORTER_TIMEOUT", "NIGHTPORTER_TRUST"),
    *(
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_ROLE_ARN",
    ),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER"),
    *("VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"),
    *("BAO_ADDR", "BAO_NAMESPACE", "BAO_CACERT", "BAO_CLIENT_CERT", "BAO_CLIENT_KEY"),
)
SECRET_VARIABLES = ("VAULT_TOKEN", "BAO_TOKEN")  # whose values are in no file
# Whose answer to `get` hangs on nothing but the ask: on standard input, or on the command line.
HELPERS = ("git", "docker", "bazel")
HELPERS_WITHOUT_INPUT = ("terraform", "pnpm", "keyring")
# cargo holds a conversation: each line is an ask. Python alone answers it, the launcher doesn't.
CONVERSATIONS = (("credential", "cargo"), ("credential", "cargo", "--cargo-plugin"))
MAX_INPUT = (1 << 20) + 1  # a byte more than any protocol takes
MAX_ASK = 4096  # bytes of a kept ask, which some answers repeat
_WORD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/=:-")


def knows(identity_variables: Sequence[str]) -> bool:
    """Returns whether the ask tells these variables apart, so that a reply may answer it."""
    return set(identity_variables) <= set(VARIABLES)


def can_name(secret_variables: Sequence[str]) -> bool:
    """Returns whether the launcher can look these variables up by name."""
    return all(
        name.isascii() and name.isidentifier() and not name.startswith("np_")
        for name in secret_variables
    )


def first_plain(words: Sequence[str]) -> int | None:
    """Where the first word stands that is no global option, and no value of one; None without."""
    is_value = False
    for number, word in enumerate(words):
        if not (is_value or word.startswith("-")):
            return number
        is_value = not is_value and word in ("--config", "--timeout")
    return None


def verbatim_from(arguments: Sequence[str]) -> int | None:
    """Where the words begin that are all the client's, and no options of nightporter's: behind
    `credential [--config FILE] keyring`. None for every other line."""
    at = first_plain(arguments[1:]) if arguments[:1] == ["credential"] else None
    return at + 2 if at is not None and arguments[at + 1] == "keyring" else None


def with_helper_first(arguments: Sequence[str]) -> Sequence[str]:
    """`--config FILE credential keyring ...` as `credential --config FILE keyring ...`: wherever
    the global options stand, what follows is the client's. Any other line as it is."""
    at = first_plain(arguments)
    if not at or arguments[at] != "credential":
        return arguments
    moved = [arguments[at], *arguments[:at], *arguments[at + 1 :]]
    return arguments if verbatim_from(moved) is None else moved


def takes_input(arguments: Sequence[str]) -> bool:
    """Whether the line is one of a helper that is asked on standard input, and whose replies are
    kept."""
    is_helper = len(arguments) > 2 and arguments[0] == "credential" and arguments[1] in HELPERS
    return is_helper and arguments[-1] == "get" and not set(arguments) & {"-h", "--help"}


def converses(arguments: Sequence[str]) -> bool:
    """Whether the line is one of a helper that is asked line by line, and whose replies are
    kept."""
    return tuple(arguments) in CONVERSATIONS


def _takes_none(arguments: Sequence[str]) -> bool:
    """Whether the line is one of a command whose replies are kept, and which reads no input."""
    if arguments[0] == "credential":
        return len(arguments) > 1 and arguments[1] in HELPERS_WITHOUT_INPUT
    return arguments[0] in ("token", "exec-credential")


class Ask:
    """What a client asks: its command line, the environment, and what it wrote to a helper.

    `given`: a helper's standard input; None for a command that takes none.
    """

    __slots__ = ("arguments", "environment", "given")

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        given: bytes | None = None,
    ) -> None:
        self.arguments = arguments
        self.environment = environment
        self.given = given

    @property
    def file_name(self) -> str | None:
        """The name of the reply file; None where none is kept."""
        arguments, given = self.arguments, self.given
        has_input = takes_input(arguments) or converses(arguments)
        if not arguments or has_input != (given is not None):
            return None
        if given is None and not _takes_none(arguments):
            return None
        is_plain = all(word and set(word) <= _WORD for word in arguments)
        if not is_plain or len(given or b"") > MAX_ASK:
            return None
        name = "".join(f"+{word}" for word in arguments).replace("/", "=")
        if given is not None:
            name += f"+{sum(given)}"  # as the launcher counts: asks with the same sum share a file
        return f"{name}.reply" if len(name) <= 200 else None

    def compose(self) -> str | None:
        """Returns the ask as the launcher composes it; None where a value has a line break in
        it."""
        lines = [" ".join(self.arguments), *self._variables(), *self._input()]
        if any("\n" in line or "\0" in line for line in lines):
            return None
        return "".join(f"{line}\n" for line in lines)

    def digest(self, mark: str, names: Sequence[str]) -> str:
        """Returns the digest of variables that hold a secret, with the reply's mark as its salt."""
        environment = self.environment
        lines = [
            f"{name}={environment[name]}\n" if name in environment else f"{name}\n"
            for name in names
        ]
        return _sha256(os.fsencode(f"{mark}\n{''.join(lines)}"))

    def _input(self) -> list[str]:
        """As `od` spells it, which loses no byte."""
        if self.given is None:
            return []
        return [" ".join(["INPUT", *map(str, self.given)])]

    def _variables(self) -> list[str]:
        environment = self.environment
        lines = [f"HOME={environment['HOME']}"] if "HOME" in environment else []
        lines += [name for name in SECRET_VARIABLES if name in environment]
        for name in VARIABLES:
            value = environment.get(name)
            if value or (value is not None and not name.startswith("NIGHTPORTER_")):
                lines.append(f"{name}={value}")
        if self.arguments[0] == "exec-credential" and "KUBERNETES_EXEC_INFO" in environment:
            info = environment["KUBERNETES_EXEC_INFO"].removesuffix("\n")
            lines.append(f"KUBERNETES_EXEC_INFO={info}")
        return lines


def _sha256(value: bytes) -> str:
    try:
        from _sha2 import (  # type: ignore[import-not-found,unused-ignore]
            sha256,  # Python 3.12; without OpenSSL, whose loading is half of a bare start
        )
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from hashlib import sha256
    found: str = sha256(value).hexdigest()
    return found


def answer(ask: Ask, now: float) -> str | None:
    """Returns the reply to this ask by the launcher's own rules; None at the least doubt. `now`:
    Unix seconds."""
    name, environment = ask.file_name, ask.environment
    is_elsewhere = environment.get("NIGHTPORTER_CONFIG_TOML") or environment.get(
        "AWS_LAMBDA_FUNCTION_NAME"
    )
    if name is None or is_elsewhere or (environment.get("NIGHTPORTER_CACHE") or "file") != "file":
        return None
    for directory in _directories(environment):
        try:
            found = _read(directory, name)
        except (OSError, ValueError):
            continue
        if found is not None:
            return _reply_in(found, ask, now)
    return None


def _directories(environment: Mapping[str, str]) -> list[str]:
    first = environment.get("NIGHTPORTER_CACHE_DIR")
    runtime, home = environment.get("XDG_RUNTIME_DIR"), environment.get("HOME")
    found = [first or (f"{runtime}/nightporter" if runtime else "")]
    cache = environment.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    found += [
        f"{cache}/nightporter" if cache else "",
        f"{home}/Library/Caches/nightporter" if home else "",
    ]
    return [path for path in found if os.path.isabs(path)]


def _read(directory: str, name: str) -> str | None:
    """A reply file's text, if directory and file are ours alone."""
    place = os.lstat(directory)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(f"{directory}/{name}", flags)
    try:
        status = os.fstat(descriptor)
        is_ours = place.st_uid == status.st_uid == os.geteuid() and status.st_nlink == 1
        is_private = stat.S_IMODE(place.st_mode) == 0o700 and stat.S_IMODE(status.st_mode) == 0o600
        if not (
            stat.S_ISDIR(place.st_mode) and stat.S_ISREG(status.st_mode) and is_ours and is_private
        ):
            return None
        return os.fsdecode(os.read(descriptor, 1 << 20))
    finally:
        os.close(descriptor)


def _reply_in(text: str, ask: Ask, now: float) -> str | None:
    head, _, rest = text.partition("\n\n")
    files, _, reply = rest.partition("\n\n")
    lines = head.split("\n", 5)
    if len(lines) != 6 or lines[0] != MAGIC or not (_is_time(lines[2]) and _is_time(lines[3])):
        return None
    if f"{lines[5]}\n" != ask.compose() or not _has_secrets(ask, lines[1], lines[4]):
        return None
    end = f"\n{lines[1]}\n"  # the mark once more: nothing of the reply is missing
    if not int(lines[2]) <= now < int(lines[3]) or " /" not in files or not reply.endswith(end):
        return None
    holds = all(_still_holds(line) for line in files.split("\n"))
    return reply.removesuffix(end) if holds else None


def _is_time(text: str) -> bool:
    """As `is_number` of core.checks, whose import would cost more than the answer."""
    return text.isascii() and text.isdigit() and len(text) <= 15


def _has_secrets(ask: Ask, mark: str, line: str) -> bool:
    """Whether the variables with a secret are what they were: `DIGEST NAME...`, or no such
    variables."""
    digest, *names = line.split(" ")
    return line == NO_SECRETS or (bool(names) and digest == ask.digest(mark, names))


def _still_holds(line: str) -> bool:
    if line[:1] == "!":
        return not os.path.lexists(line[1:])
    shown, slash, path = line.partition("/")
    seen = look(f"{slash}{path}")
    return seen is not None and f"{show(seen)} " == shown


Seen = tuple[int, int, int, int, int]  # mode, links, inode, size, change time in ns


def look(path: str) -> Seen | None:
    """What a file is known by; None where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_mode, status.st_nlink, status.st_ino, status.st_size, status.st_ctime_ns)


def show(seen: Seen) -> str:
    """The same as `stat` prints it: with `-c '%f %h %i %s %z'`, and on the BSDs with
    `-f '%Xp %l %i %z %Fc'`."""
    mode, links, inode, size, changed_ns = seen
    seconds, rest_ns = divmod(changed_ns, 1_000_000_000)
    if IS_BSD:
        return f"{mode:X} {links} {inode} {size} {seconds}.{rest_ns:09}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return f"{mode:x} {links} {inode} {size} {when}.{rest_ns:09} +0000"
