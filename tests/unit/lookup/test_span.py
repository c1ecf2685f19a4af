"""Times as people write them, and the cut of an answer to what was asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket
from pipeline_orchestrator.lookup.row_parser import RowParser
from pipeline_orchestrator.lookup.span import Span, moment, rows_of
from tests.doubles.clock import FakeClock
from tests.doubles.fake_lookup import FakeLookup


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


@pytest.mark.parametrize(("limit", "requests"), [(1, 3), (2, 3), (60, 2), (300, 1), (None, 1)])
async def test_the_newest_of_a_span_are_as_many_as_asked_for_whatever_the_end_s_second_holds(
    limit: int | None, requests: int
) -> None:
    seconds = [*range(40, 60)] * 3 + [
        0
    ] * 150  # 60 ticks of the span, 150 of the end's second, which the feed sends too

    def on(fields: list[str]) -> bytes:
        points = int(fields[4]) if fields[4] else len(seconds)
        lines = [
            f"{{id}},LH,2024-01-02 09:3{int(second == 0)}:{second:02},1,1,{number},1,1,{number},C,5,01,0,2,\r\n"
            for number, second in enumerate(sorted(seconds, key=lambda second: second or 99))
        ]
        return "".join(lines[-points:]).encode() + b"{id},!ENDMSG!,\r\n"

    span = Span("AAPL", us(2024, 1, 2, 14, 30), us(2024, 1, 2, 14, 31), limit=limit)
    async with (
        FakeLookup(on=on) as server,
        LookupClient("127.0.0.1", server.port, bucket=CreditBucket(FakeClock())) as client,
    ):
        found = [
            row async for rows, _ in rows_of(client, span, 60.0) for row in rows.column("total_volume").to_pylist()
        ]
        assert found == list(range(60))[-(limit or 60) :]
        assert len(server.requests) == requests
