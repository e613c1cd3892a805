"""What is sent to log in to Vault, method by method, which token is ours to revoke, and what a
refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import hvac.exceptions
import pytest
from hvac.adapters import JSONAdapter

from nightporter.core.errors import StoreDeniedError
from nightporter.stores.vault_login import Login, VaultToken

ADDRESS = "https://v.example"


class Asked:
    """An adapter of hvac that notes what it is asked."""

    def __init__(self, reply: Any = None) -> None:
        self.reply = reply or {"auth": {"client_token": "T", "token_type": "service"}}
        self.calls: list[tuple[Any, Any, Any]] = []

    def login(self, url: str, *, use_token: bool, json: Any = None, **_more: Any) -> Any:
        self.calls.append((url, use_token, json))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def run(
    auth: dict[str, Any], environment: dict[str, str] | None = None, reply: Any = None
) -> tuple[VaultToken, Asked]:
    asked = Asked(reply)
    token = Login(auth, environment or {}).run(cast(JSONAdapter, asked), ADDRESS)
    return token, asked


@pytest.fixture
def jwt_file(tmp_path: Path) -> str:
    file = tmp_path / "jwt"
    file.write_text("J.W.T\n")
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize("mount", [None, "mine"])
@pytest.mark.parametrize(
    ("method", "more", "path", "members"),
    [
        (
            "approle",
            {"role_id": "r", "secret_id_env": "S"},
            "login",
            {"role_id": "r", "secret_id": "s"},
        ),
        ("userpass", {"username": "u", "password_env": "S"}, "login/u", {"password": "s"}),
        ("kubernetes", {"role": "r"}, "login", {"role": "r", "jwt": "J.W.T"}),
        ("jwt", {"role": "r"}, "login", {"role": "r", "jwt": "J.W.T"}),
    ],
)
def test_a_login_sends_what_its_method_needs(
    method: str,
    more: dict[str, str],
    path: str,
    members: dict[str, str],
    mount: str | None,
    jwt_file: str,
) -> None:
    """To where it is mounted, and the client goes on without the token: we set it ourselves."""
    auth = {"method": method, **more, **({"mount": mount} if mount else {})}
    if "jwt" in members:
        auth["jwt_file"] = jwt_file
    token, asked = run(auth, {"S": "s"})
    assert (token.text, token.is_ours) == ("T", True)
    ((url, use_token, sent),) = asked.calls
    assert (url, use_token, sent) == (f"/v1/auth/{mount or method}/{path}", False, members)


def test_a_batch_token_is_not_revoked() -> None:
    """Vault can't; and who brings a token keeps it."""
    auth = {"method": "userpass", "username": "u", "password_env": "S"}
    batch = {"auth": {"client_token": "T", "token_type": "batch"}}
    assert not run(auth, {"S": "s"}, batch)[0].is_ours
    assert run(auth, {"S": "s"}, {"auth": {"client_token": "T"}})[0].is_ours
    for given in ({"method": "none"}, {"method": "token"}):
        token, asked = run(given, {"VAULT_TOKEN": "V"})
        assert token.text == ("V" if given["method"] == "token" else "")
        assert not token.is_ours
        assert asked.calls == []
    assert "hunter22" not in repr(VaultToken(text="hunter22", is_ours=True))


@pytest.mark.parametrize(
    ("environment", "more", "text"),
    [
        ({"VAULT_TOKEN": "V", "BAO_TOKEN": "B"}, {}, "V"),
        ({"VAULT_TOKEN": "", "BAO_TOKEN": "B"}, {}, "B"),
        ({"VAULT_TOKEN": "V"}, {"token_file": True}, "V"),
        ({}, {"token_file": True}, "J.W.T"),
    ],
)
def test_which_token_is_taken(
    environment: dict[str, str], more: dict[str, Any], text: str, jwt_file: str
) -> None:
    """A variable before a file, Vault's before OpenBao's; an empty one counts as unset."""
    auth = {"method": "token", **({"token_file": jwt_file} if more else {})}
    assert run(auth, environment)[0].text == text


def test_without_a_token_it_is_said_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `vault login`, or by a listener that brings its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreDeniedError, match="no Vault token") as caught:
        run({"method": "token"})
    assert "`vault login`" in caught.value.hint
    assert 'method = "none"' in caught.value.hint


@pytest.mark.parametrize(
    ("auth", "environment", "words"),
    [
        ({"method": "approle"}, {}, "auth method approle"),
        ({"method": "token"}, {"BAO_TOKEN": "B"}, "token of BAO_TOKEN"),
        ({"method": "token"}, {}, "token of ~/.vault-token"),
        ({"method": "token", "token_file": "/t"}, {}, "token of /t"),
    ],
)
def test_how_we_log_in_in_words(
    auth: dict[str, str], environment: dict[str, str], words: str
) -> None:
    """For doctor: no secret."""
    assert Login(auth, environment).words == words


def refusal(kind: type[hvac.exceptions.VaultError], *errors: str) -> hvac.exceptions.VaultError:
    import json

    return kind(text=json.dumps({"errors": list(errors)}), errors=list(errors))


USER = {"method": "userpass", "username": "u", "password_env": "S", "mount": "up"}


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (refusal(hvac.exceptions.Forbidden, "permission denied"), "has no auth method at 'up'"),
        (
            refusal(hvac.exceptions.InvalidRequest, "invalid username or password"),
            "refused the userpass login at 'up', username 'u'",
        ),
        (
            refusal(hvac.exceptions.InvalidRequest, "source address unauthorized by CIDR"),
            "for this machine's network address",
        ),
    ],
)
def test_a_refused_login_says_who_and_where(exc: hvac.exceptions.VaultError, words: str) -> None:
    """With what helps, and nothing that is secret."""
    with pytest.raises(StoreDeniedError) as caught:
        run(USER, {"S": "hunter22"}, exc)
    assert words in caught.value.message
    assert caught.value.message.startswith(ADDRESS)
    assert caught.value.hint
    assert "hunter22" not in f"{caught.value.message} {caught.value.hint}"


def test_a_page_of_somebody_between_is_not_vault_s_word() -> None:
    """It leaves as it came, to be told as such."""
    page = hvac.exceptions.Forbidden(text="<html>", errors=None)
    with pytest.raises(hvac.exceptions.Forbidden):
        run(USER, {"S": "s"}, page)
