"""The generated market: kernels that draw acts and write the Level 1 rows they cause (depth: order_flow_book.py).

One draw is one act on one symbol, chosen by Zipf weight: a new order (most near the best price, some inside the
spread), an order cancelled, reduced or moved to another price, or a market order that takes from the front of the
best level. Depth rows come first, then the Level 1 row of the same act, so Level 1 bid and ask always are the best
levels of the book. Everything follows from the seed; stamps follow from the times the caller gives.

Stamps rise strictly per symbol and table. A book keeps DEPTH levels a side: a level pushed out is deleted by rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator import order_flow_book as book
from infrastructure.simulator.order_flow_book import DEPTH, N1, N2, N3, NEXT_SECOND, ORDER, STAMP, FlowBook

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
UInt64s = npt.NDArray[np.uint64]

START_LEVELS: Final = 6
CENT: Final = 100
ROWS_PER_ACT: Final = 3  # at most two level rows and one Level 1 row
ENTRY_ROWS_PER_ACT: Final = book.ENTRY_ROWS_PER_ACT
CENTERS: Final = np.array([5, 11, 18, 26, 19], dtype=np.int64)  # NASDAQ, Arca, BATS, EDGX; the last: TRF, form-T
FORM_T_CENTER: Final = 4

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@njit(cache=True, error_model="numpy")
def uniform(rng: UInt64s) -> float:
    """The next number in [0, 1) of the generator whose state is rng[0] (splitmix64)."""
    rng[0] += _GAMMA
    z = rng[0]
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    z ^= z >> _S31
    return float(z >> _S11) * 1.1102230246251565e-16


@njit(cache=True, error_model="numpy")
def below(rng: UInt64s, limit: int) -> int:
    """A whole number in [0, limit)."""
    return int(uniform(rng) * limit)


@njit(cache=True, error_model="numpy")
def geometric(rng: UInt64s, more: float, limit: int) -> int:
    """How often `more` came true in a row, at most `limit`."""
    n = 0
    while n < limit and uniform(rng) < more:
        n += 1
    return n


@njit(cache=True, error_model="numpy")
def order_size(rng: UInt64s) -> int:
    """Shares of one order: round lots, one in seven an odd lot."""
    if uniform(rng) < 0.14:
        return 1 + below(rng, 99)
    return 100 * (1 + geometric(rng, 0.55, 20))


@njit(cache=True, error_model="numpy")
def civil_day(day: int) -> int:
    """Day of the month of a day number (0 = 1970-01-01)."""
    days = day + 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    return of_year - (153 * shifted + 2) // 5 + 1


@njit(cache=True, error_model="numpy")
def open_books(rng: UInt64s, start_us: int, state: Int64s, b: FlowBook, anchor: Int64s) -> None:
    """Fill the books and the Level 1 state of every symbol as they stand before the first act."""
    for s in range(state.shape[0]):
        state[s, :] = c.NONE
        middle = CENT * (2_000 + below(rng, 48_000))
        anchor[s] = middle
        for side in range(2):
            b.taken[s, side] = b.levels[s, side] = 0
            b.queue[s, side, :] = np.arange(DEPTH)
            step = -CENT if side == c.BID else CENT
            price = middle + (0 if side == c.BID else CENT)
            for i in range(START_LEVELS):
                book.open_level(b, s, side, i, price)
                for _ in range(1 + geometric(rng, 0.6, 8)):
                    book.join(b, s, side, i, order_size(rng), below(rng, c.PARTICIPANTS))
                price += step * (1 + geometric(rng, 0.2, 3))
        row = state[s]
        row[c.SYM], row[c.SRC], row[c.KIND], row[c.TIME] = s, 0, c.QUOTE, start_us
        row[c.BID_TIME] = row[c.ASK_TIME] = start_us
        # The last trade is yesterday's, after the close, as on any morning.
        evening = (start_us // c.DAY_US) * c.DAY_US - 4 * 3600 * c.SECOND_US - 1 - below(rng, 2 * c.SECOND_US)
        row[c.CLOSE] = row[c.LAST_PRICE] = row[c.RECENT_PRICE] = row[c.EXTENDED_PRICE] = middle
        row[c.RECENT_SIZE] = row[c.LAST_SIZE] = row[c.EXTENDED_SIZE] = 100
        row[c.RECENT_TIME] = row[c.LAST_TIME] = row[c.EXTENDED_TIME] = evening
        row[c.RECENT_CENTER] = row[c.LAST_CENTER] = row[c.EXTENDED_CENTER] = CENTERS[FORM_T_CENTER]
        row[c.RECENT_CONDITIONS] = c.FORM_T
        row[c.AGGRESSOR] = 0
        row[c.DAY_CODE] = civil_day(start_us // c.DAY_US - 1)
        row[c.TICK_ID] = 1 + below(rng, 50_000)
        row[c.TOTAL_VOLUME] = row[c.TRADES_TODAY] = row[c.TURNOVER] = 0
        row[c.TICK] = 183
        row[c.CONTENTS] = 0
        show_best(row, s, b)


@njit(cache=True, error_model="numpy")
def show_best(row: Int64s, s: int, b: FlowBook) -> None:
    """Copy the best levels of the book into a Level 1 row."""
    row[c.BID_PRICE] = b.price[s, c.BID, 0] if b.levels[s, c.BID] else c.NONE
    row[c.BID_SIZE] = b.size[s, c.BID, 0] if b.levels[s, c.BID] else c.NONE
    row[c.ASK_PRICE] = b.price[s, c.ASK, 0] if b.levels[s, c.ASK] else c.NONE
    row[c.ASK_SIZE] = b.size[s, c.ASK, 0] if b.levels[s, c.ASK] else c.NONE


@njit(cache=True, error_model="numpy")
def put_clock_rows(out1: Int64s, out2: Int64s, out3: Int64s, at: Int64s, clock: Int64s, until: int) -> None:
    """Append a clock row per whole second up to `until` to every table, as far as there is room."""
    while clock[NEXT_SECOND] <= until and at[N1] < out1.shape[0] and at[N2] < out2.shape[0] and at[N3] < out3.shape[0]:
        for row in (out1[at[N1]], out2[at[N2]], out3[at[N3]]):
            row[c.KIND], row[c.SYM], row[c.SRC] = c.CLOCK, -1, 0
            row[c.ORD], row[c.TIME] = clock[ORDER], clock[NEXT_SECOND]
        clock[ORDER] += 1
        clock[NEXT_SECOND] += c.SECOND_US
        at[N1] += 1
        at[N2] += 1
        at[N3] += 1


@njit(cache=True, error_model="numpy")
def record_trade(
    row: Int64s, ticks: Int64s, time: int, day: int, price: int, size: int, aggressor: int, basis: int, center: int
) -> int:
    """Write a trade into a Level 1 row; returns the contents bits it changed. `ticks` is the symbol's row."""
    ticks[center] += 1
    row[c.TICK_ID] = ticks[center]
    contents = basis | c.HAS_VOLUME
    odd = size < 100
    if price > row[c.RECENT_PRICE]:
        row[c.TICK] = 173
    elif price < row[c.RECENT_PRICE]:
        row[c.TICK] = 175
    else:
        row[c.TICK] = 183
    row[c.RECENT_PRICE], row[c.RECENT_SIZE], row[c.RECENT_TIME] = price, size, time
    row[c.RECENT_CENTER], row[c.AGGRESSOR], row[c.DAY_CODE] = CENTERS[center], aggressor, civil_day(day)
    row[c.TOTAL_VOLUME] += size
    row[c.TURNOVER] += size * price
    row[c.TRADES_TODAY] += 1
    if basis == c.HAS_EXTENDED:
        row[c.RECENT_CONDITIONS] = c.FORM_T_ODD if odd else c.FORM_T
        row[c.EXTENDED_PRICE], row[c.EXTENDED_SIZE] = price, size
        row[c.EXTENDED_TIME], row[c.EXTENDED_CENTER] = time, CENTERS[center]
    elif basis == c.HAS_OTHER:
        row[c.RECENT_CONDITIONS] = c.ODD_LOT
    else:
        row[c.RECENT_CONDITIONS] = c.REGULAR
        row[c.LAST_PRICE], row[c.LAST_SIZE], row[c.LAST_TIME], row[c.LAST_CENTER] = price, size, time, CENTERS[center]
        if row[c.OPEN] == c.NONE:
            row[c.OPEN] = price
            contents |= c.HAS_OPEN
        if row[c.HIGH] == c.NONE or price > row[c.HIGH]:
            row[c.HIGH] = price
            contents |= c.HAS_HIGH
        if row[c.LOW] == c.NONE or price < row[c.LOW]:
            row[c.LOW] = price
            contents |= c.HAS_LOW
    return contents


@njit(cache=True, error_model="numpy")
def roll_day(row: Int64s, ticks: Int64s) -> None:
    """A new trading day: volume, extremes and tick ids start anew; the close is yesterday's last."""
    row[c.CLOSE] = row[c.LAST_PRICE]
    row[c.TOTAL_VOLUME] = row[c.TRADES_TODAY] = row[c.TURNOVER] = 0
    row[c.OPEN] = row[c.HIGH] = row[c.LOW] = c.NONE
    ticks[:] = 0


@njit(cache=True, error_model="numpy")
def add_order(
    rng: UInt64s, out2: Int64s, out3: Int64s, at: Int64s, s: int, side: int, clock: Int64s, b: FlowBook, deep: bool
) -> int:
    """A new order on one side; `deep` = behind the best level and one level row only. Returns its place in the book."""
    depth = b.levels[s, side]
    away = -CENT if side == c.BID else CENT
    if deep:
        price = b.price[s, side, depth - 1] + (away if depth == 1 else 0)
    else:
        best, other = b.price[s, side, 0], b.price[s, 1 - side, 0]
        room = abs(best - other) // CENT
        if room > 1 and uniform(rng) < 0.4:
            price = best - away * (1 + below(rng, room - 1))
        else:
            price = best + away * geometric(rng, 0.62, 14)
        if price < CENT:
            price = best
    return int(book.enter(b, out2, out3, at, clock, s, side, price, order_size(rng), below(rng, c.PARTICIPANTS)))


@njit(cache=True, error_model="numpy")
def withdraw(
    rng: UInt64s, out2: Int64s, out3: Int64s, at: Int64s, s: int, side: int, clock: Int64s, b: FlowBook
) -> int:
    """An order is cancelled, reduced, or moved to another level. Returns the best place that changed."""
    place = min(geometric(rng, 0.6, DEPTH), b.levels[s, side] - 1)
    k = below(rng, b.held[s, side, place])
    if uniform(rng) < 0.15:
        to = min(geometric(rng, 0.6, DEPTH), b.levels[s, side] - 1)
        # A participant who moves must not close a level: the levels that may yet come would lack one.
        stays = b.by_order[s] or b.held[s, side, place] > 1
        if to != place and stays and b.held[s, side, to] < book.QUEUE:
            return int(min(place, book.move(b, out2, out3, at, clock, s, side, place, k, to)))
    shares = b.entries[s, side, b.queue[s, side, place], k, book.SHARES]
    if shares > 1 and uniform(rng) < 0.3:
        shares = 1 + below(rng, shares - 1)
    book.cancel(b, out2, out3, at, clock, s, side, place, k, shares)
    return int(place)


@njit(cache=True, error_model="numpy")
def generate(
    rng: UInt64s,
    alias_keep: Float64s,
    alias_other: Int64s,
    state: Int64s,
    b: FlowBook,
    anchor: Int64s,
    stamps: Int64s,
    days: Int64s,
    ticks: Int64s,
    clock: Int64s,
    start_us: float,
    first_line: int,
    step_us: float,
    jitter_us: float,
    wanted: int,
    remaining: int,
    out1: Int64s,
    out2: Int64s,
    out3: Int64s,
    at: Int64s,
) -> int:
    """Draw acts until at least `wanted` lines are made, never more than `remaining`; returns the lines.

    A line is a Level 1 or a level row; the rows of depth by order (`out3`) go beside them and are not counted. `at`
    receives the rows of each table. Line k of the call happens at start_us + (first_line + k) * step_us, up to
    jitter_us earlier. Stops early when a table is full.
    """
    at[:] = 0
    lines = 0
    symbols = state.shape[0]
    while lines < wanted:
        if (
            at[N1] + 2 > out1.shape[0]
            or at[N2] + ROWS_PER_ACT > out2.shape[0]
            or at[N3] + ENTRY_ROWS_PER_ACT > out3.shape[0]
        ):
            break
        drawn = rng[0]
        now = int(start_us + (first_line + lines) * step_us - uniform(rng) * jitter_us)
        if clock[NEXT_SECOND] <= now:
            put_clock_rows(out1, out2, out3, at, clock, now)
            rng[0] = drawn  # the act is drawn again: what follows from the seed never depends on full tables
            continue
        column = below(rng, symbols)
        s = column if uniform(rng) < alias_keep[column] else alias_other[column]
        row = state[s]
        if now // c.DAY_US != days[s]:
            if days[s] >= 0:
                roll_day(row, ticks[s])
            days[s] = now // c.DAY_US
        at[STAMP] = max(now - 1, stamps[s, 1])
        side = c.BID if uniform(rng) < 0.5 else c.ASK
        act = uniform(rng)
        before = at[N2]
        contents = 0
        if remaining - lines < ROWS_PER_ACT:
            place = add_order(rng, out2, out3, at, s, side, clock, b, True)
        elif act < 0.10 and b.levels[s, side] > 1:
            # A market order takes from the best level of `side`; the drift back to the first price keeps prices sane.
            pull = (b.price[s, side, 0] - anchor[s]) / (anchor[s] * 0.02)
            if (side == c.ASK and uniform(rng) < pull) or (side == c.BID and uniform(rng) < -pull):
                side = c.BID if side == c.ASK else c.ASK
            if b.levels[s, side] < 2:
                place = add_order(rng, out2, out3, at, s, side, clock, b, True)
            else:
                place = 0
                shares = min(order_size(rng), b.size[s, side, 0])
                price = b.price[s, side, 0]
                book.consume(b, out2, out3, at, clock, s, side, 0, shares)
                kind = uniform(rng)
                basis, center = c.HAS_LAST, below(rng, FORM_T_CENTER)
                if kind < 0.03:
                    basis, center = c.HAS_EXTENDED, FORM_T_CENTER
                elif shares < 100 and kind < 0.9:
                    basis = c.HAS_OTHER
                contents = record_trade(
                    row,
                    ticks[s],
                    max(now, stamps[s, 0] + 1),
                    days[s],
                    price,
                    shares,
                    1 if side == c.ASK else 2,
                    basis,
                    center,
                )
        elif act < 0.10 + 0.02 * (b.levels[s, side] + 12) and b.levels[s, side] > 2:
            place = withdraw(rng, out2, out3, at, s, side, clock, b)
        else:
            place = add_order(rng, out2, out3, at, s, side, clock, b, False)
        stamps[s, 1] = at[STAMP]
        lines += at[N2] - before
        if place == 0:
            time = max(now, stamps[s, 0] + 1)
            stamps[s, 0] = time
            show_best(row, s, b)
            row[c.BID_TIME if side == c.BID else c.ASK_TIME] = time
            row[c.KIND] = c.TRADE if contents else c.QUOTE
            row[c.TIME], row[c.ORD] = time, clock[ORDER]
            row[c.CONTENTS] = contents | (c.HAS_BID if side == c.BID else c.HAS_ASK)
            clock[ORDER] += 1
            out1[at[N1], :] = row
            at[N1] += 1
            lines += 1
    return lines
