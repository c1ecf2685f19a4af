"""A watch sent again to a symbol that alone fell silent: what the feed no longer names then goes, as kernels.

The feed answers such a watch by naming all rows it holds, but not those that went while it was silent. So the fact
(`subscribed`, cause `redrive`) marks every row of a valid book as unconfirmed, and a line that sets a row confirms
it: an order by its flag, a level of a book by price by the sign of its size. The book is `resyncing` meanwhile, keeps
its rows, and features go on taking their prices from it unless it is crossed: a quiet symbol, which is asked again
and again, does not lose its quote each time. It is complete as after a new watch (the first Level 2 `T` after a
summary row), and then what is still unconfirmed is removed and counted.

Where the feed's book is empty by then (`S,CLEAR DEPTH` went by unseen) the answer is nothing at all. So the first
Level 2 `T` that is received SETTLED_US after the fact without a summary row between ends the wait as well: what was
not confirmed goes, what live lines set is the book, and where nothing is left a live row begins it. A feed that takes
longer for its answer is believed too early; its answer then adds what is missing.

Which lines confirm. After the answer's first row all do: the feed has the watch, and what goes is deleted live.
Between the fact and that row a line is of one of these kinds, which look alike:

1. The symbol was only quiet. Nothing was lost, so the book is the feed's, and the answer names all that stays.
2. It was on its way when the watch was sent, and the feed dropped the symbol right behind it. What it set may have
   gone since, unseen, and the answer alone can say so.
3. The feed has the watch and sends changes before the first row.

An order that changes (`4`, by id) confirms nothing there. By 2 it must not, and by 1 and 3 it need not: an id does not
come back, so the order has been in the feed's book all the time, and the answer names it unless it is deleted live.
An order that is added (`3`) under an id we hold does: its delete went by unseen, so the line came behind the loss.
Prices and participants do come back: a level that went unseen and is set again by 3 is absent from an answer whose
rows were listed just before. So there a live line confirms, and what 2 sets stays until a live line or the next
answer: that takes a drop within the moment between fact and answer, and a delete within the same moment.

A participant's first row may be a live `6`, which nothing tells from the answer. With a `T` right behind it the book
is complete too early, and lacks what the answer then names: rows are missing for as long as the answer takes, and
it ends as the feed's.

A book that is not valid is emptied by the fact, and waits for the answer in the same way. One that was asked before
and was not restated since, and a valid one without rows, need no summary: the feed has named nothing, so a live row
begins the book.
"""

from __future__ import annotations

from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    C_NOT_RESTATED,
    NIL,
    RESYNCING,
    SETTLED_US,
    STALE,
    UNCONFIRMED,
    VALID,
    Flag,
    StateArrays,
)
from pipeline_orchestrator.processing.order_book import remove_order
from pipeline_orchestrator.processing.trust import watch_depth


@inner
def restate_depth(st: StateArrays, slot: int, recv: int) -> Flag:
    """The watch was sent again, by a fact of receipt `recv`. True where the book as it is published changed."""
    row = st.slots[slot]
    was, need_summary = row["trust"], row["need_summary"]
    if was == VALID and _has_rows(st, slot):
        row["trust"], row["need_summary"], row["begun"], row["restating"] = RESYNCING, 1, 0, 1
        row["asked_us"] = recv
        _mark(st, 2 * slot)
        _mark(st, 2 * slot + 1)
        return True
    if was == VALID or row["restating"] == 1:
        need_summary = 0
    elif was == STALE:
        need_summary = 1
    dropped = watch_depth(st, slot)
    row["need_summary"], row["asked_us"] = need_summary, recv
    return dropped


@inner
def _has_rows(st: StateArrays, slot: int) -> Flag:
    return st.sides[2 * slot]["n"] > 0 or st.sides[2 * slot + 1]["n"] > 0


@inner
def take_silence(st: StateArrays, slot: int, recv: int, levels: int) -> Flag:
    """Level 2 `T` received at `recv`: where the second watch was not answered by then, the feed has nothing to name.

    True where the book as it is published changed.
    """
    row = st.slots[slot]
    if row["trust"] != RESYNCING or row["need_summary"] == 0 or row["begun"] == 1 or row["asked_us"] == NIL:
        return False
    if recv - row["asked_us"] < SETTLED_US:
        return False
    had = _has_rows(st, slot)
    sweep(st, slot, levels)
    row["need_summary"], row["asked_us"] = 0, NIL
    if _has_rows(st, slot):
        row["trust"], row["begun"] = VALID, 1
    return had


@inner
def _mark(st: StateArrays, home: int) -> None:
    side = st.sides[home]
    p = side["oldest"]
    if p < 0:
        for at in range(side["off"], side["off"] + side["n"]):
            st.sizes[at] = -abs(st.sizes[at])
    while p >= 0:
        order = st.orders[p]
        order["flags"] = order["flags"] | UNCONFIRMED
        p = order["newer"]


@inner
def sweep(st: StateArrays, slot: int, levels: int) -> None:
    """The book is complete: remove what was not confirmed since the watch was sent again."""
    row = st.slots[slot]
    if row["restating"] == 0:
        return
    row["restating"] = 0
    for home in range(2 * slot, 2 * slot + 2):
        side = st.sides[home]
        p = side["oldest"]
        if p < 0:
            _sweep_levels(st, home)
        while p >= 0:
            newer = st.orders[p]["newer"]
            if st.orders[p]["flags"] & UNCONFIRMED != 0:
                remove_order(st, p, levels)
                st.counts[C_NOT_RESTATED] += 1
            p = newer


@inner
def _sweep_levels(st: StateArrays, home: int) -> None:
    side = st.sides[home]
    off, kept = side["off"], 0
    for at in range(off, off + side["n"]):
        if st.sizes[at] > 0:
            st.keys[off + kept], st.sizes[off + kept] = st.keys[at], st.sizes[at]
            kept += 1
    st.counts[C_NOT_RESTATED] += side["n"] - kept
    side["n"] = kept
