"""What Terraform's AWS provider does for the example of this repository, done by boto3 at moto.

`offline_providers` plans by the provider's real schemas; with these hands it also applies, so that
the real Terraform makes the real functions, roles and schedules in an account that moto plays. One
row a type: how it is made, changed and removed. What a type has no row for is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3

Values = Mapping[str, Any]
REGION = "us-east-1"
IDENTITY = {"aws_access_key_id": "AKIAFULL", "aws_secret_access_key": "x", "region_name": REGION}


class Hands:
    """`place`: the directory in which Terraform runs, to which file names are relative."""

    def __init__(self, endpoint: str, place: Path) -> None:
        self._endpoint = endpoint
        self._place = place

    def create(self, kind: str, values: Values) -> dict[str, Any]:
        """Makes a resource. Returns what only AWS knows of it: identifiers, ARNs."""
        return _ROWS[kind][0](self, values)

    def update(self, kind: str, values: Values) -> dict[str, Any]:
        """Changes a resource in place."""
        return _ROWS[kind][1](self, values)

    def delete(self, kind: str, values: Values) -> None:
        _ROWS[kind][2](self, values)

    def ask(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self._endpoint, **IDENTITY)

    def zip_of(self, values: Values) -> bytes:
        return (self._place / str(values["filename"])).read_bytes()


def _key(hands: Hands, values: Values) -> dict[str, Any]:
    made = hands.ask("kms").create_key(Policy=values["policy"], Description=values["description"])
    identifier = made["KeyMetadata"]["KeyId"]
    return {"id": identifier, "key_id": identifier, "arn": made["KeyMetadata"]["Arn"]}


def _key_away(hands: Hands, values: Values) -> None:
    hands.ask("kms").schedule_key_deletion(KeyId=values["id"], PendingWindowInDays=30)


def _alias(hands: Hands, values: Values) -> dict[str, Any]:
    kms = hands.ask("kms")
    kms.create_alias(AliasName=values["name"], TargetKeyId=values["target_key_id"])
    (found,) = kms.list_aliases(KeyId=values["target_key_id"])["Aliases"]
    return {"id": values["name"], "arn": found["AliasArn"]}


def _log_group(hands: Hands, values: Values) -> dict[str, Any]:
    logs = hands.ask("logs")
    logs.create_log_group(logGroupName=values["name"], kmsKeyId=values["kms_key_id"])
    (found,) = logs.describe_log_groups(logGroupNamePrefix=values["name"])["logGroups"]
    return {"id": values["name"], "arn": found["arn"]}


def _queue(hands: Hands, values: Values) -> dict[str, Any]:
    sqs = hands.ask("sqs")
    url = sqs.create_queue(QueueName=values["name"])["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return {"id": url, "url": url, "arn": found["Attributes"]["QueueArn"]}


def _role(hands: Hands, values: Values) -> dict[str, Any]:
    made = hands.ask("iam").create_role(
        RoleName=values["name"], AssumeRolePolicyDocument=values["assume_role_policy"]
    )
    return {"id": values["name"], "arn": made["Role"]["Arn"], "unique_id": made["Role"]["RoleId"]}


def _role_policy(hands: Hands, values: Values) -> dict[str, Any]:
    hands.ask("iam").put_role_policy(
        RoleName=values["role"], PolicyName=values["name"], PolicyDocument=values["policy"]
    )
    return {"id": f"{values['role']}:{values['name']}"}


def _role_policy_away(hands: Hands, values: Values) -> None:
    hands.ask("iam").delete_role_policy(RoleName=values["role"], PolicyName=values["name"])


def _attachment(hands: Hands, values: Values) -> dict[str, Any]:
    hands.ask("iam").attach_role_policy(RoleName=values["role"], PolicyArn=values["policy_arn"])
    return {"id": f"{values['role']}/{values['policy_arn']}"}


def _attachment_away(hands: Hands, values: Values) -> None:
    hands.ask("iam").detach_role_policy(RoleName=values["role"], PolicyArn=values["policy_arn"])


def _layer(hands: Hands, values: Values) -> dict[str, Any]:
    made = hands.ask("lambda").publish_layer_version(
        LayerName=values["layer_name"],
        Content={"ZipFile": hands.zip_of(values)},
        CompatibleRuntimes=values["compatible_runtimes"],
    )
    arn = made["LayerVersionArn"]
    return {
        "id": arn,
        "arn": arn,
        "layer_arn": made["LayerArn"],
        "version": str(made["Version"]),
        "code_sha256": made["Content"]["CodeSha256"],
    }


def _layer_away(hands: Hands, values: Values) -> None:
    hands.ask("lambda").delete_layer_version(
        LayerName=values["layer_name"], VersionNumber=int(values["version"])
    )


def _settings(values: Values) -> dict[str, Any]:
    return {
        "FunctionName": values["function_name"],
        "Role": values["role"],
        "Runtime": values["runtime"],
        "Handler": values["handler"],
        "Layers": values["layers"],
        "Timeout": values["timeout"],
        "MemorySize": values["memory_size"],
        "Environment": {"Variables": values["environment"][0]["variables"]},
    }


def _function(hands: Hands, values: Values) -> dict[str, Any]:
    made = hands.ask("lambda").create_function(
        **_settings(values), Code={"ZipFile": hands.zip_of(values)}
    )
    return {"id": values["function_name"], "arn": made["FunctionArn"]}


def _function_changed(hands: Hands, values: Values) -> dict[str, Any]:
    aws = hands.ask("lambda")
    aws.update_function_code(FunctionName=values["function_name"], ZipFile=hands.zip_of(values))
    aws.update_function_configuration(**_settings(values))
    return {}


def _schedule(hands: Hands, values: Values) -> dict[str, Any]:
    (target,) = values["target"]
    made = hands.ask("scheduler").create_schedule(
        Name=values["name"],
        ScheduleExpression=values["schedule_expression"],
        ScheduleExpressionTimezone=values["schedule_expression_timezone"],
        FlexibleTimeWindow={"Mode": values["flexible_time_window"][0]["mode"]},
        Target={"Arn": target["arn"], "RoleArn": target["role_arn"], "Input": target["input"]},
    )
    return {"id": f"default/{values['name']}", "arn": made["ScheduleArn"]}


def _alarm(hands: Hands, values: Values) -> dict[str, Any]:
    cloudwatch = hands.ask("cloudwatch")
    name = values["alarm_name"]
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace=values["namespace"],
        MetricName=values["metric_name"],
        Statistic=values["statistic"],
        ComparisonOperator=values["comparison_operator"],
        Threshold=values["threshold"],
        Period=values["period"],
        EvaluationPeriods=values["evaluation_periods"],
        TreatMissingData=values["treat_missing_data"],
    )
    (found,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return {"id": name, "arn": found["AlarmArn"]}


def _by(service: str, call: str, **names: str) -> Callable[[Hands, Values], None]:
    """A removal that is one call, its parameters taken from these attributes."""

    def remove(hands: Hands, values: Values) -> None:
        wanted = {name: values[attribute] for name, attribute in names.items()}
        getattr(hands.ask(service), call)(**wanted)

    return remove


def _alarm_away(hands: Hands, values: Values) -> None:
    hands.ask("cloudwatch").delete_alarms(AlarmNames=[values["alarm_name"]])


def _never(hands: Hands, values: Values) -> dict[str, Any]:
    raise NotImplementedError("no test changes this type in place")


Make = Callable[[Hands, Values], dict[str, Any]]
_ROWS: Mapping[str, tuple[Make, Make, Callable[[Hands, Values], None]]] = {
    "aws_kms_key": (_key, _never, _key_away),
    "aws_kms_alias": (_alias, _never, _by("kms", "delete_alias", AliasName="name")),
    "aws_cloudwatch_log_group": (
        _log_group,
        _never,
        _by("logs", "delete_log_group", logGroupName="name"),
    ),
    "aws_sqs_queue": (_queue, _never, _by("sqs", "delete_queue", QueueUrl="url")),
    "aws_iam_role": (_role, _never, _by("iam", "delete_role", RoleName="name")),
    "aws_iam_role_policy": (_role_policy, _role_policy, _role_policy_away),
    "aws_iam_role_policy_attachment": (_attachment, _never, _attachment_away),
    "aws_lambda_layer_version": (_layer, _never, _layer_away),
    "aws_lambda_function": (
        _function,
        _function_changed,
        _by("lambda", "delete_function", FunctionName="function_name"),
    ),
    "aws_scheduler_schedule": (_schedule, _never, _by("scheduler", "delete_schedule", Name="name")),
    "aws_cloudwatch_metric_alarm": (_alarm, _never, _alarm_away),
}
