"""What the store of Vault makes of replies, without a server: times, versions, lives, rights. The
server itself is met by the contract tests."""

from __future__ import annotations

from typing import Any

import pytest

from nightporter.core.errors import StoreDeniedError, VersionConflictError
from nightporter.session.port import Version
from nightporter.stores import vault
from nightporter.stores.vault import VaultStore

T, NOW = 2.5, 1_784_037_600.0
CREATED = "2026-07-14T14:00:00.25Z"
ENDED = {"schema": 1, "refresh_token": "R", "expires_at": "2026-07-14T14:00:00Z"}


class Scripted(VaultStore):
    """One whose calls are answered in turn."""

    def __init__(self, *answers: Any, date: float | None = NOW, **options: Any) -> None:
        super().__init__(options, {"VAULT_ADDR": "https://v.example"}, clock=lambda: NOW)
        self.answers, self.asked = list(answers), list[str]()
        self._date = date

    def _call(self, ask: Any, what: str, timeout_s: float) -> Any:
        self.asked.append(what)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def metadata(**more: Any) -> dict[str, Any]:
    return {"version": 7, "created_time": CREATED, "custom_metadata": None, **more}


def test_a_reply_tells_value_version_and_both_times() -> None:
    """In the server's time; the creation proves the version's life."""
    found = Scripted()._stored({"data": {"n": 1}, "metadata": metadata()})
    assert (found.value, found.expired, found.remains) == ({"n": 1}, None, None)
    assert found.version == Version("7", 7, CREATED)
    assert (found.written_at, found.now) == (NOW + 0.25, NOW)


@pytest.mark.parametrize(
    ("data", "date", "value", "expired"),
    [
        (ENDED, NOW, None, ENDED),
        (ENDED, None, None, ENDED),
        (ENDED, NOW - 1, ENDED, None),
        ({}, NOW, None, None),
        (None, NOW, None, None),
    ],
)
def test_what_is_over_is_told_apart_from_nothing(
    data: Any, date: float | None, value: Any, expired: Any
) -> None:
    """By the server's clock, ours where it tells none."""
    found = Scripted(date=date)._stored({"data": data, "metadata": metadata()})
    assert (found.value, found.expired) == (value, expired)


@pytest.mark.parametrize("data", [[1], "x", 7])
def test_what_is_no_object_can_not_be_read(data: Any) -> None:
    """KV v2 holds objects alone: it is no answer of Vault's."""
    with pytest.raises(ValueError, match="data"):
        Scripted()._stored({"data": data, "metadata": metadata()})


@pytest.mark.parametrize(
    ("number", "floor"), [(1, 1), (2**53 - 3, 2**53 - 3), (2**53 - 2, 0), ("7", 7)]
)
def test_a_version_counts_within_bounds(number: Any, floor: int) -> None:
    """A count beyond all is not gone on from; a missing time proves nothing."""
    assert vault._version({"version": number}) == Version(str(number), floor, "")


def written(life_s: int | None) -> vault._Written:
    created = int(NOW)
    deleted = None if life_s is None else created + life_s
    return vault._Written(number=7, created_time=CREATED, created_at=created, deleted_at=deleted)


@pytest.mark.parametrize(
    ("life_s", "lives", "is_timed"),
    [
        (None, True, False),
        (16, True, True),
        (15, False, False),
        (21, True, True),
        (22, True, False),
        (0, False, False),
    ],
)
def test_how_long_vault_keeps_what_was_written(
    life_s: int | None, lives: bool, is_timed: bool
) -> None:
    """Long enough for a claim of 16 s; timed is what ends with the token or at most 5 s later."""
    found = written(life_s)
    assert found.life_s == life_s
    assert found.lives(16) is lives
    assert found.is_timed(int(NOW) + 16) is is_timed
    assert found.version == Version("7", 7, CREATED)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h0m20s", 3_620), ("768h0m0s", 2_764_800), ("0s", 0), ("1.9s", 1), ("", 0), (None, 0)],
)
def test_durations_as_go_writes_them(text: object, seconds: int) -> None:
    """No text is none."""
    assert vault._duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-14T14:00:00Z", NOW),
        ("2026-07-14T14:00:00.5Z", NOW + 0.5),
        ("2026-07-14T16:00:00.123456789+02:00", NOW + 0.123456789),
        ("", None),
        (None, None),
        ("soon", None),
    ],
)
def test_moments_keep_their_fraction(text: object, moment: float | None) -> None:
    """Vault's are of nanoseconds."""
    assert vault._instant(text) == moment


@pytest.mark.parametrize(
    ("words", "text"),
    [(["read"], "read"), (["create", "read"], "create and read"), (["a", "b", "c"], "a, b and c")],
)
def test_rights_are_listed_for_people(words: list[str], text: str) -> None:
    """With one `and`."""
    assert vault._listed(words) == text


@pytest.mark.parametrize(
    ("address", "is_right"),
    [
        ("https://v.example", True),
        ("http://127.0.0.1:8200", True),
        ("https://v.example/v1", False),
        ("https://v.example/v1/", False),
        ("http://v.example", False),
        ("v.example", False),
    ],
)
def test_an_address_is_the_server_s_alone(address: str, is_right: bool) -> None:
    """A pasted one may end in /v1."""
    assert (vault._address_problem(address) is None) is is_right


def test_missing_rights_are_found_by_asking_vault() -> None:
    """A path is quoted as Vault has it; root has all of them."""
    granted = {
        "kv/data/a%20b": ["read"],
        "kv/data/r": ["create", "read"],
        "kv/metadata/r": ["deny"],
    }
    store = Scripted(granted, mount="kv")
    assert store.missing_rights(["a b"], ["r"], timeout_s=T) == [
        "update on kv/data/r",
        "create and update on kv/metadata/r",
    ]
    assert store.asked == ["update on sys/capabilities-self"]
    root = {path: ["root"] for path in granted}
    assert Scripted(root, mount="kv").missing_rights(["a b"], ["r"], timeout_s=T) == []
    assert Scripted({}).missing_rights(["a"], [], timeout_s=T) == ["read on secret/data/a"]


DENIED = StoreDeniedError("no", right="read")


@pytest.mark.parametrize(
    ("answers", "limit"),
    [
        ([60], ("the mount 'secret'", 60)),
        ([0], None),
        ([DENIED, 30], ("the last write", 30)),
        ([DENIED, 0], None),
        ([DENIED, DENIED], None),
    ],
)
def test_what_limits_the_life_of_a_write(answers: list[Any], limit: Any) -> None:
    """The mount's setting where it may be read, else what became of the last write; with what
    lifts it."""
    found = Scripted(*answers).life_limit("p", timeout_s=T)
    assert (found and (found.source, found.seconds)) == limit
    if found is not None:
        assert "`vault write secret/config delete_version_after=0s`" in found.todo
        assert ("`vault kv metadata put" in found.todo) is (found.source == "the last write")


def test_a_version_of_another_life_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key whose metadata was deleted counts from 1 again; what was seen just now, or has no
    proof, is not looked at."""
    store = Scripted()
    reads: list[str] = []
    there = Version("7", 7, "another time")

    def read(path: str, *, timeout_s: float) -> Any:
        reads.append(path)
        return store._stored(
            {"data": {}, "metadata": metadata(created_time=there.proof, version=int(there.token))}
        )

    monkeypatch.setattr(store, "read", read)
    mine = Version("7", 7, CREATED)
    with pytest.raises(VersionConflictError, match="was deleted and written again"):
        store._check_same_life("p", mine, T)
    there = Version("8", 8, "another time")
    store._check_same_life("p", mine, T)  # the compare-and-set itself fails
    there = mine
    store._check_same_life("p", mine, T)
    assert len(reads) == 3
    store._check_same_life("p", Version("7", 7), T)
    monkeypatch.setattr("nightporter.stores.vault.time.monotonic", lambda: 100.0)
    store._seen["p"] = (mine, 99.0)
    store._check_same_life("p", mine, T)
    assert len(reads) == 3
    store._seen["p"] = (mine, 98.9)
    store._check_same_life("p", mine, T)
    assert len(reads) == 4
