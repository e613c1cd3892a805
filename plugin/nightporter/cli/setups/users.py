"""Another user name at one of our hosts: a helper answers nothing then, and nobody would know
why."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from nightporter.cli.setups.plan import Machine
from nightporter.core.hosts import BadAskError, Rule, parse_target, profiles_for
from nightporter.core.model import Profile

_WITH_USER = re.compile(r"https?://[^\s'\"/@]+@[^\s'\"]+")


def told_to_git(machine: Machine, profile: Profile, rules: list[Rule]) -> tuple[str, ...]:
    """Returns a note for each host for which git's configuration names another user. The name is
    not repeated: some people keep a token there."""
    notes = []
    for rule in rules:
        path = "/".join(("", *rule.target.path)) if rule.target.path else ""
        url = f"{rule.target.scheme}://{rule.key}{path}"
        found = machine.ask("git", "config", "--get-urlmatch", "credential.username", url) or ""
        if found.strip() not in ("", profile.helper_username):
            notes.append(
                f"warning: git's configuration names another user than"
                f" {profile.helper_username!r} for {rule.key}, so it gets no answer\n  what to"
                f" do: See where with `git config --show-origin --get-urlmatch credential.username"
                f" {url}` and take it out, or set `helper_username` in the profile."
            )
    return tuple(notes)


def named_in(text: str, profile: Profile, where: str) -> tuple[str, ...]:
    """Returns a note for each of the profile's hosts that an address in `text` (a client's
    configuration) asks another user for."""
    hosts = dict.fromkeys(host for url in _WITH_USER.findall(text) for host in _host(url, profile))
    return tuple(
        f"warning: {where} names another user than {profile.helper_username!r} for {host}, so it"
        f" gets no answer\n  what to do: Write https://{profile.helper_username}@{host}/ there, or"
        " set `helper_username` in the profile."
        for host in hosts
    )


def _host(url: str, profile: Profile) -> list[str]:
    """The host of the address, if it is ours and the user isn't."""
    try:
        parts = urlsplit(url)
        rest = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        target = parse_target(rest, has_path=True)
    except (ValueError, BadAskError):
        return []
    is_other = unquote(parts.username or "") != profile.helper_username
    return [target.authority] if is_other and profiles_for(target, [profile]) else []
