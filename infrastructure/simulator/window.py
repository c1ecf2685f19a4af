"""The depth of a client that asked for the best N levels only (`WPL,<symbol>,<N>`).

A level that falls behind the N best is deleted there and a level that moves up among them is set, so that the
client's book always is the best N. One window serves every client with the same N.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator.market import Books, Int64s, Market

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

KIND, SYM, SRC, ORD, TIME = c.KIND, c.SYM, c.SRC, c.ORD, c.TIME
SIDE, PRICE, SIZE, COUNT, BID = c.SIDE, c.PRICE, c.SIZE, c.COUNT, c.BID
CLOCK, LEVEL_SET, LEVEL_DELETE = c.CLOCK, c.LEVEL_SET, c.LEVEL_DELETE
HALF_HOUR_US = 1800 * c.SECOND_US


class Window:
    """The best `levels` of every book, from the state of `market` at creation and every later depth table."""

    def __init__(self, market: Market, levels: int) -> None:
        if levels < 1:
            raise ValueError(f"levels is {levels}, must be 1 or more")
        self.levels = levels
        self._market = market
        # One place more than the market keeps: inside a batch a new level may come before the old one goes.
        self._books = Books.empty(len(market.names.symbols), 2 * market.books.price.shape[2])
        for symbol in range(len(market.names.symbols)):
            self.reset(symbol)
        self._stamps: Int64s = market.book_times.copy() - 1
        self._out: Int64s = np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64)

    def reset(self, symbol: int) -> None:
        """Begin anew with the book of a symbol as the market has it."""
        theirs, mine = self._market.books, self._books
        depth = theirs.price.shape[2]
        mine.price[symbol, :, :depth] = theirs.price[symbol]
        mine.size[symbol, :, :depth] = theirs.size[symbol]
        mine.count[symbol, :, :depth] = theirs.count[symbol]
        mine.levels[symbol] = theirs.levels[symbol]

    def cut(self, table: Int64s) -> Int64s:
        """The depth rows of a batch as this window shows them; a view that holds until the next call."""
        if self._out.shape[0] < 2 * len(table):
            self._out = np.zeros((2 * len(table), c.LEVEL2_COLUMNS), dtype=np.int64)
        b = self._books
        n = cut(table, self.levels, b.price, b.size, b.count, b.levels, self._stamps, self._out)
        return self._out[:n]


@njit(cache=True, error_model="numpy")
def _emit(
    out: Int64s, n: int, like: npt.NDArray[np.int64], kind: int, price: int, size: int, count: int, stamps: Int64s
) -> int:
    row = out[n]
    if stamps[like[SYM]] - like[TIME] > HALF_HOUR_US:
        stamps[like[SYM]] = like[TIME] - 1  # the wall clock was set back
    stamp = max(like[TIME], stamps[like[SYM]] + 1)
    stamps[like[SYM]] = stamp
    row[KIND], row[SYM], row[SRC], row[ORD], row[TIME] = kind, like[SYM], like[SRC], like[ORD], stamp
    row[SIDE], row[PRICE], row[SIZE], row[COUNT] = like[SIDE], price, size, count
    return n + 1


@njit(cache=True, error_model="numpy")
def cut(
    table: Int64s, most: int, price: Int64s, size: Int64s, count: Int64s, levels: Int64s, stamps: Int64s, out: Int64s
) -> int:
    """Rows of the window for the rows of `table`: at most two each. Returns their number."""
    n = 0
    for i in range(table.shape[0]):
        like = table[i]
        if like[KIND] == CLOCK:
            out[n, :] = like
            n += 1
            continue
        s, side, at = like[SYM], like[SIDE], like[PRICE]
        held = levels[s, side]
        place = 0
        while place < held and (
            (side == BID and price[s, side, place] > at) or (side != BID and price[s, side, place] < at)
        ):
            place += 1
        known = place < held and price[s, side, place] == at
        if like[KIND] == LEVEL_DELETE:
            if not known:
                continue
            for k in range(place, held - 1):
                price[s, side, k] = price[s, side, k + 1]
                size[s, side, k] = size[s, side, k + 1]
                count[s, side, k] = count[s, side, k + 1]
            levels[s, side] = held - 1
            if place < most:
                n = _emit(out, n, like, LEVEL_DELETE, at, 0, 0, stamps)
                if held > most:
                    k = most - 1
                    n = _emit(out, n, like, LEVEL_SET, price[s, side, k], size[s, side, k], count[s, side, k], stamps)
            continue
        if not known:
            for k in range(held, place, -1):
                price[s, side, k] = price[s, side, k - 1]
                size[s, side, k] = size[s, side, k - 1]
                count[s, side, k] = count[s, side, k - 1]
            levels[s, side] = held + 1
            if place < most and held >= most:
                n = _emit(out, n, like, LEVEL_DELETE, price[s, side, most], 0, 0, stamps)
        price[s, side, place], size[s, side, place], count[s, side, place] = at, like[SIZE], like[COUNT]
        if place < most:
            n = _emit(out, n, like, LEVEL_SET, at, like[SIZE], like[COUNT], stamps)
    return n
