"""Events by hand: rows of market.events and batches of them, for tests of processing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.market.events import EVENTS, arrow_schema, enum_symbols
from pipeline_orchestrator.record import Batch, OffsetRange

Row = dict[str, Any]
DAY = 20_000  # days since 1970
NOON = DAY * 86_400_000_000 + 12 * 3_600_000_000


def signed(number: int) -> int:
    """The bits of an unsigned 64-bit number as the log holds them."""
    return number - (1 << 64) if number >> 63 else number


@dataclass
class Feed:
    """Makes rows with rising identity; each method gives one row as a dict."""

    instance: int = 0
    epoch: int = 1
    seq: int = 0
    now: int = NOON
    rows: list[Row] = field(default_factory=list)

    def add(self, kind: str, symbol: str | None = None, port: str = "level1", **columns: Any) -> Row:
        row: Row = {
            "instance": self.instance,
            "epoch": self.epoch,
            "seq": self.seq,
            "idx": 0,
            "port": port,
            "kind": kind,
            "symbol": symbol,
            "trading_date": DAY,
            "event_time_us": self.now,
            "recv_time_us": self.now + 150,
            "summary": False,
            "source": "L",
        } | columns
        self.seq += 1
        self.rows.append(row)
        return row

    def trade(self, symbol: str, price: int, size: int, basis: str = "C", **columns: Any) -> Row:
        return self.add("trade", symbol, price=price, size=size, basis=basis, **columns)

    def quote(
        self, symbol: str, bid: int | None, bid_size: int | None, ask: int | None, ask_size: int | None, **columns: Any
    ) -> Row:
        return self.add("quote", symbol, bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size, **columns)

    def level(self, symbol: str, side: str, price: int, size: int, **columns: Any) -> Row:
        return self.add("level_set", symbol, "level2", side=side, price=price, size=size, **columns)

    def delete(self, symbol: str, side: str, price: int, **columns: Any) -> Row:
        return self.add("level_delete", symbol, "level2", side=side, price=price, **columns)

    def order(
        self, kind: str, symbol: str, order_id: int, side: str = "bid", price: int = 0, size: int = 0, **columns: Any
    ) -> Row:
        """`kind` = add, change, delete or summary; an unsigned id and an unsigned priority."""
        if columns.get("priority") is not None:
            columns["priority"] = signed(columns["priority"])
        return self.participant(kind, symbol, None, side, price, size, order_id=signed(order_id), **columns)

    def participant(
        self, kind: str, symbol: str, mmid: str | None, side: str, price: int = 0, size: int = 0, **columns: Any
    ) -> Row:
        what = "order_add" if kind == "summary" else f"order_{kind}"
        if kind != "delete":
            columns |= {"price": price, "size": size, "summary": kind == "summary"}
        return self.add(what, symbol, "level2", mmid=mmid, side=side, **columns)

    def clock(self, port: str = "level1", time: int | None = None) -> Row:
        return self.add("clock", None, port, event_time_us=self.now if time is None else time)

    def fact(self, kind: str, symbol: str | None = None, port: str = "level2", **document: Any) -> Row:
        raw = json.dumps({"connection": port} | document).encode()
        return self.add(kind, symbol, port, raw=raw, event_time_us=None, trading_date=None)

    def watch(self, symbol: str) -> Row:
        return self.fact("subscribed", symbol, phase="watch", cause="start")

    def no_depth(self, symbol: str) -> Row:
        return self.add("other", symbol, "level2", raw=f"q,{symbol},".encode(), event_time_us=None)

    def book(self, symbol: str, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> None:
        """Watch, summary rows, T: a valid book."""
        self.watch(symbol)
        for side, levels in (("bid", bids), ("ask", asks)):
            for price, size in levels:
                self.level(symbol, side, price, size, summary=True)
        self.clock("level2")


def record_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    arrays = []
    for one in arrow_schema(EVENTS):
        values = [row.get(one.name) for row in rows]
        if pa.types.is_dictionary(one.type):
            names = enum_symbols(EVENTS).get(one.name) or tuple(dict.fromkeys(v for v in values if v is not None))
            code = {name: at for at, name in enumerate(names)}
            codes = pa.array([None if v is None else code[v] for v in values], pa.int32())
            arrays.append(pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())))
        else:
            arrays.append(pa.array(values, one.type))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(EVENTS))


def batch_of(runs: Mapping[int, Sequence[tuple[int, Row]]], log_id: str = "log") -> Batch:
    """A batch of runs: partition -> (offset, row) in order."""
    rows: list[Row] = []
    offsets: list[int] = []
    ranges = []
    for partition, run in runs.items():
        if run:
            ranges.append(OffsetRange(EVENTS, partition, run[0][0], run[-1][0], len(rows), len(run)))
            rows += [row for _, row in run]
            offsets += [offset for offset, _ in run]
    return Batch(
        record_batch(rows), tuple(ranges), np.array(offsets, np.int64), log_id=log_id, size_bytes=100 * len(rows)
    )


def one_partition(rows: Sequence[Row], first: int = 0, partition: int = 0) -> Batch:
    return batch_of({partition: list(enumerate(rows, first))})
