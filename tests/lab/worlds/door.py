"""A cache directory with replies in it and the front door before it, whose Python only says that it
was started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.support import ROOT, clean_environment
from nightporter.machine import reply as door
from nightporter.machine.reply_writer import SETTLED_S, Basis, leave

LAUNCHER = ROOT / "plugin/nightporter/launchers/nightporter"
NOT_SEEN: door.Seen = (0, 0, 0, 0, 0)
ASKED = 77  # what the stand-in for Python exits with
TWIN = (
    "import os, sys, time; from nightporter.machine import reply as door\n"
    "reply = door.answer(door.Ask(sys.argv[1:], os.environ), time.time())\n"
    f"sys.exit({ASKED}) if reply is None else print(reply)"
)
GET = b"protocol=https\nhost=git.example.com\n\n"
GIT = ["credential", "git", "get"]
KEPT = {
    "git": GET,
    "docker": b"https://r.example.com",
    "bazel": b'{"uri":"https://b.example.com/x"}',
}


@dataclass
class Room:
    """A cache directory with one reply in it, and the door before it."""

    path: Path
    shell: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.path / "a home"
        self.cache = self.home / ".cache/nightporter"
        self.config = self.home / ".config/nightporter/config.toml"
        self.token = self.cache / "p.key.token"
        self.refused = self.cache / "p.refused"
        self.aws = self.home / ".aws/config"
        for directory in (self.cache, self.config.parent, self.aws.parent):
            directory.mkdir(parents=True)
        self.cache.chmod(0o700)
        self.config.write_text("configuration")
        (self.path / "prepared/nightporter").mkdir(parents=True)
        (self.path / "prepared/nightporter/config.toml").write_text("configuration")
        self.environment = clean_environment(HOME=str(self.home), **self.environment)
        if self.shell == "busybox":
            self.environment["PATH"] = str(applets(self.path))
        self.bin = self.path / "b i n"
        self.bin.mkdir()
        shutil.copy(LAUNCHER, self.bin / "nightporter")
        (self.bin / "python").write_text(f"#!/bin/sh\nexit {ASKED}\n")
        (self.bin / "python").chmod(0o755)
        (self.path / "pyvenv.cfg").touch()
        time.sleep(SETTLED_S * 1.5)  # else their next change might carry the same time

    def leave(
        self,
        *words: str,
        left_s: float = 100,
        secrets: Sequence[str] = (),
        began: float | None = None,
    ) -> bool:
        self.token.write_text("token")
        basis = Basis(
            directory=str(self.cache),
            watched=[
                str(path) for path in (self.config, self.config.parent, self.aws, self.refused)
            ],
            own=str(self.token),
            own_seen=door.look(str(self.token)) or NOT_SEEN,
            left_s=left_s,
            began=time.time() if began is None else began,
            secrets=secrets,
        )
        return leave("the reply", door.Ask(words or ("token", "p"), self.environment), basis)

    @property
    def reply(self) -> Path:
        (found,) = self.cache.glob("*.reply")
        return found

    def ask(self, *words: str, **variables: str) -> str | None:
        """What is served; None where Python is asked."""
        command = {
            "dash": ["dash", str(self.bin / "nightporter")],
            "bash": ["bash", "--posix", str(self.bin / "nightporter")],
            "busybox": [shutil.which("busybox") or "", "sh", str(self.bin / "nightporter")],
            "python": [sys.executable, "-I", "-c", TWIN],
        }[self.shell]
        done = subprocess.run(
            [*command, *(words or ("token", "p"))],
            env={**self.environment, **variables},
            capture_output=True,
            encoding=sys.getfilesystemencoding(),
            errors=sys.getfilesystemencodeerrors(),  # as Python reads a reply file
        )
        if done.returncode == ASKED:
            assert done.stdout == ""
            return None
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.removesuffix("\n")


def applets(path: Path) -> Path:
    """A directory in which busybox is all programs that a door might run."""
    place = path / "applets"
    place.mkdir(exist_ok=True)
    busybox = shutil.which("busybox")
    for name in (
        "stat",
        "date",
        "sha256sum",
        "readlink",
        "od",
        "sed",
        "timeout",
        "sh",
        "cat",
        "busybox",
    ):
        if busybox and not (place / name).exists():
            (place / name).symlink_to(busybox)
    return place


def ask_as_client(room: Room, protocol: str, given: bytes) -> str | bytes:
    """What the door answers, or else what Python gets from it."""
    seen = room.path / "seen"
    (room.bin / "python").write_text(f"#!/bin/sh\necho \"$4\" >'{seen}'\ncat >>'{seen}'\nexit 77\n")
    shell = {"busybox": [str(shutil.which("busybox")), "sh"], "bash": ["bash", "--posix"]}
    words = [*shell.get(room.shell, [room.shell]), str(room.bin / "nightporter")]
    done = subprocess.run(
        [*words, "credential", protocol, "get"],
        env=room.environment,
        input=given,
        capture_output=True,
    )
    assert done.stderr == b""
    if done.returncode != ASKED:
        return os.fsdecode(done.stdout)
    code, _, content = seen.read_bytes().partition(b"\n")
    return bytes(map(int, content.split())) if b"is_spelled=True" in code else content


def keep_helper_replies(room: Room) -> None:
    """A reply for each of `KEPT`, beside what is there."""
    if not room.token.exists():  # a reply for a command stands on it as it is
        room.token.write_text("token")
    basis = Basis(
        directory=str(room.cache),
        watched=[str(room.config)],
        own=str(room.token),
        own_seen=door.look(str(room.token)) or NOT_SEEN,
        left_s=1000,
        began=time.time(),
    )
    for protocol, asked in KEPT.items():
        ask = door.Ask(["credential", protocol, "get"], room.environment, asked)
        assert leave(f"reply of {protocol}\n\nits end", ask, basis)
