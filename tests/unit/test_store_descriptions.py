"""What is known of each store without its library: which keys a table has, on which files and
variables an identity depends, and the least that a role needs in the store's policy language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightporter.core.errors import ConfigError
from nightporter.core.store_description import PolicyNeeds, StoreDescription
from nightporter.stores import OURS, STORES, aws_identity
from nightporter.stores.local_description import DESCRIPTION as LOCAL
from nightporter.stores.secrets_manager_description import DESCRIPTION as AWS
from nightporter.stores.vault_description import DESCRIPTION as VAULT

# Vault's and OpenBao's.

PARAMETERS = '  allowed_parameters = { "delete_version_after" = [], "max_versions" = [],'
PARAMETERS += ' "custom_metadata" = [] }'


def policy(of: StoreDescription, **needs: Any) -> str:
    assert of.render_policy is not None
    return of.render_policy(PolicyNeeds(**{"title": "p", "options": {}, **needs}))


def test_vault_who_reads_reads() -> None:
    """The data alone, on the mount that the store names."""
    assert policy(VAULT, reads=["a", "b/c"]) == (
        '# p\npath "secret/data/a" { capabilities = ["read"] }\n'
        'path "secret/data/b/c" { capabilities = ["read"] }'
    )
    assert '"kv/team/data/a"' in policy(VAULT, reads=["a"], options={"mount": "kv/team"})


@pytest.mark.parametrize(
    ("needs", "destroys"),
    [
        ({}, False),
        ({"sweeps": True}, True),
        ({"deletes": ["r"]}, True),
        ({"deletes": ["other"]}, False),
    ],
)
def test_vault_who_writes_repairs_its_key_and_sweeps_where_it_must(
    needs: dict[str, Any], destroys: bool
) -> None:
    """A native deletion is a soft one: what is swept is destroyed."""
    lines = [
        "# p",
        'path "secret/data/r" { capabilities = ["create", "read", "update"] }',
        'path "secret/metadata/r" {',
        '  capabilities = ["create", "update", "patch", "read"]',
        PARAMETERS,
        "}",
    ]
    if destroys:
        lines.append('path "secret/destroy/r" { capabilities = ["update"] }')
    assert policy(VAULT, writes=["r"], **needs) == "\n".join(lines)


@pytest.mark.parametrize(
    ("options", "environment", "files"),
    [
        ({"auth": {"method": "token"}}, {}, ["~/.vault-token"]),
        ({"auth": {"method": "token"}}, {"VAULT_TOKEN": ""}, ["~/.vault-token"]),
        ({"auth": {"method": "token"}}, {"VAULT_TOKEN": "t"}, []),
        ({"auth": {"method": "token"}}, {"BAO_TOKEN": "t"}, []),
        ({"auth": {"method": "token", "token_file": "/t"}}, {}, ["/t"]),
        ({"auth": {"method": "approle", "secret_id_file": "/s"}}, {}, ["/s"]),
        ({"auth": {"method": "approle", "secret_id_env": "S"}}, {}, []),
        ({"auth": {"method": "aws"}}, {}, ["~/.aws/config", "~/.aws/credentials"]),
        ({"auth": {"method": "kubernetes", "role": "r"}}, {}, []),
        ({}, {}, []),
    ],
)
def test_vault_on_which_files_an_identity_depends(
    options: dict[str, Any], environment: dict[str, str], files: list[str]
) -> None:
    """A token that was cached before one of them changed is nobody's any more."""
    assert list(VAULT.credential_files(options, environment)) == files


def test_vault_equal_meanings_are_equal_tables() -> None:
    """A mount's slashes, and the usual one where none is named."""
    assert VAULT.complete({"mount": "/kv/"}) == {"mount": "kv"}
    assert VAULT.complete({"address": "a"}) == {"address": "a", "mount": "secret"}


def test_vault_variables_and_what_they_hold() -> None:
    """OpenBao's own names count where Vault's aren't set; a token is a secret, the others pick an
    identity; the verification of TLS can't be skipped."""
    assert VAULT.variables == {
        "address": ("VAULT_ADDR", "BAO_ADDR"),
        "namespace": ("VAULT_NAMESPACE", "BAO_NAMESPACE"),
        "ca_cert": ("VAULT_CACERT", "BAO_CACERT"),
        "client_cert": ("VAULT_CLIENT_CERT", "BAO_CLIENT_CERT"),
        "client_key": ("VAULT_CLIENT_KEY", "BAO_CLIENT_KEY"),
    }
    assert VAULT.secret_variables == ("VAULT_TOKEN", "BAO_TOKEN")
    assert set(VAULT.identity_variables) == {
        name for pair in VAULT.variables.values() for name in pair
    }
    assert VAULT.address_variables == (
        *("VAULT_ADDR", "BAO_ADDR", "VAULT_NAMESPACE", "BAO_NAMESPACE"),
    )
    assert VAULT.ca_variables == ("VAULT_CACERT", "BAO_CACERT")
    assert {"VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY", "VAULT_CAPATH"} <= set(VAULT.unread_variables)
    assert VAULT.identity_of({"auth": {"method": "aws"}})[-11:] == list(aws_identity.VARIABLES)
    assert VAULT.identity_of({}) == list(VAULT.identity_variables)


def test_vault_what_each_login_needs() -> None:
    """And what `init` asks for; keys that name a variable or a file of a secret are known."""
    found = {
        name: (method.needs, method.needs_one_of, method.asked, method.variables, method.files)
        for name, method in VAULT.auth_methods.items()
    }
    ids = ("secret_id_file", "secret_id_env")
    assert found == {
        "token": ((), (), (), (), ("token_file",)),
        "approle": (
            *(("role_id",), ids, ("role_id", "secret_id_file")),
            *(("secret_id_env",), ("secret_id_file",)),
        ),
        "userpass": (
            *(("username", "password_env"), (), ("username", "password_env")),
            *(("password_env",), ()),
        ),
        "kubernetes": (("role",), (), ("role",), (), ()),
        "jwt": (("role", "jwt_file"), (), ("role", "jwt_file"), (), ()),
        "aws": ((), (), ("role",), (), ()),
        "none": ((), (), (), (), ()),
    }
    assert next(iter(found)) == "token"  # the first one is the default
    for name, method in VAULT.auth_methods.items():
        assert ("mount" in method.keys) is (name != "none")
    options = {"auth": {"method": "userpass", "password_env": "P"}}
    assert VAULT.named_variables(options) == ["P"]
    assert VAULT.named_variables({}) == VAULT.named_files({}) == []


# Secrets Manager's.


def statements(**needs: Any) -> dict[str, Any]:
    document = json.loads(policy(AWS, **needs))
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    assert all(statement["Effect"] == "Allow" for statement in document["Statement"])
    return {
        statement["Sid"]: {k: v for k, v in statement.items() if k not in ("Sid", "Effect")}
        for statement in document["Statement"]
    }


ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x-AbCdEf"


def test_aws_a_role_has_what_it_needs_and_no_more() -> None:
    """By names with the six characters that only AWS knows, or by an ARN as it is."""
    assert statements(reads=["a", ARN]) == {
        "Read": {
            "Action": ["secretsmanager:GetSecretValue"],
            "Resource": ["arn:*:secretsmanager:*:*:secret:a-??????", ARN],
        }
    }
    assert statements(writes=["r"], deletes=["d"]) == {
        "ReadAndWrite": {
            "Action": [
                "secretsmanager:GetSecretValue",
                "secretsmanager:PutSecretValue",
                "secretsmanager:CreateSecret",
                "secretsmanager:DescribeSecret",
                "secretsmanager:UpdateSecretVersionStage",
            ],
            "Resource": ["arn:*:secretsmanager:*:*:secret:r-??????"],
        },
        "Delete": {
            "Action": ["secretsmanager:DeleteSecret"],
            "Resource": ["arn:*:secretsmanager:*:*:secret:d-??????"],
        },
    }
    assert statements() == {}


KEY = "arn:aws:kms:eu-west-1:111122223333:key/0f8fad5b"
VIA = {
    "StringLike": {
        "kms:ViaService": ["secretsmanager.*.amazonaws.com", "secretsmanager.*.amazonaws.com.cn"]
    }
}


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        ("0f8fad5b", "arn:*:kms:*:*:key/0f8fad5b", None),
        (KEY, KEY, None),
        ("alias/mine", "arn:*:kms:*:*:key/*", "alias/mine"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/mine", "arn:*:kms:*:*:key/*", "alias/mine"),
    ],
)
def test_aws_a_key_is_used_through_secrets_manager_alone(
    key: str, resource: str, alias: str | None
) -> None:
    """Else the role could decrypt by itself what others keep under it; an alias is no resource."""
    condition: dict[str, Any] = dict(VIA)
    if alias:
        condition["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
    for needs, actions in (
        ({"reads": ["a"]}, ["kms:Decrypt"]),
        ({"writes": ["a"]}, ["kms:Decrypt", "kms:GenerateDataKey"]),
    ):
        assert statements(options={"kms_key_id": key}, **needs)["Key"] == {
            "Action": actions,
            "Resource": [resource],
            "Condition": condition,
        }


def test_aws_files_and_variables_of_its_chain() -> None:
    """An empty variable counts as unset."""
    assert aws_identity.files({"AWS_CONFIG_FILE": "/c", "AWS_SHARED_CREDENTIALS_FILE": "/s"}) == [
        *("/c", "/s"),
    ]
    usual = ["~/.aws/config", "~/.aws/credentials"]
    assert aws_identity.files({}) == aws_identity.files({"AWS_CONFIG_FILE": ""}) == usual
    assert aws_identity.files({"AWS_SHARED_CREDENTIALS_FILE": ""}) == usual
    assert list(AWS.credential_files({}, {"AWS_CONFIG_FILE": "/c"})) == ["/c", usual[1]]
    assert set(AWS.identity_variables) == {
        *aws_identity.VARIABLES,
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    }
    assert {"AWS_PROFILE", "AWS_REGION", "AWS_ACCESS_KEY_ID"} < set(AWS.identity_variables)
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & set(AWS.identity_variables)
    assert AWS.ca_variables == ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


# All of them.


def test_the_embedded_store_is_where_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else in the data directory."""
    monkeypatch.setenv("HOME", "/home/me")
    assert LOCAL.place({"path": "~/s"}, "/data") == "/home/me/s"
    assert LOCAL.place({}, "/data") == "/data"
    assert LOCAL.render_policy is None
    assert AWS.place({}, "/data") is VAULT.place({}, "/data") is None


def test_the_types_and_what_each_installs() -> None:
    """By the words of the configuration; a description is loaded once."""
    assert list(OURS) == ["local", "vault", "aws-secrets-manager"]
    for kind, (library, requirement, adapter) in {
        "local": ("", "", "nightporter.stores.local"),
        "vault": ("hvac", "nightporter[vault]", "nightporter.stores.vault"),
        "aws-secrets-manager": ("boto3", "nightporter[aws]", "nightporter.stores.secrets_manager"),
    }.items():
        found = STORES[kind]
        assert (found.type, found.library, found.requirement) == (kind, library, requirement)
        assert found.adapter == adapter
        assert STORES[kind] is found
    assert [question.key for question in (*VAULT.questions, *AWS.questions)] == [
        "address",
        "region",
    ]
    assert [question.is_needed for question in (*VAULT.questions, *AWS.questions)] == [True, False]
    assert len(STORES) == len(list(STORES)) >= 3
    with pytest.raises(KeyError):
        STORES["no-such-store"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module", "can't be loaded from no_such_module: ModuleNotFoundError"),
        ("json:DESCRIPTION", "can't be loaded from json: AttributeError"),
        ("json:dumps", "is not the description of a store of that type"),
        ("nightporter.stores.local_description", "is not the description of a store of that type"),
    ],
)
def test_a_foreign_type_that_can_not_be_loaded_is_said(
    value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of its entry point, and what to do."""
    about = tmp_path / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[nightporter.stores]\nshelf = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stores = type(STORES)()
    assert "shelf" in list(stores)
    with pytest.raises(ConfigError, match="shelf") as caught:
        stores["shelf"]
    assert words in caught.value.message
    assert caught.value.hint
