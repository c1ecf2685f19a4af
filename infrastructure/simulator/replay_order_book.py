"""What a replay of LOBSTER messages by order knows of its orders and prices, and how it begins.

The rules by which rows change it are in `replay_orders`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator.lobster_files import LobsterError, VendorDay

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]

NOBODY: Final = -1


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
    newest: Int64s  # [symbol]: the greatest id added so far, before the first add that of the first
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
def link(b: OrderBook, p: int, o: int) -> None:
    """An order waits at a price, as the newest there."""
    b.before[o], b.behind[o] = NOBODY, b.head[p]
    if b.head[p] >= 0:
        b.before[b.head[p]] = o
    b.head[p] = o
    b.listed[p] += 1


@njit(cache=True, error_model="numpy")
def unlink(b: OrderBook, p: int, o: int) -> None:
    """An order waits at a price no more; nothing happens where it is in no list."""
    if b.before[o] >= 0:
        b.behind[b.before[o]] = b.behind[o]
    elif b.head[p] == o:
        b.head[p] = b.behind[o]
    else:
        return  # it is in no list
    if b.behind[o] >= 0:
        b.before[b.behind[o]] = b.before[o]
    b.before[o] = b.behind[o] = NOBODY
    b.listed[p] -= 1


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
    firsts, lasts, newest, at, base = [], [], [], 0, 0
    for day in days:
        side = np.where(day.direction == 1, c.BID, c.ASK)
        own = (day.kind >= 1) & (day.kind <= 4)
        number, order = np.unique(day.order_id[own], return_inverse=True)
        of_row: Int64s = np.full(day.rows, NOBODY, dtype=np.int64)
        of_row[own] = order + base
        adds = own & (day.kind == 1)
        newest.append(int(day.order_id[adds][0]) if adds.any() else np.iinfo(np.int64).max)
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
        return np.full(shape, NOBODY, dtype=np.int64)

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
        newest=np.array(newest, dtype=np.int64),
        rests=zeros(1),
    )
    _link_all(book_of, np.array(links, dtype=np.int64).reshape(-1, 2))
    return book_of


@njit(cache=True, error_model="numpy")
def _link_all(b: OrderBook, links: Int64s) -> None:
    for i in range(links.shape[0]):
        link(b, links[i, 0], links[i, 1])
