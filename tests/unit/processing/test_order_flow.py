"""Random flows of orders: the book by order is the book by level, and every queue is the one that rules give."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.queue_position import queue_position
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from tests.unit.processing.build import Feed, Row, one_partition
from tests.unit.processing.reference import Reference
from tests.unit.processing.streams import NIGHTS, closed_since, expected, random_log, run, settings_for

PENNY = 10_000
Book = dict[tuple[str, int], int]
TOP = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
DERIVED = ("book_state", "best_bid", "best_bid_size", "best_ask", "best_ask_size", "mid", "microprice", "imbalance")


class Flow:
    """Orders of one symbol, each message told twice: as order to `A`, as the levels it changes to `L`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.feed = Feed()
        self.live: dict[int, tuple[str, int, int]] = {}
        self.pairs: list[tuple[int, int]] = []  # seq of the order's message, of the last level line made of it
        self.number = 0
        for symbol in ("A", "L"):
            self.feed.watch(symbol)

    def book(self) -> Book:
        book: Book = {}
        for side, price, size in self.live.values():
            book[side, price] = book.get((side, price), 0) + size
        return book

    def levels(self, before: Book, summary: bool) -> None:
        after = self.book()
        for side, price in sorted(before.keys() | after.keys()):
            if (side, price) not in after:
                self.feed.delete("L", side, price)
            elif before.get((side, price)) != after[side, price]:
                self.feed.level("L", side, price, after[side, price], summary=summary)

    def message(self, *, summary: bool = False) -> None:
        before, rng = self.book(), self.rng
        self.feed.now += rng.choice((0, 1, 900, 250_000))
        side = rng.choice(("bid", "ask"))
        price = 100_000_000 + PENNY * (-rng.randint(1, 9) if side == "bid" else rng.randint(1, 9))
        size = rng.randint(1, 20)
        what = "summary" if summary else rng.choice(("add", "add", "change", "change", "delete", "delete"))
        if what in {"add", "summary"} or not self.live:
            what = "add" if what != "summary" else what
            self.number += rng.choice((1, 1 << 40, (1 << 61) - 1))
            order = self.number % (1 << 64)
        else:
            order = rng.choice(list(self.live))
        if what == "delete":
            side, price, _ = self.live.pop(order)
        elif what == "change" and rng.random() < 0.5:
            side, price, _ = self.live[order]
        if what != "delete":
            self.live[order] = (side, price, size)
        first = self.feed.order(what, "A", order, side, price, size)["seq"]
        self.levels(before, summary)
        if self.feed.seq - 1 > first:
            self.pairs.append((first, self.feed.seq - 1))


def flow_of(seed: int, messages: int) -> Flow:
    flow = Flow(seed)
    for _ in range(10):
        flow.message(summary=True)
    flow.feed.clock("level2")
    for _ in range(messages):
        flow.message()
    return flow


def outputs(rows: list[Row], cuts: list[int], processor: ProcessEvents) -> dict[str, dict[int, Row]]:
    """Features and books by seq of their event."""
    found: dict[str, dict[int, Row]] = {"market.features": {}, "market.books": {}}
    bounds = sorted({0, len(rows), *(cut % len(rows) for cut in cuts)})
    for begin, end in pairwise(bounds):
        for out in processor.process(one_partition(rows[begin:end], begin)).outgoing:
            found[out.topic] |= {row["src_seq"]: row for row in out.rows.to_pylist()}
    return found


@given(seed=st.integers(0, 1 << 32), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=30, deadline=None)
@example(seed=180, cuts=[])
def test_the_book_by_order_is_the_book_by_level_message_for_message(seed: int, cuts: list[int]) -> None:
    flow = flow_of(seed, 150)
    processor = ProcessEvents(settings_for(levels=4), [0])
    found = outputs(flow.feed.rows, cuts, processor)
    books, features = found["market.books"], found["market.features"]
    shown: dict[str, Any] = {}
    firsts = {first_valid(features, symbol) for symbol in "AL"}
    for order, level in flow.pairs:
        ours = shown_at(books, shown, order, order, "A")
        theirs = shown_at(books, shown, order + 1, level, "L")
        assert ours == theirs, (order, level)
        if level == order + 1:  # one level line: also what was derived from the step is the same
            assert_same(features[order], features[level], flow_too=firsts.isdisjoint((order, level)))
    assert [level["book_state"] for _, level in sorted(features.items())][-1] == "valid"
    assert processor.counters()["unknown_order_deletes"] == 0
    assert processor.counters()["mixed_depth_forms"] == 0


def shown_at(books: dict[int, Row], shown: dict[str, Any], first: int, last: int, symbol: str) -> Any:
    """The newest top of a symbol after the events first..last."""
    for seq in range(first, last + 1):
        if seq in books and books[seq]["symbol"] == symbol:
            shown[symbol] = [books[seq][name] for name in TOP]
    return shown.get(symbol)


def first_valid(features: dict[int, Row], symbol: str) -> int | None:
    """The first row of a valid book has no imbalance; an order changed to its own size is one, of no level."""
    valid = (seq for seq, row in features.items() if row["symbol"] == symbol and row["book_state"] == "valid")
    return min(valid, default=None)


def assert_same(one: Row, other: Row, *, flow_too: bool = True) -> None:
    for name in (*DERIVED, *(["order_flow_imbalance"] if flow_too else [])):
        assert one[name] == other[name], name


@given(seed=st.integers(0, 1 << 32), cut=st.integers(1, 300))
@settings(max_examples=20, deadline=None)
def test_a_snapshot_in_the_middle_of_a_flow_changes_no_book_and_no_queue(seed: int, cut: int) -> None:
    flow = flow_of(seed, 120)
    rows = flow.feed.rows
    cut = cut % len(rows)
    whole, half, rest = (ProcessEvents(settings_for(), [0]) for _ in range(3))
    wanted = outputs(rows, [], whole)
    made = outputs(rows[:cut], [], half) if cut else {"market.features": {}, "market.books": {}}
    raw = b"".join(encode(*pack(half, 0)))
    header = decode_header(raw)
    unpack(rest, 0, header, decode_sections(raw, header))
    assert rest.digest() == half.digest()
    assert rest.order_bytes()[0] == half.order_bytes()[0]
    for out in rest.process(one_partition(rows[cut:], cut)).outgoing:
        made[out.topic] |= {row["src_seq"]: row for row in out.rows.to_pylist()}
    assert made == wanted
    assert rest.digest() == whole.digest()
    for order in flow.live:
        assert queue_position(rest, "A", order) == queue_position(whole, "A", order)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=30, deadline=None)
def test_what_is_ignored_and_what_expires_is_counted(seed: int) -> None:
    log, config = random_log(seed, 400), settings_for()
    processor = ProcessEvents(config, range(log.partitions), NIGHTS)
    run(log, config, [50], processor)
    wanted: dict[str, int] = {}
    for partition in range(log.partitions):
        reference = Reference(partition, levels=3, keep_s=60, closed_since=closed_since)
        for offset, row in log.records.get(partition, []):
            reference.take(row, offset)
        for name, count in reference.counts.items():
            wanted[name] = wanted.get(name, 0) + count
    counted = processor.counters()
    names = ("unusable_depth", "unknown_level_deletes", "unknown_order_deletes", "mixed_depth_forms")
    for name in (*names, "expired_participant_rows"):
        assert counted[name] == wanted.get(name, 0), name


def test_random_streams_reach_every_rule_of_orders() -> None:
    total: dict[str, int] = {}
    for seed in range(12):
        log = random_log(seed, 400)
        processor = ProcessEvents(settings_for(), range(log.partitions), NIGHTS)
        run(log, settings_for(), [], processor)
        for name, count in processor.counters().items():
            total[name] = total.get(name, 0) + count
    for name in ("unknown_order_deletes", "mixed_depth_forms", "expired_participant_rows", "unusable_depth"):
        assert total[name] > 0, name
    books = [
        row for name, rows in expected(random_log(1, 400), settings_for()).items() if "books" in name for row in rows
    ]
    assert any(row["bid_prices"] and row["ask_prices"] for row in books)


def served(orders: list[dict[str, Any]]) -> list[int]:
    """Ids of orders at one price as they are served, by the documented rule."""
    at = {order["id"]: number for number, order in enumerate(orders)}
    with_priority = sorted(
        (order for order in orders if order["priority"] is not None),
        key=lambda order: (order["priority"], at[order["id"]]),
    )
    return [order["id"] for order in (*with_priority, *(o for o in orders if o["priority"] is None))]


@given(
    ops=st.lists(
        st.tuples(
            st.integers(1, 12),
            st.integers(0, 3),
            st.sampled_from((None, 1, 2, 1 << 63, (1 << 64) - 1)),
            st.integers(0, 1),
        ),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_an_orders_place_is_by_priority_as_an_unsigned_number_then_by_arrival(
    ops: list[tuple[int, int, int | None, int]],
) -> None:
    feed, queue = Feed(), list[dict[str, Any]]()
    feed.watch("A")
    for identity, size, priority, level in ops:
        number = identity << 60 | identity  # uses the sign bit too
        feed.order("change", "A", number, "bid", 10 + level, size, priority=priority)
        known = next((order for order in queue if order["id"] == number), None)
        fresh = {"id": number, "size": size, "priority": priority, "level": level}
        if size == 0:
            queue = [order for order in queue if order["id"] != number]
        elif known is not None and known["level"] == level and size <= known["size"]:
            known.update(fresh)
        else:
            queue = [*(order for order in queue if order["id"] != number), fresh]
    processor = ProcessEvents(settings_for(), [0])
    processor.process(one_partition(feed.rows))
    for level in (0, 1):
        mine = [order for order in queue if order["level"] == level]
        sizes = {order["id"]: order["size"] for order in mine}
        order_of = served(mine)
        for ahead, number in enumerate(order_of):
            found = queue_position(processor, "A", number)
            assert found is not None
            assert (found.orders_ahead, found.size_ahead) == (ahead, sum(sizes[each] for each in order_of[:ahead]))
            assert (found.orders_at_price, found.size_at_price) == (len(mine), sum(sizes.values()))
            assert (found.side, found.price, found.size) == ("bid", 10 + level, sizes[number])
            assert found.priority == next(order["priority"] for order in mine if order["id"] == number)
    gone = {identity << 60 | identity for identity in range(1, 13)} - {order["id"] for order in queue}
    assert all(queue_position(processor, "A", number) is None for number in gone)
