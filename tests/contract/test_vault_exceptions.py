"""Every answer that comes from Vault's address, and every exception of hvac and requests, has a
meaning of its own: none leaves as a defect, and a page of a proxy is never taken for Vault's
word."""

from __future__ import annotations

import inspect
import json
import socket
import time
from threading import Thread

import hvac.exceptions
import pytest
import requests.exceptions

from lab.patience import patience, within
from lab.servers.vault_front import Answer, Asked, front
from lab.support import OpenBao
from nightporter.core.errors import (
    ConfigError,
    NightporterError,
    StoreDeniedError,
    StoreSealedError,
    StoreUnreachableError,
    StoreValueError,
)
from nightporter.session.port import ABSENT, Version
from nightporter.stores.vault import VaultStore
from nightporter.stores.vault_errors import error_of

T = patience(10.0)
PATH = "prod/pitchpoint/refresh-token"
ADDRESS = "https://vault.example"


def classes(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, root) and not issubclass(kind, Warning)
    ]


def instance(kind: type[Exception]) -> Exception:
    for arguments in ((), ("text",), ("text", "text", 0)):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *classes(hvac.exceptions, hvac.exceptions.VaultError),
        *classes(requests.exceptions, requests.exceptions.RequestException),
        *(OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError, UnicodeError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_exception_of_hvac_and_requests_is_translated(kind: type[Exception]) -> None:
    """Words, an exit code and a remedy for each."""
    error = error_of(instance(kind), ADDRESS, "read on secret/data/a", {})
    assert error.exit_code in (2, 5)
    assert ADDRESS in error.message or isinstance(error, ConfigError)
    assert error.hint
    assert "defect" not in error.hint


PAGE = b"<html>blocked by the web application firewall</html>"
BODIES = (PAGE, b"", b"null", b"[]", b'"text"', b"\xff", b"[" * 5000, b'{"message": "no route"}')


def answers(body: bytes, kind: str) -> list[tuple[int, str, bytes]]:
    statuses = (200, 204, 400, 401, 403, 404, 405, 409, 412, 413, 418, 472, 500, 501, 502, 503, 504)
    return [(status, kind, body) for status in statuses]


PAGES = [
    *answers(PAGE, "text/html"),
    *[(status, "application/json", body) for status in (200, 403, 404) for body in BODIES[1:]],
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page[0]} {page[2][:12]!r}")
def test_a_page_of_a_proxy_is_never_vault_s_word(page: Answer, openbao: OpenBao) -> None:
    """A 404 of a load balancer was "there is no secret", its 403 "a right is missing", and both ask
    the wrong person. No read is absent, no write is done, nothing is a defect."""
    with front(openbao, lambda _asked: page) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": "t"}
        store = VaultStore({"auth": {"method": "token"}}, environment)
        for call in (
            lambda: store.read(PATH, timeout_s=T),
            lambda: store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=T),
            lambda: store.write(PATH, {"n": 1}, Version("3"), None, timeout_s=T),
            lambda: store.missing_rights([PATH], [], timeout_s=T),
        ):
            with pytest.raises(NightporterError) as caught:
                call()
            assert caught.value.exit_code == 5
            assert not isinstance(caught.value, (StoreDeniedError, StoreValueError))
            assert not isinstance(caught.value, StoreSealedError)
            assert "store's own log" not in caught.value.hint
        store.close()


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (503, "Vault is sealed", StoreSealedError),
        (503, "error performing token check: Vault is sealed", StoreSealedError),
        (501, "server is not yet initialized", StoreSealedError),
        (500, "local node not active but active cluster node not found", StoreUnreachableError),
        (500, "internal error", StoreUnreachableError),
        (412, "required index state not present", StoreUnreachableError),
        (405, "unsupported operation", StoreValueError),
        (404, "no handler for route 'kv/data/x'", StoreDeniedError),
        (403, "permission denied", StoreDeniedError),
    ],
)
@pytest.mark.parametrize("media", ["application/json", "application/json; charset=utf-8"])
def test_vault_s_own_word_is_read_under_any_media_type(
    status: int, said: str, kind: type[NightporterError], media: str, openbao: OpenBao
) -> None:
    """hvac reads JSON under the plain type alone; a proxy may add a charset."""
    answer = (status, media, json.dumps({"errors": [said]}).encode())
    with front(openbao, lambda _asked: answer) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": "t"}
        store = VaultStore({"auth": {"method": "token"}}, environment)
        with pytest.raises(kind):
            store.read(PATH, timeout_s=T)
        store.close()


def test_absence_is_told_under_any_media_type(openbao: OpenBao) -> None:
    """An empty list of errors is Vault's word for "no such key"."""
    mount = openbao.mount()
    openbao.put(mount, "ready", {"yes": "1"})

    def answer(asked: Asked) -> Answer | None:
        is_read = asked.method == "GET" and "/data/" in asked.path
        return (404, "application/json; charset=utf-8", b'{"errors":[]}') if is_read else None

    with front(openbao, answer) as address:
        environment = {"VAULT_ADDR": address, "VAULT_TOKEN": openbao.token}
        store = VaultStore({"mount": mount, "auth": {"method": "token"}}, environment)
        assert store.read(PATH, timeout_s=T).version == ABSENT
        store.close()


def test_a_dead_token_is_told_from_a_missing_right(openbao: OpenBao) -> None:
    """Vault says "permission denied" for both; a policy doesn't help a token that has run out."""
    mount = openbao.mount()
    openbao.put(mount, "ready", {"yes": "1"})
    poor = openbao.token_with(f'path "{mount}/data/other" {{ capabilities = ["read"] }}')
    for token, right, remedy in (
        (poor, f"read on {mount}/data/{PATH}", "nightporter policy"),
        ("hvs.nobody", "", "vault login"),
    ):
        environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": token}
        store = VaultStore({"mount": mount, "auth": {"method": "token"}}, environment)
        with pytest.raises(StoreDeniedError) as caught:
            store.read(PATH, timeout_s=T)
        assert right in caught.value.right
        assert remedy in caught.value.hint
        store.close()


def test_a_token_that_no_header_can_carry() -> None:
    """A word processor's dash: it was "answered what Vault never would"."""
    environment = {"VAULT_ADDR": ADDRESS, "VAULT_TOKEN": "hvs.hunter\u20132"}
    store = VaultStore({"auth": {"method": "token"}}, environment)
    with pytest.raises(ConfigError, match="VAULT_TOKEN") as caught:
        store.read(PATH, timeout_s=T)
    assert "hunter" not in caught.value.message + caught.value.hint


def test_a_name_look_up_that_hangs_costs_no_more_than_the_time_given(
    openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket option bounds it; and what was given up on sends nothing afterwards."""
    seen: list[str] = []
    usual = socket.getaddrinfo

    def hang(host: str, *arguments: object, **options: object) -> object:
        time.sleep(1.5)
        return usual("127.0.0.1", *arguments, **options)  # type: ignore[arg-type]

    with front(openbao, lambda asked: seen.append(asked.path)) as address:
        port = address.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        environment = {"VAULT_ADDR": f"http://localhost:{port}", "VAULT_TOKEN": "t"}
        store = VaultStore({"auth": {"method": "token"}}, environment)
        with within(1.4), pytest.raises(StoreUnreachableError, match="within 1 s"):
            store.write(PATH, {"n": 1}, ABSENT, None, timeout_s=0.7)
        time.sleep(1.5)
        assert seen == []


def test_an_answer_that_drips_costs_no_more_than_the_time_given(openbao: OpenBao) -> None:
    """A time limit per read of a socket starts anew at each byte."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            for char in "HTTP/1.1 200 OK\r\nX-Slow: " + "x" * 100:
                try:
                    connection.sendall(char.encode())
                except OSError:
                    return
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=serve, args=(listener,), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        store = VaultStore({"address": address, "auth": {"method": "none"}}, {})
        with within(2.0), pytest.raises(StoreUnreachableError):
            store.read(PATH, timeout_s=1.0)
