"""The handlers for Lambda, called as Lambda calls them; and the layer, run by AWS's own runtime
client."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from lab.clients import PLACE, client
from lab.patience import until, within
from lab.servers.runtime_api import Environment, open_function
from lab.support import AWS_VARIABLES, ROOT, Home, pitchpoint_config
from lab.worlds.vendor import Vendor
from nightporter import aws_lambda
from nightporter.client.porter import Porter
from nightporter.core.errors import (
    ConfigError,
    InitPhaseError,
    InvocationEndsError,
    NightporterError,
    RotationFailedError,
)
from nightporter.core.values import asdict
from nightporter.machine import lambda_time

CREDENTIALS = {"username": "svc-acme", "password": "correct-horse"}


@dataclass
class Context:
    """What the runtime hands to a handler, as far as we look at it."""

    left_s: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)


@pytest.fixture
def function(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """This process with the environment of the home."""
    for name in ("HOME", "PATH"):
        monkeypatch.setenv(name, home.environment[name])
    for name in list(os.environ):
        if name.startswith(("NIGHTPORTER_", "XDG_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NIGHTPORTER_CACHE", "off")
    return home


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_rotate_handler_reports_and_measures(
    function: Home, vendor: Vendor, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = aws_lambda.rotate_handler({}, Context())
    assert (answer["rotated"], answer["failed"], answer["profiles"][0]["did"]) == (1, 0, "sign-in")
    assert aws_lambda.rotate_handler({"profiles": ["pitchpoint"]}, Context())["rotated"] == 0
    assert vendor.count("sign-in") == 1
    out = capsys.readouterr().out
    emf = [line for line in lines(out) if "Rotations" in line]
    assert [line["Rotations"] for line in emf] == [1, 0]
    for line in emf:
        directive = line["_aws"]["CloudWatchMetrics"][0]
        assert directive["Dimensions"] == [["FunctionName"], ["FunctionName", "Profile"]]
        for metric in directive["Metrics"]:
            assert isinstance(line[metric["Name"]], int)
        assert isinstance(line["_aws"]["Timestamp"], int)
        assert 0 < line["RefreshTokenLifeLeft"] <= 48 * 3600
    assert "correct-horse" not in out
    assert not any(
        token in out for token in [*vendor.world.access_tokens, *vendor.world.refresh_tokens]
    )


def test_the_page_counts_what_is_billed(function: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Custom metrics are the largest part of the costs that lambda.md shows."""
    aws_lambda.rotate_handler({}, Context())
    aws_lambda.rotate_handler({"access": True}, Context())
    billed = set()
    for line in lines(capsys.readouterr().out):
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for metric in directive["Metrics"]:
                for dimensions in directive["Dimensions"]:
                    values = tuple(line[name] for name in dimensions)
                    billed.add((metric["Name"], tuple(dimensions), values))
    page = (ROOT / "plugin/docs/lambda.md").read_text()
    assert f"| {len(billed)} custom metrics |" in page
    alarms = (ROOT / "terraform/modules/aws/alarms.tf").read_text()
    assert f"| {len(re.findall(r'^    [a-z0-9-]+ *= [{]', alarms, re.M))} alarms |" in page


def test_rotate_handler_fails_at_the_end_and_counts_refusals(
    function: Home, vendor: Vendor, capsys: pytest.CaptureFixture[str]
) -> None:
    more = '[profiles.other]\nissuer = "pitchpoint"\ncredentials = "nowhere"\n'
    function.configure(pitchpoint_config(vendor.address) + more)
    vendor.world.users = {"svc-acme": "changed"}
    with pytest.raises(RotationFailedError, match="2 of 2") as raised:
        aws_lambda.rotate_handler({}, Context())
    assert "credentials-refused" in str(raised.value)
    emf = {line["Profile"]: line for line in lines(capsys.readouterr().out) if "Rotations" in line}
    assert (emf["pitchpoint"]["RefusedSignIns"], emf["other"]["RefusedSignIns"]) == (1, 0)
    assert emf["other"]["Failures"] == 1


def test_a_failed_rotation_still_says_what_is_left(
    function: Home, vendor: Vendor, capsys: pytest.CaptureFixture[str]
) -> None:
    aws_lambda.rotate_handler({}, Context())
    record = function.record()
    function.set_record(
        expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    )
    vendor.world.users = {}
    with pytest.raises(RotationFailedError):
        aws_lambda.rotate_handler({}, Context())
    emf = [line for line in lines(capsys.readouterr().out) if "_aws" in line][-1]
    assert 3500 < emf["RefreshTokenLifeLeft"] <= 3600
    assert function.record()["refresh_token"] == record["refresh_token"]


@pytest.mark.parametrize(
    "event",
    [
        {"profile": "x"},
        {"profiles": "x"},
        {"profiles": [1]},
        {"access": 1},
        {"jobs": 0},
        {"shard": "x"},
        [],
        1,
    ],
)
def test_rotate_handler_refuses_odd_events(function: Home, event: Any) -> None:
    with pytest.raises(ConfigError):
        aws_lambda.rotate_handler(event, Context())


def test_rotate_handler_begins_nothing_it_could_not_end(function: Home, vendor: Vendor) -> None:
    with pytest.raises(RotationFailedError, match="not reached"):
        aws_lambda.rotate_handler({"detail-type": "Scheduled Event"}, Context(left_s=11))
    assert vendor.count("sign-in") == 0


def test_a_defect_leaves_without_its_text(function: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("nightporter.operations.rotate.rotate_all", explode)
    with pytest.raises(NightporterError) as raised:
        aws_lambda.rotate_handler({}, Context())
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_no_exchange_without_time_but_a_living_token(function: Home, vendor: Vendor) -> None:
    with Porter() as porter:
        with lambda_time.bounded_by(Context(left_s=5)), pytest.raises(InvocationEndsError):
            porter.get_token()
        assert vendor.count("sign-in") == 0
        token = porter.get_token()
        with lambda_time.bounded_by(Context(left_s=5)):
            assert (
                porter.get_token(min_ttl=3500 + 99).value == token.value
            )  # it still lives: served meanwhile
            assert porter.get_token().value == token.value


# Secrets Manager's own rotation.


@pytest.fixture
def aws(
    moto: str,
    aws_environment: None,
    own_home: None,
    monkeypatch: pytest.MonkeyPatch,
    vendor: Vendor,
) -> Iterator[Any]:
    path = f"prod/{time.monotonic_ns()}"
    client = boto3.client("secretsmanager", endpoint_url=moto)
    client.create_secret(Name=path, SecretString=json.dumps(CREDENTIALS))
    text = (
        '[stores.prod]\ntype = "aws-secrets-manager"\nendpoint_url ='
        f' "{moto}"\n[profiles.p]\nissuer = "pitchpoint"\nstore = "prod"\ncredentials ='
        f' "{path}"\nbase_url = "{vendor.address}"\n[profiles.v]\nissuer = "vault-ist"\nstore ='
        f' "prod"\ncredentials = "{path}"\nrefresh_token = "{path}/v"\npartner_id = 1\nbase_url ='
        f' "{vendor.address}"\n'
    )
    monkeypatch.setenv("NIGHTPORTER_CONFIG_TOML", text)
    monkeypatch.setenv("NIGHTPORTER_CACHE", "off")
    client.path = f"{path}/refresh-token"
    yield client
    client.close()


def begin_rotation(client: Any) -> tuple[str, str]:
    """As Secrets Manager leaves a secret before it calls the function: AWSPENDING without a value.
    The ARN, the id."""
    with contextlib.suppress(client.exceptions.ResourceExistsException):
        client.create_secret(Name=client.path, SecretString='{"schema": 0}')
    token = f"{time.monotonic_ns():032d}"
    with contextlib.suppress(
        client.exceptions.ResourceNotFoundException
    ):  # moto knows no such function
        client.rotate_secret(
            SecretId=client.path,
            ClientRequestToken=token,
            RotationLambdaARN="arn:aws:lambda:eu-west-1:123456789012:function:np",
            RotationRules={"AutomaticallyAfterDays": 1},
        )
    return client.describe_secret(SecretId=client.path)["ARN"], token


def step(name: str, arn: str, token: str, left_s: float = 60) -> str:
    event = {"Step": name, "SecretId": arn, "ClientRequestToken": token}
    return str(aws_lambda.secret_rotation_handler(event, Context(left_s))["did"])


def current(client: Any) -> dict[str, Any]:
    reply = client.get_secret_value(SecretId=client.path, VersionStage="AWSCURRENT")
    found: dict[str, Any] = json.loads(reply["SecretString"])
    return {**found, "version": reply["VersionId"]}


def test_all_four_steps_each_twice(aws: Any, vendor: Vendor) -> None:
    arn, token = begin_rotation(aws)
    assert step("createSecret", arn, token) == "created"
    assert step("createSecret", arn, token) == "created before"
    assert step("setSecret", arn, token) == step("setSecret", arn, token) == "nothing to set"
    assert step("testSecret", arn, token) == step("testSecret", arn, token) == "tested"
    assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 2)
    assert step("finishSecret", arn, token) == "finished"
    for name in ("finishSecret", "createSecret", "testSecret"):
        assert step(name, arn, token) == "done before"
    record = current(aws)
    assert (record["version"], record["claim"]) == (token, None)
    labels = aws.describe_secret(SecretId=aws.path)["VersionIdsToStages"]
    assert not any("AWSPENDING" in stages for stages in labels.values())
    with Porter() as porter:  # and consumers go on from there
        assert vendor.world.is_live(porter.get_token("p").value)
        assert vendor.world.is_live(porter.get_token("p", force_refresh=True).value)
    assert vendor.count("sign-in") == 1


def test_a_second_rotation_signs_in_anew_when_it_is_time(
    aws: Any, vendor: Vendor, monkeypatch: Any
) -> None:
    for _ in range(2):
        arn, token = begin_rotation(aws)
        for name in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            step(name, arn, token)
        monkeypatch.setattr("nightporter.operations.secrets_manager_rotation.RETRY_WITHIN_S", -1)
    assert vendor.count("sign-in") == 2
    assert current(aws)["generation"] == 2


def test_steps_out_of_order_are_refused(aws: Any, vendor: Vendor) -> None:
    arn, token = begin_rotation(aws)
    for name in ("testSecret", "finishSecret"):
        with pytest.raises(NightporterError, match="holds no session"):
            step(name, arn, token)
    with pytest.raises(ConfigError, match="no version"):
        step("createSecret", arn, "0" * 32)
    with pytest.raises(ConfigError, match="unknown step"):
        step("deleteSecret", arn, token)
    assert vendor.count("sign-in") == 0


def test_a_crash_after_the_sign_in_costs_no_second_one(
    aws: Any, vendor: Vendor, monkeypatch: Any
) -> None:
    arn, token = begin_rotation(aws)
    with monkeypatch.context() as patch:
        patch.setattr(
            "nightporter.stores.secrets_manager.SecretsManagerStore.write_pending",
            lambda *_args: 1 / 0,
        )
        with pytest.raises(NightporterError, match="a defect"):
            step("createSecret", arn, token)
    assert step("createSecret", arn, token) == "created"
    assert vendor.count("sign-in") == 1


def test_a_later_session_of_a_consumer_stays_current(aws: Any, vendor: Vendor) -> None:
    arn, token = begin_rotation(aws)
    step("createSecret", arn, token)
    with Porter() as porter:
        session = porter.broker_for("p").session
        view = session.read(time.monotonic() + 10)
        assert view.record is not None
        session.overwrite(view, view.record.__class__(**{**fields(view.record), "generation": 9}))
    assert step("finishSecret", arn, token) == "overtaken"
    assert current(aws)["generation"] == 9


def test_a_pending_session_that_died_gives_way(aws: Any, vendor: Vendor) -> None:
    """Secrets Manager resumes a rotation with the version that has the label: a dead one would
    block it for good."""
    arn, token = begin_rotation(aws)
    step("createSecret", arn, token)
    vendor.world.revoke(lambda _grant: True)
    with pytest.raises(NightporterError, match="label is taken off"):
        step("testSecret", arn, token)
    labels = aws.describe_secret(SecretId=aws.path)["VersionIdsToStages"]
    assert not any("AWSPENDING" in stages for stages in labels.values())


def test_a_log_out_in_between_is_not_undone(aws: Any, vendor: Vendor) -> None:
    arn, token = begin_rotation(aws)
    step("createSecret", arn, token)
    with Porter() as porter:
        session = porter.broker_for("p").session
        stored = session.read_path(aws.path, time.monotonic() + 10)
        session.store.delete(aws.path, stored.version, timeout_s=5)
    for name in ("testSecret", "finishSecret"):
        with contextlib.suppress(ConfigError):  # the label is gone by then
            assert step(name, arn, token) == "overtaken"
    assert current(aws)["refresh_token"] is None


def fields(record: Any) -> dict[str, Any]:
    return asdict(record)


def test_no_time_no_sign_in(aws: Any, vendor: Vendor) -> None:
    arn, token = begin_rotation(aws)
    with pytest.raises(InvocationEndsError):
        step("createSecret", arn, token, left_s=8)
    assert vendor.count("sign-in") == 0


def test_rotations_that_can_t_be_are_refused_with_a_reason(aws: Any, vendor: Vendor) -> None:
    prefix = aws.path.removesuffix("/refresh-token")
    for secret, reason in (
        (f"{prefix}/v", "rotate or are shared|can't sign in"),
        (prefix, "session record of no profile"),
    ):
        with pytest.raises(ConfigError, match=reason):
            step("createSecret", secret, "0" * 32)
    with pytest.raises(ConfigError):
        aws_lambda.secret_rotation_handler({}, Context())


# The layer.


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer as it is built, unpacked as Lambda does."""
    target = tmp_path_factory.mktemp("layer")
    command = [sys.executable, str(ROOT / "scripts/layer.py"), "--target", str(target)]
    built = [
        subprocess.run([*command, "--variant", "layer"], check=True, capture_output=True).stdout
        for _ in range(2)
    ]
    assert built[0] == built[1]  # the same bytes
    subprocess.run([*command, "--variant", "layer-vault"], check=True, capture_output=True)
    with zipfile.ZipFile(target / "nightporter-layer.zip") as archive:
        archive.extractall(target / "opt")
    return target / "opt"


def runtimes() -> list[Path]:
    return sorted(PLACE.glob("lambda-*/bin/python")) or [PLACE / "lambda-absent/bin/python"]


@pytest.mark.clients
def test_the_layer_holds_all_it_needs_and_no_machine_code(layer: Path) -> None:
    names = [str(path.relative_to(layer)) for path in layer.rglob("*") if path.is_file()]
    assert not [name for name in names if re.search(r"\.(so|pyd|dylib|dll|exe)$", name)]
    compiled = [name for name in names if name.endswith(".pyc")]
    assert len(compiled) == sum(name.endswith(".py") for name in names)
    for name in compiled:  # never looked up by its source's time, which a layer has none of
        assert f"/__pycache__/{Path(name).name}" in name
        assert (layer / name).read_bytes()[4:8] == b"\x01\0\0\0"  # PEP 552, unchecked
    assert not any((layer / name).read_bytes().startswith(b"\x7fELF") for name in names)
    assert not [name for name in names if name.startswith(("python/boto", "python/click"))]
    script = (
        f"import sys; sys.path.insert(0, {str(layer / 'python')!r})\nimport nightporter,"
        " nightporter.net.http, nightporter.aws_lambda, nightporter.client.bearer,"
        " zoneinfo\nzoneinfo.ZoneInfo('America/New_York'); nightporter.get_token;"
        " nightporter.BearerAuth; print('fine')"
    )
    for python in runtimes():
        done = subprocess.run([python, "-I", "-S", "-c", script], capture_output=True, text=True)
        assert done.stdout == "fine\n", done.stderr


@pytest.mark.clients
def test_the_bill_of_materials(layer: Path) -> None:
    for file in layer.parent.glob("*.cdx.json"):
        text = file.read_text()
        script = (
            "import sys; from cyclonedx.schema import SchemaVersion\n"
            "from cyclonedx.validation.json import JsonStrictValidator\n"
            "print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))"
        )
        done = subprocess.run(
            [client("python"), "-c", script], input=text, capture_output=True, text=True
        )
        assert done.stdout == "None\n", done.stderr + done.stdout
        bill = json.loads(text)
        references = [item["bom-ref"] for item in bill["components"]]
        assert len(set(references)) == len(references)
        assert set(bill["dependencies"][0]["dependsOn"]) == set(references)
        assert any(item["name"] == "hvac" for item in bill["components"]) == ("vault" in file.name)


APP = """
import os, time
real, jumped_s = time.time, [0]
time.time = lambda: real() + jumped_s[0]
import nightporter
from nightporter import aws_lambda

try:
    nightporter.get_token("p")
    INIT = "exchanged"
except nightporter.NightporterError as exc:
    INIT = exc.reference
auth = nightporter.BearerAuth("p")

def handler(event, context):
    jumped_s[0] += event.get("jump_s", 0)
    if event.get("rotate"):
        return aws_lambda.rotate_handler({}, context)
    if event.get("thread"):
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return pool.submit(lambda: nightporter.get_token("p").value).result()
    began = time.perf_counter()
    token = nightporter.get_token("p")
    return {"init": INIT, "token": token.value, "ms": (time.perf_counter() - began) * 1000}
"""


@pytest.fixture
def variables(moto: str, vendor: Vendor, aws_environment: None) -> Mapping[str, str]:
    path = f"lambda/{time.monotonic_ns()}"
    client = boto3.client("secretsmanager", endpoint_url=moto)
    client.create_secret(Name=path, SecretString=json.dumps(CREDENTIALS))
    client.close()
    text = (
        '[stores.prod]\ntype = "aws-secrets-manager"\nendpoint_url ='
        f' "{moto}"\n[profiles.p]\nissuer = "pitchpoint"\nstore = "prod"\ncredentials ='
        f' "{path}"\nbase_url = "{vendor.address}"\n'
    )
    return {**AWS_VARIABLES, "NIGHTPORTER_CONFIG_TOML": text}


@pytest.fixture(params=runtimes(), ids=lambda path: path.parent.parent.name)
def function_of(
    request: pytest.FixtureRequest, layer: Path, tmp_path: Path, variables: Mapping[str, str]
) -> Any:
    """Opens environments of one function, one after the other."""
    if not request.param.exists():
        pytest.skip("./scripts/clients has installed no runtime of Lambda here")
    count = iter(range(100))

    def open_one() -> Any:
        return open_function(request.param, tmp_path / f"f{next(count)}", layer, APP, variables)

    return open_one


@pytest.mark.clients
def test_a_function_from_cold_to_warm(function_of: Any, vendor: Vendor) -> None:
    with function_of() as environment:
        first = environment.invoke({})
        assert first.kind == "response", environment.said()
        assert (first.body["init"], vendor.count("sign-in")) == ("lambda-init", 1)
        assert vendor.world.is_live(first.body["token"])
        answers = [environment.invoke({}) for _ in range(100)]
        assert {answer.body["token"] for answer in answers} == {first.body["token"]}
        assert environment.invoke({"thread": True}).body == first.body["token"]
        assert (vendor.count("sign-in"), vendor.count("refresh")) == (1, 0)
        # Thawed after the token's end; the API's clock has to have gone on too.
        later = environment.invoke({"jump_s": 3700}, timeout_s=3700 + 30)
        assert later.kind == "response", environment.said()
        assert later.body["token"] != first.body["token"]
        said = environment.said()
    assert not any(
        secret in said
        for secret in ["correct-horse", *vendor.world.access_tokens, *vendor.world.refresh_tokens]
    )


@pytest.mark.clients
def test_no_exchange_with_little_time_and_errors_without_secrets(
    function_of: Any, vendor: Vendor
) -> None:
    with function_of() as environment:
        short = environment.invoke({}, timeout_s=5)
        assert (short.kind, short.body["errorType"]) == ("error", "InvocationEndsError")
        assert vendor.count("sign-in") == 0
        assert (
            environment.invoke({"thread": True}, timeout_s=5).body["errorType"]
            == "InvocationEndsError"
        )
        vendor.world.users = {"svc-acme": "changed"}
        refused = environment.invoke({})
        assert refused.body["errorType"] == "CredentialsRefusedError"
        failed = environment.invoke({"rotate": True})
        assert failed.body["errorType"] == "RotationFailedError"
        said = environment.said()
    assert '"RefusedSignIns": 1' in said
    assert "correct-horse" not in said


@pytest.mark.clients
def test_killed_in_the_middle_of_an_exchange(function_of: Any, vendor: Vendor) -> None:
    """Lambda ends a process whose time is over; the next environment takes its claim over, and the
    session goes on."""
    vendor.fail({"kind": "hang", "times": 1})
    with function_of() as environment:
        kill_while_it_hangs(environment, vendor)
    with function_of() as environment:
        with within(30):  # a claim lives for 16 s
            outcome = environment.invoke({}, timeout_s=40)
        assert outcome.kind == "response", environment.said()
        assert vendor.world.is_live(outcome.body["token"])


def kill_while_it_hangs(environment: Environment, vendor: Vendor) -> None:
    environment.api.asks.put(("request-x", b"{}", time.time() + 60))
    until(lambda: not vendor.world.faults)
    time.sleep(0.2)
    environment.process.send_signal(signal.SIGKILL)
    environment.process.wait()


@pytest.mark.clients
def test_frozen_over_the_end_of_a_token(function_of: Any, vendor: Vendor) -> None:
    vendor.world.expires_in = 12
    with function_of() as environment:
        first = environment.invoke({})
        assert first.kind == "response", environment.said()
        environment.process.send_signal(signal.SIGSTOP)
        time.sleep(8)  # less than half of its life is left, which is what min_ttl is capped at
        environment.process.send_signal(signal.SIGCONT)
        assert environment.invoke({}).body["token"] != first.body["token"]


def test_init_phase_is_told_from_an_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle_event_request() -> float | None:
        lambda_context = Context(20)  # noqa: F841 - read from this frame
        return lambda_time.remaining_s()

    runtime = types.SimpleNamespace(handle_event_request=handle_event_request)
    monkeypatch.setitem(sys.modules, "awslambdaric.bootstrap", runtime)
    assert handle_event_request() == 20.0
    assert lambda_time.remaining_s() == 0.0
    with pytest.raises(InitPhaseError):
        lambda_time.check_exchange(False)
