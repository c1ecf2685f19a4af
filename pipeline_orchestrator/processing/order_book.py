"""Books by order: what orders and market participants' rows do to the price levels, as kernels.

The levels of such a book are the sums over its orders, so everything made of levels (best prices, features, books)
is the same for both forms. Decisions that the protocol leaves open:

- A row with an order id is an order; one without is the best price of a market participant (`mmid`) on a side. A row
  with neither, without side, price or size, or with a size of more than LARGEST_ORDER is counted and ignored; a
  delete by order id needs no side.
- `3`, `4` and `6` all set an order: an unknown one is inserted, a known one moves to the price, side and size it now
  has. Size 0 or less = delete. A delete of an unknown order is ignored and counted.
- An order arrives when it is inserted, when its price or side changes, and when its size grows; a smaller size and a
  repeated summary row keep its place.
- A book has one form at a time. Where it holds orders, a level that changes (`8`, `9`) is left out and counted, and
  the other way round; a summary row (`7`, `6`) of the other form means that the watch was changed: the book is
  emptied, and becomes valid again as after a new watch.
- A participant's row that was not sent again for STALE_ROW_US of market time (`T` of Level 1) outside the session
  expires; the time counts from the session's end at the earliest. Inside the session nothing expires.
"""

# ruff: noqa: PLR1714 - kernels compare one by one, which compiles to less than a search in a tuple

from __future__ import annotations

from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.processing.columns import Rows, present, value_or_nil
from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    ASK,
    BID,
    C_BAD_DEPTH,
    C_EXPIRED,
    C_MIXED_FORMS,
    C_UNKNOWN_ORDER,
    FOREVER,
    HAS_ID,
    HAS_PRIORITY,
    LARGEST_ORDER,
    NIL,
    RESYNCING,
    STALE_ROW_US,
    UNCONFIRMED,
    VALID,
    Flag,
    Number,
    StateArrays,
)
from pipeline_orchestrator.processing.levels import add_to_level, empty_book
from pipeline_orchestrator.processing.orders import arrive, depart, enter, find_order, forget, new_order
from pipeline_orchestrator.processing.trust import note_level

_ORDER_CHANGE, _ORDER_DELETE = KIND["order_change"], KIND["order_delete"]


@inner
def admit(st: StateArrays, slot: int, by_order: bool, summary: bool) -> tuple[bool, bool]:
    """Whether a row of this form fits the book, and whether the book was emptied for it."""
    bids, asks = st.sides[2 * slot + BID], st.sides[2 * slot + ASK]
    if bids["n"] == 0 and asks["n"] == 0:
        return True, False
    if (bids["orders"] > 0 or asks["orders"] > 0) == by_order:
        return True, False
    if not summary:
        st.counts[C_MIXED_FORMS] += 1
        return False, False
    empty_book(st, slot)
    row = st.slots[slot]
    row["begun"] = 0
    if row["trust"] == VALID:
        row["trust"] = RESYNCING
        row["need_summary"] = 1
    return True, True


@inner
def order_row(rows: Rows, i: int, st: StateArrays, slot: int, side: int, levels: int) -> Flag:
    """An order or a participant's row set or deleted. True where the best `levels` of the book changed."""
    has_id, key = 0, NIL
    if present(rows.order_id.bits, i):
        has_id, key = HAS_ID, rows.order_id.values[i]
    elif present(rows.mmid.bits, i):
        key = rows.mmid_keys[rows.mmid.values[i]]
    else:
        st.counts[C_BAD_DEPTH] += 1
        return False
    deletes = rows.kind[i] == _ORDER_DELETE
    price, size = value_or_nil(rows.price, i), value_or_nil(rows.size, i)
    if side < 0 and not (deletes and has_id != 0):
        st.counts[C_BAD_DEPTH] += 1
        return False
    if not deletes and (price == NIL or size == NIL or size > LARGEST_ORDER):
        st.counts[C_BAD_DEPTH] += 1
        return False
    if deletes or size <= 0:
        p = find_order(st, slot, side, has_id, key)
        if p < 0:
            st.counts[C_UNKNOWN_ORDER] += 1
            return False
        return remove_order(st, p, levels)
    summary = (rows.summary[i >> 3] >> (i & 7)) & 1 == 1
    fits, emptied = admit(st, slot, True, summary)
    if not fits:
        return False
    note_level(st, slot, summary, rows.recv[i])
    p = find_order(st, slot, side, has_id, key)
    changed = _set_order(st, slot, side, p, has_id, key, price, size, levels)
    p = st.sides[2 * slot + side]["newest"] if p < 0 else p
    row = st.orders[p]
    waits: Number = 0
    if has_id != 0 and rows.kind[i] == _ORDER_CHANGE and st.slots[slot]["begun"] == 0:
        waits = row["flags"] & UNCONFIRMED  # it may be older than the watch: see restate.py
    row["flags"] = has_id | waits
    row["priority"] = 0
    if present(rows.priority.bits, i):
        row["flags"] = has_id | waits | HAS_PRIORITY
        row["priority"] = rows.priority.values[i]
    seen = st.links[st.slots[slot]["link"]]["clock"]
    row["seen"] = seen
    if has_id == 0:
        until = NIL if seen == NIL else seen + STALE_ROW_US
        st.expiry[2 * slot] = min(st.expiry[2 * slot], until)
    return emptied or changed


@inner
def _set_order(
    st: StateArrays, slot: int, side: int, p: int, has_id: int, key: int, price: int, size: int, levels: int
) -> Flag:
    """Insert (p < 0) or change an order, and the levels with it. True where the best `levels` changed."""
    home = 2 * slot + side
    touched = False
    if p < 0:
        p = new_order(st)
        row = st.orders[p]
        row["key"] = key
        row["flags"] = has_id
        arrive(st, p, home)
        enter(st, p)
        change = size
    else:
        row = st.orders[p]
        old = row["size"]
        change = size - old
        if row["home"] != home or row["price"] != price:
            touched = 0 <= add_to_level(st, slot, row["home"] & 1, row["price"], -old) < levels
            change = size
        if change > 0:
            depart(st, p)
            arrive(st, p, home)
    row["price"], row["size"] = price, size
    if change != 0 and add_to_level(st, slot, side, price, change) < levels:
        touched = True
    return touched


@inner
def remove_order(st: StateArrays, p: int, levels: int) -> Flag:
    """Delete an order, and its size from its level. True where the best `levels` of its book changed."""
    row = st.orders[p]
    slot, side = row["home"] >> 1, row["home"] & 1
    depth = add_to_level(st, slot, side, row["price"], -row["size"])
    depart(st, p)
    forget(st, p)
    return depth < levels


@inner
def may_expire(st: StateArrays, slot: int, closed: int, clock: int) -> Flag:
    """False where no participant's row of the symbol can be old enough yet: most clocks need not look at the rows.

    What was worked out for one end of session holds for all later ones, which only put the expiry off.
    """
    return clock >= st.expiry[2 * slot] or closed < st.expiry[2 * slot + 1]


@inner
def expire_rows(st: StateArrays, slot: int, closed: int, clock: int, levels: int) -> bool:
    """Remove participants' rows that were not sent again since `closed` for STALE_ROW_US. True where the top changed.

    A row that came before any `T` counts from this one.
    """
    changed, next_one = False, FOREVER
    for side in range(2):
        p = st.sides[2 * slot + side]["oldest"]
        while p >= 0:
            row = st.orders[p]
            newer = row["newer"]
            if row["flags"] & HAS_ID == 0:
                if row["seen"] == NIL:
                    row["seen"] = clock
                until = max(row["seen"], closed) + STALE_ROW_US
                if clock >= until:
                    st.counts[C_EXPIRED] += 1
                    if remove_order(st, p, levels):
                        changed = True
                else:
                    next_one = min(next_one, until)
            p = newer
    st.expiry[2 * slot], st.expiry[2 * slot + 1] = next_one, closed
    return changed
