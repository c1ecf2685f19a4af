"""One pass over a batch of events: state in, rows of the derived topics out, nothing else.

Rows are taken strictly one after the other; a row touches only the state of its partition, and before it changes
anything the pass makes sure that there is room for all it may write. Where there is none it stops before that row and
says what is missing; the caller makes room and goes on at the same row. So results depend neither on the cut into
batches nor on which partitions share one.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.market.events import BASES, EVENTS, KIND, PORT, enum_symbols
from pipeline_orchestrator.processing.bar_chains import room_for_bars
from pipeline_orchestrator.processing.borrow import borrowed
from pipeline_orchestrator.processing.columns import Rows, present
from pipeline_orchestrator.processing.corrections import correction_row, room_for_trade
from pipeline_orchestrator.processing.emit import Bars, Books, Features, feature_row
from pipeline_orchestrator.processing.layout import (
    C_NO_SYMBOL,
    C_REPEATS,
    Array,
    Rules,
    StateArrays,
    source_digest,
)
from pipeline_orchestrator.processing.levels import room_for_level
from pipeline_orchestrator.processing.orders import room_for_order
from pipeline_orchestrator.processing.rows import (
    clock_level1,
    clock_level2,
    depth_row,
    no_depth,
    pending_bars,
    quote_row,
    show_book,
    take_fact,
    trade_row,
)
from pipeline_orchestrator.processing.trust import attach

# What a pass answers: the row it stopped at, and why.
DONE, NEED_LEVELS, NEED_BARS, NEED_BOOK_ROWS, NEED_BAR_ROWS, NEED_TOO_LATE, NEED_ORDERS, NEED_TRADES = range(8)

# cursor[...]: where the outputs stand.
N_FEATURES, N_BOOKS, N_BARS, N_TOO_LATE, N_FACTS = range(5)
CURSOR_SIZE: Final = 5

_TRADE, _QUOTE = KIND["trade"], KIND["quote"]
_ORDER_ADD, _ORDER_CHANGE = KIND["order_add"], KIND["order_change"]
_LEVEL_SET, _DEPTH_CLEAR = KIND["level_set"], KIND["depth_clear"]
_CORRECTION = KIND["correction"]
_CLOCK, _CONNECTED, _GAP, _OTHER = KIND["clock"], KIND["connected"], KIND["gap"], KIND["other"]
_LEVEL1, _LEVEL2 = PORT["level1"], PORT["level2"]
assert (_TRADE, _QUOTE, _ORDER_ADD, _DEPTH_CLEAR) == (1, 2, 3, 8), "trade, quote and depth events are 1..8"
assert BASES == ("C", "E", "O"), "rows.py reads basis by its code"
assert enum_symbols(EVENTS)["correction"] == ("I", "X"), "corrections.py reads correction by its code"

DIGEST: Final = source_digest(
    tuple(
        f"pipeline_orchestrator.processing.{name}"
        for name in (
            "layout",
            "borrow",
            "columns",
            "measures",
            "levels",
            "trust",
            "bar_chains",
            "corrections",
            "emit",
            "rows",
            "orders",
            "order_book",
            "restate",
            "inner",
        )
    )
)


def _build(digest: str) -> Any:  # Any: numba's dispatcher
    """The kernel, bound to the sources it was made from (see layout.source_digest)."""

    @njit(cache=True, error_model="numpy")
    def kernel(
        start: int,
        rows: Rows,
        runs: Array,
        parts: Array,
        facts: Array,
        st: StateArrays,
        rules: Rules,
        features: Features,
        bars: Bars,
        books: Books,
        too_late: Array,
        cursor: Array,
    ) -> Any:
        assert digest
        rows, runs, facts, st = borrowed(rows), borrowed(runs), borrowed(facts), borrowed(st)
        features, bars, books = borrowed(features), borrowed(bars), borrowed(books)
        too_late, cursor = borrowed(too_late), borrowed(cursor)
        for r in range(runs.shape[0]):
            part = runs[r, 2]
            number = parts[part]
            for i in range(max(start, runs[r, 0]), runs[r, 1]):
                kind = rows.kind[i]
                is_fact = _CONNECTED <= kind <= _GAP
                link = rows.link[i]
                of = st.links[link]
                epoch, seq, idx = rows.epoch[i], rows.seq[i], rows.idx[i]
                if of["marked"] == 1 and (
                    epoch < of["epoch"]
                    or (epoch == of["epoch"] and (seq < of["seq"] or (seq == of["seq"] and idx <= of["idx"])))
                ):
                    st.counts[C_REPEATS] += 1
                    if is_fact:
                        cursor[N_FACTS] += 1
                    continue
                slot = rows.slot[i]
                # Room for everything this row may write, before anything changes.
                if kind in (_TRADE, _CORRECTION):
                    if not room_for_bars(st):
                        return i, NEED_BARS
                    if not room_for_trade(st):
                        return i, NEED_TRADES
                    if too_late.shape[0] == cursor[N_TOO_LATE]:
                        return i, NEED_TOO_LATE
                elif slot >= 0 and (kind == _LEVEL_SET or _ORDER_ADD <= kind <= _ORDER_CHANGE):
                    if not (room_for_level(st, slot, 0) and room_for_level(st, slot, 1)):
                        return i, NEED_LEVELS
                    if kind != _LEVEL_SET and not room_for_order(st):
                        return i, NEED_ORDERS
                shown = 0
                if _ORDER_ADD <= kind <= _DEPTH_CLEAR or kind == _OTHER:
                    shown = 1
                elif kind == _CLOCK or is_fact:
                    shown = st.starts[part + 1] - st.starts[part]
                if rules.books != 0 and books.i64.shape[1] - cursor[N_BOOKS] < shown:
                    return i, NEED_BOOK_ROWS
                if (
                    kind == _CLOCK
                    and rows.port[i] == _LEVEL1
                    and bars.i64.shape[1] - cursor[N_BARS] < pending_bars(st, part)
                ):
                    return i, NEED_BAR_ROWS
                of["marked"], of["epoch"], of["seq"], of["idx"] = 1, epoch, seq, idx
                quiet = epoch < of["quiet_epoch"] or (
                    epoch == of["quiet_epoch"]
                    and (seq < of["quiet_seq"] or (seq == of["quiet_seq"] and idx <= of["quiet_idx"]))
                )
                if _TRADE <= kind <= _DEPTH_CLEAR:
                    if slot < 0:
                        st.counts[C_NO_SYMBOL] += 1
                        continue
                    attach(st, slot, link)
                    changed = False
                    if kind == _TRADE:
                        late = trade_row(rows, i, st, slot, rules)
                        if late != 0:  # a quiet one, too: which bars were told of is state
                            at = cursor[N_TOO_LATE]
                            too_late[at, 0], too_late[at, 1], too_late[at, 2] = i, slot, late
                            too_late[at, 3] = 0 if quiet else 1
                            cursor[N_TOO_LATE] = at + 1
                    elif kind == _QUOTE:
                        quote_row(rows, i, st, slot)
                    else:
                        changed = depth_row(rows, i, st, slot, rules.levels)
                    feature_row(features, cursor[N_FEATURES], rows, i, number, st, slot, rules, quiet)
                    if not quiet:
                        cursor[N_FEATURES] += 1
                    if changed:
                        cursor[N_BOOKS] += show_book(books, cursor[N_BOOKS], rows, i, number, st, slot, 0, rules, quiet)
                elif kind == _CORRECTION:
                    if slot < 0:
                        st.counts[C_NO_SYMBOL] += 1
                        continue
                    attach(st, slot, link)
                    late = correction_row(rows, i, st, slot, rules)
                    if late != 0 and not quiet:
                        at = cursor[N_TOO_LATE]
                        too_late[at, 0], too_late[at, 1], too_late[at, 2], too_late[at, 3] = i, slot, late, 1
                        cursor[N_TOO_LATE] = at + 1
                elif kind == _CLOCK:
                    if rows.port[i] == _LEVEL1 and present(rows.time.bits, i):
                        made, shown = clock_level1(
                            rows, i, number, st, part, link, rules, bars, cursor[N_BARS], books, cursor[N_BOOKS], quiet
                        )
                        cursor[N_BARS] += made
                        cursor[N_BOOKS] += shown
                    elif rows.port[i] == _LEVEL2:
                        cursor[N_BOOKS] += clock_level2(
                            rows, i, number, st, part, link, rules, books, cursor[N_BOOKS], quiet
                        )
                elif is_fact:
                    fact = facts[cursor[N_FACTS]]
                    cursor[N_FACTS] += 1
                    if slot >= 0:
                        attach(st, slot, link)
                    cursor[N_BOOKS] += take_fact(
                        fact, rows, i, number, st, part, link, slot, rules, books, cursor[N_BOOKS], quiet
                    )
                    fact["done"] = 2 if quiet else 1
                elif kind == _OTHER and slot >= 0:
                    attach(st, slot, link)
                    if rows.port[i] == _LEVEL2 and no_depth(rows, i, st, slot):
                        cursor[N_BOOKS] += show_book(books, cursor[N_BOOKS], rows, i, number, st, slot, 0, rules, quiet)
        return rows.kind.size, DONE

    return kernel


process_rows = _build(DIGEST)
