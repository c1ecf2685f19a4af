"""The orders behind the price levels of books by order, in one table with one hash index, as kernels.

A row is one order, or the best price of one market participant on one side (Nasdaq's rows, which have no order id).
Key of an order: (symbol, order id); of a participant's row: (symbol, side, participant). Each side of a book chains
its rows in the order of their arrival. A row that goes is used again by the next that comes; the table doubles where
none is left and never shrinks. So it costs at most 136 bytes for each of the most orders that were held at once
(64 a row and 4 a hash bucket, twice because of the doubling).

Nothing here knows of price levels; order_book.py keeps both in step.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numba import njit

from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    HAS_ID,
    P_FREE_ORDER,
    P_ORDERS,
    P_ORDERS_HELD,
    Flag,
    Number,
    StateArrays,
)

_HALF: Final = (1 << 31) - 1
_INLINE: Final = 7  # characters of a participant's code that a key holds as they are


def mmid_key(text: str) -> int:
    """A market participant's code as 64 bits.

    Up to 7 characters (there are 4 in the feed) stand in it as they are; of a longer one its digest, marked by the
    sign.
    """
    data = text.encode()
    if len(data) <= _INLINE:
        return int.from_bytes(bytes([len(data)]) + data.rjust(_INLINE, b"\0"), "big")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") % (1 << 63) - (1 << 63)


@inner
def bucket_of(st: StateArrays, slot: int, key: Number) -> Number:
    """Hash bucket of a key. Products stay below 2**62, so nothing overflows."""
    mixed = (key & _HALF) * 0x2C1B3C6D ^ ((key >> 31) & _HALF) * 0x297A2D39 ^ ((key >> 62) & 3)
    mixed = mixed ^ np.int64(slot) * 0x5BD1E995
    mixed = (mixed ^ (mixed >> 29)) & _HALF
    mixed = mixed * 0x45D9F3B3
    return (mixed ^ (mixed >> 31)) & (st.buckets.size - 1)


@inner
def room_for_order(st: StateArrays) -> Flag:
    """False where one more order needs a larger table."""
    return st.pool[P_FREE_ORDER] >= 0 or st.pool[P_ORDERS] < st.orders.size


@inner
def find_order(st: StateArrays, slot: int, side: int, has_id: int, key: int) -> Number:
    """Row of an order (has_id = HAS_ID, whatever its side), or of a participant's side (has_id = 0); -1 = unknown."""
    p = st.buckets[bucket_of(st, slot, key)]
    while p >= 0:
        row = st.orders[p]
        same = row["key"] == key and row["home"] >> 1 == slot and row["flags"] & HAS_ID == has_id
        if same and (has_id != 0 or row["home"] & 1 == side):
            return p
        p = row["next"]
    return p


@inner
def new_order(st: StateArrays) -> Number:
    """An unused row. room_for_order must hold."""
    p = st.pool[P_FREE_ORDER]
    if p >= 0:
        st.pool[P_FREE_ORDER] = st.orders[p]["next"]
    else:
        p = st.pool[P_ORDERS]
        st.pool[P_ORDERS] = p + 1
    st.pool[P_ORDERS_HELD] += 1
    return p


@inner
def enter(st: StateArrays, p: int) -> None:
    """Make a row with key and home known by its key."""
    row = st.orders[p]
    bucket = bucket_of(st, row["home"] >> 1, row["key"])
    row["next"] = st.buckets[bucket]
    st.buckets[bucket] = p


@inner
def arrive(st: StateArrays, p: int, home: int) -> None:
    """Put a row behind all others of a side."""
    row, side = st.orders[p], st.sides[home]
    row["home"], row["older"], row["newer"] = home, side["newest"], -1
    if side["newest"] >= 0:
        st.orders[side["newest"]]["newer"] = p
    else:
        side["oldest"] = p
    side["newest"] = p
    side["orders"] = side["orders"] + 1


@inner
def depart(st: StateArrays, p: int) -> None:
    """Take a row out of its side; it keeps its key."""
    row = st.orders[p]
    side = st.sides[row["home"]]
    older, newer = row["older"], row["newer"]
    if older >= 0:
        st.orders[older]["newer"] = newer
    else:
        side["oldest"] = newer
    if newer >= 0:
        st.orders[newer]["older"] = older
    else:
        side["newest"] = older
    side["orders"] = side["orders"] - 1


@inner
def forget(st: StateArrays, p: int) -> None:
    """Make a departed row unknown and free."""
    row = st.orders[p]
    bucket = bucket_of(st, row["home"] >> 1, row["key"])
    before = st.buckets[bucket]
    if before == p:
        st.buckets[bucket] = row["next"]
    else:
        while st.orders[before]["next"] != p:
            before = st.orders[before]["next"]
        st.orders[before]["next"] = row["next"]
    row["home"] = -1
    row["next"] = st.pool[P_FREE_ORDER]
    st.pool[P_FREE_ORDER] = p
    st.pool[P_ORDERS_HELD] -= 1


@njit(error_model="numpy", cache=True)
def drop_orders(st: StateArrays, home: int) -> None:
    """Remove all orders of a side, not its levels."""
    side = st.sides[home]
    p = side["oldest"]
    while p >= 0:
        newer = st.orders[p]["newer"]
        forget(st, p)
        p = newer
    side["oldest"], side["newest"], side["orders"] = -1, -1, 0


@njit(error_model="numpy", cache=True)
def adopt_orders(st: StateArrays, home: int, n: int) -> None:
    """The `n` rows behind those ever used become orders of a side, by arrival. There must be so many."""
    first = st.pool[P_ORDERS]
    st.pool[P_ORDERS] = first + n
    st.pool[P_ORDERS_HELD] += n
    for p in range(first, first + n):
        arrive(st, p, home)
        enter(st, p)


@njit(error_model="numpy", cache=True)
def fill_buckets(st: StateArrays) -> None:
    """Enter all rows in use into empty buckets."""
    for p in range(st.pool[P_ORDERS]):
        if st.orders[p]["home"] >= 0:
            enter(st, p)
