"""Recorded LOBSTER days as a market: its clock is the recorded time, its books are the vendor's, row by row.

Before the flow starts the clock stands at the first second; after the last row it goes on, one whole second past it
at once and then in step with the wall clock (times the speed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import replay_orders as by_order_kernel
from infrastructure.simulator import vendor_rows as kernel
from infrastructure.simulator.eastern import midnight_us
from infrastructure.simulator.lobster_files import LobsterError, VendorDay
from infrastructure.simulator.market import BATCH_LINES, NOTHING, Books, Int64s, Names, Rows
from infrastructure.simulator.replay_order_book import no_order_book, order_book

_STEPS: Final = BATCH_LINES // 2


class ReplayMarket:
    """Implements market.Market over recorded pairs of different symbols, merged by time (ties: order of the pairs).

    `speed` = market seconds per wall second; None = as fast as it is asked for. `by_order` keeps the depth by order
    beside the levels: see replay_orders.
    """

    def __init__(self, days: Sequence[VendorDay], *, speed: float | None, by_order: bool = False) -> None:
        if not days:
            raise LobsterError("a replay needs at least one pair")
        if speed is not None and speed <= 0:
            raise ValueError(f"speed is {speed}, must be above 0")
        try:
            self.names = Names(tuple(day.symbol for day in days))
        except ValueError as error:
            raise LobsterError(f"one pair per symbol: {error}") from error
        n = len(days)
        self.speed = speed
        self._own_ns = [day.time_ns for day in days]
        self.books = Books.empty(n, max(day.depth for day in days))
        self._vendor: Int64s = _joined_books(days, self.books.price.shape[2])
        self._kinds, self._sizes, self._prices, self._directions = (
            np.concatenate([getattr(day, name) for day in days]) for name in ("kind", "size", "price", "direction")
        )
        self._base: Int64s = np.cumsum([0] + [day.rows for day in days[:-1]]).astype(np.int64)
        self._day_codes: Int64s = np.array([day.day.day for day in days], dtype=np.int64)
        self._time, self._symbol, self._row = _steps(days, self._base)
        self._next = 0
        self._made = 0
        first = np.array([midnight_us(day.day) + int(day.time_ns[0]) // 1000 for day in days], dtype=np.int64)
        self.book_times: Int64s = first.copy()
        self._stamps: Int64s = np.zeros((n, 3), dtype=np.int64)
        self.by_order = by_order
        depth = self.books.price.shape[2]
        self._orders = order_book(days, depth) if by_order else no_order_book()
        self._at: Int64s = np.zeros(4, dtype=np.int64)  # rows, stamp, order, source row of the table by order
        self._order: Int64s = np.zeros(1, dtype=np.int64)
        self.state: Int64s = np.full((n, c.LEVEL1_COLUMNS), c.NONE, dtype=np.int64)
        self._rows1: Int64s = np.zeros((2 * _STEPS, c.LEVEL1_COLUMNS), dtype=np.int64)
        spare = 4 * self.books.price.shape[2]
        self._rows2: Int64s = np.zeros((2 * _STEPS + spare, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._rows3: Int64s = np.zeros((2 * _STEPS, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._open(first)
        self._first_us = int(self._time[0])
        # The clock: market time `_zero_us` at monotonic `_zero_ns`, moving once the flow has started.
        self._zero_us, self._zero_ns = self._first_us, 0
        self._flowing = False
        self._clock_us = self._first_us // c.SECOND_US * c.SECOND_US  # the newest clock row
        self._clock_ns = -1

    def _open(self, first: Int64s) -> None:
        """Books and Level 1 state as row 1 of each pair shows them."""
        b = self.books
        for s, row in enumerate(self._base):
            kernel.take_book(self._vendor[row], s, b.price, b.size, b.count, b.levels)
            state = self.state[s]
            state[c.SYM], state[c.SRC], state[c.KIND], state[c.TIME] = s, 0, c.QUOTE, first[s]
            state[c.TOTAL_VOLUME] = state[c.TRADES_TODAY] = state[c.TURNOVER] = 0
            kernel.show_best(state, s, b.price, b.size, b.levels, int(first[s]))
            if self.by_order:
                self._open_orders(s, int(row))

    def _open_orders(self, s: int, row: int) -> None:
        """The orders of row 1 are where the book starts; telling them is the first summary's part."""
        vendor = self._vendor[row]
        need = by_order_kernel.rows_needed(self._orders, s, vendor)
        told: Int64s = np.zeros((need, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._at[:] = 0
        by_order_kernel.order_rows(
            self._orders, s, row, 1, self._kinds[row], self._sizes[row], self._prices[row], self._directions[row],
            vendor, told, self._at,
        )  # fmt: skip

    @property
    def unpaced(self) -> bool:
        return self.speed is None and self._flowing and not self.finished

    @property
    def finished(self) -> bool:
        return self._next >= self._time.size

    @property
    def lines(self) -> int:
        return self._made

    def start(self, now_ns: int) -> None:
        if not self._flowing:
            self._zero_us, self._zero_ns, self._flowing = self._first_us, now_ns, True

    @property
    def second_us(self) -> int:
        if self._next == 0 or self.finished:
            return self._clock_us
        return int(self._time[self._next - 1]) // c.SECOND_US * c.SECOND_US

    def _now_us(self, now_ns: int) -> int:
        return self._zero_us + int((now_ns - self._zero_ns) / 1000 * (self.speed or 1.0))

    def advance(self, now_ns: int, room: bool) -> Rows:
        if not self._flowing:
            return self._repeat_clock(now_ns)
        if self.finished:
            return self._idle_clock(now_ns)
        if self.speed is not None:
            due = int(np.searchsorted(self._time, self._now_us(now_ns), side="right"))
            return self.step(min(due, self._next + _STEPS), now_ns)
        return self.step(min(self._next + _STEPS, self._time.size), now_ns) if room else NOTHING

    def step(self, until: int, now_ns: int = 0) -> Rows:
        """Rows of the steps up to `until` (vendor rows and seconds), fewer where a table is full."""
        if until <= self._next:
            return NOTHING
        b, begin = self.books, self._next
        self._next, n1, n2 = kernel.replay(
            begin, until, self._time, self._symbol, self._row, self._kinds, self._sizes, self._prices,
            self._directions, self._vendor, self._base, self._day_codes, self.book_times, self.state, self._stamps,
            self._order, b.price, b.size, b.count, b.levels, self.by_order, self._orders, self._rows1, self._rows2,
            self._rows3, self._at,
        )  # fmt: skip
        if self._next == begin:  # one message moves more orders than the table holds
            self._rows3 = np.zeros((2 * len(self._rows3), c.LEVEL2_COLUMNS), dtype=np.int64)
            return self.step(until, now_ns)
        rows = Rows(self._rows1[:n1], self._rows2[:n2], self._rows3[: self._at[0]])
        self._made += int(np.count_nonzero(rows.level1[:, c.KIND])) + int(np.count_nonzero(rows.level2[:, c.KIND]))
        if self.finished:
            self._clock_us = int(self._time[-1])
            self._zero_us, self._zero_ns = self._clock_us, now_ns
        return rows

    def rest(self) -> Rows:
        """The next batch however much time it spans; empty at the end. For offline use."""
        return self.step(min(self._next + _STEPS, self._time.size))

    def to_next_second(self) -> Iterator[Rows]:
        """Batches up to and with the next whole second of the recording; none at the end. For offline use."""
        seconds = np.flatnonzero(self._symbol[self._next :] < 0)
        until = self._next + int(seconds[0]) + 1 if seconds.size else self._time.size
        while self._next < until:
            yield self.step(until)

    def own_ns(self, symbol: int, sources: Int64s) -> Int64s:
        """The files' own times of these 1-based rows, nanoseconds after midnight: neither cut nor raised."""
        return self._own_ns[symbol][sources - 1]

    def wait_seconds(self, now_ns: int) -> float:
        if not self._flowing:
            return 1.0 if self._clock_ns < 0 else max(0.0, 1.0 - (now_ns - self._clock_ns) / 1e9)
        if self.finished:
            return max(0.0, (self._clock_us + c.SECOND_US - self._now_us(now_ns)) / c.SECOND_US / (self.speed or 1.0))
        if self.speed is None:
            return 0.0
        ahead = (int(self._time[self._next]) - self._now_us(now_ns)) / c.SECOND_US / self.speed
        return max(0.0, ahead)

    def _repeat_clock(self, now_ns: int) -> Rows:
        """The feed's heartbeat while the recorded clock stands."""
        if self._clock_ns >= 0 and now_ns - self._clock_ns < 1_000_000_000:
            return NOTHING
        self._clock_ns = now_ns
        return self._clock_rows([self._clock_us])

    def _idle_clock(self, now_ns: int) -> Rows:
        seconds = range(self._clock_us + c.SECOND_US, self._now_us(now_ns) + 1, c.SECOND_US)
        if not seconds:
            return NOTHING
        self._clock_us = seconds[-1]
        return self._clock_rows(list(seconds))

    def _clock_rows(self, times: list[int]) -> Rows:
        n = min(len(times), self._rows1.shape[0])
        for table in (self._rows1, self._rows2):
            table[:n, c.KIND], table[:n, c.SYM], table[:n, c.SRC] = c.CLOCK, -1, 0
            table[:n, c.ORD] = np.arange(n) + self._order[0]
            table[:n, c.TIME] = times[-n:]
        self._order[0] += n
        return Rows(self._rows1[:n], self._rows2[:n], self._rows2[:n])

    def orders_of(self, symbol: int) -> Int64s | None:
        if not self.by_order:
            return None
        table: Int64s = np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64)
        n = by_order_kernel.list_orders(self._orders, symbol, table)
        table = np.zeros((n, c.LEVEL2_COLUMNS), dtype=np.int64)
        by_order_kernel.list_orders(self._orders, symbol, table)
        return table


def _joined_books(days: Sequence[VendorDay], depth: int) -> Int64s:
    """All book rows in one matrix; narrower files are padded with missing levels."""
    total = sum(day.rows for day in days)
    joined: Int64s = np.zeros((total, 4 * depth), dtype=np.int64)
    at = 0
    for day in days:
        joined[at : at + day.rows, : day.book.shape[1]] = day.book
        at += day.rows
    return joined


def _steps(days: Sequence[VendorDay], base: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Time, symbol (-1 = a whole second) and joined row of every step, in order.

    A second comes before the rows it starts. The first second is left out (the clock stands there at the start);
    the last is the one after the last row.
    """
    times = [midnight_us(day.day) * 1000 + day.time_ns for day in days]
    first = min(int(t[0]) for t in times) // 1_000_000_000 + 1
    last = max(int(t[-1]) for t in times) // 1_000_000_000 + 1
    seconds = np.arange(first, last + 1, dtype=np.int64) * 1_000_000_000
    time = np.concatenate([seconds, *times])
    symbol = np.concatenate([np.full(seconds.size, -1), *(np.full(day.rows, s) for s, day in enumerate(days))])
    row = np.concatenate([np.full(seconds.size, -1), *(np.arange(day.rows) + base[s] for s, day in enumerate(days))])
    order = np.argsort(time, kind="stable")
    return time[order] // 1000, symbol[order].astype(np.int64), row[order].astype(np.int64)
