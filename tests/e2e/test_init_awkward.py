"""`init` as people use it: they stop half-way, paste what belongs elsewhere, mistype, have a file
of their own, no permission, no space. At a real pseudo-terminal."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from lab.support import BIN, Home, as_a_user
from lab.terminals.terminal import Answers, at_terminal
from lab.worlds.vendor import Vendor

MEMBERS = {"username": "svc-acme", "password": "correct-horse"}
QUESTIONS = (
    ("Token issuer", "pitchpoint"),
    ("Profile name", "mine"),
    ("Secret store", "local"),
    ("Hosts that", ""),
    ("Path of the secret", "prod/mine"),
    ("Username", "svc-acme"),
    ("Password", "correct-horse"),
    ("Client to set up", "none"),
)
CTRL_C, CTRL_D = b"\x03", b"\x04"
EXISTING = b"""\
# Mine, and commented by hand.\r
[profiles.old]          # the first one\r
issuer = "pitchpoint"\r
store = "shelf"\r
credentials = "prod/old"  # who else knows\r
\r
[stores.shelf]\r
type = "local"\r
path = "~/shelf"\r
"""


class Typist:
    """Somebody at a terminal of their own, who types bytes. `said`: all of the screen."""

    def __init__(self, home: Home, *words: str) -> None:
        line = [*home.before, str(BIN / "nightporter"), *words]
        environment = {**home.environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        self._child = pexpect.spawn(line[0], line[1:], env=environment, timeout=60)
        self._echoes = self._child.getecho()
        self.said = ""

    def answer(self, question: str, typed: bytes | str) -> None:
        """Types this, as it is, when the question is there."""
        found = self._child.expect_exact([question.encode(), pexpect.EOF])
        self._note()
        assert found == 0, f"{question!r} never came: {self.said}"
        self.said += question
        self._child.expect(re.compile(rb": *$"))  # the end of the question: what it waits behind
        self._note()
        self.said += ": "
        self._child.send(typed)

    def _note(self) -> None:
        before = self._child.before
        assert isinstance(before, bytes)
        self.said += before.decode(errors="replace")

    def answers(self, **typed: bytes | str) -> None:
        """All questions up to the end; `typed`: other answers than the usual, by first word."""
        for question, usual in QUESTIONS:
            self.answer(question, typed.get(question.split()[0], f"{usual}\n"))

    def ends(self) -> int:
        """Returns the exit code. The terminal shows again what is typed."""
        self._child.expect(pexpect.EOF)
        self._note()
        assert self._child.getecho() == self._echoes
        self._child.close()
        assert self._child.exitstatus is not None, self.said
        return int(self._child.exitstatus)


@contextmanager
def at_init(home: Home, vendor: Vendor, *words: str) -> Iterator[Typist]:
    typist = Typist(home, "init", "--base-url", vendor.address, *words)
    yield typist


def flags(vendor: Vendor, *more: str) -> tuple[str, ...]:
    where = ("--issuer", "pitchpoint", "--store", "local", "--base-url", vendor.address)
    return (*where, "--credentials", "prod/x", *more)


def everything_below(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


# Stopping.


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D], ids=["ctrl-c", "ctrl-d"])
@pytest.mark.parametrize("place", range(len(QUESTIONS)), ids=[text for text, _ in QUESTIONS])
def test_whoever_stops_at_a_question_has_changed_nothing(
    place: int, key: bytes, empty_home: Home, vendor: Vendor
) -> None:
    """The existing file is byte for byte as it was, and no secret is kept. At the last question the
    profile works, and all that is there goes on working."""
    empty_home.config_file.parent.mkdir(parents=True)
    empty_home.config_file.write_bytes(EXISTING)
    with at_init(empty_home, vendor) as typist:
        for question, usual in QUESTIONS[:place]:
            typist.answer(question, f"{usual}\n")
        typist.answer(QUESTIONS[place][0], key)
        assert typist.ends() == 130, typist.said
    assert typist.said.endswith("\r\nnightporter: interrupted\r\n"), typist.said
    written = empty_home.config_file.read_bytes()
    if place == len(QUESTIONS) - 1:
        assert written.startswith(EXISTING)
        assert empty_home.run("init", "mine").code == 0
    else:
        assert written == EXISTING
        assert everything_below(empty_home.path) == {".config/nightporter/config.toml"}


def test_without_a_file_there_is_none_afterwards(empty_home: Home, vendor: Vendor) -> None:
    """Not even its directory."""
    with at_init(empty_home, vendor) as typist:
        typist.answer("Token issuer", "pitchpoint\n")
        typist.answer("Profile name", CTRL_D)
        assert typist.ends() == 130
    assert everything_below(empty_home.path) == set()


# What is typed and pasted.


def test_a_pasted_line_answers_one_question(empty_home: Home, vendor: Vendor) -> None:
    """Windows ends its lines with two characters; spaces come along with what is copied."""
    with at_init(empty_home, vendor) as typist:
        typist.answers(
            Token=b" Pitch \r\n",
            Profile=b"\t mine \r\n",
            Secret=b"LOCAL\r\n",
            Path=b"  prod/mine \r\nanother line\r\n",
            Username=b" svc-acme \r\n",
            Password=b"correct-horse\r\nrest-of-it\r\n",
        )
        assert typist.ends() == 0, typist.said
    written = tomllib.loads(empty_home.config_file.read_text())["profiles"]["mine"]
    assert written["credentials"] == "prod/mine"
    assert "hosts" not in written
    assert "rest-of-it" not in typist.said


PASSWORD = " \"quoted\" 'and' \\back\\slash $HOME `id` ü%s "


def test_a_password_is_taken_as_it_is(empty_home: Home, vendor: Vendor) -> None:
    """Quotes, backslashes and spaces at its ends are part of it, and it is not shown."""
    vendor.world.users = {"svc-acme": PASSWORD}
    with at_init(empty_home, vendor) as typist:
        typist.answers(Password=f"{PASSWORD}\n".encode())
        assert typist.ends() == 0, typist.said
    assert "quoted" not in typist.said
    assert "quoted" not in empty_home.config_file.read_text()


def test_an_answer_that_is_no_text_is_asked_for_again(empty_home: Home, vendor: Vendor) -> None:
    """Latin-1 from an old terminal, and an arrow key: neither is a defect of ours."""
    with at_init(empty_home, vendor) as typist:
        typist.answer("Token issuer", "\n")
        typist.answer("Profile name", b"m\xfcller\n")
        typist.answer("Profile name", b"mine\x1b[D\n")
        typist.answer("Profile name", "mine\n")
        typist.answer("Secret store", "local\n")
        typist.answer("Hosts that", "\n")
        typist.answer("Path of the secret", "prod/mine\n")
        typist.answer("Username", "svc-acme\n")
        typist.answer("Password", b"gr\xfcn\n")
        typist.answer("Path of the secret", "prod/mine\n")
        typist.answer("Username", "svc-acme\n")
        typist.answer("Password", "correct-horse\n")
        typist.answer("Client to set up", "\n")
        assert typist.ends() == 0, typist.said
    assert typist.said.count("the answer is not UTF-8 text") == 2
    assert typist.said.count("a character that can't be shown") == 1
    assert vendor.count("sign-in") == 1


def test_what_the_terminal_cuts_off_is_not_taken(empty_home: Home, vendor: Vendor) -> None:
    """The kernel keeps 4095 bytes of a line: a long secret would be kept, and tried, without its
    end."""
    with at_init(empty_home, vendor, "mine", *flags(vendor)) as typist:
        typist.answer("Hosts that", "\n")
        typist.answer("Username", "svc-acme\n")
        typist.answer("Password", "x" * 10_000 + "\n")
        assert typist.ends() == 2, typist.said
    assert "it is probably cut off" in typist.said
    assert "xxx" not in typist.said
    assert not list(empty_home.data.glob("*.json"))
    assert vendor.count("sign-in") == 0


def test_a_long_name_is_refused(empty_home: Home, vendor: Vendor) -> None:
    """The names of files are made of it."""
    done = empty_home.run("init", "x" * 200, *flags(vendor), stdin=json.dumps(MEMBERS))
    assert (done.code, "64 are allowed" in done.err) == (2, True), done.err


def test_a_wrong_password_is_followed_by_the_right_one(empty_home: Home, vendor: Vendor) -> None:
    """It goes on where it failed: what was answered is kept, and `init NAME` is all that is typed
    after `no`."""
    answers: Answers = [*QUESTIONS[:6], ("Password", "wrong"), ("Enter other credentials", "no")]
    code, said = at_terminal(empty_home, ["init", "--base-url", vendor.address], answers)
    assert code == 3, said
    written = empty_home.config_file.read_bytes()
    again = [("Enter other credentials", ""), *QUESTIONS[5:7], ("it works", None)]
    code, said = at_terminal(empty_home, ["init", "mine"], list(again))
    assert code == 0, said
    assert empty_home.config_file.read_bytes() == written
    assert vendor.count("sign-in") == 2


# The file.


@pytest.mark.parametrize(
    "existing",
    [
        EXISTING,
        EXISTING.replace(b"\r", b""),
        b"\xef\xbb\xbf" + EXISTING,
        EXISTING.rstrip(),
        EXISTING + b"\r\n\r\n",
        EXISTING.replace(b"# Mine", b"# J'\xc3\xa9cris"),
    ],
    ids=["crlf", "lf", "byte-order-mark", "no-end", "blank-lines", "not-ascii"],
)
def test_what_is_in_the_file_stays_byte_for_byte(
    existing: bytes, empty_home: Home, vendor: Vendor
) -> None:
    """Behind a link, with its mode, its comments and the ends of its lines."""
    dotfiles = empty_home.path / "dotfiles/nightporter.toml"
    dotfiles.parent.mkdir()
    dotfiles.write_bytes(existing)
    dotfiles.chmod(0o644)
    empty_home.config_file.parent.mkdir(parents=True)
    empty_home.config_file.symlink_to(dotfiles)
    done = empty_home.run("init", "mine", *flags(vendor), stdin=json.dumps(MEMBERS))
    assert done.code == 0, done.err
    assert empty_home.config_file.readlink() == dotfiles
    assert dotfiles.stat().st_mode & 0o777 == 0o644
    written = dotfiles.read_bytes()
    assert written.startswith(existing)
    assert (written.count(b"\r\n") == written.count(b"\n")) == (b"\r" in existing)
    assert list(tomllib.loads(written.decode("utf-8-sig"))["profiles"]) == ["old", "mine"]


def test_only_the_name_of_the_store_comes_between(empty_home: Home, vendor: Vendor) -> None:
    """Without `store`, the profile that is there gets a line; all others stay as they are."""
    existing = EXISTING.replace(b'store = "shelf"\r\n', b"").partition(b"\r\n[stores")[0]
    empty_home.config_file.parent.mkdir(parents=True)
    empty_home.config_file.write_bytes(existing)
    more = ("--store-set", f"path={empty_home.path}/other")
    done = empty_home.run("init", "mine", *flags(vendor, *more), stdin=json.dumps(MEMBERS))
    assert done.code == 0, done.err
    written = empty_home.config_file.read_bytes()
    assert written.replace(b'store = "local"\r\n', b"", 1).startswith(existing)
    assert b"\n" not in written.replace(b"\r\n", b"")


def read_only(home: Home) -> Path:
    home.config_file.parent.mkdir(parents=True)
    home.config_file.parent.chmod(0o555)
    return home.config_file


def no_home_to_write_in(home: Home) -> Path:
    home.path.chmod(0o555)
    return home.config_file


def a_file_in_the_way(home: Home) -> Path:
    (home.path / ".config").mkdir()
    (home.path / ".config/nightporter").touch()
    return home.config_file


def a_directory_in_its_place(home: Home) -> Path:
    home.config_file.mkdir(parents=True)
    return home.config_file


def a_file_that_may_not_be_read(home: Home) -> Path:
    home.config_file.parent.mkdir(parents=True)
    home.config_file.write_bytes(EXISTING)
    home.config_file.chmod(0o000)
    return home.config_file


AWKWARD = (
    read_only,
    no_home_to_write_in,
    a_file_in_the_way,
    a_directory_in_its_place,
    a_file_that_may_not_be_read,
)


@pytest.mark.parametrize("make", AWKWARD, ids=lambda make: make.__name__)
def test_a_file_that_can_t_be_written_is_told_before_the_first_question(
    make: object, empty_home: Home, vendor: Vendor
) -> None:
    """Nobody answers eight questions for nothing; no secret is written beforehand."""
    empty_home.before = as_a_user()
    place = make(empty_home)  # type: ignore[operator]
    try:
        done = empty_home.run("init", "mine", *flags(vendor), stdin=json.dumps(MEMBERS))
    finally:
        for directory in (empty_home.path, place.parent):
            if directory.is_dir():
                directory.chmod(0o755)
    assert done.code == 2, done.err
    assert "issuer reachable" not in done.err
    assert str(place) in done.err
    assert "name another" in done.err
    assert "defect" not in done.err
    assert not list(empty_home.data.glob("*.json"))


def test_a_full_disk_leaves_the_file_as_it_was(empty_home: Home, vendor: Vendor) -> None:
    """No file may grow beyond 8 KiB here, and the configuration has as much already."""
    existing = EXISTING + b"# a long comment\r\n" * 500
    empty_home.config_file.parent.mkdir(parents=True)
    empty_home.config_file.write_bytes(existing)
    empty_home.before = ("prlimit", "--fsize=8192")
    done = empty_home.run("init", "mine", *flags(vendor), stdin=json.dumps(MEMBERS))
    assert done.code == 2, done.err
    assert "can't be written (File too large); it is as it was" in done.err
    assert empty_home.config_file.read_bytes() == existing
    assert everything_below(empty_home.config_file.parent) == {"config.toml"}
    empty_home.before = ()
    assert empty_home.run("init", "mine", *flags(vendor)).code == 0  # the secret is there already


def test_two_at_the_same_time_both_add_their_profile(empty_home: Home, vendor: Vendor) -> None:
    """The later one adds to what the earlier one wrote; nobody's profile is lost."""
    names = ["a", "b", "c", "d"]
    codes: dict[str, tuple[int, str]] = {}

    def init(name: str) -> None:
        own = ("--credentials", f"prod/{name}")
        done = empty_home.run("init", name, *flags(vendor, *own), stdin=json.dumps(MEMBERS))
        codes[name] = (done.code, done.err)

    threads = [threading.Thread(target=init, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {code for code, _ in codes.values()} == {0}, codes
    assert sorted(tomllib.loads(empty_home.config_file.read_text())["profiles"]) == names
    assert list(tomllib.loads(empty_home.config_file.read_text())["stores"]) == ["local"]


def test_another_profile_of_the_same_name_is_told_to_the_later_one(
    empty_home: Home, vendor: Vendor
) -> None:
    """Somebody has written it while the questions were being answered."""
    theirs = EXISTING.replace(b"profiles.old", b"profiles.mine")
    with at_init(empty_home, vendor) as typist:
        for question, usual in QUESTIONS[:6]:
            typist.answer(question, f"{usual}\n")
        empty_home.config_file.parent.mkdir(parents=True)
        empty_home.config_file.write_bytes(theirs)
        typist.answer("Password", "correct-horse\n")
        assert typist.ends() == 2, typist.said
    assert "there is another profile called 'mine'" in typist.said
    assert empty_home.config_file.read_bytes() == theirs


def test_without_a_home_it_says_what_to_set(empty_home: Home, vendor: Vendor) -> None:
    """A user that passwd doesn't know, as OpenShift makes them."""
    unknown = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
    if subprocess.run([*unknown, "true"], capture_output=True).returncode != 0:
        pytest.skip("this kernel allows no user namespaces")
    del empty_home.environment["HOME"]
    empty_home.before = unknown
    done = empty_home.run("init", "mine", *flags(vendor), stdin=json.dumps(MEMBERS))
    assert done.code == 2, done.err
    assert "Set NIGHTPORTER_CONFIG" in done.err
    place = str(empty_home.path / "config.toml")
    more = ("--store-set", f"path={empty_home.path}/shelf")
    named = {"NIGHTPORTER_CONFIG": place, "NIGHTPORTER_TRUST": "all"}  # of /tmp, not root's here
    words = ("init", "mine", *flags(vendor, *more))
    done = empty_home.run(*words, stdin=json.dumps(MEMBERS), **named)
    assert done.code == 0, done.err


def test_without_a_terminal_it_asks_for_options(empty_home: Home) -> None:
    """The first one that is missing is named."""
    done = empty_home.run("init", stdin="pitchpoint\nmine\n")
    assert (done.code, "--issuer is needed" in done.err) == (2, True), done.err
    assert everything_below(empty_home.path) == set()
