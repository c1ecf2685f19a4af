"""The newest trades of a market as Level 1 lines carry them: what the Lookup port answers from.

Every trade row that a market makes is kept, in the order of the feed, whether or not anybody watches: a paced market
runs from the server's start, so trades exist before the first client connects, and go on while the upstream link is
down. A held or unpaced flow makes (and so keeps) none before somebody watches. A row holds what the line shows: the
same TickID, total volume, time, price, size, bid, ask, basis, market center, conditions, aggressor and day code.

A correction takes its trade out or puts one in at the trade's time, as vendors correct history. Total volumes of other
trades stay as they were told live, and an inserted trade has that of the trade before it and no quote: no source shows
what the vendor does with them.

Bounded: rows lie in a ring of BYTES_PER_TRADE bytes each. When it is full the oldest trade of all symbols goes,
counted in `dropped`: a busy symbol shortens the history of quiet ones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from infrastructure.simulator import columns as c
from infrastructure.simulator.corrections import CorrectedTrade
from infrastructure.simulator.market import Int64s

# Columns of the ring and of every answer taken from it. Prices 1e-4 dollars, times as in columns.py, 0 = no quote.
TIME: Final = 0
PRICE: Final = 1
SIZE: Final = 2
TOTAL: Final = 3  # total volume of the day, this trade included
BID: Final = 4
ASK: Final = 5
TICK_ID: Final = 6
MARKS: Final = 7  # packed, see below
DAY: Final = 8  # trading day, counted from 1970-01-01
COLUMNS: Final = 9

# Bits of MARKS: market center from bit 32, index of the conditions from 24, day code 16, aggressor 8, basis 0.
BASIS_MASK: Final = 7  # columns.HAS_LAST, HAS_EXTENDED or HAS_OTHER

_FROM: Final = (
    (TIME, c.RECENT_TIME),
    (PRICE, c.RECENT_PRICE),
    (SIZE, c.RECENT_SIZE),
    (TOTAL, c.TOTAL_VOLUME),
    (BID, c.BID_PRICE),
    (ASK, c.ASK_PRICE),
    (TICK_ID, c.TICK_ID),
)
BYTES_PER_TRADE: Final = COLUMNS * 8 + 4
_DELETED: Final = -1  # symbol of a place whose trade was taken out


class TradeHistory:
    """A ring of trades of at most `limit_bytes` (at least one row). Memory is taken as rows come."""

    def __init__(self, limit_bytes: int) -> None:
        self.capacity = max(1, limit_bytes // BYTES_PER_TRADE)
        self.taken = 0  # trades ever taken
        self.newest_us = 0
        self._inserted = False  # rows may lie out of the order of time
        self._rows: Int64s = np.empty((COLUMNS, self.capacity), dtype=np.int64)
        self._symbols: npt.NDArray[np.int32] = np.empty(self.capacity, dtype=np.int32)

    @property
    def kept(self) -> int:
        """Trades that can be asked for."""
        return min(self.taken, self.capacity)

    @property
    def dropped(self) -> int:
        """Trades that were kept once and made room for newer ones."""
        return self.taken - self.kept

    @property
    def nbytes(self) -> int:
        """Bytes of the ring when all of it is in use."""
        return self._rows.nbytes + self._symbols.nbytes

    def take(self, symbols: Int64s, rows: Int64s) -> None:
        """Keep trades [column, row] behind those that are here; `symbols` of the same rows."""
        self.newest_us = max(self.newest_us, int(rows[TIME].max(initial=0)))
        done = 0
        while done < symbols.size:
            begin = self.taken % self.capacity
            n = min(symbols.size - done, self.capacity - begin)
            self._rows[:, begin : begin + n] = rows[:, done : done + n]
            self._symbols[begin : begin + n] = symbols[done : done + n]
            self.taken += n
            done += n

    def places(self, symbol: int) -> Int64s:
        """Where the kept trades of a symbol lie, oldest first; holds until the next `take`."""
        start = self.taken % self.capacity if self.dropped else 0
        older = start + np.flatnonzero(self._symbols[start : self.kept] == symbol)
        newer = np.flatnonzero(self._symbols[:start] == symbol)
        found = np.concatenate([older, newer])
        return found[np.argsort(self._rows[TIME].take(found), kind="stable")] if self._inserted else found

    def delete(self, symbol: int, trade: CorrectedTrade) -> bool:
        """Take a trade out; False where it is not kept (any more)."""
        places = self.places(symbol)
        at = self.at(places)
        same = (at[TIME] == trade.time_us) & (at[TICK_ID] == trade.tick_id) & (at[MARKS] >> 32 == trade.center)
        self._symbols[places[same]] = _DELETED
        return bool(same.any())

    def insert(self, symbol: int, trade: CorrectedTrade) -> None:
        """Put a trade in, behind those of the same time."""
        before = self.at(self.places(symbol))
        day = trade.time_us // c.DAY_US
        earlier = before[TOTAL][(before[TIME] <= trade.time_us) & (before[DAY] == day)]
        of_month = datetime.fromtimestamp(trade.time_us // c.SECOND_US, tz=UTC).day
        row = np.zeros((COLUMNS, 1), dtype=np.int64)
        row[[TIME, PRICE, SIZE, TICK_ID, DAY], 0] = trade.time_us, trade.price, trade.size, trade.tick_id, day
        row[TOTAL] = earlier[-1] if earlier.size else 0
        row[MARKS] = (trade.center << 32) | (trade.conditions << 24) | (of_month << 16) | trade.basis
        self._inserted = True
        self.take(np.array([symbol], dtype=np.int64), row)

    def column(self, column: int, places: Int64s) -> Int64s:
        """One column of the trades at some places."""
        picked: Int64s = self._rows[column].take(places)
        return picked

    def at(self, places: Int64s) -> Int64s:
        """The trades at some places: a copy, [column, row]."""
        picked: Int64s = self._rows.take(places, axis=1)
        return picked

    def of(self, symbol: int) -> Int64s:
        """The kept trades of a symbol, oldest first: a copy, [column, row]."""
        return self.at(self.places(symbol))


def packed(trades: Int64s) -> Int64s:
    """Level 1 trade rows in the columns of the ring, [column, row]."""
    rows: Int64s = np.empty((COLUMNS, len(trades)), dtype=np.int64)
    for column, source in _FROM:
        rows[column] = trades[:, source]
    for quote in (BID, ASK):
        rows[quote][rows[quote] == c.NONE] = 0
    codes = trades[:, c.DAY_CODE]
    rows[MARKS] = (
        (trades[:, c.RECENT_CENTER] << 32)
        | (trades[:, c.RECENT_CONDITIONS] << 24)
        | (codes << 16)
        | (trades[:, c.AGGRESSOR] << 8)
        | (trades[:, c.CONTENTS] & BASIS_MASK)
    )
    rows[DAY] = _trading_days(rows[TIME], codes)
    return rows


def _trading_days(times: Int64s, codes: Int64s) -> Int64s:
    """The date of each trade, or the one before where the day code names that: a trade stamped just past midnight."""
    days: Int64s = times // c.DAY_US
    dates = days.astype("datetime64[D]")
    of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
    days[of_month != codes] -= 1
    return days
