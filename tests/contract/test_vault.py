"""Vault's own ways, on a real OpenBao server: TTL, rights, logins, and everything that can be
wrong with it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme

from lab.patience import patience, until
from lab.support import OpenBao, free_port, open_openbao
from nightporter.core.errors import (
    ConfigError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreSealedError,
    StoreUnreachableError,
    StoreValueError,
)
from nightporter.core.expiry import format_rfc3339, parse_rfc3339
from nightporter.session.port import ABSENT, KEEP_EXPIRY, Version
from nightporter.stores.vault import VaultStore

T = patience(10.0)
CREDENTIALS, SESSION = "prod/pitchpoint", "prod/pitchpoint/refresh-token"


@pytest.fixture
def mount(openbao: OpenBao) -> str:
    mount = openbao.mount()
    openbao.put(mount, CREDENTIALS, {"username": "svc", "password": "p"})
    return mount


def open_store(
    server: OpenBao, mount: str, *, token: str | None = None, notes: list[str] | None = None
) -> VaultStore:
    return VaultStore(
        {"mount": mount, "auth": {"method": "token"}},
        {"VAULT_ADDR": server.address, "VAULT_TOKEN": token or server.token},
        notify=(notes if notes is not None else []).append,
    )


def ttl_problem(metadata: Any, ends: int) -> str | None:
    newest = metadata["versions"][str(metadata["current_version"])]
    late = parse_rfc3339(newest["deletion_time"]) - ends
    return None if 0 <= late <= 5 else f"{late} s after the expiry"


def value_until(ends: int, **more: Any) -> dict[str, Any]:
    return {"refresh_token": "r", "expires_at": format_rfc3339(ends), **more}


# TTL.


def test_the_ttl_is_native_and_only_one_version_is_kept(openbao: OpenBao, mount: str) -> None:
    store, ends = open_store(openbao, mount), int(time.time()) + 97_223
    first = store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    store.write(SESSION, value_until(ends, n=2), first, ends, timeout_s=T)
    metadata = openbao.metadata(mount, SESSION)
    assert ttl_problem(metadata, ends) is None
    assert metadata["max_versions"] == 1
    assert list(metadata["versions"]) == ["2"]


def test_a_ttl_that_another_writer_left_is_repaired(openbao: OpenBao, mount: str) -> None:
    """delete_version_after belongs to the key: between metadata and data another writer's may slip
    in."""
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    store.read(SESSION, timeout_s=T)
    set_ttl = store._set_ttl
    spoiled: list[int] = []

    def spoil_once(
        path: str, expires_at: int | None, now: float, timeout_s: float, value: Mapping[str, Any]
    ) -> bool:
        answer = set_ttl(path, expires_at, now, timeout_s, value)
        if not spoiled:
            spoiled.append(1)
            openbao.call("POST", f"{mount}/metadata/{path}", {"delete_version_after": "15s"})
        return answer

    store._set_ttl = spoil_once  # type: ignore[method-assign]  # the other writer's move, at the worst moment
    store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    assert ttl_problem(openbao.metadata(mount, SESSION), ends) is None


def test_a_clock_that_runs_wrong_here_is_made_up_for(openbao: OpenBao, mount: str) -> None:
    """The TTL is a duration that the server counts from its own clock."""
    store = VaultStore(
        {"mount": mount, "auth": {"method": "token"}},
        {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token},
        clock=lambda: time.time() - 600,
    )
    ends = int(time.time()) + 7200
    store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    assert ttl_problem(openbao.metadata(mount, SESSION), ends) is None


def test_a_claim_leaves_the_metadata_alone(openbao: OpenBao, mount: str) -> None:
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    first = store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    before = openbao.metadata(mount, SESSION)["delete_version_after"]
    store.write(SESSION, value_until(ends, claim={"holder": "x"}), first, KEEP_EXPIRY, timeout_s=T)
    assert openbao.metadata(mount, SESSION)["delete_version_after"] == before


def test_no_expiry_takes_a_former_ttl_away(openbao: OpenBao, mount: str) -> None:
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    first = store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    store.write(SESSION, {"refresh_token": None, "expires_at": None}, first, None, timeout_s=T)
    metadata = openbao.metadata(mount, SESSION)
    assert metadata["versions"]["2"]["deletion_time"] == ""


def test_after_a_native_deletion_the_version_goes_on(openbao: OpenBao, mount: str) -> None:
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    openbao.call("DELETE", f"{mount}/data/{SESSION}")
    gone = store.read(SESSION, timeout_s=T)
    assert (gone.value, gone.version.token) == (None, "1")
    assert store.write(SESSION, value_until(ends), gone.version, ends, timeout_s=T).token == "2"


def test_a_deleted_value_can_not_be_undeleted(openbao: OpenBao, mount: str) -> None:
    """The TTL is a soft delete: what must be gone is destroyed."""
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    version = store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    store.delete(SESSION, version, timeout_s=T)
    openbao.call("POST", f"{mount}/undelete/{SESSION}", {"versions": [1, 2]})
    assert store.read(SESSION, timeout_s=T).value is None
    assert all(
        version["destroyed"] for version in openbao.metadata(mount, SESSION)["versions"].values()
    )


def test_a_swept_value_can_not_be_undeleted(openbao: OpenBao, mount: str) -> None:
    store, ends = open_store(openbao, mount), int(time.time()) + 7200
    store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    openbao.call("DELETE", f"{mount}/data/{SESSION}")  # what the TTL will do
    assert store.sweep(SESSION, timeout_s=T)
    openbao.call("POST", f"{mount}/undelete/{SESSION}", {"versions": [1]})
    assert store.read(SESSION, timeout_s=T).value is None
    assert not store.sweep(SESSION, timeout_s=T)


# Rights.


def minimal_policy(mount: str) -> str:
    return f"""
path "{mount}/data/{CREDENTIALS}" {{ capabilities = ["read"] }}
path "{mount}/data/{SESSION}" {{ capabilities = ["create", "read", "update"] }}
path "{mount}/metadata/{SESSION}" {{
  capabilities = ["create", "update", "patch", "read"]
  allowed_parameters = {{ "delete_version_after" = [], "max_versions" = [] }}
}}
"""


def test_the_minimal_policy_suffices(openbao: OpenBao, mount: str) -> None:
    notes: list[str] = []
    store = open_store(openbao, mount, token=openbao.token_with(minimal_policy(mount)), notes=notes)
    ends = int(time.time()) + 7200
    assert store.read(CREDENTIALS, timeout_s=T).value == {"username": "svc", "password": "p"}
    assert store.read(SESSION, timeout_s=T).value is None
    version = store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    version = store.write(SESSION, value_until(ends, claim={}), version, KEEP_EXPIRY, timeout_s=T)
    version = store.write(SESSION, value_until(ends), version, ends, timeout_s=T)
    assert ttl_problem(openbao.metadata(mount, SESSION), ends) is None
    store.delete(SESSION, version, timeout_s=T)
    assert store.read(SESSION, timeout_s=T).value is None
    assert notes == []


def test_a_missing_right_is_named(openbao: OpenBao, mount: str) -> None:
    store = open_store(
        openbao,
        mount,
        token=openbao.token_with(f'path "{mount}/data/x" {{ capabilities = ["read"] }}'),
    )
    with pytest.raises(StoreDeniedError) as denied:
        store.read(SESSION, timeout_s=T)
    assert f"read on {mount}/data/{SESSION}" in str(denied.value)
    assert denied.value.right in denied.value.message
    assert "expired" not in denied.value.message  # a policy has said it, so the token lives
    with pytest.raises(StoreDeniedError) as denied:
        store.write("x", {"n": "1"}, ABSENT, KEEP_EXPIRY, timeout_s=T)
    assert f"create and update on {mount}/data/x" in str(denied.value)


def test_a_missing_right_to_the_metadata_does_not_cost_the_result(
    openbao: OpenBao, mount: str
) -> None:
    policy = f'path "{mount}/data/{SESSION}" {{ capabilities = ["create", "read", "update"] }}'
    notes: list[str] = []
    store = open_store(openbao, mount, token=openbao.token_with(policy), notes=notes)
    ends = int(time.time()) + 7200
    store.write(SESSION, value_until(ends), ABSENT, ends, timeout_s=T)
    assert store.read(SESSION, timeout_s=T).value == value_until(ends)
    assert "metadata" in notes[0]


def test_a_garbage_token_is_denied(openbao: OpenBao, mount: str) -> None:
    with pytest.raises(StoreDeniedError, match="token has expired"):
        open_store(openbao, mount, token="garbage").read(SESSION, timeout_s=T)


def test_a_mount_that_is_not_there(openbao: OpenBao) -> None:
    with pytest.raises(StoreDeniedError):
        open_store(openbao, "nowhere").read(SESSION, timeout_s=T)


def test_a_version_1_mount_is_refused_with_the_command_that_upgrades_it(openbao: OpenBao) -> None:
    mount = openbao.mount(version=1)
    store = open_store(openbao, mount)
    with pytest.raises(StoreValueError) as refused:
        store.write(SESSION, {"n": "1"}, ABSENT, None, timeout_s=T)
    assert f"vault kv enable-versioning {mount}/" in refused.value.hint
    with pytest.raises(StoreValueError):
        store.read(SESSION, timeout_s=T)


# Away, sealed, slow, strange.


def test_sealed() -> None:
    with open_openbao() as server:
        mount = server.mount()
        store = open_store(server, mount)
        server.call("PUT", "sys/seal", {})
        with pytest.raises(StoreSealedError):
            store.read(SESSION, timeout_s=T)


def test_down() -> None:
    server = OpenBao(address=f"http://127.0.0.1:{free_port()}", token="t")
    with pytest.raises(StoreUnreachableError, match="can't be reached"):
        open_store(server, "secret").read(SESSION, timeout_s=T)


@contextmanager
def canned(status: int, body: bytes, **headers: str) -> Iterator[OpenBao]:
    """A server that answers everything alike: what no OpenBao can be made to say."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield OpenBao(address=f"http://127.0.0.1:{server.server_address[1]}", token="t")
    finally:
        server.shutdown()
        server.server_close()


def test_429_with_retry_after_0_is_busy_and_asks_for_nothing(openbao: OpenBao) -> None:
    with canned(429, json.dumps({"errors": ["request path"]}).encode(), Retry_After="0") as server:
        with pytest.raises(StoreBusyError) as busy:
            open_store(server, "secret").read(SESSION, timeout_s=T)
        assert busy.value.retryable


def test_a_real_rate_quota(openbao: OpenBao, mount: str) -> None:
    openbao.call(
        "POST",
        f"sys/quotas/rate-limit/{mount}",
        {"path": f"{mount}/", "rate": 1.0, "interval": "60s"},
    )
    store = open_store(openbao, mount)
    try:
        with pytest.raises(StoreBusyError):
            for _ in range(10):
                store.read(CREDENTIALS, timeout_s=T)
    finally:
        openbao.call("DELETE", f"sys/quotas/rate-limit/{mount}")


def test_the_token_does_not_follow_a_redirect() -> None:
    with (
        canned(200, b"{}") as elsewhere,
        canned(307, b"", Location=f"{elsewhere.address}/v1/x") as server,
    ):
        with pytest.raises(StoreUnreachableError, match="redirects"):
            open_store(server, "secret").read(SESSION, timeout_s=T)


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b"{}", b'{"data": 7}', b"null", b""]
)
def test_an_answer_that_no_vault_gives(body: bytes) -> None:
    with canned(200, body) as server, pytest.raises(StoreError):
        open_store(server, "secret").read(SESSION, timeout_s=T)


def test_plain_http_elsewhere_is_refused() -> None:
    store = VaultStore({}, {"VAULT_ADDR": "http://vault.example:8200", "VAULT_TOKEN": "t"})
    with pytest.raises(ConfigError, match="https"):
        store.read(SESSION, timeout_s=T)


def test_no_address() -> None:
    with pytest.raises(ConfigError) as missing:
        VaultStore({}, {}).read(SESSION, timeout_s=T)
    assert "VAULT_ADDR" in missing.value.hint


# TLS and namespaces.


def test_tls_is_verified_against_the_ca_that_is_named() -> None:
    with open_openbao(tls=True) as server:
        environment = {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
        with pytest.raises(StoreUnreachableError, match="certificate"):
            VaultStore({}, environment).read(SESSION, timeout_s=T)
        assert server.ca_cert is not None
        store = VaultStore({}, {**environment, "VAULT_CACERT": server.ca_cert})
        assert store.read(SESSION, timeout_s=T).value is None
        store = VaultStore({"ca_cert": server.ca_cert}, environment)
        assert store.read(SESSION, timeout_s=T).value is None


def test_namespaces(openbao: OpenBao) -> None:
    team = f"team-{secrets.token_hex(4)}"
    openbao.call("POST", f"sys/namespaces/{team}", {})
    openbao.call(
        "POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, namespace=team
    )
    environment = {
        "VAULT_ADDR": openbao.address,
        "VAULT_TOKEN": openbao.token,
        "VAULT_NAMESPACE": team,
    }
    store = VaultStore({"mount": "kv"}, environment)

    def written() -> Version | None:
        with contextlib.suppress(StoreValueError):  # a new version 2 mount needs a moment
            return store.write(SESSION, {"n": "1"}, ABSENT, None, timeout_s=T)
        return None

    until(written)
    assert store.read(SESSION, timeout_s=T).value == {"n": "1"}
    with pytest.raises(StoreDeniedError):
        other = VaultStore({"mount": "kv", "namespace": f"{team}-b"}, environment)
        other.read(SESSION, timeout_s=T)


# Logins.


def store_with(server: OpenBao, mount: str, auth: dict[str, Any], **environment: str) -> VaultStore:
    return VaultStore({"mount": mount, "auth": auth}, {"VAULT_ADDR": server.address, **environment})


def grant(server: OpenBao, mount: str, name: str) -> None:
    policy = f'path "{mount}/*" {{ capabilities = ["create", "read", "update"] }}'
    server.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})


def test_the_vault_cli_s_token_file(
    openbao: OpenBao, mount: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = store_with(openbao, mount, {"method": "token"})
    with pytest.raises(StoreDeniedError, match="no Vault token"):
        store.read(CREDENTIALS, timeout_s=T)
    (tmp_path / ".vault-token").write_text(openbao.token + "\n")
    assert store.read(CREDENTIALS, timeout_s=T).value is not None
    (tmp_path / "sink").write_text(openbao.token)
    named = store_with(openbao, mount, {"method": "token", "token_file": str(tmp_path / "sink")})
    assert named.read(CREDENTIALS, timeout_s=T).value is not None


def test_approle(openbao: OpenBao, mount: str, tmp_path: Path) -> None:
    path = f"approle-{mount}"
    grant(openbao, mount, mount)
    openbao.call("POST", f"sys/auth/{path}", {"type": "approle"})
    openbao.call(
        "POST", f"auth/{path}/role/porter", {"token_policies": [mount], "secret_id_num_uses": 2}
    )
    role_id = openbao.call("GET", f"auth/{path}/role/porter/role-id")["data"]["role_id"]
    secret_id = openbao.call("POST", f"auth/{path}/role/porter/secret-id", {})["data"]["secret_id"]
    (tmp_path / "secret-id").write_text(secret_id + "\n")
    auth = {"method": "approle", "role_id": role_id, "mount": path}
    by_file = store_with(openbao, mount, {**auth, "secret_id_file": str(tmp_path / "secret-id")})
    assert by_file.read(CREDENTIALS, timeout_s=T).value is not None
    by_variable = store_with(
        openbao, mount, {**auth, "secret_id_env": "SECRET_ID"}, SECRET_ID=secret_id
    )
    assert by_variable.read(CREDENTIALS, timeout_s=T).value is not None
    used_up = store_with(
        openbao, mount, {**auth, "secret_id_env": "SECRET_ID"}, SECRET_ID=secret_id
    )
    with pytest.raises(StoreDeniedError, match="refused the approle login"):
        used_up.read(CREDENTIALS, timeout_s=T)


def test_a_login_is_given_back_at_the_end(openbao: OpenBao, mount: str) -> None:
    """Each login leaves a lease: a thousand functions would leave a thousand."""
    store = userpass(openbao, mount, "correct")
    store.read(CREDENTIALS, timeout_s=T)
    client = store._client
    assert client is not None
    token = client.token
    store.close()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        openbao.call("GET", "auth/token/lookup-self", token=token)


def test_a_token_that_ran_out_is_fetched_anew(openbao: OpenBao, mount: str) -> None:
    store = userpass(openbao, mount, "correct")
    store.read(CREDENTIALS, timeout_s=T)
    client = store._client
    assert client is not None
    openbao.call("POST", "auth/token/revoke", {"token": client.token})
    assert store.read(CREDENTIALS, timeout_s=T).value is not None


def userpass(server: OpenBao, mount: str, password: str) -> VaultStore:
    path = f"userpass-{mount}"
    grant(server, mount, mount)
    if f"{path}/" not in server.call("GET", "sys/auth")["data"]:
        server.call("POST", f"sys/auth/{path}", {"type": "userpass"})
    server.call(
        "POST", f"auth/{path}/users/porter", {"password": "correct", "token_policies": [mount]}
    )
    auth = {
        "method": "userpass",
        "username": "porter",
        "password_env": "PORTER_PASSWORD",
        "mount": path,
    }
    return store_with(server, mount, auth, PORTER_PASSWORD=password)


def test_userpass(openbao: OpenBao, mount: str) -> None:
    assert userpass(openbao, mount, "correct").read(CREDENTIALS, timeout_s=T).value is not None
    with pytest.raises(StoreDeniedError, match="refused the userpass login"):
        userpass(openbao, mount, "wrong").read(CREDENTIALS, timeout_s=T)


def jwt_pair() -> tuple[str, str]:
    """A signed JWT of subject `porter`, and the public key that verifies it."""
    import base64

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)

    def part(document: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims: dict[str, Any] = {
        "sub": "porter",
        "aud": ["vault"],
        "iss": "tests",
        "exp": int(time.time()) + 600,
    }
    claims |= {"iat": int(time.time()) - 10, "nbf": int(time.time()) - 10}
    claims["kubernetes.io"] = {
        "namespace": "apps",
        "serviceaccount": {"name": "porter", "uid": "u-1"},
    }
    signed = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}"
    signature = base64.urlsafe_b64encode(
        key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    ).rstrip(b"=")
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"{signed}.{signature.decode()}", public.decode()


def test_jwt(openbao: OpenBao, mount: str, tmp_path: Path) -> None:
    jwt, public_key = jwt_pair()
    path = f"jwt-{mount}"
    grant(openbao, mount, mount)
    openbao.call("POST", f"sys/auth/{path}", {"type": "jwt"})
    openbao.call("POST", f"auth/{path}/config", {"jwt_validation_pubkeys": [public_key]})
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "token_policies": [mount],
    }
    openbao.call("POST", f"auth/{path}/role/porter", role)
    (tmp_path / "jwt").write_text(jwt)
    auth = {"method": "jwt", "role": "porter", "jwt_file": str(tmp_path / "jwt"), "mount": path}
    assert store_with(openbao, mount, auth).read(CREDENTIALS, timeout_s=T).value is not None
    with pytest.raises(StoreDeniedError, match="jwt login"):
        store_with(openbao, mount, {**auth, "role": "other"}).read(CREDENTIALS, timeout_s=T)


def test_kubernetes(openbao: OpenBao, mount: str, tmp_path: Path) -> None:
    """Against a stand-in for the cluster's TokenReview, which is all that OpenBao asks of it."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": {
            "authenticated": True,
            "audiences": ["vault"],
            "user": {"username": "system:serviceaccount:apps:porter", "uid": "u-1", "groups": []},
        },
    }
    jwt, _ = jwt_pair()
    path = f"kubernetes-{mount}"
    grant(openbao, mount, mount)
    (tmp_path / "jwt").write_text(jwt)
    with canned(201, json.dumps(review).encode(), Content_Type="application/json") as cluster:
        openbao.call("POST", f"sys/auth/{path}", {"type": "kubernetes"})
        openbao.call(
            "POST",
            f"auth/{path}/config",
            {
                "kubernetes_host": cluster.address,
                "disable_local_ca_jwt": True,
                "token_reviewer_jwt": jwt,
                "kubernetes_ca_cert": trustme.CA().cert_pem.bytes().decode(),
            },
        )
        role = {
            "bound_service_account_names": "porter",
            "bound_service_account_namespaces": "apps",
            "token_policies": [mount],
        }
        openbao.call("POST", f"auth/{path}/role/porter", role)
        auth = {
            "method": "kubernetes",
            "role": "porter",
            "jwt_file": str(tmp_path / "jwt"),
            "mount": path,
        }
        assert store_with(openbao, mount, auth).read(CREDENTIALS, timeout_s=T).value is not None
