"""Bars as chains per symbol and interval, newest first, as kernels.

A trade belongs to the bar of its event time. C and E trades make open, high, low, close, volume, count and turnover;
O trades are counted apart. Open is the price of the earliest trade, close that of the latest, equal times in log
order; trades are taken in log order, so a later trade opens a bar only with an earlier time, and closes it with an
equal or later one. A bar whose end lies at or before the clock `T` of Level 1 is published at that clock; a trade
that comes afterwards makes a new revision, published at the next clock. Bars are kept until `keep` of market time
after their end, those inside an open gap until it ends; a trade older than that is not taken.
"""

from __future__ import annotations

from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    CHANGED,
    GAPPED,
    NIL,
    NIL32,
    P_BARS,
    P_FREE_BAR,
    P_FREE_TRADE,
    P_TRADES_HELD,
    PUBLISHED,
    THINNED,
    Array,
    Flag,
    Number,
    StateArrays,
)
from pipeline_orchestrator.processing.measures import LOW_BITS, LOW_MASK
from pipeline_orchestrator.processing.trust import gap_open1, gap_reaches

IN_TIME, LATE, TOO_LATE = range(3)


@inner
def room_for_bars(st: StateArrays) -> Flag:
    """False where two more bars need a larger array."""
    if st.bars.size - st.pool[P_BARS] >= 2:
        return True
    free = st.pool[P_FREE_BAR]
    return free >= 0 and st.bars[free]["older"] >= 0


@inner
def new_bar(st: StateArrays) -> Number:
    """Index of an unused bar. room_for_bars must hold."""
    p = st.pool[P_FREE_BAR]
    if p >= 0:
        st.pool[P_FREE_BAR] = st.bars[p]["older"]
        return p
    p = st.pool[P_BARS]
    st.pool[P_BARS] = p + 1
    return p


@inner
def take_trade(
    st: StateArrays,
    slot: int,
    k: int,
    length: int,
    keep: int,
    time: int,
    price: int,
    size: int,
    qualified: bool,
    date: int,
) -> int:
    """Add a trade to its bar; IN_TIME, LATE (its bar was due before), TOO_LATE (not taken). room_for_bars must hold."""
    link = st.slots[slot]["link"]
    clock = st.links[link]["clock"]
    begin = (time // length) * length
    if too_far_back(st, slot, begin, length, keep):
        return TOO_LATE
    chain = st.chains[2 * slot + k]
    newer, p = -1, chain["head"]
    while p >= 0 and st.bars[p]["open_us"] > begin:
        newer, p = p, st.bars[p]["older"]
    late = clock != NIL and begin + length <= clock
    if p < 0 or st.bars[p]["open_us"] != begin:
        p = _insert(st, slot, k, newer, p, begin, date)
        if gap_reaches(st, slot, link, begin, begin + length):
            st.bars[p]["flags"] = GAPPED
    touch(st, slot, k, p)
    bar = st.bars[p]
    add_trade(bar, time - begin, price, size, qualified)
    if bar["date"] == NIL32:
        bar["date"] = date
    return LATE if late else IN_TIME


@inner
def too_far_back(st: StateArrays, slot: int, begin: int, length: int, keep: int) -> Flag:
    """True for a bar that ended more than `keep` before the clock and lies in no open gap: it is kept no more."""
    link = st.slots[slot]["link"]
    clock = st.links[link]["clock"]
    if clock == NIL or begin + length + keep >= clock:
        return False
    return not in_open_gap(st, slot, link, begin, begin + length)


@inner
def in_open_gap(st: StateArrays, slot: int, link: int, begin: int, end: int) -> Flag:
    """True where [begin, end) lies in a Level 1 gap of the symbol that began at a known time and has not ended."""
    return st.links[link]["gap1_from"] != NIL and gap_open1(st, slot, link) and gap_reaches(st, slot, link, begin, end)


@inner
def touch(st: StateArrays, slot: int, k: int, p: int) -> None:
    """The bar changes: a published one waits for its next revision."""
    bar = st.bars[p]
    if bar["flags"] & (PUBLISHED | CHANGED) == PUBLISHED:
        bar["flags"] = bar["flags"] | CHANGED
        st.chains[2 * slot + k]["pending"] = st.chains[2 * slot + k]["pending"] + 1


@inner
def find_bar(st: StateArrays, slot: int, k: int, begin: int) -> Number:
    """The bar that begins then, -1 where none is kept."""
    p = st.chains[2 * slot + k]["head"]
    while p >= 0 and st.bars[p]["open_us"] > begin:
        p = st.bars[p]["older"]
    if p >= 0 and st.bars[p]["open_us"] != begin:
        return -1
    return p


@inner
def drop_trades(st: StateArrays, slot: int, p: int) -> Number:
    """Give back the kept trades of a bar; how many."""
    bar = st.bars[p]
    if bar["first_trade"] < 0:
        return 0
    n = bar["count"] + bar["odd_count"]
    st.trades[bar["last_trade"]]["next"] = st.pool[P_FREE_TRADE]
    st.pool[P_FREE_TRADE] = bar["first_trade"]
    st.pool[P_TRADES_HELD] -= n
    st.slots[slot]["trades"] = st.slots[slot]["trades"] - n
    bar["first_trade"] = -1
    bar["last_trade"] = -1
    bar["flags"] = bar["flags"] | THINNED
    return n


@inner
def _insert(st: StateArrays, slot: int, k: int, newer: int, older: int, begin: int, date: int) -> Number:
    chain = st.chains[2 * slot + k]
    p = new_bar(st)
    bar = st.bars[p]
    bar["open_us"] = begin
    empty_bar(bar)
    bar["date"] = date
    bar["revision"] = 0
    bar["flags"] = 0
    bar["older"] = older
    bar["newer"] = newer
    bar["first_trade"] = -1
    bar["last_trade"] = -1
    if newer >= 0:
        st.bars[newer]["older"] = p
    else:
        chain["head"] = p
    if older >= 0:
        st.bars[older]["newer"] = p
    else:
        chain["tail"] = p
    chain["n"] = chain["n"] + 1
    chain["pending"] = chain["pending"] + 1
    return p


@inner
def empty_bar(bar: Array) -> None:
    """A bar without trades."""
    bar["open"] = 0
    bar["high"] = 0
    bar["low"] = 0
    bar["close"] = 0
    bar["volume"] = 0
    bar["turnover_hi"] = 0
    bar["turnover_lo"] = 0
    bar["odd_volume"] = 0
    bar["first_us"] = 0
    bar["last_us"] = 0
    bar["count"] = 0
    bar["odd_count"] = 0


@inner
def add_trade(bar: Array, at: int, price: int, size: int, qualified: bool) -> None:
    """A trade `at` microseconds after the bar's begin moves it; trades come in log order."""
    if not qualified:
        bar["odd_volume"] = bar["odd_volume"] + size
        bar["odd_count"] = bar["odd_count"] + 1
        return
    if bar["count"] == 0:
        bar["open"] = price
        bar["high"] = price
        bar["low"] = price
        bar["close"] = price
        bar["first_us"] = at
        bar["last_us"] = at
    else:
        bar["high"] = max(bar["high"], price)
        bar["low"] = min(bar["low"], price)
        if at < bar["first_us"]:
            bar["open"] = price
            bar["first_us"] = at
        if at >= bar["last_us"]:
            bar["close"] = price
            bar["last_us"] = at
    bar["count"] = bar["count"] + 1
    bar["volume"] = bar["volume"] + size
    bar["turnover_hi"] = bar["turnover_hi"] + (price >> LOW_BITS) * size
    bar["turnover_lo"] = bar["turnover_lo"] + (price & LOW_MASK) * size


@inner
def oldest_pending(st: StateArrays, slot: int, k: int) -> int:
    """The oldest bar that waits to be published, or -1; walk on through `newer`."""
    chain = st.chains[2 * slot + k]
    left = chain["pending"]
    found, p = -1, chain["head"]
    while left > 0:
        if waits(st, p):
            left -= 1
            found = p
        p = st.bars[p]["older"]
    return found


@inner
def waits(st: StateArrays, p: int) -> Flag:
    """True for a bar that is unpublished, or changed since."""
    return st.bars[p]["flags"] & (PUBLISHED | CHANGED) != PUBLISHED


@inner
def publish(st: StateArrays, slot: int, k: int, p: int) -> None:
    """The bar goes out now: count its revision."""
    bar = st.bars[p]
    if bar["flags"] & PUBLISHED != 0:
        bar["revision"] = bar["revision"] + 1
    bar["flags"] = (bar["flags"] | PUBLISHED) & ~CHANGED
    st.chains[2 * slot + k]["pending"] = st.chains[2 * slot + k]["pending"] - 1


@inner
def drop_old(st: StateArrays, slot: int, k: int, length: int, keep: int, clock: int) -> None:
    """Give back published bars whose end lies more than `keep` before the clock, up to one inside an open gap."""
    chain = st.chains[2 * slot + k]
    p = chain["tail"]
    while p >= 0 and st.bars[p]["open_us"] + length + keep < clock and not waits(st, p):
        begin = st.bars[p]["open_us"]
        if in_open_gap(st, slot, st.slots[slot]["link"], begin, begin + length):
            break
        drop_trades(st, slot, p)
        newer = st.bars[p]["newer"]
        if newer >= 0:
            st.bars[newer]["older"] = -1
        else:
            chain["head"] = -1
        chain["tail"] = newer
        chain["n"] = chain["n"] - 1
        st.bars[p]["older"] = st.pool[P_FREE_BAR]
        st.pool[P_FREE_BAR] = p
        p = newer
