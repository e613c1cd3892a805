"""No control, escape or bidirectional character of anybody reaches a stream: one property over
every place that a text of others can come from, and every command that shows something of it."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.patience import patience
from lab.support import ROOT, Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter.cli import app, fast, helpers, terminal
from nightporter.machine import streams
from nightporter.simulator.server import open_sandbox
from nightporter.simulator.world import World

BAD: tuple[str, ...] = (
    "\x00",
    "\x07",
    "\x08",
    "\r",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    "\u00ad",
    "\u200b",
    "\u200f",
)
BAD += ("\u2028", "\u202e", "\u2066", "\ufeff", "\U000e0041")
SCRAPS = st.sampled_from((*BAD, "\x1b]0;x\x07", "\x1b[2J", "\x1b]52;c;aGk=\x07", "a", "prod", "/"))
TEXTS = st.lists(SCRAPS | st.text(max_size=2), min_size=1, max_size=6).map("".join)
WORST = "x" + "".join(BAD[1:])
ALLOWED = "\n\t"


def odd(text: str) -> list[str]:
    """The characters that drive a terminal or reorder what is read: C0, C1, Cf, separators."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [char for char in text if unicodedata.category(char) in kinds and char not in ALLOWED]


class Stage:
    """One home and one vendor; commands run in this process, as `__main__` runs them."""

    def __init__(self, home: Home, vendor: Vendor, patch: pytest.MonkeyPatch) -> None:
        self.home, self.vendor, self.patch = home, vendor, patch
        self.shown: list[str] = []  # what each command has printed

    def configure(self, more: str = "", stores: str = "") -> None:
        self.home.configure(pitchpoint_config(self.vendor.address, more=more, stores=stores))

    def run(self, *words: str, typed: Any = b"", **variables: Any) -> int:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["nightporter", *words])
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            code = self._answer(list(words))
        out.flush()
        self.shown += [out.buffer.getvalue().decode(), err.getvalue()]
        return code

    @staticmethod
    def _answer(words: list[str]) -> int:
        if words[:1] == ["credential"]:
            return helpers.run_credential(words[1:])
        parsed = fast.parse_plain(words)
        if parsed is not None:
            return terminal.exit_code_of(lambda: fast.answer(*parsed))
        return terminal.exit_code_of(lambda: app.run(words))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    world = World(users={"svc-acme": "correct-horse"})
    home = Home(tmp_path_factory.mktemp("stage"))
    with open_sandbox(world) as address, pytest.MonkeyPatch.context() as patch:
        for name, value in home.environment.items():
            patch.setenv(name, value)
        patch.setenv("NIGHTPORTER_TIMEOUT", str(min(patience(2), 20)))
        stage = Stage(home, Vendor(address, world), patch)
        stage.configure()
        home.set_credentials(username="svc-acme", password="correct-horse")
        assert stage.run("token", NIGHTPORTER_TIMEOUT=str(patience(60))) == 0, stage.shown
        yield stage


def spoiled(value: Any, text: str) -> Any:
    """Every text of a document with this behind it."""
    if isinstance(value, dict):
        return {key: spoiled(item, text) for key, item in value.items()}
    return f"{value}{text}" if isinstance(value, str) else value


def from_record(stage: Stage, text: str) -> None:
    file = stage.home.record_file()
    before = file.read_text()
    document = json.loads(before)
    claim = {"holder": f"x/1/1{text}", "until": "2099-01-01T00:00:00Z", "nonce": "n", "life": 1}
    document["value"] |= {"by": text, "username": f"eve{text}", "issuer": f"i{text}", text: text}
    planted = [
        document["value"] | {"claim": claim | {"machine": text}},
        spoiled(document["value"], text),
        document["value"] | {"refused": {"count": 2, "error": text, "credentials_version": text}},
        document["value"] | {"rejected": {"digest": text, "error": text, "at": text}},
    ]
    for value in planted:
        file.write_text(json.dumps({**document, "value": value}))
        for command in ("status", "timeline"):
            stage.run("-v", command)
    file.write_text(before)


def from_vendor(stage: Stage, text: str) -> None:
    bodies: tuple[Any, ...] = (
        {"error": text, "error_description": text, "error_uri": text, "trace_id": text},
        {"access_token": text, "refresh_token": text, "token_type": text, "scope": text},
        text,
    )
    for status, body in zip((400, 200, 503), bodies, strict=True):
        fault = {"kind": "status", "status": status, "times": 9, "body": body}
        stage.vendor.fail(fault)
        stage.run("-v", "token", "--force-refresh")
        stage.vendor.world.faults.clear()
    stage.home.record_file().unlink(missing_ok=True)  # what was refused is remembered there
    stage.home.drop_cache()
    stage.run("token", NIGHTPORTER_TIMEOUT=str(patience(60)))


def from_configuration(stage: Stage, text: str) -> None:
    more = {"hosts": [text], "username": text, "role": text, text: 1, "fields": {text: text}}
    table = tomlkit.document()
    table.update({"profiles": {text: {"issuer": text, "credentials": text, **more}}, text: text})
    for spelling in (tomlkit.dumps(table), f"[profiles.p]\n{text}", f'a = "{text}"'):
        stage.home.configure(spelling)
        for command in (("config", "check"), ("config", "show"), ("status",), ("token",)):
            stage.run(*command)
    stage.configure(more=f"hosts = ['h.example']\nusername = {json.dumps(text)}")
    stage.run("config", "show")
    stage.run("status")
    stage.configure()


def from_request(stage: Stage, text: str) -> None:
    word = text.replace("\0", "")
    for words in (
        ("token", word),
        ("token", "-o", word),
        (f"--{word}",),
        (f"x{word}",),
        ("explain", word),
        ("explain", "vendors", word),
        ("setup", word),
        ("status", word),
        ("policy", word),
        ("credential", word, "get"),
        ("credential", "go", word),
        ("credential", "headers", word),
        ("credential", "terraform", "get", word),
    ):
        stage.run(*words)
    content = text.encode(errors="replace")
    for protocol in ("git", "docker", "cargo", "bazel", "kubelet"):
        stage.run("credential", protocol, "get", typed=b"protocol=https\nhost=" + content)
        stage.run("-v", "credential", protocol, "get", typed=content)
        stage.run("credential", protocol, "get", typed=json.dumps({"uri": text}).encode())
    stage.run("credentials", "set", "pitchpoint", typed=json.dumps({text: text}).encode())
    stage.run("seed", "pitchpoint", typed=content)


def from_kubeconfig(stage: Stage, text: str) -> None:
    cluster = {"server": f"https://{text}", "proxy-url": text, "tls-server-name": text}
    for spec in (cluster, {"server": text, "certificate-authority-data": text}):
        ask = {"apiVersion": "client.authentication.k8s.io/v1", "spec": {"cluster": spec}}
        for info in (json.dumps(ask), json.dumps({**ask, "apiVersion": text})):
            stage.run("exec-credential", "pitchpoint", KUBERNETES_EXEC_INFO=info)
    stage.run("exec-credential", KUBERNETES_EXEC_INFO=text.replace("\0", ""))


VARIABLES = ("TIMEOUT", "LOG", "CACHE", "CACHE_DIR", "TRUST", "CONFIG", "CONFIG_TOML")


def from_environment(stage: Stage, text: str) -> None:
    value = text.replace("\0", "").encode(errors="replace").decode()
    for name in (*(f"NIGHTPORTER_{name}" for name in VARIABLES), "REQUESTS_CA_BUNDLE"):
        stage.run("token", **{name: value})
        stage.run("status", **{name: f"/nowhere/{value}"})
    stage.configure(stores='[stores.v]\ntype = "vault"')
    stage.run("status", VAULT_ADDR=f"http://127.0.0.1:1/{value}", VAULT_TOKEN=value)
    stage.run("config", "show", VAULT_ADDR=f"http://127.0.0.1:1/{value}", VAULT_NAMESPACE=value)
    stage.configure()


def from_store(stage: Stage, text: str) -> None:
    """What Vault, or something in its place, says of a failure."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(json.dumps({"errors": [text], "__type": text, "data": text}).encode())

        do_POST = do_LIST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        vault = f'[stores.v]\ntype = "vault"\naddress = "{address}"'
        aws = f'[stores.v]\ntype = "aws-secrets-manager"\nendpoint_url = "{address}"'
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}
        for store, status in ((vault, 400), (vault, 403), (vault, 404), (aws, 400)):
            server.status = status  # type: ignore[attr-defined]
            stage.configure(stores=store)
            stage.run("-v", "status", VAULT_TOKEN="t", **keys)
        server.shutdown()
    stage.configure()


def from_file_names(stage: Stage, text: str) -> None:
    name = re.sub(r"[\0/]", "", text).encode(errors="replace").decode()[:60] or "x"
    directory = stage.home.path / f"d{name}"
    directory.mkdir(exist_ok=True)
    file = directory / f"c{name}.toml"
    file.write_text(stage.home.config_file.read_text())
    for command in (("config", "check"), ("config", "path"), ("config", "show"), ("status",)):
        stage.run("--config", str(file), *command)
    file.chmod(0o666)
    stage.run("--config", str(file), "token")
    stage.run("--config", f"{file}.not-there", "token")
    file.unlink()
    stage.run("--config", str(directory), "token")


SOURCES: Mapping[str, Callable[[Stage, str], None]] = {
    "record": from_record,
    "vendor": from_vendor,
    "configuration": from_configuration,
    "request": from_request,
    "kubeconfig": from_kubeconfig,
    "environment": from_environment,
    "store": from_store,
    "file names": from_file_names,
}


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
@example(text=WORST)
def test_no_control_character_reaches_a_stream(stage: Stage, source: str, text: str) -> None:
    stage.shown.clear()
    SOURCES[source](stage, text)
    assert [shown for shown in stage.shown if odd(shown)] == []
    assert not any("reference: defect" in shown for shown in stage.shown), stage.shown


# Where a source is told by its own parser already (a record's names are printable ASCII), the edge
# adds nothing; these rest on it alone.
AT_THE_EDGE = ("configuration", "environment", "store", "file names")


@pytest.mark.parametrize("source", AT_THE_EDGE)
def test_without_the_edge_the_search_finds_it(
    stage: Stage, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: the property above can fail."""
    for module in (streams, terminal):
        monkeypatch.setattr(module, "printable", lambda text: text)
    stage.shown.clear()
    SOURCES[source](stage, WORST)
    assert any(odd(shown) for shown in stage.shown)


def test_a_terminal_s_styles_are_ours_alone() -> None:
    """What a text of others could still bring to a terminal is a colour that ends."""
    shown = streams.printable_but_styled(f"\x1b[1mtitle\x1b[0m {WORST}\x1b[8m\x1b[31;5m\x1b[2J")
    assert shown.startswith("\x1b[1mtitle\x1b[0m ")
    assert odd(shown) == ["\x1b", "\x1b"]


# The streams are written in these rooms alone; the others write bytes of a protocol, or to a child.
WRITERS = {
    "machine/streams.py",
    "cli/terminal.py",
    "cli/helpers/call.py",
    "aws_lambda.py",
}


def test_there_is_one_edge() -> None:
    """`print`, `click.echo` and the like are in no other room."""
    package = ROOT / "plugin/nightporter"
    writing = re.compile(r"\bprint\(|click\.s?echo\(|std(?:out|err)(?:\.buffer)?\.write\(")
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if writing.search(path.read_text())
    }
    assert found <= WRITERS
