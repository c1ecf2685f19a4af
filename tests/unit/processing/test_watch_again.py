"""A watch sent again to a silent symbol: its book ends as the feed's and keeps its rows meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline_orchestrator.processing.layout import SETTLED_US
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from tests.unit.processing.build import Feed, one_partition
from tests.unit.processing.streams import NIGHTS, settings_for
from tests.unit.processing.test_orders import D, Subject

Show = Callable[..., None]  # (side, price in dollars, size, summary=...)


class Silent:
    """A symbol with bids 10 (3), 9 (2) and asks 12 (5), 13 (1) in one of the forms of depth, valid."""

    def __init__(self, form: str) -> None:
        self.subject, self.form = Subject(), form
        self.feed.watch("A")
        for side, price, size in (("bid", 10, 3), ("bid", 9, 2), ("ask", 12, 5), ("ask", 13, 1)):
            self.show(side, price, size, summary=True)
        self.feed.clock("level2")
        assert self.state() == "valid"

    @property
    def feed(self) -> Feed:
        return self.subject.feed

    def show(self, side: str, price: int, size: int, *, summary: bool = False) -> None:
        kind = "summary" if summary else "add"
        if self.form == "levels":
            self.feed.level("A", side, price * D, size, summary=summary)
        elif self.form == "orders":
            self.feed.order(kind, "A", 100 + price, side, price * D, size)
        else:
            self.feed.participant(kind, "A", f"MM{price}", side, price * D, size)

    def again(self) -> None:
        self.feed.fact("subscribed", "A", phase="watch", cause="redrive")

    def state(self) -> str:
        self.subject.run()
        return str(self.subject.out["books"][-1]["book_state"])

    def book(self) -> Any:
        return self.subject.book()


FORMS = pytest.mark.parametrize("form", ["levels", "orders", "participants"])


@FORMS
def test_what_the_answer_does_not_name_is_gone_once_it_is_whole(form: str) -> None:
    it = Silent(form)
    it.again()
    assert it.state() == "resyncing"
    assert it.book() == ([(10, 3), (9, 2)], [(12, 5), (13, 1)])  # kept until the answer is whole
    it.show("bid", 9, 2, summary=True)
    it.show("bid", 8, 7, summary=True)
    it.show("ask", 12, 6, summary=True)
    it.subject.run()
    assert it.book() == ([(10, 3), (9, 2), (8, 7)], [(12, 6), (13, 1)])
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(9, 2), (8, 7)], [(12, 6)]))
    assert it.subject.counted("rows_not_restated") == 2
    it.feed.clock("level2")
    it.show("bid", 9, 4)
    assert it.book() == ([(9, 4), (8, 7)], [(12, 6)])


@FORMS
def test_a_quiet_symbol_keeps_its_quote_while_it_is_asked(form: str) -> None:
    it = Silent(form)
    names = ("best_bid", "best_ask", "book_source", "book_state", "order_flow_imbalance")
    it.show("bid", 9, 3)
    it.again()
    for side, price, size in (("bid", 10, 3), ("bid", 9, 3), ("ask", 12, 5), ("ask", 13, 1)):
        it.show(side, price, size, summary=True)
        assert it.subject.feature(*names) == (10 * D, 12 * D, "depth", "resyncing", 0)
    it.feed.clock("level2")
    it.show("bid", 10, 4)
    assert it.subject.feature(*names) == (10 * D, 12 * D, "depth", "valid", 1)
    assert it.subject.counted("rows_not_restated") == 0


@FORMS
def test_prices_are_not_taken_from_a_book_that_old_rows_cross(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("ask", 8, 1, summary=True)  # the bids are long gone
    assert it.subject.feature("best_bid", "best_ask", "book_source") == (None, None, "none")
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([], [(8, 1)]))


@pytest.mark.parametrize("form", ["levels", "participants"])
def test_a_price_that_came_back_before_the_answer_stays_without_being_named(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 10, 4)  # set by the feed after it had listed the rows of its answer
    it.show("bid", 9, 2, summary=True)
    it.show("ask", 12, 5, summary=True)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(10, 4), (9, 2)], [(12, 5)]))


def changed_before(kind: str, *rest: tuple[int, int]) -> Silent:
    """The order of bid 10 by a line before the answer, which names bid 9 and those of `rest` (price, size)."""
    it = Silent("orders")
    it.again()
    it.feed.order(kind, "A", 110, "bid", 10 * D, 2)
    for price, size in ((9, 2), *rest):
        it.show("bid", price, size, summary=True)
    return it


def test_an_order_that_changed_before_the_answer_goes_where_the_answer_does_not_name_it() -> None:
    it = changed_before("change")
    it.subject.run()
    assert it.book()[0] == [(10, 2), (9, 2)]
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(9, 2)], []))
    assert it.subject.counted("rows_not_restated") == 3


def test_an_order_that_changed_before_the_answer_stays_by_its_row_or_a_later_change() -> None:
    named, changed = changed_before("change", (10, 2)), changed_before("change")
    changed.feed.order("change", "A", 110, "bid", 10 * D, 1)
    for it, size in ((named, 2), (changed, 1)):
        it.feed.clock("level2")
        assert (it.state(), it.book()) == ("valid", ([(10, size), (9, 2)], []))


def test_an_order_added_anew_under_a_known_id_before_the_answer_stays() -> None:
    it = changed_before("add")
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(10, 2), (9, 2)], []))


@FORMS
def test_a_live_change_before_the_answer_does_not_complete_the_book(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 10, 4)
    it.feed.clock("level2")
    assert it.book() == ([(10, 4), (9, 2)], [(12, 5), (13, 1)])
    it.show("bid", 10, 4, summary=True)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(10, 4)], []))


@FORMS
def test_a_feed_that_names_nothing_twice_has_an_empty_book_and_a_live_row_begins_the_next(form: str) -> None:
    it = Silent(form)
    it.again()
    it.feed.clock("level2")
    it.again()
    assert it.book() == ([], [])
    it.feed.clock("level2")
    assert it.state() == "resyncing"
    it.show("bid", 7, 1)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(7, 1)], []))


@FORMS
def test_a_feed_that_names_nothing_for_five_seconds_has_an_empty_book(form: str) -> None:
    it = Silent(form)
    it.again()
    it.feed.now += SETTLED_US - 1
    it.feed.clock("level2")
    it.feed.clock("level1")
    it.subject.run()
    assert it.book() == ([(10, 3), (9, 2)], [(12, 5), (13, 1)])
    it.feed.now += 1
    it.feed.clock("level1")
    assert it.state() == "resyncing"
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("resyncing", ([], []))
    assert it.subject.counted("rows_not_restated") == 4
    it.show("bid", 7, 1)
    assert it.subject.feature("book_source", "best_bid") == ("none", None)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(7, 1)], []))


@FORMS
def test_what_live_lines_set_meanwhile_is_the_book_of_a_feed_that_names_nothing(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("ask", 11, 2)  # the feed's book was cleared, unseen, and fills anew
    for _ in range(5):
        it.feed.now += SETTLED_US // 5
        assert it.state() == "resyncing"
        it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([], [(11, 2)]))
    assert it.subject.feature("best_bid", "best_ask") == (10 * D, 11 * D)  # of its own line, before that T
    it.show("bid", 9, 2)
    assert it.subject.feature("best_bid", "best_ask", "book_state") == (9 * D, 11 * D, "valid")


@FORMS
def test_an_answer_that_comes_later_than_that_adds_what_is_missing(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 10, 4)
    it.feed.now += SETTLED_US
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(10, 4)], []))
    for side, price, size in (("bid", 9, 2), ("ask", 12, 5)):
        it.show(side, price, size, summary=True)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(10, 4), (9, 2)], [(12, 5)]))


@FORMS
def test_an_answer_that_began_is_not_taken_for_none_however_long_ago_the_watch_was_sent(form: str) -> None:
    it = Silent(form)
    it.again()
    it.feed.now += 2 * SETTLED_US
    it.show("bid", 9, 2, summary=True)
    it.show("ask", 14, 1)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(9, 2)], [(14, 1)]))


@FORMS
def test_a_book_that_the_second_watch_emptied_is_begun_by_live_rows_where_the_feed_names_nothing(form: str) -> None:
    it = Silent(form)
    it.feed.fact("lost", None, phase="lost", cause="eof")
    it.again()
    it.show("bid", 7, 1)
    it.feed.now += SETTLED_US - 1
    it.feed.clock("level2")
    assert it.state() == "resyncing"
    it.feed.now += 1
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(7, 1)], []))


@FORMS
def test_a_first_watch_that_nothing_answers_proves_nothing(form: str) -> None:
    it = Silent(form)
    it.again()
    it.feed.fact("subscribed", "A", phase="watch", cause="start")
    it.show("bid", 7, 1)
    it.feed.now += 2 * SETTLED_US
    it.feed.clock("level2")
    assert it.state() == "resyncing"


@FORMS
def test_a_quiet_time_ends_the_answer_as_a_clock_does(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 9, 2, summary=True)
    it.feed.now += SETTLED_US - 1
    it.show("ask", 12, 6)
    assert it.state() == "resyncing"
    it.feed.now += 1
    it.show("ask", 14, 1)
    assert (it.state(), it.book()) == ("valid", ([(9, 2)], [(12, 6), (14, 1)]))
    assert it.subject.feature("best_bid", "best_ask", "book_state") == (9 * D, 12 * D, "valid")
    assert it.subject.counted("rows_not_restated") == 2


@FORMS
@pytest.mark.parametrize("loss", ["connected", "lost", "unsubscribed", "subscribed", "q", "clear"])
def test_what_empties_the_book_ends_the_wait_for_confirmation(form: str, loss: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 9, 2, summary=True)
    if loss == "q":
        it.feed.no_depth("A")
    elif loss == "clear":
        it.feed.add("depth_clear", "A", "level2", side=None)
    elif loss == "connected":
        it.feed.fact("lost", None, phase="lost", cause="eof")
        it.feed.fact("connected", None, phase="open")
    else:
        it.feed.fact(loss, None if loss == "lost" else "A", phase="watch", cause="start")
    assert it.book() == ([], [])
    it.show("ask", 11, 2)
    assert it.subject.feature("book_source") == ("none",)
    it.feed.fact("subscribed", "A", phase="watch", cause="start")
    it.show("ask", 14, 2, summary=True)
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([], [(14, 2)]))
    assert it.subject.counted("rows_not_restated") == 0


@FORMS
def test_one_side_cleared_while_the_answer_comes_leaves_the_other_to_it(form: str) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 9, 2, summary=True)
    it.feed.add("depth_clear", "A", "level2", side="ask")
    it.feed.clock("level2")
    assert (it.state(), it.book()) == ("valid", ([(9, 2)], []))


@FORMS
@pytest.mark.parametrize("at", range(9))
def test_a_restart_anywhere_between_changes_nothing(form: str, at: int) -> None:
    it = Silent(form)
    it.again()
    for side, price, size in (("bid", 9, 2), ("bid", 8, 7), ("ask", 12, 6)):
        it.show(side, price, size, summary=True)
    it.feed.clock("level2")
    assert_restarts_change_nothing(it, at)


@FORMS
@pytest.mark.parametrize("at", range(4, 10))
def test_a_restart_while_an_answer_or_its_end_is_waited_for_changes_nothing(form: str, at: int) -> None:
    it = Silent(form)
    it.again()
    it.show("bid", 7, 1)
    it.feed.now += SETTLED_US
    it.feed.clock("level2")
    it.again()
    it.show("bid", 7, 1, summary=True)
    it.feed.now += SETTLED_US
    it.show("bid", 8, 1)
    assert it.state() == "valid"
    assert_restarts_change_nothing(it, at)


def assert_restarts_change_nothing(it: Silent, at: int) -> None:
    rows = it.feed.rows
    whole, first, second = (ProcessEvents(settings_for(), [0], NIGHTS) for _ in range(3))
    whole.process(one_partition(rows))
    first.process(one_partition(rows[: at + 2]))
    raw = b"".join(encode(*pack(first, 0)))
    header = decode_header(raw)
    unpack(second, 0, header, decode_sections(raw, header))
    second.process(one_partition(rows[at + 2 :], at + 2))
    assert second.digest() == whole.digest()
