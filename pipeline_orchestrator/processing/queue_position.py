"""Where an order stands in the queue at its price, asked of a processor's state: after a replay, or between batches.

    position = queue_position(processor, "@ESZ21", 648907593934)

Served first: orders with a priority before those without; the lower priority (unsigned) before the higher; what is
equal in this by arrival, as order_book.py defines it. A market participant's row is no order and has no position, but
counts as one without priority.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from pipeline_orchestrator.market.events import SIDES
from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    HAS_ID,
    HAS_PRIORITY,
    NIL,
    STATES,
    Array,
    Flag,
    Number,
    StateArrays,
)
from pipeline_orchestrator.processing.orders import find_order
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.trust import shown_trust


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """An order of a book and what is served before it at its price.

    Prices in 1e-6 units, sizes in shares or contracts; `orders_at_price` and `size_at_price` hold the order itself.
    `book_state` as in market.books: only `valid` and `crossed` books are whole.
    """

    symbol: str
    order_id: int
    side: str
    price: int
    size: int
    priority: int | None
    orders_ahead: int
    size_ahead: int
    orders_at_price: int
    size_at_price: int
    book_state: str


def queue_position(processor: ProcessEvents, symbol: str, order_id: int) -> QueuePosition | None:
    """Position of an order by its unsigned id; None where the books hold no such order.

    Raises ValueError for an id that is no unsigned 64-bit number. Takes time in proportion to the orders of a side.
    """
    if not 0 <= order_id < 1 << 64:
        raise ValueError(f"an order id is an unsigned 64-bit number, not {order_id}")
    key = order_id - (1 << 64) if order_id >> 63 else order_id
    st = processor.state.view()
    sid = processor.state.sid_of.get(symbol)
    slot = -1 if sid is None else int(processor.state.heads[sid])
    found: Array = np.zeros(4, np.int64)
    while slot >= 0:
        p = int(_queue(st, slot, key, found))
        if p >= 0:
            row = st.orders[p]
            return QueuePosition(
                symbol,
                order_id,
                SIDES[int(row["home"]) & 1],
                int(row["price"]),
                int(row["size"]),
                int(row["priority"]) % (1 << 64) if row["flags"] & HAS_PRIORITY else None,
                int(found[0]),
                int(found[1]),
                int(found[2]),
                int(found[3]),
                STATES[int(_trust(st, slot))],
            )
        slot = int(st.slots[slot]["twin"])
    return None


@njit(cache=True, error_model="numpy")
def _queue(st: StateArrays, slot: int, key: int, found: Array) -> Any:  # Any: a row's place
    """Row of an order, or -1. found = orders and size before it at its price, orders and size there in all."""
    p = find_order(st, slot, 0, HAS_ID, key)
    if p < 0:
        return p
    row = st.orders[p]
    q = st.sides[row["home"]]["oldest"]
    earlier = True
    while q >= 0:
        other = st.orders[q]
        if other["price"] == row["price"]:
            found[2] += 1
            found[3] += other["size"]
            if q != p and _before(other, row, earlier):
                found[0] += 1
                found[1] += other["size"]
        if q == p:
            earlier = False
        q = other["newer"]
    return p


@inner
def _before(one: Number, other: Number, earlier: bool) -> Flag:
    """True where `one` is served before `other`; `earlier` = it arrived before."""
    first, second = one["flags"] & HAS_PRIORITY, other["flags"] & HAS_PRIORITY
    if first != second:
        return first != 0
    if first != 0 and one["priority"] != other["priority"]:
        return (one["priority"] ^ NIL) < (other["priority"] ^ NIL)  # bits compared as unsigned numbers
    return earlier


@njit(cache=True, error_model="numpy")
def _trust(st: StateArrays, slot: int) -> Any:  # Any: a code of STATES
    return shown_trust(st, slot)


def warm() -> None:
    """Compile or load the kernels of this module."""
    from config.sections import Settings

    processor = ProcessEvents(Settings(), [0])
    slot = processor.state.add_slot(0, processor.state.add_symbol("WARM"))
    st = processor.state.view()
    _queue(st, slot, 0, np.zeros(4, np.int64))
    _trust(st, slot)
