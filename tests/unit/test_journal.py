"""What a machine keeps of session records on its own disk: pending results, and the highest state
that it has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightporter.core.record import PendingResult
from nightporter.machine import files
from nightporter.machine import journal as module
from nightporter.machine.journal import KEPT_LINEAGES, FileJournal

PATH = "prod/pitchpoint/refresh-token"


def pending(at: int = 100, nonce: str = "n1") -> PendingResult:
    return PendingResult(
        nonce=nonce, record={"refresh_token": f"r-{nonce}"}, at=at, is_sign_in=False
    )


def journal(directory: Path, path: str = PATH) -> FileJournal:
    return FileJournal(str(directory / "spill"), path)


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    """Another process reads what one kept, in a file that nobody else can read."""
    assert journal(tmp_path).keep(pending())
    (found,) = journal(tmp_path).load()
    assert (found.nonce, found.record, found.at) == ("n1", {"refresh_token": "r-n1"}, 100)
    (file,) = (tmp_path / "spill").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_results_of_one_record_come_oldest_first(tmp_path: Path) -> None:
    """The newest is to be written last."""
    for at, nonce in ((300, "n3"), (100, "n1"), (200, "n2")):
        journal(tmp_path).keep(pending(at, nonce))
    assert [found.nonce for found in journal(tmp_path).load()] == ["n1", "n2", "n3"]


def test_one_result_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    """Each is judged by itself."""
    for at, nonce in ((100, "n1"), (200, "n2")):
        journal(tmp_path).keep(pending(at, nonce))
    first, _ = journal(tmp_path).load()
    journal(tmp_path).drop(first.name)
    assert [found.nonce for found in journal(tmp_path).load()] == ["n2"]


def test_another_record_s_results_are_not_ours(tmp_path: Path) -> None:
    """Two profiles share the directory, and neither sees nor drops the other's."""
    journal(tmp_path).keep(pending())
    (found,) = journal(tmp_path).load()
    other = journal(tmp_path, "prod/perspio/refresh-token")
    assert other.load() == []
    other.drop(found.name)
    assert len(journal(tmp_path).load()) == 1


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "x.json", ""])
def test_nothing_else_is_dropped(tmp_path: Path, name: str) -> None:
    """A name comes from a file, and is not believed."""
    victim = tmp_path / "x"
    victim.touch()
    journal(tmp_path).keep(pending())
    journal(tmp_path).drop(name)
    assert victim.exists()
    assert len(journal(tmp_path).load()) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 99, "record": {}}', '{"schema": 1, "record": 7}', "\x00"]
)
def test_what_can_not_be_used_is_left_where_it_is(tmp_path: Path, content: str) -> None:
    """A corrupt or newer file is no result, and may still be somebody's only copy."""
    journal(tmp_path).keep(pending())
    (file,) = (tmp_path / "spill").iterdir()
    file.write_text(content)
    assert list(journal(tmp_path).load()) == []
    assert file.exists()


def test_a_file_that_others_could_write_is_not_trusted(tmp_path: Path) -> None:
    """Such a file could plant a session."""
    journal(tmp_path).keep(pending())
    (file,) = (tmp_path / "spill").iterdir()
    file.chmod(0o666)
    assert list(journal(tmp_path).load()) == []


def test_a_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    """The caller has to know that the result is not safe here."""
    (tmp_path / "spill").write_text("a file in its place")
    assert not journal(tmp_path).keep(pending())
    assert list(journal(tmp_path).load()) == []


def test_what_is_no_result_s_file_is_left_alone(tmp_path: Path) -> None:
    """A copy that a person made beside it is neither read nor dropped."""
    journal(tmp_path).keep(pending())
    (file,) = (tmp_path / "spill").iterdir()
    copy = file.with_suffix(".json.bak")
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o600)
    assert len(journal(tmp_path).load()) == 1
    journal(tmp_path).drop(copy.name)
    assert copy.exists()


def test_the_highest_state_only_grows(tmp_path: Path) -> None:
    """An old read, or a store that was set back, doesn't lower it."""
    for generation in (3, 7, 5):
        journal(tmp_path).note("lineage-1", generation)
    assert journal(tmp_path).highest("lineage-1") == 7
    assert journal(tmp_path).highest("lineage-2") == 0


@pytest.mark.parametrize("generation", [0, 1, 2**53 - 3])
def test_the_bounds_of_a_state_are_believed(tmp_path: Path, generation: int) -> None:
    """The first and the last generation that a record can have."""
    journal(tmp_path).note("lineage-1", generation)
    (file,) = (tmp_path / "seen").iterdir()
    assert json.loads(file.read_text())["lineages"] == {"lineage-1": generation}
    assert journal(tmp_path).highest("lineage-1") == generation


def test_states_of_other_records_are_apart(tmp_path: Path) -> None:
    """A lineage belongs to one path."""
    journal(tmp_path).note("lineage-1", 7)
    assert journal(tmp_path, "other").highest("lineage-1") == 0


def test_the_lineages_of_a_record_are_bounded(tmp_path: Path) -> None:
    """The newest are kept; one that is noted again is new again."""
    for number in range(KEPT_LINEAGES):
        journal(tmp_path).note(f"lineage-{number}", 1)
    journal(tmp_path).note("lineage-0", 2)
    journal(tmp_path).note("another", 1)
    assert journal(tmp_path).highest("lineage-0") == 2
    assert journal(tmp_path).highest("lineage-1") == 0
    assert journal(tmp_path).highest("another") == 1


@pytest.mark.parametrize("value", [2**53, -1, "7", None, 1.5])
def test_a_senseless_state_is_not_believed(tmp_path: Path, value: object) -> None:
    """A damaged file must not stop a session for ever."""
    journal(tmp_path).note("lineage-1", 7)
    (file,) = (tmp_path / "seen").iterdir()
    file.write_text(json.dumps({"schema": 1, "lineages": {"lineage-1": value}}))
    assert journal(tmp_path).highest("lineage-1") == 0


def test_what_can_not_be_noted_raises_nothing(tmp_path: Path) -> None:
    """A read-only machine has no such memory, as a container has none."""
    (tmp_path / "seen").write_text("a file in its place")
    journal(tmp_path).note("lineage-1", 7)
    assert journal(tmp_path).highest("lineage-1") == 0


@pytest.mark.parametrize("is_sign_in", [True, False])
def test_what_a_result_is_of_comes_back(tmp_path: Path, is_sign_in: bool) -> None:
    """A sign-in's is outlived by any later session."""
    result = PendingResult(
        nonce="n", record={"refresh_token": "r"}, at=7, is_sign_in=is_sign_in, name=""
    )
    assert journal(tmp_path).keep(result)
    (found,) = journal(tmp_path).load()
    assert (found.nonce, found.record, found.at) == ("n", {"refresh_token": "r"}, 7)
    assert found.is_sign_in is is_sign_in


def test_what_is_known_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer notes the state that it is of."""
    written: list[str] = []
    replace = files.replace_private

    def noted(path: str, content: bytes, **more: Any) -> None:
        written.append(path)
        replace(path, content, **more)

    monkeypatch.setattr(module, "replace_private", noted)
    for generation, highest, writes in ((7, 7, 1), (7, 7, 1), (6, 7, 1), (8, 8, 2)):
        journal(tmp_path).note("lineage-1", generation)
        assert journal(tmp_path).highest("lineage-1") == highest
        assert len(written) == writes
