"""The configuration that `nightporter init` writes, with comments. Pure. No secret may stand in
it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nightporter.stores import STORES

HEAD = """\
# Written by `nightporter init`. What may stand here: README.md, and the pages in plugin/docs.
# No secret belongs into this file: username and password are in the store.
"""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was asked. `options` and `settings` hold further keys of the store and of the
    profile."""

    profile: str
    vendor: str
    store: str
    credentials: str | None
    hosts: Sequence[str] = ()
    options: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, str | int] = field(default_factory=dict)


def render(answers: Answers) -> str:
    """TOML text."""
    lines = [
        HEAD,
        f"[stores.{_key('main')}]",
        *(f"# {comment}" for comment in filter(None, [STORES[answers.store].comment])),
        _line("type", answers.store),
    ]
    lines += [_line(key, value) for key, value in answers.options.items()]
    lines += [
        "",
        f"[profiles.{_key(answers.profile)}]",
        _line("issuer", answers.vendor),
        _line("store", "main"),
    ]
    if answers.credentials:
        lines.append(
            _line("credentials", answers.credentials) + "  # the secret with username and password"
        )
    lines += [_line(key, value) for key, value in answers.settings.items()]
    if answers.hosts:
        listed = ", ".join(json.dumps(host) for host in answers.hosts)
        lines.append(f"hosts = [{listed}]  # to which hosts helpers may give the token")
    else:
        lines.append(
            '# hosts = ["api.example.com"]  # to which hosts helpers may give the token; none'
            " unless named"
        )
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return (
        name
        if name.replace("-", "").replace("_", "").isalnum() and name.isascii()
        else json.dumps(name)
    )


def _line(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"{key} = {{ {', '.join(_line(name, member) for name, member in value.items())} }}"
    return f"{key} = {json.dumps(value)}"
