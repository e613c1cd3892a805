"""What is known of Vault and OpenBao without hvac: keys, identity, policy.

Vault's policy language: "Policies" and "KV secrets engine version 2" in its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

from nightporter.core import checks
from nightporter.core.store_description import (
    AuthMethod,
    Environment,
    Options,
    PolicyNeeds,
    Question,
    StoreDescription,
)
from nightporter.stores import aws_identity

HOME_TOKEN_FILE = "~/.vault-token"
# OpenBao's own names count where Vault's aren't set.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "address": ("VAULT_ADDR", "BAO_ADDR"),
    "namespace": ("VAULT_NAMESPACE", "BAO_NAMESPACE"),
    "ca_cert": ("VAULT_CACERT", "BAO_CACERT"),
    "client_cert": ("VAULT_CLIENT_CERT", "BAO_CLIENT_CERT"),
    "client_key": ("VAULT_CLIENT_KEY", "BAO_CLIENT_KEY"),
}
TOKEN_VARIABLES = ("VAULT_TOKEN", "BAO_TOKEN")
# What the Vault CLI reads besides. To skip the verification of TLS is no option here.
_UNREAD = ("SKIP_VERIFY", "CAPATH", "CACERT_BYTES", "TLS_SERVER_NAME", "PROXY_ADDR", "AGENT_ADDR")
_PARAMETERS = ", ".join(
    f'"{name}" = []' for name in ("delete_version_after", "max_versions", "custom_metadata")
)
_MOUNT = {"mount": checks.text}


def _complete(options: Options) -> Options:
    return {**options, "mount": str(options.get("mount", "secret")).strip("/")}


def _credential_files(options: Options, environment: Environment) -> list[str]:
    named = DESCRIPTION.named_files(options)
    uses_home = (
        options.get("auth", {}).get("method") == "token"
        and not named
        and not any(environment.get(name) for name in TOKEN_VARIABLES)
    )
    if options.get("auth", {}).get("method") == "aws":
        named += aws_identity.files(environment)
    return [*named, *([HOME_TOKEN_FILE] if uses_home else [])]


def _render_policy(needs: PolicyNeeds) -> str:
    mount = needs.options.get("mount", "secret")
    lines = [f"# {needs.title}"]
    lines += [f'path "{mount}/data/{path}" {{ capabilities = ["read"] }}' for path in needs.reads]
    for path in needs.writes:
        lines += [
            f'path "{mount}/data/{path}" {{ capabilities = ["create", "read", "update"] }}',
            f'path "{mount}/metadata/{path}" {{',
            '  capabilities = ["create", "update", "patch", "read"]',
            f"  allowed_parameters = {{ {_PARAMETERS} }}",
            "}",
        ]
        if needs.sweeps or path in needs.deletes:  # a native deletion is a soft one
            lines.append(f'path "{mount}/destroy/{path}" {{ capabilities = ["update"] }}')
    return "\n".join(lines)


DESCRIPTION = StoreDescription(
    type="vault",
    adapter="nightporter.stores.vault",
    comment=(
        "KV version 2. Address and login come from VAULT_ADDR and VAULT_TOKEN or ~/.vault-token"
        " unless named."
    ),
    keys={
        "address": checks.url_problem,
        "namespace": checks.text,
        "ca_cert": checks.absolute,
        "client_cert": checks.absolute,
        "client_key": checks.absolute,
        "mount": checks.text,
    },
    complete=_complete,
    auth_methods={
        "token": AuthMethod(keys={"token_file": checks.absolute, **_MOUNT}, files=("token_file",)),
        "approle": AuthMethod(
            keys={
                "role_id": checks.text,
                "secret_id_file": checks.absolute,
                "secret_id_env": checks.text,
                **_MOUNT,
            },
            needs=("role_id",),
            needs_one_of=("secret_id_file", "secret_id_env"),
            asked=("role_id", "secret_id_file"),
            variables=("secret_id_env",),
            files=("secret_id_file",),
        ),
        "userpass": AuthMethod(
            keys={"username": checks.text, "password_env": checks.text, **_MOUNT},
            needs=("username", "password_env"),
            asked=("username", "password_env"),
            variables=("password_env",),
        ),
        "kubernetes": AuthMethod(
            keys={"role": checks.text, "jwt_file": checks.absolute, **_MOUNT},
            needs=("role",),
            asked=("role",),
        ),
        "jwt": AuthMethod(
            keys={"role": checks.text, "jwt_file": checks.absolute, **_MOUNT},
            needs=("role", "jwt_file"),
            asked=("role", "jwt_file"),
        ),
        "aws": AuthMethod(
            keys={
                "role": checks.text,
                "region": checks.text,
                "header_value": checks.text,
                "profile": checks.text,
                **_MOUNT,
            },
            asked=("role",),
            identity_variables=aws_identity.VARIABLES,
        ),
        "none": AuthMethod(),  # a Vault Proxy or Agent listener that brings its own token
    },
    variables=VARIABLES,
    identity_variables=[name for names in VARIABLES.values() for name in names],
    secret_variables=TOKEN_VARIABLES,
    address_variables=(*VARIABLES["address"], *VARIABLES["namespace"]),
    ca_variables=VARIABLES["ca_cert"],
    unread_variables=[f"{tool}_{name}" for tool in ("VAULT", "BAO") for name in _UNREAD],
    credential_files=_credential_files,
    library="hvac",
    requirement="nightporter[vault]",
    render_policy=_render_policy,
    questions=(Question(key="address", text="Vault URL", is_needed=True),),
)
