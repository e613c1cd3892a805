"""The effective configuration as TOML: what `nightporter config show` prints. Pure.

Each value has a comment that tells where it comes from: `file`, `vendor` (its row), `default`, or
the variable. tomlkit writes the text, so that it can be read back whatever names and values are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
from tomlkit.items import Item, Table

from nightporter.core.config import HELPER_DEFAULTS
from nightporter.core.model import Config, Notify, Profile, StoreConfig
from nightporter.core.store_description import StoreDescription

Line = tuple[str, Any, str]  # key, value, source


def render_effective(
    config: Config, environment: Mapping[str, str], stores: Mapping[str, StoreDescription]
) -> str:
    """Returns the effective configuration as TOML, each line with where its value came from.

    It holds no secret by design. Stores that only a default names are shown too, so that the text
    is a configuration of its own: read back, it means the same.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment(f"from {' '.join(config.source.split())}"))
    named = {profile.store.name: profile.store for profile in config.profiles.values()}
    found = {
        name: _table(_store_lines(config, store, environment, stores))
        for name, store in {**named, **config.stores}.items()
    }
    profiles = {
        profile.name: _table(_profile_lines(config, profile))
        for profile in config.profiles.values()
    }
    vendors = {
        vendor.name: _table((key, item, "file") for key, item in vendor.written.items())
        for vendor in config.vendors.values()
    }
    if config.notify is not None:
        document.add(tomlkit.nl())
        document.add("notify", _table(_notify_lines(config.notify)))
    for title, tables in (("stores", found), ("vendors", vendors), ("profiles", profiles)):
        if tables:
            document.add(tomlkit.nl())
            document.add(title, _super_table(tables))
    return tomlkit.dumps(document).rstrip("\n") + "\n"


def _super_table(tables: Mapping[str, Table]) -> Table:
    """One `[title.NAME]` for each table, with an empty line between them."""
    above = tomlkit.table(is_super_table=True)
    for position, (name, table) in enumerate(tables.items(), start=1):
        if position < len(tables):
            table.add(tomlkit.nl())
        above.add(name, table)
    return above


def _table(lines: Iterator[Line]) -> Table:
    table = tomlkit.table()
    for key, value, source in lines:
        item = toml_item(value)
        item.comment(source)
        item.trivia.comment_ws = "  "
        table.add(key, item)
    return table


def toml_item(value: Any) -> Item:
    """Returns a value as tomlkit writes it on one line."""
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for key, member in value.items():
            inline.add(key, toml_item(member))
        return inline
    if isinstance(value, (list, tuple)):
        array = tomlkit.array()
        for member in value:
            array.append(toml_item(member))
        return array
    item: Item = tomlkit.item(value)
    return item


def _store_lines(
    config: Config,
    store: StoreConfig,
    environment: Mapping[str, str],
    stores: Mapping[str, StoreDescription],
) -> Iterator[Line]:
    is_written = store.name in config.stores
    written = config.written.get(f"stores.{store.name}", frozenset())
    yield "type", store.type, "file" if is_written else "default"
    for key, value in store.options.items():
        yield key, value, "file" if key in written else "default"
    for key, variables in stores[store.type].variables.items():
        variable = next((name for name in variables if environment.get(name)), None)
        if variable and key not in store.options:
            yield key, environment[variable], variable


def _notify_lines(notify: Notify) -> Iterator[Line]:
    if notify.command:
        yield "command", list(notify.command), "file"
    if notify.webhook:
        yield "webhook", notify.webhook, "file"


def _profile_lines(config: Config, profile: Profile) -> Iterator[Line]:
    written = config.written.get(f"profiles.{profile.name}", frozenset())
    row = {*profile.vendor.members, *profile.vendor.preset}
    for key, value in _effective(profile).items():
        if value is not None:
            source = "file" if key in written else "default"
            yield key, value, "vendor" if key in row and key not in written else source


def _effective(profile: Profile) -> dict[str, Any]:
    """What the profile amounts to, by the keys of the configuration. None: not set."""
    takes_grant = "grant" in profile.vendor.options
    return {
        "issuer": profile.issuer,
        "store": profile.store.name,
        "credentials": profile.credentials,
        "client": profile.client,
        "refresh_token": profile.refresh_token,
        "publish_access_token": profile.publish_access_token,
        "base_url": profile.base_url or None,
        "hosts": list(profile.hosts),
        "helper_username": profile.helper_username,
        "min_ttl": profile.min_ttl_s,
        "renew_when_left": f"{profile.renew_when_left_s}s",
        "fields": dict(profile.fields),
        "username": profile.username,
        "role": profile.role.value,
        "share_access_token": profile.share_access_token,
        "grant": profile.grant.value if takes_grant else None,
        "ca_cert": profile.ca_cert,
        "proxy": profile.proxy,
        **{
            key: value
            for key, value in profile.helper_options.items()
            if value != HELPER_DEFAULTS[key]
        },
        **{key: value for key, value in profile.options.items() if key in profile.vendor.options},
    }
