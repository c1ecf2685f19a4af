"""LOBSTER pairs as the lines of the feed, without a server: the same lines, in the order in which they come to be.

    for line in replay_lines([Path("AMZN_2012-06-21_message_5.csv")]):
        line.port, line.raw, line.symbol, line.src_row

First the acknowledged field list (so that a parser knows the layout), one `T` per port with the first whole second,
and per symbol `P` and its `7` lines: the book of row 1. Then per vendor row its trade, its depth lines and its quote;
`T` on both ports at each whole second of the recording, last the second after the last row. `src_row` is the 1-based
row of the vendor's message file, 0 for `P`, `7`, `T` and the field list. The two ports of one row come in that
order here; on two sockets nothing orders them.

With depth="orders" the depth lines are 6 and 3, 4, 5 instead of 7 and 8, 9; replay_orders says how far they tell the
truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import render
from infrastructure.simulator.eastern import clock_text
from infrastructure.simulator.fields import FULL_IDENTITY_FIELDS, compiled
from infrastructure.simulator.lobster_files import load
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.summaries import Summaries

LEVEL1: Final = "level1"
LEVEL2: Final = "level2"
_END = {LEVEL1: b"\n", LEVEL2: b"\r\n"}


class ReplayLine(NamedTuple):
    """One line without its line end."""

    port: str  # level1 | level2
    raw: bytes
    symbol: str  # "" for T and the field list
    src_row: int


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """Successive lines of one port: `raw` with their line ends, and one entry per line in the other fields."""

    port: str
    raw: bytes
    ends: Int64s  # position after each line, its line end included
    symbols: Int64s  # index in `names`; -1 = none
    src_rows: Int64s
    names: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.ends.size)


def replay_lines(
    message_files: Sequence[Path], fields: Sequence[str] = FULL_IDENTITY_FIELDS, depth: str = "levels"
) -> Iterator[ReplayLine]:
    """Every line, one by one. Raises LobsterError, FileNotFoundError on first use."""
    for run in replay_runs(message_files, fields, depth):
        cut = len(_END[run.port])
        start = 0
        for end, symbol, src in zip(run.ends.tolist(), run.symbols.tolist(), run.src_rows.tolist(), strict=True):
            yield ReplayLine(run.port, run.raw[start : end - cut], run.names[symbol] if symbol >= 0 else "", src)
            start = end


def replay_runs(
    message_files: Sequence[Path], fields: Sequence[str] = FULL_IDENTITY_FIELDS, depth: str = "levels"
) -> Iterator[ReplayRun]:
    """The same lines in runs of one port: for callers that work on bytes."""
    market = ReplayMarket([load(path) for path in message_files], speed=None, by_order=depth == "orders")
    printer = _Printer(market, fields)
    yield printer.text(LEVEL1, b"S,CURRENT UPDATE FIELDNAMES," + ",".join(fields).encode("ascii"))
    clock = b"T," + clock_text(market.second_us).encode("ascii")
    yield printer.text(LEVEL1, clock)
    yield printer.text(LEVEL2, clock)
    summaries = Summaries(market)
    for symbol in range(len(market.names.symbols)):
        yield from printer.runs(Rows(summaries.level1(symbol), printer.no_depth))
        orders = summaries.orders(symbol)
        shown = summaries.level2(symbol, 0) if orders is None else orders
        yield from printer.runs(Rows(printer.no_quotes, shown, shown))
    while rows := market.rest():
        yield from printer.runs(rows)


class _Printer:
    """Renders batches of a market whole and merges both ports by the order of their rows."""

    def __init__(self, market: ReplayMarket, fields: Sequence[str]) -> None:
        self.names = market.names
        self.layout = compiled(fields)
        self.by_order = market.by_order
        bit = render.BY_ORDER if market.by_order else render.BY_LEVEL
        self.watch = np.ones(len(market.names.symbols), dtype=np.uint8)
        self.depth_watch = np.full(len(market.names.symbols), bit, dtype=np.uint8)
        self.no_quotes: Int64s = np.zeros((0, c.LEVEL1_COLUMNS), dtype=np.int64)
        self.no_depth: Int64s = np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64)

    def text(self, port: str, line: bytes) -> ReplayRun:
        raw = line + _END[port]
        one = np.array([len(raw)], dtype=np.int64)
        return ReplayRun(port, raw, one, np.array([-1]), np.array([0]), self.names.symbols)

    def runs(self, rows: Rows) -> Iterator[ReplayRun]:
        depth = rows.orders if self.by_order else rows.level2
        parts = (self._level1(rows.level1), self._level2(depth))
        order = np.concatenate([2 * rows.level1[:, c.ORD], 2 * depth[:, c.ORD] + 1])
        port = (order & 1)[np.argsort(order, kind="stable")]
        cuts = np.flatnonzero(np.diff(port)) + 1
        at = [0, 0]
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), port.size], strict=True):
            if first == last:
                continue
            p = int(port[first])
            name, raw, ends, symbols, sources = parts[p]
            lo, hi = at[p], at[p] + last - first
            at[p] = hi
            start = int(ends[lo - 1]) if lo else 0
            stop = int(ends[hi - 1])
            yield ReplayRun(
                name, raw[start:stop], ends[lo:hi] - start, symbols[lo:hi], sources[lo:hi], self.names.symbols
            )

    def _level1(self, table: Int64s) -> tuple[str, bytes, Int64s, Int64s, Int64s]:
        n = len(table)
        out, ends, symbols, sources = _buffers(n, self.layout.shape[0] * render.FIELD_BYTES + render.SYMBOL_BYTES + 16)
        _, lines, size = render.render_level1(
            table, 0, n, self.watch, True, self.layout, self.names.text, self.names.lengths, out, ends, symbols, sources
        )
        assert lines == n
        return LEVEL1, out[:size].tobytes(), ends, symbols, sources

    def _level2(self, table: Int64s) -> tuple[str, bytes, Int64s, Int64s, Int64s]:
        n = len(table)
        out, ends, symbols, sources = _buffers(n, render.LEVEL2_BYTES)
        _, lines, size = render.render_level2(
            table, 0, n, self.depth_watch, True, self.names.text, self.names.lengths, out, ends, symbols, sources
        )
        assert lines == n
        return LEVEL2, out[:size].tobytes(), ends, symbols, sources


def _buffers(lines: int, width: int) -> tuple[render.Bytes, Int64s, Int64s, Int64s]:
    out = np.zeros((lines + 2) * width, dtype=np.uint8)
    ends, symbols, sources = (np.zeros(lines, dtype=np.int64) for _ in range(3))
    return out, ends, symbols, sources
