"""Text in, checked `Config` out: the TOML of contract section 2.

Pure: the text comes in with the name of its source, the tables of vendors and of stores as
parameters, and no environment is read. All findings are collected and raised at once, each with
file, key, what is wrong and the nearest valid spelling. No finding ever repeats a value, since the
mistake may be a password in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from nightporter.core import checks, vendor_table
from nightporter.core.checks import Check
from nightporter.core.errors import ConfigError, UnknownProfileError
from nightporter.core.expiry import parse_duration
from nightporter.core.findings import Findings
from nightporter.core.hosts import hosts_problem
from nightporter.core.model import (
    Config,
    Grant,
    Notify,
    Profile,
    Role,
    Rotation,
    StoreConfig,
    Vendor,
)
from nightporter.core.store_description import AuthMethod, StoreDescription
from nightporter.core.values import dataclass

_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
DEFAULT_STORE = StoreConfig(name="local", type="local")


# What single helper protocols take.
HELPER_KEYS: Mapping[str, Check] = {
    "agent_users": checks.texts,
    "git_quit": checks.flag,
    "cargo_authorization": checks.one_of("bearer", "token"),
    "google_audiences": checks.texts,
    "google_service_accounts": checks.texts,
    "kubernetes": checks.kubernetes_pins,
    "allow_unknown_cluster": checks.flag,
}
HELPER_DEFAULTS: Mapping[str, Any] = {
    "agent_users": (),
    "git_quit": True,
    "cargo_authorization": "bearer",
    "google_audiences": [],
    "google_service_accounts": [],
    "kubernetes": {},
    "allow_unknown_cluster": False,
}

_PROFILE_KEYS: Mapping[str, Check] = {
    "issuer": checks.text,
    "store": checks.text,
    "credentials": checks.path,
    "client": checks.path,
    "refresh_token": checks.path,
    "publish_access_token": checks.path,
    "base_url": checks.url_problem,
    "hosts": hosts_problem,
    "helper_username": checks.text,
    "min_ttl": checks.seconds,
    "renew_when_left": checks.duration,
    "fields": checks.table_of_text,
    "username": checks.text,
    "role": checks.one_of(*(role.value for role in Role)),
    "share_access_token": checks.flag,
    "ca_cert": checks.absolute,
    "proxy": checks.proxy_url,
    **HELPER_KEYS,
}


_OPTION_KEYS: Mapping[str, Check] = {
    "grant": checks.text,
    "tenant": checks.text,
    "partner_id": checks.int32_text,
    "redirect_port": checks.port,
    **vendor_table.PROOFS,
    **vendor_table.REQUESTS,
    **vendor_table.LIFE,
    **vendor_table.WORDS,
}
_FIELD_NAMES = (
    *("username", "password", "useralias", "client_id", "client_secret", "partner_id"),
    *("private_key", "key_id", "certificate"),
)


def parse_config(
    text: str,
    *,
    source: str,
    vendors: Mapping[str, Vendor],
    stores: Mapping[str, StoreDescription],
) -> Config:
    """Returns the checked configuration that TOML text holds.

    `source` is the file's path or variable's name, for messages. `vendors` and `stores` say what
    there is to name: `issuers.VENDORS`, `stores.STORES`.

    Raises: ConfigError with all findings at once.
    """
    findings = Findings(source)
    try:
        document = tomllib.loads(text)
    except (RecursionError, ValueError) as exc:
        raise ConfigError(f"{source}: not valid TOML: {_without_values(exc)}") from None
    for key in document:
        if key not in _TABLES:
            findings.add(key, findings.unknown_key(key, _TABLES))
    written: dict[str, frozenset[str]] = {}
    named: dict[str, StoreConfig] = {}
    for name, table in findings.table("stores", document.get("stores", {})).items():
        written[f"stores.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        store = _parse_store(findings, name, table, stores)
        if store:
            named[name] = store
    own = vendor_table.parse_vendors(findings, document.get("vendors", {}), vendors)
    known = _Known(built_in=vendors, own=own, named=document.get("vendors", {}))
    profiles: dict[str, Profile] = {}
    named_stores = document.get("stores", {})
    for name, table in findings.table("profiles", document.get("profiles", {})).items():
        written[f"profiles.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        profile = _ProfileParser(findings, name, known, named, named_stores).parse(table)
        if profile:
            profiles[name] = profile
    _check_shared_records(findings, profiles)
    notify = _parse_notify(findings, document.get("notify"))
    findings.raise_if_any()
    return Config(
        source=source,
        stores=named,
        profiles=profiles,
        vendors=own,
        written=written,
        notify=notify,
    )


_TABLES = ("stores", "profiles", "vendors", "notify")
_NOTIFY_KEYS: Mapping[str, Check] = {"command": checks.command, "webhook": checks.url_problem}


def _parse_notify(findings: Findings, value: Any) -> Notify | None:
    """Whom to tell; None for nobody."""
    if value is None:
        return None
    table = findings.table("notify", value)
    findings.check_keys("notify", table, _NOTIFY_KEYS)
    if not table:
        findings.add("notify", "needs `command` or `webhook`")
    command = table.get("command")
    return Notify(
        command=tuple(command) if isinstance(command, list) else (),
        webhook=table.get("webhook"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The vendors that a profile can name. `named`: all tables of the file, faulty ones too."""

    built_in: Mapping[str, Vendor]
    own: Mapping[str, Vendor]
    named: Any

    def names(self) -> list[str]:
        return [*self.built_in, *(self.named if isinstance(self.named, dict) else ())]

    def get(self, name: str) -> Vendor | None:
        """None: the row has a finding of its own."""
        return self.built_in.get(name) or self.own.get(name)


def _without_values(exc: Exception) -> str:
    """tomllib's message quotes at most one character or key of the file; only its position is
    passed on."""
    position = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(exc))
    return f"at {position[1]}" if position else "it can't be parsed"


def _parse_store(
    findings: Findings, name: str, value: Any, stores: Mapping[str, StoreDescription]
) -> StoreConfig | None:
    where = f"stores.{name}"
    table = dict(findings.table(where, value))
    kind = table.pop("type", None)
    if kind is None:
        findings.add(f"{where}.type", "is missing")
        return None
    description = stores.get(kind) if isinstance(kind, str) else None
    if description is None:
        findings.add(f"{where}.type", str(checks.one_of(*stores)(kind)))
        return None
    auth = table.pop("auth", None) if description.auth_methods else None
    findings.check_keys(where, table, description.keys)
    if description.auth_methods:
        table["auth"] = _parse_auth(
            findings, f"{where}.auth", {} if auth is None else auth, description.auth_methods
        )
    return StoreConfig(name=name, type=kind, options=description.complete(table))


def _parse_auth(
    findings: Findings, where: str, value: Any, methods: Mapping[str, AuthMethod]
) -> Mapping[str, Any]:
    """The `auth` table of a store. Without `method` it is the first of the store's methods."""
    table = dict(findings.table(where, value))
    name = table.get("method", next(iter(methods)))
    if problem := checks.one_of(*methods)(name):
        findings.add(f"{where}.method", problem)
        return table
    method = methods[name]
    findings.check_keys(where, table, {"method": checks.text, **method.keys})
    findings.missing(where, table, method.needs)
    if method.needs_one_of and not set(method.needs_one_of) & table.keys():
        findings.add(where, f"needs {' or '.join(map(repr, method.needs_one_of))}")
    return {"method": name, **table}


class _ProfileParser:
    """One `[profiles.NAME]` table against the row of its vendor."""

    def __init__(
        self,
        findings: Findings,
        name: str,
        vendors: _Known,
        stores: Mapping[str, StoreConfig],
        named_stores: Any,
    ) -> None:
        self.findings = findings
        self.name = name
        self.where = f"profiles.{name}"
        self.vendors = vendors
        self.stores = stores
        self.named_stores = named_stores if isinstance(named_stores, dict) else {}

    def parse(self, value: Any) -> Profile | None:
        before = len(self.findings.lines)
        table = self.findings.table(self.where, value)
        if not _PROFILE_NAME.match(self.name):
            self.findings.add(
                self.where, "a profile's name has letters, digits, '.', '_' and '-' only"
            )
        vendor = self._vendor(table)
        options = {key: _OPTION_KEYS[key] for key in (vendor.options if vendor else _OPTION_KEYS)}
        self.findings.check_keys(self.where, table, {**_PROFILE_KEYS, **options})
        store = self._store(table)
        if vendor:
            self._check_vendor_keys(table, vendor)
        if vendor and len(self.findings.lines) == before:
            vendor_table.check_words(self.findings, self.where, {**vendor.members, **table})
        self._check_paths(table)
        if vendor is None or store is None or len(self.findings.lines) > before:
            return None
        return self._build(table, vendor, store)

    def _vendor(self, table: Mapping[str, Any]) -> Vendor | None:
        issuer = table.get("issuer")
        if issuer is None:
            self.findings.missing(self.where, table, ("issuer",))
        elif isinstance(issuer, str) and (vendor := self.vendors.get(issuer)):
            return vendor
        elif problem := checks.one_of(*self.vendors.names())(issuer):
            self.findings.add(f"{self.where}.issuer", problem)
        return None

    def _store(self, table: Mapping[str, Any]) -> StoreConfig | None:
        name = table.get("store")
        if name is None:
            if not self.named_stores:
                return DEFAULT_STORE
            if len(self.named_stores) == 1:
                return next(iter(self.stores.values()), None)
            self.findings.add(f"{self.where}.store", "is missing, and there is more than one store")
        elif not isinstance(name, str):
            return None  # said already
        elif name in self.named_stores:
            return self.stores.get(name)
        else:
            near = checks.nearest(name, list(self.named_stores))
            advice = f"; did you mean {near[0]!r}?" if near else ""
            self.findings.add(
                f"{self.where}.store", f"names a store that is not in the file{advice}"
            )
        return None

    def _check_vendor_keys(self, table: Mapping[str, Any], vendor: Vendor) -> None:
        grants = checks.one_of(*(grant.value for grant in vendor.grants))
        if "grant" in vendor.options and "grant" in table and (problem := grants(table["grant"])):
            self.findings.add(f"{self.where}.grant", problem)
        self._check_addresses(table, vendor)
        if "client_id" in vendor.options and (problem := vendor_table.proof_problem(vendor, table)):
            self.findings.add(f"{self.where}.client_id", problem)
        role = table.get("role")
        if role == "refresh-only" and "client" not in table and vendor.needs_client(table):
            self.findings.add(
                f"{self.where}.client", "is missing: role 'refresh-only' never reads `credentials`"
            )

    def _check_addresses(self, table: Mapping[str, Any], vendor: Vendor) -> None:
        """Where the row has no address, the profile must."""
        named = vendor_table.addresses(vendor, table)
        if not {"issuer_url", "token_endpoint"} & named.keys():
            self.findings.add(f"{self.where}.token_endpoint", "is missing (or name 'issuer_url')")
        base_url = table.get("base_url", vendor.base_url)
        if vendor_table.needs_base_url(vendor, table) and not base_url:
            self.findings.add(
                f"{self.where}.base_url", "is missing: each customer of this vendor has another"
            )

    def _check_paths(self, table: Mapping[str, Any]) -> None:
        role = table.get("role", "full")
        if role == "read-only":
            self.findings.missing(self.where, table, ("publish_access_token",))
        credentials = table.get("credentials")
        if credentials is None and "refresh_token" not in table and role != "read-only":
            self.findings.add(
                f"{self.where}.credentials", "is missing (or name 'refresh_token' explicitly)"
            )
        if (
            isinstance(credentials, str)
            and credentials.startswith("arn:")
            and "refresh_token" not in table
        ):
            self.findings.add(
                f"{self.where}.refresh_token", "is missing: it can't be derived from an ARN"
            )
        paths = [
            table.get(key)
            for key in ("credentials", "client", "refresh_token", "publish_access_token")
        ]
        named = [path for path in paths if isinstance(path, str)]
        if len(set(named)) < len(named):
            self.findings.add(self.where, "two of its secrets have the same path")
        fields = table.get("fields")
        if isinstance(fields, dict):
            for key in fields:
                if key not in _FIELD_NAMES:
                    self.findings.add(
                        f"{self.where}.fields.{key}", self.findings.unknown_key(key, _FIELD_NAMES)
                    )

    def _build(self, table: Mapping[str, Any], vendor: Vendor, store: StoreConfig) -> Profile:
        base_url = str(table.get("base_url", vendor.base_url or "")).rstrip("/")
        options = vendor_table.effective(vendor, table, base_url)
        grant = Grant(table.get("grant", vendor.grants[0]))
        rotation = Rotation(options["rotation"])
        credentials = table.get("credentials")
        renew = table.get("renew_when_left", "25h")
        return Profile(
            name=self.name,
            vendor=vendor,
            store=store,
            credentials=credentials,
            client=table.get("client"),
            refresh_token=table.get("refresh_token") or f"{credentials or self.name}/refresh-token",
            publish_access_token=table.get("publish_access_token"),
            base_url=base_url,
            token_endpoint=str(options.get("token_endpoint", options.get("issuer_url"))),
            hosts=tuple(table.get("hosts", ())),
            helper_username=table.get("helper_username", "oauth2"),
            min_ttl_s=table.get("min_ttl", 60),
            renew_when_left_s=_seconds_of(renew),
            fields=table.get("fields", {}),
            username=table.get("username"),
            role=Role(table.get("role", "full")),
            rotation=rotation,
            grace_s=_seconds_of(options.get("grace", 0)),
            share_access_token=table.get("share_access_token", rotation is Rotation.ROTATES),
            grant=grant,
            ca_cert=table.get("ca_cert"),
            proxy=table.get("proxy"),
            helper_options={
                key: table.get(key, default) for key, default in HELPER_DEFAULTS.items()
            },
            options=options,
        )


def _seconds_of(duration: str | int) -> int:
    return parse_duration(duration) if isinstance(duration, str) else duration


def _check_shared_records(findings: Findings, profiles: Mapping[str, Profile]) -> None:
    """Two profiles on one record path must mean one session (contract, section 2)."""
    seen: dict[tuple[object, ...], Profile] = {}
    for profile in profiles.values():
        place = (
            profile.store.type,
            repr(sorted(profile.store.options.items())),
            profile.refresh_token,
        )
        other = seen.setdefault(place, profile)
        if _session_identity(other) != _session_identity(profile):
            findings.add(
                f"profiles.{profile.name}.refresh_token",
                f"is the record path of profile {other.name!r}, another identity; give each a path"
                " of its own",
            )


def _session_identity(profile: Profile) -> tuple[object, ...]:
    scopes = profile.options.get("scopes")
    return (
        profile.issuer,
        profile.token_endpoint,
        profile.username or profile.credentials,
        profile.client,
        profile.grant,
        repr(scopes),
        profile.options.get("client_id"),
        repr(profile.options.get("partner_id")),
    )


def choose_profile(config: Config, name: str | None) -> Profile:
    """The profile of that name; without a name the only one.

    Raises: UnknownProfileError, with the nearest spelling.
    """
    names = list(config.profiles)
    if name is None:
        if len(names) == 1:
            return config.profiles[names[0]]
        found = ", ".join(names) or "none"
        raise UnknownProfileError(f"{config.source}: name one of the profiles: {found}")
    if name in config.profiles:
        return config.profiles[name]
    near = checks.nearest(name, names)
    advice = (
        f"; did you mean {near[0]!r}?" if near else f" (there are: {', '.join(names) or 'none'})"
    )
    raise UnknownProfileError(f"{config.source}: no profile is called {name!r}{advice}")
