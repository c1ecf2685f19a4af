"""Books by price level as sorted arrays in one pool, as kernels.

Each side owns a block of the pool (a power of two times FIRST_BLOCK); a full one moves to a block twice as large and
leaves the old one to the free list of its size. The best level is the last of its block, because most changes happen
near the best: they move few entries.
"""

from __future__ import annotations

from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    ASK,
    BID,
    FIRST_BLOCK,
    NIL,
    P_FREE_BLOCK,
    P_LEVELS,
    Array,
    Flag,
    Number,
    StateArrays,
)
from pipeline_orchestrator.processing.orders import drop_orders


@inner
def best(st: StateArrays, slot: int, side: int) -> tuple[int, int]:
    """Price and size of the best level; NIL, NIL where the side is empty."""
    row = st.sides[2 * slot + side]
    if row["n"] == 0:
        return NIL, NIL
    at = row["off"] + row["n"] - 1
    key = st.keys[at]
    return (key if side == BID else -key), abs(st.sizes[at])


@inner
def room_for_level(st: StateArrays, slot: int, side: int) -> Flag:
    """False where one more level on this side needs a larger pool."""
    row = st.sides[2 * slot + side]
    if row["n"] < row["cap"]:
        return True
    wanted = max(FIRST_BLOCK, 2 * row["cap"])
    return st.pool[P_LEVELS] + wanted <= st.keys.size


@inner
def find(keys: Array, off: int, n: int, key: int) -> int:
    """First position in the block whose key is >= key."""
    lo = 0
    hi = n
    while lo < hi:
        mid = (lo + hi) >> 1
        if keys[off + mid] < key:
            lo = mid + 1
        else:
            hi = mid
    return lo


@inner
def set_level(st: StateArrays, slot: int, side: int, price: int, size: int) -> Number:
    """Insert a level or set its size; how far from the best it lies (0 = best), or -1 where it had this size.

    room_for_level must hold.
    """
    row = st.sides[2 * slot + side]
    key = price if side == BID else -price
    n, off = row["n"], row["off"]
    at = find(st.keys, off, n, key)
    if at == n or st.keys[off + at] != key:
        return _put_in(st, 2 * slot + side, at, key, size)
    same = abs(st.sizes[off + at]) == size
    st.sizes[off + at] = size
    return -1 if same else n - 1 - at


@inner
def delete_level(st: StateArrays, slot: int, side: int, price: int) -> Number:
    """Remove a level; how far from the best it lay, or -1 where there is none at this price."""
    row = st.sides[2 * slot + side]
    key = price if side == BID else -price
    n, off = row["n"], row["off"]
    at = find(st.keys, off, n, key)
    if at == n or st.keys[off + at] != key:
        return -1
    return _take_out(st, 2 * slot + side, at)


@inner
def add_to_level(st: StateArrays, slot: int, side: int, price: int, change: int) -> Number:
    """Add to the size of a level, which comes into being or goes with its size; how far from the best it lies or lay.

    room_for_level must hold where `change` is above 0; a level takes back only what was added to it.
    """
    row = st.sides[2 * slot + side]
    key = price if side == BID else -price
    n, off = row["n"], row["off"]
    at = find(st.keys, off, n, key)
    if at == n or st.keys[off + at] != key:
        return _put_in(st, 2 * slot + side, at, key, change)
    if st.sizes[off + at] + change == 0:
        return _take_out(st, 2 * slot + side, at)
    st.sizes[off + at] += change
    return n - 1 - at


@inner
def _put_in(st: StateArrays, h: int, at: int, key: int, size: int) -> Number:
    """A new level at this position of its block; how far from the best it lies."""
    row = st.sides[h]
    n = row["n"]
    if n == row["cap"]:
        _enlarge(st, h)
    off = row["off"]
    for i in range(off + n, off + at, -1):
        st.keys[i] = st.keys[i - 1]
        st.sizes[i] = st.sizes[i - 1]
    st.keys[off + at] = key
    st.sizes[off + at] = size
    row["n"] = n + 1
    return n - at


@inner
def _take_out(st: StateArrays, h: int, at: int) -> Number:
    """Close the gap that the level at this position leaves; how far from the best it lay."""
    row = st.sides[h]
    last, off = row["n"] - 1, row["off"]
    for i in range(off + at, off + last):
        st.keys[i] = st.keys[i + 1]
        st.sizes[i] = st.sizes[i + 1]
    row["n"] = last
    return last - at


@inner
def empty_side(st: StateArrays, slot: int, side: int) -> Flag:
    """Remove all levels of a side, and its orders; True where there were any."""
    row = st.sides[2 * slot + side]
    had = row["n"] > 0
    row["n"] = 0
    if row["orders"] > 0:
        drop_orders(st, 2 * slot + side)
    return had


@inner
def empty_book(st: StateArrays, slot: int) -> Flag:
    """Remove all levels and orders, and with them the wait for their confirmation; True where there were any."""
    st.slots[slot]["restating"], st.slots[slot]["asked_us"] = 0, NIL
    bids = empty_side(st, slot, BID)
    asks = empty_side(st, slot, ASK)
    return bids or asks


@inner
def block_class(levels: int) -> int:
    """Number of the free list for blocks of so many levels."""
    number = 0
    while (FIRST_BLOCK << number) < levels:
        number += 1
    return number


@inner
def _enlarge(st: StateArrays, h: int) -> None:
    row = st.sides[h]
    old = row["cap"]
    wanted = max(FIRST_BLOCK, 2 * old)
    listed = P_FREE_BLOCK + block_class(wanted)
    if st.pool[listed] >= 0:
        off = st.pool[listed]
        st.pool[listed] = st.keys[off]
    else:
        off = st.pool[P_LEVELS]
        st.pool[P_LEVELS] = off + wanted
    was = row["off"]
    for i in range(row["n"]):
        st.keys[off + i] = st.keys[was + i]
        st.sizes[off + i] = st.sizes[was + i]
    if old > 0:
        freed = P_FREE_BLOCK + block_class(old)
        st.keys[was] = st.pool[freed]
        st.pool[freed] = was
    row["off"] = off
    row["cap"] = wanted
