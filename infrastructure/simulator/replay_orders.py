"""Recorded LOBSTER messages as depth by order, row by row equal to the vendor's windowed book.

The message file holds only what touched the best levels of its book file at that moment: orders that rested before its
first row have no add, and what happens to an order below that window is in no file. So the book by order shows the
window, and the vendor's book row always wins:

- Type 1 is a `3`, types 2 and 4 a `4` with the rest, type 3 and the last share a `5`. Types 5, 6, 7 touch no order.
- A level that enters the window is told by its orders: those known or later seen at that price, each with the shares
  that the file still takes from it; what the vendor's size has beyond them is one synthetic rest order of that price,
  announced before anything is taken from it. A level that leaves the window is deleted order by order; ids come back
  with it if the file speaks of them again.
- How far it goes: after every row, on every level of the vendor's row, the sizes of the orders sum to the vendor's
  size, without exception: where a file contradicts itself, newest orders give way. The number of orders at a price and
  what happens inside a rest order are unknown. An id that the file does not name again once its level left the window
  is part of the rest from then on.

Marks: MMID SYNT on every row of a synthetic order. Such are the ids never seen in an add (the vendor's own id), and the
rest orders, whose ids are FIRST_REST and above: 2**63 + n. Priorities: an added order has 2**32 plus twice its row; ids
without an add come before those, by the rank of their ids (which Nasdaq gives out in order of time), then rest orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator.lobster_files import MISSING_PRICE, LobsterError, VendorDay

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]

FIRST_REST: Final = 1 << 63
_FIRST_REST_BITS = -(2**63)
_ADDED: Final = 1 << 32
_REST_PRIORITY: Final = 1 << 31
_NOBODY: Final = -1


class OrderBook(NamedTuple):
    """Arrays over all days. An order is its rank among the ids of its day, a price one of `keys` of its side.

    `first[s]`, `last[s]` bound the sorted keys (2 * price + side) of a day. Orders of a price that may rest there are
    a doubly linked list from `head`; `shown` orders are in the feed's book with `rest` shares.
    """

    order: Int64s  # [message row]: order of a message; -1 = none
    number: Int64s  # [order]: the vendor's id
    future: Int64s  # [order]: shares that later messages take
    added: Int64s  # [order]: 1-based row of its add; 0 = not (yet) added
    ghost: Int64s  # [order]: 1 = the file has no add of it
    shares: Int64s  # [order]: in the feed's book; 0 = not there
    before: Int64s
    behind: Int64s
    keys: Int64s
    first: Int64s
    last: Int64s
    head: Int64s  # [price]
    listed: Int64s  # [price]: orders in its list
    rest: Int64s  # [price]: shares of the rest order
    rest_id: Int64s  # [price]
    visible: Int64s  # [price]: 1 = in the window
    window: Int64s  # [symbol, place]: prices in the window, -1 = none
    rests: Int64s  # [1]: rest orders so far


@njit(cache=True, error_model="numpy")
def price_index(b: OrderBook, s: int, price: int, side: int) -> int:
    """Position of a price of a side among the keys; every price of the files is there."""
    key = 2 * price + side
    low, high = b.first[s], b.last[s]
    while low < high:
        middle = (low + high) // 2
        if b.keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return int(low)


@njit(cache=True, error_model="numpy")
def _link(b: OrderBook, p: int, o: int) -> None:
    b.before[o], b.behind[o] = _NOBODY, b.head[p]
    if b.head[p] >= 0:
        b.before[b.head[p]] = o
    b.head[p] = o
    b.listed[p] += 1


@njit(cache=True, error_model="numpy")
def _unlink(b: OrderBook, p: int, o: int) -> None:
    if b.before[o] >= 0:
        b.behind[b.before[o]] = b.behind[o]
    elif b.head[p] == o:
        b.head[p] = b.behind[o]
    else:
        return  # it is in no list
    if b.behind[o] >= 0:
        b.before[b.behind[o]] = b.before[o]
    b.before[o] = b.behind[o] = _NOBODY
    b.listed[p] -= 1


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
def _show(b: OrderBook, out: Int64s, at: Int64s, s: int, p: int, size: int) -> None:
    """A price is in the vendor's row with `size`: tell its orders where it is new, then make the sum fit."""
    if not b.visible[p]:
        b.visible[p] = 1
        o = b.head[p]
        while o >= 0:
            if b.shares[o] == 0 and b.future[o] > 0:
                b.shares[o] = b.future[o]
                _put(b, out, at, c.ORDER_ADD, s, p, o)
            o = b.behind[o]
    known = 0
    o = b.head[p]
    while o >= 0:
        known += b.shares[o]
        o = b.behind[o]
    o = b.head[p]  # the newest first
    while o >= 0 and known > size:
        gives = min(b.shares[o], known - size)
        if gives > 0:
            _take(b, out, at, s, p, o, gives)
            known -= gives
        o = b.behind[o]
    _set_rest(b, out, at, s, p, size - known)


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
            _unlink(b, p, o)
        o = following
    _set_rest(b, out, at, s, p, 0)


@njit(cache=True, error_model="numpy")
def rows_needed(b: OrderBook, s: int, vendor: Int64s) -> int:
    """At most so many rows will `order_rows` write."""
    need = 8
    for i in range(vendor.size // 2):
        p = b.window[s, i]
        if p >= 0:
            need += 2 * b.listed[p] + 2
        price = vendor[2 * i]
        if abs(price) != MISSING_PRICE and vendor[2 * i + 1] > 0:
            need += 2 * b.listed[price_index(b, s, price, i & 1 ^ 1)] + 4
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
            _unlink(b, p, o)
            b.added[o] = row
            _link(b, p, o)
            if b.visible[p] or _among(vendor, price, side):
                told = c.ORDER_CHANGE if b.shares[o] else c.ORDER_ADD
                b.shares[o] = size
                _put(b, out, at, told, s, p, o)
        else:
            b.future[o] -= size
            if b.visible[p]:
                if b.shares[o] == 0:  # not told yet: it was part of the rest
                    _set_rest(b, out, at, s, p, b.rest[p] - min(size, b.rest[p]))
                    b.shares[o] = size
                    _put(b, out, at, c.ORDER_ADD, s, p, o)
                _take(b, out, at, s, p, o, b.shares[o] if kind == 3 else size)
            if b.future[o] <= 0 and (b.shares[o] == 0 or kind == 3):
                b.shares[o] = 0
                _unlink(b, p, o)
    for i in range(b.window.shape[1]):
        p = b.window[s, i]
        if p >= 0 and not _among(vendor, b.keys[p] >> 1, b.keys[p] & 1):
            _hide(b, out, at, s, p)
        b.window[s, i] = _NOBODY
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


def no_order_book() -> OrderBook:
    """Stands where a replay keeps levels only."""
    one: Int64s = np.zeros(1, dtype=np.int64)
    return OrderBook(*(one if name != "window" else one.reshape(1, 1) for name in OrderBook._fields))


def order_book(days: Sequence[VendorDay], depth: int) -> OrderBook:
    """The state before the first row of any day; ids without an add wait in the lists of their prices.

    Raises LobsterError where an id is at two prices or on two sides: an order has one of each.
    """
    orders: list[Int64s] = []
    numbers: list[Int64s] = []
    futures: list[Int64s] = []
    ghosts: list[Int64s] = []
    keys: list[Int64s] = []
    links: list[tuple[int, int]] = []
    firsts, lasts, at, base = [], [], 0, 0
    for day in days:
        side = np.where(day.direction == 1, c.BID, c.ASK)
        own = (day.kind >= 1) & (day.kind <= 4)
        number, order = np.unique(day.order_id[own], return_inverse=True)
        of_row: Int64s = np.full(day.rows, _NOBODY, dtype=np.int64)
        of_row[own] = order + base
        adds = own & (day.kind == 1)
        takes = own & (day.kind != 1)
        future: Int64s = np.zeros(number.size, dtype=np.int64)
        np.add.at(future, of_row[takes] - base, day.size[takes])
        ghost: Int64s = np.ones(number.size, dtype=np.int64)
        ghost[of_row[adds] - base] = 0
        book = day.book.reshape(day.rows, -1, 2, 2)  # [row, level, ask or bid, price or size]
        in_book = np.concatenate([2 * book[:, :, 0, 0].ravel() + c.ASK, 2 * book[:, :, 1, 0].ravel() + c.BID])
        key = np.unique(np.concatenate([2 * day.price[own] + side[own], in_book]))
        rows = np.flatnonzero(own)[::-1]
        price_of: Int64s = np.zeros(number.size, dtype=np.int64)
        price_of[of_row[rows] - base] = np.searchsorted(key, 2 * day.price[rows] + side[rows])
        elsewhere = 2 * day.price[rows] + side[rows] != key[price_of[of_row[rows] - base]]
        if elsewhere.any():
            row = int(rows[elsewhere].min())
            raise LobsterError(
                f"{day.symbol} {day.day}: message {row + 1} has order {day.order_id[row]} at another price or side "
                "than an earlier one; such a file can be replayed by price level only"
            )
        links += [(int(price_of[o]) + at, int(o) + base) for o in np.flatnonzero(ghost)]
        for parts, part in ((orders, of_row), (numbers, number), (futures, future), (ghosts, ghost), (keys, key)):
            parts.append(part)
        firsts.append(at)
        at, base = at + key.size, base + number.size
        lasts.append(at)
    n = base

    def zeros(*shape: int) -> Int64s:
        return np.zeros(shape, dtype=np.int64)

    def nobody(*shape: int) -> Int64s:
        return np.full(shape, _NOBODY, dtype=np.int64)

    book_of = OrderBook(
        order=np.concatenate(orders),
        number=np.concatenate(numbers).astype(np.int64),
        future=np.concatenate(futures),
        added=zeros(n),
        ghost=np.concatenate(ghosts),
        shares=zeros(n),
        before=nobody(n),
        behind=nobody(n),
        keys=np.concatenate(keys).astype(np.int64),
        first=np.array(firsts, dtype=np.int64),
        last=np.array(lasts, dtype=np.int64),
        head=nobody(at),
        listed=zeros(at),
        rest=zeros(at),
        rest_id=zeros(at),
        visible=zeros(at),
        window=nobody(len(days), 2 * depth),
        rests=zeros(1),
    )
    _link_all(book_of, np.array(links, dtype=np.int64).reshape(-1, 2))
    return book_of


@njit(cache=True, error_model="numpy")
def _link_all(b: OrderBook, links: Int64s) -> None:
    for i in range(links.shape[0]):
        _link(b, links[i, 0], links[i, 1])
