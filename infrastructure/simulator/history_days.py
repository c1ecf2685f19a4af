"""One bar per symbol and trading day, kept as trades come: daily bars outlive the trades that made them.

Open, high, low and close come from trades that qualify as last (C) alone; the volume is the day's last total volume,
which counts every trade. A day without such a trade has no bar. Rows lie in a ring of their own: when it is full the
oldest day goes, counted in `dropped`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from infrastructure.simulator.history_trades import BASIS_MASK, DAY, MARKS, PRICE, TOTAL
from infrastructure.simulator.market import Int64s

# Columns of a day, which are those of a daily bar (history_bars) too.
DAY_STAMP: Final = 0  # day, counted from 1970-01-01
HIGH: Final = 1
LOW: Final = 2
OPEN: Final = 3
CLOSE: Final = 4
VOLUME: Final = 5
COLUMNS: Final = 6
BYTES_PER_DAY: Final = (COLUMNS + 1) * 8
_QUALIFIED: Final = 1  # columns.HAS_LAST


class DayHistory:
    """Daily bars of `symbols` symbols in at most about `limit_bytes`, never less than two days of each symbol."""

    def __init__(self, symbols: int, limit_bytes: int) -> None:
        self.capacity = max(2 * symbols, limit_bytes // BYTES_PER_DAY)
        self._rows: Int64s = np.empty((self.capacity, COLUMNS), dtype=np.int64)
        self._symbols: Int64s = np.empty(self.capacity, dtype=np.int64)
        self._newest: Int64s = np.full(symbols, -1, dtype=np.int64)  # number of a symbol's newest row, ever counted
        self._made: Int64s = np.zeros(1, dtype=np.int64)

    @property
    def dropped(self) -> int:
        """Days that made room for newer ones."""
        return max(0, int(self._made[0]) - self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of the ring when all of it is in use."""
        return self._rows.nbytes + self._symbols.nbytes + self._newest.nbytes

    def take(self, symbols: Int64s, trades: Int64s) -> None:
        """Count trades, [column, row] as in history_trades; `symbols` of the same rows."""
        add_to_days(symbols, trades, self._rows, self._symbols, self._newest, self._made)

    def of(self, symbol: int) -> Int64s:
        """The bars of a symbol, oldest first; a copy, [row, column]."""
        made = int(self._made[0])
        order = np.arange(max(0, made - self.capacity), made) % self.capacity
        rows: Int64s = self._rows[order[self._symbols[order] == symbol]]
        return rows[rows[:, OPEN] >= 0]


@njit(cache=True, error_model="numpy")
def add_to_days(symbols: Int64s, trades: Int64s, rows: Int64s, owners: Int64s, newest: Int64s, made: Int64s) -> None:
    """Bring day rows up to trades; a new (symbol, day) takes the oldest row. OPEN -1: no qualified trade so far."""
    for i in range(symbols.size):
        s, day, price = symbols[i], trades[DAY, i], trades[PRICE, i]
        number = newest[s]
        if number < 0 or number < made[0] - rows.shape[0] or rows[number % rows.shape[0], DAY_STAMP] != day:
            number = made[0]
            made[0] += 1
            newest[s] = number
            fresh = rows[number % rows.shape[0]]
            owners[number % rows.shape[0]] = s
            fresh[DAY_STAMP], fresh[OPEN] = day, -1
            fresh[HIGH] = fresh[LOW] = fresh[CLOSE] = fresh[VOLUME] = 0
        row = rows[number % rows.shape[0]]
        row[VOLUME] = trades[TOTAL, i]
        if trades[MARKS, i] & BASIS_MASK == _QUALIFIED:
            if row[OPEN] < 0:
                row[OPEN] = row[HIGH] = row[LOW] = price
            row[HIGH] = max(row[HIGH], price)
            row[LOW] = min(row[LOW], price)
            row[CLOSE] = price
