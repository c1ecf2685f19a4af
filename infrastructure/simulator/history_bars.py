"""Bars from kept trades, as the vendor's own: of C and E trades only, none where there are none.

Seconds bars begin at multiples of their length counted from midnight. Volume and tick bars are counted from the
first trade of each trading day among those given; a trade is never split, so a volume bar may exceed its length.
The last bar may be unfinished. Weeks (Monday to Sunday) and months are made of daily bars and stamped with their
last day that has one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from infrastructure.simulator import history_days as days
from infrastructure.simulator.history_trades import BASIS_MASK, DAY, MARKS, PRICE, SIZE, TIME, TOTAL
from infrastructure.simulator.market import Int64s

# Columns of an interval bar.
BEGIN: Final = 0  # microseconds: of the interval, or of a volume or tick bar's first trade
END: Final = 1  # of the interval, or of the last trade
HIGH: Final = 2
LOW: Final = 3
OPEN: Final = 4
CLOSE: Final = 5
BAR_TOTAL: Final = 6  # total volume of the bar's last C or E trade
PERIOD: Final = 7  # volume of its C and E trades
TRADES: Final = 8  # number of them; 0 except in tick bars
COLUMNS: Final = 9

SECONDS: Final = 0
VOLUME: Final = 1
TICKS: Final = 2

_DAY_US: Final = 86_400_000_000
_COUNTED: Final = 3  # columns.HAS_LAST | HAS_EXTENDED


def interval_bars(trades: Int64s, kind: int, length: int) -> Int64s:
    """Bars of trades [column, row], oldest first; `length` in seconds, shares or trades. A table [row, column]."""
    out: Int64s = np.empty((trades.shape[1], COLUMNS), dtype=np.int64)
    made: Int64s = out[: cut_bars(np.ascontiguousarray(trades), kind, length, out)]
    return made


@njit(cache=True, error_model="numpy")
def cut_bars(trades: Int64s, kind: int, length: int, out: Int64s) -> int:
    """See interval_bars. Returns the number of bars."""
    n, day, counted = -1, -1, 0
    for i in range(trades.shape[1]):
        if trades[MARKS, i] & BASIS_MASK & _COUNTED == 0:
            continue
        time, price = trades[TIME, i], trades[PRICE, i]
        begin, end = time, time
        if kind == SECONDS:
            midnight = time - time % _DAY_US
            begin = midnight + (time - midnight) // (length * 1_000_000) * (length * 1_000_000)
            end = begin + length * 1_000_000
        if n < 0:
            fresh = True
        elif kind == SECONDS:
            fresh = begin != out[n, BEGIN]
        elif kind == VOLUME:
            fresh = trades[DAY, i] != day or out[n, PERIOD] >= length
        else:
            fresh = trades[DAY, i] != day or counted >= length
        day = trades[DAY, i]
        if fresh:
            n, counted = n + 1, 0
            out[n, BEGIN] = begin
            out[n, HIGH] = out[n, LOW] = out[n, OPEN] = price
            out[n, PERIOD] = 0
        counted += 1
        out[n, END] = end
        out[n, HIGH], out[n, LOW] = max(out[n, HIGH], price), min(out[n, LOW], price)
        out[n, CLOSE], out[n, BAR_TOTAL] = price, trades[TOTAL, i]
        out[n, PERIOD] += trades[SIZE, i]
        out[n, TRADES] = counted if kind == TICKS else 0
    return n + 1


def weeks(daily: Int64s) -> Int64s:
    """Weekly bars of daily bars (history_days), oldest first."""
    return _joined(daily, (daily[:, days.DAY_STAMP] + 3) // 7)  # 1970-01-01 was a Thursday


def months(daily: Int64s) -> Int64s:
    """Monthly bars of daily bars (history_days), oldest first."""
    return _joined(daily, daily[:, days.DAY_STAMP].astype("datetime64[D]").astype("datetime64[M]").astype(np.int64))


def _joined(daily: Int64s, period: Int64s) -> Int64s:
    if not len(daily):
        return daily
    first = np.flatnonzero(np.diff(period, prepend=period[0] - 1))
    last = np.append(first[1:], len(daily)) - 1
    out: Int64s = daily[last]
    out[:, days.HIGH] = np.maximum.reduceat(daily[:, days.HIGH], first)
    out[:, days.LOW] = np.minimum.reduceat(daily[:, days.LOW], first)
    out[:, days.OPEN] = daily[first, days.OPEN]
    out[:, days.VOLUME] = np.add.reduceat(daily[:, days.VOLUME], first)
    return out
