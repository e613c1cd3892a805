"""A user whose set-up is broken, and what an error tells them to do: typed as it is printed, under
the permissions of who reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.patience import patience
from lab.support import BIN, Done, Home, OpenBao, pitchpoint_config
from lab.worlds.vendor import Vendor

PATH = "prod/pitchpoint"
MEMBERS = {"username": "svc-acme", "password": "correct-horse"}
ADMINISTERED = ("vault ",)  # what an operator of Vault types


@dataclass
class Bench:
    """A home with our commands and Vault's on PATH, a vendor, and an OpenBao where one is asked
    for. `ask`: the command that failed; `said`: what it printed."""

    home: Home
    vendor: Vendor
    open_bao: Callable[[], OpenBao]
    said: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        commands = self.home.path / "bin"
        commands.mkdir(exist_ok=True)
        links = {"vault": "bao", **{file.name: file.name for file in BIN.glob("*nightporter")}}
        for name, program in links.items():
            (commands / name).symlink_to(BIN / program)
        self.home.environment["PATH"] = f"{commands}:/usr/bin:/bin"

    # The set-up.

    def local(self, more: str = "", *, has_credentials: bool = True) -> None:
        self.home.configure(pitchpoint_config(self.vendor.address, more=more))
        if has_credentials:
            self.home.set_credentials(**MEMBERS)

    def secrets_manager(self, address: str, **keys: str) -> None:
        """A profile whose secrets are in a stand-in of Secrets Manager; `keys` of the store."""
        lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        stores = f'[stores.s]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"\n{lines}'
        self.home.configure(pitchpoint_config(self.vendor.address, stores=stores))

    def vault(self, policy: str | None = None, more: str = "", version: int = 2) -> str:
        """A profile in a mount of its own; with a policy the user has a token with just that.
        Returns the mount."""
        bao = self.open_bao()
        mount = bao.mount(version)
        if version == 2:
            bao.put(mount, PATH, MEMBERS)
        else:
            bao.call("POST", f"{mount}/{PATH}", MEMBERS)
        stores = f'[stores.s]\ntype = "vault"\naddress = "{bao.address}"\nmount = "{mount}"\n'
        self.home.configure(pitchpoint_config(self.vendor.address, stores=stores, more=more))
        token = bao.token if policy is None else bao.token_with(policy.replace("MOUNT", mount))
        self.home.environment["VAULT_TOKEN"] = token
        return mount

    def edit(self, before: str, after: str) -> None:
        """What a person does to the configuration with an editor."""
        text = self.home.config_file.read_text()
        assert before in text, text
        self.home.config_file.write_text(text.replace(before, after))

    # The failure and the remedy.

    def ask(self, *words: str) -> Done:
        for note in self.home.cache.glob("*.failure"):  # remembered for five seconds
            note.unlink()
        done = self.home.run(*words)
        self.said = done.out + done.err
        return done

    def todo(self, reference: str) -> str:
        """What is printed to be done about this reference, by an error or by doctor."""
        lines = self.said.splitlines()
        for place, line in enumerate(lines):
            if f"[{reference}]" in line:
                return lines[place + 1].split("what to do: ")[1]
            if line.strip() == f"reference: {reference}":
                start = max(at for at in range(place) if "what to do: " in lines[at])
                return "\n".join(lines[start:place]).split("what to do: ")[1]
        raise AssertionError(f"{reference} is not said: {self.said}")

    def commands(self, reference: str) -> list[str]:
        """The commands of the remedy, as they are printed between backticks."""
        quoted = re.findall("`([^`]+)`", self.todo(reference))
        starts = ("nightporter ", "vault ", "chmod ", "sudo chown ", "mkdir ", "aws ")
        return [text for text in quoted if text.startswith(starts)]

    def type(self, command: str, stdin: str | None = None) -> Done:
        """Types a command as it stands: Vault's as its administrator, all others as the reader."""
        variables = dict(self.home.environment)
        if command.startswith(ADMINISTERED):
            bao = self.notes.get("bao") or self.open_bao()
            variables |= {"VAULT_ADDR": bao.address, "VAULT_TOKEN": bao.token}
        done = subprocess.run(
            ["sh", "-c", command.removeprefix("sudo ")],  # by root, where it begins so
            env=variables,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=patience(60),
            cwd=self.home.path,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def typed(self, command: str, stdin: str | None = None) -> str:
        """The same for what must succeed. Returns its standard output."""
        done = self.type(command, stdin)
        assert done.code == 0, (command, done.out, done.err)
        return done.out

    def record(self, path: str = "prod%2Fpitchpoint%2Frefresh-token") -> Path:
        return self.home.data / f"{path}.json"

    def change_record(self, members: Mapping[str, Any], file: Path | None = None) -> None:
        """Somebody else has written the session record, or time has passed over it."""
        file = file or self.record()
        document = json.loads(file.read_text())
        document["version"] += 1
        document["value"].update(members)
        descriptor = os.open(f"{file}.new", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump(document, opened)
        Path(f"{file}.new").rename(file)

    def fails(self, reference: str, *words: str) -> list[str]:
        """Runs a command that fails so, or a doctor that finds it. Returns the remedy's
        commands."""
        done = self.ask(*words)
        assert words[0] in ("doctor", "status") or done.code != 0, self.said
        return self.commands(reference)

    def works(self, *words: str) -> Done:
        """The same command afterwards."""
        done = self.ask(*words)
        assert done.code == 0, self.said
        return done

    def is_gone(self, reference: str) -> None:
        """Doctor no longer finds it."""
        self.ask("doctor")
        assert f"[{reference}]" not in self.said, self.said
