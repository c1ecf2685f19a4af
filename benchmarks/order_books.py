"""Books by order: batches through the product against a book of dicts and bisect, on the same drawn orders.

The peer keeps orders, level sums and sorted prices, and makes one tuple of the five best levels a side whenever they
change. The product makes features and book rows besides, as it does live; so the ratio is a lower bound.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from config.sections import Settings
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS, PORT
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.record import Batch, OffsetRange

SYMBOLS, HELD, TOP = 200, 200, 5
Row = tuple[str, float, float, float, str]
Best = Callable[[Callable[[], object], int], float]


def drawn(lines: int) -> pa.RecordBatch:
    """Events of so many order messages of interleaved symbols, about HELD orders a symbol, from a fixed seed."""
    rng = random.Random(7)
    live: list[list[tuple[int, str, int]]] = [[] for _ in range(SYMBOLS)]
    said, stamp = [], "12:00:00.000001,2021-06-04,"
    for number in range(lines):
        at = rng.randrange(SYMBOLS)
        orders = live[at]
        name = f"S{at:03d}"
        draw = rng.random()
        if len(orders) < 20 or draw < 0.4 - (len(orders) - HELD) / HELD / 10:
            side = rng.choice("BA")
            cents = 10_000 + (-1 if side == "B" else 1) * (1 + int(rng.expovariate(0.1)))
            orders.append((number, side, cents))
            kind, (identity, side, cents) = "3", orders[-1]
        else:
            chosen = rng.randrange(len(orders))
            identity, side, cents = orders[chosen]
            kind = "4" if draw > 0.8 else "5"
            if kind == "5":
                orders[chosen] = orders[-1]
                orders.pop()
                said.append(f"5,{name},{identity},,{side},{stamp}")
                continue
        price = f"{cents / 100:.2f}"
        said.append(f"{kind},{name},{identity},,{side},{price},{rng.randint(1, 500)},{number},2,{stamp}")
    raw = b"".join(line.encode() + b"\n" for line in said)
    frame = Frame(0, PORT["level2"], 1, 0, len(said), 1_800_000_000_000_000, raw)
    events, dead = LineParser(ParserContext()).parse([frame])
    assert not dead, dead[:1]
    return events


class DictBook:
    """A book as one would write it by hand."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[str, int, int]] = {}
        self.sums: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
        self.prices: dict[str, list[int]] = {"bid": [], "ask": []}
        self.top: Any = None

    def take(self, kind: str, identity: int, side: str, price: int | None, size: int | None) -> bool:
        """One message; True where the five best levels changed."""
        known = self.orders.pop(identity, None)
        if known is not None:
            self._add(known[0], known[1], -known[2])
        if kind != "order_delete":
            assert price is not None and size is not None
            self.orders[identity] = (side, price, size)
            self._add(side, price, size)
        bids, asks = self.prices["bid"][-TOP:], self.prices["ask"][:TOP]
        sums = self.sums
        top = ([(each, sums["bid"][each]) for each in bids], [(each, sums["ask"][each]) for each in asks])
        changed = bool(top != self.top)
        self.top = top
        return changed

    def _add(self, side: str, price: int, change: int) -> None:
        sums, prices = self.sums[side], self.prices[side]
        if price not in sums:
            insort(prices, price)
        left = sums.get(price, 0) + change
        if left:
            sums[price] = left
        else:
            del sums[price]
            prices.pop(bisect_left(prices, price))


def order_books(best: Best, lines: int) -> list[Row]:
    """Order messages per second, by size of batch."""
    events = drawn(lines)
    columns = [events.column(name).to_pylist() for name in ("symbol", "kind", "order_id", "side", "price", "size")]
    messages = list(zip(*columns, strict=True))

    def peer() -> int:
        books: dict[str, DictBook] = {}
        shown = 0
        for symbol, *message in messages:
            book = books.get(symbol) or books.setdefault(symbol, DictBook())
            shown += book.take(*message)
        return shown

    theirs, shown = best(peer, lines), peer()
    rows: list[Row] = []
    for size in (100, 1_000, 10_000):
        batches = []
        for start in range(0, lines, size):
            part = events.slice(start, size)
            offsets = np.arange(start, start + part.num_rows, dtype=np.int64)
            place = OffsetRange(EVENTS, 0, int(offsets[0]), int(offsets[-1]), 0, part.num_rows)
            batches.append(Batch(rows=part, ranges=(place,), offsets=offsets, log_id="bench"))

        def ours(batches: list[Batch] = batches) -> int:
            subject = ProcessEvents(Settings(), [0])
            made = [out for batch in batches for out in subject.process(batch).outgoing]
            return sum(out.rows.num_rows for out in made if out.topic == "market.books")

        assert ours() == shown, "both must see the same changes of the top"
        mine = best(ours, lines)
        rows.append((f"orders -> book, features ({size:,} rows a batch)", mine, theirs, mine / theirs, "dict + bisect"))
    return rows
