"""The kernel of a replay: successive rows of a vendor's book file become depth and Level 1 rows.

Per vendor row: the trade (types 4 and 5), then the price levels that differ from the row before (levels that are
gone, then levels that are new or changed), then a quote where the best bid or ask differs in price or size.
Row 1 is where the book starts: it is shown by the first `P` and `7` lines and makes no difference rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator.replay_order_book import OrderBook
from infrastructure.simulator.replay_orders import order_rows, rows_needed

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]

NASDAQ: Final = 5
LEVEL1_ROWS: Final = 2  # at most, per vendor row
MISSING: Final = 9_999_999_999

NONE, DAY_US = c.NONE, c.DAY_US
KIND, SYM, SRC, ORD, TIME = c.KIND, c.SYM, c.SRC, c.ORD, c.TIME
SIDE, PRICE, SIZE, COUNT, BID, ASK = c.SIDE, c.PRICE, c.SIZE, c.COUNT, c.BID, c.ASK
CLOCK, QUOTE, TRADE, LEVEL_SET, LEVEL_DELETE = c.CLOCK, c.QUOTE, c.TRADE, c.LEVEL_SET, c.LEVEL_DELETE
BID_PRICE, BID_SIZE, BID_TIME = c.BID_PRICE, c.BID_SIZE, c.BID_TIME
ASK_PRICE, ASK_SIZE, ASK_TIME = c.ASK_PRICE, c.ASK_SIZE, c.ASK_TIME
RECENT_PRICE, RECENT_SIZE, RECENT_TIME = c.RECENT_PRICE, c.RECENT_SIZE, c.RECENT_TIME
RECENT_CENTER, RECENT_CONDITIONS = c.RECENT_CENTER, c.RECENT_CONDITIONS
AGGRESSOR, DAY_CODE, TICK_ID = c.AGGRESSOR, c.DAY_CODE, c.TICK_ID
LAST_PRICE, LAST_SIZE, LAST_TIME, LAST_CENTER = c.LAST_PRICE, c.LAST_SIZE, c.LAST_TIME, c.LAST_CENTER
TOTAL_VOLUME, OPEN, HIGH, LOW = c.TOTAL_VOLUME, c.OPEN, c.HIGH, c.LOW
TRADES_TODAY, TURNOVER, TICK, CONTENTS = c.TRADES_TODAY, c.TURNOVER, c.TICK, c.CONTENTS
HAS_LAST, HAS_BID, HAS_ASK, HAS_VOLUME = c.HAS_LAST, c.HAS_BID, c.HAS_ASK, c.HAS_VOLUME
HAS_OPEN, HAS_HIGH, HAS_LOW, REGULAR = c.HAS_OPEN, c.HAS_HIGH, c.HAS_LOW, c.REGULAR


@njit(cache=True, error_model="numpy")
def take_book(vendor: Int64s, s: int, price: Int64s, size: Int64s, count: Int64s, levels: Int64s) -> None:
    """Copy a vendor row into the books, missing levels left out; every level counts one order."""
    for side in range(2):
        n = 0
        for i in range(vendor.size // 4):
            at = vendor[4 * i + (2 if side == BID else 0)]
            shares = vendor[4 * i + (3 if side == BID else 1)]
            if at not in (MISSING, -MISSING) and shares > 0:
                price[s, side, n], size[s, side, n], count[s, side, n] = at, shares, 1
                n += 1
        levels[s, side] = n


@njit(cache=True, error_model="numpy")
def show_best(row: Int64s, s: int, price: Int64s, size: Int64s, levels: Int64s, time: int) -> int:
    """Bring a Level 1 row to the best levels of the book; returns the contents bits of what differed."""
    changed = 0
    bid, bid_size, ask, ask_size = NONE, NONE, NONE, NONE
    if levels[s, BID] > 0:
        bid, bid_size = price[s, BID, 0], size[s, BID, 0]
    if levels[s, ASK] > 0:
        ask, ask_size = price[s, ASK, 0], size[s, ASK, 0]
    if bid != row[BID_PRICE] or bid_size != row[BID_SIZE]:
        row[BID_PRICE], row[BID_SIZE], row[BID_TIME] = bid, bid_size, time
        changed |= HAS_BID
    if ask != row[ASK_PRICE] or ask_size != row[ASK_SIZE]:
        row[ASK_PRICE], row[ASK_SIZE], row[ASK_TIME] = ask, ask_size, time
        changed |= HAS_ASK
    return changed


@njit(cache=True, error_model="numpy")
def record_trade(row: Int64s, time: int, price: int, size: int, direction: int, day_code: int) -> None:
    """Write an execution into a Level 1 row. `direction` is the resting side: -1 ask, so the buyer was aggressive."""
    contents = HAS_LAST | HAS_VOLUME
    if row[RECENT_PRICE] == NONE or price == row[RECENT_PRICE]:
        row[TICK] = 183
    else:
        row[TICK] = 173 if price > row[RECENT_PRICE] else 175
    row[RECENT_PRICE] = row[LAST_PRICE] = price
    row[RECENT_SIZE] = row[LAST_SIZE] = size
    row[RECENT_TIME] = row[LAST_TIME] = time
    row[RECENT_CENTER] = row[LAST_CENTER] = NASDAQ
    row[RECENT_CONDITIONS] = REGULAR
    row[AGGRESSOR] = 1 if direction == -1 else 2
    row[DAY_CODE] = day_code
    row[TICK_ID] = 1 if row[TICK_ID] == NONE else row[TICK_ID] + 1
    row[TOTAL_VOLUME] += size
    row[TURNOVER] += size * price
    row[TRADES_TODAY] += 1
    if row[OPEN] == NONE:
        row[OPEN] = price
        contents |= HAS_OPEN
    if row[HIGH] == NONE or price > row[HIGH]:
        row[HIGH] = price
        contents |= HAS_HIGH
    if row[LOW] == NONE or price < row[LOW]:
        row[LOW] = price
        contents |= HAS_LOW
    row[CONTENTS] = contents


@njit(cache=True, error_model="numpy")
def differences(
    vendor: Int64s, s: int, src: int, time: int, stamps: Int64s, order: Int64s,
    price: Int64s, size: Int64s, levels: Int64s, out: Int64s, n: int,
) -> int:  # fmt: skip
    """Depth rows from the book as it is to a vendor row: levels gone, then levels new or changed. Returns rows."""
    width = vendor.size // 4
    for side in range(2):
        for i in range(levels[s, side]):
            kept = False
            for k in range(width):
                at = vendor[4 * k + (2 if side == BID else 0)]
                if at == price[s, side, i] and vendor[4 * k + (3 if side == BID else 1)] > 0:
                    kept = True
            if not kept:
                n = _put(out, n, LEVEL_DELETE, s, src, side, price[s, side, i], 0, 0, time, stamps, order)
    for side in range(2):
        for k in range(width):
            at = vendor[4 * k + (2 if side == BID else 0)]
            shares = vendor[4 * k + (3 if side == BID else 1)]
            if at in (MISSING, -MISSING) or shares <= 0:
                continue
            same = False
            for i in range(levels[s, side]):
                if price[s, side, i] == at and size[s, side, i] == shares:
                    same = True
            if not same:
                n = _put(out, n, LEVEL_SET, s, src, side, at, shares, 1, time, stamps, order)
    return n


@njit(cache=True, error_model="numpy")
def _put(
    out: Int64s, n: int, kind: int, s: int, src: int, side: int, price: int, size: int, count: int, time: int,
    stamps: Int64s, order: Int64s,
) -> int:  # fmt: skip
    row = out[n]
    stamp = max(time, stamps[s, 1] + 1)
    stamps[s, 1] = stamp
    row[KIND], row[SYM], row[SRC], row[ORD], row[TIME] = kind, s, src, order[0], stamp
    row[SIDE], row[PRICE], row[SIZE], row[COUNT] = side, price, size, count
    row[c.PRIORITY], row[c.MAKER] = 0, -1
    order[0] += 1
    return n + 1


@njit(cache=True, error_model="numpy")
def replay(
    first: int,
    last: int,
    step_time: Int64s,
    step_symbol: Int64s,
    step_row: Int64s,
    kinds: Int64s,
    sizes: Int64s,
    prices: Int64s,
    directions: Int64s,
    vendor: Int64s,
    base: Int64s,
    day_codes: Int64s,
    book_times: Int64s,
    state: Int64s,
    stamps: Int64s,
    order: Int64s,
    price: Int64s,
    size: Int64s,
    count: Int64s,
    levels: Int64s,
    by_order: bool,
    orders: OrderBook,
    out1: Int64s,
    out2: Int64s,
    out3: Int64s,
    at: Int64s,
) -> tuple[int, int, int]:
    """Rows of steps [first, last), fewer where a table would overflow: (next step, rows 1, rows 2).

    `out3` gets the depth by order where it is kept, at[0] its rows; every clock row goes to all three.

    A step is a vendor row, or a whole second (symbol -1). `base[s]` is the first row of symbol s in the joined
    vendor arrays; `book_times[s]` becomes the time of its newest row. A step's rows are never split over two calls.
    """
    n1 = n2 = at[0] = 0
    most = 4 * price.shape[2]
    for step in range(first, last):
        if n1 + LEVEL1_ROWS > out1.shape[0] or n2 + most > out2.shape[0]:
            return step, n1, n2
        s, time = step_symbol[step], step_time[step]
        need = rows_needed(orders, s, vendor[step_row[step]]) if by_order and s >= 0 else 1
        if at[0] + need > out3.shape[0]:
            return step, n1, n2
        if s < 0:
            for row in (out1[n1], out2[n2], out3[at[0]]):
                row[KIND], row[SYM], row[SRC], row[ORD], row[TIME] = CLOCK, -1, 0, order[0], time
            order[0] += 1
            n1 += 1
            n2 += 1
            at[0] += 1
            continue
        r = step_row[step]
        src = r - base[s] + 1
        row = state[s]
        book_times[s] = time
        if kinds[r] == 4 or kinds[r] == 5:
            stamp = max(time, stamps[s, 0] + 1)
            stamps[s, 0] = stamp
            record_trade(row, stamp, prices[r], sizes[r], directions[r], day_codes[s])
            row[KIND], row[SYM], row[SRC], row[ORD], row[TIME] = TRADE, s, src, order[0], stamp
            order[0] += 1
            out1[n1, :] = row
            n1 += 1
        if src == 1:
            continue
        if by_order:
            at[1], at[2], at[3] = max(time - 1, stamps[s, 2]), order[0], src
            order_rows(orders, s, r, src, kinds[r], sizes[r], prices[r], directions[r], vendor[r], out3, at)
            stamps[s, 2] = at[1]
            order[0] += 1
        n2 = differences(vendor[r], s, src, time, stamps, order, price, size, levels, out2, n2)
        take_book(vendor[r], s, price, size, count, levels)
        stamp = max(time, stamps[s, 0] + 1)
        changed = show_best(row, s, price, size, levels, stamp)
        if changed:
            stamps[s, 0] = stamp
            row[KIND], row[SYM], row[SRC], row[ORD], row[TIME] = QUOTE, s, src, order[0], stamp
            row[CONTENTS] = changed
            order[0] += 1
            out1[n1, :] = row
            n1 += 1
    return last, n1, n2
