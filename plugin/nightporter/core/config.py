"""Text in, checked `Config` out: the TOML of contract section 2.

Pure: the text comes in with the name of its source, the table of vendors as a parameter, and no
environment is read. All findings are collected and raised at once, each with file, key, what is
wrong and the nearest valid spelling. No finding ever repeats a value, since the mistake may be a
password in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from nightporter.core.errors import ConfigError, UnknownProfileError
from nightporter.core.expiry import DAY_S, parse_duration
from nightporter.core.hosts import entry_problem
from nightporter.core.model import Config, Profile, Role, Rotation, StoreConfig, Vendor

Check = Callable[[Any], str | None]  # a value in, what is wrong with it out

_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SECRET_KEYS = frozenset(
    {
        "password",
        "client_secret",
        "access_token",
        "token",
        "secret_id",
        "secret",
        "api_key",
        "secret_access_key",
    }
)
DEFAULT_STORE = StoreConfig(name="local", type="local")


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known word that was probably meant, or none."""
    import difflib  # deferred: only a mistake needs it

    return difflib.get_close_matches(word, list(known), n=1)


def _text(value: Any) -> str | None:
    return (
        None
        if isinstance(value, str) and value and value.isprintable()
        else "must be a non-empty string"
    )


def _absolute(value: Any) -> str | None:
    fine = (_text(value) is None and value.startswith(("/", "~"))) or (
        isinstance(value, str) and value[1:2] == ":"
    )
    return None if fine else "must be an absolute path, or one that begins with ~"


def _path(value: Any) -> str | None:
    if _text(value):
        return "must be a non-empty string"
    if any(part in ("", ".", "..") for part in value.split("/")):
        return "must be a path without empty, '.' or '..' parts"
    return None


def _seconds(value: Any) -> str | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if is_count else "must be a whole number of seconds, 0 or more"


def _duration(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except ValueError:
            return "must be a duration such as '25h' or '90m'"
        return (
            None
            if seconds <= 100 * 366 * DAY_S
            else "must be a duration of at most a hundred years"
        )
    return _seconds(value) and "must be a duration such as '25h', or seconds"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _texts(value: Any) -> str | None:
    fine = isinstance(value, list) and all(_text(item) is None for item in value)
    return None if fine else "must be a list of non-empty strings"


def _hosts(value: Any) -> str | None:
    if problem := _texts(value):
        return problem
    return next(filter(None, map(entry_problem, value)), None)


def _text_or_texts(value: Any) -> str | None:
    return (
        None
        if _text(value) is None or _texts(value) is None
        else "must be a string or a list of strings"
    )


def _table_of_text(value: Any) -> str | None:
    fine = isinstance(value, dict) and all(_text(item) is None for item in value.values())
    return None if fine else "must be a table of strings"


def _int32_text(value: Any) -> str | None:
    try:
        fine = (
            isinstance(value, (int, str))
            and not isinstance(value, bool)
            and -(2**31) <= int(value) < 2**31
        )
    except ValueError:
        fine = False
    return None if fine else "must be a signed 32-bit integer"


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal can only mean this machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    if ":" not in host and not host[-1:].isdigit():
        return False  # a name
    import ipaddress  # deferred: addresses of stores and issuers are names

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_problem(value: Any) -> str | None:
    """What is wrong with the address of a store or an issuer, or None."""
    if _text(value):
        return "must be an address such as https://host.example"
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return "is not a valid address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if not host or parts.query or parts.fragment:
        return "must be an address such as https://host.example, without query or fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    if parts.scheme == "http":
        return "must be https: plain http is taken on loopback only"
    return "must be an https address"


def _proxy_url(value: Any) -> str | None:
    if _text(value):
        return "must be an address such as http://proxy.example:3128"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "is not a valid address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password: give those in HTTPS_PROXY"
    fine = parts.scheme in ("http", "https") and parts.hostname
    return None if fine else "must be an address such as http://proxy.example:3128"


def _parameters(value: Any) -> str | None:
    """Parameters travel in addresses and stand in the file, so no secret may be among them."""
    if problem := _table_of_text(value):
        return problem
    named = [
        key
        for key in value
        if key in _SECRET_KEYS | {"refresh_token", "client_assertion", "assertion"}
    ]
    return f"must not hold {named[0]!r}: secret values may not stand in the file" if named else None


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str | None:
        if value in choices and isinstance(value, str):
            return None
        near = nearest(str(value), choices) if isinstance(value, str) else []
        advice = f"; did you mean {near[0]!r}?" if near else ""
        return f"must be one of {', '.join(repr(choice) for choice in choices)}{advice}"

    return check


_STORE_KEYS: Mapping[str, Mapping[str, Check]] = {
    "aws-secrets-manager": {
        "region": _text,
        "profile": _text,
        "endpoint_url": url_problem,
        "kms_key_id": _text,
        "role_arn": _text,
    },
    "vault": {"address": url_problem, "namespace": _text, "ca_cert": _text, "mount": _text},
    "local": {"path": _absolute},
}
_AUTH_KEYS: Mapping[str, Mapping[str, Check]] = {
    "token": {"token_file": _text},
    "approle": {"role_id": _text, "secret_id_file": _text, "secret_id_env": _text},
    "userpass": {"username": _text, "password_env": _text},
    "kubernetes": {"role": _text, "jwt_file": _text},
    "jwt": {"role": _text, "jwt_file": _text},
}
AUTH_NEEDS: Mapping[str, tuple[str, ...]] = {
    "token": (),
    "approle": ("role_id",),
    "userpass": ("username", "password_env"),
    "kubernetes": ("role",),
    "jwt": ("role", "jwt_file"),
}
# What single helper protocols take.
HELPER_KEYS: Mapping[str, Check] = {
    "git_quit": _flag,
    "cargo_authorization": _one_of("bearer", "token"),
    "google_audiences": _texts,
    "google_service_accounts": _texts,
}
HELPER_DEFAULTS: Mapping[str, Any] = {
    "git_quit": True,
    "cargo_authorization": "bearer",
    "google_audiences": [],
    "google_service_accounts": [],
}

_PROFILE_KEYS: Mapping[str, Check] = {
    "issuer": _text,
    "store": _text,
    "credentials": _path,
    "client": _path,
    "refresh_token": _path,
    "publish_access_token": _path,
    "base_url": url_problem,
    "hosts": _hosts,
    "helper_username": _text,
    "min_ttl": _seconds,
    "renew_when_left": _duration,
    "fields": _table_of_text,
    "username": _text,
    "role": _one_of(*(role.value for role in Role)),
    "share_access_token": _flag,
    "ca_cert": _text,
    "proxy": _proxy_url,
    **HELPER_KEYS,
}


def _port(value: Any) -> str | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65_536
    return None if fine else "must be a port from 1 to 65535"


def _zone_name(value: Any) -> str | None:
    if _text(value) is None:
        from zoneinfo import (  # deferred: hardly any profile names a zone
            ZoneInfo,
            ZoneInfoNotFoundError,
        )

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return None
    return "must be a time zone such as 'America/New_York'"


_OPTION_KEYS: Mapping[str, Check] = {
    "grant": _text,
    "tenant": _text,
    "scopes": _text_or_texts,
    "partner_id": _int32_text,
    "token_endpoint": url_problem,
    "authorization_endpoint": url_problem,
    "device_authorization_endpoint": url_problem,
    "revocation_endpoint": url_problem,
    "issuer_url": url_problem,
    "token_endpoint_auth_method": _one_of("client_secret_basic", "client_secret_post", "none"),
    "extra_parameters": _parameters,
    "redirect_port": _port,
    "rotation": _one_of(*(rotation.value for rotation in Rotation)),
    "grace": _duration,
    "refresh_token_life": _duration,
    "refresh_token_midnight": _zone_name,
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

    def check_keys(self, where: str, table: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
        for key, value in table.items():
            if key not in checks:
                self.add(f"{where}.{key}", self.unknown_key(key, checks))
            elif problem := checks[key](value):
                self.add(f"{where}.{key}", problem)

    @staticmethod
    def unknown_key(key: str, known: Iterable[str]) -> str:
        if key in _SECRET_KEYS:
            return (
                "is an unknown key, and secret values may not stand in the file: keep them in the"
                " store"
            )
        near = nearest(key, list(known))
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


def parse_config(text: str, *, source: str, vendors: Mapping[str, Vendor]) -> Config:
    """A checked configuration from TOML text. `source` is the file's path or variable's name, for
    messages.

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
    stores: dict[str, StoreConfig] = {}
    for name, table in findings.table("stores", document.get("stores", {})).items():
        written[f"stores.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        store = _parse_store(findings, name, table)
        if store:
            stores[name] = store
    profiles: dict[str, Profile] = {}
    named_stores = document.get("stores", {})
    for name, table in findings.table("profiles", document.get("profiles", {})).items():
        written[f"profiles.{name}"] = frozenset(table) if isinstance(table, dict) else frozenset()
        profile = _ProfileParser(findings, name, vendors, stores, named_stores).parse(table)
        if profile:
            profiles[name] = profile
    _check_shared_records(findings, profiles)
    findings.raise_if_any()
    return Config(source=source, stores=stores, profiles=profiles, written=written)


def _without_values(exc: Exception) -> str:
    """tomllib's message quotes at most one character or key of the file; only its position is
    passed on."""
    position = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(exc))
    return f"at {position[1]}" if position else "it can't be parsed"


def _parse_store(findings: _Findings, name: str, value: Any) -> StoreConfig | None:
    where = f"stores.{name}"
    table = dict(findings.table(where, value))
    kind = table.pop("type", None)
    if kind is None:
        findings.add(f"{where}.type", "is missing")
        return None
    if problem := _one_of(*_STORE_KEYS)(kind):
        findings.add(f"{where}.type", problem)
        return None
    auth = table.pop("auth", None) if kind == "vault" else None
    findings.check_keys(where, table, _STORE_KEYS[kind])
    if kind == "vault":
        table["auth"] = _parse_auth(
            findings, f"{where}.auth", {"method": "token"} if auth is None else auth
        )
        table["mount"] = str(table.get("mount", "secret")).strip("/")
    return StoreConfig(name=name, type=kind, options=table)


def _parse_auth(findings: _Findings, where: str, value: Any) -> Mapping[str, Any]:
    table = dict(findings.table(where, value))
    method = table.get("method", "token")
    if problem := _one_of(*_AUTH_KEYS)(method):
        findings.add(f"{where}.method", problem)
        return table
    findings.check_keys(where, table, {"method": _text, "mount": _text, **_AUTH_KEYS[method]})
    findings.missing(where, table, AUTH_NEEDS[method])
    if method == "approle" and not {"secret_id_file", "secret_id_env"} & table.keys():
        findings.add(where, "needs 'secret_id_file' or 'secret_id_env'")
    return {"method": method, **table}


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
        elif problem := _one_of(*self.vendors)(issuer):
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
            near = nearest(name, list(self.named_stores))
            advice = f"; did you mean {near[0]!r}?" if near else ""
            self.findings.add(
                f"{self.where}.store", f"names a store that is not in the file{advice}"
            )
        return None

    def _check_vendor_keys(self, table: Mapping[str, Any], vendor: Vendor) -> None:
        if (
            "grant" in vendor.options
            and "grant" in table
            and (problem := _one_of(*vendor.grants)(table["grant"]))
        ):
            self.findings.add(f"{self.where}.grant", problem)
        if "issuer_url" in vendor.options and not {"issuer_url", "token_endpoint"} & table.keys():
            self.findings.add(f"{self.where}.token_endpoint", "is missing (or name 'issuer_url')")
        role = table.get("role")
        needs_client = vendor.name not in ("pitchpoint", "vault-ist") or (
            vendor.name == "vault-ist" and "partner_id" not in table
        )
        if role == "refresh-only" and "client" not in table and needs_client:
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
        rotation = Rotation(options.get("rotation", vendor.rotation.value))
        credentials = table.get("credentials")
        renew = table.get("renew_when_left", "25h")
        return Profile(
            name=self.name,
            issuer=vendor.name,
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
            grant=table.get("grant", vendor.grants[0]),
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
    near = nearest(name, names)
    advice = (
        f"; did you mean {near[0]!r}?" if near else f" (there are: {', '.join(names) or 'none'})"
    )
    raise UnknownProfileError(f"{config.source}: no profile is called {name!r}{advice}")


def render_effective(config: Config, environment: Mapping[str, str]) -> str:
    """The effective configuration as TOML, each line with where its value came from. It holds no
    secret by design."""
    lines = [f"# from {config.source}"]
    for store in config.stores.values():
        lines += ["", f"[stores.{store.name}]", _line("type", store.type, "file")]
        written = config.written.get(f"stores.{store.name}", frozenset())
        for key, value in store.options.items():
            lines.append(_line(key, value, "file" if key in written else "default"))
        if store.type == "vault":
            for key, variable in VAULT_VARIABLES.items():
                if key not in store.options and environment.get(variable):
                    lines.append(_line(key, environment[variable], variable))
    for profile in config.profiles.values():
        written = config.written.get(f"profiles.{profile.name}", frozenset())
        lines += ["", f"[profiles.{profile.name}]"]
        for key, value in _effective_profile(profile).items():
            if value is not None:
                lines.append(_line(key, value, "file" if key in written else "default"))
    return "\n".join(lines) + "\n"


VAULT_VARIABLES: Mapping[str, str] = {
    "address": "VAULT_ADDR",
    "namespace": "VAULT_NAMESPACE",
    "ca_cert": "VAULT_CACERT",
}


def _effective_profile(profile: Profile) -> dict[str, Any]:
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
        "grant": profile.grant if profile.grant != "password" else profile.options.get("grant"),
        "ca_cert": profile.ca_cert,
        "proxy": profile.proxy,
        **{
            key: value
            for key, value in profile.helper_options.items()
            if value != HELPER_DEFAULTS[key]
        },
        **{key: value for key, value in profile.options.items() if key != "grant"},
    }


def _line(key: str, value: Any, source: str) -> str:
    return f"{key} = {_toml(value)}  # {source}"


def _toml(value: Any) -> str:
    import json  # only here: TOML's basic strings are JSON's

    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
