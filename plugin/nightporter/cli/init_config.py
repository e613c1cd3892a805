"""The configuration that `nightporter init` writes, with comments. Pure. No secret is in it.

A new file begins with a head; an existing one keeps every line, and gets the new tables at its end.
What was there means the same afterwards: where it did not name its store, because there was only
one to mean, the store is now named. tomlkit writes every name and value.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from nightporter.core.errors import ConfigError
from nightporter.core.values import dataclass, field
from nightporter.issuers import VENDORS
from nightporter.operations.show_config import toml_item
from nightporter.stores import STORES

Setting = str | int | Mapping[str, str]
Settings = Mapping[str, Setting]

HEAD = """\
# Written by `nightporter init`. `nightporter explain configuration` tells what can be set here,
# `nightporter config show` what is in effect.
# No secret belongs in this file: username and password are in the store.
"""
_BARE_END = re.compile(r"(?<!\r)\n")
NO_HOSTS = """\
# hosts = ["api.example.com"]  # to which hosts helpers may give the token; none unless named
"""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was asked. `options` and `settings` hold further keys of the store and of the profile.

    `existing`: the text of the configuration that the profile is added to; empty for a new one.
    """

    profile: str
    vendor: str
    store: str
    credentials: str | None
    hosts: Sequence[str] = ()
    options: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    existing: str = ""


def render(answers: Answers) -> str:
    """Returns the whole configuration as TOML text.

    Raises: ConfigError where the existing text leaves no place for another profile.
    """
    before = _read(answers.existing)
    stores, profiles = before.get("stores", {}), before.get("profiles", {})
    wanted = {"type": answers.store, **answers.options}
    store = _store_name(stores, wanted, has_profiles=bool(profiles))
    text = _with_named_stores(answers.existing, stores, profiles) if store not in stores else None
    text = answers.existing if text is None else text
    parts = [_with_end(text) if text.strip() else HEAD]
    if store not in _read(parts[0]).get("stores", {}):
        parts.append(_header("stores", store, _store_table(wanted)))
    profile = _profile_table(answers, store)
    parts.append(_header("profiles", answers.profile, profile))
    if not answers.hosts:
        parts[-1] += NO_HOSTS
    result = _with_line_ends_of(answers.existing, "\n".join(parts))
    _check_kept(before, result, answers.profile)
    return result


def profile_of(answers: Answers) -> dict[str, Any]:
    """Returns the table that `render` writes for the profile, without the store's name."""
    return {
        key: value
        for key, value in tomllib.loads(_profile_table(answers, "s").as_string()).items()
        if key != "store"
    }


def policy_options(answers: Answers) -> list[str]:
    """Returns what tells `nightporter policy` the same without a configuration."""
    found = ["--store", answers.store]
    for key, value in answers.options.items():
        if isinstance(value, str):
            found += ["--store-set", f"{key}={value}"]
    if answers.credentials:
        found += ["--credentials", answers.credentials]
    for name, setting in answers.settings.items():
        if not isinstance(setting, Mapping):
            found += ["--set", f"{name}={setting}"]
    is_built_in = answers.vendor in VENDORS
    return [*found, *(["--issuer", answers.vendor] if is_built_in else [])]


def has_profile(text: str, name: str) -> bool:
    """Whether a configuration holds a profile of that name."""
    return name in _read(text).get("profiles", {})


def existing_profile(text: str, name: str) -> dict[str, Any]:
    """Returns the table of a profile without the name of its store."""
    table = _read(text)["profiles"][name]
    return {key: value for key, value in table.items() if key != "store"}


def _read(text: str) -> dict[str, Any]:
    hint = "`nightporter config check` says where; fix it, and run init again."
    try:
        document = tomllib.loads(text)
    except (RecursionError, ValueError):
        raise ConfigError("the configuration that is there is not valid TOML", hint=hint) from None
    for name in ("stores", "profiles"):
        table = document.get(name, {})
        if not isinstance(table, dict) or not all(
            isinstance(each, dict) for each in table.values()
        ):
            raise ConfigError(
                f"`{name}` of the configuration that is there must hold tables", hint=hint
            )
    return document


def _store_name(stores: Mapping[str, Any], wanted: Mapping[str, Any], *, has_profiles: bool) -> str:
    """The store of the file that means the same, else a free name: `local`, `vault` or `aws`. A
    file that names no store means `local` too, so that messages on two machines are alike."""
    for name, table in stores.items():
        if table == wanted:
            return name
    kind = str(wanted["type"]).partition("-")[0]
    taken = set(stores)
    if has_profiles and not stores and wanted != {"type": "local"}:
        taken.add("local")  # the store that the other profiles mean
    names = [kind, *(f"{kind}-{n}" for n in range(2, 1000))]
    return next(name for name in names if name not in taken)


def _with_named_stores(
    text: str, stores: Mapping[str, Any], profiles: Mapping[str, Any]
) -> str | None:
    """Names the store in each profile that leaves it out, since there will be more than one.

    None: there is nothing to name.
    """
    silent = [name for name, table in profiles.items() if "store" not in table]
    if not silent or len(stores) > 1:
        return None
    try:
        document = tomlkit.parse(text)
        named = next(iter(stores), "local")
        for name in silent:
            document["profiles"][name].add("store", named)
    except (TOMLKitError, KeyError, AttributeError) as exc:
        raise ConfigError(
            "the profiles of the configuration don't name their store, and it can't be added",
            hint='Add `store = "NAME"` to each of them, and run init again.',
        ) from exc
    changed = tomlkit.dumps(document)
    if not stores:
        embedded = _header("stores", named, _store_table({"type": "local"}))
        changed = f"{_with_end(changed)}\n{embedded}"
    return changed


def _with_end(text: str) -> str:
    """The text with an end of its last line."""
    return text if text.endswith("\n") else f"{text}\n"


def _with_line_ends_of(existing: str, text: str) -> str:
    """What is added ends its lines as the lines that are there: CRLF where all of them do."""
    if "\r\n" in existing and not _BARE_END.search(existing):
        return _BARE_END.sub("\r\n", text)
    return text


def _store_table(wanted: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    if comment := STORES[str(wanted["type"])].comment:
        table.add(tomlkit.comment(comment))
    for key, value in wanted.items():
        table.add(key, toml_item(value))
    return table


def _profile_table(answers: Answers, store: str) -> Table:
    table = tomlkit.table()
    table.add("issuer", toml_item(answers.vendor))
    table.add("store", toml_item(store))
    if answers.credentials:
        _add(table, "credentials", answers.credentials, "the secret with username and password")
    for key, value in answers.settings.items():
        table.add(key, toml_item(value))
    if answers.hosts:
        _add(table, "hosts", list(answers.hosts), "to which hosts helpers may give the token")
    return table


def _add(table: Table, key: str, value: object, comment: str) -> None:
    item = toml_item(value)
    item.comment(comment)
    item.trivia.comment_ws = "  "
    table.add(key, item)


def _header(title: str, name: str, table: Table) -> str:
    """`[title.name]` and its keys. Appended as text: that changes no line of what is there."""
    document = tomlkit.document()
    above = tomlkit.table(is_super_table=True)
    above.add(name, table)
    document.add(title, above)
    return tomlkit.dumps(document)


def _check_kept(before: Mapping[str, Any], result: str, profile: str) -> None:
    """Holds what was there to what is there now; only stores' names may have come."""
    try:
        after = tomllib.loads(result)
    except ValueError:
        after = {}
    for name, table in before.get("profiles", {}).items():
        now = after.get("profiles", {}).get(name)
        if now is None or {**now, "store": None} != {**table, "store": None}:
            after = {}
            break
    is_kept = before.get("stores", {}).items() <= after.get("stores", {}).items()
    if not after or not is_kept:
        raise ConfigError(
            f"the configuration that is there leaves no place for [profiles.{profile}]",
            hint="Add the profile by hand, or name another file with --config.",
        )
