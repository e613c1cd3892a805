"""Files that others could have changed instruct nobody; files of honest users do."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.patience import patience
from lab.support import BIN, Done, Home, clean_environment, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.core.errors import ConfigError, UntrustedFileError
from nightporter.machine.trust import check_configuration, check_named_file

FOREIGN = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def _linked(home: Home, directory: Path, owner: int = 0) -> None:
    """The configuration moves, and a link takes its place by way of another directory."""
    kept = home.config_file.rename(home.path / "kept.toml")
    link = directory / "link.toml"
    link.symlink_to(kept)
    os.chown(link, owner, -1, follow_symlinks=False)
    home.config_file.symlink_to(link)


def _link_in_an_open_directory(home: Home) -> None:
    (home.path / "open").mkdir()
    (home.path / "open").chmod(0o777)
    _linked(home, home.path / "open")


def _directory_behind_a_foreign_link(home: Home) -> None:
    real = home.config_file.parent.rename(home.path / "real")
    home.config_file.parent.symlink_to(real)
    os.chown(home.config_file.parent, FOREIGN, -1, follow_symlinks=False)


def _give(path: Path, user: int, group: int, mode: int) -> None:
    os.chown(path, user, group)
    path.chmod(mode)


HOSTILE: Mapping[str, Callable[[Home], None]] = {
    "everybody": lambda home: home.config_file.chmod(0o666),
    "everybody, but not the group": lambda home: home.config_file.chmod(0o602),
    "directory of everybody": lambda home: home.config_file.parent.chmod(0o777),
    "directory above": lambda home: home.config_file.parent.parent.chmod(0o777),
    "home": lambda home: home.path.chmod(0o777),
    "link in an open directory": _link_in_an_open_directory,
}
HOSTILE_BY_ROOT: Mapping[str, Callable[[Home], None]] = {
    "foreign file": lambda home: os.chown(home.config_file, FOREIGN, -1),
    "foreign directory": lambda home: os.chown(home.config_file.parent, FOREIGN, -1),
    "foreign home": lambda home: os.chown(home.path, FOREIGN, -1),
    "foreign group": lambda home: _give(home.config_file, -1, FOREIGN, 0o664),
    "sticky directory of a user": lambda home: _give(home.path, FOREIGN, -1, 0o1777),
    "foreign link": lambda home: _linked(home, home.path, FOREIGN),
    "directory behind a foreign link": _directory_behind_a_foreign_link,
}


def refuses(home: Home, vendor: Vendor) -> None:
    for command in (["token"], ["config", "check"], ["status"], ["rotate", "--all"], ["init"]):
        done = home.run(*command)
        assert (done.code, done.out) == (2, ""), (command, done.err)
        assert "reference: untrusted-file" in done.err
        assert "what to do: " in done.err
    assert vendor.world.counts == {}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_configuration_that_others_can_write(home: Home, vendor: Vendor, case: str) -> None:
    """Who can write it can have the vendor's password sent elsewhere."""
    HOSTILE[case](home)
    refuses(home, vendor)


@as_root
@pytest.mark.parametrize("case", HOSTILE_BY_ROOT)
def test_a_configuration_of_somebody_else(home: Home, vendor: Vendor, case: str) -> None:
    HOSTILE_BY_ROOT[case](home)
    refuses(home, vendor)


def test_the_remedy_that_is_said_works(home: Home) -> None:
    home.config_file.chmod(0o666)
    home.config_file.parent.chmod(0o777)
    for _ in range(2):
        said = home.run("token").err
        command = said.split("then run `")[1].split("`")[0]
        subprocess.run(command, shell=True, check=True)
    assert home.run("token").code == 0


def test_a_warm_answer_ends_with_the_trust(home: Home) -> None:
    """The front door's file stands on the configuration's change time, and on the lifted rule."""
    assert home.run("token").code == 0
    home.config_file.chmod(0o666)
    assert home.run("token", NIGHTPORTER_TRUST="all").code == 0
    assert home.run("token", NIGHTPORTER_TRUST="all").code == 0
    assert home.run("token").code == 2


def test_repair_launders_nothing(home: Home) -> None:
    """What others may have written isn't made trustworthy by closing it."""
    home.config_file.chmod(0o666)
    home.config_file.parent.chmod(0o777)
    done = home.run("doctor", "--repair")
    assert done.code == 2
    assert "untrusted-file" in done.out
    assert home.config_file.stat().st_mode & 0o777 == 0o666
    assert home.config_file.parent.stat().st_mode & 0o777 == 0o777


def test_repair_leaves_a_kept_result_that_others_could_write(home: Home) -> None:
    spill = home.data / "spill"
    spill.mkdir(mode=0o700, parents=True)
    (spill / "kept.json").write_text("{}")
    (spill / "kept.json").chmod(0o666)
    done = home.run("doctor", "--repair")
    assert "could be written by others" in done.out
    assert (spill / "kept.json").stat().st_mode & 0o777 == 0o666


# Paths that depend on the working directory.


def test_a_relative_path_in_the_environment_is_refused(home: Home, vendor: Vendor) -> None:
    """A checkout with a file of that name would decide where the password goes."""
    (home.path / "np.toml").write_text(home.config_file.read_text())
    done = home.run("token", NIGHTPORTER_CONFIG="np.toml")
    assert (done.code, done.out) == (2, "")
    assert "NIGHTPORTER_CONFIG names the relative path" in done.err
    assert home.run("token", NIGHTPORTER_CONFIG="~/np.toml").code == 0
    assert home.run("--config", "np.toml", "token").code == 0


def test_a_relative_cache_is_none(home: Home, vendor: Vendor) -> None:
    """A checkout could bring tokens of its own."""
    assert home.run("token", NIGHTPORTER_CACHE_DIR="cache").code == 0
    assert not (home.path / "cache").exists()
    assert "relative" in home.run("doctor", NIGHTPORTER_CACHE_DIR="cache").out


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_relative_ca_file_is_refused(home: Home, vendor: Vendor, variable: str) -> None:
    (home.path / "ca.pem").write_text("")
    done = home.run("token", **{variable: "ca.pem"})
    assert done.code == 2
    assert f"{variable} names the relative path" in done.err
    assert vendor.world.counts == {}


@pytest.mark.parametrize(
    "variable",
    [
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_a_relative_file_of_aws_is_refused(home: Home, variable: str) -> None:
    """A checkout's file would choose the endpoint, a program that is run as us, or whom we
    believe (botocore reads both variables of CAs)."""
    program = home.path / "evil"
    program.write_text('#!/bin/sh\ntouch "$HOME/ran"\n')
    program.chmod(0o755)
    (home.path / "aws").write_text(f"[default]\ncredential_process = {program}\n")
    store = '[stores.a]\ntype = "aws-secrets-manager"\nregion = "eu-west-1"\n'
    home.configure(pitchpoint_config("http://127.0.0.1:1", stores=store, more='store = "a"'))
    done = home.run("token", **{variable: "aws", "AWS_EC2_METADATA_DISABLED": "true"})
    assert done.code == 2, done.err
    assert f"{variable} names the relative path 'aws'" in done.err
    assert not (home.path / "ran").exists()


# CA, token and secret-id files.


@pytest.fixture
def named(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir(mode=0o755)
    (tmp_path / "vault/token").write_text("s.token")
    return tmp_path / "vault/token"


def test_a_named_file_may_be_shared_with_a_group(named: Path) -> None:
    """An agent's sink is often 0640 or 0660 of its group, in a directory of that group."""
    named.chmod(0o660)
    named.parent.chmod(0o770)
    check_named_file(str(named), "token_file", {})


def test_only_its_own_directory_counts(named: Path) -> None:
    named.parent.parent.chmod(0o777)
    check_named_file(str(named), "token_file", {})


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_named_file_that_everybody_can_write(named: Path, what: str) -> None:
    place = named if what == "file" else named.parent
    place.chmod(0o777)
    with pytest.raises(UntrustedFileError, match=r"token_file: .* can be written by everybody"):
        check_named_file(str(named), "token_file", {})


@as_root
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_named_file_of_somebody_else(named: Path, what: str) -> None:
    os.chown(named if what == "file" else named.parent, FOREIGN, -1)
    with pytest.raises(UntrustedFileError, match=f"uid {FOREIGN}"):
        check_named_file(str(named), "secret_id_file", {})
    check_named_file(str(named), "secret_id_file", {"NIGHTPORTER_TRUST": "all"})


def test_every_file_that_a_profile_names_is_held_to_it(home: Home, vendor: Vendor) -> None:
    ca = home.path / "ca.pem"
    ca.write_text("nothing")
    ca.chmod(0o666)
    home.configure(pitchpoint_config(vendor.address, more=f'ca_cert = "{ca}"'))
    for command in (["token"], ["config", "check"], ["doctor"]):
        done = home.run(*command)
        assert done.code == 2, done.out + done.err
        assert f"{ca} can be written by everybody" in done.out + done.err


@pytest.mark.parametrize("key", ["token_file", "secret_id_file", "jwt_file"])
def test_every_file_of_a_vault_login_is_held_to_it(home: Home, named: Path, key: str) -> None:
    named.chmod(0o666)
    auths = {
        "token_file": '{ method = "token", token_file = "FILE" }',
        "secret_id_file": '{ method = "approle", role_id = "r", secret_id_file = "FILE" }',
        "jwt_file": '{ method = "jwt", role = "r", jwt_file = "FILE" }',
    }
    auth = auths[key].replace("FILE", str(named))
    store = f'[stores.v]\ntype = "vault"\naddress = "http://127.0.0.1:1"\nauth = {auth}\n'
    home.configure(pitchpoint_config("http://127.0.0.1:1", stores=store, more='store = "v"'))
    done = home.run("token")
    assert done.code == 2
    assert f"{key}: {named} can be written by everybody" in done.err


def test_a_relative_key_is_refused(home: Home, vendor: Vendor) -> None:
    home.configure(pitchpoint_config(vendor.address, more='ca_cert = "ca.pem"'))
    done = home.run("config", "check")
    assert done.code == 2
    assert "profiles.pitchpoint.ca_cert: must be an absolute path" in done.err


# Honest users.


@pytest.fixture
def etc() -> Iterator[Path]:
    """A directory of root that every user can reach, with a configuration in it."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    (place / "nightporter.toml").write_text(pitchpoint_config("http://127.0.0.1:1"))
    (place / "nightporter.toml").chmod(0o644)
    yield place
    shutil.rmtree(place)


AS_ANOTHER = """
import grp, os, pwd, sys
from nightporter.client.configuration import load_config
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
load_config()
"""


def check_as(user: int, group: int, config: Path, **variables: str) -> Done:
    """Reads the configuration as that user does. (The checkout itself may be closed to others.)"""
    environment = clean_environment(NIGHTPORTER_CONFIG=str(config), **variables)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(user), str(group)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(60),
        cwd="/",
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@as_root
def test_a_file_of_root_is_for_every_user(etc: Path) -> None:
    done = check_as(FOREIGN, FOREIGN, etc / "nightporter.toml", HOME="/nowhere")
    assert done.code == 0, done.err


@as_root
def test_an_arbitrary_user_of_a_container(etc: Path) -> None:
    """OpenShift's: no passwd entry, no home, group 0, which owns and may write all of the image."""
    etc.chmod(0o775)
    (etc / "nightporter.toml").chmod(0o664)
    done = check_as(1_000_650_000, 0, etc / "nightporter.toml", HOME="/")
    assert done.code == 0, done.err


@as_root
def test_sudo_takes_the_user_s_own_file(etc: Path) -> None:
    config = etc / "nightporter.toml"
    os.chown(config, FOREIGN, FOREIGN)
    with pytest.raises(UntrustedFileError):
        check_configuration(str(config), {})
    check_configuration(str(config), {"SUDO_UID": str(FOREIGN)})
    with pytest.raises(UntrustedFileError):
        check_configuration(str(config), {"SUDO_UID": "4711"})


def test_only_root_is_somebody_else_s_guest(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SUDO_UID in the environment of an ordinary user says nothing."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    mine = SimpleNamespace(pw_name="anna", pw_gid=4711, pw_uid=4711)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: mine)
    config = etc / "nightporter.toml"
    if os.getuid() == 0:
        os.chown(config, FOREIGN, FOREIGN)
    with pytest.raises(UntrustedFileError):
        check_configuration(str(config), {"SUDO_UID": str(config.stat().st_uid)})


@pytest.mark.parametrize(
    ("members", "others", "is_fine"),
    [([], [], True), (["anna"], [], True), (["bert"], [], False), ([], ["bert"], False)],
)
@as_root
def test_umask_002_with_a_group_of_one_s_own(
    etc: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: list[str],
    others: list[str],
    is_fine: bool,
) -> None:
    """Debian's and Fedora's way: the user's private group may write, and nobody else is in it."""
    config = etc / "nightporter.toml"
    for place in (config, etc):
        os.chown(place, 4711, 4711)
    config.chmod(0o664)
    etc.chmod(0o775)
    anna = SimpleNamespace(pw_name="anna", pw_gid=4711, pw_uid=4711)
    everybody = [anna, *(SimpleNamespace(pw_name=name, pw_gid=4711) for name in others)]
    group = SimpleNamespace(gr_name="anna", gr_mem=members)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: anna)
    monkeypatch.setattr(pwd, "getpwall", lambda: everybody)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    if is_fine:
        check_configuration(str(config), {})
        return
    with pytest.raises(UntrustedFileError, match="can be written by its group"):
        check_configuration(str(config), {})


def test_a_group_of_many_is_nobody_s_own(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`users`, `staff`: a primary group that all share."""
    group = SimpleNamespace(gr_name="users", gr_mem=[])
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    (etc / "nightporter.toml").chmod(0o664)
    with pytest.raises(UntrustedFileError):
        check_configuration(str(etc / "nightporter.toml"), {})


@as_root
def test_a_read_only_mount_passes(etc: Path) -> None:
    """A ConfigMap's directory is 0777, and its files may be of any owner; nobody can write it."""
    config = etc / "nightporter.toml"
    os.chown(config, FOREIGN, FOREIGN)
    config.chmod(0o666)
    etc.chmod(0o777)
    script = (
        f"mount --bind {etc} {etc} && mount -o remount,ro,bind {etc} || exit 99;"
        f" exec {BIN / 'nightporter'} config check"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=clean_environment(NIGHTPORTER_CONFIG=str(config), HOME="/nowhere"),
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    if done.returncode in (1, 99) and "nightporter" not in done.stderr:
        pytest.skip("no mounts can be made here")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "environment", [{"AWS_LAMBDA_FUNCTION_NAME": "f"}, {"NIGHTPORTER_TRUST": "all"}]
)
def test_lambda_and_the_lifted_rule_pass(etc: Path, environment: dict[str, str]) -> None:
    (etc / "nightporter.toml").chmod(0o666)
    check_configuration(str(etc / "nightporter.toml"), environment)


def test_doctor_tells_a_lifted_rule(home: Home) -> None:
    done = home.run("doctor", NIGHTPORTER_TRUST="all")
    assert "[trust-lifted]" in done.out
    with pytest.raises(ConfigError, match="NIGHTPORTER_TRUST must be 'all'"):
        check_configuration("/", {"NIGHTPORTER_TRUST": "yes"})


def test_what_the_commands_write_passes(empty_home: Home, vendor: Vendor) -> None:
    """Under any umask."""
    for umask in (0o000, 0o002, 0o077):
        home = Home(empty_home.path / f"{umask:03o}")
        words = (
            "init --no-check --store local --issuer pitchpoint --credentials prod/pitchpoint"
            f" --base-url {vendor.address}"
        )
        command = f"umask {umask:03o}; exec {BIN / 'nightporter'} {words}"
        done = subprocess.run(
            ["sh", "-c", command],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert done.returncode == 0, done.stderr
        assert home.run("config", "check").code == 0
