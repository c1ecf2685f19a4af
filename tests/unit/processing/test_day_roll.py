"""From one trading day into the next: lines of the feed through parser and processor, over midnight and DST nights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from config.sections import MarketConfig, Settings
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.layout import SELECTED
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS, PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.record import Batch, OffsetRange
from tests.unit.processing.build import Feed, Row, one_partition

EASTERN = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
D = 1_000_000
LAYOUT = b"S,CURRENT UPDATE FIELDNAMES,Symbol," + ",".join(SELECTED).encode() + b"\n"


def micro(text: str, fold: int = 0) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=EASTERN, fold=fold) - EPOCH) // timedelta(microseconds=1)


def clock(text: str) -> bytes:
    return f"T,{text.replace('-', '')}\n".encode()


def trade(moment: str, price: str, volume: int, code: str = "", day: bool = True, symbol: str = "@ES#") -> bytes:
    """A Q of 2 contracts; `moment` is Eastern, `volume` the Total Volume after it."""
    on, at = moment.split(" ")
    values = {
        "Most Recent Trade": price,
        "Most Recent Trade Size": "2",
        "Most Recent Trade Date": datetime.fromisoformat(on).strftime("%m/%d/%Y") if day else "",
        "Most Recent Trade Time": at,
        "Most Recent Trade Day Code": code,
        "Total Volume": str(volume),
        "Message Contents": "C",
    }
    return f"Q,{symbol},{','.join(values.get(name, '') for name in SELECTED)},\n".encode()


def run(
    reads: Sequence[tuple[int, bytes]], calendar: str = "24x7", cut: bool = False
) -> tuple[list[Row], dict[str, list[Row]]]:
    """(events, outputs by topic) of lines by their time of receipt; none may be refused."""
    parser, frames = LineParser(), []
    for seq, (recv_us, raw) in enumerate(((reads[0][0], LAYOUT), *reads)):
        frames.append(Frame(0, PORT["level1"], 1, seq, 1, recv_us, raw))
    settings = Settings(market=MarketConfig(calendar=calendar))  # type: ignore[arg-type]  # one of the names
    processor = ProcessEvents(settings, [0])
    events: list[Row] = []
    out: dict[str, list[Row]] = {}
    for part in [[frame] for frame in frames] if cut else [frames]:
        rows, dead = parser.parse(part)
        assert not dead
        offsets = np.arange(len(events), len(events) + rows.num_rows, dtype=np.int64)
        if rows.num_rows:
            ranges = (OffsetRange(EVENTS, 0, int(offsets[0]), int(offsets[-1]), 0, rows.num_rows),)
            for each in processor.process(Batch(rows, ranges, offsets)).outgoing:
                out.setdefault(each.topic, []).extend(each.rows.to_pylist())
        events += rows.to_pylist()
    assert all(count == 0 for name, count in processor.counters().items() if name != "late_trades")
    return events, out


@pytest.mark.parametrize("cut", [False, True])
def test_total_volume_that_falls_with_a_new_day_code_is_a_new_day(cut: bool) -> None:
    lines = (
        (micro("2024-01-02 17:59:59"), clock("2024-01-02 17:59:59")),
        (micro("2024-01-02 17:59:59"), trade("2024-01-02 16:59:58", "100.00", 900_000, code="2")),
        (micro("2024-01-02 18:00:00"), trade("2024-01-02 18:00:00", "110.00", 2, code="3")),  # the evening before
        (micro("2024-01-03 00:00:01"), clock("2024-01-03 00:00:01")),
        (micro("2024-01-03 00:00:01"), trade("2024-01-03 00:00:01", "120.00", 4, code="3")),
    )
    events, out = run(lines, "CME", cut)
    trades = [row for row in events if row["kind"] == "trade"]
    assert [row["total_volume"] for row in trades] == [900_000, 2, 4]
    assert [row["trading_date"] for row in trades] == [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 3)]
    assert [row["vwap"] for row in out["market.features"]] == [100 * D, 110 * D, 115 * D]
    assert "market.gaps" not in out


def test_over_midnight_a_line_s_own_date_begins_a_new_day() -> None:
    _, out = run(
        (
            (micro("2024-01-02 23:59:59"), clock("2024-01-02 23:59:59")),
            (micro("2024-01-02 23:59:59"), trade("2024-01-02 23:59:59.5", "10.00", 5_000)),
            (micro("2024-01-03 00:00:00"), trade("2024-01-03 00:00:00.5", "20.00", 2)),
            (micro("2024-01-03 00:01:00"), clock("2024-01-03 00:01:00")),
        )
    )
    assert [row["vwap"] for row in out["market.features"]] == [10 * D, 20 * D]
    bars = [row for row in out["market.bars"] if row["interval"] == "1m"]
    assert [(row["trading_date"], row["open"]) for row in bars] == [
        (date(2024, 1, 2), 10 * D), (date(2024, 1, 3), 20 * D),
    ]  # fmt: skip
    assert "market.gaps" not in out


def test_a_bare_time_just_before_midnight_stays_on_its_day() -> None:
    """Without a date the clock tells the day: a line that arrives after midnight may still be of the evening."""
    events, _ = run(
        (
            (micro("2024-01-03 00:00:00"), clock("2024-01-03 00:00:00")),
            (micro("2024-01-03 00:00:00"), trade("2024-01-02 23:59:59.9", "10.00", 5_000, day=False)),
            (micro("2024-01-03 00:00:00"), trade("2024-01-03 00:00:00.1", "10.00", 2, day=False)),
        )
    )
    times = [row["event_time_us"] for row in events if row["kind"] == "trade"]
    assert times == [micro("2024-01-02 23:59:59.900000"), micro("2024-01-03 00:00:00.100000")]


def test_the_hour_that_happens_twice_makes_bars_an_hour_apart() -> None:
    """Night of 2 November 2025: 01:30 Eastern happens twice; receipt tells which of the two it is."""
    first, second = micro("2025-11-02 01:30:00"), micro("2025-11-02 01:30:00", fold=1)
    events, out = run(
        (
            (first, clock("2025-11-02 01:30:00")),
            (first + D, trade("2025-11-02 01:30:01", "10.00", 2, code="3")),
            (second, clock("2025-11-02 01:30:00")),
            (second + D, trade("2025-11-02 01:30:01", "20.00", 4, code="3")),
            (second + 60 * D, clock("2025-11-02 01:31:00")),
        )
    )
    assert second - first == 3600 * D
    assert [row["event_time_us"] - first for row in events if row["kind"] == "trade"] == [D, 3601 * D]
    bars = [(row["open_time_us"] - first, row["open"]) for row in out["market.bars"] if row["interval"] == "1m"]
    assert bars == [(0, 10 * D), (3600 * D, 20 * D)]
    assert {row["trading_date"] for row in out["market.bars"]} == {date(2025, 11, 3)}


def test_the_night_that_lacks_an_hour_has_no_hole_in_its_bars() -> None:
    """Night of 8 March 2026: 01:59:59 is followed by 03:00:00."""
    before, after = micro("2026-03-08 01:59:59"), micro("2026-03-08 03:00:00")
    _, out = run(
        (
            (before, clock("2026-03-08 01:59:59")),
            (before, trade("2026-03-08 01:59:59.5", "10.00", 2, code="9")),
            (after, clock("2026-03-08 03:00:00")),
            (after, trade("2026-03-08 03:00:00.5", "20.00", 4, code="9")),
            (after + D, clock("2026-03-08 03:00:01")),
        )
    )
    assert after - before == D
    bars = [(row["open_time_us"] - before, row["open"]) for row in out["market.bars"] if row["interval"] == "1s"]
    assert bars == [(0, 10 * D), (D, 20 * D)]


@pytest.mark.parametrize(
    ("calendar", "moment", "session"),
    [
        ("24x7", "2024-01-06 12:00:00", "open"),
        ("XNYS", "2024-01-05 15:59:00", "open"),
        ("XNYS", "2024-01-05 16:00:00", "closed"),
        ("XNYS", "2024-07-03 13:00:00", "closed"),
        ("XNYS", "2031-01-03 12:00:00", "unknown"),
        ("CME", "2024-01-07 18:00:00", "open"),
        ("CME", "2024-01-05 17:00:00", "closed"),
        ("CME", "2019-01-04 12:00:00", "unknown"),
    ],
)
def test_a_bar_says_whether_it_lies_in_a_session(calendar: str, moment: str, session: str) -> None:
    at = micro(moment)
    _, out = run(((at, clock(moment)), (at, trade(moment, "10.00", 2)), (at + 60 * D, clock(later(moment)))), calendar)
    assert [row["session"] for row in out["market.bars"]] == [session, session]


def later(moment: str) -> str:
    return str(datetime.fromisoformat(moment) + timedelta(minutes=1))


def test_an_event_without_a_date_gets_that_of_the_calendar() -> None:
    """Sunday evening belongs to Monday in Chicago, to Sunday in New York; beyond the calendar to no day."""
    evening = micro("2024-01-07 18:30:00")
    for calendar, moment, expected in (
        ("CME", evening, date(2024, 1, 8)),
        ("XNYS", evening, date(2024, 1, 7)),
        ("24x7", evening, date(2024, 1, 7)),
        ("CME", micro("2019-01-06 18:30:00"), None),
    ):
        feed = Feed(now=moment)
        feed.trade("@ES#", 10 * D, 1, trading_date=None)
        feed.level("@ES#", "bid", 9 * D, 1, trading_date=None)
        feed.trade("@ES#", 10 * D, 1, trading_date=19_000)
        settings = Settings(market=MarketConfig(calendar=calendar))  # type: ignore[arg-type]
        (made,) = [
            each.rows
            for each in ProcessEvents(settings, [0]).process(one_partition(feed.rows)).outgoing
            if each.topic == "market.features"
        ]
        dates = made.column("trading_date").to_pylist()
        assert dates == [expected, expected, date(2022, 1, 8)], "the line's own date counts where it has one"


def test_events_without_a_date_begin_a_new_vwap_at_the_calendar_s_day() -> None:
    feed = Feed(now=micro("2024-01-08 16:00:00"))
    feed.trade("@ES#", 10 * D, 1, trading_date=None)
    feed.now = micro("2024-01-08 18:00:00")  # 17:00 Central: Tuesday's session
    feed.trade("@ES#", 20 * D, 1, trading_date=None)
    feed.now = micro("2024-01-09 00:00:00")
    feed.trade("@ES#", 30 * D, 1, trading_date=None)
    found = {}
    for calendar in ("CME", "24x7"):
        settings = Settings(market=MarketConfig(calendar=calendar))
        batch: pa.RecordBatch = ProcessEvents(settings, [0]).process(one_partition(feed.rows)).outgoing[0].rows
        found[calendar] = [value // D for value in batch.column("vwap").to_pylist()]
    assert found == {"CME": [10, 20, 25], "24x7": [10, 15, 30]}


def test_the_calendar_is_part_of_what_decides_results() -> None:
    digests = {
        ProcessEvents(Settings(market=MarketConfig(calendar=name)), [0]).settings_digest()
        for name in ("24x7", "XNYS", "CME")
    }
    assert len(digests) == 3
