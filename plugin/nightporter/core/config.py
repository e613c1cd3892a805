"""Text in, checked `Config` out: the TOML of contract section 2.

Pure: the text comes in with the name of its source, the tables of vendors and of stores as
parameters, and no environment is read. All findings are collected and raised at once, each with
file, key, what is wrong and the nearest valid spelling. No finding ever repeats a value, since the
mistake may be a password in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from nightporter.core import checks
from nightporter.core.checks import Check
from nightporter.core.errors import ConfigError, UnknownProfileError
from nightporter.core.expiry import parse_duration
from nightporter.core.model import Config, Grant, Profile, Role, Rotation, StoreConfig, Vendor
from nightporter.core.store_description import AuthMethod, StoreDescription

_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
DEFAULT_STORE = StoreConfig(name="local", type="local")


# What single helper protocols take.
HELPER_KEYS: Mapping[str, Check] = {
    "git_quit": checks.flag,
    "cargo_authorization": checks.one_of("bearer", "token"),
    "google_audiences": checks.texts,
    "google_service_accounts": checks.texts,
    "kubernetes": checks.kubernetes_pins,
    "allow_unknown_cluster": checks.flag,
}
HELPER_DEFAULTS: Mapping[str, Any] = {
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
    "hosts": checks.hosts,
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
    "scopes": checks.text_or_texts,
    "partner_id": checks.int32_text,
    "token_endpoint": checks.url_problem,
    "authorization_endpoint": checks.url_problem,
    "device_authorization_endpoint": checks.url_problem,
    "revocation_endpoint": checks.url_problem,
    "issuer_url": checks.url_problem,
    "token_endpoint_auth_method": checks.one_of(
        "client_secret_basic", "client_secret_post", "none"
    ),
    "extra_parameters": checks.parameters,
    "redirect_port": checks.port,
    "rotation": checks.one_of(*(rotation.value for rotation in Rotation)),
    "grace": checks.duration,
    "refresh_token_life": checks.duration,
    "refresh_token_midnight": checks.zone_name,
}
_FIELD_NAMES = ("username", "password", "useralias", "client_id", "client_secret", "partner_id")


class _Findings:
    """Collects what is wrong, so that the user mends a file once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: list[str] = []

    def add(self, key: str, problem: str) -> None:
        self.lines.append(f"{self.source}: {key}: {problem}")

    def table(self, where: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.add(where, "must be a table")
        return {}

    def check_keys(self, where: str, table: Mapping[str, Any], known: Mapping[str, Check]) -> None:
        for key, value in table.items():
            if key not in known:
                self.add(f"{where}.{key}", self.unknown_key(key, known))
            elif problem := known[key](value):
                self.add(f"{where}.{key}", problem)

    @staticmethod
    def unknown_key(key: str, known: Iterable[str]) -> str:
        if key in checks.SECRET_KEYS:
            return (
                "is an unknown key, and secret values may not stand in the file: keep them in the"
                " store"
            )
        near = checks.nearest(key, list(known))
        return "is an unknown key" + (f"; did you mean {near[0]!r}?" if near else "")

    def missing(self, where: str, table: Mapping[str, Any], needed: Iterable[str]) -> None:
        for key in needed:
            if key not in table:
                self.add(f"{where}.{key}", "is missing")

    def raise_if_any(self) -> None:
        if self.lines:
            count = len(self.lines)
            what = "one error" if count == 1 else f"{count} errors"
            raise ConfigError(
                f"{self.source}: {what} in the configuration", problems=tuple(self.lines)
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
    findings = _Findings(source)
    try:
        document = tomllib.loads(text)
    except (RecursionError, ValueError) as exc:
        raise ConfigError(f"{source}: not valid TOML: {_without_values(exc)}") from None
    for key in document:
        if key not in ("stores", "profiles"):
            findings.add(key, findings.unknown_key(key, ("stores", "profiles")))
    written: dict[str, frozenset[str]] = {}
    named: dict[str, StoreConfig] = {}
    for name, table in findings.table("stores", document.get("stores", {})).items():
        written[f"stores.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        store = _parse_store(findings, name, table, stores)
        if store:
            named[name] = store
    profiles: dict[str, Profile] = {}
    named_stores = document.get("stores", {})
    for name, table in findings.table("profiles", document.get("profiles", {})).items():
        written[f"profiles.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        profile = _ProfileParser(findings, name, vendors, named, named_stores).parse(table)
        if profile:
            profiles[name] = profile
    _check_shared_records(findings, profiles)
    findings.raise_if_any()
    return Config(source=source, stores=named, profiles=profiles, written=written)


def _without_values(exc: Exception) -> str:
    """tomllib's message quotes at most one character or key of the file; only its position is
    passed on."""
    position = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(exc))
    return f"at {position[1]}" if position else "it can't be parsed"


def _parse_store(
    findings: _Findings, name: str, value: Any, stores: Mapping[str, StoreDescription]
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
    findings: _Findings, where: str, value: Any, methods: Mapping[str, AuthMethod]
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
        findings: _Findings,
        name: str,
        vendors: Mapping[str, Vendor],
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
        self._check_paths(table)
        if vendor is None or store is None or len(self.findings.lines) > before:
            return None
        return self._build(table, vendor, store)

    def _vendor(self, table: Mapping[str, Any]) -> Vendor | None:
        issuer = table.get("issuer")
        if issuer is None:
            self.findings.missing(self.where, table, ("issuer",))
        elif problem := checks.one_of(*self.vendors)(issuer):
            self.findings.add(f"{self.where}.issuer", problem)
        else:
            return self.vendors[issuer]
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
        if "issuer_url" in vendor.options and not {"issuer_url", "token_endpoint"} & table.keys():
            self.findings.add(f"{self.where}.token_endpoint", "is missing (or name 'issuer_url')")
        role = table.get("role")
        if role == "refresh-only" and "client" not in table and vendor.needs_client(table):
            self.findings.add(
                f"{self.where}.client", "is missing: role 'refresh-only' never reads `credentials`"
            )

    def _check_paths(self, table: Mapping[str, Any]) -> None:
        role = table.get("role", "full")
        if role == "read-only":
            self.findings.missing(self.where, table, ("publish_access_token",))
        credentials = table.get("credentials")
        if credentials is None and "refresh_token" not in table and role != "read-only":
            self.findings.add(
                f"{self.where}.credentials", "is missing (or name 'refresh_token' outright)"
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
        options = {
            **vendor.preset,
            **{key: table[key] for key in sorted(vendor.options) if key in table},
        }
        grant = Grant(table.get("grant", vendor.grants[0]))
        rotation = Rotation(options.get("rotation", vendor.rotation.value))
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
            token_endpoint=_token_endpoint(vendor, options, base_url),
            hosts=tuple(table.get("hosts", ())),
            helper_username=table.get("helper_username", "oauth2"),
            min_ttl_s=table.get("min_ttl", 60),
            renew_when_left_s=_seconds_of(renew),
            fields=table.get("fields", {}),
            username=table.get("username"),
            role=Role(table.get("role", "full")),
            rotation=rotation,
            grace_s=_seconds_of(options.get("grace", vendor.grace_s)),
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


def _token_endpoint(vendor: Vendor, options: Mapping[str, Any], base_url: str) -> str:
    """What the record names as its token endpoint. Where it is discovered, the issuer's own address
    stands for it."""
    found = options.get("token_endpoint") or options.get("issuer_url")
    return str(found) if found else _fill(vendor.token_endpoint, {**options, "base_url": base_url})


def _fill(template: str, values: Mapping[str, Any]) -> str:
    names = re.findall(r"\{(\w+)\}", template)
    return template.format_map({name: values.get(name, "") for name in names})


def _check_shared_records(findings: _Findings, profiles: Mapping[str, Profile]) -> None:
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
