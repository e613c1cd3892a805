"""The modules and examples under terraform/, checked by the real Terraform against real provider
schemas, offline.

The providers are stand-ins that know the schemas and make nothing (`offline_providers`). A planted
mistake is found, so a silent check would be noticed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.clients import PLACE, client
from lab.patience import patience
from lab.support import ROOT, clean_environment
from nightporter.core.config import parse_config
from nightporter.core.model import Role
from nightporter.issuers import VENDORS
from nightporter.operations.policies import Audience, render_policy
from nightporter.stores import STORES

TERRAFORM = ROOT / "terraform"
MODULES = sorted((TERRAFORM / "modules").iterdir())
EXAMPLES = sorted((TERRAFORM / "examples").iterdir())
Terraform = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, str]]:
    """What Terraform must find in its environment to use the stand-ins."""
    command = [
        client("python"),
        str(ROOT / "tests/lab/servers/offline_providers.py"),
        str(PLACE / "providers"),
        str(TERRAFORM),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=patience(20))
        process.stdout.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of terraform/, with zips where the AWS example looks for them."""
    (tmp_path / "dist").mkdir()
    for name in ("layer", "function", "example-orders"):
        (tmp_path / f"dist/nightporter-{name}.zip").write_bytes(b"zip")
    return Path(shutil.copytree(TERRAFORM, tmp_path / "terraform"))


@pytest.fixture
def terraform(providers: dict[str, str], tmp_path: Path) -> Terraform:
    program = client("terraform")
    environment = {**clean_environment(), **providers, "TF_DATA_DIR": str(tmp_path / "data")}

    def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program, f"-chdir={directory}", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=patience(120)
        )

    return run


def initialised(terraform: Terraform, directory: Path) -> Path:
    done = terraform(directory, "init", "-backend=false", "-input=false")
    assert done.returncode == 0, done.stderr
    return directory


def problems(done: subprocess.CompletedProcess[str]) -> list[str]:
    report: dict[str, Any] = json.loads(done.stdout)
    return [f"{item['summary']}: {item.get('detail', '')}" for item in report["diagnostics"]]


@pytest.mark.clients
def test_everything_is_formatted(terraform: Terraform) -> None:
    done = terraform(TERRAFORM, "fmt", "-check", "-diff", "-recursive")
    assert done.returncode == 0, done.stdout


@pytest.mark.clients
@pytest.mark.parametrize(
    "directory", [*MODULES, *EXAMPLES], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_it_is_valid(terraform: Terraform, tree: Path, directory: Path) -> None:
    copied = initialised(terraform, tree / directory.relative_to(TERRAFORM))
    assert problems(terraform(copied, "validate", "-json")) == []


@pytest.mark.clients
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_the_modules_own_tests_pass(terraform: Terraform, tree: Path, module: Path) -> None:
    copied = initialised(terraform, tree / "modules" / module.name)
    done = terraform(copied, "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! \d+ passed, 0 failed", done.stdout)


@pytest.mark.clients
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_validation_is_tested(terraform: Terraform, tree: Path, module: Path) -> None:
    """Each validation has a run that expects it, and without them the runs fail (Terraform ends at
    the first one)."""
    text = (module / "variables.tf").read_text()
    validated = re.findall(r'^variable "(\w+)" \{(?:(?!^\}).)*?^  validation', text, re.M | re.S)
    expected = set(
        re.findall(
            r"expect_failures = \[var\.(\w+)\]", (module / "tests/module.tftest.hcl").read_text()
        )
    )
    assert expected == set(validated)
    copied = initialised(terraform, tree / "modules" / module.name)
    (copied / "variables.tf").write_text(
        re.sub(r"\n  validation \{.*?\n  \}\n", "", text, flags=re.S)
    )
    done = terraform(copied, "test", "-no-color")
    assert "Missing expected failure" in done.stderr


def planned(terraform: Terraform, directory: Path, *variables: str) -> dict[str, Any]:
    initialised(terraform, directory)
    out = directory / "plan.out"
    arguments = ("plan", "-input=false", "-lock=false", "-refresh=false", f"-out={out}")
    done = terraform(directory, *arguments, *variables)
    assert done.returncode == 0, done.stderr
    plan: dict[str, Any] = json.loads(terraform(directory, "show", "-json", str(out)).stdout)
    return plan


IMAGE = f"-var=image=registry.example.com/np@sha256:{'0' * 64}"


@pytest.mark.clients
@pytest.mark.parametrize("name", [path.name for path in EXAMPLES])
def test_the_example_plans_and_its_configuration_is_right(
    terraform: Terraform, tree: Path, name: str
) -> None:
    plan = planned(terraform, tree / "examples" / name, *([IMAGE] if name == "kubernetes" else []))
    made = {
        change["type"]
        for change in plan["resource_changes"]
        if change["change"]["actions"] == ["create"]
    }
    wanted = {
        "aws": {
            "aws_lambda_function",
            "aws_scheduler_schedule",
            "aws_cloudwatch_metric_alarm",
            "aws_sqs_queue",
        },
        "vault": {"vault_mount", "vault_policy", "vault_approle_auth_backend_role"},
        "kubernetes": {
            "kubernetes_cron_job_v1",
            "kubernetes_service_account_v1",
            "kubernetes_config_map_v1",
        },
    }
    assert wanted[name] <= made
    assert "correct-horse" not in json.dumps(plan)


@pytest.mark.clients
def test_a_fresh_clone_says_what_to_build_first(terraform: Terraform, tree: Path) -> None:
    directory = initialised(terraform, tree / "examples/aws")
    shutil.rmtree(tree.parent / "dist")
    done = terraform(directory, "plan", "-input=false", "-lock=false", "-refresh=false")
    assert done.returncode == 1
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "Build it first: ./scripts/build-layer" in said
    assert "no such file or directory" not in said


@pytest.mark.clients
def test_the_consumer_may_read_the_published_token_alone(terraform: Terraform, tree: Path) -> None:
    plan = planned(terraform, tree / "examples/aws")
    (orders,) = [
        change["change"]["after"]
        for change in plan["resource_changes"]
        if change["address"] == "aws_lambda_function.orders"
    ]
    assert orders["timeout"] >= 30
    text = orders["environment"][0]["variables"]["NIGHTPORTER_CONFIG_TOML"]
    profile = parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["pitchpoint"]
    assert profile.role is Role.READ_ONLY
    policy = json.loads(render_policy(profile, Audience.READ_ONLY))
    assert policy["Statement"][0]["Action"] == ["secretsmanager:GetSecretValue"]
    assert all("/access" in path for path in policy["Statement"][0]["Resource"])


@pytest.mark.parametrize(
    "file", sorted(TERRAFORM.rglob("*.toml")), ids=lambda file: file.parent.name
)
def test_the_configurations_of_the_examples_parse(file: Path) -> None:
    assert parse_config(file.read_text(), source=str(file), vendors=VENDORS, stores=STORES).profiles


PROFILES = {
    "reused": {"credentials": "prod/p", "publish_access_token": "prod/p/access"},
    "rotating": {
        "credentials": "prod/v",
        "client": "prod/client",
        "refresh_token": "prod/v/session",
        "claims": True,
    },
}
CONFIG = """
[stores.aws]
type = "aws-secrets-manager"
kms_key_id = "alias/nightporter"
[stores.vault]
type = "vault"
[profiles.reused]
issuer = "pitchpoint"
store = "{store}"
credentials = "prod/p"
publish_access_token = "prod/p/access"
[profiles.rotating]
issuer = "vault-ist"
store = "{store}"
credentials = "prod/v"
client = "prod/client"
refresh_token = "prod/v/session"
partner_id = 1
"""


@pytest.mark.clients
@pytest.mark.parametrize("store", ["aws", "vault"])
def test_policies_are_what_the_command_prints(terraform: Terraform, tree: Path, store: str) -> None:
    variables = {"profiles": PROFILES}
    if store == "aws":
        variables |= {"config": CONFIG, "layer_zip": "main.tf", "function_zip": "main.tf"}  # type: ignore[dict-item]
    (tree / f"modules/{store}/given.auto.tfvars.json").write_text(json.dumps(variables))
    plan = planned(terraform, tree / "modules" / store)
    made = plan["planned_values"]["outputs"]["policies"]["value"]
    config = parse_config(CONFIG.format(store=store), source="t", vendors=VENDORS, stores=STORES)
    wanted = {
        f"{role.value}/{name}": render_policy(profile, Audience(role.value))
        for name, profile in config.profiles.items()
        for role in Role
        if role is not Role.READ_ONLY or profile.publish_access_token
    }
    if store == "aws":
        assert {key: json.loads(text) for key, text in made.items()} == {
            k: json.loads(v) for k, v in wanted.items()
        }
    else:
        assert made == wanted


@pytest.mark.clients
@pytest.mark.parametrize(
    ("module", "file", "good", "bad", "complaint"),
    [
        ("aws", "main.tf", "enable_key_rotation ", "enable_key_rotations", "Unsupported argument"),
        (
            "aws",
            "main.tf",
            "memory_size                    = 256",
            'memory_size = "much"',
            "Incorrect attribute value",
        ),
        (
            "aws",
            "main.tf",
            "  schedule_expression          = each.value.expression\n",
            "",
            "Missing required argument",
        ),
        ("aws", "main.tf", '"aws_kms_alias"', '"aws_kms_aliass"', "Invalid resource type"),
        (
            "aws",
            "alarms.tf",
            "var.alarm_actions",
            "var.alarms",
            "Reference to undeclared input variable",
        ),
        ("kubernetes", "main.tf", "backoff_limit ", "backof_limit ", "Unsupported argument"),
        (
            "vault",
            "main.tf",
            "vault_policy.this[each.key].name",
            "vault_policy.that",
            "Reference to undeclared resource",
        ),
    ],
)
def test_a_planted_mistake_is_found(
    terraform: Terraform, tree: Path, module: str, file: str, good: str, bad: str, complaint: str
) -> None:
    copied = initialised(terraform, tree / "modules" / module)
    text = (copied / file).read_text()
    assert good in text
    (copied / file).write_text(text.replace(good, bad, 1))
    assert any(complaint in problem for problem in problems(terraform(copied, "validate", "-json")))


@pytest.mark.clients
def test_checkov_finds_nothing_that_is_not_explained() -> None:
    program = PLACE / "checkov/bin/checkov"
    if not program.exists():
        client("checkov")
    command = [
        str(program),
        "--config-file",
        ".checkov.yaml",
        "--directory",
        ".",
        "--output",
        "json",
    ]
    done = subprocess.run(
        command,
        cwd=TERRAFORM,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=patience(300),
    )
    report = json.loads(done.stdout)
    failed = {
        f"{item['check_id']} {item['resource']}" for item in report["results"]["failed_checks"]
    }
    assert failed == set()
    assert report["summary"]["passed"] > 50
    skips = [
        line
        for file in TERRAFORM.rglob("*.tf")
        for line in file.read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert all(re.search(r"checkov:skip=CKV\w+:.{20,}", line) for line in skips)


def test_the_readmes_are_as_the_code_has_it() -> None:
    command = [sys.executable, str(ROOT / "scripts/terraform_readmes.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr


@pytest.mark.clients
def test_deploy_says_what_it_wants(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts/deploy"], capture_output=True, text=True, env=clean_environment()
    )
    assert done.returncode == 2
    assert "aws kubernetes vault" in done.stderr
