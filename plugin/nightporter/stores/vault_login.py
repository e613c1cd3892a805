"""Logging in to Vault: one `auth` table, one token.

Documents: Vault API, "Auth methods" (AppRole, Userpass, Kubernetes, JWT, AWS).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import hvac.exceptions
from hvac.adapters import JSONAdapter

from nightporter.core.errors import ConfigError, StoreDeniedError, UntrustedFileError
from nightporter.core.values import dataclass, field
from nightporter.machine.places import expand
from nightporter.machine.trust import check_named_file
from nightporter.net.http import READABLE_HINT
from nightporter.stores.vault_description import HOME_TOKEN_FILE, TOKEN_VARIABLES
from nightporter.stores.vault_errors import errors_of

TEXT_HINT = "Write the token or secret id into it, as one line."
SERVICE_ACCOUNT_JWT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
SERVER_ID_HEADER = "X-Vault-AWS-IAM-Server-ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultToken:
    """A token to ask with. `is_ours`: we logged in for it, so we revoke it at the end."""

    text: str = field(repr=False)
    is_ours: bool


class Login:
    """The login that an `auth` table describes. Nothing is sent before `run`."""

    def __init__(self, auth: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._auth = auth
        self._environment = environment

    def run(self, client: JSONAdapter, address: str) -> VaultToken:
        """Returns a token, after a login where the method has one.

        Raises: StoreDeniedError, ConfigError, and what hvac raises.
        """
        method = self._auth["method"]
        if method == "none":
            return VaultToken(text="", is_ours=False)  # the listener adds its own
        if method == "token":
            return VaultToken(text=self._given_token(), is_ours=False)
        logins: Mapping[str, Callable[[JSONAdapter], Any]] = {
            "approle": self._approle,
            "userpass": self._userpass,
            "kubernetes": self._kubernetes,
            "jwt": self._jwt,
            "aws": self._aws,
        }
        try:
            reply = logins[method](client)
        except (
            hvac.exceptions.InvalidRequest,
            hvac.exceptions.Forbidden,
            hvac.exceptions.Unauthorized,
        ) as exc:
            if errors_of(exc) is None:  # a page of what is between us and Vault
                raise
            raise self._refused(method, address, exc) from exc
        token = reply["auth"]
        return VaultToken(
            text=str(token["client_token"]), is_ours=token.get("token_type") != "batch"
        )

    def _refused(
        self, method: str, address: str, exc: hvac.exceptions.VaultError
    ) -> StoreDeniedError:
        """Who was refused, by what, and what helps. Vault says "permission denied" to a login where
        nothing is mounted."""
        mount = self._mounted_at
        said = ", ".join(errors_of(exc) or ())
        if isinstance(exc, hvac.exceptions.Forbidden) and said == "permission denied":
            return StoreDeniedError(
                f"{address} has no auth method at {mount!r}, or lets nobody log in there",
                hint="Set `mount` of `auth` to where it is (`vault auth list` shows it).",
            )
        who = "".join(f", {key} {self._auth[key]!r}" for key in _SHOWN_KEYS if self._auth.get(key))
        where = ", for this machine's network address" if "CIDR" in said else ""
        return StoreDeniedError(
            f"{address} refused the {method} login at {mount!r}{who}{where}",
            hint=_CIDR_REMEDY if where else self.remedy,
        )

    @property
    def words(self) -> str:
        """Returns in a few words how we log in."""
        method = self._auth["method"]
        if method != "token":
            return f"auth method {method}"
        variable = next((name for name in TOKEN_VARIABLES if self._environment.get(name)), None)
        return f"token of {variable or self._auth.get('token_file', HOME_TOKEN_FILE)}"

    @property
    def remedy(self) -> str:
        """Returns what helps where Vault does not know our token."""
        found = _REMEDIES.get(self._auth["method"], _TOKEN_REMEDY)
        return found.replace("MOUNT", self._mounted_at).replace(
            "FILE", str(self._auth.get("secret_id_file", "FILE"))
        )

    @property
    def _mounted_at(self) -> str:
        return str(self._auth.get("mount", self._auth["method"]))

    @property
    def _mount(self) -> dict[str, str]:
        return {"mount_point": self._auth["mount"]} if "mount" in self._auth else {}

    def _approle(self, client: JSONAdapter) -> Any:
        from hvac.api.auth_methods.approle import AppRole  # deferred: a login needs no other

        return AppRole(client).login(
            self._auth["role_id"], self._secret_id(), use_token=False, **self._mount
        )

    def _userpass(self, client: JSONAdapter) -> Any:
        from hvac.api.auth_methods.userpass import Userpass

        password = self._variable("password_env")
        return Userpass(client).login(
            self._auth["username"], password, use_token=False, **self._mount
        )

    def _kubernetes(self, client: JSONAdapter) -> Any:
        from hvac.api.auth_methods.kubernetes import Kubernetes

        jwt = self._text_of(self._auth.get("jwt_file", SERVICE_ACCOUNT_JWT), "jwt_file")
        return Kubernetes(client).login(self._auth["role"], jwt, use_token=False, **self._mount)

    def _jwt(self, client: JSONAdapter) -> Any:
        from hvac.api.auth_methods.jwt import JWT

        jwt = self._text_of(self._auth["jwt_file"], "jwt_file")
        path = self._auth.get("mount", "jwt")
        return JWT(client).jwt_login(self._auth["role"], jwt, use_token=False, path=path)

    def _aws(self, client: JSONAdapter) -> Any:
        """A signed sts:GetCallerIdentity, which Vault sends to AWS to learn who we are."""
        signed = self._sign_caller_identity()
        headers = json.dumps({name: [value] for name, value in signed.headers.items()})
        members = {
            "role": self._auth.get("role", ""),
            "iam_http_request_method": signed.method,
            "iam_request_url": _base64(signed.url),
            "iam_request_body": _base64(signed.body),
            "iam_request_headers": _base64(headers),
        }
        mount = self._auth.get("mount", "aws")
        return client.login(f"/v1/auth/{mount}/login", use_token=False, json=members)

    def _sign_caller_identity(self) -> Any:
        try:
            from nightporter.stores import aws_signing  # deferred: boto3, for this method alone
        except ModuleNotFoundError as exc:
            from nightporter.machine.installation import library_hint  # deferred: only a failure

            raise ConfigError(
                "auth.method = 'aws' needs boto3, which is not installed",
                hint=library_hint("boto3"),
            ) from exc
        server_id = self._auth.get("header_value")
        return aws_signing.sign_caller_identity(
            self._environment,
            profile=self._auth.get("profile"),
            region=self._auth.get("region"),
            headers={SERVER_ID_HEADER: server_id} if server_id else {},
        )

    def _given_token(self) -> str:
        """VAULT_TOKEN or BAO_TOKEN, else `token_file`, else what `vault login` left in
        ~/.vault-token."""
        for name in TOKEN_VARIABLES:
            if self._environment.get(name):
                return _header_text(one_line(self._environment[name], name), name)
        if "token_file" in self._auth:
            return _header_text(self._text_of(self._auth["token_file"], "token_file"), "token_file")
        try:
            return _header_text(self._text_of(HOME_TOKEN_FILE, "token_file"), HOME_TOKEN_FILE)
        except UntrustedFileError:
            raise
        except ConfigError as exc:
            raise StoreDeniedError(
                "there is no Vault token",
                hint=(
                    "Set VAULT_TOKEN, or run `vault login`; where a Vault Proxy or Agent brings its"
                    ' own token, set auth = { method = "none" }.'
                ),
            ) from exc

    def _secret_id(self) -> str:
        if "secret_id_env" in self._auth:
            return self._variable("secret_id_env")
        return self._text_of(self._auth["secret_id_file"], "secret_id_file")

    def _text_of(self, path: str, key: str) -> str:
        """Returns the one line of a file that says who we are.

        Raises: ConfigError.
        """
        file = expand(path, key)
        check_named_file(file, key, self._environment)
        return read_text(file, key)

    def _variable(self, key: str) -> str:
        name = str(self._auth[key])
        if not self._environment.get(name):
            raise ConfigError(
                f"the variable {name}, named by auth.{key}, is not set",
                hint=f"Set {name} where this runs, or name another in auth.{key}.",
            )
        return one_line(self._environment[name], name)


_SHOWN_KEYS = ("role_id", "role", "username", "secret_id_file", "secret_id_env", "jwt_file")
_CIDR_REMEDY = (
    "Run it from an address that the role's `secret_id_bound_cidrs` or `token_bound_cidrs` names,"
    " or let who administers Vault change them."
)
_TOKEN_REMEDY = (
    "Run `vault login`, or renew VAULT_TOKEN or the token file; a Vault Proxy renews its own."
)
_REMEDIES = {
    "approle": "A secret id that has expired, is used up or was destroyed is refused like a wrong"
    " one. Who administers Vault writes a new one: `vault write -f -field=secret_id"
    " auth/MOUNT/role/NAME/secret-id >FILE`; `vault read auth/MOUNT/role/NAME/role-id` shows"
    " whether `role_id` is that role's.",
    "userpass": "Check `username` and the password in the variable that `password_env` names.",
    "kubernetes": "Check `role`, and that Vault's role names this service account and namespace.",
    "jwt": "Check `role`, and that the token in `jwt_file` is renewed and meant for this Vault.",
    "aws": "Check `role` (its bound_iam_principal_arn), `header_value` (Vault's"
    " iam_server_id_header_value), `region` and this machine's clock; `aws sts get-caller-identity`"
    " shows who you are.",
}


def _base64(text: str | bytes) -> str:
    content = text.encode() if isinstance(text, str) else text
    return base64.b64encode(content).decode()


def _header_text(text: str, source: str) -> str:
    """Returns a token that a header can carry.

    Raises: ConfigError.
    """
    if not text.isascii():
        raise ConfigError(
            f"{source} holds no Vault token: it has a character that is no ASCII",
            hint="Copy the token once more; it is letters, digits, dots and dashes.",
        )
    return text


def read_text(path: str, key: str) -> str:
    """Returns the one line of a token or secret-id file, without blanks, line ends or byte order
    mark around it.

    Raises: ConfigError.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(65_536)
    except OSError as exc:
        raise ConfigError(
            f"{key}: {path} can't be read ({exc.strerror})", hint=READABLE_HINT
        ) from exc
    except ValueError as exc:
        raise ConfigError(f"{key}: {path} is not UTF-8 text", hint=TEXT_HINT) from exc
    return one_line(text, f"{key}: {path}")


def one_line(text: str, source: str) -> str:
    """Returns the text without what an editor, a shell or Windows puts around it (a line feed, a
    byte order mark; hashicorp/vault#1774).

    Raises: ConfigError where it is empty, or can't be sent in a header.
    """
    found = text.strip().strip("\ufeff").strip()
    if not found:
        raise ConfigError(f"{source} is empty", hint=TEXT_HINT)
    odd = next((char for char in found if not char.isprintable()), None)
    if odd is not None:
        what = "a line feed" if odd in "\r\n" else f"the invisible character U+{ord(odd):04X}"
        raise ConfigError(f"{source} holds {what} in its middle", hint="Write it as one line.")
    return found
