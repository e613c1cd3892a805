"""The figures of coverage: what is counted, what is judged, and the page that tells it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parent.parent.parent / "scripts/coverage_page.py"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a package and a repository of its own."""
    spec = importlib.util.spec_from_file_location("coverage_page", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "coverage_page", module)
    spec.loader.exec_module(module)
    for name in ("RESULTS", "PAGE", "PACKAGE"):
        setattr(module, name, tmp_path / name)
    (tmp_path / "PACKAGE").mkdir()
    return module


def found(page: ModuleType, **files: tuple[int, int, int, int]) -> dict[str, Any]:
    """By file: lines, lines run, branches, branches run; line 7 never ran."""
    for name in files:
        (page.PACKAGE / f"{name}.py").write_text(name)
    return {
        f"{name}.py": page.File(page.digest_of(f"{name}.py"), page.Figures(*row), [7])
        for name, row in files.items()
    }


def test_lines_and_branches_are_counted_apart(page: ModuleType) -> None:
    """coverage's own floor is for their sum, in which lines hide what branches lack."""
    figures = page.Figures(lines=200, lines_run=190, branches=40, branches_run=30)
    assert (figures.percent("lines"), figures.percent("branches")) == (95.0, 75.0)


def test_a_file_without_branches_lacks_none(page: ModuleType) -> None:
    assert page.Figures(10, 5, 0, 0).percent("branches") == 100.0


def test_coverage_s_own_report_is_read(page: ModuleType) -> None:
    """The form of `coverage json` (version 3 of it)."""
    summary = {"num_statements": 9, "covered_lines": 7, "num_branches": 4, "covered_branches": 3}
    row = {"summary": {**summary, "percent_covered": 76.9}, "missing_lines": [3, 8]}
    files = page.files_of({"files": {"/x/plugin/nightporter/core/model.py": row}})
    assert files == {"core/model.py": page.File("", page.Figures(9, 7, 4, 3), [3, 8])}


def test_the_tests_own_helpers_are_told_and_not_judged(page: ModuleType) -> None:
    """All together, in the last row."""

    def row(lines: int, run: int) -> dict[str, Any]:
        numbers = (lines, run, 2, 1)
        names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        return {"summary": dict(zip(names, numbers, strict=True)), "missing_lines": [3]}

    report = {
        "/x/plugin/nightporter/a.py": row(10, 10),
        "/x/tests/lab/b.py": row(10, 1),
        "/x/tests/lab/servers/c.py": row(20, 4),
    }
    files = page.files_of({"files": report})
    assert page.total_of(files) == page.Figures(10, 10, 2, 1)
    *_, every, lab = page.rows_of(files)
    assert every == "| all | 10 | 100.0 % | 2 | 50.0 % |  |"
    assert lab == "| tests/lab | 30 | 16.7 % | 4 | 50.0 % |  |"


def test_a_file_that_no_process_imported_is_not_forgotten(page: ModuleType) -> None:
    """Else the worst file would count for nothing."""
    found(page, one=(1, 1, 0, 0), two=(1, 1, 0, 0))
    assert page.unseen_of(["one.py"]) == ["two.py"]
    assert page.unseen_of(["one.py", "two.py"]) == []


@pytest.mark.parametrize(
    ("row", "code"),
    [((1000, 950, 1000, 900), 0), ((1000, 949, 1000, 1000), 1), ((1000, 1000, 1000, 899), 1)],
    ids=["at the floor", "lines below it", "branches below it"],
)
def test_each_floor_is_judged(
    page: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    row: tuple[int, int, int, int],
    code: int,
) -> None:
    monkeypatch.setattr(page, "FLOORS", {"lines": 95.0, "branches": 90.0})
    assert page.judge(page.Figures(*row)) == code
    assert "(floor: lines 95 %, branches 90 %)" in capsys.readouterr().out


def test_what_is_recorded_is_read_back_and_told(page: ModuleType) -> None:
    """The files add up, each with its own weight."""
    written = found(page, big=(300, 300, 0, 0), small=(100, 0, 50, 25))
    page.record(written)
    assert page.recorded() == written
    assert page.summary() == "coverage of the package: 75.0 % of lines and 50.0 % of branches"


def test_a_record_that_is_not_of_this_code_says_so(page: ModuleType) -> None:
    """A file that has changed and one that is gone are no longer what was measured."""
    page.record(found(page, one=(1, 1, 0, 0), two=(1, 1, 0, 0), three=(1, 1, 0, 0)))
    (page.PACKAGE / "one.py").write_text("changed")
    (page.PACKAGE / "two.py").unlink()
    assert page.summary().endswith("; 2 of 3 files have changed since")


def test_before_the_first_record_there_is_no_figure(page: ModuleType) -> None:
    assert "not recorded" in page.summary()


def test_the_page_names_each_file_and_the_lines_that_never_ran(page: ModuleType) -> None:
    page.record(found(page, session=(10, 9, 4, 4)))
    text = page.PAGE.read_text()
    assert "| session.py | 10 | 90.0 % | 4 | 100.0 % | 7 |" in text
    assert "| all | 10 | 90.0 % | 4 | 100.0 % |  |" in text


@pytest.mark.parametrize(
    ("lines", "told"), [([], ""), ([3], "3"), ([3, 7, 8, 9, 12], "3, 7-9, 12"), ([1, 2], "1-2")]
)
def test_neighbouring_lines_are_told_as_one(page: ModuleType, lines: list[int], told: str) -> None:
    assert page.spans(lines) == told
