"""What the store of AWS Secrets Manager asks for, call by call, and what it makes of each reply.
The client is a list of replies; the service itself is met by the contract tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from nightporter.core.errors import (
    StoreDeniedError,
    StoreUnreachableError,
    StoreValueError,
    VersionConflictError,
)
from nightporter.core.record import Unreadable
from nightporter.session.port import ABSENT, Version
from nightporter.stores import secrets_manager
from nightporter.stores.aws_errors import NotFoundError
from nightporter.stores.secrets_manager import NO_VALUE, SecretsManagerStore, derived_id

T, NOW = 2.5, 1_784_037_600.0
ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:p-AbCdEf"
DATE = {"HTTPHeaders": {"date": "Tue, 14 Jul 2026 14:00:00 GMT"}}
NOTHING = NotFoundError("no such secret", has_secret=False)
CONFLICT = VersionConflictError("another was first")


@dataclass
class Aws:
    """A connection and its client in one: it notes what is asked, and answers in turn."""

    answers: list[Any] = field(default_factory=list)
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def ask(self, right: str, path: str, call: Callable[[Any], Any], *, timeout_s: float) -> Any:
        self.asked.append((right.removeprefix("secretsmanager:"), path, timeout_s))
        return call(self)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def operation(**members: Any) -> Any:
            self.calls.append((name, members))
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return operation


@dataclass
class Made:
    aws: Aws
    store: SecretsManagerStore
    said: list[str]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    def make(*answers: Any, **options: Any) -> Made:
        aws, said = Aws(list(answers)), list[str]()
        monkeypatch.setattr(secrets_manager, "Connection", lambda *_given: aws)
        store = SecretsManagerStore(options, clock=lambda: NOW, notify=said.append)
        return Made(aws, store, said)

    return make


def reply(value: Any = None, **more: Any) -> dict[str, Any]:
    text = {} if value is None else {"SecretString": json.dumps(value)}
    return {"VersionId": "v1", "ARN": ARN, **text, **more}


Make = Callable[..., Made]
ENDED = {"schema": 1, "refresh_token": "R", "expires_at": "2026-07-14T14:00:00Z", "generation": 4}


# Reading.


def test_a_read_tells_value_version_and_both_times(made: Make) -> None:
    """By its label; when it was written and what time it is are the service's."""
    written = datetime.fromtimestamp(NOW - 5, UTC)
    found = made(reply({"generation": 4}, CreatedDate=written, ResponseMetadata=DATE))
    seen = found.store.read("p", timeout_s=T)
    assert (seen.value, seen.expired) == ({"generation": 4}, None)
    assert seen.version == Version("v1", 4, ARN)
    assert (seen.written_at, seen.now) == (NOW - 5, NOW)
    assert found.aws.calls == [
        ("get_secret_value", {"SecretId": "p", "VersionStage": "AWSCURRENT"}),
    ]
    assert found.aws.asked == [("GetSecretValue", "p", T)]


@pytest.mark.parametrize("has_secret", [False, True])
def test_no_secret_and_one_without_a_value_are_told_apart(made: Make, has_secret: bool) -> None:
    """The second can't be created."""
    seen = made(NotFoundError("", has_secret=has_secret)).store.read("p", timeout_s=T)
    assert (seen.value, seen.version) == (None, Version(NO_VALUE) if has_secret else ABSENT)


@pytest.mark.parametrize(
    ("value", "date", "is_read", "is_expired"),
    [
        (ENDED, DATE, False, True),
        (ENDED, {}, False, True),
        ({**ENDED, "expires_at": "2026-07-14T14:00:01Z"}, DATE, True, False),
        ({**ENDED, "deleted": True}, DATE, False, False),
        ({"deleted": True}, DATE, False, False),
        ({"deleted": 1}, DATE, True, False),
    ],
)
def test_what_is_over_or_deleted_is_not_read(
    made: Make, value: dict[str, Any], date: Any, is_read: bool, is_expired: bool
) -> None:
    """What has expired is told as such, a tombstone is nothing; ours is the clock where the service
    tells none."""
    seen = made(reply(value, ResponseMetadata=date)).store.read("p", timeout_s=T)
    assert seen.value == (value if is_read else None)
    assert seen.expired == (value if is_expired else None)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, None])
def test_what_is_no_object_is_unreadable(made: Make, text: str | None) -> None:
    """With a version, so that a person can write over it."""
    members = {} if text is None else {"SecretString": text}
    seen = made({"VersionId": "v1", "ARN": ARN, **members}).store.read("p", timeout_s=T)
    assert isinstance(seen.value, Unreadable)
    assert "the secret p holds no JSON object" in seen.value.reason
    assert seen.version == Version("v1", 0, ARN)


def test_a_byte_order_mark_is_skipped(made: Make) -> None:
    """Windows writes one."""
    found = made({"VersionId": "v1", "SecretString": "\ufeff{}"})
    assert found.store.read("p", timeout_s=T).value == {}


@pytest.mark.parametrize("answer", [{}, {"VersionId": None}, {"VersionId": 7}])
def test_a_page_of_a_proxy_is_no_version(made: Make, answer: dict[str, Any]) -> None:
    """boto3 takes one with status 200 for an empty reply."""
    with pytest.raises(StoreUnreachableError):
        made(answer).store.read("p", timeout_s=T)
    for expected in (ABSENT, Version("v0")):
        with pytest.raises(StoreUnreachableError):
            made(answer).store.write("p", {}, expected, None, timeout_s=T)


@pytest.mark.parametrize(
    ("generation", "floor"),
    [(1, 1), (0, 0), (-1, 0), (True, 0), ("4", 0), (2**53 - 3, 2**53 - 3), (2**53 - 2, 0)],
)
def test_a_generation_is_believed_within_bounds(made: Make, generation: object, floor: int) -> None:
    """What doesn't fit is not gone on from."""
    seen = made(reply({"generation": generation})).store.read("p", timeout_s=T)
    assert seen.version.floor == floor


# Writing.


@pytest.mark.parametrize("key", [None, "alias/mine"])
def test_a_new_secret_is_created(made: Make, key: str | None) -> None:
    """With an id derived from its name, so that one of two wins, under the key that is named."""
    options = {"kms_key_id": key} if key else {}
    found = made(reply(), **options)
    version = found.store.write("p", {"generation": 4}, ABSENT, None, timeout_s=T)
    assert version == Version(derived_id("p"), 4, ARN)
    assert found.aws.calls == [
        (
            "create_secret",
            {
                "Description": "Kept by nightporter",
                "Name": "p",
                "ClientRequestToken": derived_id("p"),
                "SecretString": '{"generation": 4}',
                **({"KmsKeyId": key} if key else {}),
            },
        )
    ]
    assert found.aws.asked == [("CreateSecret", "p", T)]


@pytest.mark.parametrize(
    ("expected", "token"),
    [
        (Version("v1", 1, ARN), derived_id("v1", ARN)),
        (Version("v1"), derived_id("v1")),
        (Version(NO_VALUE), derived_id("p")),
    ],
)
def test_a_write_s_id_is_derived_from_what_it_follows(
    made: Make, expected: Version, token: str
) -> None:
    """And from the secret's own ARN, which is another after each creation."""
    found = made(reply())
    assert found.store.write("p", {}, expected, None, timeout_s=T).token == token
    members = {"SecretId": "p", "ClientRequestToken": token, "SecretString": "{}"}
    assert found.aws.calls == [("put_secret_value", members)]
    assert found.aws.asked == [("PutSecretValue", "p", T)]


# Deleting and sweeping.


def test_a_deletion_is_a_tombstone_and_takes_the_label_off(made: Make) -> None:
    """AWSPREVIOUS would keep the old value readable."""
    found = made(reply(), {})
    found.store.delete("p", Version("v1", 4, ARN), timeout_s=T)
    (_, put), (name, label) = found.aws.calls
    assert json.loads(put["SecretString"]) == {
        "schema": 1,
        "refresh_token": None,
        "generation": 4,
        "deleted": True,
    }
    assert (name, label) == (
        "update_secret_version_stage",
        {"SecretId": "p", "VersionStage": "AWSPREVIOUS", "RemoveFromVersionId": "v1"},
    )


@pytest.mark.parametrize("expected", [ABSENT, Version(NO_VALUE)])
def test_what_had_no_value_has_no_previous_one(made: Make, expected: Version) -> None:
    """One call, and no right more."""
    found = made(reply())
    found.store.delete("p", expected, timeout_s=T)
    assert len(found.aws.calls) == 1


def test_who_may_not_take_the_label_off_is_told(made: Make) -> None:
    """The deletion itself is done; a label that has moved on is nothing to tell."""
    found = made(reply(), StoreDeniedError("denied", right="r", hint="Allow it."))
    found.store.delete("p", Version("v1", 4, ARN), timeout_s=T)
    assert found.said == [
        "denied; the value before the deletion stays readable as AWSPREVIOUS. Allow it."
    ]
    for error in (CONFLICT, StoreValueError("not there")):
        found = made(reply(), error)
        found.store.delete("p", Version("v1", 4, ARN), timeout_s=T)
        assert found.said == []


STAGES = {"VersionIdsToStages": {"v0": ["AWSPREVIOUS"], "v1": ["AWSCURRENT"]}}


def test_what_has_expired_is_swept(made: Make) -> None:
    """As a deletion over the very version that was seen."""
    found = made(reply(ENDED), reply(), {})
    assert found.store.sweep("p", timeout_s=T)
    assert found.aws.calls[1][1]["ClientRequestToken"] == derived_id("v1", ARN)
    assert found.aws.calls[2][1]["RemoveFromVersionId"] == "v1"


@pytest.mark.parametrize("value", [{"n": 1}, {**ENDED, "deleted": True}])
def test_what_lives_or_is_deleted_loses_its_previous_values(
    made: Make, value: dict[str, Any]
) -> None:
    """Whether there were any is the answer."""
    found = made(reply(value), STAGES, {})
    assert found.store.sweep("p", timeout_s=T)
    assert found.aws.calls[-1][1]["RemoveFromVersionId"] == "v0"
    found = made(reply(value), {"VersionIdsToStages": {"v1": ["AWSCURRENT"]}})
    assert not found.store.sweep("p", timeout_s=T)
    assert not made(reply(value), {}).store.sweep("p", timeout_s=T)


def test_where_nothing_is_nothing_is_swept(made: Make) -> None:
    """Nor is what isn't ours."""
    for answer in (NOTHING, reply([1])):
        found = made(answer)
        assert not found.store.sweep("p", timeout_s=T)
        assert len(found.aws.calls) == 1


def test_previous_values_are_dropped_as_far_as_may_be(made: Make) -> None:
    """Who may not is told."""
    found = made(STAGES, StoreDeniedError("denied", right="r"))
    found.store.drop_previous("p", timeout_s=T)
    assert found.said == ["denied; what was there before stays readable as AWSPREVIOUS"]


def test_a_removal_has_its_recovery_window(made: Make) -> None:
    """Of thirty days, and is told; where nothing was, nothing is."""
    found = made({})
    told = found.store.remove("p", timeout_s=T)
    assert found.aws.calls == [("delete_secret", {"SecretId": "p", "RecoveryWindowInDays": 30})]
    assert told.startswith("AWS keeps it for 30 days: ")
    assert "--secret-id p`" in told
    assert made(NOTHING).store.remove("p", timeout_s=T) == ""


# Rights.


def test_rights_are_tried_without_changing_anything(made: Make) -> None:
    """What is there is written once more under the id that it has."""
    found = made(reply({"n": 1}), reply({"n": 2}), STAGES, reply())
    assert found.store.missing_rights(["a"], ["b"], timeout_s=T) == []
    assert found.aws.calls[2:] == [
        ("describe_secret", {"SecretId": "b"}),
        (
            "put_secret_value",
            {"SecretId": "b", "ClientRequestToken": "v1", "SecretString": '{"n": 2}'},
        ),
    ]
    assert made(NOTHING, NOTHING).store.missing_rights(["a"], ["b"], timeout_s=T) == []
    assert made(reply()).store.missing_rights([], ["b"], timeout_s=T) == []
    gone_on = made(reply({"n": 2}), STAGES, CONFLICT)
    assert gone_on.store.missing_rights([], ["b"], timeout_s=T) == []


def test_missing_rights_are_named(made: Make) -> None:
    """Each; credentials that are refused as a whole are no right."""
    denied = [StoreDeniedError("no", right=right) for right in ("get", "describe", "put")]
    found = made(denied[0], reply({"n": 1}), denied[1], reply({"n": 1}), STAGES, denied[2])
    assert found.store.missing_rights(["a"], ["b", "c"], timeout_s=T) == [
        *("get", "describe", "put"),
    ]
    with pytest.raises(StoreDeniedError):
        made(StoreDeniedError("expired", right="")).store.missing_rights(["a"], [], timeout_s=T)


# Labels of a rotation, and a current one that was moved back.


def test_a_label_that_was_moved_back_is_found_by_its_successors(made: Make) -> None:
    """As far as their ids lead."""
    child, grandchild = derived_id("v1", ARN), derived_id(derived_id("v1", ARN), ARN)
    found = made(reply({}), reply({}), reply({}), NOTHING)
    assert found.store.newer_than_current("p") == ("v1", grandchild)
    asked = [members.get("VersionId") for _, members in found.aws.calls]
    assert asked == [None, child, grandchild, derived_id(grandchild, ARN)]
    assert made(reply({}), NOTHING).store.newer_than_current("p") is None
    assert made(NOTHING).store.newer_than_current("p") is None
    assert len(made(reply({}), *[reply({})] * 100).store.newer_than_current("p") or ()) == 2


def test_the_current_label_is_moved_once(made: Make) -> None:
    """Somebody who has moved it already did the same; to another place is a conflict."""
    found = made({})
    found.store.move_current("p", "new", "old")
    (call,) = found.aws.calls
    assert call[1] == {
        "SecretId": "p",
        "VersionStage": "AWSCURRENT",
        "MoveToVersionId": "new",
        "RemoveFromVersionId": "old",
    }
    moved = {"VersionIdsToStages": {"new": ["AWSCURRENT"]}}
    made(StoreValueError("not there"), moved).store.move_current("p", "new", "old")
    with pytest.raises(VersionConflictError, match="moved by somebody else"):
        made(StoreValueError("not there"), STAGES).store.move_current("p", "new", "old")


def test_a_pending_version_is_read_written_and_dropped(made: Make) -> None:
    """Under the rotation's own id."""
    assert made(reply({"n": 1})).store.read_version("p", "v") == {"n": 1}
    assert made(NOTHING).store.read_version("p", "v") is None
    assert made(reply()).store.read_version("p", "v") is None
    with pytest.raises(StoreValueError, match="holds no JSON object"):
        made(reply([1])).store.read_version("p", "v")
    for token in (None, "proof"):
        found = made(reply())
        found.store.write_pending("p", "v", {"n": 1}, rotation_token=token)
        assert found.aws.calls[0][1] == {
            "SecretId": "p",
            "ClientRequestToken": "v",
            "SecretString": '{"n": 1}',
            "VersionStages": ["AWSPENDING"],
            **({"RotationToken": token} if token else {}),
        }
    pending = {"VersionIdsToStages": {"v": ["AWSPENDING"]}}
    answers: list[Any] = [{}, CONFLICT, StoreValueError("gone")]
    for answer in answers:
        found = made(pending, answer)
        found.store.drop_pending("p", "v")
        assert found.aws.calls[1][1]["VersionStage"] == "AWSPENDING"
    found = made(STAGES)
    found.store.drop_pending("p", "v")
    assert len(found.aws.calls) == 1


def test_a_fence_is_what_anybody_else_would_write(made: Make) -> None:
    """From the same parent; who was faster has fenced as well."""
    for answer in (reply(), CONFLICT):
        found = made({"ARN": ARN}, answer)
        found.store.fence("p", "v", {"n": 1})
        assert found.aws.calls[1][1]["ClientRequestToken"] == derived_id("v", ARN)
        assert found.aws.calls[1][1]["VersionStages"] == ["NIGHTPORTER_FENCE"]
    assert SecretsManagerStore.versions_per_day == 100
