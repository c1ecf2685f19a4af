"""Trades kept so that a correction can name them, and what a correction does to bars, as kernels.

A trade with an event time is kept with the bar of its minute, in log order, as long as that bar; a symbol keeps at
most `bars.keep_trades` of them (56 bytes each, twice that while the table doubles): where one more comes, the oldest
minute that has any loses its trades (counted), and no correction can name them any more.

`C` lines: `X` deletes the one kept trade that it names, `I` inserts a trade. A trade is named by tick id, market
center, price and size; where the line has a time, it must agree exactly, else the date, where the line has one; where
either side has no tick id, by time, price, size, center and conditions. An inserted trade without a type is of type C
where its conditions are `01` (regular), otherwise it cannot be placed; nor can one without a time: tick ids are opaque
numbers that need not follow each other, and the time of receipt says when the correction came. An insert that names a
kept trade is a repeat; into a minute that keeps its trades no more nothing is inserted, as a repeat could not be told.
Whatever does not fit changes nothing, and a row of market.gaps says why. A correction moves bars (their next revision
goes out at the next clock) and the VWAP from here on; the last price stays.
"""

from __future__ import annotations

from typing import Final

from pipeline_orchestrator.processing.bar_chains import (
    LATE,
    TOO_LATE,
    add_trade,
    drop_trades,
    empty_bar,
    find_bar,
    take_trade,
    too_far_back,
    touch,
)
from pipeline_orchestrator.processing.columns import Rows, present, value_or_nil
from pipeline_orchestrator.processing.inner import inner, rare
from pipeline_orchestrator.processing.layout import (
    C_CORRECTED,
    C_NOT_CORRECTED,
    C_NOT_KEPT,
    IN_VWAP,
    INTERVALS_US,
    NIL,
    NIL32,
    P_FREE_TRADE,
    P_TRADES,
    P_TRADES_HELD,
    QUALIFIED,
    THINNED,
    Array,
    Flag,
    Number,
    Rules,
    StateArrays,
)
from pipeline_orchestrator.processing.measures import LOW_BITS, LOW_MASK
from pipeline_orchestrator.processing.orders import mmid_key

_SECOND, _MINUTE = INTERVALS_US
_ODD = 2  # basis O
_DELETE = 1  # correction X
_REGULAR: Final = mmid_key("01")

NOT_KEPT: Final = 3  # neither bar of an insert
# Why a correction was not applied, in bits above those of the intervals whose bars lie too far back.
NO_SUCH_TRADE, SEVERAL_TRADES, INCOMPLETE, KNOWN_ALREADY, NO_TIME = 4, 8, 16, 32, 64
REASONS: Final = {
    NO_SUCH_TRADE: "no kept trade has this identity, price, size and time",
    SEVERAL_TRADES: "more than one kept trade fits",
    INCOMPLETE: "the line lacks what is needed: price, size (0 or more); type to insert, tick id or time to delete",
    KNOWN_ALREADY: "a trade with this identity is there already",
    NO_TIME: "the inserted trade has no time, so its bar is not known",
}


@inner
def room_for_trade(st: StateArrays) -> Flag:
    """False where one more trade needs a larger table."""
    return st.pool[P_FREE_TRADE] >= 0 or st.pool[P_TRADES] < st.trades.size


@inner
def count_trade(st: StateArrays, slot: int, price: int, size: int, sign: int) -> None:
    """Put a trade into the VWAP (sign 1), or take it out (-1)."""
    row = st.slots[slot]
    row["volume"] = row["volume"] + sign * size
    row["turnover_hi"] = row["turnover_hi"] + sign * ((price >> LOW_BITS) * size)
    row["turnover_lo"] = row["turnover_lo"] + sign * ((price & LOW_MASK) * size)


@inner
def bar_trade(rows: Rows, i: int, st: StateArrays, slot: int, rules: Rules, date: int, flags: int) -> tuple[int, bool]:
    """Take the trade of row i, which has price, size and time, into its bars and keep it.

    Bits of the intervals whose bar lies too far back, and whether a bar was due before. room_for_bars and
    room_for_trade must hold.
    """
    lost, late = 0, False
    time, price, size = rows.time.values[i], rows.price.values[i], rows.size.values[i]
    for k in range(2):
        how = take_trade(st, slot, k, INTERVALS_US[k], rules.keep_us, time, price, size, flags & QUALIFIED != 0, date)
        if how == TOO_LATE:
            lost |= 1 << k
        elif how == LATE:
            late = True
    if lost & 2 == 0:
        _keep(rows, i, st, slot, rules, date, flags)
    return lost, late


@inner
def _keep(rows: Rows, i: int, st: StateArrays, slot: int, rules: Rules, date: int, flags: int) -> None:
    time = rows.time.values[i]
    p = find_bar(st, slot, 1, (time // _MINUTE) * _MINUTE)
    bar, row = st.bars[p], st.slots[slot]
    if bar["flags"] & THINNED == 0 and row["trades"] >= rules.keep_trades:
        # The trade is in the bar's counts, but not among its kept trades yet.
        oldest = st.chains[2 * slot + 1]["tail"]
        while oldest >= 0 and oldest != p and st.bars[oldest]["first_trade"] < 0:
            oldest = st.bars[oldest]["newer"]
        if oldest == p:
            st.counts[C_NOT_KEPT] += _thin_newest(st, slot, p)
        else:
            st.counts[C_NOT_KEPT] += drop_trades(st, slot, oldest)
    if bar["flags"] & THINNED != 0:
        st.counts[C_NOT_KEPT] += 1
        return
    at = st.pool[P_FREE_TRADE]
    if at >= 0:
        st.pool[P_FREE_TRADE] = st.trades[at]["next"]
    else:
        at = st.pool[P_TRADES]
        st.pool[P_TRADES] = at + 1
    st.pool[P_TRADES_HELD] += 1
    row["trades"] = row["trades"] + 1
    trade = st.trades[at]
    trade["time"] = time
    trade["price"] = rows.price.values[i]
    trade["size"] = rows.size.values[i]
    trade["tick_id"] = value_or_nil(rows.tick_id, i)
    trade["conditions"] = conditions_of(rows, i)
    trade["center"] = center_of(rows, i)
    trade["date"] = date
    trade["next"] = -1
    trade["flags"] = flags
    if bar["first_trade"] < 0:
        bar["first_trade"] = at
    else:
        st.trades[bar["last_trade"]]["next"] = at
    bar["last_trade"] = at


@rare
def _thin_newest(st: StateArrays, slot: int, p: int) -> Number:
    """Drop the trades of the bar that the newest one was just counted in; it was not kept yet."""
    bar = st.bars[p]
    if bar["first_trade"] < 0:
        bar["flags"] = bar["flags"] | THINNED
        return 0
    st.pool[P_TRADES_HELD] += 1
    st.slots[slot]["trades"] = st.slots[slot]["trades"] + 1
    return drop_trades(st, slot, p) - 1


@inner
def conditions_of(rows: Rows, i: int) -> Number:
    """Key of the row's conditions; those of none are NIL."""
    if present(rows.conditions.bits, i):
        return rows.conditions_keys[rows.conditions.values[i]]
    return NIL


@inner
def center_of(rows: Rows, i: int) -> Number:
    """Market center of the row, NIL32 for none."""
    if present(rows.center.bits, i):
        return rows.center.values[i]
    return NIL32


@rare
def _fits(rows: Rows, i: int, trade: Array) -> Flag:
    """True where the correction of row i names this trade."""
    if trade["price"] != value_or_nil(rows.price, i) or trade["size"] != value_or_nil(rows.size, i):
        return False
    if trade["center"] != center_of(rows, i):
        return False
    time, tick = value_or_nil(rows.time, i), value_or_nil(rows.tick_id, i)
    if time != NIL:
        # It says more than the date, which is that of the calendar where a trade has that of its session.
        if time != trade["time"]:
            return False
    elif trade["date"] != NIL32 and present(rows.date.bits, i) and rows.date.values[i] != trade["date"]:
        return False
    if tick != NIL and trade["tick_id"] != NIL:
        return tick == trade["tick_id"]
    return time != NIL and trade["conditions"] == conditions_of(rows, i)


@rare
def _find(rows: Rows, i: int, st: StateArrays, slot: int) -> tuple[int, int, int, int]:
    """How many kept trades fit the correction of row i; bar, predecessor and place of the last one found."""
    found, bar, before, place = 0, -1, -1, -1
    p = st.chains[2 * slot + 1]["head"]
    while p >= 0:
        last, at = -1, st.bars[p]["first_trade"]
        while at >= 0:
            if _fits(rows, i, st.trades[at]):
                found += 1
                bar, before, place = p, last, at
            last, at = at, st.trades[at]["next"]
        p = st.bars[p]["older"]
    return found, bar, before, place


@rare
def _again(st: StateArrays, slot: int, k: int, p: int, minute: int, length: int) -> None:
    """Make bar p anew of the trades that its minute keeps."""
    bar = st.bars[p]
    begin = bar["open_us"]
    touch(st, slot, k, p)
    empty_bar(bar)
    at = st.bars[minute]["first_trade"]
    while at >= 0:
        trade = st.trades[at]
        if begin <= trade["time"] < begin + length:
            qualified = trade["flags"] & QUALIFIED != 0
            add_trade(bar, trade["time"] - begin, trade["price"], trade["size"], qualified)
        at = trade["next"]


@rare
def _delete(rows: Rows, i: int, st: StateArrays, slot: int) -> int:
    found, minute, before, place = _find(rows, i, st, slot)
    if found != 1:
        return NO_SUCH_TRADE if found == 0 else SEVERAL_TRADES
    bar, trade = st.bars[minute], st.trades[place]
    time, after = trade["time"], trade["next"]
    if trade["flags"] & IN_VWAP != 0 and trade["date"] == st.slots[slot]["date"]:
        count_trade(st, slot, trade["price"], trade["size"], -1)
    if before < 0:
        bar["first_trade"] = after
    else:
        st.trades[before]["next"] = after
    if after < 0:
        bar["last_trade"] = before
    trade["next"] = st.pool[P_FREE_TRADE]
    st.pool[P_FREE_TRADE] = place
    st.pool[P_TRADES_HELD] -= 1
    st.slots[slot]["trades"] = st.slots[slot]["trades"] - 1
    _again(st, slot, 1, minute, minute, _MINUTE)
    second = find_bar(st, slot, 0, (time // _SECOND) * _SECOND)
    if second < 0:
        return 1
    _again(st, slot, 0, second, minute, _SECOND)
    return 0


@rare
def _insert(rows: Rows, i: int, st: StateArrays, slot: int, rules: Rules) -> int:
    typed = present(rows.basis.bits, i)
    regular = not typed and conditions_of(rows, i) == _REGULAR
    if not (typed or regular) or rows.size.values[i] < 0:
        return INCOMPLETE
    if not present(rows.time.bits, i):
        return NO_TIME
    begin = (rows.time.values[i] // _MINUTE) * _MINUTE
    if too_far_back(st, slot, begin, _MINUTE, rules.keep_us):
        return NOT_KEPT
    minute = find_bar(st, slot, 1, begin)
    if minute >= 0 and st.bars[minute]["flags"] & THINNED != 0:
        return NOT_KEPT
    if _find(rows, i, st, slot)[0] != 0:
        return KNOWN_ALREADY
    date = NIL32
    if present(rows.date.bits, i):
        date = rows.date.values[i]
    flags = 0
    if regular or rows.basis.values[i] != _ODD:
        flags = QUALIFIED
        if date != NIL32 and date == st.slots[slot]["date"]:
            flags |= IN_VWAP
            count_trade(st, slot, rows.price.values[i], rows.size.values[i], 1)
    return bar_trade(rows, i, st, slot, rules, date, flags)[0]


@rare
def correction_row(rows: Rows, i: int, st: StateArrays, slot: int, rules: Rules) -> int:
    """A `C` line. Bits of the intervals whose bar could not be revised, or of REASONS; 0 = all is done."""
    answer = INCOMPLETE
    if present(rows.price.bits, i) and present(rows.size.bits, i) and present(rows.correction.bits, i):
        if rows.correction.values[i] != _DELETE:
            answer = _insert(rows, i, st, slot, rules)
        elif present(rows.tick_id.bits, i) or present(rows.time.bits, i):
            answer = _delete(rows, i, st, slot)
    st.counts[C_NOT_CORRECTED if answer >= NOT_KEPT else C_CORRECTED] += 1
    return answer
