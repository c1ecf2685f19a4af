"""The time at which a gap ends: that of the first line after it, else the second of the feed's clock."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline_orchestrator.flow.spool_facts import Fact
from pipeline_orchestrator.ingestion.gap_ledger import GapLedger
from pipeline_orchestrator.ingestion.layout import SELECTED
from tests.doubles.fake_feed import FakeFeed
from tests.unit.ingestion.harness import Running
from tests.unit.ingestion.test_feed_client import quote

CLOCK_SECOND = "10:00:00.999999"  # the scripted feed's clock stands at 10:00:00


def eastern_us(time: str) -> int:
    """2024-01-02, Eastern, in UTC microseconds."""
    moment = datetime.fromisoformat(f"2024-01-02T{time}").replace(tzinfo=ZoneInfo("America/New_York"))
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def summary(**fields: str) -> bytes:
    values = {name.replace("_", " "): value for name, value in fields.items()}
    return f"P,AAPL,{','.join(values.get(name, '') for name in SELECTED)},\n".encode()


async def ends(tmp_path: Path, connection: str, before: bytes, after: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Facts about the gap of one reconnection by their phase, and the rows that came after it."""
    other: dict[str, Any] = {"level2": False} if connection == "level1" else {"level1": False}
    async with FakeFeed() as feed, Running(feed, tmp_path, **other) as it:
        first = await feed.watched(connection)
        first.send(before)
        await it.sink.until(lambda: any(row["event_time_us"] and row["kind"] != "clock" for row in it.sink.rows))
        await first.cut(reset=True)
        second = await feed.watched(connection, connections=2)
        second.send(after)
        await it.sink.until(lambda: any(fact["phase"] == "closed" for fact in it.sink.facts("gap")))
    gap = {fact["phase"]: fact for fact in it.sink.facts("gap")}
    return gap, [row for row in it.sink.rows if row["seq"] >= gap["end"]["to"]["seq"]]


BEFORE1 = quote("AAPL", time="09:59:58.25")
BEFORE2 = b"8,AAPL,A,1.75,4,1,2,09:59:58.25,2024-01-02,\r\n"


@pytest.mark.parametrize(
    ("connection", "after", "time"),
    [
        ("level1", quote("AAPL", time="09:59:59.5") + quote("AAPL", time="09:59:59.75"), "09:59:59.5"),
        ("level1", summary(Bid="1.5", Bid_Time="09:59:59.25", Ask_Time="09:59:59.125"), "09:59:59.25"),
        (
            "level1",
            summary(Bid_Time="09:59:59.25", Most_Recent_Trade_Date="01/02/2024", Most_Recent_Trade_Time="09:59:59.375"),
            "09:59:59.375",  # a missed trade lies there
        ),
        ("level1", b"F,AAPL,5,\n" + quote("AAPL", time="09:59:59.5"), CLOCK_SECOND),
        ("level1", b"n,AAPL\n", CLOCK_SECOND),
        ("level1", quote("AAPL", time=""), CLOCK_SECOND),
        ("level2", b"8,AAPL,A,1.75,4,1,2,09:59:59.5,2024-01-02,\r\n", "09:59:59.5"),
        ("level2", b"7,AAPL,A,1.75,4,1,2,09:59:59.5,2024-01-02,\r\n", CLOCK_SECOND),  # other levels may be younger
        ("level2", b"q,AAPL,\r\n", CLOCK_SECOND),
    ],
)
async def test_a_gap_ends_at_the_time_of_the_first_line_after_it(
    tmp_path: Path, connection: str, after: bytes, time: str
) -> None:
    gap, rows = await ends(tmp_path, connection, BEFORE1 if connection == "level1" else BEFORE2, after)
    first = rows[0]
    assert (first["symbol"], first["seq"]) == ("AAPL", gap["end"]["to"]["seq"])
    assert gap["begin"]["from"]["event_time_us"] == eastern_us("09:59:58.25")
    assert gap["end"]["to"]["event_time_us"] == eastern_us(time)
    assert gap["closed"]["to"] == gap["end"]["to"]


async def test_the_row_for_all_ends_with_the_latest_symbol_of_a_batch(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, ("AAPL", "TSLA"), level2=False) as it:
        first = await feed.watched("level1", symbols=2)
        first.send(BEFORE1)  # AAPL is the first symbol that the parser has seen
        await it.sink.until(lambda: any(row["kind"] == "quote" for row in it.sink.rows))
        await first.cut(reset=True)
        second = await feed.watched("level1", symbols=2, connections=2)
        second.send(quote("TSLA", time="09:59:59.5") + quote("AAPL", time="09:59:59.5"))  # one read, one batch
        await it.sink.until(lambda: any(fact["phase"] == "closed" for fact in it.sink.facts("gap")))
    ends = {fact["symbol"]: fact["to"]["seq"] for fact in it.sink.facts("gap") if fact["phase"] == "end"}
    closed = next(fact for fact in it.sink.facts("gap") if fact["phase"] == "closed")
    assert closed["to"]["seq"] == ends["AAPL"] == ends["TSLA"] + 1


async def test_a_gap_never_ends_before_it_began(tmp_path: Path) -> None:
    gap, _ = await ends(tmp_path, "level1", BEFORE1, summary(Bid="1.5", Bid_Time="09:30:00"))
    assert gap["end"]["to"]["event_time_us"] == gap["begin"]["from"]["event_time_us"]


def place(time_us: int | None) -> dict[str, Any]:
    return {"epoch": 1, "seq": 9, "event_time_us": time_us}


def opened(*symbols: str) -> GapLedger:
    ledger = GapLedger()
    detail = {"phase": "begin", "gap_id": "0:1:5", "cause": "connection_lost", "connection": "level1"}
    ledger.apply(Fact("gap", "level1", None, {**detail, "from": place(100)}), 5)
    for number, symbol in enumerate(symbols):
        ledger.apply(Fact("subscribed", "level1", symbol, {"connection": "level1"}), 6 + number)
    return ledger


def test_the_end_for_all_is_the_latest_end_of_any_symbol_also_after_a_restart() -> None:
    ledger = opened("AAPL", "MSFT")
    end = {"phase": "end", "gap_id": "0:1:5", "connection": "level1"}
    ledger.apply(Fact("gap", "level1", "AAPL", {**end, "to": place(300)}), 8)
    ledger.apply(Fact("gap", "level1", "MSFT", {**end, "to": place(200)}), 9)
    (gap,) = GapLedger.from_json(ledger.to_json()).gaps.values()
    assert gap.end_for_all(place(200)) == place(300)
    assert gap.end_for_all(place(None)) == place(300)
    assert gap.end_for_symbol(place(50)) == place(100)
    assert gap.end_for_symbol(place(None)) == place(None)


def test_a_header_of_an_older_version_is_read() -> None:
    state = {"gaps": [["0:1:5", "level1", "reader_lost", True, ["AAPL"], []]], "links": {}}
    (gap,) = GapLedger.from_json(state).gaps.values()
    assert (gap.pending, gap.since_us, gap.until_us) == ({"AAPL"}, None, None)
