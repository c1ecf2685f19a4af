"""Trades that come when their bars are kept no more: one row of market.gaps for a bar, whatever is restarted."""

from __future__ import annotations

import json

import pytest

from config.sections import BarsConfig, Settings
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from pipeline_orchestrator.record import EventId
from tests.unit.processing.build import NOON, Feed, Row, one_partition

D, S = 1_000_000, 1_000_000
MINUTE = 60 * S
SETTINGS = Settings(bars=BarsConfig(keep="60s"))


def refilled() -> list[Row]:
    """Two symbols trade, ten minutes later history brings what was missed: two minutes of A, one of B."""
    feed = Feed()
    feed.trade("A", 10 * D, 5)
    feed.trade("B", 10 * D, 5)
    feed.clock(time=NOON + 10 * MINUTE)
    for minute in range(2):
        for second in range(30):
            at = NOON + minute * MINUTE + second * S
            feed.trade("A", 11 * D, 1, event_time_us=at, source="H", port="lookup")
            if minute == 0:
                feed.trade("B", 11 * D, 1, event_time_us=at, source="H", port="lookup")
    return feed.rows


WANTED = [("A", 0, 1), ("B", 0, 1), ("A", 1, 2)]  # symbol, minute of begin, minute of end


def told(processor: ProcessEvents, rows: list[Row], first: int = 0) -> list[tuple[str, int, int]]:
    if not rows:
        return []
    found = []
    for out in processor.process(one_partition(rows, first)).outgoing:
        if out.topic == "market.gaps":
            for row in out.rows.to_pylist():
                assert (row["cause"], row["state"]) == ("bar_not_revised", "unresolved")
                assert json.loads(row["detail"]) == {"intervals": ["1s", "1m"]}
                minutes = ((row[name] - NOON) // MINUTE for name in ("from_time_us", "to_time_us"))
                found.append((row["symbol"], *minutes))
    return found


@pytest.mark.parametrize("cut", [0, 10, 33, 64])
def test_the_trades_of_a_bar_have_one_row_however_batches_are_cut_and_over_a_snapshot(cut: int) -> None:
    rows = refilled()
    first = ProcessEvents(SETTINGS, [0])
    before = told(first, rows[:cut])
    raw = b"".join(encode(*pack(first, 0)))
    second = ProcessEvents(SETTINGS, [0])
    unpack(second, 0, decode_header(raw), decode_sections(raw, decode_header(raw)))
    assert before + told(second, rows[cut:], cut) == before + told(first, rows[cut:], cut) == WANTED


def test_what_is_read_again_in_silence_counts_as_told() -> None:
    rows, processor = refilled(), ProcessEvents(SETTINGS, [0])
    border = rows[10]
    processor.keep_quiet(0, [EventId(border["instance"], border["epoch"], border["seq"], border["idx"])])
    assert told(processor, rows) == [("A", 1, 2)]


def test_a_snapshot_of_a_program_that_did_not_remember_is_good() -> None:
    rows, first = refilled(), ProcessEvents(SETTINGS, [0])
    told(first, rows[:10])
    header, sections = pack(first, 0)
    del header["not_revised"]
    raw = b"".join(encode(header, sections))
    second = ProcessEvents(SETTINGS, [0])
    unpack(second, 0, decode_header(raw), decode_sections(raw, decode_header(raw)))
    assert sorted(told(second, rows[10:], 10)) == sorted(WANTED)
