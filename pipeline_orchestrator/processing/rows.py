"""What each kind of event does to the state, as kernels. Decisions that the design leaves open are stated here.

- A trade is a `Q` with C, E or O. C and E move last price, VWAP and bars; O counts in bars only, as odd lot. A trade
  without price, with a negative size or without basis is counted and moves nothing; without an event time it moves
  everything but bars.
- Replayed lines (`replay_of` set) and history (`source` H) are old news: their depth and quotes change nothing, their
  trades count as late: VWAP (of their own trading date) and bars, never the last price.
- VWAP belongs to the newest trading date that a trade had; an older one's trades are left out, without a date they
  belong to the current one.
- Level 1 bid and ask come from quotes (also `P`) and trades. A side is missing where its price is, or where price and
  size are 0. A trade without any of the four fields says nothing about the quote.
- Size 0 or less in a level = delete. A delete of an unknown level is ignored and counted; a level without side, price
  or size too. Orders (`3 4 5 6`) and what they do to a book: order_book.py.
"""

# ruff: noqa: PLR1714 - kernels compare one by one, which compiles to less than a search in a tuple

from __future__ import annotations

from typing import Any

from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.processing.bar_chains import drop_old, oldest_pending, publish, waits
from pipeline_orchestrator.processing.columns import Rows, present, value_or_nil
from pipeline_orchestrator.processing.corrections import bar_trade, count_trade
from pipeline_orchestrator.processing.emit import Bars, Books, put_bar, put_book
from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    C_BAD_DEPTH,
    C_BAD_TRADE,
    C_LATE,
    C_REPLAYED_DEPTH,
    C_TOO_LATE,
    C_UNKNOWN_LEVEL,
    FACT_CONNECTED,
    FACT_GAP_BEGIN,
    FACT_GAP_CLOSED,
    FACT_GAP_END,
    FACT_LOST,
    FACT_RESTATE,
    FACT_UNWATCH,
    FACT_WATCH,
    IN_VWAP,
    NIL,
    NIL32,
    QUALIFIED,
    Flag,
    Rules,
    StateArrays,
)
from pipeline_orchestrator.processing.layout import INTERVALS_US as LENGTHS
from pipeline_orchestrator.processing.levels import delete_level, set_level
from pipeline_orchestrator.processing.order_book import admit, expire_rows, may_expire, order_row
from pipeline_orchestrator.processing.restate import restate_depth, sweep, take_silence
from pipeline_orchestrator.processing.trust import (
    clear_depth,
    complete,
    distrust,
    flag_bars,
    forget_depth,
    note_level,
    reconnect_depth,
    settled,
    watch_depth,
)

_ORDER_DELETE, _DEPTH_CLEAR = KIND["order_delete"], KIND["depth_clear"]
_LEVEL_SET, _LEVEL_DELETE = KIND["level_set"], KIND["level_delete"]
_ODD = 2  # basis O
_HISTORY = 1  # source H
_LOWER_Q, _LOWER_N, _COMMA = ord("q"), ord("n"), ord(",")
BOOKS_CHANGE, BOOKS_PERIOD = 1, 2


@inner
def is_old(rows: Rows, i: int) -> bool:
    """A replayed line, or one from history."""
    return present(rows.replay_bits, i) or rows.source[i] == _HISTORY


@inner
def take_quote(rows: Rows, i: int, row: Any) -> None:
    """Level 1 bid and ask of the event become the symbol's."""
    bid, bid_size = value_or_nil(rows.bid, i), value_or_nil(rows.bid_size, i)
    ask, ask_size = value_or_nil(rows.ask, i), value_or_nil(rows.ask_size, i)
    if bid == NIL or (bid == 0 and (bid_size == NIL or bid_size == 0)):
        bid, bid_size = NIL, NIL
    if ask == NIL or (ask == 0 and (ask_size == NIL or ask_size == 0)):
        ask, ask_size = NIL, NIL
    row["bid"], row["bid_size"], row["ask"], row["ask_size"] = bid, bid_size, ask, ask_size


@inner
def quote_row(rows: Rows, i: int, st: StateArrays, slot: int) -> None:
    """A quote or summary of Level 1."""
    if not is_old(rows, i):
        take_quote(rows, i, st.slots[slot])


@inner
def trade_row(rows: Rows, i: int, st: StateArrays, slot: int, rules: Rules) -> int:
    """A trade. Bits of the intervals (1 = 1s, 2 = 1m) whose bar lies too far back to be revised; 0 = none."""
    row = st.slots[slot]
    old = is_old(rows, i)
    if not old and (
        present(rows.bid.bits, i)
        or present(rows.ask.bits, i)
        or present(rows.bid_size.bits, i)
        or present(rows.ask_size.bits, i)
    ):
        take_quote(rows, i, row)
    price, size = value_or_nil(rows.price, i), value_or_nil(rows.size, i)
    if price == NIL or size < 0 or not present(rows.basis.bits, i):
        st.counts[C_BAD_TRADE] += 1
        return 0
    qualified = rows.basis.values[i] != _ODD
    date = NIL32
    if present(rows.date.bits, i):
        date = rows.date.values[i]
    if date > row["date"] and (not old or row["date"] == NIL32):
        row["date"] = date
        row["volume"], row["turnover_hi"], row["turnover_lo"] = 0, 0, 0
    flags = 0
    if qualified:
        flags = QUALIFIED
        if date == NIL32 or date == row["date"]:
            count_trade(st, slot, price, size, 1)
            flags |= IN_VWAP
        if not old:
            row["last_price"], row["last_size"] = price, size
    late, lost = old, 0
    if present(rows.time.bits, i):
        lost, was_due = bar_trade(rows, i, st, slot, rules, date, flags)
        late = late or was_due
    if lost != 0:
        st.counts[C_TOO_LATE] += 1
    elif late:
        st.counts[C_LATE] += 1
    return lost


@inner
def depth_row(rows: Rows, i: int, st: StateArrays, slot: int, levels: int) -> Flag:
    """An order, a level, or a book cleared. True where the best `levels` of the book or its state changed."""
    if is_old(rows, i):
        st.counts[C_REPLAYED_DEPTH] += 1
        return False
    summary = (rows.summary[i >> 3] >> (i & 7)) & 1 == 1
    completed = not summary and settled(st, slot, rows.recv[i]) and complete(st, slot)
    if completed:
        sweep(st, slot, levels)
    return _change_depth(rows, i, st, slot, levels, summary) or completed


@inner
def _change_depth(rows: Rows, i: int, st: StateArrays, slot: int, levels: int, summary: bool) -> Flag:
    side = -1
    if present(rows.side.bits, i):
        side = rows.side.values[i]
    kind = rows.kind[i]
    if kind == _DEPTH_CLEAR:
        return clear_depth(st, slot, side)
    if kind <= _ORDER_DELETE:
        return order_row(rows, i, st, slot, side, levels)
    price, size = value_or_nil(rows.price, i), value_or_nil(rows.size, i)
    if side < 0 or price == NIL or (kind == _LEVEL_SET and size == NIL):
        st.counts[C_BAD_DEPTH] += 1
        return False
    fits, emptied = admit(st, slot, False, summary)
    if not fits:
        return False
    if kind == _LEVEL_DELETE or size <= 0:
        depth = delete_level(st, slot, side, price)
        if depth < 0:
            st.counts[C_UNKNOWN_LEVEL] += 1
        return emptied or 0 <= depth < levels
    note_level(st, slot, summary, rows.recv[i])
    depth = set_level(st, slot, side, price, size)
    return emptied or 0 <= depth < levels


@inner
def no_depth(rows: Rows, i: int, st: StateArrays, slot: int) -> Flag:
    """A Level 2 line of kind other: `q` and `n` say that there is no depth. True where levels were dropped."""
    if is_old(rows, i) or not present(rows.raw_bits, i):
        return False
    at = rows.raw_offsets[i]
    if rows.raw_offsets[i + 1] - at < 2 or rows.raw[at + 1] != _COMMA:
        return False
    if rows.raw[at] != _LOWER_Q and rows.raw[at] != _LOWER_N:
        return False
    return forget_depth(st, slot, 0)


@inner
def show_book(
    to: Books, j: int, rows: Rows, i: int, part: int, st: StateArrays, slot: int, out: int, rules: Rules, quiet: bool
) -> int:
    """The top or the state of a book changed: a row now, or at the period's end. How many rows were written."""
    if rules.books == BOOKS_CHANGE:
        if quiet:
            return 0
        put_book(to, j, rows, i, part, st, slot, out, rules.levels)
        return 1
    st.slots[slot]["unshown"] = 1
    return 0


@inner
def pending_bars(st: StateArrays, part: int) -> int:
    """How many bars of a partition wait to be published."""
    n = 0
    for at in range(st.starts[part], st.starts[part + 1]):
        slot = st.order[at]
        n += st.chains[2 * slot]["pending"] + st.chains[2 * slot + 1]["pending"]
    return n


@inner
def clock_level1(
    rows: Rows,
    i: int,
    number: int,
    st: StateArrays,
    part: int,
    link: int,
    rules: Rules,
    bars: Bars,
    n_bars: int,
    books: Books,
    n_books: int,
    quiet: bool,
) -> tuple[int, int]:
    """`T` of Level 1: bars that ended go out by symbol and interval, books of the period too. Rows of each written.

    Outside the session participants' rows that were not sent again expire.
    """
    clock = rows.time.values[i]
    of = st.links[link]
    of["clock"] = clock
    made, shown = 0, 0
    period = False
    if rules.books == BOOKS_PERIOD and clock // rules.period_us > of["shown"]:
        of["shown"] = clock // rules.period_us
        period = True
    closed = NIL if rows.closed.size == 0 else rows.closed[i]
    for at in range(st.starts[part], st.starts[part + 1]):
        slot = st.order[at]
        if st.slots[slot]["link"] != link:
            continue
        for k in range(2):
            p = oldest_pending(st, slot, k)
            while p >= 0:
                if waits(st, p) and st.bars[p]["open_us"] + LENGTHS[k] <= clock:
                    publish(st, slot, k, p)
                    if not quiet:
                        put_bar(bars, n_bars + made, rows, i, number, st, slot, k, p, made)
                        made += 1
                p = st.bars[p]["newer"]
            drop_old(st, slot, k, LENGTHS[k], rules.keep_us, clock)
        if closed != NIL and may_expire(st, slot, closed, clock) and expire_rows(st, slot, closed, clock, rules.levels):
            shown += show_book(books, n_books + shown, rows, i, number, st, slot, shown, rules, quiet)
        if period and st.slots[slot]["unshown"] == 1:
            st.slots[slot]["unshown"] = 0
            if not quiet:
                put_book(books, n_books + shown, rows, i, number, st, slot, shown, rules.levels)
                shown += 1
    return made, shown


@inner
def clock_level2(
    rows: Rows,
    i: int,
    number: int,
    st: StateArrays,
    part: int,
    link: int,
    rules: Rules,
    books: Books,
    n_books: int,
    quiet: bool,
) -> int:
    """`T` of Level 2: begun books are complete, and those of which the feed names nothing. Rows of books written."""
    shown = 0
    for at in range(st.starts[part], st.starts[part + 1]):
        slot = st.order[at]
        if st.slots[slot]["link"] != link:
            continue
        changed = complete(st, slot)
        if changed:
            sweep(st, slot, rules.levels)
        else:
            changed = take_silence(st, slot, rows.recv[i], rules.levels)
        if changed:
            shown += show_book(books, n_books + shown, rows, i, number, st, slot, shown, rules, quiet)
    return shown


@inner
def take_fact(
    fact: Any,
    rows: Rows,
    i: int,
    number: int,
    st: StateArrays,
    part: int,
    link: int,
    slot: int,
    rules: Rules,
    books: Books,
    n_books: int,
    quiet: bool,
) -> int:
    """What ingestion says about connections, watches and gaps. Rows of books written (for books that were emptied)."""
    act, conn = fact["act"], fact["conn"]
    of = st.links[link]
    if slot >= 0:
        row = st.slots[slot]
        changed = False
        if act == FACT_WATCH and conn == 2:
            changed = watch_depth(st, slot)
        elif act == FACT_RESTATE and conn == 2:
            changed = restate_depth(st, slot, rows.recv[i])
        elif act == FACT_UNWATCH and conn == 2:
            changed = forget_depth(st, slot, 1)
        elif act == FACT_UNWATCH and conn == 1:
            row["bid"], row["bid_size"], row["ask"], row["ask_size"] = NIL, NIL, NIL, NIL
        elif act == FACT_GAP_END and conn == 1:
            row["ended1_epoch"], row["ended1_seq"] = fact["epoch"], fact["seq"]
            row["ended1_to"] = fact["time"] if fact["time"] != NIL else of["clock"]
        elif act == FACT_GAP_END and conn == 2:
            row["ended2_epoch"], row["ended2_seq"] = fact["epoch"], fact["seq"]
        if changed:
            return show_book(books, n_books, rows, i, number, st, slot, 0, rules, quiet)
        return 0
    begins = act == FACT_GAP_BEGIN
    if begins and conn == 1:
        of["gap1_epoch"], of["gap1_seq"], of["gap1_from"] = fact["epoch"], fact["seq"], fact["time"]
    elif begins and conn == 2:
        of["gap2_epoch"], of["gap2_seq"] = fact["epoch"], fact["seq"]
    elif act == FACT_GAP_CLOSED and conn == 1:
        of["closed1_epoch"], of["closed1_seq"] = fact["epoch"], fact["seq"]
        of["closed1_to"] = fact["time"] if fact["time"] != NIL else of["clock"]
    elif act == FACT_GAP_CLOSED and conn == 2:
        of["closed2_epoch"], of["closed2_seq"] = fact["epoch"], fact["seq"]
    shown = 0
    for at in range(st.starts[part], st.starts[part + 1]):
        other = st.order[at]
        if st.slots[other]["link"] != link:
            continue
        changed = False
        if conn == 2 and (begins or act == FACT_LOST):
            changed = distrust(st, other)
        elif conn == 2 and act == FACT_CONNECTED:
            changed = reconnect_depth(st, other)
        elif conn == 1 and begins:
            flag_bars(st, other, LENGTHS, fact["time"])
        if changed:
            shown += show_book(books, n_books + shown, rows, i, number, st, other, shown, rules, quiet)
    return shown
