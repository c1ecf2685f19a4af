"""Trust in a book, and gaps, per symbol: the transitions, as kernels.

The feed has no sequence numbers and marks neither begin nor end of a depth snapshot, so a book is believed by these
rules (names as in market.books; times are those of receipt, so that a replay finds the same):

- `none`: no depth known, or the feed said there is none (`q`, `n`), or not watched.
- `resyncing`: from the watch on, the book emptied. It becomes `valid` at the first Level 2 `T` after at least one
  summary row (`7`) came, or after a quiet time: at the first live line of the symbol SETTLED_US after the newest such
  row. A live change alone proves nothing: it may mix with the summary. After `S,CLEAR DEPTH` of a book in use, and for
  a symbol that had no depth, a live level begins the book as well, because the feed has said that there was nothing
  before it.
  A watch sent again to a silent symbol makes a valid book `resyncing` too, but does not empty it: restate.py.
- `stale`: the connection, the feed behind it or lines were lost (`lost`, `S,SERVER DISCONNECTED`, a gap's begin), or
  this state lost its past. The book is emptied; levels that still come are kept but not believed. A connection that
  comes back (`connected`) makes it `resyncing`; so does a new watch.
- `crossed`: valid by the above, but best bid >= best ask. Seen when compared, gone when the book uncrosses.
"""

# ruff: noqa: PLR1714 - kernels compare one by one, which compiles to less than a search in a tuple

from __future__ import annotations

from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    ASK,
    BID,
    CROSSED,
    FOREVER,
    GAPPED,
    NIL,
    NONE,
    PUBLISHED,
    RESYNCING,
    SETTLED_US,
    STALE,
    VALID,
    Flag,
    Number,
    StateArrays,
)
from pipeline_orchestrator.processing.levels import best, empty_book, empty_side


@inner
def is_crossed(st: StateArrays, slot: int) -> Flag:
    """True where the best bid is not below the best ask."""
    bid = best(st, slot, BID)[0]
    ask = best(st, slot, ASK)[0]
    return bid != NIL and ask != NIL and bid >= ask


@inner
def shown_trust(st: StateArrays, slot: int) -> Number:
    """State of a book as published: the stored one, or crossed."""
    trust = st.slots[slot]["trust"]
    if trust == VALID and is_crossed(st, slot):
        return CROSSED
    return trust


@inner
def watch_depth(st: StateArrays, slot: int) -> Flag:
    """A new watch: empty, wait for a summary. True where levels were dropped."""
    row = st.slots[slot]
    row["trust"] = RESYNCING
    row["need_summary"] = 1
    row["begun"] = 0
    return empty_book(st, slot)


@inner
def forget_depth(st: StateArrays, slot: int, need_summary: int) -> Flag:
    """No depth: unwatched (need_summary 1), or known to have none (0). True where levels were dropped."""
    row = st.slots[slot]
    row["trust"] = NONE
    row["need_summary"] = need_summary
    row["begun"] = 0
    return empty_book(st, slot)


@inner
def distrust(st: StateArrays, slot: int) -> Flag:
    """Loss: a known book becomes stale and empty. True where levels were dropped."""
    row = st.slots[slot]
    if row["trust"] == NONE:
        return False
    row["trust"] = STALE
    row["begun"] = 0
    return empty_book(st, slot)


@inner
def reconnect_depth(st: StateArrays, slot: int) -> Flag:
    """The connection is back: a stale book waits for a summary. True where levels were dropped."""
    if st.slots[slot]["trust"] != STALE:
        return False
    return watch_depth(st, slot)


@inner
def clear_depth(st: StateArrays, slot: int, side: int) -> bool:
    """`S,CLEAR DEPTH` of a side, of both where side is neither BID nor ASK. True where levels were dropped."""
    row = st.slots[slot]
    had = False
    if side != ASK:
        had = empty_side(st, slot, BID) or had
    if side != BID:
        had = empty_side(st, slot, ASK) or had
    if row["trust"] == VALID:
        row["trust"] = RESYNCING
        row["need_summary"] = 0
    if row["restating"] == 1:
        if st.sides[2 * slot + BID]["n"] == 0 and st.sides[2 * slot + ASK]["n"] == 0:
            row["restating"], row["need_summary"], row["begun"] = 0, 0, 0
    elif row["trust"] == RESYNCING:
        row["begun"] = 0
    return had


@inner
def note_level(st: StateArrays, slot: int, summary: bool, recv: int) -> None:
    """A level was set by a line received at `recv`: it may begin a book, and a summary row puts off its end."""
    row = st.slots[slot]
    if row["trust"] == NONE:
        row["trust"] = RESYNCING
    if row["trust"] == RESYNCING and (summary or (row["need_summary"] == 0 and row["begun"] == 0)):
        row["begun"], row["begun_us"] = 1, recv


@inner
def complete(st: StateArrays, slot: int) -> bool:
    """Level 2 `T`, or a quiet time is over: a begun book is complete. True where it became valid."""
    row = st.slots[slot]
    if row["trust"] == RESYNCING and row["begun"] == 1:
        row["trust"] = VALID
        return True
    return False


@inner
def settled(st: StateArrays, slot: int, recv: int) -> Flag:
    """True where a book was begun, and nothing that belongs to its beginning came for SETTLED_US before `recv`."""
    row = st.slots[slot]
    return row["begun"] == 1 and recv - row["begun_us"] >= SETTLED_US


@inner
def after(epoch: int, seq: int, than_epoch: int, than_seq: int) -> bool:
    """True where the first position is behind the second."""
    return epoch > than_epoch or (epoch == than_epoch and seq > than_seq)


@inner
def gap_open1(st: StateArrays, slot: int, link: int) -> bool:
    """True while a Level 1 gap is open for the symbol."""
    of, row = st.links[link], st.slots[slot]
    return (
        of["gap1_epoch"] != NIL
        and after(of["gap1_epoch"], of["gap1_seq"], of["closed1_epoch"], of["closed1_seq"])
        and after(of["gap1_epoch"], of["gap1_seq"], row["ended1_epoch"], row["ended1_seq"])
    )


@inner
def gap_open2(st: StateArrays, slot: int, link: int) -> bool:
    """True while a Level 2 gap is open for the symbol."""
    of, row = st.links[link], st.slots[slot]
    return (
        of["gap2_epoch"] != NIL
        and after(of["gap2_epoch"], of["gap2_seq"], of["closed2_epoch"], of["closed2_seq"])
        and after(of["gap2_epoch"], of["gap2_seq"], row["ended2_epoch"], row["ended2_seq"])
    )


@inner
def gap_reaches(st: StateArrays, slot: int, link: int, begin: int, end: int) -> bool:
    """True where the newest Level 1 gap of the symbol overlaps [begin, end). An open gap has no end yet."""
    of, row = st.links[link], st.slots[slot]
    if of["gap1_epoch"] == NIL:
        return False
    until = FOREVER
    if not after(of["gap1_epoch"], of["gap1_seq"], row["ended1_epoch"], row["ended1_seq"]):
        until = row["ended1_to"]
    elif not after(of["gap1_epoch"], of["gap1_seq"], of["closed1_epoch"], of["closed1_seq"]):
        until = of["closed1_to"]
    return end > of["gap1_from"] and begin < until


@inner
def flag_bars(st: StateArrays, slot: int, lengths: tuple[int, int], begun: int) -> None:
    """A Level 1 gap begins at market time `begun` (NIL = unknown): unpublished bars that reach into it are flagged."""
    for k in range(2):
        p = st.chains[2 * slot + k]["head"]
        while p >= 0:
            bar = st.bars[p]
            if bar["open_us"] + lengths[k] <= begun:
                break
            if bar["flags"] & PUBLISHED == 0:
                bar["flags"] = bar["flags"] | GAPPED
            p = bar["older"]


@inner
def attach(st: StateArrays, slot: int, link: int) -> None:
    """The symbol is read by this instance now; what is known of gaps of another one is dropped."""
    row = st.slots[slot]
    if row["link"] != link:
        row["link"] = link
        row["ended1_epoch"] = NIL
        row["ended1_seq"] = NIL
        row["ended1_to"] = NIL
        row["ended2_epoch"] = NIL
        row["ended2_seq"] = NIL
