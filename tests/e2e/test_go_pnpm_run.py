"""Commands whose every word counts: Go's GOAUTH after a refusal, pnpm's tokenHelper, `run`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lab.support import Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.cli.helpers.go import FRESH_S
from nightporter.machine.process import boot_time

PROXY = "https://proxy.example.com"
UNAUTHORIZED = f"HTTP/1.1 401 Unauthorized\r\nURL: {PROXY}/m/@v/list\r\n\r\n"
NOT_FOUND = f"HTTP/1.1 404 Not Found\r\nURL: {PROXY}/m/@v/list\r\n\r\n"


@pytest.fixture
def serving(home: Home, vendor: Vendor) -> Home:
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["proxy.example.com"]'))
    return home


def token_of(home: Home) -> str:
    return home.run("token").out.strip()


def age_the_token(home: Home, seconds: float, **members: object) -> None:
    """As if the token in the cache had been exchanged so long ago, by the clock since boot."""
    (file,) = (path for path in home.cached() if path.suffix == ".token")
    entry = json.loads(file.read_text())
    entry |= {"ends": boot_time() + entry["life"] - seconds, **members}
    file.write_text(json.dumps(entry))


# Go.


def test_go_before_the_first_fetch_has_no_answer_without_a_profile(serving: Home) -> None:
    done = serving.run("credential", "go")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert PROXY in serving.run("credential", "go", "pitchpoint").out


@pytest.mark.parametrize("set_back_s", [0, 60, 7200])
def test_go_a_refused_token_is_not_given_again(serving: Home, set_back_s: float) -> None:
    """With the profile's name Go had our token, and the server said 401. By the wall clock, which
    was set back since, it may be a token of this very second, or of the future."""
    first = token_of(serving)
    age_the_token(serving, 60, exchanged_at=time.time() - 60 + set_back_s)
    done = serving.run("credential", "go", "pitchpoint", f"{PROXY}/m/@v/list", stdin=UNAUTHORIZED)
    assert (done.code, done.err) == (0, "")
    assert f"Authorization: Bearer {first}" not in done.out
    assert f"Authorization: Bearer {token_of(serving)}" in done.out


@pytest.mark.parametrize(
    ("name", "response", "age_s"),
    [
        (["pitchpoint"], UNAUTHORIZED, 0),  # a sister of this process has just exchanged it
        (["pitchpoint"], NOT_FOUND, 60),  # the server says nothing about the token
        ([], UNAUTHORIZED, 60),  # Go had none to send
    ],
)
def test_go_what_speaks_for_no_refused_token_drops_none(
    serving: Home, name: list[str], response: str, age_s: float
) -> None:
    first = token_of(serving)
    ask = ("credential", "go", *name, f"{PROXY}/m/@v/list?go-get=1")
    for _ in range(5):  # until the machine is quick enough for "a moment ago"
        age_the_token(serving, age_s)
        began = time.monotonic()
        done = serving.run(*ask, stdin=response)
        if time.monotonic() - began < FRESH_S:
            break
    assert (done.code, done.err) == (0, "")
    assert f"Authorization: Bearer {first}" in done.out
    assert f"{PROXY}/\n" in done.out or f"{PROXY}\n" in done.out  # all of the host
    assert f"{PROXY}/m/@v/list?go-get=1\n" in done.out


def test_go_a_path_of_a_host_is_answered_for_itself(home: Home, vendor: Vendor) -> None:
    """The token of an entry with a path is not offered for the rest of the host."""
    home.configure(pitchpoint_config(vendor.address, more='hosts = ["proxy.example.com/m"]'))
    ask = f"{PROXY}/m/@v/list?go-get=1"
    done = home.run("credential", "go", "pitchpoint", ask, stdin=UNAUTHORIZED)
    addresses = [line for line in done.out.splitlines() if line.startswith("https://")]
    assert addresses == [f"{PROXY}/m/@v/list", ask]


# Words.


@pytest.mark.parametrize(
    "words",
    [("go", "pitchpoint", "another"), ("pnpm", "pitchpoint", "another"), ("bazel", "put")],
)
def test_words_that_a_helper_does_not_take(serving: Home, words: tuple[str, ...]) -> None:
    done = serving.run("credential", *words, stdin="{}")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"nightporter: usage: nightporter credential {usage_of(words[0])}\n"


def usage_of(protocol: str) -> str:
    return {"go": "go [PROFILE] [URL]", "pnpm": "pnpm [PROFILE]", "bazel": "bazel get"}[protocol]


def test_google_words_that_it_does_not_take_are_an_answer(serving: Home) -> None:
    """google-auth reads nothing else."""
    done = serving.run("credential", "google", "pitchpoint", "another")
    assert (done.code, done.err) == (0, "")
    answer = json.loads(done.out)
    assert answer["success"] is False
    assert "usage: nightporter credential google [PROFILE]" in answer["message"]


def test_pnpm_without_a_name_is_the_only_profile(serving: Home) -> None:
    done = serving.run("credential", "pnpm")
    assert (done.code, done.out.strip()) == (0, f"Bearer {token_of(serving)}")


# `run`.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pitchpoint", "--"), "missing argument 'COMMAND'"),
        (("--with-scripts", "pitchpoint", "--", "true"), "--with-scripts is for --npm."),
    ],
)
def test_run_what_it_can_not_do(
    home: Home, vendor: Vendor, words: tuple[str, ...], says: str
) -> None:
    done = home.run("run", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert vendor.count("sign-in") == 0


def test_run_a_command_that_can_not_be_run(home: Home, tmp_path: Path) -> None:
    """126 and 127 are a shell's own codes (POSIX, 2.8.2)."""
    file = tmp_path / "no-program"
    file.write_text("x")
    done = home.run("run", "pitchpoint", "--", str(file))
    assert (done.code, done.out) == (126, "")
    assert done.err == f"nightporter: {file}: can't be run: Permission denied\n"
    absent = home.run("run", "pitchpoint", "--", str(tmp_path / "absent"))
    assert absent.code == 127
    assert absent.err == f"nightporter: {tmp_path}/absent: there is no such command\n"
