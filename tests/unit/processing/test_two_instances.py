"""Two ingestion instances in one log: trade time, connections and gaps are those of the symbol's own instance."""

from __future__ import annotations

from typing import Any

from config.sections import Settings
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import NOON, Feed, Row, one_partition
from tests.unit.processing.streams import settings_for

D = 1_000_000  # one dollar
S = 1_000_000  # one second


class Log:
    """Two instances that write into one partition; the order of calls is the order of the log."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.zero = Feed(instance=0, epoch=7, rows=self.rows)
        self.one = Feed(instance=1, epoch=3, rows=self.rows)

    def made(self, settings: Settings | None = None) -> dict[str, list[Row]]:
        processor = ProcessEvents(settings or settings_for(), [0])
        made = processor.process(one_partition(self.rows, partition=0)).outgoing
        return {out.topic.removeprefix("market."): out.rows.to_pylist() for out in made}


def books(feed: Feed, symbol: str) -> None:
    feed.book(symbol, [(10 * D, 5)], [(11 * D, 5)])


def test_a_clock_closes_bars_of_its_own_instance_only() -> None:
    log = Log()
    log.zero.trade("A", 10 * D, 1)
    log.one.trade("B", 20 * D, 1)
    log.one.clock(time=NOON + 90 * S)
    closed = {(row["symbol"], row["interval"]) for row in log.made()["bars"]}
    assert closed == {("B", "1s"), ("B", "1m")}
    log.zero.clock(time=NOON + 2 * S)
    closed = {(row["symbol"], row["interval"]) for row in log.made()["bars"]}
    assert closed == {("B", "1s"), ("B", "1m"), ("A", "1s")}


def test_a_clock_that_runs_ahead_makes_no_trade_of_the_other_late() -> None:
    log = Log()
    log.one.trade("B", 20 * D, 1)
    log.one.clock(time=NOON + 4 * 3600 * S)  # two hours behind it are past what bars.keep holds
    log.zero.trade("A", 10 * D, 1)
    log.zero.clock(time=NOON + 2 * S)
    (bar,) = [row for row in log.made()["bars"] if row["symbol"] == "A"]
    assert (bar["interval"], bar["revision"], bar["final"]) == ("1s", 0, True)


def test_a_lost_connection_of_one_instance_leaves_the_books_of_the_other_valid() -> None:
    log = Log()
    books(log.zero, "A")
    books(log.one, "B")
    log.one.fact("lost", phase="lost", cause="eof")
    log.zero.trade("A", 10 * D, 1)
    log.one.trade("B", 10 * D, 1)
    features = {row["symbol"]: row["book_state"] for row in log.made()["features"]}
    assert features == {"A": "valid", "B": "stale"}


def test_a_depth_clock_of_one_instance_completes_no_book_of_the_other() -> None:
    log = Log()
    log.zero.watch("A")
    log.zero.level("A", "bid", 10 * D, 5, summary=True)
    log.one.clock("level2")
    log.zero.trade("A", 10 * D, 1)
    assert log.made()["features"][-1]["book_state"] == "resyncing"
    log.zero.clock("level2")
    log.zero.trade("A", 10 * D, 1)
    assert log.made()["features"][-1]["book_state"] == "valid"


def test_a_gap_of_one_instance_flags_nothing_of_the_other() -> None:
    log = Log()
    log.zero.trade("A", 10 * D, 1)
    log.one.trade("B", 20 * D, 1)
    gap: dict[str, Any] = {"phase": "begin", "gap_id": f"1:3:{log.one.seq}", "cause": "reader_lost"}
    gap["from"] = {"epoch": 3, "seq": 0, "event_time_us": NOON}
    log.one.fact("gap", port="level1", **gap)
    log.zero.trade("A", 10 * D, 1)
    log.one.trade("B", 20 * D, 1)
    for feed in (log.zero, log.one):
        feed.clock(time=NOON + 2 * S)
    made = log.made()
    assert {row["symbol"]: row["gap_flag"] for row in made["bars"]} == {"A": False, "B": True}
    assert {row["symbol"]: row["gap_flag"] for row in made["features"]} == {"A": False, "B": True}


def test_marks_are_kept_per_instance() -> None:
    log = Log()
    log.zero.trade("A", 10 * D, 1)  # epoch 7
    log.one.trade("B", 20 * D, 1)  # epoch 3 is no repeat of it
    log.rows.append(log.rows[0])  # this is one
    assert [row["symbol"] for row in log.made()["features"]] == ["A", "B"]


def test_a_moved_symbol_follows_the_clock_and_the_connection_of_its_new_instance() -> None:
    log = Log()
    books(log.zero, "A")
    log.zero.trade("A", 10 * D, 1)
    for port in ("level1", "level2"):
        log.zero.fact("unsubscribed", "A", port, phase="watch", cause="moved")
    log.zero.trade("Z", 1 * D, 1)
    books(log.one, "A")
    log.one.trade("A", 10 * D, 2)
    log.zero.fact("lost", phase="lost", cause="eof")
    log.zero.clock(time=NOON + 300 * S)
    made = log.made()
    assert not [row for row in made.get("bars", []) if row["symbol"] == "A"]
    assert [row["book_state"] for row in made["features"] if row["symbol"] == "A"][-1] == "valid"
    log.one.clock(time=NOON + 2 * S)
    (bar,) = [row for row in log.made()["bars"] if row["symbol"] == "A"]
    assert (bar["volume"], bar["trade_count"], bar["src_instance"]) == (3, 2, 1)


def test_an_unwatched_book_is_empty_until_the_new_instance_has_its_picture() -> None:
    log = Log()
    books(log.zero, "A")
    log.zero.fact("unsubscribed", "A", "level2", phase="watch", cause="moved")
    log.one.trade("A", 10 * D, 1)
    assert log.made()["features"][-1]["book_state"] == "none"
