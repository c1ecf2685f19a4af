"""Kernels that keep the generated market's books order by order, and write the rows of both forms of depth.

A book keeps DEPTH levels a side; each level is a queue of at most QUEUE entries, first come first. An entry is an
order with an id (futures: `by_order`), or the quote of one market participant (equities), who quotes one price a side;
so the sum of the entries of a price is the size of its level, and their number its order count, for both.

Rows: one per entry that came, changed or went, then one per level that became different. A level row carries the stamp
and place in the market's order of the last entry row before it: at a stamp that both forms carry, both describe the
same book. Only a move to another price, one entry row but two level rows, has a level row with a stamp of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]

DEPTH: Final = 12
QUEUE: Final = 12
ENTRY_ROWS_PER_ACT: Final = 2 * QUEUE + 2  # a queue pushed out or eaten up, and what comes in its place
SHARES, KEY, RANK, ENTRY_COLUMNS = 0, 1, 2, 3  # KEY: number of an order, or index of a participant; RANK: priority

N1, N2, N3, STAMP = 0, 1, 2, 3  # positions in `at`: rows in each table, newest depth stamp of the act
NEXT_SECOND, ORDER = 0, 1  # positions in `clock`

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication keeps numbers apart in 64 bits
_SYMBOL_BITS = np.uint64(40)
_FIRST_PRIORITY = 12_440_000_000


class FlowBook(NamedTuple):
    """Arrays [symbol, side, place]; `queue[symbol, side, place]` names the row of `entries` that holds the level.

    `taken[symbol, side]` has a bit per participant that quotes; `newest[symbol]` is the number of the newest order.
    """

    price: Int64s
    size: Int64s
    held: Int64s  # entries of a level
    levels: Int64s
    queue: Int64s
    entries: Int64s  # [symbol, side, queue, rank in the queue, SHARES | KEY | RANK]
    taken: Int64s
    newest: Int64s
    by_order: Int64s  # [symbol]: 1 = orders with ids, 0 = market participants


@njit(cache=True, error_model="numpy")
def put_level(b: FlowBook, out: Int64s, at: Int64s, clock: Int64s, kind: int, s: int, side: int, place: int) -> None:
    """Append the row of a level: set to what it is now, or deleted (only its price counts)."""
    row = out[at[N2]]
    row[c.KIND], row[c.SYM], row[c.SRC], row[c.ORD], row[c.TIME] = kind, s, 0, clock[ORDER], at[STAMP]
    row[c.SIDE], row[c.PRICE] = side, b.price[s, side, place]
    row[c.SIZE], row[c.COUNT] = b.size[s, side, place], b.held[s, side, place]
    row[c.PRIORITY], row[c.MAKER] = 0, -1
    if kind == c.LEVEL_DELETE:
        row[c.SIZE] = row[c.COUNT] = 0
    clock[ORDER] += 1
    at[N2] += 1


@njit(cache=True, error_model="numpy")
def fill_entry(b: FlowBook, row: Int64s, s: int, side: int, place: int, k: int) -> None:
    """Side, price, size and identity of entry `k` of a level into an order row."""
    entry = b.entries[s, side, b.queue[s, side, place], k]
    row[c.SYM], row[c.SRC], row[c.SIDE] = s, 0, side
    row[c.PRICE], row[c.SIZE] = b.price[s, side, place], entry[SHARES]
    if b.by_order[s]:
        number = (np.uint64(s + 1) << _SYMBOL_BITS) + np.uint64(entry[KEY])
        row[c.ORDER_ID] = np.int64(number * _SPREAD)
        row[c.PRIORITY] = _FIRST_PRIORITY + 7 * entry[RANK] + entry[RANK] % 3
        row[c.MAKER] = -1
    else:
        row[c.ORDER_ID] = row[c.PRIORITY] = 0
        row[c.MAKER] = entry[KEY]


@njit(cache=True, error_model="numpy")
def put_entry(
    b: FlowBook, out: Int64s, at: Int64s, clock: Int64s, kind: int, s: int, side: int, place: int, k: int
) -> None:
    """Append the row of an entry, one microsecond after the depth row before it."""
    at[STAMP] += 1
    row = out[at[N3]]
    row[c.KIND], row[c.ORD], row[c.TIME] = kind, clock[ORDER], at[STAMP]
    fill_entry(b, row, s, side, place, k)
    at[N3] += 1


@njit(cache=True, error_model="numpy")
def place_of(b: FlowBook, s: int, side: int, price: int) -> int:
    """Where a price stands or belongs among the levels of a side."""
    place = 0
    while place < b.levels[s, side] and (
        (side == c.BID and b.price[s, side, place] > price) or (side == c.ASK and b.price[s, side, place] < price)
    ):
        place += 1
    return place


@njit(cache=True, error_model="numpy")
def open_level(b: FlowBook, s: int, side: int, place: int, price: int) -> None:
    """Make room for an empty level; fewer than DEPTH may be in use."""
    depth = b.levels[s, side]
    spare = b.queue[s, side, depth]
    for i in range(depth, place, -1):
        b.price[s, side, i], b.size[s, side, i] = b.price[s, side, i - 1], b.size[s, side, i - 1]
        b.held[s, side, i], b.queue[s, side, i] = b.held[s, side, i - 1], b.queue[s, side, i - 1]
    b.price[s, side, place], b.queue[s, side, place] = price, spare
    b.size[s, side, place] = b.held[s, side, place] = 0
    b.levels[s, side] = depth + 1


@njit(cache=True, error_model="numpy")
def close_level(b: FlowBook, s: int, side: int, place: int) -> None:
    """Take a level out; its queue becomes a spare one."""
    depth = b.levels[s, side] - 1
    spare = b.queue[s, side, place]
    for i in range(place, depth):
        b.price[s, side, i], b.size[s, side, i] = b.price[s, side, i + 1], b.size[s, side, i + 1]
        b.held[s, side, i], b.queue[s, side, i] = b.held[s, side, i + 1], b.queue[s, side, i + 1]
    b.queue[s, side, depth] = spare
    b.levels[s, side] = depth


@njit(cache=True, error_model="numpy")
def may_join(b: FlowBook, s: int, side: int, place: int) -> bool:
    """Whether one more entry fits: every level that may yet come needs a participant of its own."""
    if b.held[s, side, place] == 0:
        return True
    if b.held[s, side, place] >= QUEUE:
        return False
    if b.by_order[s]:
        return True
    used = 0
    for i in range(b.levels[s, side]):
        used += b.held[s, side, i]
    return bool(used < c.PARTICIPANTS - (DEPTH - b.levels[s, side]))


@njit(cache=True, error_model="numpy")
def join(b: FlowBook, s: int, side: int, place: int, shares: int, hint: int) -> tuple[int, int]:
    """Shares come to a level: as a new entry at the end of its queue, or where that is full as more of the last one.

    `hint` chooses among the participants that are free. Returns (kind of the row, entry).
    """
    q = b.queue[s, side, place]
    b.size[s, side, place] += shares
    if not may_join(b, s, side, place):
        k = b.held[s, side, place] - 1
        b.entries[s, side, q, k, SHARES] += shares
        return c.ORDER_CHANGE, k
    k = b.held[s, side, place]
    entry = b.entries[s, side, q, k]
    entry[SHARES] = shares
    b.held[s, side, place] += 1
    if b.by_order[s]:
        b.newest[s] += 1
        entry[KEY] = entry[RANK] = b.newest[s]
        return c.ORDER_ADD, k
    maker = hint % c.PARTICIPANTS
    while (b.taken[s, side] >> maker) & 1:
        maker = (maker + 1) % c.PARTICIPANTS
    b.taken[s, side] |= 1 << maker
    entry[KEY], entry[RANK] = maker, 0
    return c.ORDER_CHANGE, k  # participants' rows know no 3: a 4 of one that has no quote is its quote


@njit(cache=True, error_model="numpy")
def leave(b: FlowBook, s: int, side: int, place: int, k: int) -> None:
    """Take an entry out of its queue; those behind it move up."""
    q = b.queue[s, side, place]
    if not b.by_order[s]:
        b.taken[s, side] &= ~(1 << b.entries[s, side, q, k, KEY])
    b.size[s, side, place] -= b.entries[s, side, q, k, SHARES]
    b.held[s, side, place] -= 1
    for i in range(k, b.held[s, side, place]):
        b.entries[s, side, q, i, :] = b.entries[s, side, q, i + 1, :]


@njit(cache=True, error_model="numpy")
def tell_level(b: FlowBook, out2: Int64s, at: Int64s, clock: Int64s, s: int, side: int, place: int) -> bool:
    """Append the row of a level that lost something; an empty one goes. Returns whether it went."""
    if b.held[s, side, place] == 0:
        put_level(b, out2, at, clock, c.LEVEL_DELETE, s, side, place)
        close_level(b, s, side, place)
        return True
    put_level(b, out2, at, clock, c.LEVEL_SET, s, side, place)
    return False


@njit(cache=True, error_model="numpy")
def enter(
    b: FlowBook, out2: Int64s, out3: Int64s, at: Int64s, clock: Int64s, s: int, side: int, price: int, shares: int,
    hint: int,
) -> int:  # fmt: skip
    """An order comes at a price; where it needs a level too many the worst one is pushed out first. Returns its place.

    A price worse than DEPTH levels becomes the worst level's.
    """
    place = min(place_of(b, s, side, price), DEPTH - 1)
    last = b.levels[s, side] - 1
    if last == DEPTH - 1 and place == last and (side == c.BID) == (price < b.price[s, side, last]):
        price = b.price[s, side, last]
    if place > last or b.price[s, side, place] != price:
        if last == DEPTH - 1:
            while b.held[s, side, last] > 0:
                put_entry(b, out3, at, clock, c.ORDER_DELETE, s, side, last, 0)
                leave(b, s, side, last, 0)
            tell_level(b, out2, at, clock, s, side, last)
        open_level(b, s, side, place, price)
    kind, k = join(b, s, side, place, shares, hint)
    put_entry(b, out3, at, clock, kind, s, side, place, k)
    put_level(b, out2, at, clock, c.LEVEL_SET, s, side, place)
    return place


@njit(cache=True, error_model="numpy")
def consume(
    b: FlowBook, out2: Int64s, out3: Int64s, at: Int64s, clock: Int64s, s: int, side: int, place: int, shares: int
) -> None:
    """An execution takes shares from the front of a level's queue."""
    q = b.queue[s, side, place]
    left = min(shares, b.size[s, side, place])
    while left > 0:
        held = b.entries[s, side, q, 0, SHARES]
        if held <= left:
            put_entry(b, out3, at, clock, c.ORDER_DELETE, s, side, place, 0)
            leave(b, s, side, place, 0)
            left -= held
        else:
            b.entries[s, side, q, 0, SHARES] -= left
            b.size[s, side, place] -= left
            put_entry(b, out3, at, clock, c.ORDER_CHANGE, s, side, place, 0)
            left = 0
    tell_level(b, out2, at, clock, s, side, place)


@njit(cache=True, error_model="numpy")
def cancel(
    b: FlowBook, out2: Int64s, out3: Int64s, at: Int64s, clock: Int64s, s: int, side: int, place: int, k: int,
    shares: int,
) -> None:  # fmt: skip
    """Entry `k` gives up shares; one that gives up all goes."""
    entry = b.entries[s, side, b.queue[s, side, place], k]
    if shares >= entry[SHARES]:
        put_entry(b, out3, at, clock, c.ORDER_DELETE, s, side, place, k)
        leave(b, s, side, place, k)
    else:
        entry[SHARES] -= shares
        b.size[s, side, place] -= shares
        put_entry(b, out3, at, clock, c.ORDER_CHANGE, s, side, place, k)
    tell_level(b, out2, at, clock, s, side, place)


@njit(cache=True, error_model="numpy")
def move(
    b: FlowBook, out2: Int64s, out3: Int64s, at: Int64s, clock: Int64s, s: int, side: int, place: int, k: int, to: int
) -> int:
    """Entry `k` goes to the end of the queue of another level, which has room for it. Returns that level's place."""
    q = b.queue[s, side, place]
    shares, key = b.entries[s, side, q, k, SHARES], b.entries[s, side, q, k, KEY]
    taken = b.taken[s, side]
    leave(b, s, side, place, k)
    b.taken[s, side] = taken
    at[STAMP] += 1
    if tell_level(b, out2, at, clock, s, side, place) and place < to:
        to -= 1
    q, last = b.queue[s, side, to], b.held[s, side, to]
    entry = b.entries[s, side, q, last]
    entry[SHARES], entry[KEY], entry[RANK] = shares, key, 0
    if b.by_order[s]:
        b.newest[s] += 1
        entry[RANK] = b.newest[s]
    b.held[s, side, to] += 1
    b.size[s, side, to] += shares
    put_entry(b, out3, at, clock, c.ORDER_CHANGE, s, side, to, last)
    put_level(b, out2, at, clock, c.LEVEL_SET, s, side, to)
    return to


@njit(cache=True, error_model="numpy")
def list_entries(b: FlowBook, s: int, out: Int64s) -> int:
    """ORDER_SUMMARY rows of every entry of a symbol, stamps left out. Returns their number."""
    n = 0
    for side in range(2):
        for place in range(b.levels[s, side]):
            for k in range(b.held[s, side, place]):
                out[n, c.KIND] = c.ORDER_SUMMARY
                fill_entry(b, out[n], s, side, place, k)
                n += 1
    return n
