"""The state of a symbol as a client sees it right after a watch.

One `P` row, a `7` row per price level, or a `6` row per order (or market participant and side), the last in no order
that means anything.

Summary rows carry stamps of their own, which rise strictly per symbol over the whole run, apart from those of the
live rows: two summaries of an unchanged book can be told apart.
"""

from __future__ import annotations

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.market import Int64s, Market

_HALF_HOUR_US = 1800 * c.SECOND_US


class Summaries:
    """Makes summary rows from a market's state between two batches."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._stamps: Int64s = np.zeros((len(market.names.symbols), 3), dtype=np.int64)

    def level1(self, symbol: int) -> Int64s:
        """One SUMMARY row; a table of one row."""
        row = self.market.state[symbol].copy()
        newest = c.ASK_TIME if row[c.ASK_TIME] > row[c.BID_TIME] else c.BID_TIME
        if row[newest] - row[c.TIME] > _HALF_HOUR_US:  # stamped before the wall clock was set back
            newest = c.BID_TIME if newest == c.ASK_TIME else c.ASK_TIME
        stamp = self._stamp(symbol, 0, int(row[newest]))
        self._stamps[symbol, 0] = row[newest] = row[c.TIME] = stamp
        row[c.KIND], row[c.SYM], row[c.SRC] = c.SUMMARY, symbol, 0
        row[c.CONTENTS] = _contents(row)
        table: Int64s = row.reshape(1, -1)
        return table

    def level2(self, symbol: int, levels: int) -> Int64s:
        """LEVEL_SUMMARY rows, bids then asks, best first, `levels` a side (0 = all); may be empty."""
        books = self.market.books
        stamp = self._stamp(symbol, 1, int(self.market.book_times[symbol]))
        parts = []
        for side in (c.BID, c.ASK):
            n = int(books.levels[symbol, side])
            n = min(n, levels) if levels else n
            rows = np.zeros((n, c.LEVEL2_COLUMNS), dtype=np.int64)
            rows[:, c.SIDE] = side
            rows[:, c.PRICE] = books.price[symbol, side, :n]
            rows[:, c.SIZE] = books.size[symbol, side, :n]
            rows[:, c.COUNT] = books.count[symbol, side, :n]
            parts.append(rows)
        table: Int64s = np.concatenate(parts)
        table[:, c.KIND], table[:, c.SYM] = c.LEVEL_SUMMARY, symbol
        table[:, c.TIME] = stamp + np.arange(len(table))
        self._stamps[symbol, 1] = stamp + max(0, len(table) - 1)
        return table

    def orders(self, symbol: int) -> Int64s | None:
        """ORDER_SUMMARY rows; may be empty. None = the market keeps no orders."""
        table = self.market.orders_of(symbol)
        if table is None:
            return None
        table = table[np.lexsort((table[:, c.MAKER], table[:, c.ORDER_ID]))]
        stamp = self._stamp(symbol, 2, int(self.market.book_times[symbol]))
        table[:, c.TIME] = stamp + np.arange(len(table))
        self._stamps[symbol, 2] = stamp + max(0, len(table) - 1)
        return table

    def _stamp(self, symbol: int, form: int, at: int) -> int:
        """`at`, or one more than the newest stamp where that is not earlier; an hour back is the clock set back."""
        before = int(self._stamps[symbol, form])
        return at if before - at > _HALF_HOUR_US else max(at, before + 1)


def _contents(row: Int64s) -> int:
    """Message Contents of a summary: all it carries."""
    basis = 0
    if row[c.RECENT_TIME] != c.NONE:
        extended = row[c.RECENT_TIME] == row[c.EXTENDED_TIME] and row[c.RECENT_TIME] != row[c.LAST_TIME]
        last = row[c.RECENT_TIME] == row[c.LAST_TIME]
        basis = c.HAS_LAST if last else c.HAS_EXTENDED if extended else c.HAS_OTHER
    shown = basis | c.HAS_VOLUME
    for column, bit in (
        (c.BID_PRICE, c.HAS_BID),
        (c.ASK_PRICE, c.HAS_ASK),
        (c.OPEN, c.HAS_OPEN),
        (c.HIGH, c.HAS_HIGH),
        (c.LOW, c.HAS_LOW),
        (c.CLOSE, c.HAS_CLOSE),
    ):
        if row[column] != c.NONE:
            shown |= bit
    return int(shown)
