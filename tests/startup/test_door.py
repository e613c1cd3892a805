"""The front door and its twin in Python: what they serve, and everything that must make them ask.

The door under test stands in a directory with a Python of its own that only says that it was
started.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.clients import client
from lab.patience import until
from lab.support import BIN, ROOT, Home, OpenBao, pitchpoint_config
from lab.worlds.door import (
    ASKED,
    GET,
    GIT,
    KEPT,
    LAUNCHER,
    NOT_SEEN,
    Room,
    applets,
    ask_as_client,
    keep_helper_replies,
)
from lab.worlds.vendor import Vendor
from nightporter.__main__ import CARGO_HELLO
from nightporter.machine import client_input
from nightporter.machine import reply as door
from nightporter.machine.reply_writer import MAX_REPLIES, SETTLED_S, Basis, leave
from nightporter.protocols import cargo as protocols_cargo

SHELLS = [
    "dash",
    "python",
    pytest.param("bash", marks=pytest.mark.clients),
    pytest.param("busybox", marks=pytest.mark.clients),
]


@pytest.fixture(params=SHELLS)
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    if request.param in ("bash", "busybox", "dash") and shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not on this machine")
    found = Room(tmp_path, request.param)
    assert found.leave()
    return found


def test_a_reply_is_served(room: Room) -> None:
    assert room.ask() == "the reply"


def rewritten(room: Room, change: Callable[[list[str]], None]) -> None:
    """The reply with other lines, under the same time stamp."""
    status = room.reply.stat()
    lines = room.reply.read_text().split("\n")
    change(lines)
    room.reply.write_text("\n".join(lines))
    os.utime(room.reply, ns=(status.st_mtime_ns, status.st_mtime_ns))


def set_line(room: Room, number: int, line: str) -> None:
    rewritten(room, lambda lines: lines.__setitem__(number, line))


def write_with_old_time(room: Room) -> None:
    room.config.write_text("x")
    os.utime(room.config, (1, 1))


def replace_by_older(room: Room) -> None:
    older = room.path / "older"
    older.write_text("another configuration")
    os.utime(older, (1, 1))
    os.replace(older, room.config)


def swap_directory(room: Room) -> None:
    """Nothing in it is new, and neither is its time."""
    parent = room.config.parent.parent
    parent.rename(room.path / "was")
    (room.path / "prepared").rename(parent)


def point_link(room: Room) -> None:
    real = room.path / "elsewhere"
    shutil.move(room.reply, real)
    (room.cache / "+token+p.reply").symlink_to(real)


def move_directory(room: Room) -> None:
    shutil.move(room.cache, room.path / "moved")
    room.cache.symlink_to(room.path / "moved")


PLANTED: Mapping[str, Callable[[Room], object]] = {
    "the directory is open to others": lambda room: room.cache.chmod(0o755),
    "the reply is readable by others": lambda room: room.reply.chmod(0o644),
    "the reply is a link": point_link,
    "the directory is a link": move_directory,
    "the reply has a second name": lambda room: os.link(room.reply, room.path / "other"),
    "the configuration was written": lambda room: room.config.write_text("another"),
    "the configuration was written with its old time": write_with_old_time,
    "the configuration's mode has changed": lambda room: room.config.chmod(0o600),
    "an older configuration was moved into its place": replace_by_older,
    "the configuration is gone": lambda room: room.config.unlink(),
    "another configuration's directory was moved into its place": swap_directory,
    "a file beside the configuration is new": lambda room: (room.config.parent / "new").touch(),
    "a credentials file has appeared": lambda room: room.aws.write_text("x"),
    "a credentials link has appeared": lambda room: room.aws.symlink_to("/nowhere"),
    "the token is gone": lambda room: room.token.unlink(),
    "the token was written": lambda room: room.token.write_text("another"),
    "the token is readable by others": lambda room: room.token.chmod(0o644),
    "a token was refused": lambda room: room.refused.touch(),
    "its time is over": lambda room: set_line(room, 3, str(int(time.time()))),
    "it comes from the future": lambda room: set_line(room, 2, str(int(time.time()) + 60)),
    "its deadline is no digits": lambda room: set_line(room, 3, "\u00b2"),
    "its deadline is beyond numbers": lambda room: set_line(room, 3, "9" * 5000),
    "it has no deadline": lambda room: set_line(room, 3, "soon"),
    "it is of another format": lambda room: set_line(room, 0, "nightporter reply 3"),
    "it names no file": lambda room: rewritten(
        room, lambda lines: lines.__setitem__(slice(8, 12), [])
    ),
    "it is empty": lambda room: rewritten(room, lambda lines: lines.clear()),
    "it goes on after its end": lambda room: rewritten(room, lambda lines: lines.append("x")),
    "an empty line follows its end": lambda room: rewritten(room, lambda lines: lines.append("")),
    "its last line has no end": lambda room: rewritten(room, lambda lines: lines.__delitem__(-1)),
}


@pytest.mark.parametrize("what", PLANTED)
def test_it_asks_where(what: str, room: Room) -> None:
    time.sleep(0.02)
    PLANTED[what](room)
    assert room.ask() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("which", ["reply", "cache"])
def test_it_asks_where_it_is_anothers(which: str, room: Room) -> None:
    os.chown(getattr(room, which), 12345, 12345)
    assert room.ask() is None


def test_a_reply_cut_short_anywhere_is_not_served(room: Room) -> None:
    whole, status = room.reply.read_bytes(), room.reply.stat()
    for length in range(0, len(whole), 9 if room.shell == "python" else 29):
        room.reply.write_bytes(whole[:length])
        os.utime(room.reply, ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert room.ask() is None


VARIABLES = [
    *door.VARIABLES,
    "VAULT_TOKEN",
    "NIGHTPORTER_CONFIG_TOML",
    "AWS_LAMBDA_FUNCTION_NAME",
    "HOME",
]


@pytest.mark.parametrize("name", VARIABLES)
def test_another_identity_is_another_ask(name: str, room: Room) -> None:
    assert room.ask(**{name: "another"}) is None
    if name not in ("HOME", "VAULT_TOKEN", "NIGHTPORTER_CONFIG_TOML", "AWS_LAMBDA_FUNCTION_NAME"):
        room.environment[name] = "one"
        if name not in ("NIGHTPORTER_CACHE_DIR", "XDG_CACHE_HOME"):
            room.leave()
            assert room.ask() == "the reply"
            assert room.ask(**{name: "one "}) is None


@pytest.mark.parametrize("value", ["off", "keyring", "sometimes"])
def test_no_cache_no_door(value: str, room: Room) -> None:
    assert room.ask(NIGHTPORTER_CACHE=value) is None
    assert room.ask(NIGHTPORTER_CACHE="file") == room.ask(NIGHTPORTER_CACHE="") == "the reply"


@pytest.mark.parametrize(
    "words",
    [
        ("token",),
        ("token", "q"),
        ("token", "p", "-o", "json"),
        ("exec-credential", "p"),
        ("token", "p p"),
        ("status",),
        ("token", "p", "--force-refresh"),
        ("token", ""),
        ("token", "+p"),
        ("token", "../p"),
    ],
)
def test_another_command_line_is_another_ask(words: tuple[str, ...], room: Room) -> None:
    assert room.ask(*words) is None


def test_slashes_in_the_command_line(room: Room) -> None:
    words = ("exec-credential", "p", "--config", "/etc/nightporter/config.toml")
    assert room.leave(*words)
    assert room.ask(*words) == "the reply"
    assert room.ask(*words[:-1], "=etc=nightporter=config.toml") is None


def test_an_address_in_the_command_line(room: Room) -> None:
    """The program `keyring` is asked so."""
    words = ("credential", "keyring", "--mode=creds", "get", "https://a.example:8443/simple/")
    assert room.leave(*words)
    assert room.ask(*words) == "the reply"
    for other in ("https://a.example:8443=simple/", "https://b.example:8443/simple/", ":", "h@b"):
        assert room.ask(*words[:-1], other) is None
    assert room.ask(*words, "oauth2") is None


def test_kubectl_s_variable_is_a_part_of_the_ask(room: Room) -> None:
    info = '{"kind":"ExecCredential","spec":{"cluster":{"server":"https://a"}}}\n'
    room.environment["KUBERNETES_EXEC_INFO"] = info
    room.leave("exec-credential", "p")
    assert room.ask("exec-credential", "p") == "the reply"
    assert (
        room.ask(
            "exec-credential", "p", KUBERNETES_EXEC_INFO=info.replace("https://a", "https://b")
        )
        is None
    )
    assert room.ask("exec-credential", "p", KUBERNETES_EXEC_INFO="a\nb") is None


SECRETS = ("VAULT_TOKEN", "BAO_TOKEN", "MY_OWN_1")


@pytest.mark.parametrize("value", ["one", "", " a  b\t", "$(x)`y`\\n%s'\"*", "s.\u00e9" * 500])
def test_a_secret_in_the_environment_is_compared_by_its_digest(value: str, room: Room) -> None:
    room.environment |= {"VAULT_TOKEN": value, "MY_OWN_1": value}
    room.leave(secrets=SECRETS)
    assert room.ask() == "the reply"
    for name in SECRETS:
        assert room.ask(**{name: f"{value}2"}) is None
        assert room.ask(**{name: f"{value}\n"}) is None
    for name in ("VAULT_TOKEN", "MY_OWN_1"):
        environment = dict(room.environment)
        del room.environment[name]
        assert room.ask() is None
        room.environment = environment
    assert len(value) < 9 or value not in room.reply.read_text()


def test_a_digest_has_a_salt_of_its_own(room: Room) -> None:
    room.environment["VAULT_TOKEN"] = "one"
    room.leave(secrets=["VAULT_TOKEN"])
    first = room.reply.read_text().split("\n")
    room.leave(secrets=["VAULT_TOKEN"])
    second = room.reply.read_text().split("\n")
    assert len(first[1]) == 32
    assert first[1] != second[1]
    assert first[4] != second[4]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "- VAULT_TOKEN",
        "DIGEST",
        "DIGEST ",
        "DIGEST  VAULT_TOKEN",
        "DIGEST 1",
        "DIGEST VAULT_TOKEN;touch$IFS",
        "DIGEST VAULT_TOKEN}$(touch started)",
        "DIGEST VAULT_TOKEN BAO_TOKEN",
        "digest VAULT_TOKEN",
        "VAULT_TOKEN",
    ],
)
def test_a_line_of_secrets_that_is_none(line: str, room: Room) -> None:
    room.environment["VAULT_TOKEN"] = "one"
    room.leave(secrets=["VAULT_TOKEN"])
    digest = room.reply.read_text().split("\n")[4].split()[0]
    set_line(room, 4, line.replace("DIGEST", digest))
    assert room.ask() is None
    assert not (room.path / "started").exists()


def test_secrets_that_could_be_taken_for_others_leave_no_reply(tmp_path: Path) -> None:
    room = Room(tmp_path, "python", {"VAULT_TOKEN": "one\nBAO_TOKEN=two"})
    assert not room.leave(secrets=["VAULT_TOKEN", "BAO_TOKEN"])


@pytest.mark.parametrize("program", ["stat", "date", "sha256sum"])
def test_a_program_that_is_missing_or_says_nonsense_makes_it_ask(program: str, room: Room) -> None:
    if room.shell == "python":
        return
    room.environment["VAULT_TOKEN"] = "one"
    room.leave(secrets=["VAULT_TOKEN"])
    place = applets(room.path)
    before = room.environment["PATH"]
    for text in ("exit 0", "exit 1", "echo 1 /", "echo 99999999999999999999", "echo '*'; echo x"):
        (place / program).unlink(missing_ok=True)
        (place / program).write_text(f"#!/bin/sh\n{text}\n")
        (place / program).chmod(0o755)
        room.environment["PATH"] = f"{place}:{before}"
        has_clock = room.shell == "bash" and program == "date"
        assert room.ask() == ("the reply" if has_clock else None), text


def test_no_home_and_a_place_of_its_own(room: Room) -> None:
    place = room.path / "place"
    place.mkdir(mode=0o700)
    shutil.copy(room.reply, place)
    del room.environment["HOME"]
    assert room.ask() is None
    room.environment["NIGHTPORTER_CACHE_DIR"] = str(place)
    room.token = place / "p.key.token"
    room.cache = place
    (place / "+token+p.reply").unlink()
    room.leave()
    assert room.ask() == "the reply"


@pytest.mark.parametrize(
    "value", ["a b", "$(touch x)", "`x`", "\\", "'\"", "é*?[", "a=b;c", "-n", "%s%s"]
)
def test_values_are_compared_and_nothing_else(value: str, room: Room) -> None:
    room.environment["AWS_PROFILE"] = value
    room.leave()
    assert room.ask() == "the reply"
    assert room.ask(AWS_PROFILE=f"{value} ") is None


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(door.VARIABLES), st.text(max_size=6), max_size=4))
def test_a_line_break_leaves_no_reply(environment: dict[str, str]) -> None:
    ask = door.Ask(("token", "p"), environment).compose()
    has_break = any("\n" in value or "\0" in value for value in environment.values())
    assert (ask is None) == has_break


def test_what_has_just_changed_leaves_no_reply(tmp_path: Path) -> None:
    room = Room(tmp_path, "python")
    room.config.write_text("again")
    assert not room.leave()


def test_what_lies_behind_a_link_leaves_no_reply(tmp_path: Path) -> None:
    room = Room(tmp_path, "python")
    shutil.move(room.config, room.path / "real.toml")
    room.config.symlink_to(room.path / "real.toml")
    time.sleep(SETTLED_S * 1.5)
    assert not room.leave()


# Helpers at the door: what a client writes is compared to the byte, and Python gets the same bytes.

ODD = [
    *(b"", b"\n", b"\0", b"\xff\xfe"),
    *(GET + b"x", GET[:-1], GET.replace(b"git", b"g\0it"), GET + b"\0"),
]


@pytest.fixture(params=[SHELLS[0], *SHELLS[2:]])
def helping_room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not on this machine")
    room = Room(tmp_path, request.param)
    keep_helper_replies(room)
    return room


@pytest.mark.parametrize("protocol", KEPT)
def test_a_helper_s_ask_is_compared_to_the_byte(protocol: str, helping_room: Room) -> None:
    reply = f"reply of {protocol}\n\nits end\n"
    if (protocol, helping_room.shell) == ("git", "busybox"):
        assert ask_as_client(helping_room, protocol, GET) == GET
        return
    assert ask_as_client(helping_room, protocol, KEPT[protocol]) == reply
    for asked in (*ODD, KEPT[protocol] + b"\n", KEPT[protocol][:-1], KEPT[protocol] * 400):
        assert_python_gets(asked, ask_as_client(helping_room, protocol, asked), protocol)


def assert_python_gets(given: bytes, found: str | bytes, protocol: str) -> None:
    cut = client_input.cut_at_blank if protocol == "git" else bytes
    if cut(given) == KEPT[protocol]:
        assert found == f"reply of {protocol}\n\nits end\n"
    else:
        assert isinstance(found, bytes)
        assert cut(found) == cut(given)


PIECES = st.sampled_from(
    [*GET.splitlines(keepends=True), b"\n", b"\0", b"\r", b"%s", b"\\", b"failed 1"]
)
SHARED = [HealthCheck.function_scoped_fixture]  # an ask changes nothing in it
ASKS = st.lists(PIECES | st.binary(max_size=3), max_size=8).map(b"".join) | st.sampled_from(
    [GET, *ODD]
)


@pytest.mark.parametrize("protocol", ["git", "docker"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=ASKS)
def test_any_bytes_are_answered_right_or_reach_python(
    protocol: str, helping_room: Room, asked: bytes
) -> None:
    if (protocol, helping_room.shell) == ("git", "busybox"):
        return
    assert_python_gets(asked, ask_as_client(helping_room, protocol, asked), protocol)


def test_a_git_that_keeps_its_pipe_open_is_answered(helping_room: Room) -> None:
    if helping_room.shell == "busybox":
        return
    words = [str(helping_room.bin / "nightporter"), *GIT]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=helping_room.environment, **streams) as asking:  # type: ignore[call-overload]
        asking.stdin.write(GET)
        asking.stdin.flush()
        assert asking.stdout.read() == b"reply of git\n\nits end\n"


def test_a_reply_of_many_lines_cut_short_anywhere_is_not_served(helping_room: Room) -> None:
    if helping_room.shell == "busybox":
        return
    (reply,) = helping_room.cache.glob("+credential+git*.reply")
    whole = reply.read_bytes()
    for length in range(len(whole) - 60, len(whole) - 1):
        reply.write_bytes(whole[:length])
        assert ask_as_client(helping_room, "git", GET) == GET


@pytest.mark.parametrize("what", ["timeout", "sed", "od", "stat"])
def test_a_client_s_bytes_are_not_lost_with_a_program(what: str, helping_room: Room) -> None:
    """Python is told that the reading failed, or gets what was read."""
    place = helping_room.path / "broken"
    place.mkdir()
    (place / what).write_text("#!/bin/sh\nexit 9\n")
    (place / what).chmod(0o755)
    helping_room.environment["PATH"] = f"{place}:{helping_room.environment['PATH']}"
    seen = helping_room.path / "seen"
    (helping_room.bin / "python").write_text(f"#!/bin/sh\ncat >'{seen}'\nexit 77\n")
    words = [str(helping_room.bin / "nightporter"), *GIT]
    done = subprocess.run(words, env=helping_room.environment, input=GET, capture_output=True)
    assert (done.returncode, done.stdout) == (ASKED, b"")
    content = seen.read_bytes()
    assert content == GET or b"failed" in content or bytes(map(int, content.split())) in (GET, b"")


def test_no_reply_to_an_ask_that_may_hold_a_secret(tmp_path: Path) -> None:
    room = Room(tmp_path, "python")
    room.token.write_text("token")
    for asked in (
        b"https://b.example.com/x?sig=1",
        b"https://me:pw@b.example.com",
        GET + b"password=x",
    ):
        basis = Basis(
            directory=str(room.cache),
            watched=[],
            own=str(room.token),
            own_seen=door.look(str(room.token)) or NOT_SEEN,
            left_s=100,
            began=time.time(),
        )
        assert not leave("reply", door.Ask(["credential", "bazel", "get"], {}, asked), basis)


# With the real command.


def counting_path(room: Path) -> Path:
    """Programs that note that they were started, before they are."""
    place = room / "counted"
    place.mkdir()
    for name in ("find", "date", "stat", "sha256sum", "readlink", "sed", "cat"):
        program = place / name
        program.write_text(
            f'#!/bin/sh\necho {name} >>"{room}/started"\nexec {shutil.which(name)} "$@"\n'
        )
        program.chmod(0o755)
    return place


def test_a_warm_command_starts_stat_and_date_and_no_python(home: Home, tmp_path: Path) -> None:
    home.environment["PATH"] = f"{counting_path(tmp_path)}:/usr/bin:/bin"
    cold = home.run("token")
    assert home.run("exec-credential", "pitchpoint").code == 0
    tracer = shutil.which("strace")
    (tmp_path / "started").unlink(missing_ok=True)
    assert home.run("token").out == cold.out
    assert sorted((tmp_path / "started").read_text().split()) == ["date", "stat"]
    if tracer:
        done = subprocess.run(
            [
                tracer,
                "-f",
                "-e",
                "trace=execve",
                str(BIN / "nightporter"),
                "exec-credential",
                "pitchpoint",
            ],
            env={**home.environment, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        if "ptrace" not in done.stderr:
            assert done.stderr.count("execve(") == 3
            assert "python" not in done.stderr


def test_a_credential_in_the_environment_needs_one_child_more(
    empty_home: Home, vendor: Vendor, openbao: OpenBao, tmp_path: Path
) -> None:
    """VAULT_TOKEN, and a variable that the configuration names."""
    home, mount = empty_home, openbao.mount()
    openbao.put(mount, "prod/pitchpoint", {"username": "svc-acme", "password": "correct-horse"})
    path = f"{counting_path(tmp_path)}:/usr/bin:/bin"
    home.environment |= {"PATH": path, "VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.token}
    store = f'[stores.v]\ntype = "vault"\nmount = "{mount}"\n'
    login = approle(openbao, mount)
    home.environment["MY_SECRET_ID"] = login["secret_id"]
    for auth, secret in (("", "VAULT_TOKEN"), (login["auth"], "MY_SECRET_ID")):
        home.configure(pitchpoint_config(vendor.address, stores=store + auth))
        time.sleep(SETTLED_S * 1.5)
        cold = home.run("token")
        assert cold.code == 0, cold.err
        (tmp_path / "started").unlink(missing_ok=True)
        assert home.run("token").out == cold.out
        assert sorted((tmp_path / "started").read_text().split()) == ["date", "sha256sum", "stat"]
        replies = "".join(file.read_text() for file in home.cache.glob("*.reply"))
        assert home.environment[secret] not in replies
        home.environment[secret] += "x"
        assert home.run("token").code != 0  # Python asks the store under the other identity
        home.environment[secret] = home.environment[secret][:-1]


def approle(openbao: OpenBao, mount: str) -> dict[str, str]:
    """An AppRole that may use the mount: its `auth` line and a secret id."""
    policy = f'path "{mount}/*" {{ capabilities = ["create", "read", "update", "patch", "list"] }}'
    openbao.call("PUT", f"sys/policies/acl/{mount}", {"policy": policy})
    openbao.call("POST", f"sys/auth/{mount}-approle", {"type": "approle"})
    role = f"auth/{mount}-approle/role/door"
    openbao.call("POST", role, {"token_policies": [mount]})
    role_id = openbao.call("GET", f"{role}/role-id")["data"]["role_id"]
    secret_id = openbao.call("POST", f"{role}/secret-id", {})["data"]["secret_id"]
    auth = (
        f'auth = {{ method = "approle", mount = "{mount}-approle", role_id = "{role_id}",'
        ' secret_id_env = "MY_SECRET_ID" }\n'
    )
    return {"auth": auth, "secret_id": secret_id}


def test_min_ttl_is_kept_by_a_reply_too(home: Home, vendor: Vendor) -> None:
    vendor.world.expires_in = 12
    first = home.run("token", "--min-ttl", "5").out
    time.sleep(7.5)
    assert home.run("token", "--min-ttl", "5").out != first


def test_relative_credential_files_leave_no_reply(home: Home, vendor: Vendor) -> None:
    store = '[stores.s]\ntype = "vault"\nauth = { method = "token", token_file = "here" }\n'
    home.configure(pitchpoint_config(vendor.address, stores=store))
    home.run("token")
    assert not list(home.cache.glob("*.reply"))


def test_a_relative_configuration_leaves_no_reply(home: Home, tmp_path: Path) -> None:
    """The same words mean another file in another directory."""
    text, cache = home.config_file.read_text(), home.cache
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.toml").write_text(text)
    time.sleep(SETTLED_S * 1.5)
    for name in ("one", "one", "two"):
        home.path = tmp_path / name  # where it is run
        assert home.run("token", "pitchpoint", "--config", "c.toml").code == 0
    assert not list(cache.glob("*c.toml*.reply"))
    whole = str(tmp_path / "one/c.toml")
    assert home.run("token", "pitchpoint", "--config", whole).code == 0
    assert list(cache.glob("*c.toml*.reply"))


def test_an_earlier_place_that_appears_is_asked_first(home: Home) -> None:
    runtime = home.path / "run"
    home.environment["XDG_RUNTIME_DIR"] = str(runtime)
    runtime.write_text("")  # nothing can be made here
    first = home.run("token").out
    assert list(home.cache.glob("*.reply"))
    assert home.run("token").out == first
    runtime.unlink()
    (runtime / "nightporter").mkdir(parents=True, mode=0o700)
    assert home.run("token").out != first  # the cache that is in use now has none


def test_the_caller_s_variables_are_left_alone(home: Home) -> None:
    names = (
        "nl",
        "name",
        "line",
        "file",
        "dir",
        "ask",
        "bin",
        "main",
        "self",
        "link",
        "reply",
        "info",
        "path",
        "size",
    )
    home.environment |= {name: f"mine-{name}" for name in names}
    shown = home.run(
        "run", "pitchpoint", "--", "sh", "-c", "echo " + " ".join(f"${name}" for name in names)
    ).out
    assert shown.split() == [f"mine-{name}" for name in names]


def test_a_standard_output_that_takes_nothing(home: Home) -> None:
    for _ in range(2):
        for target in (">&-", ">/dev/full"):
            command = f"{BIN}/nightporter token {target}"
            done = subprocess.run(
                ["sh", "-c", command], env=home.environment, capture_output=True, text=True
            )
            assert done.returncode == 1
            assert "a defect" not in done.stderr


def test_what_ends_a_token_ends_its_reply(home: Home, vendor: Vendor) -> None:
    first = home.run("token").out
    assert home.run("token").out == first
    assert list(home.cache.glob("*.reply"))
    home.run("logout", "pitchpoint")
    assert not list(home.cache.glob("*.reply"))
    second = home.run("token").out
    assert second != first
    home.run("credential", "git", "erase", stdin="protocol=https\nhost=git.example.com\n")
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com"]'))
    third = home.run("token").out
    ask = f"protocol=https\nhost=git.example.com\npassword={third}\n"
    home.run("credential", "git", "erase", stdin=ask)
    fourth = home.run("token").out
    assert fourth not in (second, third)
    forced = home.run("token", "--force-refresh").out
    assert home.run("token").out == forced != fourth


def test_through_a_link_and_with_no_home(home: Home, tmp_path: Path) -> None:
    link = tmp_path / "a link to it"
    link.symlink_to(BIN / "nightporter")
    again = tmp_path / "again"
    again.symlink_to(link.name)
    done = subprocess.run(
        [again, "--version"], env=home.environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("nightporter")
    environment = {**home.environment, "NIGHTPORTER_CONFIG": str(home.config_file)}
    del environment["HOME"]
    done = subprocess.run([again, "--version"], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("nightporter")


def test_installed_into_a_python_of_others(tmp_path: Path) -> None:
    """No virtual environment: the commands beside the door know their Python."""
    place = tmp_path / "usr/bin"
    place.mkdir(parents=True)
    shutil.copy(LAUNCHER, place / "nightporter")
    python = place / "python9"
    python.write_text('#!/bin/sh\necho "$1 $2 $3 $5"\n')
    python.chmod(0o755)
    for shebang in (f"#!{python}", f"#!{python} -sP"):
        (place / "nightporter-python").write_text(f"{shebang}\nimport sys\n")
        done = subprocess.run([place / "nightporter", "status"], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("-E -P -c status\n", "")


@pytest.mark.clients
@pytest.mark.parametrize("how", ["pip, with spaces in the path", "uv tool", "pipx"])
def test_the_wheel_installs_the_door(how: str, home: Home, tmp_path: Path) -> None:
    build = [
        client("python"),
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(
        [*build, str(ROOT)], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    (wheel,) = tmp_path.glob("nightporter-*.whl")
    place = tmp_path / "a place"
    if how == "uv tool":
        tools = {"UV_TOOL_DIR": str(place / "tools"), "UV_TOOL_BIN_DIR": str(place / "bin")}
        command = [client("uv"), "tool", "install", "-q", "--python", sys.executable, str(wheel)]
        subprocess.run(command, check=True, env={**os.environ, **tools})
    elif how == "pipx":
        tools = {f"PIPX_{name}": str(place / name) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
        command = [client("pipx"), "install", "-q", "--python", sys.executable, str(wheel)]
        subprocess.run(command, check=True, env={**os.environ, **tools}, capture_output=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([place / "bin/pip", "install", "-qq", str(wheel)], check=True)
    installed = place / ("BIN_DIR" if how == "pipx" else "bin") / "nightporter"
    assert installed.read_text().startswith("#!/bin/sh")
    cold = subprocess.run(
        [installed, "token"], env=home.environment, capture_output=True, text=True
    )
    assert cold.returncode == 0, cold.stderr
    environment = {**home.environment, "PATH": f"{counting_path(tmp_path)}:/usr/bin:/bin"}
    warm = subprocess.run([installed, "token"], env=environment, capture_output=True, text=True)
    assert warm.stdout == cold.stdout
    assert sorted((tmp_path / "started").read_text().split()) == ["date", "stat"]


@pytest.mark.clients
def test_the_door_is_clean_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not on this machine")
    scripts = [
        LAUNCHER,
        *(
            ROOT / "scripts" / name
            for name in ("setup", "test", "check", "clients", "lock", "deploy")
        ),
    ]
    subprocess.run([shellcheck, *scripts], check=True)


# Helpers with the real command.

TOKEN_USED_BY_GIT = {"git": GET, "docker": b"git.example.com"}


@pytest.fixture
def helping(home: Home, vendor: Vendor) -> Home:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["git.example.com"]'))
    home.run("token")
    time.sleep(SETTLED_S * 1.5)
    return home


def helper(home: Home, protocol: str, given: bytes, *words: str) -> bytes:
    program = BIN / f"{protocol}-credential-nightporter"
    done = subprocess.run(
        [program, *(words or ("get",))], env=home.environment, input=given, capture_output=True
    )
    assert done.stderr == b""
    return done.stdout


def at_door(home: Home, given: bytes = GET, words: list[str] | None = None) -> bytes | None:
    reply = door.answer(door.Ask(words or GIT, home.environment, given), time.time())
    return None if reply is None else f"{reply}\n".encode()


@pytest.mark.parametrize("protocol", TOKEN_USED_BY_GIT)
def test_a_helper_s_second_answer_is_a_reply(protocol: str, helping: Home) -> None:
    given = TOKEN_USED_BY_GIT[protocol]
    first = helper(helping, protocol, given)
    assert at_door(helping, given, ["credential", protocol, "get"]) == first
    assert helper(helping, protocol, given) == first
    assert at_door(helping, given + b"x", ["credential", protocol, "get"]) is None
    assert at_door(helping, b"", ["credential", protocol, "get"]) is None
    ask = door.Ask(["credential", protocol, "get"], helping.environment)
    assert door.answer(ask, time.time()) is None


def test_what_a_reply_to_git_never_outlives(helping: Home, vendor: Vendor) -> None:
    first = helper(helping, "git", GET)
    token = dict(line.split(b"=", 1) for line in first.splitlines())[b"password"]
    assert at_door(helping) == first
    helper(helping, "git", GET.rstrip() + b"\npassword=" + token + b"\n\n", "erase")
    assert at_door(helping) is None
    second = helper(helping, "git", GET)
    assert token not in second
    assert at_door(helping) is None  # the answer to an ask that exchanged differs from the next one
    time.sleep(SETTLED_S * 1.5)
    assert helper(helping, "git", GET) == second
    assert at_door(helping) == second
    helping.configure(pitchpoint_config(vendor.address, more='hosts = ["other.example.com"]'))
    assert at_door(helping) is None
    assert helper(helping, "git", GET) == b""


def test_a_second_try_of_git_is_no_reply(helping: Home) -> None:
    modern = b"capability[]=authtype\ncapability[]=state\n" + GET
    first = helper(helping, "git", modern)
    assert at_door(helping, modern) == first
    state = next(line for line in first.splitlines() if line.startswith(b"state[]="))
    again = b"capability[]=authtype\ncapability[]=state\n" + state + b"\n" + GET
    second = helper(helping, "git", again)
    assert at_door(helping, again) is None
    assert second != first
    assert at_door(helping, modern) is None


def test_after_a_failure_it_is_python_that_takes_the_note_away(helping: Home) -> None:
    first = helper(helping, "git", GET)
    assert at_door(helping) == first
    program = BIN / "git-credential-nightporter"
    subprocess.run(
        [program, "get"], env=helping.environment, input=b"host=a\0b\n\n", capture_output=True
    )
    assert at_door(helping) is None
    assert helper(helping, "git", GET) == first


def test_a_client_that_asks_for_ever_new_addresses_fills_no_disk(helping: Home) -> None:
    for number in range(MAX_REPLIES + 5):
        given = f"protocol=https\nhost=git.example.com\npath={number}\n\n".encode()
        token_file = next(helping.cache.glob("*.token"))
        basis = Basis(
            directory=str(helping.cache),
            watched=[],
            own=str(token_file),
            own_seen=door.look(str(token_file)) or NOT_SEEN,
            left_s=100,
            began=time.time(),
        )
        assert leave("username=a\npassword=b", door.Ask(GIT, helping.environment, given), basis)
        assert at_door(helping, given) == b"username=a\npassword=b\n"
    assert len(list(helping.cache.glob("*.reply"))) <= MAX_REPLIES


def test_a_configuration_that_changes_during_the_exchange_leaves_no_reply(
    home: Home, vendor: Vendor
) -> None:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["r.example.com"]'))
    vendor.world.latency_s = 1.0
    program = BIN / "docker-credential-nightporter"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([program, "get"], env=home.environment, **streams) as asking:  # type: ignore[call-overload]
        asking.stdin.write(b"r.example.com")
        asking.stdin.close()
        until(lambda: vendor.count("sign-in") or asking.poll() is not None)
        home.configure(pitchpoint_config(vendor.address, more='hosts = ["other.example.com"]'))
        assert b"Secret" in asking.stdout.read()
    assert not list(home.cache.glob("*.reply"))
    assert b"not found" in helper(home, "docker", b"r.example.com")


def test_ctrl_c_while_the_client_is_still_writing(helping: Home) -> None:
    program = BIN / "git-credential-nightporter"
    streams = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([program, "get"], env=helping.environment, **streams) as asking:  # type: ignore[call-overload]
        asking.stdin.write(b"protocol=https\n")
        asking.stdin.flush()
        time.sleep(1)  # it reads by now
        asking.send_signal(signal.SIGINT)
        assert asking.stderr.read() == b"nightporter: interrupted\n"
    assert asking.returncode == 130


def test_half_an_ask_is_none(helping: Home) -> None:
    """A name that is cut short may be another one's."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, b"protocol=https\nhost=git.example.com")  # ... .evil.example
    program = BIN / "git-credential-nightporter"
    done = subprocess.run(
        [program, "get"],
        env={**helping.environment, "NIGHTPORTER_TIMEOUT": "2"},
        stdin=reading,
        capture_output=True,
    )
    os.close(reading)
    os.close(writing)
    assert done.stdout == b""
    assert b"in time" in done.stderr


def test_no_reply_to_a_long_ask(helping: Home) -> None:
    given = b"https://git.example.com/" + b"a" * 10_000
    assert b"Secret" in helper(helping, "docker", given)
    assert b"Secret" in helper(helping, "docker", given)
    assert not [file for file in helping.cache.glob("*.reply") if "docker" in file.name]


# cargo's conversation: no door, but Python answers it before it imports anything.

CARGO = ["credential", "cargo", "--cargo-plugin"]
CARGO_ASK = (
    b'{"v":1,"registry":{"index-url":"sparse+https://git.example.com/i/","name":"ours"},'
    b'"kind":"get","operation":"read","args":[]}\n'
)


def cargo(home: Home, given: bytes) -> list[bytes]:
    return helper(home, "cargo", given, "--cargo-plugin").splitlines(keepends=True)


def test_cargo_s_second_answer_is_a_reply(helping: Home, vendor: Vendor) -> None:
    """The same to the byte, and still one line for each ask."""
    hello, first = cargo(helping, CARGO_ASK)
    assert hello.decode().strip() == protocols_cargo.HELLO == CARGO_HELLO
    assert json.loads(first)["Ok"]["kind"] == "get"
    assert at_door(helping, CARGO_ASK, CARGO) == first
    assert cargo(helping, CARGO_ASK * 2) == [hello, first, first]
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    "other",
    [
        CARGO_ASK.replace(b"git.", b"other."),
        CARGO_ASK.replace(b"git", b"g\0it"),
        CARGO_ASK[:40],
        CARGO_ASK.replace(b"\n", b"\r\n"),
        CARGO_ASK.replace(b'"get"', b'"logout"'),
        b"\n",
    ],
)
def test_what_cargo_asks_after_a_reply_is_answered_as_ever(other: bytes, helping: Home) -> None:
    """The line, and those after it, reach what answers them without a reply; no second hello."""
    hello, first = cargo(helping, CARGO_ASK)
    expected = cargo(helping, other)[1:]
    first = cargo(helping, CARGO_ASK)[1]  # a logout has taken the token away
    assert cargo(helping, CARGO_ASK + other) == [hello, first, *expected]


def test_a_cargo_that_waits_for_each_answer_gets_it(helping: Home) -> None:
    """Its pipe stays open until it has what it wants."""
    first = cargo(helping, CARGO_ASK)[1]
    program = BIN / "cargo-credential-nightporter"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([program, *CARGO[2:]], env=helping.environment, **streams) as asking:  # type: ignore[call-overload]
        assert json.loads(asking.stdout.readline()) == {"v": [1]}
        for ask in (CARGO_ASK, CARGO_ASK.replace(b"git.", b"other."), CARGO_ASK):
            asking.stdin.write(ask)
            asking.stdin.flush()
            answer = asking.stdout.readline()
            assert (answer == first) == (ask == CARGO_ASK)
        asking.stdin.close()
        assert asking.stdout.read() == b""
    assert asking.returncode == 0
