"""The benchmark of message kinds compares equal work: product and peer read the same and show the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import kind_history, kind_lines, kind_parser
from benchmarks.kind_books import SIZES, book_rates
from benchmarks.kind_history import Answer
from benchmarks.side_by_side import rates
from pipeline_orchestrator.lookup.row_parser import RowParser


@pytest.fixture(autouse=True)
def no_quiet_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No collection before each timing: the heap of a test session is large, and no figure is looked at here."""
    monkeypatch.setattr("benchmarks.side_by_side.gc.collect", lambda: 0)


def test_every_kind_of_line_is_read_alike_and_has_two_ratios() -> None:
    rows = kind_parser.parser_rates(30, runs=1)
    assert {str(row[0])[0] for row in rows} == set("QPFCTRNS" + "346578" + "9Z2")
    assert all(len(row) == len(kind_parser.HEADER) for row in rows)


def test_a_peer_that_reads_other_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_lines, "price", lambda text: round(float(text) * 1_000_000) + 1)
    with pytest.raises(AssertionError, match="Q trade"):
        kind_parser.parser_rates(3, runs=1)


def test_the_book_of_dicts_shows_the_products_rows_for_every_kind_and_depth() -> None:
    rows = book_rates(200, runs=1)
    assert [row[0] for row in rows[-4:]] == ["level set", "level deleted", "participant's row", "side cleared"]
    assert all(len(row) == 4 + len(SIZES) for row in rows)


@pytest.mark.parametrize("made", [kind_history.ticks, kind_history.intervals, kind_history.days])
def test_rows_of_history_are_read_alike(made: Callable[[int], Answer]) -> None:
    answer = made(2_000)
    lines = answer.data.removesuffix(b"R1,!ENDMSG!,\r\n")
    parsed = RowParser(answer.request.rows, "6.2", request_id=b"R1").parse(lines)
    assert not parsed.refused
    columns = [column.to_pylist() for column in parsed.rows.columns]
    assert list(zip(*columns, strict=True)) == [answer.read(line) for line in lines.split(b"\r\n")[:-1]]


def test_a_ratio_is_the_median_of_the_runs_own_ratios() -> None:
    mine, peer = iter([1.0, 2.0, 10.0]), iter([3.0, 4.0, 10.0])
    (found,) = rates([lambda: next(mine), lambda: next(peer)], 100, runs=3)
    assert found == (50.0, 25.0, 2.0)
