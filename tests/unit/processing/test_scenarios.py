"""Rules of processing, one by one, on hand-made events."""

from __future__ import annotations

from typing import Any

import pytest

from config.sections import Settings
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import NOON, Feed, Row, one_partition, record_batch
from tests.unit.processing.streams import settings_for

D = 1_000_000  # one dollar
S = 1_000_000  # one second


def process(feed: Feed, settings: Settings | None = None, partition: int = 0) -> dict[str, list[Row]]:
    processor = ProcessEvents(settings or settings_for(), [partition])
    made = processor.process(one_partition(feed.rows, partition=partition)).outgoing
    return {out.topic.removeprefix("market."): out.rows.to_pylist() for out in made}


def newest(rows: list[Row], *names: str) -> tuple[Any, ...]:
    return tuple(rows[-1][name] for name in names)


def test_a_book_is_believed_at_the_first_depth_clock_after_a_summary_row() -> None:
    feed = Feed()
    feed.watch("A")
    feed.clock("level2")
    feed.level("A", "bid", 10 * D, 5, summary=True)
    feed.level("A", "ask", 11 * D, 5)
    feed.clock("level1")
    feed.trade("A", 10 * D, 1)
    feed.clock("level2")
    feed.trade("A", 10 * D, 1)
    states = [row["book_state"] for row in process(feed)["features"]]
    assert states == ["resyncing", "resyncing", "resyncing", "valid"]


def test_live_changes_alone_never_complete_a_watched_book() -> None:
    feed = Feed()
    feed.watch("A")
    feed.level("A", "bid", 10 * D, 5)
    feed.clock("level2")
    feed.level("A", "bid", 9 * D, 5)
    assert newest(process(feed)["features"], "book_state", "null_reason") == ("resyncing", "book_resyncing")


def test_a_symbol_known_to_have_no_depth_begins_its_book_with_any_level() -> None:
    feed = Feed()
    feed.watch("A")
    feed.no_depth("A")
    feed.quote("A", 10 * D, 1, 11 * D, 1)
    feed.level("A", "bid", 10 * D, 5)
    feed.clock("level2")
    feed.level("A", "ask", 11 * D, 5)
    assert [row["book_state"] for row in process(feed)["features"]] == ["none", "resyncing", "valid"]


@pytest.mark.parametrize("loss", ["lost", "disconnected", "gap"])
def test_after_a_loss_the_book_is_empty_and_stale_until_it_is_rebuilt(loss: str) -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    if loss == "lost":
        feed.fact("lost", phase="lost", cause="reset")
    elif loss == "disconnected":
        feed.add("lost", None, "level2", raw=b"S,SERVER DISCONNECTED", event_time_us=None)
    else:
        begun: dict[str, Any] = {"from": {}}
        feed.fact("gap", phase="begin", gap_id="0:1:6", cause="reader_lost", **begun)
    feed.level("A", "bid", 9 * D, 5)
    feed.clock("level2")
    feed.level("A", "bid", 8 * D, 5)
    feed.book("A", [(7 * D, 5)], [(12 * D, 5)])
    feed.trade("A", 8 * D, 1)
    made = process(feed)
    stale = [row for row in made["books"] if row["book_state"] == "stale"]
    assert (stale[0]["bid_prices"], stale[0]["ask_prices"]) == ([], [])
    assert [row["book_state"] for row in made["features"]][2:] == ["stale", "stale", "resyncing", "resyncing", "valid"]
    assert newest(made["features"], "best_bid", "best_ask") == (7 * D, 12 * D)


def test_a_crossed_book_falls_back_to_level_1_and_recovers_by_itself() -> None:
    feed = Feed()
    feed.quote("A", 10 * D, 1, 11 * D, 2)
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    feed.trade("A", 10 * D, 1)
    feed.level("A", "bid", 11 * D, 3)
    feed.delete("A", "ask", 11 * D)
    feed.level("A", "ask", 12 * D, 1)
    rows = process(feed)["features"][4:]
    assert [(row["book_state"], row["book_source"]) for row in rows] == [
        ("crossed", "level1"),
        ("valid", "depth"),
        ("valid", "depth"),
    ]
    assert (rows[0]["best_bid"], rows[0]["order_flow_imbalance"]) == (10 * D, None)
    assert (rows[1]["best_ask"], rows[1]["null_reason"]) == (None, "no_ask")


def test_size_zero_deletes_and_an_unknown_level_is_inserted_or_ignored() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    feed.level("A", "bid", 9 * D, 7)
    feed.level("A", "bid", 10 * D, 0)
    feed.delete("A", "bid", 5 * D)
    books = process(feed)["books"]
    assert newest(books, "bid_prices", "bid_sizes") == ([9 * D], [7])
    assert len(books) == 5  # two summary rows, valid, insert, delete; the unknown one makes none


def test_clearing_one_side_makes_the_book_wait_for_new_rows() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    feed.add("depth_clear", "A", "level2", side="bid")
    feed.clock("level2")
    feed.level("A", "bid", 9 * D, 5)
    feed.clock("level2")
    feed.trade("A", D, 1)
    rows = process(feed)["features"][2:]
    assert [row["book_state"] for row in rows] == ["resyncing", "resyncing", "valid"]
    assert rows[-1]["best_ask"] == 11 * D


def test_levels_deep_in_the_book_make_no_books_row() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5), (9 * D, 5), (8 * D, 5)], [])
    feed.level("A", "bid", 7 * D, 5)
    feed.level("A", "bid", 8 * D, 5)  # unchanged
    feed.delete("A", "bid", 9 * D)
    rows = process(feed)["books"]
    assert [row["bid_prices"] for row in rows[3:]] == [[10 * D, 9 * D, 8 * D], [10 * D, 8 * D, 7 * D]]


def test_replayed_lines_never_touch_the_book_the_quote_or_the_last_price() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    feed.trade("A", 10 * D, 5)
    feed.level("A", "bid", 10 * D + 1, 9, replay_of="0:1:1")
    feed.quote("A", D, 1, 2 * D, 1, replay_of="0:1:1")
    feed.trade("A", 20 * D, 5, replay_of="0:1:1")
    rows = process(feed)["features"]
    assert newest(rows, "best_bid", "last_price", "vwap") == (10 * D, 10 * D, 15 * D)


def test_a_replayed_word_that_there_is_no_depth_leaves_the_book() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [(11 * D, 5)])
    feed.add("other", "A", "level2", raw=b"q,A,", replay_of="0:1:1")
    feed.quote("A", D, 1, 2 * D, 1)
    rows = process(feed)["features"]
    assert newest(rows, "best_bid", "best_ask") == (10 * D, 11 * D)


def test_a_late_trade_makes_a_new_revision_at_the_next_clock_and_a_much_later_one_a_gap_row() -> None:
    feed = Feed(now=NOON + 100_000)
    feed.trade("A", 10 * D, 5)
    feed.clock(time=NOON + S)
    feed.trade("A", 12 * D, 5)
    feed.trade("A", 8 * D, 2, basis="O")
    feed.clock(time=NOON + 2 * S)
    feed.clock(time=NOON + 3 * S)
    feed.clock(time=NOON + 70 * S)
    feed.trade("A", 13 * D, 1)
    feed.clock(time=NOON + 71 * S)
    made = process(feed, settings_for(keep="60s"))
    bars = [
        (row["interval"], row["revision"], row["high"], row["volume"], row["odd_lot_volume"], row["event_time_us"])
        for row in made["bars"]
    ]
    assert bars == [
        ("1s", 0, 10 * D, 5, 0, NOON + S),
        ("1s", 1, 12 * D, 10, 2, NOON + 2 * S),
        ("1m", 0, 12 * D, 10, 2, NOON + 70 * S),
        ("1m", 1, 13 * D, 11, 2, NOON + 71 * S),
    ]
    (gap,) = made["gaps"]
    assert (gap["cause"], gap["symbol"], gap["state"]) == ("bar_not_revised", "A", "unresolved")
    assert (gap["from_time_us"], gap["to_time_us"]) == (NOON, NOON + S)


def test_a_bar_of_odd_lots_alone_has_no_prices_and_an_empty_interval_no_bar() -> None:
    feed = Feed()
    feed.trade("B", 10 * D, 5, basis="O")
    feed.trade("A", 10 * D, 5, basis="E")
    feed.clock(time=NOON + 10 * S)
    bars = process(feed)["bars"]
    assert [(row["symbol"], row["interval"], row["out"]) for row in bars] == [("A", "1s", 0), ("B", "1s", 1)]
    assert newest(bars, "open", "high", "low", "close", "volume", "vwap", "trade_count") == (*[None] * 4, 0, None, 0)
    assert newest(bars, "odd_lot_volume", "odd_lot_count", "final") == (5, 1, True)


def test_only_level_1_clocks_of_the_own_instance_close_bars() -> None:
    feed = Feed()
    feed.trade("A", 10 * D, 5)
    feed.clock("level2", NOON + 10 * S)
    feed.add("clock", None, "level1", event_time_us=NOON + 10 * S, instance=3)
    assert "bars" not in process(feed)


def test_a_summary_line_is_a_quote_and_never_a_trade() -> None:
    feed = Feed()
    feed.quote("A", 10 * D, 1, 11 * D, 1, summary=True, price=10 * D, size=100)
    feed.clock(time=NOON + 100 * S)
    made = process(feed)
    assert "bars" not in made
    assert newest(made["features"], "kind", "vwap", "last_price") == ("quote", None, None)


def test_vwap_begins_anew_with_the_trading_date_and_leaves_older_trades_out() -> None:
    feed = Feed()
    feed.trade("A", 10 * D, 5, trading_date=100)
    feed.trade("A", 20 * D, 5, trading_date=101)
    feed.trade("A", 90 * D, 5, trading_date=100)
    feed.trade("A", 22 * D, 5, trading_date=101)
    assert [row["vwap"] for row in process(feed)["features"]] == [10 * D, 20 * D, 20 * D, 21 * D]


def test_a_side_without_quote_is_named_and_zero_means_no_quote() -> None:
    feed = Feed()
    feed.quote("A", 0, 0, 11 * D, 3)
    feed.quote("A", 10 * D, 3, None, None)
    feed.quote("A", -2 * D, 3, 0, 4)  # a spread may cost nothing, or less
    feed.quote("A", 10 * D, 0, 11 * D, 0)
    feed.quote("A", None, None, None, None)
    rows = process(feed)["features"]
    assert [row["null_reason"] for row in rows] == ["no_bid", "no_ask", None, "no_size", "book_none"]
    assert [row["mid"] for row in rows] == [None, None, -D, 10 * D + D // 2, None]


def test_gaps_are_told_once_and_flag_what_they_touch() -> None:
    feed = Feed(epoch=3)
    feed.trade("A", 10 * D, 5)
    feed.quote("B", 10 * D, 5, 11 * D, 5)
    begun = {"epoch": 2, "seq": 77, "event_time_us": NOON - S}
    begin = feed.fact("gap", None, "level1", phase="begin", gap_id="0:3:2", cause="reader_lost", **{"from": begun})
    feed.trade("A", 10 * D, 5)
    ended = {"epoch": 3, "seq": 4, "event_time_us": NOON}
    feed.fact("gap", "A", "level1", phase="end", gap_id="0:3:2", to=ended)
    feed.trade("A", 10 * D, 5)
    feed.quote("B", 10 * D, 5, 11 * D, 5)
    feed.fact("gap", None, "level1", phase="closed", gap_id="0:3:2", to=ended)
    feed.quote("B", 10 * D, 5, 11 * D, 5)
    feed.now += 5 * S
    feed.trade("A", 10 * D, 5)
    feed.clock(time=feed.now + 60 * S)
    made = process(feed)
    flags = [(row["symbol"], row["gap_flag"]) for row in made["features"]]
    assert flags == [*zip("ABAABBA", (False, False, True, False, True, False, False), strict=True)]
    assert [(row["open_time_us"], row["gap_flag"]) for row in made["bars"] if row["interval"] == "1s"] == [
        (NOON, True),
        (NOON + 5 * S, False),
    ]
    first, of_symbol, last = made["gaps"]
    assert (first["state"], first["symbol"], first["from_seq"], first["to_seq"]) == ("open", None, 77, None)
    assert (of_symbol["state"], of_symbol["symbol"], of_symbol["cause"]) == ("closed", "A", "reader_lost")
    assert (last["state"], last["revision"], last["from_time_us"]) == ("closed", 1, NOON - S)
    elsewhere = process(feed, partition=4)["gaps"]
    assert [row["symbol"] for row in elsewhere] == ["A"]
    assert begin["seq"] == first["src_seq"]


def test_a_gap_that_is_settled_later_is_one_more_revision_and_flags_nothing() -> None:
    feed = Feed(epoch=3)
    begun, ended = ({"epoch": 2, "seq": seq, "event_time_us": NOON + seq} for seq in (7, 9))
    same: dict[str, Any] = {"gap_id": "0:3:2", "cause": "reader_lost", "from": begun, "to": ended}
    feed.trade("A", 10 * D, 5)
    feed.fact("gap", "A", "level1", phase="unresolved", detail={"rows": 2, "why": "none"}, **same)
    feed.fact("gap", None, "level1", phase="filled", detail={"rows": 4}, **same)
    feed.trade("A", 10 * D, 5)
    made = process(feed)
    assert [row["gap_flag"] for row in made["features"]] == [False, False]
    of_symbol, of_all = made["gaps"]
    shown = ("symbol", "state", "cause", "revision", "from_seq", "to_seq", "from_time_us", "to_time_us", "detail")
    assert [of_symbol[name] for name in shown] == [
        *("A", "unresolved", "reader_lost", 2, 7, 9, NOON + 7, NOON + 9, '{"rows": 2, "why": "none"}')
    ]
    assert (of_all["symbol"], of_all["state"], of_all["detail"]) == (None, "filled", '{"rows": 4}')
    assert [row["symbol"] for row in process(feed, partition=4)["gaps"]] == ["A"]


def test_trades_that_were_missed_are_one_closed_gap_of_their_symbol_wherever_that_lives() -> None:
    feed = Feed(epoch=3)
    begun, ended = ({"epoch": 3, "seq": seq, "event_time_us": NOON + seq} for seq in (7, 9))
    same: dict[str, Any] = {"cause": "volume_skipped", "from": begun, "to": ended, "detail": {"volume": 40}}
    feed.trade("A", 10 * D, 5)
    feed.fact("gap", "A", "level1", phase="missed", gap_id="0:3:2", **same)
    feed.trade("A", 10 * D, 5)
    for partition in (0, 4):
        made = process(feed, partition=partition)
        (row,) = made["gaps"]
        shown = ("gap_id", "symbol", "state", "cause", "revision", "from_seq", "to_seq", "to_time_us", "detail")
        assert [row[name] for name in shown] == [
            *("0:3:2", "A", "closed", "volume_skipped", 1, 7, 9, NOON + 9, '{"volume": 40}')
        ]
        assert [each["gap_flag"] for each in made["features"]] == [False, False]


def test_books_every_second_show_only_what_changed_since() -> None:
    feed = Feed()
    feed.book("A", [(10 * D, 5)], [])
    feed.clock(time=NOON + S)
    feed.clock(time=NOON + S + 1)
    feed.level("A", "bid", 11 * D, 5)
    feed.level("A", "bid", 11 * D, 6)
    feed.clock(time=NOON + S + 2)
    feed.clock(time=NOON + 2 * S)
    feed.clock(time=NOON + 3 * S)
    rows = process(feed, settings_for("1s"))["books"]
    assert [(row["bid_sizes"], row["event_time_us"] - NOON) for row in rows] == [([5], S), ([6, 5], 2 * S)]


def test_rows_of_another_schema_and_ranges_with_holes_are_refused() -> None:
    processor = ProcessEvents(settings_for(), [0])
    feed = Feed()
    feed.trade("A", 1, 1)
    batch = one_partition(feed.rows)
    batch.ranges = ()
    with pytest.raises(ValueError, match="ranges"):
        processor.process(batch)
    batch = one_partition(feed.rows)
    batch.rows = record_batch(feed.rows).select(["epoch"])
    with pytest.raises(ValueError, match=r"market\.events"):
        processor.process(batch)
    with pytest.raises(KeyError):
        processor.process(one_partition(feed.rows, partition=9))


@pytest.mark.parametrize("books", ["0s", "never"])
def test_a_wrong_setting_for_books_is_refused(books: str) -> None:
    with pytest.raises(ValueError, match=r"books|duration"):
        ProcessEvents(settings_for(books), [0])
