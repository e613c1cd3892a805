"""A program that hears everything: root logger at level 1, warnings, what `http.client` prints at
its debug level."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from lab.patience import patience
from lab.support import Home

# Every member of a record is written, its arguments and its traceback too. `steps`: commands, as
# lists of words; `get_token` is the library's, `rotation` (with an event) and `extension` are
# Lambda's.
PROGRAM = """
import http.client, json, logging, sys, threading, warnings

class Everything(logging.Handler):
    def emit(self, record):
        with open(sys.argv[1], "a") as file:
            text = logging.Formatter().format(record)
            file.write(f"{record.name} {text} {record.args!r} {record.__dict__!r}\\n")

logging.basicConfig(level=1, handlers=[Everything()])
logging.captureWarnings(True)
warnings.simplefilter("always")
http.client.HTTPConnection.debuglevel = 1

import keyring, keyring.backend

class Ring(keyring.backend.KeyringBackend):
    priority = 1
    kept = {}
    def get_password(self, service, username):
        return self.kept.get((service, username))
    def set_password(self, service, username, password):
        self.kept[service, username] = password

keyring.set_keyring(Ring())
from nightporter import aws_lambda, get_token
from nightporter.cli import app, terminal

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

for words in json.loads(sys.argv[2]):
    if words[0] == "get_token":
        terminal.exit_code_of(lambda: get_token(words[1], force_refresh=True) and None)
    elif words[0] == "rotation":
        print(aws_lambda.secret_rotation_handler(json.loads(words[1]), Context()))
    elif words[0] == "extension":
        aws_lambda.run_extension()
    else:
        terminal.exit_code_of(lambda: app.run(words))
print("the end")
"""


class Heard:
    """What the program heard of its libraries and printed, but for the commands' own output."""

    def __init__(self, home: Home) -> None:
        self.home, self.file = home, home.path / "everything.log"
        self.text, self.err = "", ""

    def run(self, *steps: list[str], stdin: str = "") -> None:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.file), json.dumps(steps)],
            env=self.home.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=patience(120),
        )
        assert done.stdout.endswith("the end\n"), done.stderr
        self.err += done.stderr
        self.text += done.stdout + (self.file.read_text() if self.file.exists() else "")

    def holds_none_of(self, *secrets: str) -> None:
        assert len(secrets) > 0
        assert all(len(secret) > 5 for secret in secrets)
        for secret in secrets:
            at = self.text.find(secret)
            assert at < 0, self.text[max(0, at - 500) : at + 100]
        assert re.findall(r"eyJ[\w-]{20,}", self.text) == []  # an assertion, an id_token
        assert "send: b" not in self.text  # what http.client prints
