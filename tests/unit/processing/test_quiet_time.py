"""The end of a depth summary without a `T` of Level 2: a quiet time, seen at the symbol's next live line."""

from __future__ import annotations

from pipeline_orchestrator.processing.layout import SETTLED_US
from tests.unit.processing.test_orders import D, Subject


def test_a_quiet_time_completes_a_summary_at_the_next_live_line_of_its_symbol() -> None:
    subject = Subject()
    subject.feed.watch("A")
    for order in (1, 2):
        subject.feed.order("summary", "A", order, "bid", 10 * D, 3)
        subject.feed.now += SETTLED_US - 1
    subject.feed.order("change", "A", 2, "bid", 10 * D, 4)
    assert subject.feature("book_state") == ("resyncing",)
    subject.feed.now += 1
    subject.feed.order("summary", "A", 3, "bid", 9 * D, 1)  # still not over
    subject.feed.now += SETTLED_US
    subject.feed.order("change", "B", 3, "bid", 9 * D, 1)
    subject.feed.order("change", "A", 3, "bid", 9 * D, 2, replay_of="0:1:1")
    subject.run()
    assert {row["book_state"] for row in subject.out["books"]} == {"resyncing"}
    subject.feed.order("delete", "A", 99, "bid")  # changes nothing, but shows that the rows are over
    assert subject.feature("book_state", "best_bid", "best_bid_size") == ("valid", 10 * D, 7)
    assert (subject.out["books"][-1]["book_state"], subject.book()) == ("valid", ([(10, 7), (9, 1)], []))


def test_a_quiet_time_does_not_complete_what_no_summary_began() -> None:
    subject = Subject()
    subject.feed.watch("A")
    for _ in range(3):
        subject.feed.order("add", "A", 1, "bid", 10 * D, 3)
        subject.feed.now += SETTLED_US
    assert subject.feature("book_state") == ("resyncing",)
    subject.feed.add("depth_clear", "A", "level2", side=None)
    subject.feed.order("summary", "A", 1, "bid", 10 * D, 3)
    subject.feed.clock("level2")
    subject.feed.add("depth_clear", "A", "level2", side=None)
    subject.feed.order("add", "A", 2, "bid", 11 * D, 3)  # begins the book: the feed has said that it is empty
    subject.feed.now += SETTLED_US - 1
    subject.feed.order("add", "A", 3, "bid", 11 * D, 3)
    assert subject.feature("book_state") == ("resyncing",)
    subject.feed.now += 1
    subject.feed.order("add", "A", 4, "bid", 11 * D, 3)
    assert subject.feature("book_state") == ("valid",)
