"""Recorded LOBSTER messages as depth by order, row by row equal to the vendor's windowed book.

The message file holds only what touched the best levels of its book file at that moment: orders that rested before its
first row have no add, and what happens to an order below that window is in no file. So the book by order shows the
window, and the vendor's book row always wins:

- Type 1 is a `3`, types 2 and 4 a `4` with the rest, type 3 and the last share a `5`. Types 5, 6, 7 touch no order.
- A level that enters the window is told by its orders, each with the shares that the file still takes from it: those
  that the file added, then, where they fit whole into what is left of the vendor's size, those it only takes from later
  and whose ids are older than the newest added one. What the vendor's size has beyond them is one synthetic rest order
  of that price. An order that is taken from before it was told comes out of that rest. A level that leaves the window
  is deleted order by order; ids come back with it if the file speaks of them again.
- How far it goes: after every row, on every level of the vendor's row, the sizes of the orders sum to the vendor's
  size, without exception. Where a file contradicts itself the rest gives way first, then orders without an add, then
  the newest added ones. The number of orders at a price and what happens inside a rest order are unknown; which of the
  orders without an add rested at a price at a moment is a guess. An id that the file does not name again once its level
  left the window is part of the rest from then on.

Marks: MMID SYNT on every row of a synthetic order. Such are the ids never seen in an add (the vendor's own id), and the
rest orders, whose ids are FIRST_REST and above: 2**63 + n. Priorities: an added order has 2**32 plus twice its row; ids
without an add come before those, by the rank of their ids (which Nasdaq gives out in order of time), then rest orders.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator.lobster_files import MISSING_PRICE
from infrastructure.simulator.replay_order_book import NOBODY, OrderBook, link, price_index, unlink

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]

FIRST_REST: Final = 1 << 63
_FIRST_REST_BITS = -(2**63)
_ADDED: Final = 1 << 32
_REST_PRIORITY: Final = 1 << 31


@njit(cache=True, error_model="numpy")
def fill_order(b: OrderBook, row: Int64s, kind: int, s: int, p: int, o: int) -> None:
    """Kind, symbol, side, price, size and identity of an order (`o` < 0: the rest order of the price)."""
    key = b.keys[p]
    row[c.KIND], row[c.SYM], row[c.SIDE], row[c.PRICE] = kind, s, key & 1, key >> 1
    if o < 0:
        row[c.SIZE], row[c.ORDER_ID], row[c.MAKER] = b.rest[p], b.rest_id[p], c.SYNTHETIC
        row[c.PRIORITY] = _REST_PRIORITY + (b.rest_id[p] - _FIRST_REST_BITS)
        return
    row[c.SIZE], row[c.ORDER_ID] = b.shares[o], b.number[o]
    row[c.MAKER] = c.SYNTHETIC if b.ghost[o] else -1
    row[c.PRIORITY] = _ADDED + 2 * b.added[o] if b.added[o] else 1 + o


@njit(cache=True, error_model="numpy")
def _put(b: OrderBook, out: Int64s, at: Int64s, kind: int, s: int, p: int, o: int) -> None:
    """Append a row. `at`: rows, stamp, order over both tables, source row."""
    row = out[at[0]]
    at[1] += 1
    fill_order(b, row, kind, s, p, o)
    row[c.TIME], row[c.ORD], row[c.SRC] = at[1], at[2], at[3]
    at[0] += 1


@njit(cache=True, error_model="numpy")
def _take(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, o: int, shares: int) -> None:
    """Shares leave an order that is in the feed's book."""
    b.shares[o] -= min(shares, b.shares[o])
    _put(b, out, at, c.ORDER_CHANGE if b.shares[o] else c.ORDER_DELETE, s, p, o)


@njit(cache=True, error_model="numpy")
def _set_rest(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, shares: int) -> None:
    """Bring the rest order of a price to so many shares: announce, change or delete it."""
    before = b.rest[p]
    b.rest[p] = shares
    if before == shares:
        return
    if before == 0:
        b.rest_id[p] = _FIRST_REST_BITS + b.rests[0]
        b.rests[0] += 1
        _put(b, out, at, c.ORDER_ADD, s, p, -1)
    else:
        _put(b, out, at, c.ORDER_CHANGE if shares else c.ORDER_DELETE, s, p, -1)


@njit(cache=True, error_model="numpy")
def _make_room(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, shares: int) -> None:
    """So many shares leave a price: the rest gives first, then orders that the file does not add, then added ones.

    Among the orders the newest gives first.
    """
    gives = min(b.rest[p], shares)
    _set_rest(b, out, at, s, p, b.rest[p] - gives)
    shares -= gives
    for ghost in (1, 0):
        o = b.head[p]  # the newest first
        while o >= 0 and shares > 0:
            if b.shares[o] > 0 and b.ghost[o] == ghost:
                gives = min(b.shares[o], shares)
                _take(b, out, at, s, p, o, gives)
                shares -= gives
            o = b.behind[o]


@njit(cache=True, error_model="numpy")
def _told(b: OrderBook, p: int) -> int:
    """Shares of a price in the feed's book."""
    shares, o = b.rest[p], b.head[p]
    while o >= 0:
        shares += b.shares[o]
        o = b.behind[o]
    return int(shares)


@njit(cache=True, error_model="numpy")
def _reveal(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, room: int) -> None:
    """Orders that wait at a price that is new in the window: added ones, then such without an add, as far as they fit.

    An added order is told with what fits of it. One without an add is told whole or not yet, and only if its id is
    older than the newest added one: ids are given out in order of time.
    """
    for ghost in (0, 1):
        o = b.head[p]
        while o >= 0 and room > 0:
            if b.shares[o] == 0 and b.future[o] > 0 and b.ghost[o] == ghost:
                fits = min(b.future[o], room)
                if ghost and (fits < b.future[o] or b.number[o] > b.newest[s]):
                    fits = 0
                if fits:
                    b.shares[o] = fits
                    room -= fits
                    _put(b, out, at, c.ORDER_ADD, s, p, o)
            o = b.behind[o]


@njit(cache=True, error_model="numpy")
def _show(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, size: int) -> None:
    """A price is in the vendor's row with `size`: tell its orders where it is new, then make the sum fit."""
    if not b.visible[p]:
        b.visible[p] = 1
        _reveal(b, out, at, s, p, size - _told(b, p))
    told = _told(b, p)
    if told > size:
        _make_room(b, out, at, s, p, told - size)
    else:
        _set_rest(b, out, at, s, p, b.rest[p] + size - told)


@njit(cache=True, error_model="numpy")
def _hide(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int) -> None:
    """A price left the window: its orders leave the feed's book."""
    b.visible[p] = 0
    o = b.head[p]
    while o >= 0:
        following = b.behind[o]
        if b.shares[o]:
            b.shares[o] = 0
            _put(b, out, at, c.ORDER_DELETE, s, p, o)
        if b.future[o] <= 0:
            unlink(b, p, o)
        o = following
    _set_rest(b, out, at, s, p, 0)


@njit(cache=True, error_model="numpy")
def rows_needed(b: OrderBook, s: int, vendor: Int64s) -> int:
    """At most so many rows will `order_rows` write."""
    need = 8
    for i in range(vendor.size // 2):
        p = b.window[s, i]
        if p >= 0:
            need += 3 * b.listed[p] + 4
        price = vendor[2 * i]
        if abs(price) != MISSING_PRICE and vendor[2 * i + 1] > 0:
            need += 3 * b.listed[price_index(b, s, price, i & 1 ^ 1)] + 6
    return need


@njit(cache=True, error_model="numpy")
def order_rows(
    b: OrderBook, s: int, r: int, row: int, kind: int, size: int, price: int, direction: int, vendor: Int64s,
    out: Int64s, at: Int64s,
) -> None:  # fmt: skip
    """Rows of one message (joined row `r`, row `row` of its file) and of the vendor's book after it.

    `at` is as in _put; its rows and stamp are moved on. `out` must have room for rows_needed() more.
    """
    side = c.BID if direction == 1 else c.ASK
    o = b.order[r]
    if o >= 0 and 1 <= kind <= 4:
        p = price_index(b, s, price, side)
        if kind == 1:
            unlink(b, p, o)
            b.added[o] = row
            b.newest[s] = max(b.newest[s], b.number[o])
            link(b, p, o)
            if b.visible[p] or _among(vendor, price, side):
                told = c.ORDER_CHANGE if b.shares[o] else c.ORDER_ADD
                b.shares[o] = size
                _put(b, out, at, told, s, p, o)
        else:
            b.future[o] -= size
            if b.visible[p]:
                if b.shares[o] == 0:  # not told yet: it was part of the rest
                    _make_room(b, out, at, s, p, size)
                    b.shares[o] = size
                    _put(b, out, at, c.ORDER_ADD, s, p, o)
                _take(b, out, at, s, p, o, b.shares[o] if kind == 3 else size)
            if b.future[o] <= 0 and (b.shares[o] == 0 or kind == 3):
                b.shares[o] = 0
                unlink(b, p, o)
    for i in range(b.window.shape[1]):
        p = b.window[s, i]
        if p >= 0 and not _among(vendor, b.keys[p] >> 1, b.keys[p] & 1):
            _hide(b, out, at, s, p)
        b.window[s, i] = NOBODY
    for i in range(vendor.size // 2):
        at_price, shares = vendor[2 * i], vendor[2 * i + 1]
        if abs(at_price) != MISSING_PRICE and shares > 0:
            p = price_index(b, s, at_price, i & 1 ^ 1)
            b.window[s, i] = p
            _show(b, out, at, s, p, shares)


@njit(cache=True, error_model="numpy")
def _among(vendor: Int64s, price: int, side: int) -> bool:
    """Whether a vendor's row shows a price on a side."""
    for i in range(vendor.size // 4):
        k = 4 * i + (2 if side == c.BID else 0)
        if vendor[k] == price and vendor[k + 1] > 0:
            return True
    return False


@njit(cache=True, error_model="numpy")
def list_orders(b: OrderBook, s: int, out: Int64s) -> int:
    """ORDER_SUMMARY rows of the feed's book, stamps left out; returns how many there are, also beyond the table."""
    n = 0
    for i in range(b.window.shape[1]):
        p = b.window[s, i]
        if p < 0:
            continue
        if b.rest[p] > 0:
            if n < out.shape[0]:
                fill_order(b, out[n], c.ORDER_SUMMARY, s, p, -1)
            n += 1
        o = b.head[p]
        while o >= 0:
            if b.shares[o] > 0:
                if n < out.shape[0]:
                    fill_order(b, out[n], c.ORDER_SUMMARY, s, p, o)
                n += 1
            o = b.behind[o]
    return n
