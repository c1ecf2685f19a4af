"""Rules of books by order, one by one, on hand-made events."""

from __future__ import annotations

from typing import Any

import pytest

from config.sections import MarketConfig, Settings
from pipeline_orchestrator.market.calendar import calendar_named
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import Feed, Row, one_partition
from tests.unit.processing.streams import NIGHTS, settings_for

D = 1_000_000  # one dollar
MINUTE = 60_000_000
Levels = list[tuple[int, int]]


class Subject:
    """A processor that is fed what came since the last look."""

    def __init__(self, books: str = "change") -> None:
        self.feed = Feed()
        self.processor = ProcessEvents(settings_for(books), [0], NIGHTS)
        self.done = 0
        self.out: dict[str, list[Row]] = {}

    def run(self) -> None:
        rows, first = self.feed.rows[self.done :], self.done
        self.done = len(self.feed.rows)
        if rows:
            for out in self.processor.process(one_partition(rows, first)).outgoing:
                self.out.setdefault(out.topic.removeprefix("market."), []).extend(out.rows.to_pylist())

    def book(self) -> tuple[Levels, Levels]:
        """Levels of the newest books row, in dollars."""
        self.run()
        row = self.out["books"][-1]
        bids, asks = (
            [(price // D, size) for price, size in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)]
            for side in ("bid", "ask")
        )
        return bids, asks

    def feature(self, *names: str) -> tuple[Any, ...]:
        self.run()
        return tuple(self.out["features"][-1][name] for name in names)

    def counted(self, name: str) -> int:
        self.run()
        return self.processor.counters()[name]


def started(*, summary: bool = True) -> Subject:
    """Bids 1 and 2 at 10 (3 + 4), ask 3 at 12 (5); a valid book."""
    subject = Subject()
    subject.feed.watch("A")
    kind = "summary" if summary else "add"
    subject.feed.order(kind, "A", 1, "bid", 10 * D, 3)
    subject.feed.order(kind, "A", 2, "bid", 10 * D, 4)
    subject.feed.order(kind, "A", 3, "ask", 12 * D, 5)
    subject.feed.clock("level2")
    return subject


def test_levels_are_the_sums_over_orders_and_a_summary_row_and_a_depth_clock_make_the_book_valid() -> None:
    subject = started()
    assert subject.book() == ([(10, 7)], [(12, 5)])
    subject.feed.quote("A", None, None, None, None)
    assert subject.feature("book_state", "best_bid", "best_bid_size", "mid", "book_source") == (
        "valid",
        10 * D,
        7,
        11 * D,
        "depth",
    )


def test_live_orders_alone_never_complete_a_watched_book() -> None:
    subject = started(summary=False)
    subject.feed.order("change", "A", 1, "bid", 10 * D, 3)
    assert subject.feature("book_state", "null_reason") == ("resyncing", "book_resyncing")


def test_a_change_moves_an_order_to_another_price_and_another_side() -> None:
    subject = started()
    subject.feed.order("change", "A", 2, "bid", 11 * D, 6)
    assert subject.book() == ([(11, 6), (10, 3)], [(12, 5)])
    subject.feed.order("change", "A", 2, "ask", 13 * D, 6)
    assert subject.book() == ([(10, 3)], [(12, 5), (13, 6)])
    subject.feed.order("change", "A", 1, "bid", 10 * D, 1)
    assert subject.book() == ([(10, 1)], [(12, 5), (13, 6)])


def test_a_change_of_an_unknown_order_inserts_it_and_an_addition_of_a_known_one_replaces_it() -> None:
    subject = started()
    subject.feed.order("change", "A", 9, "bid", 9 * D, 2)
    subject.feed.order("add", "A", 1, "bid", 8 * D, 1)
    subject.feed.order("summary", "A", 2, "bid", 10 * D, 40)
    assert subject.book() == ([(10, 40), (9, 2), (8, 1)], [(12, 5)])


def test_deletes_and_sizes_of_zero_or_less_remove_an_order_and_unknown_ones_are_counted() -> None:
    subject = started()
    subject.feed.order("delete", "A", 1, "bid")
    assert subject.book() == ([(10, 4)], [(12, 5)])
    subject.feed.order("change", "A", 2, "bid", 10 * D, 0)
    subject.feed.order("change", "A", 3, "ask", 12 * D, -5)
    assert subject.book() == ([], [])
    assert subject.counted("unknown_order_deletes") == 0
    subject.feed.order("delete", "A", 1, "bid")
    subject.feed.order("delete", "B", 2, "bid")
    subject.feed.order("summary", "A", 77, "bid", 10 * D, 0)
    assert subject.counted("unknown_order_deletes") == 3
    assert subject.processor.order_bytes()[0] == 0


def test_a_delete_by_order_id_needs_no_side_and_one_by_participant_does() -> None:
    subject = started()
    subject.feed.add("order_delete", "A", "level2", order_id=1)
    subject.feed.add("order_delete", "A", "level2", mmid="NSDQ")
    subject.feed.add("order_delete", "A", "level2", side="bid")
    assert subject.book() == ([(10, 4)], [(12, 5)])
    assert (subject.counted("unusable_depth"), subject.counted("unknown_order_deletes")) == (2, 0)


@pytest.mark.parametrize(
    "columns",
    [
        {"order_id": 9, "side": "bid", "price": None, "size": 5},
        {"order_id": 9, "side": "bid", "price": D, "size": None},
        {"order_id": 9, "side": None, "price": D, "size": 5},
        {"side": "bid", "price": D, "size": 5},
        {"order_id": 9, "side": "bid", "price": D, "size": (1 << 40) + 1},
    ],
)
def test_an_order_that_cannot_be_placed_is_counted_and_changes_nothing(columns: dict[str, Any]) -> None:
    subject = started()
    before = subject.book()
    subject.feed.add("order_add", "A", "level2", **columns)
    assert subject.book() == before
    assert subject.counted("unusable_depth") == 1


def test_the_same_id_of_two_symbols_is_two_orders_and_ids_use_all_64_bits() -> None:
    subject = started()
    subject.feed.order("add", "B", 1, "bid", 20 * D, 9)
    subject.feed.order("add", "A", (1 << 64) - 1, "ask", 12 * D, 1)
    subject.feed.order("add", "A", (1 << 63) - 1, "ask", 12 * D, 2)
    assert subject.book()[1] == [(12, 8)]
    subject.feed.order("delete", "A", (1 << 64) - 1, "ask")
    assert subject.book() == ([(10, 7)], [(12, 7)])


def test_a_participant_has_one_row_per_side() -> None:
    subject = Subject()
    subject.feed.watch("A")
    for mmid, side, price in (("NSDQ", "bid", 10), ("NSDQ", "ask", 12), ("AMEX", "bid", 10), ("LONGNAMEX", "ask", 13)):
        subject.feed.participant("summary", "A", mmid, side, price * D, 100)
    subject.feed.clock("level2")
    assert subject.book() == ([(10, 200)], [(12, 100), (13, 100)])
    subject.feed.participant("change", "A", "NSDQ", "bid", 11 * D, 300)
    subject.feed.participant("change", "A", "CHXE", "ask", 12 * D, 50)
    assert subject.book() == ([(11, 300), (10, 100)], [(12, 150), (13, 100)])
    subject.feed.participant("delete", "A", "NSDQ", "ask", event_time_us=None)
    subject.feed.participant("delete", "A", "LONGNAMEX", "ask")
    assert subject.book() == ([(11, 300), (10, 100)], [(12, 50)])
    assert subject.counted("unknown_order_deletes") == 0


def test_a_clear_removes_the_orders_of_its_side_and_the_book_waits_for_the_next_clock() -> None:
    subject = started()
    subject.feed.add("depth_clear", "A", "level2", side="bid")
    assert subject.book() == ([], [(12, 5)])
    assert subject.processor.order_bytes()[0] == 1
    subject.feed.order("delete", "A", 1, "bid")
    assert subject.counted("unknown_order_deletes") == 1
    subject.feed.order("add", "A", 5, "bid", 9 * D, 1)
    assert subject.feature("book_state") == ("resyncing",)
    subject.feed.clock("level2")
    subject.feed.order("add", "A", 6, "bid", 9 * D, 1)
    assert subject.feature("book_state", "best_bid_size") == ("valid", 2)


@pytest.mark.parametrize("loss", ["lost", "unsubscribed", "subscribed", "q"])
def test_whatever_empties_a_book_frees_its_orders(loss: str) -> None:
    subject = started()
    if loss == "q":
        subject.feed.no_depth("A")
    else:
        subject.feed.fact(loss, None if loss == "lost" else "A")
    assert subject.book() == ([], [])
    assert subject.processor.order_bytes()[0] == 0
    subject.feed.order("delete", "A", 1, "bid")
    assert subject.counted("unknown_order_deletes") == 1


def test_a_lost_past_frees_all_orders() -> None:
    subject = started()
    subject.run()
    subject.processor.lose_past(0, "state_lost", [])
    assert subject.processor.order_bytes()[0] == 0
    subject.feed.order("add", "A", 1, "bid", 10 * D, 2)
    assert subject.feature("book_state") == ("stale",)
    assert subject.book() == ([(10, 2)], [])


def test_a_symbol_by_order_and_one_by_level_stand_side_by_side() -> None:
    subject = started()
    subject.feed.book("L", [(10 * D, 1)], [(11 * D, 2)])
    subject.feed.order("add", "A", 4, "bid", 10 * D, 1)
    assert subject.book() == ([(10, 8)], [(12, 5)])
    subject.feed.delete("L", "bid", 10 * D)
    assert subject.book() == ([], [(11, 2)])
    assert subject.counted("mixed_depth_forms") == 0


def test_changes_of_the_other_form_are_left_out_and_its_summary_begins_the_book_anew() -> None:
    subject = started()
    subject.feed.level("A", "bid", 10 * D, 99)
    subject.feed.delete("A", "ask", 12 * D)
    assert subject.book() == ([(10, 7)], [(12, 5)])
    assert subject.counted("mixed_depth_forms") == 2
    subject.feed.level("A", "bid", 9 * D, 8, summary=True)
    assert subject.book() == ([(9, 8)], [])
    assert subject.feature("book_state") == ("resyncing",)
    subject.feed.order("add", "A", 4, "bid", 10 * D, 1)
    subject.feed.clock("level2")
    subject.feed.level("A", "bid", 9 * D, 7)
    assert subject.feature("book_state", "best_bid_size") == ("valid", 7)
    assert subject.counted("mixed_depth_forms") == 3


def test_a_changed_form_after_a_new_watch_is_no_mixture() -> None:
    subject = started()
    subject.feed.book("A", [(9 * D, 8)], [(11 * D, 2)])
    assert subject.book() == ([(9, 8)], [(11, 2)])
    subject.feed.watch("A")
    subject.feed.order("summary", "A", 1, "bid", 10 * D, 3)
    assert subject.book() == ([(10, 3)], [])
    assert subject.counted("mixed_depth_forms") == 0


def overnight(after_minutes: int, books: str = "change") -> Subject:
    """A row of 11:58 and one of 12:20 by the Level 1 clock, an order besides; closed from 12:30 to 13:00."""
    subject = Subject(books)
    noon = subject.feed.now
    subject.feed.watch("A")
    subject.feed.clock(time=noon - 2 * MINUTE)
    subject.feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    subject.feed.order("summary", "A", 1, "bid", 8 * D, 1)
    subject.feed.clock("level2")
    subject.feed.clock(time=noon + 33 * MINUTE)
    subject.feed.participant("change", "A", "AMEX", "bid", 9 * D, 1)
    subject.feed.clock(time=noon + after_minutes * MINUTE)
    subject.feed.now = noon + 59 * MINUTE
    subject.run()
    return subject


@pytest.mark.parametrize(
    ("minutes", "left"),
    [(44, [(10, 1), (9, 1), (8, 1)]), (45, [(9, 1), (8, 1)]), (48, [(8, 1)]), (61, [(10, 1), (9, 1), (8, 1)])],
)
def test_participants_rows_expire_15_minutes_after_the_session_and_only_outside_it(minutes: int, left: Levels) -> None:
    subject = overnight(minutes)
    assert subject.book()[0] == left
    assert subject.counted("expired_participant_rows") == 3 - len(left)


@pytest.mark.parametrize(("minutes", "held"), [(-1, 1), (0, 1), (14, 1), (15, 0), (600, 0)])
def test_the_calendar_of_the_settings_says_when_the_session_ended(minutes: int, held: int) -> None:
    settings = Settings(market=MarketConfig(calendar="XNYS"))
    sessions = calendar_named("XNYS").sessions
    assert sessions is not None
    end = int(sessions.ends[len(sessions.ends) // 2])
    feed = Feed()
    feed.watch("A")
    feed.clock(time=end - 120 * MINUTE)
    feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    feed.clock(time=end + minutes * MINUTE)
    processor = ProcessEvents(settings, [0])
    processor.process(one_partition(feed.rows))
    assert processor.order_bytes()[0] == held


def test_a_moment_that_the_calendar_does_not_know_lets_nothing_expire() -> None:
    sessions = calendar_named("XNYS").sessions
    assert sessions is not None
    feed = Feed()
    feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    feed.clock(time=sessions.known_until + MINUTE)
    feed.clock(time=sessions.known_until + 1000 * MINUTE)
    processor = ProcessEvents(Settings(market=MarketConfig(calendar="XNYS")), [0])
    processor.process(one_partition(feed.rows))
    assert processor.order_bytes()[0] == 1


def test_a_row_that_is_sent_again_does_not_expire() -> None:
    subject = overnight(40)
    subject.feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    subject.feed.clock(time=subject.feed.now - 5 * MINUTE)
    assert subject.book()[0] == [(10, 1), (8, 1)]


def test_a_row_that_comes_while_a_later_one_is_waited_for_expires_in_its_own_time() -> None:
    subject = Subject()
    noon = subject.feed.now
    subject.feed.watch("A")
    subject.feed.clock(time=noon + 40 * MINUTE)
    subject.feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    subject.feed.clock("level2")
    subject.feed.clock(time=noon + 41 * MINUTE)
    subject.feed.clock(time=noon + 35 * MINUTE)
    subject.feed.participant("change", "A", "AMEX", "bid", 9 * D, 1)
    subject.feed.clock(time=noon + 49 * MINUTE)
    assert subject.book()[0] == [(10, 1), (9, 1)]
    subject.feed.clock(time=noon + 50 * MINUTE)
    assert subject.book()[0] == [(10, 1)]
    subject.feed.clock(time=noon + 54 * MINUTE)
    assert subject.book()[0] == [(10, 1)]
    subject.feed.clock(time=noon + 55 * MINUTE)
    assert subject.book()[0] == []


def test_a_session_that_ended_earlier_by_a_clock_set_back_is_looked_at_anew() -> None:
    subject = Subject()
    noon = subject.feed.now
    subject.feed.watch("A")
    subject.feed.clock(time=noon - 2 * MINUTE)
    subject.feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    subject.feed.clock("level2")
    subject.feed.clock(time=noon + 91 * MINUTE)
    assert subject.book()[0] == [(10, 1)]
    subject.feed.clock(time=noon + 46 * MINUTE)
    assert subject.book()[0] == []


def test_a_book_that_expiry_changed_is_shown_with_the_clock_or_at_the_periods_end() -> None:
    for books in ("change", "5s"):
        subject = overnight(48, books)
        (row,) = [row for row in subject.out["books"] if row["src_seq"] == 7]
        assert row["bid_prices"] == [8 * D]


def test_a_market_that_never_closes_lets_nothing_expire() -> None:
    feed = Feed()
    feed.watch("A")
    feed.participant("summary", "A", "NSDQ", "bid", 10 * D, 1)
    for hour in range(48):
        feed.clock(time=feed.now + hour * 60 * MINUTE)
    processor = ProcessEvents(settings_for(), [0])
    processor.process(one_partition(feed.rows))
    assert processor.order_bytes()[0] == 1
    assert processor.counters()["expired_participant_rows"] == 0


def test_the_table_grows_by_doubling_and_uses_freed_rows_again() -> None:
    subject = Subject("off")
    sizes = set()
    for turn in range(12):
        for number in range(1000):
            subject.feed.order("add", "A", turn * 1000 + number, "bid", (number % 50) * D, 1)
        for number in range(1000):
            subject.feed.order("delete", "A", turn * 1000 + number, "bid")
        subject.run()
        held, taken = subject.processor.order_bytes()
        assert held == 0
        sizes.add(taken)
    assert sizes == {1024 * (64 + 4)}
    assert subject.counted("unknown_order_deletes") == 0
