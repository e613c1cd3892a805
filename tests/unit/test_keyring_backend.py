"""The backend of `keyring`: it answers for our hosts, refuses to change what is ours, and leaves
all else to the next backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from keyring.errors import PasswordDeleteError, PasswordSetError

from nightporter import keyring_backend
from nightporter.keyring_backend import NightporterKeyring
from nightporter.machine.access_cache import KEYRING_SERVICE
from nightporter.machine.seal import SERVICE as SEAL_SERVICE
from nightporter.protocols import keyring

OURS = "https://pypi.example.com/simple"
CONFIG = """
[profiles.acme]
issuer = "oauth2"
grant = "client_credentials"
token_endpoint = "https://issuer.example.com/token"
credentials = "prod/acme"
hosts = ["pypi.example.com", "nightporter"]
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose profile has no credentials yet: a token of it can't be had."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "NIGHTPORTER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / ".config/nightporter/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    return tmp_path


def test_nothing_is_stored_for_a_host_of_ours(home: Path) -> None:
    """A password that pip or twine would keep there is never the token."""
    with pytest.raises(PasswordSetError, match="fetches tokens itself"):
        NightporterKeyring().set_password(OURS, "oauth2", "x")


def test_a_deletion_for_a_host_of_ours_says_what_to_type(home: Path) -> None:
    with pytest.raises(PasswordDeleteError, match="nightporter logout acme"):
        NightporterKeyring().delete_password(OURS, "oauth2")


@pytest.mark.parametrize("service", ["https://pypi.org/simple", "my wallet", KEYRING_SERVICE])
def test_a_change_for_others_goes_to_the_next_backend(home: Path, service: str) -> None:
    """keyring's chainer moves on at NotImplementedError alone."""
    with pytest.raises(NotImplementedError):
        NightporterKeyring().set_password(service, "me", "x")
    with pytest.raises(NotImplementedError):
        NightporterKeyring().delete_password(service, "me")


def test_a_change_without_a_readable_configuration_goes_to_the_next_backend(home: Path) -> None:
    (home / ".config/nightporter/config.toml").write_text("profiles = 7")
    with pytest.raises(NotImplementedError):
        NightporterKeyring().set_password(OURS, "me", "x")


def test_without_a_configuration_nothing_is_answered_or_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be installed beside somebody's keyring, and not used."""
    (home / ".config/nightporter/config.toml").unlink()
    assert NightporterKeyring().get_password(OURS, "oauth2") is None
    assert capsys.readouterr() == ("", "")


def test_a_token_that_can_t_be_had_is_said_and_is_no_password(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception would end pip; None makes it ask."""
    assert NightporterKeyring().get_password(OURS, "oauth2") is None
    assert "reference: credentials-absent" in capsys.readouterr().err


def test_under_kubectl_it_has_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Contract 8: `exec-credential` alone answers there. What asks may be another plugin's part."""
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", "{}")
    assert NightporterKeyring().get_password(OURS, "oauth2") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "service",
    [
        "https://evil.example?x=@pypi.example.com/simple/",
        "https://oauth2@evil.example#@pypi.example.com/",
        "https://evil.example\\@pypi.example.com/",
        "\u3000http://pypi.example.com/",
        "https://alice@pypi.example.com/",
    ],
)
def test_an_address_of_another_is_never_ours(
    home: Path, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip hands on what a requirements file says, and connects to the host before `?`."""
    assert NightporterKeyring().get_password(service, "oauth2") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("service", [KEYRING_SERVICE, SEAL_SERVICE])
def test_our_own_entries_are_never_asked_of_ourselves(
    home: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With NIGHTPORTER_CACHE=keyring each look would ask for another token."""
    monkeypatch.setattr(keyring_backend, "parse_service", pytest.fail)
    assert NightporterKeyring().get_credential(service, "acme") is None


@pytest.mark.parametrize(
    ("service", "address", "name"),
    [
        ("https://me@pypi.example.com/x", "https://pypi.example.com/x", "me"),
        ("https://a%40b@pypi.example.com", "https://pypi.example.com", "a@b"),
        ("https://me:secret@pypi.example.com", "https://me:secret@pypi.example.com", None),
        ("https://pypi.example.com/a@b", "https://pypi.example.com/a@b", None),
        ("me@pypi.example.com", "me@pypi.example.com", None),
        ("https://evil.example?@pypi.example.com", "https://evil.example?@pypi.example.com", None),
        ("https://evil.example#@pypi.example.com", "https://evil.example#@pypi.example.com", None),
        ("https://me\\@pypi.example.com", "https://me\\@pypi.example.com", None),
        ("https://a@b@pypi.example.com", "https://a@b@pypi.example.com", None),
        ("https://pypi.example.com/?a/b@c", "https://pypi.example.com/?a/b@c", None),
    ],
)
def test_the_user_name_in_an_address_is_the_one_that_is_asked_for(
    service: str, address: str, name: str | None
) -> None:
    """twine leaves it there. What has a password in it is no address of ours."""
    assert keyring._without_user(service) == (address, name)
