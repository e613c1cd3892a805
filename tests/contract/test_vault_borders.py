"""Whatever a user's Vault setup can cause has words, an exit code and a remedy. Each test is named
after the report that it came from."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme

from lab.patience import patience, until
from lab.servers.vault_front import Answer, Asked, front
from lab.support import BIN, OpenBao, clean_environment, free_port, open_openbao
from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreValueError,
)
from nightporter.session.port import ABSENT, Version
from nightporter.stores.vault import VaultStore

T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"


@pytest.fixture
def mount(openbao: OpenBao) -> str:
    mount = openbao.mount()
    openbao.put(mount, "ready", {"yes": "1"})
    return mount


def failure(
    options: dict[str, Any], environment: dict[str, str], *, is_write: bool = False
) -> NightporterError:
    store = VaultStore({"auth": {"method": "token"}, **options}, environment)
    try:
        with pytest.raises(NightporterError) as caught:
            if is_write:
                store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
            else:
                store.read(PATH, timeout_s=T)
    finally:
        store.close()
    return caught.value


def errors(*texts: str) -> bytes:
    return json.dumps({"errors": texts}).encode()


@pytest.mark.parametrize(
    "text",
    [
        "Upgrading from non-versioned to versioned data. This backend will be unavailable for a"
        " brief period and will resume service shortly.",
        "Waiting for the primary to upgrade from non-versioned to versioned data. This backend will"
        " be unavailable for a brief period and will resume service when the primary is finished.",
    ],
)
@pytest.mark.parametrize("part", ["data", "metadata"])
@pytest.mark.parametrize("is_write", [False, True])
def test_a_mount_that_is_being_prepared_is_tried_again(
    text: str, part: str, is_write: bool, openbao: OpenBao, mount: str
) -> None:
    """hashicorp/vault-plugin-secrets-kv#75, NVIDIA/nvcf#1110: a 400 after each mount, unseal and
    failover was called an invalid request, and a rotated token was left on the disk."""
    if part == "metadata" and not is_write:
        pytest.skip("a read asks for no metadata")

    def fault(asked: Asked) -> Answer | None:
        return (400, "application/json", errors(text)) if f"/{part}/" in asked.path else None

    with front(openbao, fault) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": openbao.token}
        error = failure({"mount": mount}, environment, is_write=is_write)
    assert isinstance(error, StoreBusyError)
    assert error.retryable


def test_another_400_stays_an_invalid_request(openbao: OpenBao, mount: str) -> None:
    """The text decides."""

    def fault(asked: Asked) -> Answer | None:
        return (400, "application/json", errors("no")) if "/data/" in asked.path else None

    with front(openbao, fault) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": openbao.token}
        error = failure({"mount": mount}, environment)
    assert isinstance(error, StoreValueError)
    assert "by hand" not in error.hint


def test_a_404_to_a_write_is_tried_again(openbao: OpenBao, mount: str) -> None:
    """A proxy's page: a write has no "not there"."""

    def fault(asked: Asked) -> Answer | None:
        is_write = asked.method != "GET" and "/data/" in asked.path
        return (404, "text/html", b"<html>no backend</html>") if is_write else None

    with front(openbao, fault) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": openbao.token}
        error = failure({"mount": mount}, environment, is_write=True)
    assert isinstance(error, StoreUnreachableError)


@pytest.mark.parametrize("given", ["{}\n", "{}\r\n", "\ufeff{}", "  {}  "])
def test_invisible_characters_around_a_token(given: str, openbao: OpenBao, mount: str) -> None:
    """hashicorp/vault#1774, #1902, hvac/hvac#337, apache/airflow#16406: 5.6 s, and "check the
    network: InvalidHeader"."""
    environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": given.format(openbao.token)}
    store = VaultStore({"mount": mount, "auth": {"method": "token"}}, environment)
    assert store.read(PATH, timeout_s=T).value is None
    store.close()


@pytest.mark.parametrize("content", ["\ufeff{}", "{}\r\n", "\ufeff{}\r\n"])
def test_invisible_characters_around_a_token_file(
    content: str, openbao: OpenBao, mount: str, tmp_path: Path
) -> None:
    """earendil-works/pi#7499, OctopusDeploy/Issues#10188: Windows writes a byte order mark."""
    file = tmp_path / "token"
    file.write_text(content.format(openbao.token), encoding="utf-8", newline="")
    auth = {"method": "token", "token_file": str(file)}
    store = VaultStore({"mount": mount, "auth": auth}, {"VAULT_ADDR": openbao.address})
    assert store.read(PATH, timeout_s=T).value is None
    store.close()


def test_a_character_in_the_middle_of_a_token_is_named() -> None:
    """Exit 2 with the variable, and nothing is sent."""
    environment = {"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "hunter\n2"}
    error = failure({}, environment)
    assert isinstance(error, ConfigError)
    assert "VAULT_TOKEN holds a line feed" in error.message
    assert "hunter" not in error.message


def test_openbao_s_own_variables_count_where_vault_s_are_not_set(
    openbao: OpenBao, mount: str
) -> None:
    """openbao/openbao#314, bank-vaults/secret-init PR 406."""
    environment = {"BAO_ADDR": openbao.address, "BAO_TOKEN": openbao.token}
    options = {"mount": mount, "auth": {"method": "token"}}
    assert VaultStore(options, environment).read(PATH, timeout_s=T).value is None
    both = {**environment, "VAULT_ADDR": "https://127.0.0.1:1"}
    assert isinstance(failure(options, both), StoreUnreachableError)


def test_an_address_with_v1_is_told_so() -> None:
    """It was "no such mount or namespace"."""
    error = failure({}, {"VAULT_ADDR": "https://vault.example/v1/", "VAULT_TOKEN": "t"})
    assert isinstance(error, ConfigError)
    assert "VAULT_ADDR" in error.message
    assert "/v1" in error.message


def test_https_to_a_server_that_speaks_none(openbao: OpenBao) -> None:
    """The commonest mistake with `bao server -dev`: it was "its certificate can't be verified"."""
    address = openbao.address.replace("http:", "https:")
    error = failure({}, {"VAULT_ADDR": address, "VAULT_TOKEN": "t"})
    assert "doesn't speak TLS" in error.message
    assert "ca_cert" not in error.hint


def test_a_socks_proxy_without_pysocks() -> None:
    """psf/requests#3516, Azure/azure-cli#18930."""
    environment = {
        "VAULT_ADDR": "https://vault.example",
        "VAULT_TOKEN": "t",
        "HTTPS_PROXY": "socks5h://127.0.0.1:1",
    }
    error = failure({}, environment)
    assert isinstance(error, ConfigError)
    assert "PySocks" in error.hint
    assert "HTTPS_PROXY" in error.message


@contextmanager
def tls_server(certificate: trustme.LeafCert, client_ca: trustme.CA | None = None) -> Iterator[str]:
    """A listener that answers each read with a 404 of KV version 2."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = errors()
            if "internal/ui" in self.path:
                body = json.dumps({"data": {"options": {"version": "2"}}}).encode()
            self.send_response(200 if "internal/ui" in self.path else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return str(file)


def test_tls_failures_are_told_apart(ca: trustme.CA, ca_file: str) -> None:
    """Another name, an unknown CA: each has its own remedy."""
    environment = {"VAULT_TOKEN": "t"}
    with tls_server(ca.issue_cert("vault.example")) as address:
        error = failure({"address": address, "ca_cert": ca_file}, environment)
        assert "for another name" in error.message
    with tls_server(trustme.CA().issue_cert("127.0.0.1")) as address:
        error = failure({"address": address, "ca_cert": ca_file}, environment)
        assert "unknown CA" in error.message
        assert "VAULT_CACERT" in error.hint


def test_a_listener_that_wants_a_client_certificate(
    ca: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """external-secrets/external-secrets#1139, cert-manager/cert-manager#6613: it was "its
    certificate can't be verified"."""
    leaf = ca.issue_cert("porter.example")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    leaf.cert_chain_pems[0].write_to_path(certificate)
    leaf.private_key_pem.write_to_path(key)
    environment = {"VAULT_TOKEN": "t"}
    with tls_server(ca.issue_cert("127.0.0.1"), ca) as address:
        options = {"address": address, "ca_cert": ca_file}
        error = failure(options, environment)
        assert "client certificate" in error.message
        assert "VAULT_CLIENT_CERT" in error.hint
        by_key = {**options, "client_cert": str(certificate), "client_key": str(key)}
        named = {"VAULT_CLIENT_CERT": str(certificate), "VAULT_CLIENT_KEY": str(key)}
        for given, variables in ((by_key, {}), (options, named)):
            store = VaultStore({"auth": {"method": "token"}, **given}, {**environment, **variables})
            assert store.read(PATH, timeout_s=T).value is None
            store.close()


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_client_certificate_that_can_t_be_used(content: bytes | None, tmp_path: Path) -> None:
    """A missing file there was a defect (OSError)."""
    file = tmp_path / "client.pem"
    if content is not None:
        file.write_bytes(content)
    error = failure(
        {},
        {"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "t", "VAULT_CLIENT_CERT": str(file)},
    )
    assert isinstance(error, ConfigError)
    assert "VAULT_CLIENT_CERT" in error.message


@pytest.mark.parametrize("kind", [RuntimeError, OSError, UnicodeError, RecursionError])
def test_no_exception_of_a_library_leaves(kind: type[Exception], openbao: OpenBao) -> None:
    """One translation at the border that has no gaps."""
    environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": "t"}
    store = VaultStore({"auth": {"method": "token"}}, environment)

    def fail(_client: Any) -> None:
        raise kind

    with pytest.raises((StoreError, ConfigError)):
        store._call(fail, "read", T)


def test_a_proxy_of_vault_brings_its_own_token(
    openbao: OpenBao, mount: str, tmp_path: Path
) -> None:
    """hvac/hvac#515, hashicorp/terraform-provider-vault#1192: a real `bao proxy` with auto-auth,
    and no token of ours."""
    token, config, port = tmp_path / "token", tmp_path / "proxy.hcl", free_port()
    token.write_text(openbao.token)
    config.write_text(
        f'''
vault {{ address = "{openbao.address}" }}
auto_auth {{ method "token_file" {{ config = {{ token_file_path = "{token}" }} }} }}
api_proxy {{ use_auto_auth_token = true }}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
'''
    )
    process = subprocess.Popen(
        [str(BIN / "bao"), "proxy", f"-config={config}"],
        env=clean_environment(HOME=str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    options = {"address": f"http://127.0.0.1:{port}", "mount": mount}
    try:
        store = VaultStore({**options, "auth": {"method": "none"}}, {})

        def written() -> Version | None:
            with contextlib.suppress(StoreUnreachableError, StoreDeniedError):
                return store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T)
            return None

        version = until(written)
        assert store.read(PATH, timeout_s=T).version == version
        store.close()
    finally:
        process.kill()
        process.wait()
    error = failure(options, {"HOME": str(tmp_path)})
    assert not isinstance(error, StoreDeniedError) or 'method = "none"' in error.hint


def test_a_renewed_ca_file_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    """A long process sees the file that its administrator has replaced."""
    with open_openbao(tls=True) as server:
        assert server.ca_cert is not None
        file = tmp_path / "ca.pem"
        right = Path(server.ca_cert).read_bytes()
        file.write_bytes(right)
        environment = {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
        store = VaultStore({"ca_cert": str(file), "auth": {"method": "token"}}, environment)
        assert store.read(PATH, timeout_s=T).value is None
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        other.replace(file)
        with pytest.raises(StoreUnreachableError, match="unknown CA"):
            store.read(PATH, timeout_s=T)
        file.write_bytes(right)
        assert store.read(PATH, timeout_s=T).value is None
        store.close()


@pytest.mark.parametrize("prefix", ["data/", "{mount}/data/"])
def test_a_path_with_the_mount_or_data_in_it_is_told_so(
    prefix: str, openbao: OpenBao, mount: str
) -> None:
    """Vault's API has data/ between mount and path; its command line and ours don't."""
    notes: list[str] = []
    environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    options = {"mount": mount, "auth": {"method": "token"}}
    store = VaultStore(options, environment, notify=notes.append)
    path = prefix.format(mount=mount) + "ready"
    assert store.read(path, timeout_s=T).value is None
    assert "without data/" in notes[0]
    store.close()
