"""Every block and every command of the pages is executed by a test, and this says by which.

A screen is typed by `test_transcripts.py`, a configuration is parsed by `test_documents.py`, any
other block names its check in a comment above it. A command in the prose is one that a transcript
types, or is listed here with its test; one of nightporter's own is parsed by `test_documents.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.pages import PAGES, block, blocks, spans
from lab.servers.tls import open_guarded
from lab.support import BIN, ROOT, Home, pitchpoint_config
from lab.terminals.terminal import transcripts
from lab.worlds.vendor import Vendor
from nightporter import aws_lambda
from nightporter.core.events import Event

TYPED = "e2e/test_transcripts.py::test_the_screen_is_what_the_document_shows"

# What a block's comment says, and who executes the block.
CHECKS = {
    "checked: python": "e2e/test_pages.py::test_the_python_of_the_readme",
    "checked: kubeconfig": "e2e/test_pages.py::test_the_user_of_a_kubeconfig",
    "checked: kuberc": "hostile/test_pins.py::test_under_kubectl_s_allowlist",
    "checked: npm": "e2e/test_registry_clients.py::test_npm_and_pnpm_install",
    "checked: event": "e2e/test_pages.py::test_the_event_of_the_scheduled_job",
    "checked: node": "e2e/test_lambda_extension.py::test_a_function_in_node_beside_the_built_layer",
    "checked: audit": "e2e/test_pages.py::test_the_line_of_the_audit_log",
    "checked: status": (
        "e2e/test_documents.py::test_the_status_that_is_shown_has_the_members_of_the_real_one"
    ),
    "checked: key": "e2e/test_pages.py::test_the_secret_with_a_private_key",
    "checked: own store": "contract/test_own_store.py::test_its_configuration_is_checked",
    "checked: own suite": "contract/test_own_store.py::TestShelf",
    "checked: deploy": TYPED,
    "checked: module": (
        "e2e/test_terraform.py::test_the_example_plans_and_its_configuration_is_right"
    ),
}
PICTURES = ("mermaid", "text")

# Commands in prose and tables, by how they begin.
COMMANDS = {
    r"(git pull && )?(pipx|uv tool|pip) (un)?install ": (
        "e2e/test_installations.py::test_the_ways_of_the_table"
    ),
    r"pipx inject ": (
        "e2e/test_installations.py::test_what_is_missing_is_brought_by_what_the_error_says"
    ),
    r"pip wheel ": "e2e/test_packaging.py::test_the_steps_of_the_container_file",
    r"sh leave\.sh": "e2e/test_leaving.py::test_what_uninstall_prints_removes_everything",
    r"\./scripts/zipapp": "e2e/test_packaging.py::test_the_single_file_works",
    r"\./scripts/demo": "e2e/test_demo.py::test_the_demo_needs_the_core_alone_and_goes_on_by_hand",
    r"\./scripts/build-layer --extension": (
        "e2e/test_lambda_extension.py::test_a_function_in_node_beside_the_built_layer"
    ),
    r"\./scripts/build-layer --bills": "e2e/test_packaging.py::test_bills_of_materials",
    r"\./scripts/site": "e2e/test_site.py::test_every_link_and_anchor_leads_somewhere",
    r"aws configure": "e2e/test_peers.py::test_aws_configure",
    r"(vault|bao) login": "e2e/test_peers.py::test_vault_login",
    r"vault write MOUNT/config |vault operator unseal|chmod 600": (
        "e2e/test_remedies.py::test_what_is_said_is_done_and_helps"
    ),
    r"terraform test": "e2e/test_terraform.py::test_the_modules_own_tests_pass",
    r"terraform plan": "e2e/test_terraform.py::test_a_fresh_clone_says_what_to_build_first",
    r"(vault write -f auth/approle/role/|terraform destroy)": TYPED,
    r"\./scripts/(build-layer|deploy)( EXAMPLE)?$": TYPED,
    r"python -E -P -m nightporter": "e2e/test_documents.py::test_completions_are_the_command_s",
    r"docker login": "e2e/test_registry_clients.py::test_docker_inspects_logs_in_and_out",
    r"pip compile": "e2e/test_registry_clients.py::test_uv_asks_the_keyring",
    r"bao server -dev": "contract/test_vault.py::test_userpass",
}
# What no test executes, and why.
ELSEWHERE = {
    r"aws (sso )?login": "needs an identity provider of AWS",
    r"aws sts get-caller-identity": "asks AWS who the reader is",
    r"aws secretsmanager update-secret-version-stage": "names the call; `doctor --repair` makes it",
    r"vault kv metadata put ": "of the error page, whose hints test_remedies.py types",
    r"vault token revoke ": "revokes the reader's own token",
    r"git config --show-origin ": "of the error page; test_setup.py asks git the same",
    r"git (erase|credential-cache)|python -c pass": "names an action, a helper, a measure",
    r"kubectl (oidc-login|config set-credentials)|gh (auth|help)": "another tool, to compare with",
    r"kubectl get cronjob|systemctl list-timers": "looks at a scheduler of the reader's own",
    r"npm rebuild": "runs the scripts of whatever the reader has installed",
    r"uv python install": "fetches a Python",
    r"man nightporter": "needs a reader's MANPATH; test_help.py holds the page",
    r"\./scripts/(test|check|coverage|mutate|fuzz|bench|lock|release)": (
        "runs the tests themselves, or for hours"
    ),
}
PROGRAMS = (
    r"(?:\./scripts/\S+|vault|bao|aws|pipx|uv|pip|kubectl|terraform|git|npm|docker|curl|sh|jq"
    r"|systemctl|launchctl|chmod|rm|kinit|man|gh|python3?)"
)


def exists(test: str) -> bool:
    """Whether there is a test of this name (FILE::NAME)."""
    file, _, name = test.partition("::")
    path = ROOT / "tests" / file
    return path.exists() and bool(re.search(rf"^(def|class) {name}\b", path.read_text(), re.M))


def test_every_block_is_executed_by_a_test() -> None:
    """By its comment; one without a comment or with an unknown one fails."""
    stray = [
        (item.page.name, item.language, item.mark, item.text[:60])
        for item in blocks()
        if item.language not in PICTURES
        and item.mark not in CHECKS
        and not (item.language == "console" and item.mark.startswith("transcript: "))
        and not (item.language == "toml" and item.mark == "checked: configuration")
    ]
    assert stray == []


@pytest.mark.parametrize("test", sorted({*CHECKS.values(), *COMMANDS.values()}))
def test_what_is_named_is_a_test(test: str) -> None:
    """A list of tests that are gone would say nothing."""
    assert exists(test)


def typed() -> str:
    """All that transcripts type."""
    return "\n".join(
        command.typed for page in PAGES for shown in transcripts(page) for command in shown.commands
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_command_in_the_prose_is_executed_by_a_test(page: Path) -> None:
    """Commands of other programs, with at least one argument."""
    found = {span for span in spans(page) if re.match(rf"{PROGRAMS} |\./scripts/", span)}
    screens = typed()
    stray = {
        span
        for span in found
        if span not in screens
        and not any(re.match(pattern, span) for pattern in (*COMMANDS, *ELSEWHERE))
    }
    assert stray == set()


def test_every_entry_is_needed() -> None:
    """An entry for a command that no page names any more goes."""
    everything = {span for page in PAGES for span in spans(page)}
    unused = [
        pattern
        for pattern in (*COMMANDS, *ELSEWHERE)
        if not any(re.match(pattern, span) for span in everything)
    ]
    assert unused == []
    assert {item.mark for item in blocks()} >= set(CHECKS)


# Blocks that are executed here.


def test_the_python_of_the_readme(home: Home, vendor: Vendor) -> None:
    """As a program of its own, which then asks an API of the vendor."""
    asked = f"requests.get({vendor.address + '/_sandbox/resource'!r}, auth=auth)"
    program = f"{block('README.md', 'python')}\nimport requests\nprint({asked}.json())\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env=home.environment, capture_output=True, text=True
    )
    assert done.stdout == "{'ok': True}\n", done.stderr


def test_the_user_of_a_kubeconfig(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    """kubectl gets through by the user that is written by hand."""
    answers = {"/api/v1/namespaces/default": {"kind": "Namespace", "metadata": {"name": "d"}}}
    with open_guarded(tmp_path, is_live=vendor.world.is_live, answers=answers) as server:
        home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{server.host}"]'))
        cluster = f'server: "{server.address}", certificate-authority: "{server.ca_file}"'
        (home.path / "kubeconfig").write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
            "contexts: [{name: here, context: {cluster: here, user: pitchpoint}}]\n"
            f"clusters: [{{name: here, cluster: {{{cluster}}}}}]\n"
            + block("plugin/docs/clients.md", "kubeconfig")
        )
        environment = {**home.environment, "KUBECONFIG": str(home.path / "kubeconfig")}
        environment["PATH"] = f"{BIN}:{environment['PATH']}"
        done = subprocess.run(
            [BIN / "kubectl", "get", "--raw", "/api/v1/namespaces/default"],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert '"Namespace"' in done.stdout, done.stderr


def test_the_store_of_ones_own_is_the_one_that_is_run() -> None:
    """The package of that test has each line of the page."""
    source = (ROOT / "tests/contract/test_own_store.py").read_text()
    source += "\nreturn ShelfStore(self.shelf)\ndef open_store(self):\ndef _shelf(self, tmp_path):"
    shown = [item for item in blocks() if item.mark in ("checked: own store", "checked: own suite")]
    assert len(shown) == 4
    for item in shown:
        for line in item.text.splitlines():
            words = line.partition("  #")[0].strip()
            if item.language == "python" and words != "self.shelf = str(tmp_path)":
                assert words in source, words


def test_the_event_of_the_scheduled_job() -> None:
    """The handler knows every member."""
    event = json.loads(block("plugin/docs/lambda.md", "event"))
    assert aws_lambda._parse_event(event) == event


def test_the_line_of_the_audit_log() -> None:
    line = json.loads(block("plugin/docs/operations.md", "audit"))
    assert Event(line["event"])


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_secret_with_a_private_key(empty_home: Home) -> None:
    """jq makes JSON of the two files, and it goes into the store."""
    for name in ("key.pem", "certificate", "cert.pem"):
        (empty_home.path / name).write_text(f"-----BEGIN {name}-----\n")
    empty_home.configure(
        '[profiles.graph]\nissuer = "entra"\ntenant = "t.example"\ncredentials = "prod/graph"\n'
        'grant = "client_credentials"\nscopes = ["s"]\n'
    )
    environment = {**empty_home.environment, "PATH": f"{BIN}:{empty_home.environment['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", block("plugin/docs/vendors.md", "key")],
        env=environment,
        cwd=empty_home.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    value = json.loads((empty_home.data / "prod%2Fgraph.json").read_text())["value"]
    assert value["private_key"] == "-----BEGIN key.pem-----\n"
    assert set(value) == {"client_id", "private_key", "certificate"}
