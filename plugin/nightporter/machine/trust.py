"""Whether a file may instruct us: only who could change it otherwise decides that.

A configuration names where passwords are sent to, a CA file whom we believe, a token file who we
are. So each must be ours or root's, and nobody else may be able to write it or to put another in
its place. The rule is that of sshd's StrictModes and sudo: every directory above counts, and every
link on the way (contract, section 2). The walk ends at a sticky directory of root (/tmp), where
nobody can replace what is ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from nightporter.core.errors import ConfigError, UntrustedFileError
from nightporter.machine.lambda_time import is_lambda
from nightporter.machine.places import absolute

MAX_LINKS = 40  # as Linux follows
ROOT = 0


def check_configuration(path: str, environment: Mapping[str, str]) -> None:
    """Checks the configuration, every directory above it, and every link on the way to it.

    What isn't there is fine.

    Raises: UntrustedFileError, with what to type; ConfigError for a wrong NIGHTPORTER_TRUST.
    """
    if is_lifted(environment):
        return
    for chain in _chains(path):
        for place in reversed(chain):
            status = _look(place)
            if status is None:
                continue
            _check(place, status, environment, "configuration", is_narrow=False)
            if place != path and _is_sticky_of_root(status):
                break


def check_named_file(path: str, source: str, environment: Mapping[str, str]) -> None:
    """Checks a CA, token, key or secret-id file, and the directory that it is in.

    These are often shared with a group, so only a foreign owner and a right of everybody to write
    count. `source`: the key or variable that names it.

    Raises: UntrustedFileError, with what to type; ConfigError for a wrong NIGHTPORTER_TRUST, or a
    path that depends on the working directory.
    """
    absolute(path, source)
    if is_lifted(environment):
        return
    for chain in _chains(path):
        for place in chain[-2:]:
            status = _look(place)
            if status is not None:
                _check(place, status, environment, source, is_narrow=True)


def is_lifted(environment: Mapping[str, str]) -> bool:
    """Returns whether nothing is checked: in Lambda, where a function has its files for itself, on
    Windows, and where the user says so.

    Raises: ConfigError.
    """
    said = environment.get("NIGHTPORTER_TRUST")
    if said not in (None, "", "all"):
        raise ConfigError(
            "NIGHTPORTER_TRUST must be 'all', or unset", hint="Set it to `all`, or unset it."
        )
    return said == "all" or is_lambda(environment) or not hasattr(os, "geteuid")


def _chains(path: str) -> Iterator[list[str]]:
    """Yields the real places from the root to the path, and from the root to each link on it."""
    waiting = [os.path.abspath(path)]
    for _ in range(MAX_LINKS):
        if not waiting:
            return
        given = waiting.pop()
        chain, rest = _until_link(given)
        yield chain
        if rest is not None:
            waiting.append(rest)


def _until_link(path: str) -> tuple[list[str], str | None]:
    """Returns the places up to the first link, and where that leads; None where there is no
    link."""
    chain = ["/"]
    parts = path.split("/")
    for index, part in enumerate(parts):
        if part in ("", "."):
            continue
        if part == "..":
            chain = chain[:-1] or ["/"]
            continue
        place = os.path.join(chain[-1], part)
        target = _target(place)
        if target is not None:
            leads_to = os.path.join(chain[-1], target, *parts[index + 1 :])
            return [*chain, place], leads_to
        chain.append(place)
    return chain, None


def _target(place: str) -> str | None:
    try:
        return os.readlink(place)
    except OSError:
        return None


def _look(place: str) -> os.stat_result | None:
    try:
        return os.lstat(place)
    except OSError:
        return None


def _check(
    place: str,
    status: os.stat_result,
    environment: Mapping[str, str],
    source: str,
    *,
    is_narrow: bool,
) -> None:
    found = _problem(place, status, environment, is_narrow=is_narrow)
    if found is None or _is_read_only(place):
        return
    what, todo = found
    raise UntrustedFileError(
        f"{source}: {place} {what}, so what it says is not obeyed",
        hint=(
            f"{todo}. Where a container's mounts have other owners, NIGHTPORTER_TRUST=all lifts the"
            " rule."
        ),
    )


def _problem(
    place: str, status: os.stat_result, environment: Mapping[str, str], *, is_narrow: bool
) -> tuple[str, str] | None:
    """Returns what is wrong and what to do about it."""
    if status.st_uid not in own_users(environment):
        todo = f"If you know what is in it, run `sudo chown -h {os.geteuid()} {_quoted(place)}`"
        return f"belongs to another user (uid {status.st_uid})", todo
    if stat.S_ISLNK(status.st_mode) or _is_sticky_of_root(status):
        return None
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody", _closing("o-w", place)
    if not is_narrow and status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
        return f"can be written by its group (gid {status.st_gid})", _closing("g-w", place)
    return None


def _closing(change: str, place: str) -> str:
    return f"See that it holds what you wrote, then run `chmod {change} {_quoted(place)}`"


def _quoted(place: str) -> str:
    import shlex  # deferred: hardly any file is refused

    return shlex.quote(place)


def own_users(environment: Mapping[str, str]) -> set[int]:
    """Returns the ids of who may act for us: we, root, and who has called sudo."""
    found = {ROOT, os.geteuid()}
    invoker = environment.get("SUDO_UID", "")
    if os.geteuid() == ROOT and invoker.isascii() and invoker.isdigit():
        found.add(int(invoker))
    return found


def _is_sticky_of_root(status: os.stat_result) -> bool:
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == ROOT
        and bool(status.st_mode & stat.S_ISVTX)
    )


def _is_private_group(group_id: int) -> bool:
    """Returns whether nobody but the user (or root) is in the group, as in those that umask 002 is
    meant for."""
    import grp  # deferred: hardly any file is writable by its group
    import pwd

    try:
        group = grp.getgrgid(group_id)
        own = pwd.getpwuid(ROOT if group_id == ROOT else os.geteuid())
    except KeyError:
        return False
    is_own = own.pw_gid == group_id and group.gr_name == own.pw_name
    if not is_own or set(group.gr_mem) - {own.pw_name}:
        return False
    others = (user for user in pwd.getpwall() if user.pw_gid == group_id)
    return group_id == ROOT or all(user.pw_name == own.pw_name for user in others)


def _is_read_only(place: str) -> bool:
    """Returns whether it is on a read-only mount, as Kubernetes makes those of configuration."""
    try:
        where = os.path.dirname(place) if os.path.islink(place) else place
        return bool(os.statvfs(where).f_flag & os.ST_RDONLY)
    except OSError:
        return False
