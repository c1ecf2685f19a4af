"""A trade of history: from the Lookup port's row through the spool to its event."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.history_trade import HISTORY, HistoryTrade, trade_of_fact, trade_of_row
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.lookup.requests import ticks_between
from pipeline_orchestrator.lookup.row_parser import RowParser
from pipeline_orchestrator.market.events import PORT

LINE = b"R1,LH,2024-03-07 10:00:00.250001,187.5000,100,5100,187.4900,187.5100,42,C,19,0187,1,7\r\n"
T = b"T,20240307 10:00:01\n"
LIVE = b"8,A,B,1.5,1,1,2,10:00:00.25,2024-03-07,\n"


def utc_us(*moment: int) -> int:
    at = datetime(*moment, tzinfo=UTC)  # type: ignore[misc, arg-type]  # year to microsecond
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def trades_of(lines: bytes, begin_us: int) -> list[HistoryTrade | None]:
    rows = RowParser("ticks", "6.2", request_id=b"R1", bound_us=begin_us).parse(lines).rows.to_pylist()
    return [trade_of_row("AAPL", row) for row in rows]


def parsed(*facts: Fact) -> tuple[list[dict[str, Any]], list[Any]]:
    frames = [Frame(3, 0, 9, seq, 1, 77, encode_fact(fact)) for seq, fact in enumerate(facts)]
    rows, dead = LineParser().parse(frames)
    return rows.to_pylist(), dead


def test_a_row_becomes_one_event_of_source_h_with_all_that_it_told() -> None:
    (trade,) = trades_of(LINE, utc_us(2024, 3, 7, 14, 59, 58))
    assert trade is not None
    (event,), dead = parsed(trade.fact("3:9:1"))
    assert not dead
    told = {name: value for name, value in event.items() if value is not None}
    assert told == {
        "instance": 3, "epoch": 9, "seq": 0, "idx": 0, "port": "lookup", "kind": "trade", "symbol": "AAPL",
        "trading_date": date(2024, 3, 7), "event_time_us": utc_us(2024, 3, 7, 15, 0, 0, 250_001), "recv_time_us": 77,
        "price": 187_500_000, "size": 100, "basis": "C", "bid": 187_490_000, "ask": 187_510_000, "tick_id": 42,
        "total_volume": 5100, "market_center": 19, "conditions": "0187", "aggressor": 1, "source": "H",
        "summary": False,
    }  # fmt: skip


def test_only_rows_of_history_are_marked_among_others() -> None:
    (trade,) = trades_of(LINE, 0)
    assert trade is not None
    frames = [
        Frame(0, PORT["level2"], 9, 0, 2, 0, T + LIVE),
        Frame(0, 0, 9, 2, 1, 0, encode_fact(trade.fact("0:9:1"))),
        Frame(0, PORT["level2"], 9, 3, 1, 0, LIVE),
    ]
    rows, dead = LineParser().parse(frames)
    assert not dead
    sources = [(row["kind"], row["source"]) for row in rows.to_pylist()]
    assert [source for _, source in sources] == ["L", "L", "H", "L"] and sources[2][0] == "trade"


def test_a_settlement_is_no_trade() -> None:
    assert trades_of(LINE.replace(b",C,", b",S,"), 0) == [None]


def test_the_trading_date_is_that_of_the_day_code() -> None:
    (trade,) = trades_of(LINE.replace(b",7\r\n", b",8\r\n"), 0)
    assert trade is not None and trade.trading_date == (date(2024, 3, 8) - date(1970, 1, 1)).days


def test_both_passes_of_the_hour_that_november_repeats() -> None:
    begin = utc_us(2024, 11, 3, 5, 59, 58)  # 01:59:58, first pass
    request = ticks_between("AAPL", begin, utc_us(2024, 11, 3, 6, 0, 4))
    assert request.before[1:3] == ("20241103 005959", "20241103 020000")
    lines = b"".join(
        LINE.replace(b"2024-03-07 10:00:00.250001", moment).replace(b",42,", b",%d," % tick)
        for tick, moment in enumerate((b"2024-11-03 01:59:59.500000", b"2024-11-03 01:00:02.000000"))
    )
    first, second = trades_of(lines, begin)
    assert first is not None and second is not None
    assert first.time_us == utc_us(2024, 11, 3, 5, 59, 59, 500_000)
    assert second.time_us == utc_us(2024, 11, 3, 6, 0, 2)
    events, _ = parsed(first.fact("0:1:1"), second.fact("0:1:1"))
    assert [event["event_time_us"] for event in events] == [first.time_us, second.time_us]


def test_the_hour_that_march_leaves_out() -> None:
    begin, end = utc_us(2024, 3, 10, 6, 59, 58), utc_us(2024, 3, 10, 7, 0, 2)
    request = ticks_between("AAPL", begin, end)
    assert request.before[1:3] == ("20240310 015958", "20240310 030002")
    (trade,) = trades_of(LINE.replace(b"2024-03-07 10:00:00.250001", b"2024-03-10 03:00:01.000000"), begin)
    assert trade is not None and trade.time_us == utc_us(2024, 3, 10, 7, 0, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"price": "1.5"}, {"price": None}, {"size": True}, {"basis": "X"}, {"symbol": 5}, {"tick_id": 1 << 63},
        {"trading_date": 1 << 31}, {"conditions": 7}, {"time_us": 1.5},
    ],
)  # fmt: skip
def test_a_fact_that_holds_no_trade_is_a_dead_letter(changed: dict[str, Any]) -> None:
    (trade,) = trades_of(LINE, 0)
    assert trade is not None
    detail = {**trade.fact("0:1:1").detail, **changed}
    with pytest.raises(ValueError, match="not a trade of history"):
        trade_of_fact(Fact(HISTORY, "lookup", "AAPL", detail))
    events, (letter,) = parsed(Fact(HISTORY, "lookup", "AAPL", detail))
    assert events == [] and letter.reason == "bad_fact"


def test_a_trade_survives_the_spool_as_it_was() -> None:
    bare = HistoryTrade("A", 1, 2, -3, 0, "O")
    assert trade_of_fact(bare.fact("0:1:1")) == bare
