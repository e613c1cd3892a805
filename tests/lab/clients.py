"""Where the real client programs are, and what a test does without one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab.patience import patience
from lab.servers.tls import Call, Reply
from lab.support import ROOT, Home

PLACE = ROOT / ".clients"
VENV = PLACE / "venv/bin"
UNPACKED = PLACE / "debian/usr"  # Debian packages that are not installed
PLACES = {
    "pnpm": PLACE / "pnpm/node_modules/.bin/pnpm",
    "git-new": PLACE / "git/usr/bin/git",
    "pip-old": PLACE / "bundled-pip/bin/pip",
    "go": VENV / "go",
    "python": VENV / "python",
    "mcp-python": PLACE / "mcp/bin/python",
    "claude": PLACE / "agents/node_modules/.bin/claude",
    "codex": PLACE / "agents/node_modules/.bin/codex",
}


def client(name: str) -> str:
    """The path of a client program; else the test is skipped, or fails where all clients must be
    there (CI)."""
    candidates = [PLACES.get(name), VENV / name, UNPACKED / "sbin" / name, UNPACKED / "bin" / name]
    for candidate in candidates:
        if candidate is not None and candidate.exists():
            return str(candidate)
    places = f"{os.environ['PATH']}:/usr/sbin"  # where Debian has servers
    found = None if name in PLACES else shutil.which(name, path=places)
    if found is None:
        reason = f"{name} is not on this machine, and ./scripts/clients could not install it"
        if os.environ.get("NIGHTPORTER_NEEDS_CLIENTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def real_tool(name: str) -> str:
    """As `client`, behind rustup's shims: those want the home that rustup was installed into."""
    found = Path(client(name))
    toolchains = found.parent.parent.parent / ".rustup/toolchains"
    behind = sorted(toolchains.glob(f"*/bin/{name}"))
    return str(behind[0] if behind else found)


def run(home: Home, *command: str, code: int | None = 0, cwd: Path | None = None) -> Run:
    """Runs a client in the home's environment; `code` None takes any exit code."""
    done = subprocess.run(
        command,
        env=home.environment,
        cwd=cwd or home.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    if code is not None:
        assert done.returncode == code, (
            f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return Run(done.returncode, done.stdout, done.stderr)


class Run:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def text(self) -> str:
        return self.out + self.err


def git_environment(program: str) -> Mapping[str, str]:
    """What an unpacked git needs to find itself."""
    root = Path(program).parents[2]
    if not program.startswith(str(PLACE)):
        return {}
    return {
        "GIT_EXEC_PATH": str(root / "usr/lib/git-core"),
        "GIT_TEMPLATE_DIR": str(root / "usr/share/git-core/templates"),
    }


def git_backend(root: Path) -> Callable[[Call], Reply]:
    """`git http-backend` behind a server of ours."""

    def answer(call: Call) -> Reply:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": call.path,
            "QUERY_STRING": call.query,
            "REQUEST_METHOD": call.method,
            "CONTENT_TYPE": call.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(call.body)),
            "HTTP_CONTENT_ENCODING": call.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": call.headers.get("git-protocol", ""),
            "REMOTE_USER": "porter",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=call.body, capture_output=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        return Reply(
            body, status=status, kind=headers.pop("Content-Type", "text/plain"), headers=headers
        )

    return answer
