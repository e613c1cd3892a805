"""Coding agents and MCP clients: `credential headers`, `setup claude`, `setup codex`."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.clients import client, run
from lab.servers.tls import open_guarded
from lab.support import BIN, ROOT, Home, pitchpoint_config
from lab.worlds.fleet import open_shared, rotating_fleet
from lab.worlds.vendor import Vendor

URL = "https://mcp.example.com/team/mcp"
HELPER = f"{BIN}/nightporter credential headers"


@pytest.fixture
def ready(home: Home, vendor: Vendor) -> Home:
    hosts = 'hosts = ["mcp.example.com/team", "gateway.example.com"]'
    home.configure(pitchpoint_config(vendor.address, more=hosts))
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    return home


def headers(home: Home, *words: str, **variables: str) -> tuple[int, str, str]:
    done = home.run("credential", "headers", *words, **variables)
    return done.code, done.out, done.err


def test_headers_for_an_address_of_ours(ready: Home, vendor: Vendor) -> None:
    for found in (
        headers(ready, URL),
        headers(ready, CLAUDE_CODE_MCP_SERVER_URL=URL),
        headers(ready, "gateway.example.com"),
    ):
        code, out, err = found
        assert (code, err) == (0, "")
        [(name, value)] = json.loads(out).items()
        assert name == "Authorization"
        assert vendor.world.is_live(value.removeprefix("Bearer "))
    assert vendor.count("sign-in") == 1


@pytest.mark.parametrize(
    "address",
    [
        "https://mcp.example.com/other/mcp",
        "https://mcp.example.com/team/../other",
        "http://mcp.example.com/team/mcp",
        "https://evil.example/team/mcp",
        "https://mcp.example.com@evil.example/team/mcp",
        "https://evil.example./",
        "",
    ],
)
def test_no_headers_for_an_address_of_others(ready: Home, vendor: Vendor, address: str) -> None:
    assert headers(ready, address) == (0, "{}\n", "")
    assert vendor.count("sign-in") == 0


def test_headers_failures(ready: Home, vendor: Vendor) -> None:
    assert headers(ready)[0] == 2
    assert headers(ready, URL, "more")[0] == 2
    assert headers(ready, "https://user@mcp.example.com/team")[:2] == (1, "")
    vendor.world.users = {}
    code, out, err = headers(ready, URL)
    assert (code, out) == (1, "")
    assert "reference: credentials-refused" in err
    assert "headers failed" in ready.run("status").out


def setup(home: Home, *words: str, code: int = 0) -> str:
    done = home.run("setup", *words)
    assert done.code == code, done.err
    return done.out + done.err


CLAUDE = {
    "numStartups": 7,
    "mcpServers": {
        "ours": {"type": "http", "url": URL},
        "theirs": {"type": "http", "url": "https://mcp.example.com/other"},
        "local": {"command": "/bin/x"},
    },
    "projects": {"/srv": {"mcpServers": {"here": {"type": "http", "url": URL}}, "history": ["é"]}},
}


def test_claude_gets_a_helper_for_servers_at_our_hosts(ready: Home) -> None:
    file, settings = ready.path / ".claude.json", ready.path / ".claude/settings.json"
    before = json.dumps(CLAUDE, indent=2, ensure_ascii=False)
    file.write_text(before)
    file.chmod(0o600)
    shown = setup(ready, "claude", "pitchpoint", "--print")
    assert "history" not in shown
    assert file.read_text() == before
    said = setup(ready, "claude", "pitchpoint")
    assert f"changed {file}" in said
    assert "see it work with: claude mcp list" in said
    document = json.loads(file.read_text())
    assert document["mcpServers"]["ours"]["headersHelper"] == HELPER
    assert document["projects"]["/srv"]["mcpServers"]["here"]["headersHelper"] == HELPER
    assert document["mcpServers"]["theirs"] == CLAUDE["mcpServers"]["theirs"]  # type: ignore[index]
    assert not settings.exists()
    assert "nothing to change" in setup(ready, "claude", "pitchpoint")
    setup(ready, "claude", "pitchpoint", "--undo")
    assert json.loads(file.read_text()) == CLAUDE
    document["mcpServers"]["ours"]["headersHelper"] = "/theirs"
    file.write_text(json.dumps(document))
    assert "nothing was changed" in setup(ready, "claude", "pitchpoint", code=2)
    setup(ready, "claude", "pitchpoint", "--undo")
    assert "/theirs" in file.read_text()


def test_claude_gets_a_key_helper_where_its_gateway_is_ours(ready: Home, vendor: Vendor) -> None:
    settings = ready.path / "claude/settings.json"
    settings.parent.mkdir()
    ready.environment["CLAUDE_CONFIG_DIR"] = str(settings.parent)
    before = {"env": {"ANTHROPIC_BASE_URL": "https://gateway.example.com"}}
    settings.write_text(json.dumps(before))
    setup(ready, "claude", "pitchpoint")
    helper = json.loads(settings.read_text())["apiKeyHelper"]
    assert helper == f"{BIN}/nightporter token pitchpoint"
    assert vendor.world.is_live(run(ready, *shlex.split(helper)).out.strip())
    setup(ready, "claude", "pitchpoint", "--undo")
    assert json.loads(settings.read_text()) == before
    settings.write_text(json.dumps({**before, "apiKeyHelper": "/theirs"}))
    assert "nothing was changed" in setup(ready, "claude", "pitchpoint", code=2)
    settings.write_text('{"env": {"ANTHROPIC_BASE_URL": "https://elsewhere.example"}}')
    assert "nothing to change" in setup(ready, "claude", "pitchpoint")


CODEX = f"""# mine
model = "gpt" # two

[mcp_servers.ours]
url = "{URL}"
tool_timeout_sec = 20

[mcp_servers.theirs]
url = "https://elsewhere.example/mcp"

[model_providers.gateway]
name = "gateway"
base_url = "https://gateway.example.com/v1"

[model_providers.keyed]
base_url = "https://gateway.example.com/v1"
env_key = "KEY"
"""


def test_codex_gets_helpers_with_the_address_and_the_configuration(ready: Home) -> None:
    """Codex clears the environment of its helpers, so nothing of it can be relied on."""
    file = ready.path / ".codex/config.toml"
    file.parent.mkdir()
    file.write_text(CODEX)
    ready.environment["NIGHTPORTER_CONFIG"] = str(ready.config_file)
    setup(ready, "codex", "pitchpoint")
    assert "nothing to change" in setup(ready, "codex", "pitchpoint")
    text = file.read_text()
    assert "# mine" in text
    assert "# two" in text
    document = tomllib.loads(text)
    helper = document["mcp_servers"]["ours"]["http_headers_helper"]
    assert helper == f"{BIN}/nightporter --config {ready.config_file} credential headers {URL}"
    del ready.environment["NIGHTPORTER_CONFIG"]
    done = run(ready, *shlex.split(helper))
    assert "Bearer" in json.loads(done.out)["Authorization"]
    assert "http_headers_helper" not in document["mcp_servers"]["theirs"]
    assert document["model_providers"]["gateway"]["auth"] == {
        "command": f"{BIN}/nightporter",
        "args": ["--config", str(ready.config_file), "token", "pitchpoint"],
    }
    assert "auth" not in document["model_providers"]["keyed"]
    setup(ready, "codex", "pitchpoint", "--undo")
    assert file.read_text() == CODEX
    file.write_text(CODEX.replace("tool_timeout_sec = 20", 'bearer_token_env_var = "T"'))
    assert "nothing was changed" in setup(ready, "codex", "pitchpoint", code=2)


def test_agents_without_a_file_are_told_what_to_type(ready: Home) -> None:
    assert "claude mcp add-json" in setup(ready, "claude", "pitchpoint")
    assert "http_headers_helper" in setup(ready, "codex", "pitchpoint")
    assert not (ready.path / ".claude.json").exists()
    assert not (ready.path / ".codex").exists()


# With the SDK's own server and client, and the real agents.


@contextlib.contextmanager
def open_mcp(directory: Path, vendor: Vendor) -> Iterator[str]:
    """The address of an MCP server that takes live tokens alone."""
    python = client("mcp-python")
    with open_guarded(
        directory, is_live=vendor.world.is_live, answers={"/ok": {}}, is_plain=True
    ) as guard:
        process = subprocess.Popen(
            [python, str(ROOT / "tests/lab/servers/mcp_server.py"), f"{guard.address}/ok"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


HOSTS, PROCESSES = 2, 8
LIFE_S, RUN_S, PAUSE_S = 10, 24, 2


@pytest.mark.clients
def test_eight_agents_on_two_hosts_share_a_rotating_session(
    vendor: Vendor, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """anthropics/claude-code#91641, #85236, openai/codex#46028: each process refreshed by itself,
    the issuer took that for theft and revoked the family."""
    vendor.world.expires_in = LIFE_S
    (tmp_path / "guard").mkdir()
    with (
        open_mcp(tmp_path / "guard", vendor) as url,
        open_shared("vault", request, tmp_path) as shared,
    ):
        host = url.partition("://")[2].partition("/")[0]
        fleet = rotating_fleet(shared, vendor, tmp_path, hosts=[f"http://{host}"], min_ttl=2)
        homes = [fleet.machine() for _ in range(HOSTS)]
        began = time.monotonic()
        agents = [start_agent(homes[at % HOSTS], url) for at in range(PROCESSES)]
        found: list[dict[str, Any]] = [json.loads(agent.communicate()[0]) for agent in agents]
        took_s = time.monotonic() - began
        tokens = {token for outcome in found for token in outcome["tokens"]}
        assert fleet.is_alive()
    assert vendor.count("reuse") == 0
    for outcome in found:
        failed = {key for key in outcome["counts"] if key.startswith(("second", "helper"))}
        assert not failed, outcome["counts"]
        assert outcome["counts"]["done"] >= 2
    # One refresh a token's life, and not one a host: a token is renewed in its last fifth.
    assert vendor.count("refresh") == len(tokens) <= 1 + took_s / (0.75 * LIFE_S)


def start_agent(home: Home, url: str) -> subprocess.Popen[str]:
    script = str(ROOT / "tests/lab/servers/mcp_client.py")
    helper = [str(BIN / "nightporter"), "credential", "headers", url]
    return subprocess.Popen(
        [client("mcp-python"), script, url, str(RUN_S), str(PAUSE_S), *helper],
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.clients
def test_the_real_claude_connects_by_the_helper(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    program = client("claude")
    with open_mcp(tmp_path, vendor) as url:
        origin = url.removesuffix("/mcp")
        home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{origin}"]'))
        (home.path / ".claude.json").write_text(
            json.dumps({"mcpServers": {"toy": {"type": "http", "url": url}}})
        )
        home.environment |= {"DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
        assert "Connected" not in run(home, program, "mcp", "list", code=None).out
        setup(home, "claude", "pitchpoint")
        assert "Connected" in run(home, program, "mcp", "list").out
        assert vendor.count("sign-in") == 1


@pytest.mark.clients
def test_the_real_codex_connects_by_the_helper(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    program = client("codex")
    with open_mcp(tmp_path, vendor) as url:
        origin = url.removesuffix("/mcp")
        home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{origin}"]'))
        file = home.path / ".codex/config.toml"
        file.parent.mkdir()
        file.write_text(f'[mcp_servers.toy]\nurl = "{url}"\n')
        setup(home, "codex", "pitchpoint")
        shown = json.loads(run(home, program, "mcp", "get", "toy", "--json").out)
        assert shown["transport"]["http_headers_helper"]
        assert "double" in tools_of(home, program)
        assert vendor.count("sign-in") == 1


def tools_of(home: Home, program: str) -> dict[str, Any]:
    """What Codex's own server says of the first MCP server: it connects to find out."""
    asks = [
        {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "t", "version": "1"}}},
        {"method": "initialized"},
        {"id": 2, "method": "mcpServerStatus/list", "params": {}},
    ]
    process = subprocess.Popen(
        [program, "app-server"],
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for ask in asks:
            process.stdin.write(json.dumps(ask) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            reply = json.loads(line)
            if reply.get("id") == 2:
                tools: dict[str, Any] = reply["result"]["data"][0]["tools"]
                process.stdin.close()
                process.terminate()
                return tools
    raise AssertionError("Codex gave no answer")
