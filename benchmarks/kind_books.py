"""Book rate of each message kind at given depths and sizes of batch, against a book of dicts and bisect.

Both start from decoded events (the product from Arrow columns, the peer from tuples) and must show the same rows: the
five best levels of both sides after every message that changed them. The product computes features besides.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.report import Cell
from benchmarks.side_by_side import rates, seconds
from config.sections import Settings
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS, PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.record import Batch, OffsetRange

TOP = 5
SIZES = (100, 1_000, 10_000)
DEPTHS = (10, 100, 1_000)
HEADER = ("message", "depth", "peer /s", *(f"ratio at {size:,}" for size in SIZES), f"product /s at {SIZES[-1]:,}")
STAMP = "12:00:00.000001,2021-06-04,"
Shown = tuple[str, list[int], list[int], list[int], list[int]]
Message = tuple[Any, ...]  # values of an event's columns, as to_pylist gives them


class DictBook:
    """One symbol's book as one would write it by hand. Keys rise towards the best: asks are negated."""

    def __init__(self) -> None:
        self.orders: dict[Any, tuple[str, int, int]] = {}
        self.sums: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
        self.keys: dict[str, list[int]] = {"bid": [], "ask": []}

    def take(self, kind: str, side: str, identity: Any, price: int | None, size: int | None) -> bool:
        """One message; True where the best levels changed."""
        if kind == "level_set":
            return self._set(side, price or 0, size or 0)
        if kind == "level_delete":
            return self._set(side, price or 0, 0)
        if kind == "depth_clear":
            had = bool(self.keys[side])
            self.sums[side], self.keys[side] = {}, []
            return had
        known = self.orders.pop(identity, None)
        if kind == "order_delete":
            return known is not None and self._add(known[0], known[1], -known[2])
        assert price is not None and size is not None
        self.orders[identity] = (side, price, size)
        if known is not None and known[:2] == (side, price):
            return size != known[2] and self._add(side, price, size - known[2])
        changed = known is not None and self._add(known[0], known[1], -known[2])
        return self._add(side, price, size) or changed

    def _add(self, side: str, price: int, change: int) -> bool:
        return self._set(side, price, self.sums[side].get(price, 0) + change)

    def _set(self, side: str, price: int, size: int) -> bool:
        sums, keys = self.sums[side], self.keys[side]
        key = price if side == "bid" else -price
        at = bisect_left(keys, key)
        before = sums.get(price)
        if before == size or (before is None and size == 0):
            return False
        if size == 0:
            del sums[price]
            keys.pop(at)
            return len(keys) - at < TOP
        sums[price] = size
        if before is None:
            keys.insert(at, key)
        return len(keys) - 1 - at < TOP

    def row(self, symbol: str) -> Shown:
        """The best levels of both sides, best first."""
        bids, asks = self.keys["bid"][: -TOP - 1 : -1], [-key for key in self.keys["ask"][: -TOP - 1 : -1]]
        bid_sums, ask_sums = self.sums["bid"], self.sums["ask"]
        return symbol, bids, [bid_sums[each] for each in bids], asks, [ask_sums[each] for each in asks]


@dataclass(slots=True)
class Flow:
    """Lines that fill the books, and the lines that are measured."""

    name: str
    depth: str
    filling: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)


def book_rates(messages: int, runs: int = 3) -> list[tuple[Cell, ...]]:
    """One row per kind and depth. Raises AssertionError where product and peer show different rows."""
    flows = [_orders(kind, depth, messages) for depth in DEPTHS for kind in ("added", "changed", "deleted")]
    flows += [_levels("set", messages), _levels("deleted", messages), _participants(messages), _clears(messages)]
    return [_row(flow, runs) for flow in flows]


def events_of(lines: list[str]) -> pa.RecordBatch:
    """Depth lines as the parser gives them."""
    raw = "".join(line + "\n" for line in lines).encode()
    parser = LineParser(ParserContext())
    events, dead = parser.parse([Frame(0, PORT["level2"], 1, 0, len(lines), 1_800_000_000_000_000, raw)])
    assert not dead, dead[:1]
    return events


def batches_of(events: pa.RecordBatch, size: int, first: int = 0) -> list[Batch]:
    """The events from `first` on in batches of so many rows."""
    made = []
    for start in range(first, events.num_rows, size):
        part = events.slice(start, size)
        offsets = np.arange(start, start + part.num_rows, dtype=np.int64)
        place = OffsetRange(EVENTS, 0, int(offsets[0]), int(offsets[-1]), 0, part.num_rows)
        made.append(Batch(rows=part, ranges=(place,), offsets=offsets, log_id="bench"))
    return made


def _row(flow: Flow, runs: int) -> tuple[Cell, ...]:
    events = events_of(flow.filling + flow.measured)
    filled = len(flow.filling)
    names = ("symbol", "kind", "side", "order_id", "mmid", "price", "size")
    messages = [
        (symbol, kind, side, order or (side, maker), price, size)
        for symbol, kind, side, order, maker, price, size in zip(
            *(events.column(name).to_pylist() for name in names), strict=True
        )
    ]
    before = batches_of(events.slice(0, filled), 50_000)

    def filled_product() -> ProcessEvents:
        subject = ProcessEvents(Settings(), [0])
        for batch in before:
            subject.process(batch)
        return subject

    def filled_peer() -> dict[str, DictBook]:
        books: dict[str, DictBook] = {}
        for symbol, *message in messages[:filled]:
            books.setdefault(symbol, DictBook()).take(*message)
        return books

    def product(batches: list[Batch]) -> Callable[[ProcessEvents], list[pa.RecordBatch]]:
        return lambda subject: [
            out.rows for each in batches for out in subject.process(each).outgoing if out.topic == "market.books"
        ]

    def peer(books: dict[str, DictBook]) -> list[Shown]:
        shown = []
        for symbol, *message in measured:
            book = books[symbol]
            if book.take(*message):
                shown.append(book.row(symbol))
        return shown

    measured = messages[filled:]
    columns = ("symbol", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    expected = peer(filled_peer())
    works: list[Callable[[], float]] = []
    for size in SIZES:
        work = product(batches_of(events, size, filled))
        found: list[Shown] = []
        for rows in work(filled_product()):
            found += zip(*(rows.column(name).to_pylist() for name in columns), strict=True)
        assert found == expected, f"{flow.name}: both must show the same rows"
        works.append(partial(seconds, filled_product, work))
    works.append(partial(seconds, filled_peer, peer))
    found_rates = rates(works, len(measured), runs)
    last = found_rates[-1]
    return flow.name, flow.depth, last.peer, *(each.ratio for each in found_rates), last.product


def _price(rng: random.Random, side: str) -> str:
    cents = 1 + int(rng.expovariate(0.05))
    return f"{(10_000 - cents if side == 'B' else 10_000 + cents) / 100:.2f}"


def _orders(kind: str, depth: int, messages: int) -> Flow:
    """Books of `depth` orders; adding takes them to twice that, deleting back from there."""
    rng = random.Random(depth)
    symbols = max(1, messages // depth)
    live: list[tuple[str, int, str, str]] = []

    def add(number: int) -> str:
        side = rng.choice("BA")
        live.append((f"S{rng.randrange(symbols):04d}", number, side, _price(rng, side)))
        return _order("3", live[-1], rng.randint(1, 500))

    flow = Flow(f"order {kind}", str(depth))
    flow.filling = [add(n) for n in range(symbols * depth * (2 if kind == "deleted" else 1))]
    seen = {each[0] for each in live}
    for number in range(symbols):  # every book exists before the first measured message
        if f"S{number:04d}" not in seen:
            live.append((f"S{number:04d}", 10**9 + number, "B", "99.00"))
            flow.filling.append(_order("3", live[-1], 1))
    if kind == "added":
        flow.measured = [add(10**8 + n) for n in range(messages)]
    elif kind == "changed":
        for _ in range(messages):
            name, number, side, price = live[at := rng.randrange(len(live))]
            if rng.random() < 0.2:
                live[at] = (name, number, side, price := _price(rng, side))
            flow.measured.append(_order("4", (name, number, side, price), rng.randint(1, 500)))
    else:
        rng.shuffle(live)
        flow.measured = [f"5,{name},{number},,{side},{STAMP}" for name, number, side, _ in live[:messages]]
    return flow


def _order(letter: str, order: tuple[str, int, str, str], size: int) -> str:
    name, number, side, price = order
    return f"{letter},{name},{number},,{side},{price},{size},{number},2,{STAMP}"


def _levels(kind: str, messages: int) -> Flow:
    """Books of about 60 levels a side over 200 symbols; of the levels set a third is new."""
    rng = random.Random(60)
    flow = Flow(f"level {kind}", "60")
    live: list[tuple[str, str, str]] = []
    for symbol in range(max(1, messages // 100) if kind == "deleted" else 200):
        for side in "BA":
            levels = rng.sample(range(1, 91), 60)
            for cents in levels:
                price = f"{(10_000 - cents if side == 'B' else 10_000 + cents) / 100:.2f}"
                live.append((f"S{symbol:04d}", side, price))
                flow.filling.append(f"7,{live[-1][0]},{side},{price},{rng.randint(1, 500)},3,2,{STAMP}")
    rng.shuffle(live)
    if kind == "deleted":
        flow.measured = [f"9,{name},{side},{price},{STAMP}" for name, side, price in live[:messages]]
        return flow
    for _ in range(messages):
        name, side, price = rng.choice(live)
        if rng.random() < 0.3:
            cents = rng.randint(1, 90)
            price = f"{(10_000 - cents if side == 'B' else 10_000 + cents) / 100:.2f}"
        flow.measured.append(f"8,{name},{side},{price},{rng.randint(1, 500)},3,2,{STAMP}")
    return flow


def _participants(messages: int) -> Flow:
    """Nasdaq's rows: 40 participants a side over 200 symbols, whose best prices move."""
    rng = random.Random(40)
    flow = Flow("participant's row", "40")

    def said(letter: str, symbol: int, maker: int, side: str) -> str:
        return f"{letter},S{symbol:04d},,M{maker:03d},{side},{_price(rng, side)},{rng.randint(1, 500)},,4,{STAMP}"

    flow.filling = [said("6", symbol, maker, side) for symbol in range(200) for maker in range(40) for side in "BA"]
    flow.measured = [said("4", rng.randrange(200), rng.randrange(40), rng.choice("BA")) for _ in range(messages)]
    return flow


def _clears(messages: int) -> Flow:
    """Every side of many books is emptied once; ten levels a side."""
    flow = Flow("side cleared", "10")
    symbols = max(1, messages // 10)
    for symbol in range(symbols):
        for side in "BA":
            for cents in range(1, 11):
                price = f"{(10_000 - cents if side == 'B' else 10_000 + cents) / 100:.2f}"
                flow.filling.append(f"7,S{symbol:04d},{side},{price},{cents},3,2,{STAMP}")
    flow.measured = [f"S,CLEAR DEPTH,S{symbol:04d},{side}," for symbol in range(symbols) for side in "BA"]
    return flow
