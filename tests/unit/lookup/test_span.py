"""Times as people write them, and the cut of an answer to what was asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from pipeline_orchestrator.lookup.row_parser import RowParser
from pipeline_orchestrator.lookup.span import Span, moment


def us(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-01-02", us(2024, 1, 2, 5)),
        ("2024-07-02", us(2024, 7, 2, 4)),
        ("2024-01-02 09:30", us(2024, 1, 2, 14, 30)),
        ("2024-01-02T09:30:15", us(2024, 1, 2, 14, 30, 15)),
        ("2024-01-02T09:30:15Z", us(2024, 1, 2, 9, 30, 15)),
        ("2024-01-02T09:30:15.25+01:00", us(2024, 1, 2, 8, 30, 15) + 250_000),
        ("2024-11-03 01:30", us(2024, 11, 3, 5, 30)),
        ("2024-11-03 02:00", us(2024, 11, 3, 7)),
        ("2024-03-10 02:30", us(2024, 3, 10, 7, 30)),
    ],
)
def test_a_time_without_zone_is_eastern(text: str, meant: int) -> None:
    assert moment(text) == meant


@pytest.mark.parametrize("text", ["", "now", "2024-13-01", "1969-12-31", "9999-01-01"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|1970"):
        moment(text)


def cut(span: Span, lines: bytes) -> pa.RecordBatch:
    return span.within(RowParser(span.request.rows, "6.1").parse(lines).rows)


def test_the_end_itself_is_not_included_and_the_begin_is() -> None:
    span = Span("aapl", us(2024, 1, 2, 14, 30) + 500_000, us(2024, 1, 2, 14, 30, 2))
    lines = b"".join(b"2024-01-02 09:30:%s,1,1,\n" % at for at in (b"00.499999", b"00.5", b"01.999999", b"02"))
    rows = cut(span, lines).to_pylist()
    assert [row["event_time_us"] - us(2024, 1, 2, 14, 30) for row in rows] == [500_000, 1_999_999]
    assert {row["symbol"] for row in rows} == {"AAPL"}


def test_a_daily_bar_belongs_to_the_span_in_which_its_date_begins() -> None:
    lines = b"".join(b"2024-01-0%d,1,1,1,1,1,0,\n" % day for day in range(1, 6))
    span = Span("SPY", moment("2024-01-02"), moment("2024-01-04"), daily=True)
    assert cut(span, lines).column("date").to_pylist() == [date(2024, 1, 2), date(2024, 1, 3)]
    span = Span("SPY", moment("2024-01-02 09:30"), moment("2024-01-04 09:30"), daily=True)
    assert cut(span, lines).column("date").to_pylist() == [date(2024, 1, 3), date(2024, 1, 4)]


def test_the_newest_rows_are_not_cut() -> None:
    span = Span("SPY", None, us(2024, 1, 2), limit=5)
    assert len(cut(span, b"2030-01-02 09:30:00,1,1,\n")) == 1
    assert cut(span, b"").schema == span.schema(RowParser("ticks", "6.1").schema)


def test_a_span_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Span("SPY", us(2024, 1, 2), us(2024, 1, 2))
    with pytest.raises(ValueError, match="how many"):
        Span("SPY", None, us(2024, 1, 2))
