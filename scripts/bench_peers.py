"""What others take for a credential that they hold already: programs that are started for each ask,
and libraries in a process.

They live in an environment of their own (`.peers`, from `scripts/peers.lock`); git's own helper is
git's, and git-credential-oauth is unpacked from Debian's package. A peer that can't be had here is
named and left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.support import clean_environment, open_openbao

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".peers"
ASK = "protocol=https\nhost=git.example.com\n"
CREDENTIAL = f"{ASK}username=x\npassword=token\n"
AWS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-1"}
HVAC = """
import os, sys, hvac
client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"], timeout=10)
found = client.secrets.kv.v2.read_secret_version(
    "published", mount_point=sys.argv[1], raise_on_deleted_version=True)
print(found["data"]["data"]["access_token"])
"""

# In a process: each leaves `call`, which gives a token that is held.
LIBRARIES = {
    "google-auth before_request": """
from google.oauth2.credentials import Credentials
import datetime
held = Credentials("token", expiry=datetime.datetime.utcnow() + datetime.timedelta(days=1))
headers = {}
call = lambda: held.before_request(None, "GET", "https://host.example/", headers)
""",
    "msal acquire_token_for_client": """
import json, msal
class Http:  # what the authority says of itself, and one token
    status_code, headers = 200, {}
    def __init__(self, known): self.text = json.dumps(known)
    def close(self): pass
    def raise_for_status(self): pass
AT = "https://login.example/tenant"
class Client:
    def get(self, url, **_named): return Http({"token_endpoint": AT, "authorization_endpoint": AT,
        "issuer": AT})
    def post(self, url, **_named): return Http({"access_token": "token", "expires_in": 86400,
        "token_type": "Bearer"})
    def close(self): pass
app = msal.ConfidentialClientApplication("id", client_credential="secret", authority=AT,
    instance_discovery=False, validate_authority=False, http_client=Client())
def call():
    assert app.acquire_token_for_client(["scope/.default"])["access_token"] == "token"
""",
    "powertools parameters": """
from aws_lambda_powertools.utilities.parameters import BaseProvider
class Provider(BaseProvider):
    def _get(self, name, **_options): return "token"
    def _get_multiple(self, path, **_options): return {}
provider = Provider()
call = lambda: provider.get("pitchpoint", max_age=100_000)
""",
    "aws_secretsmanager_caching": """
import os
os.environ |= {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x"}
os.environ["AWS_SECRET_ACCESS_KEY"] = "x"
from aws_secretsmanager_caching import SecretCache
class Client:
    class meta:
        config = type("Config", (), {"user_agent_extra": ""})
    def describe_secret(self, SecretId): return {"VersionIdsToStages": {"v": ["AWSCURRENT"]}}
    def get_secret_value(self, **_names): return {"SecretString": "token", "VersionId": "v"}
cache = SecretCache(client=Client())
call = lambda: cache.get_secret_string("pitchpoint")
""",
}
TIMING = """
import timeit, time
call()
base = {"a": (time.time() + 1e6, "token")}
def by_hand():
    entry = base.get("a")
    return entry[1] if entry and entry[0] > time.time() else None
print(min(timeit.repeat(call, number=100, repeat=300)) / 100 * 1e9)
print(min(timeit.repeat(by_hand, number=1_000, repeat=300)) / 1_000 * 1e9)
"""


def install() -> Path:
    """Returns the `bin` of the peers' environment, made where the lock has changed."""
    lock, done = ROOT / "scripts/peers.lock", PLACE / ".done"
    if not done.exists() or done.read_text() != lock.read_text():
        print("installing the peers ...", file=sys.stderr)
        shutil.rmtree(PLACE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", PLACE], check=True)
        pip = [f"{PLACE}/bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        subprocess.run([PLACE / "bin/python", "-m", "compileall", "-q", PLACE / "lib"], check=False)
        _unpack("git-credential-oauth")
        done.write_text(lock.read_text())
    return PLACE / "bin"


def _unpack(package: str) -> None:
    """Unpacks a package of Debian's into the environment, where apt can be had."""
    if shutil.which("apt-get") is None:
        return
    with tempfile.TemporaryDirectory() as place:
        fetch = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
        got = subprocess.run(fetch, cwd=place, check=False)
        for file in Path(place).glob("*.deb") if got.returncode == 0 else ():
            subprocess.run(["dpkg", "-x", file, PLACE / "debian"], check=True)


@contextlib.contextmanager
def open_programs(place: Path) -> Iterator[Mapping[str, tuple[list[str], str, Mapping[str, str]]]]:
    """Yields the programs that are there, by name: the command line, what it is asked on standard
    input, and its environment. Each has been asked once, and answered."""
    tools = install()
    base = clean_environment(HOME=str(place), PATH=f"{tools}:{os.environ['PATH']}")
    socket = place / "cache/socket"
    socket.parent.mkdir(mode=0o700)
    helper = ["git", "credential-cache", f"--socket={socket}"]
    subprocess.run([*helper, "store"], input=CREDENTIAL, text=True, env=base, check=True)
    ring = base | {"PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"}
    keyring, aws = str(tools / "keyring"), str(tools / "aws")
    subprocess.run([keyring, "set", "s", "u"], input="token\n", text=True, env=ring, check=True)
    oauth = str(PLACE / "debian/usr/bin/git-credential-oauth")
    with open_openbao() as server:
        mount = server.mount()
        server.put(mount, "published", {"access_token": "token"})
        vault = base | {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.token}
        programs: dict[str, tuple[list[str], str, Mapping[str, str]]] = {
            "git credential-cache get": ([*helper, "get"], ASK, base),
            "git-credential-oauth get, not its host": ([oauth, "get"], ASK, base),
            "keyring get, from a file": ([keyring, "get", "s", "u"], "", ring),
            "aws configure list, keys in variables": ([aws, "configure", "list"], "", base | AWS),
            "hvac by hand, a published token": (
                [str(tools / "python"), "-c", HVAC, mount],
                "",
                vault,
            ),
        }
        try:
            yield {name: asked for name, asked in programs.items() if _answers(name, *asked)}
        finally:
            subprocess.run([*helper, "exit"], env=base, check=False)


def _answers(name: str, words: list[str], given: str, environment: Mapping[str, str]) -> bool:
    """Whether the program can be had here, and gives what it holds."""
    if not os.access(words[0], os.X_OK) and shutil.which(words[0]) is None:
        print(f"{name}: not on this machine")
        return False
    done = subprocess.run(words, input=given, env=environment, capture_output=True, text=True)
    if done.returncode or not (done.stdout or "oauth" in name):
        print(f"{name}: gives no answer here: {(done.stderr.splitlines() or ['?'])[-1]}")
        return False
    return True


def time_libraries() -> Iterator[tuple[str, float, float]]:
    """Yields a library's name, its nanoseconds for a held token, and those of a dict and a
    clock."""
    python = str(install() / "python")
    for name, code in LIBRARIES.items():
        command = [python, "-W", "ignore", "-c", code + TIMING]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        if done.returncode:
            print(f"{name}: not at hand ({(done.stderr.strip().splitlines() or ['?'])[-1]})")
            continue
        ours, theirs = (float(line) for line in done.stdout.split())
        yield name, ours, theirs
