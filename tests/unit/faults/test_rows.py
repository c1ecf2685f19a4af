"""The fault table names every row, and only tests that exist."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from config.paths import PROJECT_ROOT
from tests.faults.__main__ import functions, main, selected
from tests.faults.rows import ROWS, Row


def test_the_table_is_whole_and_in_order() -> None:
    assert [row.id for row in ROWS] == [f"F{number:02d}" for number in range(1, 42)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_has_tests_or_says_why_not(row: Row) -> None:
    if not row.tests:
        assert row.why and row.note
        return
    assert not row.why
    for test in row.tests:
        path, _, name = test.partition("::")
        assert (PROJECT_ROOT / path).is_file(), path
        assert not name or selected(Row("F01", "", (test,))), test


def test_every_test_of_the_table_s_modules_is_named_by_a_row() -> None:
    named = {test.partition("[")[0] for row in ROWS for test in selected(row)}
    for path in sorted((PROJECT_ROOT / "tests/faults").glob("test_rows_*.py")):
        relative = path.relative_to(PROJECT_ROOT).as_posix()
        left = {f"{relative}::{name}" for name in functions(relative)} - named
        assert not left


def test_an_unknown_row_is_refused_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--rows", "F99"])
    assert "F99" in capsys.readouterr().err


def test_long_faults_are_left_out_of_a_plain_run_and_counted() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/faults/test_rows_services.py"]
    environment = {name: value for name, value in os.environ.items() if name != "FAULTS"}
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "deselected" in done.stdout
